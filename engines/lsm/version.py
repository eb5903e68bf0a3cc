"""Versions: which tables make up which level, and the edits by which one version becomes the next.

    version 12   level 0   [17] [15]            newest first; ranges may overlap
                 level 1   [9  a..f] [11 g..p]  ranges are disjoint and ascend
                 level 2   [3  a..c] [4  d..z]
       │  edit: compacted level 1 file 9 with level 2 files 3 and 4; deleted 9, 3, 4; new on level 2: 18, 19
       ▼
    version 13   ...

A version is never changed. A reader takes the current one and keeps it as long as it reads; a table's file is deleted
when no version that anybody keeps has it.

An edit is one record of the manifest. TAG and fields, all varints but for what is in length-prefixed slices:

    1  comparator │ name                         "leveldb.BytewiseComparator", nothing else can be opened
    2  log number │ n                            logs with smaller numbers are in tables
    9  previous log number │ n                   0 since 2011
    3  next file number │ n
    4  last sequence │ n                         of what is in tables: exactly that, or goleveldb drops log records
    5  compact pointer │ level, internal key     where the next compaction of the level begins
    6  deleted file │ level, number
    7  new file │ level, number, size, smallest internal key, largest internal key

1. Levels are 0 to 6, keys in an edit have at least their trailer's 8 bytes, and smallest <= largest.
2. On a level from 1 on, files ascend, and no user key is in two of them. (Old LevelDB may split a key's versions over
   two neighbours; then the first has the newer ones. It is read, and never written.)
3. On level 0, the file with the higher number is newer, in what LevelDB and we write. RepairDB keeps no such order, and
   then the sequences decide (level0.py).
4. An unknown tag is damage: no program may add tags, ours neither. (RocksDB did, and goleveldb added levels: a ForeignEdit.)
5. A table that is added twice to one level, with the same size and the same keys, is one table: goleveldb writes that
   whenever it has replayed a log into a table: its manifest's first record is the edit and the version after it.

Follows LevelDB's db/version_edit.cc and the class Version of db/version_set.cc.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from engines.coding import DecodeError, get_slice, get_varint32, get_varint64, put_slice, put_varint
from engines.lsm.keys import TRAILER_BYTES, order
from engines.lsm.options import LEVELS
from engines.lsm.statistics import TableInfo, TableStatistics

__all__ = ["COMPARATOR", "FileMeta", "ForeignEdit", "Version", "VersionEdit"]

COMPARATOR: Final = b"leveldb.BytewiseComparator"

TAG_COMPARATOR: Final = 1
TAG_LOG_NUMBER: Final = 2
TAG_NEXT_FILE: Final = 3
TAG_LAST_SEQUENCE: Final = 4
TAG_COMPACT_POINTER: Final = 5
TAG_DELETED_FILE: Final = 6
TAG_NEW_FILE: Final = 7
TAG_PREVIOUS_LOG: Final = 9
ROCKSDB_TAGS: Final = frozenset((10, 100, 102, 103, 200, 201, 202, 203, 300))
ROCKSDB_FIRST_TAG: Final = 400  # and whatever is above


class ForeignEdit(DecodeError):
    """A sound edit of another program: RocksDB's tags, or a `level` below LevelDB's last one (goleveldb's)."""

    def __init__(self, why: str, level: int | None = None) -> None:
        super().__init__(why)
        self.level = level


@dataclass(frozen=True, slots=True, repr=False)
class FileMeta:
    """A table as a version knows it: number, size in bytes, first and last internal key, and their user keys.

    `statistics` is what a table that was written here has counted, None for one that the manifest tells of: the
    TableCache learns them when it opens the table. Two metas that say the same of one table are equal.
    """

    number: int
    size_bytes: int
    smallest: bytes
    largest: bytes
    statistics: TableStatistics | None = field(default=None, compare=False)
    first: bytes = field(init=False, compare=False)
    last: bytes = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "first", self.smallest[:-TRAILER_BYTES])
        object.__setattr__(self, "last", self.largest[:-TRAILER_BYTES])

    @classmethod
    def of(cls, number: int, info: TableInfo) -> FileMeta:
        """The file of a table that was just built."""
        return cls(number, info.size_bytes, info.smallest, info.largest, info.statistics)

    def overlaps(self, first: bytes | None, last: bytes | None) -> bool:
        """True if it may hold a user key in [first, last]; None is no bound."""
        return (last is None or self.first <= last) and (first is None or self.last >= first)

    def __repr__(self) -> str:
        return f"<file {self.number}: {self.size_bytes} bytes, {self.first[:20]!r} to {self.last[:20]!r}>"


