"""The leader: appends what is proposed, has it replicated (replication.py), and minds its followers and its own term.

    MsgProp ──► append_entries ──► own log ──(on disk)──► MsgAppResp to itself ─┐
                     │                                                          ▼
                     └► broadcast_append ──► MsgApp ──► followers ──► MsgAppResp ──► maybe_commit

Invariants
 1. A leader never overwrites or deletes entries of its own log; it only appends (Leader Append-Only).
 2. It commits by counting only entries of its own term (paper section 5.4.2 and figure 8).
 3. One membership change is under way at most: the next is refused until the entry of the last is applied.

Follows etcd-io/raft: raft.go (becomeLeader, stepLeader, appendEntry, tickHeartbeat).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from raft import membership, reads
from raft.core import Core
from raft.errors import ProposalDroppedError
from raft.heartbeat import broadcast_heartbeat
from raft.raftpb import (
    ENTRY_CONF_CHANGE_V2,
    ENTRY_NORMAL,
    MSG_APP_RESP,
    MSG_BEAT,
    MSG_CHECK_QUORUM,
    MSG_HEARTBEAT_RESP,
    MSG_PROP,
    MSG_READ_INDEX,
    MSG_SNAP_STATUS,
    MSG_TRANSFER_LEADER,
    MSG_UNREACHABLE,
    Entry,
    Message,
)
from raft.replication import broadcast_append, handle_append_response, maybe_send_append
from raft.state import STATE_LEADER
from raft.tracker import STATE_PROBE, STATE_REPLICATE, STATE_SNAPSHOT, Progress
from raft.transfer import continue_transfer, handle_transfer
from raft.util import NONE, payloads_size

__all__ = ["append_to_log", "leave_joint", "propose", "step_leader", "take_over", "tick"]


def take_over(r: Core) -> None:
    """An election is won: this node leads (`become_leader`), and all others are to know it.

    The term is opened with one empty entry (no data, type ENTRY_NORMAL), appended by `append_to_log` and sent to all
    (`broadcast_append`): it says who leads, and its commit commits everything before it, which this leader may not count
    for itself (paper sections 5.4.2 and 8). Requires: a candidate that has won. O(nodes).
    """
    r.become_leader()
    append_to_log(r, [Entry(r.term, r.log.last_index() + 1)])
    r.info("%x became leader at term %d", r.id, r.term)
    broadcast_append(r)


def tick(r: Core) -> None:
    """A leader's unit of time: heartbeats, and once in an election timeout a look at the quorum and the transfer."""
    r.heartbeat_elapsed += 1
    r.election_elapsed += 1
    r.read_only.ticks += 1
    if r.election_elapsed >= r.config.election_tick:
        r.election_elapsed = 0
        if r.config.check_quorum:
            _check_quorum(r)
        r.lead_transferee = NONE  # it has had its election timeout
    if r.state == STATE_LEADER and r.heartbeat_elapsed >= r.config.heartbeat_tick:
        r.heartbeat_elapsed = 0
        broadcast_heartbeat(r)


def step_leader(r: Core, m: Message) -> None:
    """A leader's messages: requests, and the followers' answers and the driver's reports about them."""
    about_follower = _FOLLOWER_HANDLERS.get(m.type)
    if about_follower is None:
        handler = _HANDLERS.get(m.type)
        if handler is not None:
            handler(r, m)
        return
    progress = r.tracker.progress.get(m.from_)
    if progress is not None:
        about_follower(r, m, progress)
    elif r.logger is not None:  # a node that was removed, or isn't added yet
        r.logger.debug("%x no progress available for %x", r.id, m.from_)


def _handle_beat(r: Core, m: Message) -> None:
    broadcast_heartbeat(r)


def _handle_check_quorum(r: Core, m: Message) -> None:
    _check_quorum(r)


def _check_quorum(r: Core) -> None:
    """Steps down unless a quorum was heard from since the last look; then the next period begins (lease.py)."""
    if not r.tracker.quorum_active():
        if r.logger is not None:
            r.logger.warning("%x stepped down to follower since quorum is not active", r.id)
        r.become_follower(r.term, NONE)
    for node_id, progress in r.tracker.progress.items():
        if node_id != r.id:
            progress.recent_active = False


# Proposals.


def _handle_proposal(r: Core, m: Message) -> None:
    """Appends the entries of one message, all or none. One message with many costs little more than one with one."""
    entries: Sequence[Entry] = m.entries
    if not entries:
        return
    _require_open(r)
    for entry in entries:
        if entry.type:  # not ENTRY_NORMAL, which is 0
            first = r.log.last_index() + 1
            entries = [
                membership.checked(r, entry, index) if entry.type else entry
                for index, entry in enumerate(entries, first)
            ]
            break
    _append_entries(r, entries)
    broadcast_append(r)


def propose(r: Core, datas: Sequence[bytes], payload_bytes: int) -> int:
    """The leader's own driver proposes; as a MsgProp with these data, whose entries would be made twice. Returns the
    index of the first one. payload_bytes: of all data together.

    Measured in batches of 64: 0.31 us -> 0.16 us for each entry.
    """
    _require_open(r)
    _reserve(r, payload_bytes)
    term = r.term
    first = r.log.last_index() + 1
    append_to_log(r, [Entry(term, index, ENTRY_NORMAL, data) for index, data in enumerate(datas, first)])
    broadcast_append(r)
    return first


