"""Segments: one data file each, and all of them together.

    <id>.bitcask.data        records, one after the other       id: a decimal number, the later file has the greater one
    <id>.bitcask.hint        its keys without its values        may be missing, or broken: then the data is read
    <id>.bitcask.data.new    being written by a merge or a load; nobody reads it until it is renamed

One segment is active: writes go to its end. It is longer than what is in it, because its space is allocated ahead and
written through a mapping: a put costs a memory copy of 0.1 µs in place of a system call of 1.2 µs, and a sync need not
write a new file size. `seal` cuts it to what it holds, syncs it, writes its hint, and it never changes again.

    active    │records ················│zeros ···············│      end ──┘          └── allocated, doubling up to max_file_size
    sealed    │records ················│

Reads go through mappings as well: a get reads one slice. A mapping keeps a file descriptor busy, so no more than
`max_open_files` are kept; the one that was opened first goes first. A reader that has one in hand keeps it alive.

Invariants:

1. Ids are never used again; a new segment's id is greater than that of every file that exists.
2. When a segment's name is on the disk, all of every older segment is. So of ours only the newest can have a torn tail.
3. A sealed segment is never written to. Its file is removed when no snapshot is open that is older than its retirement.
4. Files go in the order in which merges replaced them, and those of one merge in the order of their ids. Before a file
   with a tombstone goes, all removals so far are on the disk: it never goes before a value that it kills.

Follows bitcask_fileops.erl and bitcask_merge_delete.erl; the mapping, the allocation and (2) are ours. Left out:
Riak's habit of appending tombstones to closed files.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import overload

from engines.env import Env, File, Mode, MutableView, View
from engines.errors import StoreChanged
from engines.files import read_whole
from engines.kvstore import Stats

__all__ = [
    "MARK_EVERY_BYTES",
    "ActiveSegment",
    "PreadView",
    "Segment",
    "SegmentTable",
    "data_file_id",
    "data_path",
    "hint_path",
    "repair_advice",
]

DATA_NAME = re.compile(r"([1-9][0-9]{0,9})\.bitcask\.(data|hint)(\.new)?")
MAX_FILE_ID = 0xFFFF_FFFF  # a v2 tombstone has four bytes for it

FIRST_ALLOCATION = 1 << 16
MARK_EVERY_BYTES = 4096  # of synced records: a mark has 58 bytes, so 1.4 % of them


def data_path(directory: str, file_id: int) -> str:
    """Where the records of a segment are."""
    return f"{directory}/{file_id}.bitcask.data"


def hint_path(directory: str, file_id: int) -> str:
    """Where its keys are, without their values."""
    return f"{directory}/{file_id}.bitcask.hint"


def repair_advice(directory: str) -> str:
    """What is to be done about damage in a store: the end of each error that tells of some."""
    return f"`metcd repair {directory}` keeps every record that is whole"


def data_file_id(name: str) -> tuple[int, str] | None:
    """(id, kind) of a file that is ours by its name; the kind is "data", "hint", "data.new" or "hint.new"."""
    match = DATA_NAME.fullmatch(name)
    return (int(match[1]), match[2] + (match[3] or "")) if match else None


class Segment:
    """What is known of a data file. Live bytes are those of records in the keydir; the rest is garbage."""

    __slots__ = ("end", "hint_bytes", "id", "live_bytes", "tombstone_bytes")

    def __init__(self, file_id: int, end: int = 0) -> None:
        self.id = file_id
        self.end = end  # of the last record
        self.live_bytes = 0
        self.tombstone_bytes = 0  # of tombstones that are the last record of their key in the file
        self.hint_bytes = 0

    @property
    def disk_bytes(self) -> int:
        """The sizes of its files."""
        return self.end + self.hint_bytes

    def is_full(self, size: int, limit_bytes: int) -> bool:
        """True if a record of `size` bytes more has to go to the next segment: it would lead beyond `limit_bytes`.

        An empty segment takes any record, or one that is larger than the limit would find no place at all.
        """
        return 0 < self.end > limit_bytes - size

    @property
    def garbage_share(self) -> float:
        """The part of the records that nobody can read any more, 0.0 to 1.0; tombstones are garbage too."""
        return 1.0 - self.live_bytes / self.end if self.end else 0.0


class PreadView:
    """A file's current bytes, fetched by a call for each slice; it closes the file when it is dropped.

    For files that another program may cut: reading a mapping beyond the end of the file kills the process (SIGBUS), this
    gives fewer bytes.
    """

    __slots__ = ("_file", "_size")

    def __init__(self, file: File) -> None:
        self._file = file
        self._size = file.size()

    def __len__(self) -> int:
        return self._size

    @overload
    def __getitem__(self, index: int, /) -> int: ...
    @overload
    def __getitem__(self, index: slice, /) -> bytes: ...
    def __getitem__(self, index: int | slice, /) -> int | bytes:
        if isinstance(index, int):
            return self._file.pread(1, index)[0]
        start, stop, _ = index.indices(self._size)
        return self._file.pread(max(0, stop - start), start)

    def __del__(self) -> None:
        self._file.close()


class ActiveSegment(Segment):
    """The segment that is written to, by one thread at a time (engines.bitcask.log); readers slice `map` without asking."""

    __slots__ = ("_limit", "allocated", "file", "map", "marked", "synced")

    def __init__(self, file_id: int, file: File, limit: int) -> None:
        super().__init__(file_id)
        self.file = file
        self.synced = 0  # everything before it is on disk
        self.marked = 0  # `synced` when the last mark was written
        self.allocated = 0
        self._limit = limit
        self.map: MutableView = self._allocate(min(FIRST_ALLOCATION, limit))

    @property
    def disk_bytes(self) -> int:
        return self.allocated

    def _allocate(self, size: int) -> MutableView:
        self.file.allocate(size)
        self.allocated = size
        return self.file.map()

    def reserve(self, size: int) -> None:
        """Makes room for `size` bytes at the end: then `map` is another one. ENOSPC comes from here only."""
        self.map = self._allocate(max(self.end + size, min(2 * self.allocated, self._limit)))


class SegmentTable:
    """All segments of a directory: which there are, how they are read, and when they go away."""

    def __init__(self, env: Env, directory: str, stats: Stats, max_open_files: int, *, read_only: bool = False) -> None:
        self.env = env
        self.read_only = read_only
        self.unnamed: dict[int, str] = {}  # id → path of a file that a load has not named yet, and a reader may not
        self.directory = directory
        self.stats = stats
        self.live: dict[int, Segment] = {}  # by ascending id, the active one included
        self.retired: list[tuple[int, Segment]] = []  # (epoch, segment), in the order in which they are removed
        self.unsynced_removals = False
        self.epoch = 0  # counts retirements; a snapshot remembers the epoch in which it was opened
        self.void: set[int] = set()  # what a load has replaced: its intent file stands until they are gone
        self.intent_bytes = 0  # of that file; 0 if there is none
        self.views: dict[int, View] = {}
        self.max_open_files = max_open_files
        self.next_id = 1
        self.last_timestamp = 0  # of all records, so that the next one is not older

    def take_id(self, count: int = 1) -> int:
        """Reserves `count` ids in a row; returns the first."""
        first = self.next_id
        if first + count - 1 > MAX_FILE_ID:
            raise OverflowError(f"file ids end at {MAX_FILE_ID:,}: compact the store and load it into a new directory")
        self.next_id += count
        return first

    def view(self, file_id: int) -> View:
        """The bytes of a segment, mapped. Raises KeyError if it is gone (a reader only: StoreChanged), OSError."""
        view = self.views.get(file_id)
        if view is not None:
            return view
        if file_id not in self.live and all(segment.id != file_id for _, segment in self.retired):
            raise KeyError(file_id)
        path = self.unnamed.get(file_id) or data_path(self.directory, file_id)
        try:
            view = PreadView(self.env.open(path, "r")) if self.read_only else self._map(path)
        except FileNotFoundError:
            if self.read_only:
                raise StoreChanged(path) from None
            raise KeyError(file_id) from None  # it went away just now
        while len(self.views) >= self.max_open_files and self._close_one():
            pass  # a mapping that was made first goes first
        self.views[file_id] = view
        return view

    def _map(self, path: str) -> View:
        file = self.env.open(path, "r")
        try:
            return file.view()
        finally:
            file.close()

    def _close_one(self) -> bool:
        """Forgets the mapping that was made first, unless it is the active segment's."""
        for file_id in list(self.views):
            if not isinstance(self.live.get(file_id), ActiveSegment):
                self.views.pop(file_id, None)
                return True
        return False

    def begin_file(self, path: str, mode: Mode) -> File:
        """Opens a file of the store for writing, with the owner and the permissions of the newest data file, if any.

        Else root, who opens the directory here once, would lock the user out whose Riak it is. Raises OSError.
        """
        file = self.env.open(path, mode)
        try:
            if self.live:
                self.env.adopt(path, data_path(self.directory, max(self.live)))
        except BaseException:
            file.close()
            raise
        return file

    def create(self, limit: int) -> ActiveSegment:
        """A new active segment. When it returns, its name is on the disk."""
        file_id = self.take_id()
        file = self.begin_file(data_path(self.directory, file_id), "x")
        try:
            active = ActiveSegment(file_id, file, limit)
            self.sync_names("bitcask.create")
        except BaseException:
            file.close()
            raise
        self.live[file_id] = active
        self.views[file_id] = active.map
        return active

    def seal(self, active: ActiveSegment, hint: bytes) -> Segment:
        """Closes the active segment for good: cuts it to size, syncs it, and then writes its hint.

        Requires: `hint` is the hint of all its records.
        """
        sealed = Segment(active.id, active.end)
        sealed.live_bytes, sealed.tombstone_bytes = active.live_bytes, active.tombstone_bytes
        active.file.truncate(active.end)
        self.sync(active.file, "bitcask.seal")
        active.file.close()
        self.write_hint(sealed, hint)
        self.live[active.id] = sealed
        self.views.pop(active.id, None)
        return sealed

    def abandon(self, active: ActiveSegment) -> None:
        """Closes an active segment that is about to become void: nothing of it need reach the disk."""
        active.file.truncate(active.end)
        active.file.close()
        self.live[active.id] = Segment(active.id, active.end)
        self.views.pop(active.id, None)

    def read_hint(self, segment: Segment) -> bytes | None:
        """The bytes of a segment's hint, whole or not; None if it has none. Raises OSError."""
        path = hint_path(self.directory, segment.id)
        if not self.env.exists(path):
            return None
        hint = read_whole(self.env, path)
        self.stats.bytes_read += len(hint)
        segment.hint_bytes = len(hint)
        return hint

    def write_hint(self, segment: Segment, hint: bytes) -> None:
        """Writes the file `hint` beside a segment's data, in place of one that is there, and counts its bytes.

        They are the segment's `hint_bytes`, and are added to `stats.bytes_written`. The file is opened with `begin_file`
        and closed whatever happens. No sync: a torn hint shows by its checksum. Requires: the data is on the disk
        (`seal` and Output.finish see to that). Raises OSError.
        """
        file = self.begin_file(hint_path(self.directory, segment.id), "w")
        try:
            file.append(hint)
        finally:
            file.close()
        segment.hint_bytes = len(hint)
        self.stats.bytes_written += len(hint)

    def sync(self, file: File, site: str) -> None:
        file.sync(site)
        self.stats.fsyncs += 1

    def sync_names(self, site: str) -> None:
        self.env.sync_dir(self.directory, site)
        self.stats.fsyncs += 1

    def retire(self, file_ids: Iterable[int]) -> None:
        """Takes segments out of use: their content is elsewhere, or void. Their files go in `remove_retired`."""
        for file_id in sorted(file_ids):
            self.retired.append((self.epoch, self.live.pop(file_id)))
        self.epoch += 1

    def needs_earlier_removals(self, segment: Segment) -> bool:
        """True if the removals so far have to be on the disk before this segment's file goes.

        A removed file may come back after a power cut, which does no harm: it is merged once more. But a value must not
        come back without its tombstone. So it is True for a segment with tombstones, while there are removals that may
        be undone (`unsynced_removals`). Not for one that a load has replaced (its id is in `void`): the load's list
        says that the older ones are void too. O(1).
        """
        return segment.tombstone_bytes > 0 and self.unsynced_removals and segment.id not in self.void

    def remove_retired(self, oldest_epoch: int) -> None:
        """Removes the files of segments that no snapshot can need: those retired before the epoch `oldest_epoch`."""
        while self.retired and self.retired[0][0] < oldest_epoch:
            segment = self.retired[0][1]
            if self.needs_earlier_removals(segment):
                self.sync_names("bitcask.remove")
                self.unsynced_removals = False
            if segment.hint_bytes:
                self.env.unlink(hint_path(self.directory, segment.id))
            self.env.unlink(data_path(self.directory, segment.id))
            self.unsynced_removals = True
            self.views.pop(segment.id, None)
            del self.retired[0]

    def disk_bytes(self) -> int:
        """Of all files but the locks."""
        segments = [*self.live.values(), *(segment for _, segment in self.retired)]
        return sum(segment.disk_bytes for segment in segments) + self.intent_bytes

    def written_bytes(self) -> int:
        """Of the files that current readers need, without what is allocated ahead. For any thread."""
        return sum([segment.end + segment.hint_bytes for segment in list(self.live.values())])

    def sealed(self) -> dict[int, Segment]:
        """The segments that are not written to, oldest first."""
        return {file_id: seg for file_id, seg in sorted(self.live.items()) if not isinstance(seg, ActiveSegment)}

    def file_ids(self) -> set[int]:
        """Of all data files that are on the disk, the retired ones included."""
        return {*self.live, *(segment.id for _, segment in self.retired)}
