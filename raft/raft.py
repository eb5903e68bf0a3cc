"""The way of a message through a node: the rules that hold in every role, then the function of the role.

    tick ───────►┌──────────────────────────────────┐────► messages
    step(m) ────►│ Raft   term, vote, lead, log,    │────► messages_after_append
                 │        role: how it steps        │────► read_states
                 └──────────────────────────────────┘

    step(m)      terms, votes (election.py), the driver's reports
     └ by role   follower.py, election.py (candidate), pre_vote.py, leader.py: one function for each type of message

                 times out             wins a majority
    ┌──────────┐        ┌───────────┐           ┌────────┐
    │ follower │───────►│ candidate │──────────►│ leader │
    └──────────┘        └───────────┘           └────────┘
       ▲  ▲    sees the leader │ sees a higher term  │
       │  └────────────────────┘                     │
       └─────────────────────────────────────────────┘

    with pre_vote, a pre-candidate asks first; it becomes a candidate if a majority would vote for it

A message with term 0 is local: a request, a tick or a report. All others carry their sender's term.

Follows etcd-io/raft: raft.go (Step, tickElection, tickHeartbeat). The paper is Ongaro and Ousterhout, "In Search of an
Understandable Consensus Algorithm (Extended Version)", 2014; the thesis Ongaro, "Consensus: Bridging Theory and
Practice", 2014.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from raft import election, follower, leader, lease, membership, pre_vote
from raft.core import Core
from raft.raftpb import (
    MSG_APP,
    MSG_HEARTBEAT,
    MSG_HUP,
    MSG_PRE_VOTE,
    MSG_PRE_VOTE_RESP,
    MSG_SNAP,
    MSG_STORAGE_APPEND_RESP,
    MSG_STORAGE_APPLY_RESP,
    MSG_VOTE,
    ConfChangeV2,
    ConfState,
    Entry,
    Message,
)
from raft.state import STATE_CANDIDATE, STATE_FOLLOWER, STATE_LEADER, STATE_PRE_CANDIDATE, StateType
from raft.util import NONE, payloads_size

__all__ = ["Raft"]

FROM_LEADER: Final = frozenset((MSG_APP, MSG_HEARTBEAT, MSG_SNAP))
_VOTE_REQUESTS: Final = frozenset((MSG_VOTE, MSG_PRE_VOTE))
CAMPAIGNING: Final = frozenset((STATE_CANDIDATE, STATE_PRE_CANDIDATE))

_ROLES: Final[Mapping[StateType, Callable[[Core, Message], None]]] = {
    STATE_FOLLOWER: follower.step_follower,
    STATE_CANDIDATE: election.step_candidate,
    STATE_PRE_CANDIDATE: pre_vote.step_pre_candidate,
    STATE_LEADER: leader.step_leader,
}


class Raft(Core):
    """One node. `RawNode` is the way in for a driver; tests and the harness use this class itself."""

    __slots__ = ()

    # Time.

    def tick(self) -> None:
        """One unit of time: a leader counts to its next heartbeat, all others to their next campaign."""
        if self.state == STATE_LEADER:
            leader.tick(self)
        else:
            self.heard_elapsed += 1
            self.tick_election()

    def tick_election(self) -> None:
        """One unit of time of a node that doesn't lead.

        Once `election_elapsed` has reached `randomized_election_timeout`, a node that may campaign (`promotable`) starts
        the count anew and takes a step: MsgHup from itself, which is how a campaign begins (`hup`). A node that may not
        campaign goes on counting. O(1) without a campaign.
        """
        self.election_elapsed += 1
        if self.election_elapsed >= self.randomized_election_timeout and self.promotable():
            self.election_elapsed = 0
            self.step(Message(MSG_HUP, from_=self.id))

    # Messages.

    def step(self, message: Message) -> None:
        """One message, local or from a peer. Raises `ProposalDroppedError` (a proposal) and `RaftPanic`."""
        term = message.term
        # In the usual case, a peer's message of this term to a node that doesn't campaign, there is nothing to settle.
        if term != 0 and (term != self.term or self.state in CAMPAIGNING) and not self._settle(message):
            return
        handler = _HANDLERS.get(message.type)
        if handler is not None:
            handler(self, message)
        else:
            _ROLES[self.state](self, message)

    def _settle(self, message: Message) -> bool:
        """The terms of a peer's message and of this node, with what the options say about higher ones.

        Pre-votes are about a term that hasn't begun: a question raises nobody's term (salt#69087), and a grant carries
        the term that was asked about. A refusal carries the term of its sender, which is real.
        """
        if message.term > self.term:
            kind = message.type
            if kind in _VOTE_REQUESTS and lease.holds_against(self, message):
                return False
            if kind == MSG_PRE_VOTE or (kind == MSG_PRE_VOTE_RESP and not message.reject):
                return True
            self.info(
                "%x [term: %d] received a %s message with higher term from %x [term: %d]",
                *(self.id, self.term, kind, message.from_, message.term),
            )
        return self.settle_term(message)

    def settle_term(self, message: Message) -> bool:
        """The rules of terms that hold in every role (paper section 5.1, and 5.2 about candidates). True if the message
        is to be handled, by the role that this node has then; False if it is done with.

        Requires: a peer's message, so its term isn't 0 (`step` sees to that).
        A lower term: the message is handed to `refuse_lower_term`, and changes nothing here.
        A higher term: this node follows in it. Who leads in it is known only if the leader has sent this (FROM_LEADER);
        then it is the sender, else NONE.
        The same term: a node that campaigns (CAMPAIGNING) and hears from a leader has lost, and follows it. Nobody else
        changes. O(1) if nothing changes, else O(nodes).
        """
        from_leader = message.type in FROM_LEADER
        if message.term < self.term:
            self.refuse_lower_term(message)
            return False
        if message.term > self.term:
            self.become_follower(message.term, message.from_ if from_leader else NONE)
        elif from_leader and self.state in CAMPAIGNING:
            self.become_follower(message.term, message.from_)
        return True

    def refuse_lower_term(self, message: Message) -> None:
        """Drops a message of an old term (paper section 5.1). Its sender finds out from the next election or heartbeat.

        With pre_vote or check_quorum there may be no such election, so the sender is told (lease.py, pre_vote.py).

        What an old term's write has stored may have been replaced since, so its entries don't count as stable; the
        Ready of the new term's hard state reports them again. Its snapshot is installed all the same.
        """
        kind = message.type
        if kind in (MSG_HEARTBEAT, MSG_APP) and (self.config.check_quorum or self.config.pre_vote):
            lease.answer_old_leader(self, message)
        elif kind == MSG_PRE_VOTE:
            pre_vote.refuse_old_term(self, message)
        elif kind == MSG_STORAGE_APPEND_RESP:
            if message.index != 0 and self.logger is not None:
                self.logger.info(
                    "%x [term: %d] ignored entry appends from a %s message with lower term [term: %d]",
                    *(self.id, self.term, kind, message.term),
                )
            if message.snapshot is not None:
                self._installed(message.snapshot.metadata.index)
        elif self.logger is not None:
            self.logger.info(
                "%x [term: %d] ignored a %s message with lower term from %x [term: %d]",
                *(self.id, self.term, kind, message.from_, message.term),
            )

    def hup(self, message: Message) -> None:
        """The election timeout has passed, or the driver wants a campaign, which must not break a lease."""
        if self.is_bound_by_lease():
            if self.logger is not None:
                self.logger.warning("%x can not campaign: a leader with lease reads counts on it", self.id)
            return
        election.hup(self, pre_vote.campaign if self.config.pre_vote else election.campaign)

    # What the driver reports.

    def stored(self, message: Message) -> None:
        """A Ready is on disk: entries up to (index, log_term), and the snapshot, if it had one."""
        if message.index != 0:
            self.log.stable_to(message.index, message.log_term)
        if message.snapshot is not None:
            self._installed(message.snapshot.metadata.index)

    def _installed(self, index: int) -> None:
        self.log.unstable.stable_snapshot_to(index)
        self._applied_to(index, 0)

    def applied(self, message: Message) -> None:
        """The entries of a MsgStorageApply are applied."""
        if message.entries:
            self.entries_applied(message.entries, payloads_size(message.entries))

    def entries_applied(self, entries: list[Entry], payload_bytes: int) -> None:
        """These entries are applied; payload_bytes is the size of their data. O(1)."""
        self._applied_to(entries[-1].index, payload_bytes + 17 * len(entries))
        self.uncommitted_size = max(0, self.uncommitted_size - payload_bytes)

    def _applied_to(self, index: int, size_bytes: int) -> None:
        log = self.log
        log.applied_to(max(index, log.applied), size_bytes)
        if self.tracker.config.auto_leave and log.applied >= self.pending_conf_index and self.state == STATE_LEADER:
            leader.leave_joint(self)

    # The configuration.

    def apply_conf_change(self, change: ConfChangeV2) -> ConfState:
        """Applies a membership change whose entry is committed. Raises `ConfChangeError`."""
        return membership.apply_conf_change(self, change)


_HANDLERS: Final[Mapping[int, Callable[[Raft, Message], None]]] = {
    MSG_HUP: Raft.hup,
    MSG_VOTE: election.handle_vote_request,
    MSG_PRE_VOTE: pre_vote.answer_pre_vote_request,
    MSG_STORAGE_APPEND_RESP: Raft.stored,
    MSG_STORAGE_APPLY_RESP: Raft.applied,
}
