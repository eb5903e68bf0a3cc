"""Level 0 by sequence: for tables whose numbers don't say which of them has the newer versions.

A flush makes the tables of level 0, one after the other, so the higher number is newer, and a reader may stop at the
first table that knows a key. But LevelDB's RepairDB puts every table of a store into level 0, under the number that it
had on whatever level: there, a compaction's output has a higher number than tables with newer versions. LevelDB's own
get and iterator disagree on such a store, until a compaction has gone over it; the iterator is right.

1. What decides between two versions of a key is the sequence, and nothing else.
2. The numbers decide, too, if for every two tables that share keys, the lowest sequence of the one with the higher
   number is above the highest of the other. Our tables carry both bounds (statistics.py). So our own stores are read in
   the order of numbers, and only stores that hold tables of LevelDB, or of RepairDB's making, by the functions here.
3. Deeper levels need none of this: what compaction puts there was closed under overlap on level 0.

A get that finds a level 0 of this kind asks every table that may have the key. A scan merges by sequence anyway.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from engines.errors import StoreError
from engines.lsm.keys import ABSENT, Found
from engines.lsm.table_cache import TableCache
from engines.lsm.version import FileMeta, Version

__all__ = ["by_number", "is_in_order", "lookup", "search"]


def is_in_order(version: Version, tables: TableCache) -> bool:
    """Rule 2, for a version's level 0. Opens tables that haven't been; a damaged one says nothing. Raises OSError.

    O(files²) the first time that a version is asked about, without a read of any data block; then O(1).
    """
    if version.level0_in_order is None:
        version.level0_in_order = all(
            _is_newer(newer, older, tables)
            for newer, older in combinations(version.levels[0], 2)
            if newer.overlaps(older.first, older.last)
        )
    return version.level0_in_order


def _is_newer(newer: FileMeta, older: FileMeta, tables: TableCache) -> bool:
    try:
        above, below = (file.statistics or tables.get(file).statistics for file in (newer, older))
    except StoreError:
        return False
    return above is not None and below is not None and above.min_sequence > below.max_sequence


def search(version: Version, tables: TableCache, key: bytes, sequence: int) -> Found:
    """The newest value of `key` not above `sequence` in level 0; None if that is a tombstone; ABSENT if there is none.

    O(files); at most one block read for each. Raises CorruptionError, OSError.
    """
    find = by_number if is_in_order(version, tables) else lookup
    return find(version.levels[0], tables, key, sequence)


def by_number(files: Sequence[FileMeta], tables: TableCache, key: bytes, sequence: int) -> Found:
    """The newest value of `key` not above `sequence` in any of the files; None if that is a tombstone; ABSENT if there is
    none.

    Requires: the files are in the order of a version's level 0, the newest first, and whatever one of them has of a key
    is newer than what later ones have (rule 2: `is_in_order` has looked). So no file is asked after one that knows the
    key, and none whose range doesn't include it (`FileMeta.overlaps`). O(files); at most one block read for each.
    """
    for file in files:
        if file.overlaps(key, key) and (found := tables.get(file).get(key, sequence)) is not ABSENT:
            return found
    return ABSENT


def lookup(files: Sequence[FileMeta], tables: TableCache, key: bytes, sequence: int) -> Found:
    """The newest value of `key` not above `sequence` in any of the files (rule 1); None if that is a tombstone.

    O(files); at most one block read for each.
    """
    rows = [tables.get(file).find(key, sequence) for file in files if file.overlaps(key, key)]
    newest = min((row for row in rows if row is not None), default=None)  # the newest row sorts first
    if newest is None:
        return ABSENT
    return None if newest.is_deletion else newest.value
