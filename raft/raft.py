"""The state machine of Raft: one node's term, vote, role and log, and the rules by which messages and ticks change them.

    tick ───────►┌──────────────────────────────────┐────► messages
    step(m) ────►│ Raft   term, vote, lead, log,    │────► messages_after_append
                 │        role: how it steps        │────► read_states
                 └──────────────────────────────────┘

    step(m)      the rules that hold in every role: terms, votes (election.py), the driver's reports
     └ by role   follower.py, candidate's part of election.py, leader.py: one function for each type of message

                 times out             wins a majority
    ┌──────────┐        ┌───────────┐           ┌────────┐
    │ follower │───────►│ candidate │──────────►│ leader │
    └──────────┘        └───────────┘           └────────┘
       ▲  ▲    sees the leader │ sees a higher term  │
       │  └────────────────────┘                     │
       └─────────────────────────────────────────────┘

Invariants
 1. `term` never decreases; `vote` changes once in a term at most.
 2. Nothing here happens by itself: time is `tick`, chance is `rng`, and messages leave through a Ready.
 3. What promises that something is on this node's disk (a vote, an acknowledgement, also those to itself) is put into
    messages_after_append. It is sent, or stepped if it is to this node, only after the driver has written the Ready in
    which it lies. A leader counts itself for a commit, and a candidate itself for its election, no earlier than that
    (etcd#14370: the leader of a cluster of one committed what a crash could still take back).
 4. A message with term 0 is local: a request, a tick or a report. All others carry their sender's term.

Seams, where etcd-io/raft has them: pre-vote and leader transfer are further campaign types of `election.hup`;
check-quorum is a case of `_tick_leader` and of `_note_higher_term`; asynchronous storage writes use the two storage
messages that `RawNode.advance` steps here already; joint changes end in `switch_to_config`.

Follows etcd-io/raft: raft.go. The paper is Ongaro and Ousterhout, "In Search of an Understandable Consensus Algorithm
(Extended Version)", 2014; the thesis Ongaro, "Consensus: Bridging Theory and Practice", 2014.
"""

from __future__ import annotations

from collections.abc import Callable

from raft import confchange, election, follower, leader
from raft.config import Config
from raft.errors import RaftPanic
from raft.log import RaftLog
from raft.quorum import JointConfig
from raft.raftpb import (
    MSG_APP,
    MSG_APP_RESP,
    MSG_BEAT,
    MSG_HEARTBEAT,
    MSG_HUP,
    MSG_PRE_VOTE,
    MSG_PRE_VOTE_RESP,
    MSG_PROP,
    MSG_READ_INDEX,
    MSG_SNAP,
    MSG_STORAGE_APPEND_RESP,
    MSG_STORAGE_APPLY_RESP,
    MSG_VOTE,
    MSG_VOTE_RESP,
    ConfChange,
    ConfChangeV2,
    ConfState,
    HardState,
    Message,
)
from raft.read_only import ReadOnly
from raft.state import (
    STATE_CANDIDATE,
    STATE_FOLLOWER,
    STATE_LEADER,
    ReadState,
    SoftState,
    StateType,
)
from raft.tracker import Progress, ProgressTracker
from raft.util import NO_LIMIT, NONE, entries_size, payloads_size

__all__ = ["Raft"]

_VOTES = frozenset((MSG_VOTE, MSG_VOTE_RESP, MSG_PRE_VOTE, MSG_PRE_VOTE_RESP))
_PROMISES = frozenset((MSG_APP_RESP, MSG_VOTE_RESP, MSG_PRE_VOTE_RESP))
_FROM_LEADER = frozenset((MSG_APP, MSG_HEARTBEAT, MSG_SNAP))