@dataclass(slots=True)
class VersionEdit:
    """A change from one version to the next; None means unchanged."""

    comparator: bytes | None = None
    log_number: int | None = None
    previous_log_number: int | None = None
    next_file_number: int | None = None
    last_sequence: int | None = None
    compact_pointers: list[tuple[int, bytes]] = field(default_factory=list)  # (level, internal key)
    deleted: list[tuple[int, int]] = field(default_factory=list)  # (level, number)
    added: list[tuple[int, FileMeta]] = field(default_factory=list)  # (level, file)

    def encode(self) -> bytes:
        """The manifest record: TAG and fields of all that is set, as the module's docstring lists them.

        In the order in which LevelDB writes the tags: comparator, log number, previous log number, next file number,
        last sequence, compact pointers, deleted files (sorted), new files. What is None or empty takes no byte; 0 is a
        number like any other. `put_varint` and `put_slice` (length as varint, then the bytes) write the fields. O(files
        of the edit).
        """
        parts = []
        if self.comparator is not None:
            parts += [put_varint(TAG_COMPARATOR), put_slice(self.comparator)]
        for tag, number in (
            (TAG_LOG_NUMBER, self.log_number),
            (TAG_PREVIOUS_LOG, self.previous_log_number),
            (TAG_NEXT_FILE, self.next_file_number),
            (TAG_LAST_SEQUENCE, self.last_sequence),
        ):
            if number is not None:
                parts += [put_varint(tag), put_varint(number)]
        for level, key in self.compact_pointers:
            parts += [put_varint(TAG_COMPACT_POINTER), put_varint(level), put_slice(key)]
        for level, number in sorted(self.deleted):
            parts += [put_varint(TAG_DELETED_FILE), put_varint(level), put_varint(number)]
        for level, file in self.added:
            parts += [put_varint(TAG_NEW_FILE), put_varint(level), put_varint(file.number), put_varint(file.size_bytes)]
            parts += [put_slice(file.smallest), put_slice(file.largest)]
        return b"".join(parts)

    @classmethod
    def decode(cls, record: bytes, levels: int = LEVELS) -> VersionEdit:
        """The edit of a manifest record: what `encode` wrote, tags in any order, any number of times (the last number
        counts).

        levels: how many there may be; a dump allows more. `get_level`, `get_key` and `get_file` read these three fields
        and refuse what rule 1 forbids, `get_varint32` reads a tag, `get_varint64` a number, `get_slice` bytes: each
        takes the record and a position, and returns the value and the next position. For an unknown tag, raises
        `unknown_tag` (rule 4). Raises DecodeError: so do all of these for damage. O(len(record)).
        """
        edit = cls()
        at = 0
        while at < len(record):
            tag, at = get_varint32(record, at)
            if tag == TAG_COMPARATOR:
                edit.comparator, at = get_slice(record, at)
            elif tag == TAG_LOG_NUMBER:
                edit.log_number, at = get_varint64(record, at)
            elif tag == TAG_PREVIOUS_LOG:
                edit.previous_log_number, at = get_varint64(record, at)
            elif tag == TAG_NEXT_FILE:
                edit.next_file_number, at = get_varint64(record, at)
            elif tag == TAG_LAST_SEQUENCE:
                edit.last_sequence, at = get_varint64(record, at)
            elif tag == TAG_COMPACT_POINTER:
                level, at = get_level(record, at, levels)
                key, at = get_key(record, at)
                edit.compact_pointers.append((level, key))
            elif tag == TAG_DELETED_FILE:
                level, at = get_level(record, at, levels)
                number, at = get_varint64(record, at)
                edit.deleted.append((level, number))
            elif tag == TAG_NEW_FILE:
                level, at = get_level(record, at, levels)
                file, at = get_file(record, at)
                edit.added.append((level, file))
            else:
                raise unknown_tag(tag, at)
        return edit


def unknown_tag(tag: int, at: int) -> DecodeError:
    """The error for a tag that ends before byte `at` of an edit: a ForeignEdit if it is RocksDB's."""
    why = f"the tag {tag} at byte {at} of the edit is unknown: 1 to 7 and 9 are"
    return (ForeignEdit if tag in ROCKSDB_TAGS or tag >= ROCKSDB_FIRST_TAG else DecodeError)(why)


def get_level(record: bytes, at: int, levels: int) -> tuple[int, int]:
    """A level at byte `at`, and where what follows begins. Raises DecodeError; ForeignEdit for one that isn't there."""
    level, at = get_varint32(record, at)
    if level >= levels:
        raise ForeignEdit(f"level {level} at byte {at} of the edit: there are levels 0 to {levels - 1}", level)
    return level, at


def get_key(record: bytes, at: int) -> tuple[bytes, int]:
    """An internal key at byte `at`, and where what follows begins. Raises DecodeError."""
    key, at = get_slice(record, at)
    if len(key) < TRAILER_BYTES:
        raise DecodeError(f"the internal key before byte {at} of the edit has {len(key)} bytes, at least 8 are needed")
    return key, at


