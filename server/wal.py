"""Raft's write-ahead log: entries, hard state and snapshot marks, on disk before anybody is told of them.

    wal/
      LOCK
      0000000000000003-00000000000007d1.wal     a segment, whole and on disk
      0000000000000004-0000000000000bb9.wal     the last segment, which `save` appends to
      0000000000000005-….wal.tmp                a segment that is being made, or was when the power went

    save ──▶ one record ──▶ one pwrite ──▶ one fdatasync ──▶ return
                              │
       [HEAD][STATE, entries][ENTRIES][SNAPSHOT][ENTRIES] 0 0 0 0 0 0 0     space that was allocated ahead

Each segment is a file of engines/log.py's records (server/wal_segment.py says what is in them), at most `segment_bytes`
and one save long. server/wal_replay.py reads them, and has the rules about what a log means and when it is damaged.

Invariants:

1. A save is one record: after a crash it is there as a whole or not at all, and no later save is there without it.
2. What was saved with must_sync is on disk when `save` returns, together with everything saved before it.
3. A segment is on disk, with its head, before it has its name; and the segment before it is on disk before that. So only
   the last segment can be torn.
4. A segment goes only when every entry in it lies at or before a mark that is on disk in a segment that stays. The names
   need no sync of the directory to go: a segment that comes back is left over (wal_replay, rule 5).
5. Opening brings what it has read to the disk before it returns it: the last segment's bytes, and its name. A killed
   process leaves in the page cache what no sync has ever covered, and the node is about to act upon it.
6. A segment whose torn tail was cut off is followed by a new one, and never appended to: a later crash may bring back
   what was cut off, in the place of new records and with valid checksums, and only the new segment's salt tells.
7. A log that was opened with `promised` says in each segment whose directory it is, and how often that was started
   (server/directory.py): the start is on disk when `open` returns.
8. After a failed write or sync every call raises StoreFailed (engines/errors.py says why nothing is retried).

Space is allocated a mebibyte ahead: a sync in allocated space needs no journal commit for the file's new size, 46 µs
against 70; the reader takes the zeros after the last record for the end. A mapping would save another microsecond of a
write, which is nothing beside the sync.

Left out: etcd's pipeline that makes the next segment in the background, and its padding of records to 8 bytes, because
LevelDB's format has its own ideas; group commit, which the node's one thread has already done by draining its inbox.

For one thread, but for `stats`. Follows etcd's server/storage/wal/wal.go: Save, SaveSnapshot, cut, ReleaseLockTo.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from engines.env import Env, File, Lock, real_env
from engines.errors import StoreClosed, StoreFailed
from engines.log import BLOCK_BYTES, encode_record, record_offset
from raft.raftpb import Entry, HardState, SnapshotMetadata
from server.errors import WAY_OUT, DirectoryRefused
from server.metrics import Histogram
from server.wal_replay import History, Recovery, Segment, WalMismatch, check, dump, replay
from server.wal_segment import (
    END,
    ENTRIES,
    RESTORE,
    SNAPSHOT,
    START,
    STATE,
    Head,
    SegmentName,
    Start,
    encode_entries,
    encode_state,
    prefix,
)

__all__ = ["SEGMENT_BYTES", "Promised", "Wal", "WalMismatch", "WalState", "check", "dump"]

SEGMENT_BYTES = 64 * 1000 * 1000  # as etcd's
ALLOCATE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Promised:
    """What a data directory remembers of its log: the directory's number, the count of starts, and the newest segment.

    starts: 0 if the log may not be there yet, or may be of a version that didn't count.
    """

    number: int
    starts: int = 0
    segment: int = 0

    def check(self, path: str, found: Recovery) -> None:
        """Raises DirectoryRefused if the log that was found isn't the directory's, or is older. Changes nothing."""
        if not found.segments:
            if self.starts:
                raise DirectoryRefused(f"{path}: the log is gone, and with it what this node has promised; {WAY_OUT}")
            return
        if found.start is not None and found.start.number != self.number:
            raise DirectoryRefused(
                f"{path}: the log is of directory {found.start.number:016x}, and this is {self.number:016x}; {WAY_OUT}"
            )
        starts, segment = found.start.count if found.start else 0, found.segments[-1].name.sequence
        if starts < self.starts or segment < self.segment:
            raise DirectoryRefused(
                f"{path}: the log is older than the directory: it ends with segment {segment} after start {starts}, and "
                f"there was segment {self.segment} after start {self.starts}, so that its newest part is gone; {WAY_OUT}"
            )


@dataclass(frozen=True, slots=True)
class WalState:
    """What a log held when it was opened.

    entries: all that lie after `snapshot`, without a gap. snapshot: the newest mark, index 0 if there is none.
    is_new: there was no log, and there is one now. repaired: what was cut off as a torn tail, in words, or None.
    starts: the count of starts, this one included; 0 if the log was opened without `promised`.
    """

    hard_state: HardState = field(default_factory=HardState)
    entries: list[Entry] = field(default_factory=list)
    snapshot: SnapshotMetadata = field(default_factory=SnapshotMetadata)
    is_new: bool = False
    repaired: str | None = None
    starts: int = 0


class Wal:
    """The log of one node, open for appending. Made by `Wal.open`."""

    def __init__(self, path: str, env: Env, lock: Lock, ids: tuple[int, int], segment_bytes: int) -> None:
        self.path = path
        self._env = env
        self._lock = lock
        self._node_id, self._cluster_id = ids
        self._segment_bytes = segment_bytes
        self._history = History(HardState(), SnapshotMetadata(), 0)
        self._segments: list[Segment] = []  # oldest first; the last one is open as `_file`
        self._file: File | None = None
        self._salt = 0
        self._start: Start | None = None
        self._end = 0  # of the records in `_file`
        self._synced = 0  # up to there `_file` is on disk
        self._allocated = 0  # size of `_file`
        self._closed = False
        self._failure: BaseException | None = None
        self.fsync_times = Histogram()
        self._counters = dict.fromkeys(("saves", "bytes_written", "fsyncs", "segments_made"), 0)

    @classmethod
    def open(
        cls,
        path: str,
        env: Env | None = None,
        *,
        node_id: int,
        cluster_id: int,
        segment_bytes: int = SEGMENT_BYTES,
        promised: Promised | None = None,
    ) -> tuple[Wal, WalState]:
        """Opens the log in the directory `path`, or makes one, and returns it with what it holds.

        A torn tail is cut off. segment_bytes: a segment that has reached this size is followed by a new one.
        promised: what the log has to be; the log then counts this start, on disk when it returns.
        Raises StoreLocked, WalMismatch (another node's or cluster's), DirectoryRefused, CorruptionError, OSError; then
        the log is as it was. O(bytes of the log).
        """
        env = env or real_env()
        env.makedirs(path, "server.wal.mkdir")
        wal = cls(path, env, env.lock(f"{path}/LOCK"), (node_id, cluster_id), segment_bytes)
        try:
            recovery = replay(path, env, node_id, cluster_id)
            if promised is not None:
                promised.check(path, recovery)
                count = max(promised.starts, recovery.start.count if recovery.start else 0) + 1
                wal._start = Start(promised.number, count)
            for name in recovery.leftovers:
                env.unlink(f"{path}/{name}")
            state = wal._resume(recovery) if recovery.segments else wal._begin()
        except BaseException:
            wal._let_go()
            raise
        return wal, state

    def _begin(self) -> WalState:
        """Makes the first segment of a new log."""
        self._create(SegmentName(0, 1), 0, 0)
        return WalState(is_new=True, starts=self._start.count if self._start else 0)

    def _resume(self, recovery: Recovery) -> WalState:
        """Opens the last segment after its last record, with a torn tail cut off, and brings it to disk (5, 6)."""
        self._segments = recovery.segments
        self._history = history = recovery.history
        self._salt = recovery.salt
        path = f"{self.path}/{recovery.segments[-1].name}"
        self._file = file = self._env.open(path, "r+")
        if recovery.torn is not None:
            file.truncate(recovery.end)
        file.sync("server.wal.recover")
        self._env.sync_dir(self.path, "server.wal.recover_dir")
        self._counters["fsyncs"] += 2
        self._allocated = file.size()
        self._end = self._synced = recovery.end
        repaired = None
        if recovery.torn is not None:
            repaired = f"{path}: cut off a {recovery.torn}"
            self._cut()
        elif self._start is not None:
            self._append(START, self._start.encode())
            self._sync("server.wal.start")
        starts = self._start.count if self._start else 0
        return WalState(history.hard_state, recovery.entries, history.snapshot, False, repaired, starts)

    # ---- writing ----------------------------------------------------------------------------------------------------

    def save(self, hard_state: HardState | None, entries: Sequence[Entry], *, must_sync: bool) -> None:
        """Appends entries and hard state, as one record; must_sync: returns when they are on disk (invariant 2).

        entries: without a gap, from after the newest mark to right after the last entry; those they overwrite are
        gone. None or [] is nothing to save. Raises ValueError for entries that don't fit (nothing is written then),
        OSError for the failure that poisons the log, StoreFailed, StoreClosed. One write, one sync; O(bytes).
        """
        self._check_usable()
        if entries and (refusal := self._history.refusal(entries)):
            raise ValueError(f"the entries don't fit the log: {refusal}")
        try:
            self.write_save(hard_state, entries, must_sync)
            self._counters["saves"] += 1
        except BaseException as error:
            self._poison(error)
            raise

    def write_save(self, hard_state: HardState | None, entries: Sequence[Entry], must_sync: bool) -> None:
        """What `save` does, which has seen to it that the log is usable and that the entries fit it.

        One record, appended with `_append`: STATE if there is a hard state (with the entries, [] too), else ENTRIES, or
        none at all if there is nothing. Then `_history` knows the hard state and the entries, and the last of `_segments`
        (a new one, if the record began it) the highest index that was ever in it. With must_sync, `_sync` for the site
        "server.wal.append", after the record.
        """
        if hard_state is not None:
            self._append(STATE, encode_state(hard_state, entries))
            self._history.hard_state = hard_state
        elif entries:
            self._append(ENTRIES, encode_entries(entries))
        if entries:
            self._history.append(entries)
            segment = self._segments[-1]
            segment.top_index = max(segment.top_index, entries[-1].index)
        if must_sync:
            self._sync("server.wal.append")

    def save_snapshot(self, metadata: SnapshotMetadata) -> None:
        """Marks that a snapshot holds everything up to `metadata.index`; on disk when it returns.

        Entries after the mark stay, if the log has the entry of that index and term (wal_replay, rule 2); else all
        go. Requires: the snapshot itself is on disk. Raises ValueError for a mark before the newest, else as `save`.
        """
        self._check_usable()
        if metadata.index < self._history.snapshot.index:
            raise ValueError(
                f"a mark at {metadata.index} would go back: the newest is at {self._history.snapshot.index}"
            )
        try:
            self.write_mark(metadata)
        except BaseException as error:
            self._poison(error)
            raise

    def write_mark(self, metadata: SnapshotMetadata) -> None:
        """What `save_snapshot` does, which has seen to it that the mark doesn't go back.

        One record with the metadata: SNAPSHOT if the log has the entry of that index and that term (`History.term`), so
        that what follows it stays; else RESTORE, and nothing stays. `_history` is told by `mark` or `restore`. On disk
        when it returns, by `_sync` for the site "server.wal.mark".
        """
        if self._history.term(metadata.index) == metadata.term:
            self._append(SNAPSHOT, metadata.encode())
            self._history.mark(metadata)
        else:
            self._append(RESTORE, metadata.encode())
            self._history.restore(metadata)
        self._sync("server.wal.mark")

    def release(self, index: int) -> None:
        """Removes segments from the old end of the log that hold nothing after `index`, nor after the newest mark.

        The last segment stays. Raises OSError, StoreFailed, StoreClosed. O(segments removed).
        """
        self._check_usable()
        try:
            self.drop_segments(index)
        except BaseException as error:
            self._poison(error)
            raise

    def drop_segments(self, index: int) -> None:
        """What `release` does: unlinks files at `path`, the oldest first, and forgets them in `_segments`.

        Stops at the first segment that has an entry after `index`, or after the newest mark (whichever is less:
        `Segment.top_index` has the highest that is in it), and before the last one, which always stays.
        """
        index = min(index, self._history.snapshot.index)
        while len(self._segments) > 1 and self._segments[0].top_index <= index:
            self._env.unlink(f"{self.path}/{self._segments[0].name}")
            self._segments.pop(0)

    def sync(self) -> None:
        """Brings everything saved so far to disk; nothing to do if it is there. Raises as `save`."""
        self._check_usable()
        try:
            self._sync("server.wal.flush")
        except BaseException as error:
            self._poison(error)
            raise

    def _append(self, kind: int, data: bytes) -> None:
        """Writes one record, into a new segment if the last is full."""
        if self._end >= self._segment_bytes:
            self._cut()
        assert self._file is not None
        offset = record_offset(self._end)
        record = encode_record(self._end % BLOCK_BYTES, prefix(kind, self._salt, offset, self._synced) + data)
        end = self._end + len(record)
        if end > self._allocated:
            self._allocated = max(end, min(-(-end // ALLOCATE_BYTES) * ALLOCATE_BYTES, self._segment_bytes))
            self._file.allocate(self._allocated)
        self._file.pwrite(record, self._end)
        self._end = end
        self._counters["bytes_written"] += len(record)

    def _sync(self, site: str) -> None:
        if self._synced < self._end:
            assert self._file is not None
            begun = self._env.now()
            self._file.sync(site)
            self.fsync_times.observe(self._env.now() - begun)
            self._synced = self._end
            self._counters["fsyncs"] += 1

    def _cut(self) -> None:
        """Ends the last segment and begins the next (invariant 3)."""
        assert self._file is not None
        self._sync("server.wal.cut")
        if self._allocated > self._end:
            self._file.truncate(self._end)  # gives back what was allocated; no matter if a crash undoes it
        self._file.close()
        last = self._segments[-1].name
        self._create(SegmentName(last.sequence + 1, self._history.last_index + 1), self._salt, self._end)

    def _create(self, name: SegmentName, previous_salt: int, previous_end: int) -> None:
        """Makes a segment and opens it as the last one."""
        salt = self._env.rng.getrandbits(64)
        history = self._history
        head = Head(
            self._node_id, self._cluster_id, salt, previous_salt, previous_end, history.hard_state, history.snapshot
        )
        record = encode_record(0, head.encode())
        if self._start is not None:
            offset = record_offset(len(record))
            start = prefix(START, salt, offset, 0) + self._start.encode()
            record += encode_record(len(record) % BLOCK_BYTES, start)
        path = f"{self.path}/{name}"
        self._file = file = self._env.open(f"{path}.tmp", "w")
        file.append(record)
        file.sync("server.wal.create")
        self._env.rename(f"{path}.tmp", path)
        self._env.sync_dir(self.path, "server.wal.create_dir")
        self._segments.append(Segment(name))
        self._salt = salt
        self._end = self._synced = self._allocated = len(record)
        self._counters["bytes_written"] += len(record)
        self._counters["fsyncs"] += 2
        self._counters["segments_made"] += 1

    @property
    def segment(self) -> int:
        """The sequence number of the last segment. O(1)."""
        return self._segments[-1].name.sequence

    # ---- the rest ---------------------------------------------------------------------------------------------------

    def stats(self) -> dict[str, int]:
        """Counters since the log was opened, and its current size. Any thread may ask."""
        return {**self._counters, "segments": len(self._segments), "last_segment_bytes": self._end}

    def close(self) -> None:
        """Brings everything to disk, and gives up the lock. Twice is fine. Raises OSError if that fails.

        Ends with a record that says so, and needs no sync itself: from the next open on, no damage to a closed log
        passes for a torn tail.
        """
        if self._closed:
            return
        try:
            if self._failure is None:
                self._sync("server.wal.close")
                self._append(END, b"")
        finally:
            self._let_go()

    def _let_go(self) -> None:
        self._closed = True
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
        self._lock.close()

    def _poison(self, failure: BaseException) -> None:
        if self._failure is None:
            self._failure = failure

    def _check_usable(self) -> None:
        if self._closed:
            raise StoreClosed("the log is closed: open it again to use it")
        if self._failure is not None:
            raise StoreFailed(
                f"an earlier write of the log failed ({self._failure}), so it takes no more calls: "
                "restart the node to see what is on disk"
            ) from self._failure