class Raft:
    """One node. `RawNode` is the way in for a driver; tests and the role modules use this class itself."""

    __slots__ = (
        "config",
        "election_elapsed",
        "heartbeat_elapsed",
        "id",
        "lead",
        "log",
        "logger",
        "messages",
        "messages_after_append",
        "pending_conf_index",
        "pending_read_index_messages",
        "randomized_election_timeout",
        "read_only",
        "read_states",
        "state",
        "step_role",
        "term",
        "tick",
        "tracker",
        "uncommitted_size",
        "vote",
    )

    def __init__(self, config: Config) -> None:
        """Starts, or starts again, from what config.storage holds. Raises `ValueError` for a bad configuration.

        The commit index is the largest that anything saved vouches for. The hard state may be behind the others,
        because a Ready that only raises the commit index isn't synced: a snapshot holds committed entries only, and
        the application has applied committed entries only.
        """
        config.validate()
        self.config = config
        self.id = config.id
        self.logger = config.logger
        hard_state, conf_state = config.storage.initial_state()
        # At least 1: with 0 the room for entries being applied would be used up before there are any.
        max_applying_size_bytes = max(1, config.max_committed_size_per_ready or config.max_size_per_msg)
        self.log = RaftLog(config.storage, max_applying_size_bytes)
        self.tracker = ProgressTracker(config.max_inflight_msgs, config.max_inflight_bytes)
        voters, progress = confchange.restore(self.tracker, conf_state, self.log.last_index())
        self.tracker.voters, self.tracker.progress = voters, progress

        self.term = hard_state.term
        self.vote = hard_state.vote
        self.lead = NONE
        self.state: StateType = STATE_FOLLOWER
        self.step_role: Callable[[Raft, Message], None] = follower.step_follower
        self.tick: Callable[[], None] = self._tick_election
        self.messages: list[Message] = []
        self.messages_after_append: list[Message] = []
        self.read_states: list[ReadState] = []
        self.read_only = ReadOnly()
        self.pending_read_index_messages: list[Message] = []
        self.pending_conf_index = 0
        self.uncommitted_size = 0
        self.election_elapsed = 0
        self.heartbeat_elapsed = 0
        self.randomized_election_timeout = 0

        self.log.commit_to(hard_state.commit)
        if config.applied > self.log.applied:
            self.log.commit_to(config.applied)
            self.log.applied_to(config.applied, 0)
        self.become_follower(self.term, NONE)
        if self.logger is not None:
            self.logger.info(
                "newRaft %x [peers: %s, term: %d, commit: %d, applied: %d, lastindex: %d, lastterm: %d]",
                *(self.id, voters, self.term, self.log.committed, self.log.applied),
                *(self.log.last_index(), self.log.last_term()),
            )

    def soft_state(self) -> SoftState:
        return SoftState(self.lead, self.state)

    def hard_state(self) -> HardState:
        return HardState(self.term, self.vote, self.log.committed)

    def promotable(self) -> bool:
        """Whether this node may campaign: it is a voter, and its log is not about to be replaced by a snapshot."""
        return self.id in self.tracker.progress and self.log.unstable.snapshot is None

    # Roles.

    def become_follower(self, term: int, lead: int) -> None:
        self.step_role = follower.step_follower
        self.reset(term)
        self.tick = self._tick_election
        self.lead = lead
        self.state = STATE_FOLLOWER
        if self.logger is not None:
            self.logger.info("%x became follower at term %d", self.id, self.term)

    def become_candidate(self) -> None:
        """A new term, and this node's vote in it (paper section 5.2)."""
        if self.state == STATE_LEADER:
            raise RaftPanic("a leader can't become a candidate")
        self.step_role = election.step_candidate
        self.reset(self.term + 1)
        self.tick = self._tick_election
        self.vote = self.id
        self.state = STATE_CANDIDATE
        if self.logger is not None:
            self.logger.info("%x became candidate at term %d", self.id, self.term)

    def become_leader(self) -> None:
        """Opens the term with an empty entry, whose commit commits everything before it (paper section 5.4.2, 8)."""
        if self.state == STATE_FOLLOWER:
            raise RaftPanic("a follower can't become the leader without an election")
        self.step_role = leader.step_leader
        self.reset(self.term)
        self.tick = self._tick_leader
        self.lead = self.id
        self.state = STATE_LEADER
        own = self.tracker.progress[self.id]
        own.become_replicate()
        own.recent_active = True
        # Somewhere in the log there may be a membership change that isn't applied. Rather than look for it, allow none
        # until everything that is there now is applied.
        self.pending_conf_index = self.log.last_index()
        leader.open_term(self)
        if self.logger is not None:
            self.logger.info("%x became leader at term %d", self.id, self.term)

    def reset(self, term: int) -> None:
        """What every change of role does: forget the leader, the votes, the timers, and all that only a leader knows."""
        if self.term != term:
            self.term = term
            self.vote = NONE
        self.lead = NONE
        self.election_elapsed = 0
        self.heartbeat_elapsed = 0
        ticks = self.config.election_tick
        self.randomized_election_timeout = self.config.rng.randrange(ticks, 2 * ticks)
        self.tracker.reset_votes()
        last = self.log.last_index()
        progress = self.tracker.progress
        for node_id in progress:
            progress[node_id] = self.tracker.new_progress(last if node_id == self.id else 0, last + 1)
        self.pending_conf_index = 0
        self.uncommitted_size = 0
        self.read_only = ReadOnly()
        self.pending_read_index_messages = []

    # Time.

    def _tick_election(self) -> None:
        """A tick of a follower or candidate: without a leader for long enough, it campaigns."""
        self.election_elapsed += 1
        if self.election_elapsed >= self.randomized_election_timeout and self.promotable():
            self.election_elapsed = 0
            self.step(Message(MSG_HUP, from_=self.id))

    def _tick_leader(self) -> None:
        self.heartbeat_elapsed += 1
        if self.heartbeat_elapsed >= self.config.heartbeat_tick:
            self.heartbeat_elapsed = 0
            self.step(Message(MSG_BEAT, from_=self.id))

    # Messages.

    def send(self, message: Message) -> None:
        """Hands a message out with the next Ready; those that promise something only once that is on disk.

        Fills in the sender and, except for votes (which name the term that they are about) and requests that are passed
        on (which are local to whoever made them), the term.
        """
        if message.from_ == NONE:
            message.from_ = self.id
        kind = message.type
        if kind in _VOTES:
            assert message.term != 0, "a vote names its term"
        else:
            assert message.term == 0, "the term is filled in here"
            if kind not in (MSG_PROP, MSG_READ_INDEX):
                message.term = self.term
        if kind in _PROMISES:
            self.messages_after_append.append(message)
        else:
            assert message.to != self.id, "a message to this node itself must wait for the disk"
            self.messages.append(message)

    def step(self, message: Message) -> None:
        """One message, local or from a peer. Raises `ProposalDroppedError` (a proposal) and `RaftPanic`."""
        term, kind = message.term, message.type
        if term > self.term:
            self._note_higher_term(message)
        elif 0 < term < self.term:
            self._refuse_lower_term(message)
            return
        if kind == MSG_HUP:
            election.hup(self, election.CAMPAIGN_ELECTION)
        elif kind == MSG_VOTE:
            election.answer_vote_request(self, message)
        elif kind == MSG_STORAGE_APPEND_RESP:
            self._stored(message)
        elif kind == MSG_STORAGE_APPLY_RESP:
            self._applied(message)
        else:
            self.step_role(self, message)

    def _note_higher_term(self, message: Message) -> None:
        """Whoever sees a higher term follows it (paper section 5.1). Only a leader's message says who leads in it."""
        if self.logger is not None:
            self.logger.info(
                "%x [term: %d] received message type %d with higher term from %x [term: %d]",
                *(self.id, self.term, message.type, message.from_, message.term),
            )
        self.become_follower(message.term, message.from_ if message.type in _FROM_LEADER else NONE)

    def _refuse_lower_term(self, message: Message) -> None:
        """Drops a message of an old term (paper section 5.1). Its sender finds out from the next election or heartbeat.

        What an old term's write has stored may have been replaced since, so its entries don't count as stable; the
        Ready of the new term's hard state reports them again. Its snapshot is installed all the same.
        """
        if message.type == MSG_STORAGE_APPEND_RESP and message.snapshot is not None:
            self._installed(message.snapshot.metadata.index)

    # What the driver reports.

    def _stored(self, message: Message) -> None:
        """A Ready is on disk: entries up to (index, log_term), and the snapshot, if it had one."""
        if message.index != 0:
            self.log.unstable.stable_to(message.index, message.log_term)
        if message.snapshot is not None:
            self._installed(message.snapshot.metadata.index)

    def _installed(self, index: int) -> None:
        self.log.unstable.stable_snapshot_to(index)
        self.log.applied_to(index, 0)

    def _applied(self, message: Message) -> None:
        """The entries of a Ready are applied."""
        if message.entries:
            self.log.applied_to(message.entries[-1].index, entries_size(message.entries))
            self.uncommitted_size = max(0, self.uncommitted_size - payloads_size(message.entries))

    def increase_uncommitted_size(self, payload_bytes: int) -> bool:
        """Makes room for proposals, or refuses them. A first one always fits, and an empty one is never refused.

        Never refusing empty ones matters: a leader must be able to open its term.
        """
        limit = self.config.max_uncommitted_entries_size or NO_LIMIT
        if self.uncommitted_size > 0 and payload_bytes > 0 and self.uncommitted_size + payload_bytes > limit:
            return False
        self.uncommitted_size += payload_bytes
        return True

    # The configuration.

    def apply_conf_change(self, change: ConfChange | ConfChangeV2) -> ConfState:
        """Applies a membership change whose entry is committed. Raises `ConfChangeError`."""
        changer = confchange.Changer(
            self.tracker.voters, self.tracker.progress, self.log.last_index(), self.tracker.new_progress
        )
        voters, progress = changer.simple(change.as_v2().changes)
        return self.switch_to_config(voters, progress)

    def switch_to_config(self, voters: JointConfig, progress: dict[int, Progress]) -> ConfState:
        """Puts a configuration in force. A leader may then have a quorum for more, and new nodes to send to."""
        self.tracker.voters, self.tracker.progress = voters, progress
        if self.logger is not None:
            self.logger.info("%x switched to configuration voters=%s", self.id, voters)
        # A leader that is removed goes on leading, without counting itself, until another is elected: it may be the
        # only one to know that its removal is committed.
        if self.state == STATE_LEADER and self.id in progress:
            leader.config_changed(self)
        return self.tracker.conf_state()