def _require_open(r: Core) -> None:
    """Raises `ProposalDroppedError` if this leader takes no proposals."""
    if r.id not in r.tracker.progress:
        # Removed from the configuration, it leads until it is replaced, but takes on nothing new.
        raise ProposalDroppedError(f"node {r.id} is no longer a member of the cluster")
    if r.lead_transferee != NONE:
        if r.logger is not None:
            r.logger.debug(
                "%x [term %d] transfer leadership to %x is in progress; dropping proposal",
                r.id,
                r.term,
                r.lead_transferee,
            )
        raise ProposalDroppedError(f"node {r.id} hands the leadership over to node {r.lead_transferee}")


def leave_joint(r: Core) -> None:
    """Proposes to leave a joint configuration that is to be left automatically.

    Tried again with each entry that is applied: a transfer may be in the way, or the leader may have changed before the
    proposal was committed (etcd#12136). The change is empty, so it is never refused for its size.
    """
    try:
        _handle_proposal(r, Message(MSG_PROP, entries=[Entry(0, 0, ENTRY_CONF_CHANGE_V2)]))
    except ProposalDroppedError as error:
        if r.logger is not None:
            r.logger.debug(
                "not initiating automatic transition out of joint configuration %s: %s", r.tracker.config, error
            )
    else:
        if r.logger is not None:
            r.logger.info("initiating automatic transition out of joint configuration %s", r.tracker.config)


def _append_entries(r: Core, proposals: Sequence[Entry]) -> None:
    """Gives the proposals their term and index, and appends them. O(entries). Raises `ProposalDroppedError`."""
    _reserve(r, payloads_size(proposals))
    term = r.term
    first = r.log.last_index() + 1
    append_to_log(r, [Entry(term, index, entry.type, entry.data) for index, entry in enumerate(proposals, first)])


def _reserve(r: Core, payload_bytes: int) -> None:
    """Counts what will wait for its commit. Raises `ProposalDroppedError` if that is too much."""
    if not r.increase_uncommitted_size(payload_bytes):
        if r.logger is not None:
            r.logger.warning(
                "%x appending new entries to log would exceed uncommitted entry size limit; dropping proposal", r.id
            )
        raise ProposalDroppedError(
            f"{r.uncommitted_size} bytes of proposals wait for their commit already; "
            f"the limit is {r.config.max_uncommitted_entries_size}"
        )


def append_to_log(r: Core, entries: list[Entry]) -> None:
    """Appends entries, which have this leader's term and the next indexes, to its own log (`RaftLog.append`).

    And acknowledges them, to itself: a MsgAppResp with the last index, by r.send, which holds it back until the entries
    are on disk. It is counted when it comes back, like any follower's. So a leader alone commits nothing that a crash
    could take back (etcd#14370). O(entries).
    """
    last = r.log.append(entries)
    r.send(Message(MSG_APP_RESP, r.id, index=last))


# What comes from a follower, or is about one.


def _handle_append_response(r: Core, m: Message, progress: Progress) -> None:
    news = handle_append_response(r, m, progress)
    if news and m.from_ == r.lead_transferee:
        continue_transfer(r, progress)


def _handle_heartbeat_response(r: Core, m: Message, progress: Progress) -> None:
    """The follower is alive: what was lost on the way to it is sent again, and reads may be confirmed."""
    progress.recent_active = True
    progress.msg_app_flow_paused = False
    # Also to a probed follower that lacks nothing: its answer is what lets it be replicated to again.
    if progress.match < r.log.last_index() or progress.state == STATE_PROBE:
        maybe_send_append(r, m.from_, progress, send_if_empty=True)
    if m.context:
        r.read_only.receive_ack(m.from_, m.context)
        reads.answer_confirmed(r)


def _handle_unreachable(r: Core, m: Message, progress: Progress) -> None:
    """Messages to it were dropped: entries sent ahead are probably lost, so it is asked again where it is."""
    if progress.state == STATE_REPLICATE:
        progress.become_probe()
    if r.logger is not None:
        r.logger.debug("%x failed to send message to %x because it is unreachable [%s]", r.id, m.from_, progress)


def _handle_snapshot_status(r: Core, m: Message, progress: Progress) -> None:
    """The snapshot was sent, or it wasn't (reject). Then the follower's answer, or its next heartbeat, is awaited."""
    if progress.state != STATE_SNAPSHOT:
        return
    if m.reject:
        # Before become_probe, which else would probe after a snapshot that never arrived.
        progress.pending_snapshot = 0
    progress.become_probe()
    if r.logger is not None:
        r.logger.debug(
            "%x snapshot %s, resumed sending replication messages to %x [%s]",
            *(r.id, "failed" if m.reject else "succeeded", m.from_, progress),
        )
    progress.msg_app_flow_paused = True


_HANDLERS: Final[Mapping[int, Callable[[Core, Message], None]]] = {
    MSG_BEAT: _handle_beat,
    MSG_CHECK_QUORUM: _handle_check_quorum,
    MSG_PROP: _handle_proposal,
    MSG_READ_INDEX: reads.handle_read_index,
}

_FOLLOWER_HANDLERS: Final[Mapping[int, Callable[[Core, Message, Progress], None]]] = {
    MSG_APP_RESP: _handle_append_response,
    MSG_HEARTBEAT_RESP: _handle_heartbeat_response,
    MSG_SNAP_STATUS: _handle_snapshot_status,
    MSG_TRANSFER_LEADER: handle_transfer,
    MSG_UNREACHABLE: _handle_unreachable,
}
