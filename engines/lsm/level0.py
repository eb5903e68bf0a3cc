"""Level 0 by sequence: for tables whose numbers don't say which of them has the newer versions.

A flush makes the tables of level 0, one after the other, so the higher number is newer, and a reader may stop at the
first table that knows a key. But LevelDB's RepairDB puts every table of a store into level 0, under the number that it
had on whatever level: there, a compaction's output has a higher number than tables with newer versions. LevelDB's own
get and iterator disagree on such a store, until a compaction has gone over it; the iterator is right.

1. What decides between two versions of a key is the sequence, and nothing else.
2. The numbers decide as well if for every two tables that share keys, the lowest sequence of the one with the higher
   number is above the highest of the other. Our tables carry both bounds (statistics.py). So our own stores are read in
   the order of numbers, and only stores that hold tables of LevelDB, or of RepairDB's making, by the functions here.
3. Deeper levels need nothing of this: what compaction puts there was closed under overlap on level 0.

Here every table that may have the key is asked, and a scan of level 0 is one source, merged by sequence.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations

from engines.errors import StoreError
from engines.lsm.block import Block
from engines.lsm.iterator import merge_chunks
from engines.lsm.keys import ABSENT, Found
from engines.lsm.memtable import Chunk
from engines.lsm.sstable import Table
from engines.lsm.version import FileMeta

__all__ = ["chunks", "is_in_order", "lookup"]

OpenTable = Callable[[FileMeta], Table]
Row = tuple[bytes, int, bytes | None]  # user key, trailer, value or tombstone
Ranked = tuple[list[bytes], list[tuple[int, bytes | None]]]  # user keys; trailer, and value or tombstone, of each


def is_in_order(files: Sequence[FileMeta], open_table: OpenTable) -> bool:
    """Rule 2, for the files of level 0, those with higher numbers first. Opens tables that haven't been; a damaged one
    says nothing. Raises OSError. O(files²), without a read of any data block."""
    return all(
        _is_newer(newer, older, open_table)
        for newer, older in combinations(files, 2)
        if newer.overlaps(older.first, older.last)
    )


def _is_newer(newer: FileMeta, older: FileMeta, open_table: OpenTable) -> bool:
    for file in (newer, older):
        if file.statistics is None:
            try:
                open_table(file)  # fills in the statistics, if it has any
            except StoreError:
                return False
    if newer.statistics is None or older.statistics is None:
        return False
    return newer.statistics.min_sequence > older.statistics.max_sequence


def lookup(files: Sequence[FileMeta], open_table: OpenTable, key: bytes, sequence: int) -> Found:
    """The newest value of `key` not above `sequence` in any of the files (rule 1); None if that is a tombstone.

    O(files); at most one block read for each.
    """
    newest = -1
    found: Found = ABSENT
    for file in files:
        if file.first <= key <= file.last:
            version = _find(open_table(file), key, sequence)
            if version is not None and version[0] > newest:
                newest, found = version
    return found


def _find(table: Table, key: bytes, sequence: int) -> tuple[int, bytes | None] | None:
    """(trailer, value or None for a tombstone) of the table's newest version of `key` not above `sequence`, if any."""
    if not table.may_contain(key):
        return None
    for block in table.blocks_of(key, key, False):
        for at in range(bisect_left(block.keys, key), bisect_right(block.keys, key)):
            trailer = block.trailer(at)
            if trailer >> 8 <= sequence:
                return trailer, (block.values[at] if trailer & 255 else None)
    return None


def chunks(
    files: Sequence[FileMeta], open_table: OpenTable, start: bytes, stop: bytes | None, sequence: int, reverse: bool
) -> Iterator[Chunk]:
    """What the files have of [start, stop) as of `sequence`: one source of a scan. The tables are opened at the call."""
    tables = [open_table(file) for file in files if file.last >= start and (stop is None or file.first < stop)]
    return _merged([_ranked(table, start, stop, sequence, reverse) for table in tables], reverse)


def _merged(sources: list[Iterator[Ranked]], reverse: bool) -> Iterator[Chunk]:
    for keys, ranked in merge_chunks(sources, reverse, _newest):
        yield keys, [value for _, value in ranked]


def _newest(pieces: list[Ranked], reverse: bool) -> Ranked:
    """One chunk of several: of each key the version with the highest trailer."""
    merged: dict[bytes, tuple[int, bytes | None]] = {}
    for keys, ranked in pieces:
        for key, version in zip(keys, ranked):
            if key not in merged or version[0] > merged[key][0]:
                merged[key] = version
    keys = sorted(merged, reverse=reverse)
    return keys, [merged[key] for key in keys]


def _ranked(table: Table, start: bytes, stop: bytes | None, sequence: int, reverse: bool) -> Iterator[Ranked]:
    """The keys of one table, each with its newest version that may be seen; each key in one chunk only."""
    limit = sequence << 8 | 255
    for rows in _whole_keys(table.blocks_of(start, stop, reverse), reverse):
        newest: dict[bytes, tuple[int, bytes | None]] = {}
        for key, trailer, value in rows:  # the newest version of a key comes first
            if trailer <= limit and key not in newest and key >= start and (stop is None or key < stop):
                newest[key] = trailer, value
        if newest:
            keys = list(newest)
            ranked = list(newest.values())
            yield (keys[::-1], ranked[::-1]) if reverse else (keys, ranked)


def _whole_keys(blocks: Iterator[Block], reverse: bool) -> Iterator[list[Row]]:
    """The blocks' rows, ascending within a list; no user key is in two lists."""
    held: list[Row] = []
    for block in blocks:
        rows: list[Row] = [
            (key, trailer, value if trailer & 255 else None)
            for key, trailer, value in zip(block.keys, block.trailer_numbers(), block.values)
        ]
        if reverse:
            rows += held
            cut = next((at for at, row in enumerate(rows) if row[0] != rows[0][0]), len(rows))
            yield rows[cut:]
            held = rows[:cut]
        else:
            rows = held + rows
            cut = next((at for at in range(len(rows) - 1, -1, -1) if rows[at][0] != rows[-1][0]), -1) + 1
            yield rows[:cut]
            held = rows[cut:]
    yield held
