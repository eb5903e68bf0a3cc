"""The leader: appends what is proposed, sends it to the others, commits what a quorum has, and answers reads.

    MsgProp ──► append_entries ──► own log ──(on disk)──► MsgAppResp to itself ─┐
                     │                                                          ▼
                     └► broadcast_append ──► MsgApp ──► followers ──► MsgAppResp: match grows ──► _maybe_commit
                                                                                                      │
                                    next MsgApp or heartbeat tells the followers ◄────────────────────┘

Invariants
 1. A leader never overwrites or deletes entries of its own log; it only appends (Leader Append-Only).
 2. It commits by counting only entries of its own term (paper section 5.4.2 and figure 8).
 3. It answers no read before an entry of its term is committed: until then it may not know of all commits of earlier
    terms (etcd#7331). Reads that come earlier wait, at a leader alone too: after a restart its commit index may be
    older than what it had acknowledged, because a commit index by itself is not synced.
 4. One membership change is under way at most: the next is refused until the entry of the last is applied.

Follows etcd-io/raft: raft.go (stepLeader, maybeSendAppend, bcastAppend, sendHeartbeat, appendEntry).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from raft.confchange import check_supported
from raft.errors import (
    CompactedError,
    ConfChangeError,
    DecodeError,
    ProposalDroppedError,
    RaftPanic,
    SnapshotTemporarilyUnavailableError,
)
from raft.raftpb import (
    ENTRY_CONF_CHANGE,
    ENTRY_NORMAL,
    MSG_APP,
    MSG_APP_RESP,
    MSG_BEAT,
    MSG_HEARTBEAT,
    MSG_HEARTBEAT_RESP,
    MSG_PROP,
    MSG_READ_INDEX,
    MSG_READ_INDEX_RESP,
    MSG_SNAP,
    MSG_SNAP_STATUS,
    MSG_UNREACHABLE,
    ConfChange,
    Entry,
    Message,
)
from raft.read_only import MAX_PENDING_READS
from raft.state import ReadState
from raft.tracker import STATE_PROBE, STATE_REPLICATE, STATE_SNAPSHOT, Progress
from raft.util import NONE, payloads_size

if TYPE_CHECKING:
    from raft.raft import Raft

__all__ = ["broadcast_append", "config_changed", "open_term", "step_leader"]


def step_leader(r: Raft, m: Message) -> None:
    """A leader's messages: requests, and the followers' answers and the driver's reports about them."""
    handler = _HANDLERS.get(m.type)
    if handler is not None:
        handler(r, m)
        return
    about_follower = _FOLLOWER_HANDLERS.get(m.type)
    if about_follower is not None:
        progress = r.tracker.progress.get(m.from_)
        # None: a node that was removed, or isn't added yet.
        if progress is not None:
            about_follower(r, m, progress)


# Proposals.


def open_term(r: Raft) -> None:
    """The empty entry at the start of a term, which is never refused for its size."""
    _append_entries(r, [Entry(0, 0)])


def _handle_proposal(r: Raft, m: Message) -> None:
    """Appends the entries of one message, all or none. One message with many costs little more than one with one."""
    if r.id not in r.tracker.progress:
        # Removed from the configuration, it leads until it is replaced, but takes on nothing new.
        raise ProposalDroppedError(f"node {r.id} is no longer a member of the cluster")
    entries = m.entries
    if not entries:
        return
    if any(entry.type != ENTRY_NORMAL for entry in entries):
        entries = _check_conf_changes(r, entries)
    if not _append_entries(r, entries):
        raise ProposalDroppedError(
            f"{r.uncommitted_size} bytes of proposals wait for their commit already; "
            f"the limit is {r.config.max_uncommitted_entries_size}"
        )
    broadcast_append(r)


def _check_conf_changes(r: Raft, entries: Sequence[Entry]) -> list[Entry]:
    """Replaces membership changes that must not be made now by empty entries (invariant 4).

    An empty entry and not an error, because the proposal may have come from a follower, together with others. The
    driver sees the change commit without having an effect.
    """
    checked = []
    for position, entry in enumerate(entries, 1):
        if entry.type != ENTRY_NORMAL:
            reason = _refusal(r, entry)
            if reason:
                if r.logger is not None:
                    r.logger.info("%x ignoring conf change %r: %s", r.id, entry.data, reason)
                entry = Entry(0, 0)
            else:
                r.pending_conf_index = r.log.last_index() + position
        checked.append(entry)
    return checked


def _refusal(r: Raft, entry: Entry) -> str:
    """Why a membership change can't be made now; empty if it can."""
    if entry.type != ENTRY_CONF_CHANGE:
        return "joint changes are not supported yet"
    try:
        check_supported(ConfChange.decode(entry.data))
    except (ConfChangeError, DecodeError) as error:
        return str(error)
    if r.pending_conf_index > r.log.applied:
        return f"possible unapplied conf change at index {r.pending_conf_index} (applied to {r.log.applied})"
    return ""


