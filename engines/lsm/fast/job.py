"""Flush, compaction and load by chunks: `flush`, `compact` and `FastTableWriter` stand in for those of job.py."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain, compress, islice
from operator import itemgetter
from typing import Final

from engines.kvstore import Pair
from engines.lsm import job as plain
from engines.lsm.fast.block import shared_prefixes
from engines.lsm.fast.chunks import Rows, gathered, merge_rows, row_chunks_of, whole_keys
from engines.lsm.fast.memtable import FastMemTable
from engines.lsm.fast.sstable import FastTable
from engines.lsm.fast.table_builder import FastTableBuilder
from engines.lsm.job import Job, TableWriter, is_crowded
from engines.lsm.keys import DELETION, TRAILER_BYTES, VALUE, Row, pack_trailer, trailer_of
from engines.lsm.memtable import MemTable
from engines.lsm.table_cache import TableCache
from engines.lsm.version import FileMeta

__all__ = ["FastTableWriter", "compact", "flush"]

TRAILER_SLICE: Final = slice(-TRAILER_BYTES, None)
LOADED: Final = 1024  # pairs of a load that are taken together
ROUND: Final = 512  # rows of a source of a compaction that are taken together, some 50 KiB
_kind: Final = itemgetter(-TRAILER_BYTES)  # the lowest byte of an internal key's trailer


class FastTableWriter(TableWriter):
    """A TableWriter that takes many rows at once. A load: 3.5 µs -> 1.7 µs a pair."""

    new_builder = FastTableBuilder
    _last_internal = b""  # key of the last row, as stored

    def write_all(self, rows: Iterable[Row]) -> list[FileMeta]:
        return self.write_chunks(row_chunks_of(rows))

    def write_pairs(self, pairs: Iterable[Pair], sequence: int) -> list[FileMeta]:
        return self.write_chunks(_pair_chunks(iter(pairs), pack_trailer(sequence << 8 | VALUE)))

    def write_chunks(self, chunks: Iterable[Rows]) -> list[FileMeta]:
        """As `write_all`."""
        try:
            for chunk in chunks:
                if chunk[0]:
                    self._add_all(*chunk)
            return self.finish()
        except BaseException:
            self.abandon()
            raise

    def _add_all(self, keys: list[bytes], internal_keys: list[bytes], values: list[bytes]) -> None:
        gaps = self.gaps.among(keys[0] if self._builder is None else self.last, keys)
        begin = 0
        for end in gaps:
            if begin < end:
                self._add_part(keys[begin:end], internal_keys[begin:end], values[begin:end])
            self.cut()
            begin = end
        if begin:
            keys, internal_keys, values = keys[begin:], internal_keys[begin:], values[begin:]
        self._add_part(keys, internal_keys, values)

    def _add_part(self, keys: list[bytes], internal_keys: list[bytes], values: list[bytes]) -> None:
        """Rows between which no gap is."""
        shared = shared_prefixes(self._last_internal, internal_keys)
        at = 0
        while at < len(keys):
            self.cut_before(keys[at])
            builder = self.builder()
            assert isinstance(builder, FastTableBuilder)
            at = builder.add_all(keys, internal_keys, values, shared, at)
            self.last = keys[at - 1]
        self._last_internal = internal_keys[-1]


def _pair_chunks(pairs: Iterator[Pair], trailer: bytes) -> Iterator[Rows]:
    while part := list(islice(pairs, LOADED)):
        keys = [key for key, _ in part]
        yield keys, [key + trailer for key in keys], [value for _, value in part]


def flush(memtable: MemTable, smallest_snapshot: int, writer: TableWriter) -> list[FileMeta]:
    """As job.flush, a chunk at a time. Together with the writer: 4.2 µs a row -> 1.5 µs."""
    if not isinstance(writer, FastTableWriter) or not isinstance(memtable, FastMemTable):
        return plain.flush(memtable, smallest_snapshot, writer)
    crowded = is_crowded(memtable)
    if crowded and memtable.last_sequence > smallest_snapshot:
        return plain.flush(memtable, smallest_snapshot, writer)
    return writer.write_chunks(memtable.row_chunks(newest_only=crowded))


def compact(job: Job, writer: TableWriter, tables: TableCache) -> list[FileMeta]:
    """As job.compact, a round of the merge at a time. Together with the writer: 3.1 µs -> 1.5 µs a row, of which the reading of blocks is 0.5."""
    if not isinstance(writer, FastTableWriter):
        return plain.compact(job, writer, tables)
    sources = [whole_keys(gathered(_rows_of(files, tables), ROUND)) for files in job.runs]
    decide = _newest if job.max_sequence <= job.smallest_snapshot else _needed
    return writer.write_chunks(decide(pieces, job) for pieces in merge_rows(sources))


def _rows_of(files: Iterable[FileMeta], tables: TableCache) -> Iterator[Rows]:
    for file in files:
        table = tables.get(file)
        yield from table.row_chunks() if isinstance(table, FastTable) else row_chunks_of(table.all_rows())


def _newest(pieces: list[Rows], job: Job) -> Rows:
    """`_needed`, if no snapshot asks for anything but the newest version of each key: no row becomes an object of its own.

    A dict puts the rows together: 0.9 µs -> 0.25 µs a row, 0.15 µs where runs come newest first.
    """
    keys, stored, values = pieces[0] if len(pieces) == 1 else _concatenated(pieces)
    last = len(keys) - 1
    places = dict(zip(keys[::-1], range(last, -1, -1)))  # the first of equal keys is put last
    if len(places) < len(keys) and not job.newest_first:
        for at, key in enumerate(keys):
            other = places[key]
            if other != at and trailer_of(stored[at]) > trailer_of(stored[other]):
                places[key] = at
    if len(places) < len(keys) or len(pieces) > 1:
        keys = sorted(places)
        order = list(map(places.__getitem__, keys))
        stored = list(map(stored.__getitem__, order))
        values = list(map(values.__getitem__, order))
    kinds = list(map(_kind, stored))
    if DELETION in kinds:
        kept = [kind != DELETION or not job.is_base(key) for kind, key in zip(kinds, keys)]
        return list(compress(keys, kept)), list(compress(stored, kept)), list(compress(values, kept))
    return keys, stored, values


def _concatenated(pieces: list[Rows]) -> Rows:
    keys, stored, values = zip(*pieces)
    return list(chain.from_iterable(keys)), list(chain.from_iterable(stored)), list(chain.from_iterable(values))


def _needed(pieces: list[Rows], job: Job) -> Rows:
    """What is kept of one round: rules 1 and 2 of job.py."""
    rows = [
        (key, -int.from_bytes(internal_key[TRAILER_SLICE], "little"), internal_key, value)
        for piece in pieces
        for key, internal_key, value in zip(*piece)
    ]
    rows.sort()
    snapshot = job.smallest_snapshot
    kept: Rows = ([], [], [])
    current: bytes | None = None
    hidden = False  # a version of the current key that is not above the snapshot has been seen
    for key, negated, internal_key, value in rows:
        if key != current:
            current, hidden = key, False
        elif hidden:
            continue
        sequence, kind = -negated >> 8, -negated & 255
        hidden = sequence <= snapshot
        if hidden and not kind and job.is_base(key):
            continue
        kept[0].append(key)
        kept[1].append(internal_key)
        kept[2].append(value)
    return kept
