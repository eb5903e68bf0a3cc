"""The follower: takes entries, heartbeats and snapshots from the leader, and passes requests on to it.

Its answer to MsgApp says how far its log is now known to be the leader's; the leader counts it for the commit. So the
answer waits for the disk (Raft.send), and it never names more than the leader's message has shown to be alike.

    MsgApp (index 7, term 3), but this log ends    5/2 6/2       refused: hint 6/2, the last entry that may be alike
    MsgApp (index 7, term 3), but there is         6/2 7/5 8/5   refused: hint 6/2, because a leader whose entry 7 is of
                                                                 term 3 can have none of term 5 before it

Follows etcd-io/raft: raft.go (stepFollower, handleAppendEntries, handleHeartbeat, handleSnapshot, restore); paper
section 5.3.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from raft import confchange
from raft.errors import ProposalDroppedError, RaftPanic
from raft.raftpb import (
    MSG_APP,
    MSG_APP_RESP,
    MSG_HEARTBEAT,
    MSG_HEARTBEAT_RESP,
    MSG_PROP,
    MSG_READ_INDEX,
    MSG_READ_INDEX_RESP,
    MSG_SNAP,
    Message,
    Snapshot,
)
from raft.state import STATE_FOLLOWER, ReadState
from raft.util import NONE

if TYPE_CHECKING:
    from raft.raft import Raft

__all__ = ["step_follower"]


def step_follower(r: Raft, m: Message) -> None:
    """A follower's messages; those that only a leader or a candidate expects mean nothing here."""
    handler = _HANDLERS.get(m.type)
    if handler is not None:
        handler(r, m)


def _handle_proposal(r: Raft, m: Message) -> None:
    if r.lead == NONE:
        raise ProposalDroppedError(f"node {r.id} has no leader at term {r.term}")
    if r.config.disable_proposal_forwarding:
        raise ProposalDroppedError(f"node {r.id} doesn't forward proposals; the leader is {r.lead}")
    r.send(Message(MSG_PROP, to=r.lead, from_=m.from_, entries=m.entries, context=m.context))


def _handle_read_index(r: Raft, m: Message) -> None:
    """Passes a read on. Without a leader it is dropped, as the network might have done; the driver asks again."""
    if r.lead != NONE:
        r.send(Message(MSG_READ_INDEX, to=r.lead, from_=m.from_, entries=m.entries))


def _handle_read_index_response(r: Raft, m: Message) -> None:
    if len(m.entries) == 1:
        r.read_states.append(ReadState(m.index, m.entries[0].data))


def _hear_from_leader(r: Raft, m: Message) -> None:
    r.election_elapsed = 0
    r.lead = m.from_


def _handle_heartbeat(r: Raft, m: Message) -> None:
    """The commit index in it is no more than this follower has acknowledged, so its log is long enough."""
    _hear_from_leader(r, m)
    r.log.commit_to(m.commit)
    r.send(Message(MSG_HEARTBEAT_RESP, to=m.from_, context=m.context))


def _handle_append_entries(r: Raft, m: Message) -> None:
    _hear_from_leader(r, m)
    if m.index <= r.log.committed:
        r.log.require_same(m.index, m.log_term, m.entries, m.from_)
    if m.index < r.log.committed:
        # Late, or sent twice: everything up to the commit index is the leader's already.
        r.send(Message(MSG_APP_RESP, to=m.from_, index=r.log.committed))
        return
    last_new = r.log.maybe_append(m.index, m.log_term, m.entries, m.commit)
    if last_new is not None:
        r.send(Message(MSG_APP_RESP, to=m.from_, index=last_new))
        return
    hint, hint_term = r.log.find_conflict_by_term(min(m.index, r.log.last_index()), m.log_term)
    r.send(Message(MSG_APP_RESP, to=m.from_, index=m.index, reject=True, reject_hint=hint, log_term=hint_term))


def _handle_snapshot(r: Raft, m: Message) -> None:
    _hear_from_leader(r, m)
    if m.snapshot is not None and _restore(r, m.snapshot):
        r.send(Message(MSG_APP_RESP, to=m.from_, index=r.log.last_index()))
    else:
        r.send(Message(MSG_APP_RESP, to=m.from_, index=r.log.committed))


def _restore(r: Raft, snapshot: Snapshot) -> bool:
    """Takes a snapshot in place of the log. False if it isn't needed, or not meant for this node.

    The configuration changes at once; the state is the driver's to install, before it applies anything else. A log that
    has the snapshot's last entry already is kept, and only learns that everything up to there is committed: dropping
    it would drop entries behind it that this node has acknowledged. A log with another entry there is dropped whole.
    """
    metadata = snapshot.metadata
    if metadata.index <= r.log.committed:
        r.log.require_same(metadata.index, metadata.term, (), r.lead)
        return False
    if r.state != STATE_FOLLOWER:
        raise RaftPanic("a snapshot reached a node that isn't a follower")
    conf_state = metadata.conf_state
    if not any(r.id in ids for ids in (conf_state.voters, conf_state.learners, conf_state.voters_outgoing)):
        if r.logger is not None:
            r.logger.warning("%x was sent a snapshot of a configuration without it: %s", r.id, conf_state)
        return False
    if r.log.match_term(metadata.index, metadata.term):
        r.log.commit_to(metadata.index)
        return False
    # Restored before anything is changed, so that one that can't be taken leaves the node as it was.
    voters, progress = confchange.restore(r.tracker.empty_copy(), conf_state, metadata.index)
    r.log.restore(snapshot)
    r.switch_to_config(voters, progress)
    if r.logger is not None:
        r.logger.info("%x restored snapshot [index: %d, term: %d]", r.id, metadata.index, metadata.term)
    return True


_HANDLERS: Final[dict[int, Callable[[Raft, Message], None]]] = {
    MSG_APP: _handle_append_entries,
    MSG_HEARTBEAT: _handle_heartbeat,
    MSG_PROP: _handle_proposal,
    MSG_READ_INDEX: _handle_read_index,
    MSG_READ_INDEX_RESP: _handle_read_index_response,
    MSG_SNAP: _handle_snapshot,
}