def _append_entries(r: Raft, proposals: Sequence[Entry]) -> bool:
    """Gives the proposals their term and index, and appends them. False if too much is uncommitted. O(entries)."""
    if not r.increase_uncommitted_size(payloads_size(proposals)):
        return False
    term = r.term
    first = r.log.last_index() + 1
    entries = [Entry(term, index, entry.type, entry.data) for index, entry in enumerate(proposals, first)]
    last = r.log.append(entries)
    # The leader's own acknowledgement. It waits for the disk like any follower's, so a leader alone commits nothing
    # that a crash could take back (etcd#14370).
    r.send(Message(MSG_APP_RESP, to=r.id, index=last))
    return True


# Replication.


def broadcast_append(r: Raft) -> None:
    """Sends every follower what it lacks, or at least the commit index, as far as its flow allows."""
    for node_id, progress in r.tracker.progress.items():
        if node_id != r.id:
            _maybe_send_append(r, node_id, progress, send_if_empty=True)


def _maybe_send_append(r: Raft, to: int, progress: Progress, send_if_empty: bool) -> bool:
    """Sends one MsgApp, or the snapshot if what the follower needs is cut away. True if something was sent.

    With a full window an empty message is sent if send_if_empty says so: it carries the commit index, and its answer
    shows which messages of the window were lost.
    """
    if progress.is_paused():
        return False
    previous = progress.next - 1
    if not send_if_empty and previous >= r.log.last_index():
        return False
    entries: list[Entry] = []
    try:
        previous_term = r.log.term(previous)
        if progress.state != STATE_REPLICATE or not progress.inflights.full():
            entries = r.log.entries(progress.next, r.config.max_size_per_msg)
    except CompactedError:
        return _maybe_send_snapshot(r, to, progress)
    if not entries and not send_if_empty:
        return False
    commit = r.log.committed
    r.send(Message(MSG_APP, to=to, index=previous, log_term=previous_term, entries=entries, commit=commit))
    progress.sent_entries(len(entries), payloads_size(entries))
    progress.sent_commit = commit
    return True


def _maybe_send_snapshot(r: Raft, to: int, progress: Progress) -> bool:
    """Sends the newest snapshot to a follower that was heard from; one that is down doesn't get one again and again.

    A follower ignores a snapshot of a configuration without it. If it was added since, it would be sent the same one
    for ever (etcd#13741), so it waits for a newer one, like a follower whose snapshot is still being made.
    """
    if not progress.recent_active:
        return False
    try:
        snapshot = r.log.snapshot()
    except SnapshotTemporarilyUnavailableError:
        return False
    assert not snapshot.is_empty(), "entries are cut away, but there is no snapshot of them"
    conf_state = snapshot.metadata.conf_state
    if not any(to in ids for ids in (conf_state.voters, conf_state.learners, conf_state.voters_outgoing)):
        return False
    if r.logger is not None:
        r.logger.debug("%x sends snapshot at %d to %x [%s]", r.id, snapshot.metadata.index, to, progress)
    progress.become_snapshot(snapshot.metadata.index)
    r.send(Message(MSG_SNAP, to=to, snapshot=snapshot))
    return True


def _handle_append_response(r: Raft, m: Message, progress: Progress) -> None:
    progress.recent_active = True
    if m.reject:
        _handle_append_refusal(r, m, progress)
        return
    if m.index > r.log.last_index():
        raise RaftPanic(
            f"node {m.from_} acknowledges entry {m.index}, but the log of its leader ends at {r.log.last_index()}: "
            "one of the two has lost a part of its log, or was given another"
        )
    # A probe's answer is of use even if it says nothing new: it shows where the follower is.
    if not progress.maybe_update(m.index) and not (progress.match == m.index and progress.state == STATE_PROBE):
        return
    if progress.state == STATE_PROBE:
        progress.become_replicate()
    elif progress.state == STATE_REPLICATE:
        progress.inflights.free_le(m.index)
    elif progress.match + 1 >= r.log.first_index():
        # It has caught up with what is left of the log, by the snapshot or without it (etcd#10308).
        progress.become_probe()
        progress.become_replicate()
    if _maybe_commit(r):
        broadcast_append(r)
    elif m.from_ != r.id and progress.can_bump_commit(r.log.committed):
        _maybe_send_append(r, m.from_, progress, send_if_empty=True)
    if m.from_ != r.id:
        while _maybe_send_append(r, m.from_, progress, send_if_empty=False):
            pass