def get_file(record: bytes, at: int) -> tuple[FileMeta, int]:
    """Number, size, smallest and largest key at byte `at`, and where what follows begins. Raises DecodeError."""
    number, at = get_varint64(record, at)
    size_bytes, at = get_varint64(record, at)
    smallest, at = get_key(record, at)
    largest, at = get_key(record, at)
    if order(smallest) > order(largest):
        raise DecodeError(f"file {number} is said to begin at {smallest!r}, after its end {largest!r}")
    return FileMeta(number, size_bytes, smallest, largest), at


class Version:
    """The tables of a store at one moment, by level. Never changed; hashable by identity, and weakly referable.

    `levels[0]` is newest first, the others ascend. `sorted_levels` are those of levels 1 to 6 that have files, each with
    its files' last user keys, for `bisect`. `level0_in_order` is None until it is asked for (level0.py). `splits_keys` says
    that a user key is in two files of a level (rule 2).
    """

    __slots__ = ("__weakref__", "level0_in_order", "levels", "sorted_levels", "splits_keys")

    def __init__(self, levels: Sequence[Sequence[FileMeta]] = ((),) * LEVELS) -> None:
        self.levels: list[list[FileMeta]] = [sorted(levels[0], key=lambda file: -file.number)]
        self.levels += [sorted(files, key=lambda file: order(file.smallest)) for files in levels[1:]]
        self.sorted_levels = [(files, [file.last for file in files]) for files in self.levels[1:] if files]
        self.splits_keys = any(
            before.last == after.first for files in self.levels[1:] for before, after in pairwise(files)
        )
        self.level0_in_order: bool | None = True if len(self.levels[0]) < 2 else None

    def edited(self, edit: VersionEdit) -> Version:
        """The version after the edit. A file that the edit both deletes and adds on one level is there; one that is added
        once more is there once (rule 5). O(files)."""
        gone = set(edit.deleted)
        levels = [
            [file for file in files if (level, file.number) not in gone] for level, files in enumerate(self.levels)
        ]
        known = {level: {file.number: file for file in levels[level]} for level in {level for level, _ in edit.added}}
        for level, file in edit.added:
            here = known[level].get(file.number)
            if here != file:
                levels[level].append(file)
                known[level][file.number] = file
        return Version(levels)

    def files(self) -> Iterator[tuple[int, FileMeta]]:
        """(level, file) of all files, which stay on disk as long as the iterator: it holds the version."""
        for level, files in enumerate(self.levels):
            for file in files:
                yield level, file

    def level_bytes(self, level: int) -> int:
        """The size of a level's tables."""
        return sum([file.size_bytes for file in self.levels[level]])

    def overlapping(self, level: int, first: bytes | None, last: bytes | None) -> list[FileMeta]:
        """The files of a level that may hold user keys in [first, last]; None is no bound.

        Level 0 is another matter: `overlapping_in_level0`. O(files), O(files²) on level 0.
        """
        if level == 0:
            return self.overlapping_in_level0(first, last)
        return [file for file in self.levels[level] if file.overlaps(first, last)]

    def overlapping_in_level0(self, first: bytes | None, last: bytes | None) -> list[FileMeta]:
        """The files of level 0 that may hold user keys in [first, last], and all that overlap one of the result.

        A file that overlaps the range may itself reach further, and then so must the result: otherwise a compaction
        would leave an older version above a newer one. None is no bound. In the order of `levels[0]`, newest first.
        `FileMeta.overlaps` answers for one file; `first` and `last` of a file are its bounds. O(files²).
        """
        while True:
            found = [file for file in self.levels[0] if file.overlaps(first, last)]
            if not found:
                return found
            low, high = min(file.first for file in found), max(file.last for file in found)
            if (first is None or first <= low) and (last is None or last >= high):
                return found
            first = None if first is None else min(first, low)
            last = None if last is None else max(last, high)

    def has_below(self, level: int, key: bytes) -> bool:
        """True if a level deeper than `level` has a file whose range includes `key`. O(log files)."""
        for files in self.levels[level + 1 :]:
            if files:
                at = bisect_left(files, key, key=lambda file: file.last)
                if at < len(files) and files[at].first <= key:
                    return True
        return False

    def violations(self) -> list[str]:
        """Each violation of rule 2 as a sentence."""
        found = []
        for level, files in enumerate(self.levels[1:], 1):
            for before, after in pairwise(files):
                if order(before.largest) >= order(after.smallest):
                    found.append(
                        f"level {level}: file {before.number} ends at {before.last!r}, but file {after.number} begins "
                        f"at {after.first!r}: files of a level must not overlap"
                    )
        return found
