"""What a reader reads, and the one way to read it.

    get    memtable, frozen memtables, level 0 newest first, one table of each level:  the first one that knows decides
    scan   the rows of all of these ──merge──► rows in order ──visible──► the newest value of each key

1. A reader takes the state and the last sequence, and works on these two: no lock, and nothing that happens afterwards
   changes them. A write makes rows with higher sequences; a flush or a compaction makes another state.
2. In this order: first the state, then the sequence. The other way round, a compaction in between could have dropped
   what the reader asks for.
3. A get may stop at the first place that knows its key, because a version in an older place is older. On level 0 only
   if the numbers of its tables say which is newer (level0.py); a scan compares sequences, and needs no such rule.

Follows DBImpl::Get and NewInternalIterator in LevelDB's db/db_impl.cc, and Version in db/version_set.cc.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from typing import NamedTuple

from engines.errors import StoreClosed
from engines.kvstore import Pair, Usable
from engines.lsm import level0
from engines.lsm.keys import ABSENT, Found, Row
from engines.lsm.memtable import MemTable
from engines.lsm.merge import merge, visible
from engines.lsm.table_cache import TableCache
from engines.lsm.version import FileMeta, Version

__all__ = ["Scan", "State", "View", "check_open", "lookup", "pairs", "rows"]


class State(NamedTuple):
    """The memtables and the tables of one moment: `frozen` are the memtables that wait for their flush, newest first."""

    memtable: MemTable
    frozen: tuple[MemTable, ...]
    version: Version


class Scan(NamedTuple):
    """What a scan asks for: the keys in [start, stop) as of a sequence; None is no bound."""

    start: bytes
    stop: bytes | None
    sequence: int
    reverse: bool


class View:
    """What a snapshot holds: its sequence, and a state of its own once `load` has replaced the store's content."""

    def __init__(self, sequence: int) -> None:
        self.sequence = sequence
        self.pinned: State | None = None
        self.is_open = True


def check_open(usable: Usable, view: View | None) -> None:
    """Raises StoreClosed, StoreFailed if the store, or the snapshot that reads, can't be used any more."""
    usable.check_usable()
    if view is not None and not view.is_open:
        raise StoreClosed("the snapshot is closed: take another one")


def lookup(state: State, tables: TableCache, key: bytes, sequence: int) -> Found:
    """The newest value of `key` not above `sequence`; None if it was deleted; ABSENT if nothing is known of it.

    Places are asked from the newest to the oldest: the memtable, the frozen memtables, level 0 (`level0.search`), then
    the files of `_deeper`. The first one that knows the key decides (rule 3), a tombstone as much as a value, and no
    older place is asked. O(levels); at most one block is read for each table that may have the key.
    Raises CorruptionError, OSError.
    """
    for memtable in (state.memtable, *state.frozen):
        if (found := memtable.get(key, sequence)) is not ABSENT:
            return found
    if (found := level0.search(state.version, tables, key, sequence)) is not ABSENT:
        return found
    for file in _deeper(state.version, key):
        if (found := tables.get(file).get(key, sequence)) is not ABSENT:
            return found
    return ABSENT


def _deeper(version: Version, key: bytes) -> Iterator[FileMeta]:
    """The files of levels 1 to 6 that may have `key`, level by level: one of each level at most. (Old LevelDB split a key
    over two.)

    `version.sorted_levels` has, for each of these levels that isn't empty, its files in order and their last user keys:
    a file may have the key if `first <= key <= last`. O(log files) for each level.
    """
    for files, lasts in version.sorted_levels:
        at = bisect_left(lasts, key)
        while at < len(files) and files[at].first <= key:
            yield files[at]
            at += 1


def pairs(
    state: State, tables: TableCache, scan: Scan, usable: Usable, view: View | None, owner: object
) -> Iterator[Pair]:
    """The pairs that a scan asks for. Lazy. Raises as `check_open`, before each pair; CorruptionError, OSError.

    usable, view: whether the store, and the snapshot that reads, are open. owner: the store, which lives as long as the
    iterator. O(log n) a pair.
    """
    check_open(usable, view)
    for key, value in visible(rows(state, tables, scan), scan.sequence):
        check_open(usable, view)
        if value is None:
            tables.counters.tombstones += 1
        else:
            yield key, value


def rows(state: State, tables: TableCache, scan: Scan) -> Iterator[Row]:
    """All versions of the keys in [scan.start, scan.stop), in order, or against it: the merge of all places.

    A source for each memtable, for each table of level 0 (`tables.get` opens it, here), and one for each deeper level
    (`_level`, with the files of `version.sorted_levels` that the range may touch). A table of level 0 that has no key of the
    range, by `file.first` and `file.last`, is not opened. O(sources) to begin with, then as `merge`.
    Raises CorruptionError, OSError.
    """
    start, stop, _, reverse = scan
    sources = [memtable.rows(start, stop, reverse) for memtable in (state.memtable, *state.frozen)]
    for file in state.version.levels[0]:
        if file.last >= start and (stop is None or file.first < stop):
            sources.append(tables.get(file).rows(start, stop, reverse))
    for files, lasts in state.version.sorted_levels:
        first = bisect_left(lasts, start)
        end = len(files) if stop is None else bisect_left(files, stop, key=lambda file: file.first)
        sources.append(_level(files[first:end], tables, scan))
    return merge(sources, reverse)


def _level(files: list[FileMeta], tables: TableCache, scan: Scan) -> Iterator[Row]:
    """The rows of [scan.start, scan.stop) in files of one level, which ascend and don't overlap: one table after the other,
    the last one first if scan.reverse. Lazy: a table is opened when its first row is asked for."""
    for file in reversed(files) if scan.reverse else files:
        yield from tables.get(file).rows(scan.start, scan.stop, scan.reverse)