def _handle_append_refusal(r: Raft, m: Message, progress: Progress) -> None:
    """Steps back to the last entry that both logs may share, at least a whole term for each message.

    The follower's hint (reject_hint, log_term) says: at or before `index`, this is my last entry whose term isn't
    behind yours. Nothing of this log with a higher term than the hint's can be at or before the hint in the follower's.
    """
    next_probe = m.reject_hint
    if m.log_term > 0:
        next_probe, _ = r.log.find_conflict_by_term(m.reject_hint, m.log_term)
    if progress.maybe_decrease(m.index, next_probe):
        if progress.state == STATE_REPLICATE:
            progress.become_probe()
        _maybe_send_append(r, m.from_, progress, send_if_empty=True)


def _maybe_commit(r: Raft) -> bool:
    """Commits what a quorum has, if that is of this term; then reads that waited for it can go on."""
    if not r.log.maybe_commit(r.tracker.committed(), r.term):
        return False
    if r.pending_read_index_messages:
        waiting, r.pending_read_index_messages = r.pending_read_index_messages, []
        _confirm_reads(r, waiting)
    return True


def config_changed(r: Raft) -> None:
    """After a membership change: a smaller quorum may commit more, and a new node wants to be probed."""
    if _maybe_commit(r):
        broadcast_append(r)
        return
    for node_id, progress in r.tracker.progress.items():
        if node_id != r.id:
            _maybe_send_append(r, node_id, progress, send_if_empty=False)


# Heartbeats.


def _handle_beat(r: Raft, m: Message) -> None:
    _broadcast_heartbeat(r)


def _broadcast_heartbeat(r: Raft) -> None:
    """To every follower, with the position of the last read that waits.

    The commit index in it is no more than the follower is known to have, so it can be taken without looking at the log.
    """
    context = r.read_only.heartbeat_context()
    for node_id, progress in r.tracker.progress.items():
        if node_id != r.id:
            commit = min(progress.match, r.log.committed)
            r.send(Message(MSG_HEARTBEAT, to=node_id, commit=commit, context=context))
            progress.sent_commit = commit


def _handle_heartbeat_response(r: Raft, m: Message, progress: Progress) -> None:
    """The follower is alive: what was lost on the way to it is sent again, and reads may be confirmed."""
    progress.recent_active = True
    progress.msg_app_flow_paused = False
    if progress.match < r.log.last_index() or progress.state == STATE_PROBE:
        _maybe_send_append(r, m.from_, progress, send_if_empty=True)
    if m.context:
        r.read_only.receive_ack(m.from_, m.context)
        _answer_confirmed_reads(r)


# Reads.


def _handle_read_index(r: Raft, m: Message) -> None:
    if len(m.entries) != 1:
        return
    if r.log.term_or_zero(r.log.committed) == r.term:
        _confirm_reads(r, [m])
    elif len(r.pending_read_index_messages) < MAX_PENDING_READS:
        r.pending_read_index_messages.append(m)


def _confirm_reads(r: Raft, requests: Sequence[Message]) -> None:
    """Asks a quorum whether this is still the leader, and notes what was committed when it was asked."""
    for request in requests:
        r.read_only.add_request(r.id, r.log.committed, request)
    _broadcast_heartbeat(r)
    _answer_confirmed_reads(r)  # a leader alone is a quorum by itself


def _answer_confirmed_reads(r: Raft) -> None:
    for index, request in r.read_only.advance(r.tracker.voters):
        _answer_read(r, request, index)


def _answer_read(r: Raft, request: Message, index: int) -> None:
    if request.from_ in (NONE, r.id):
        r.read_states.append(ReadState(index, request.entries[0].data))
    else:
        r.send(Message(MSG_READ_INDEX_RESP, to=request.from_, index=index, entries=request.entries))


# What the driver reports.


def _handle_unreachable(r: Raft, m: Message, progress: Progress) -> None:
    """Messages to it were dropped: entries sent ahead are probably lost, so it is asked again where it is."""
    if progress.state == STATE_REPLICATE:
        progress.become_probe()


def _handle_snapshot_status(r: Raft, m: Message, progress: Progress) -> None:
    """The snapshot was sent, or it wasn't (reject). Then the follower's answer, or its next heartbeat, is awaited."""
    if progress.state != STATE_SNAPSHOT:
        return
    if m.reject:
        progress.pending_snapshot = 0
    progress.become_probe()
    progress.msg_app_flow_paused = True


_HANDLERS: Final[dict[int, Callable[[Raft, Message], None]]] = {
    MSG_BEAT: _handle_beat,
    MSG_PROP: _handle_proposal,
    MSG_READ_INDEX: _handle_read_index,
}

_FOLLOWER_HANDLERS: Final[dict[int, Callable[[Raft, Message, Progress], None]]] = {
    MSG_APP_RESP: _handle_append_response,
    MSG_HEARTBEAT_RESP: _handle_heartbeat_response,
    MSG_SNAP_STATUS: _handle_snapshot_status,
    MSG_UNREACHABLE: _handle_unreachable,
}
