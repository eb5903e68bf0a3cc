"""Reads without a log entry: the leader says which index a read has to wait for (ReadIndex).

    asked ──► an entry of this term is committed? ──► READ_ONLY_SAFE: a quorum still follows? ──► index
                  no: it waits for that              READ_ONLY_LEASE_BASED: at once while there is a lease (lease.py)

With READ_ONLY_LEASE_BASED, a single read can ask for a quorum all the same: its message's context is SAFE.

Invariants
 1. No read is answered before an entry of the leader's term is committed: until then it may not know of all commits of
    earlier terms (etcd#7331). Reads that come earlier wait, at a leader alone too: after a restart its commit index may
    be older than what it had acknowledged, because a commit index by itself is not synced.
 2. The index is the commit index of the moment when the read was asked for; the confirmation comes after that.
 3. A lease holds only if no node's clock runs much faster than the leader's. After a pause of the whole process the
    leader's ticks come late. Where that can't be counted on, READ_ONLY_SAFE, the default, is right (jraft#26).

Follows etcd-io/raft: raft.go (MsgReadIndex, sendMsgReadIndexResponse); thesis section 6.4.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from raft.core import Core
from raft.heartbeat import broadcast_heartbeat
from raft.kinds import ReadOnlyOption
from raft.raftpb import MSG_READ_INDEX_RESP, Message
from raft.read_only import MAX_PENDING_READS
from raft.state import ReadState
from raft.util import NONE

__all__ = ["SAFE", "answer_confirmed", "handle_read_index", "release_pending"]

SAFE: Final = b"safe"  # the context of a MsgReadIndex that wants a quorum, whatever the configuration says


def handle_read_index(r: Core, m: Message) -> None:
    """A read, of this node's or passed on by a follower."""
    if len(m.entries) != 1:
        return
    if r.log.term_or_zero(r.log.committed) == r.term:
        _confirm(r, [m])
    elif len(r.pending_read_index_messages) < MAX_PENDING_READS:
        r.pending_read_index_messages.append(m)


def release_pending(r: Core) -> None:
    """The first entry of this term is committed: reads that waited for it go on."""
    waiting, r.pending_read_index_messages = r.pending_read_index_messages, []
    _confirm(r, waiting)


def _confirm(r: Core, requests: Sequence[Message]) -> None:
    """Asks a quorum whether this is still the leader, and notes what was committed when it was asked."""
    # Half an election timeout: the followers' promises last for a whole one less a tick, counted by clocks of their own.
    duration_ticks = r.config.election_tick // 2
    by_lease = r.config.read_only_option == ReadOnlyOption.LEASE_BASED
    if by_lease and r.read_only.has_lease(r.tracker.voters, duration_ticks):
        for request in requests:
            if request.context != SAFE:
                _answer(r, request, r.log.committed)
        requests = [request for request in requests if request.context == SAFE]
        if not requests:
            return
    for request in requests:
        r.read_only.add_request(r.id, r.log.committed, request)
    broadcast_heartbeat(r)
    answer_confirmed(r)  # a leader alone is a quorum by itself


def answer_confirmed(r: Core) -> None:
    """Answers the reads that a quorum has confirmed."""
    for index, request in r.read_only.advance(r.tracker.voters):
        _answer(r, request, index)


def _answer(r: Core, request: Message, index: int) -> None:
    if request.from_ in (NONE, r.id):
        r.read_states.append(ReadState(index, request.entries[0].data))
    else:
        r.send(Message(MSG_READ_INDEX_RESP, to=request.from_, index=index, entries=request.entries))
