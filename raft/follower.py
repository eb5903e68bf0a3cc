"""The follower: takes entries, heartbeats and snapshots from the leader, and passes requests on to it.

Its answer to MsgApp says how far its log is now known to be the leader's; the leader counts it for the commit. So the
answer waits for the disk (Core.send), and it never names more than the leader's message has shown to be alike.

    MsgApp (index 7, term 3), but this log ends    5/2 6/2       refused: hint 6/2, the last entry that may be alike
    MsgApp (index 7, term 3), but there is         6/2 7/5 8/5   refused: hint 6/2, because a leader whose entry 7 is of
                                                                 term 3 can have none of term 5 before it

Follows etcd-io/raft: raft.go (stepFollower, handleAppendEntries, handleHeartbeat); paper section 5.3.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from raft import election
from raft.core import Core
from raft.errors import ProposalDroppedError, RaftPanic
from raft.kinds import ReadOnlyOption
from raft.raftpb import (
    MSG_APP,
    MSG_APP_RESP,
    MSG_FORGET_LEADER,
    MSG_HEARTBEAT,
    MSG_HEARTBEAT_RESP,
    MSG_PROP,
    MSG_READ_INDEX,
    MSG_READ_INDEX_RESP,
    MSG_SNAP,
    MSG_TIMEOUT_NOW,
    MSG_TRANSFER_LEADER,
    Message,
)
from raft.snapshots import handle_snapshot
from raft.state import ReadState
from raft.util import NONE

__all__ = ["step_follower"]


def step_follower(r: Core, m: Message) -> None:
    """A follower's messages; those that only a leader or a candidate expects mean nothing here."""
    handler = _HANDLERS.get(m.type)
    if handler is not None:
        handler(r, m)


# What the leader sends.


def hear_from_leader(r: Core, m: Message) -> None:
    """What every message of the leader does: it leads (`lead`), and the election timer counts from 0 again.

    Requires: m is of this term, and from its leader (`Raft.settle_term`). The length of the timeout stays. O(1).
    """
    r.lead = m.from_
    r.election_elapsed = 0


def _handle_heartbeat(r: Core, m: Message) -> None:
    """The commit index in it is no more than this follower has acknowledged, so its log is long enough."""
    r.heard_elapsed = 0
    hear_from_leader(r, m)
    r.log.commit_to(m.commit)
    r.send(Message(MSG_HEARTBEAT_RESP, to=m.from_, context=m.context))


def _handle_append_entries(r: Core, m: Message) -> None:
    """Entries of the leader, or none. What is committed here has to be the same in them, or one of the two has lost a
    part of its log (`LogLostError`)."""
    r.heard_elapsed = 0
    hear_from_leader(r, m)
    entries = m.entries
    if entries and (entries[0].index != m.index + 1 or entries[-1].index != m.index + len(entries)):
        raise RaftPanic(f"entries [{entries[0].index}, {entries[-1].index}] don't follow entry {m.index}")
    log = r.log
    if m.index < log.committed:
        log.require_same(m.index, m.log_term, entries, m.from_)
    if not take_entries(r, m):
        if m.index == log.committed:
            log.require_same(m.index, m.log_term, entries, m.from_)
        if r.logger is not None:
            r.logger.debug(
                "%x [logterm: %d, index: %d] rejected MsgApp [logterm: %d, index: %d] from %x",
                *(r.id, log.term_or_zero(m.index), m.index, m.log_term, m.index, m.from_),
            )


def take_entries(r: Core, m: Message) -> bool:
    """Takes what a MsgApp of the leader holds, or refuses it; answers with one MsgAppResp. False if it was refused.

    Comes in: m.entries, which follow the entry (m.index, m.log_term), and m.commit, the leader's commit index.
    Requires: the leader is this term's (`Raft.settle_term`), the entries are in order (`_handle_append_entries`).

    m.index is before the commit index: a message that is late, or came twice. Everything up to the commit index is the
    leader's already: nothing is appended, nothing truncated (openraft#511), and the answer's `index` is the commit index.
    Else `RaftLog.maybe_append` decides. Taken: the answer's `index` is the last entry that is now known to be the
    leader's. Refused: the answer has reject, `index` as it was asked about, and where to look next: `reject_hint` is the
    last entry, at or before m.index, whose term isn't after m.log_term (`RaftLog.find_conflict_by_term`, from the end of
    this log if that is before m.index), and `log_term` is its term.

    The answer is a promise; r.send holds it back until the entries are on disk. O(entries).
    """
    log = r.log
    if m.index < log.committed:
        r.send(Message(MSG_APP_RESP, m.from_, index=log.committed))
        return True
    last_new = log.maybe_append(m.index, m.log_term, m.entries, m.commit)
    if last_new is not None:
        r.send(Message(MSG_APP_RESP, m.from_, index=last_new))
        return True
    hint, hint_term = log.find_conflict_by_term(min(m.index, log.last_index()), m.log_term)
    r.send(Message(MSG_APP_RESP, to=m.from_, index=m.index, reject=True, reject_hint=hint, log_term=hint_term))
    return False


