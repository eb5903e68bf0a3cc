"""Replication: what the leader sends to a follower, what it learns from the answer, and what is committed by it.

    broadcast_append ──► MsgApp ──► follower ──► MsgAppResp: match grows ──► maybe_commit
                                                                                  │
            next MsgApp or heartbeat tells the followers ◄────────────────────────┘

Follows etcd-io/raft: raft.go (maybeSendAppend, bcastAppend, the answers in stepLeader, maybeCommit); paper sections 5.3
and 5.4.2.
"""

from __future__ import annotations

from typing import Final

from raft import reads
from raft.core import Core
from raft.errors import CompactedError, RaftPanic
from raft.raftpb import MSG_APP, Entry, Message
from raft.snapshots import maybe_send_snapshot
from raft.tracker import STATE_PROBE, STATE_REPLICATE, Progress

__all__ = ["back_up", "broadcast_append", "handle_append_response", "maybe_commit", "maybe_send_append", "send_append"]


_NOTHING: Final[tuple[list[Entry], int]] = ([], 0)


def broadcast_append(r: Core) -> None:
    """Sends every follower what it lacks, or at least the commit index, as far as its flow allows."""
    for node_id, progress in r.tracker.progress.items():
        if node_id != r.id:
            maybe_send_append(r, node_id, progress, send_if_empty=True)


def maybe_send_append(r: Core, to: int, progress: Progress, send_if_empty: bool) -> bool:
    """Sends one MsgApp, or the snapshot if what the follower needs is cut away. True if something was sent.

    With a full window an empty message is sent if send_if_empty says so: it carries the commit index, and its answer
    shows which messages of the window were lost (etcd#14633).
    """
    if progress.is_paused() or (not send_if_empty and progress.next > r.log.last_index()):
        return False
    full = progress.state == STATE_REPLICATE and progress.inflights.full()
    try:
        if full and not send_if_empty:
            r.log.term(progress.next - 1)  # if that is cut away, it can have the snapshot now
            return False
        first = progress.next
        send_append(r, to, progress, without_entries=full)
    except CompactedError:
        return maybe_send_snapshot(r, to, progress)
    # Who sends all that a follower lacks calls this until it is False (handle_append_response).
    assert send_if_empty or progress.next > first or progress.is_paused(), (
        "what was sent isn't noted, and is sent for ever"
    )
    return True


def send_append(r: Core, to: int, progress: Progress, without_entries: bool) -> None:
    """Sends one MsgApp to the node `to`, whose progress this is (paper section 5.3).

    It has the entries from `progress.next` on, as many as go into one message (`RaftLog.entries_and_size`, which cuts at
    r.config.max_size_per_msg bytes and gives their payload bytes, too); or none, if there are none, or without_entries
    says so. `index` and `log_term` are the entry before those, for the follower to compare; `commit` is this leader's
    commit index. After r.send, progress is told of it: `Progress.sent_entries` with the number of entries and their
    payload bytes, and `sent_commit` is the commit index that was sent.

    Raises `CompactedError`, from the log, if the entry before or one of those to be sent is cut away; then nothing was
    sent, and nothing noted (the caller sends a snapshot). Requires: the flow isn't paused. O(entries sent).
    """
    log = r.log
    previous = progress.next - 1
    previous_term = log.term(previous)
    entries, payload_bytes = (
        _NOTHING if without_entries else log.entries_and_size(progress.next, r.config.max_size_per_msg)
    )
    commit = log.committed
    r.send(Message(MSG_APP, to, 0, 0, previous_term, previous, entries, commit))
    progress.sent_entries(len(entries), payload_bytes)
    progress.sent_commit = commit


def handle_append_response(r: Core, m: Message, progress: Progress) -> bool:
    """A follower has taken entries, or refused them; also the leader's own word that its disk has them.

    True if it says that the follower has more than was known.
    """
    progress.recent_active = True
    if m.reject:
        if r.logger is not None:
            r.logger.debug(
                "%x received MsgAppResp(rejected, hint: (index %d, term %d)) from %x for index %d",
                *(r.id, m.reject_hint, m.log_term, m.from_, m.index),
            )
        back_up(r, m, progress)
        return False
    if m.index > r.log.last_index():
        raise RaftPanic(
            f"node {m.from_} acknowledges entry {m.index}, but the log of its leader ends at {r.log.last_index()}: "
            "one of the two has lost a part of its log, or was given another"
        )
    # A probe's answer is of use even if it says nothing new: it shows where the follower is.
    if not progress.maybe_update(m.index) and not (progress.match == m.index and progress.state == STATE_PROBE):
        return False
    if progress.state == STATE_PROBE:
        progress.become_replicate()
    elif progress.state == STATE_REPLICATE:
        progress.inflights.free_le(m.index)
    elif progress.match + 1 >= r.log.first_index():
        # It has caught up with what is left of the log, by the snapshot or without it (etcd#10308).
        if r.logger is not None:
            r.logger.debug(
                "%x recovered from needing snapshot, resumed sending replication messages to %x [%s]",
                *(r.id, m.from_, progress),
            )
        progress.become_probe()
        progress.become_replicate()
    # What is at or before the commit index can't raise it.
    if progress.match > r.log.committed and maybe_commit(r):
        broadcast_append(r)
    elif m.from_ != r.id and progress.can_bump_commit(r.log.committed):
        maybe_send_append(r, m.from_, progress, send_if_empty=True)
    if m.from_ != r.id:
        while maybe_send_append(r, m.from_, progress, send_if_empty=False):
            pass
    return True


def back_up(r: Core, m: Message, progress: Progress) -> None:
    """A follower has refused entries after entry m.index: steps back to the last entry that both logs may share, and asks
    again from there. At least a whole term for each message.

    The follower's hint (reject_hint, log_term) says: at or before `index`, this is my last entry whose term isn't
    after yours. Nothing of this log with a higher term than the hint's can be at or before the hint in the follower's.

        index       1 2 3 4 5 6 7 8 9
        leader      1 3 3 3 5 5 5 5 5       it probes at 9/5
        follower    1 1 1 1 2 2             hint 6/2: the leader's 2 to 6 are of terms after 2, so the next probe is at 1

    So the last entry that both may share is what `RaftLog.find_conflict_by_term` of this log makes of the hint; without a
    term (log_term 0: the follower doesn't know one) it is the hint itself. `Progress.maybe_decrease` takes it, or says
    that this is old news; then nothing more happens. If it was taken: a follower that was sent entries ahead
    (STATE_REPLICATE) is probed again (`become_probe`), and it is sent a message at once (`maybe_send_append`, even an
    empty one). O(log n).
    """
    match_hint = m.reject_hint
    if m.log_term > 0:
        match_hint, _ = r.log.find_conflict_by_term(m.reject_hint, m.log_term)
    if progress.maybe_decrease(m.index, match_hint):
        if r.logger is not None:
            r.logger.debug("%x decreased progress of %x to [%s]", r.id, m.from_, progress)
        if progress.state == STATE_REPLICATE:
            progress.become_probe()
        maybe_send_append(r, m.from_, progress, send_if_empty=True)


def maybe_commit(r: Core) -> bool:
    """Commits what a quorum has, if that is of this term; then reads that waited for it can go on."""
    if not r.log.maybe_commit(r.tracker.committed(), r.term):
        return False
    if r.pending_read_index_messages:
        reads.release_pending(r)
    return True
