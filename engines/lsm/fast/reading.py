"""A get that looks before it calls, and a scan by chunks that skips ranges known to be empty.

`lookup` and `pairs` stand in for those of state.py. A memtable has an index (fast/memtable.py): a dict lookup says whether it
has a key.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence

from engines.kvstore import Pair, Usable
from engines.lsm import level0
from engines.lsm.fast.bloom import probe
from engines.lsm.fast.chunks import Chunk, chunked, chunks_of, merge_chunks
from engines.lsm.fast.sstable import FastTable
from engines.lsm.fast.tombstones import EmptyRanges, Run
from engines.lsm.keys import ABSENT, Found
from engines.lsm.merge import visible
from engines.lsm.state import Scan, State, View, check_open, rows
from engines.lsm.table_cache import TableCache
from engines.lsm.version import FileMeta

__all__ = ["lookup", "pairs"]


def lookup(state: State, tables: TableCache, key: bytes, sequence: int) -> Found:
    """As state.lookup, without a call for each step, and with one probe for all filters of level 0 (bloom.py).

    2.2 µs -> 1.1 µs, with a fast table; a key that is in none of nine tables: 7.1 µs -> 2.7 µs.
    """
    memtable = state.memtable
    try:
        is_here = key in memtable.index  # type: ignore[attr-defined]
    except AttributeError:  # a plain memtable has no index
        is_here = True
    if is_here and (found := memtable.get(key, sequence)) is not ABSENT:
        return found
    _, frozen, version = state
    for older in frozen:
        if (found := older.get(key, sequence)) is not ABSENT:
            return found
    files = version.levels[0]
    if files:
        in_order = version.level0_in_order or level0.is_in_order(version, tables)
        look = _in_level0 if in_order else level0.lookup
        if (found := look(files, tables, key, sequence)) is not ABSENT:
            return found
    opened = tables.opened
    for files, lasts in version.sorted_levels:
        at = bisect_left(lasts, key)
        while at < len(files) and (file := files[at]).first <= key:
            try:
                table = opened[file.number]
            except KeyError:
                table = tables.get(file)
            if (found := table.get(key, sequence)) is not ABSENT:
                return found
            at += 1
    return ABSENT


def _in_level0(files: Sequence[FileMeta], tables: TableCache, key: bytes, sequence: int) -> Found:
    """As level0.by_number, with one probe for all filters."""
    place, pattern = probe(key)
    opened = tables.opened
    denied = 0
    found: Found = ABSENT
    for file in files:
        if file.first <= key <= file.last:
            try:
                table = opened[file.number]
            except KeyError:
                table = tables.get(file)
            if type(table) is FastTable and (blocks := table.filter) is not None:
                if blocks[place % len(blocks)] & pattern != pattern:
                    denied += 1
                    continue
                found = table.get(key, sequence, True)
            else:
                found = table.get(key, sequence)
            if found is not ABSENT:
                break
    tables.counters.filter_hits += denied
    return found


def pairs(
    state: State, tables: TableCache, scan: Scan, usable: Usable, view: View | None, owner: object
) -> Iterator[Pair]:
    """As state.pairs, a chunk at a time, and without the ranges that an earlier scan has found empty (tombstones.py).

    2.3 µs -> 0.09 µs a pair, with fast tables.
    """
    check_open(usable, view)
    start, stop, sequence, reverse = scan
    ranges: EmptyRanges | None = getattr(state.memtable, "empty_ranges", None)  # a plain memtable keeps none
    if ranges is not None and ranges.known is not None:
        left = ranges.narrow(start, stop, sequence, reverse)
        if left is None:
            return
        start, stop = left
    run: Run | None = None
    is_first = True
    while True:
        for keys, values in _chunks(state, tables, start, stop, sequence, reverse):
            if run is not None and values[0] is not None:
                run.end(keys[0])
            rest = zip(keys, values)
            for pair in rest:
                if usable.closed or usable.failure is not None or (view is not None and not view.is_open):
                    check_open(usable, view)
                if pair[1] is None:
                    if run is None:
                        at_start = is_first and pair[0] is keys[0]
                        run = Run(ranges, tables.counters, start, stop, sequence, reverse, at_start)
                    live = run.step(pair[0], rest)
                    if live is None:
                        break
                    pair = live
                yield pair  # type: ignore[misc]
            if usable.closed or (view is not None and not view.is_open):
                check_open(usable, view)  # before the next block is read
            is_first = False
            if run is not None and (left := run.beyond(keys[-1])) is not None:
                start, stop = left  # what lies between is known to be empty: the scan goes on after it
                break
        else:
            break
    if run is not None:
        run.end(None)


def _chunks(
    state: State, tables: TableCache, start: bytes, stop: bytes | None, sequence: int, reverse: bool
) -> Iterator[Chunk]:
    """The merged chunks of a range. The tables of level 0 are opened here."""
    memtable, frozen, version = state
    if version.splits_keys or not (version.level0_in_order or level0.is_in_order(version, tables)):
        return chunked(visible(rows(state, tables, Scan(start, stop, sequence, reverse)), sequence))
    sources = [chunks_of(each, start, stop, sequence, reverse) for each in (memtable, *frozen) if each.size_bytes]
    for file in version.levels[0]:
        if file.last >= start and (stop is None or file.first < stop):
            sources.append(chunks_of(tables.get(file), start, stop, sequence, reverse))
    for files, lasts in version.sorted_levels:
        first = bisect_left(lasts, start)
        end = len(files) if stop is None else bisect_left(files, stop, key=lambda file: file.first)
        if first + 1 == end:
            sources.append(chunks_of(tables.get(files[first]), start, stop, sequence, reverse))
        elif first < end:
            sources.append(_level(files[first:end], tables, start, stop, sequence, reverse))
    return sources[0] if len(sources) == 1 else merge_chunks(sources, reverse)


def _level(
    files: list[FileMeta], tables: TableCache, start: bytes, stop: bytes | None, sequence: int, reverse: bool
) -> Iterator[Chunk]:
    for file in reversed(files) if reverse else files:
        yield from chunks_of(tables.get(file), start, stop, sequence, reverse)