def _handle_snapshot(r: Core, m: Message) -> None:
    r.heard_elapsed = 0
    hear_from_leader(r, m)
    handle_snapshot(r, m)


def _handle_timeout_now(r: Core, m: Message) -> None:
    """The leader hands over: campaign at once, also where pre_vote is on."""
    if r.logger is not None:
        r.logger.info(
            "%x [term %d] received MsgTimeoutNow from %x and starts an election to get leadership.",
            r.id,
            r.term,
            m.from_,
        )
    election.hup(r, election.campaign_for_transfer)


# What is passed on to the leader.


def _handle_proposal(r: Core, m: Message) -> None:
    if r.lead == NONE:
        if r.logger is not None:
            r.logger.info("%x no leader at term %d; dropping proposal", r.id, r.term)
        raise ProposalDroppedError(f"node {r.id} has no leader at term {r.term}")
    if r.config.disable_proposal_forwarding:
        if r.logger is not None:
            r.logger.info("%x not forwarding to leader %x at term %d; dropping proposal", r.id, r.lead, r.term)
        raise ProposalDroppedError(f"node {r.id} doesn't forward proposals; the leader is {r.lead}")
    r.send(Message(MSG_PROP, to=r.lead, from_=m.from_, entries=m.entries, context=m.context))


def _handle_read_index(r: Core, m: Message) -> None:
    """Passes a read on. Without a leader it is dropped, as the network might have done; the driver asks again."""
    if r.lead != NONE:
        r.send(Message(MSG_READ_INDEX, to=r.lead, from_=m.from_, entries=m.entries, context=m.context))
    elif r.logger is not None:
        r.logger.info("%x no leader at term %d; dropping index reading msg", r.id, r.term)


def _handle_read_index_response(r: Core, m: Message) -> None:
    if len(m.entries) == 1:
        r.read_states.append(ReadState(m.index, m.entries[0].data))
    elif r.logger is not None:
        r.logger.error(
            "%x invalid format of MsgReadIndexResp from %x, entries count: %d", r.id, m.from_, len(m.entries)
        )


def _handle_transfer(r: Core, m: Message) -> None:
    """Passes a request for a transfer on; from_ is the node that is to lead."""
    if r.lead != NONE:
        r.send(Message(MSG_TRANSFER_LEADER, to=r.lead, from_=m.from_))
    elif r.logger is not None:
        r.logger.info("%x no leader at term %d; dropping leader transfer msg", r.id, r.term)


def _handle_forget_leader(r: Core, m: Message) -> None:
    """The leader is as good as gone: this node may vote for another, without a campaign of its own."""
    if r.config.read_only_option == ReadOnlyOption.LEASE_BASED:
        # A lease read counts on this node's not voting while it has heard from the leader.
        if r.logger is not None:
            r.logger.error("ignoring MsgForgetLeader due to ReadOnlyLeaseBased")
    elif r.lead != NONE:
        if r.logger is not None:
            r.logger.info("%x forgetting leader %x at term %d", r.id, r.lead, r.term)
        r.lead = NONE


_HANDLERS: Final[Mapping[int, Callable[[Core, Message], None]]] = {
    MSG_APP: _handle_append_entries,
    MSG_FORGET_LEADER: _handle_forget_leader,
    MSG_HEARTBEAT: _handle_heartbeat,
    MSG_PROP: _handle_proposal,
    MSG_READ_INDEX: _handle_read_index,
    MSG_READ_INDEX_RESP: _handle_read_index_response,
    MSG_SNAP: _handle_snapshot,
    MSG_TIMEOUT_NOW: _handle_timeout_now,
    MSG_TRANSFER_LEADER: _handle_transfer,
}
