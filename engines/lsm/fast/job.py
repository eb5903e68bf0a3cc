"""A compaction by chunks: `compact` and `FastTableWriter` stand in for those of job.py."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from engines.lsm import job as plain
from engines.lsm.fast.chunks import Rows, merge_rows, row_chunks_of, whole_keys
from engines.lsm.fast.sstable import FastTable
from engines.lsm.fast.table_builder import FastTableBuilder
from engines.lsm.job import Job, TableWriter, keep_compression
from engines.lsm.keys import TRAILER_BYTES, Row
from engines.lsm.table_cache import TableCache
from engines.lsm.version import FileMeta

__all__ = ["FastTableWriter", "compact"]

TRAILER_SLICE: Final = slice(-TRAILER_BYTES, None)


class FastTableWriter(TableWriter):
    """A TableWriter that takes many rows at once."""

    new_builder = FastTableBuilder

    def write_all(self, rows: Iterable[Row]) -> list[FileMeta]:
        return self.write_chunks(row_chunks_of(rows))

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
        at = 0
        while at < len(keys):
            self.cut_before(keys[at])
            builder = self.builder()
            assert isinstance(builder, FastTableBuilder)
            at = builder.add_all(keys, internal_keys, values, at)
            self.last = keys[at - 1]


def compact(job: Job, writer: TableWriter, tables: TableCache) -> list[FileMeta]:
    """As job.compact, a round of the merge at a time. Together with the writer: 3.8 µs -> 2.0 µs a row."""
    if not isinstance(writer, FastTableWriter):
        return plain.compact(job, writer, tables)
    keep_compression(job, writer, tables)
    sources = [whole_keys(_rows_of(files, tables)) for files in job.runs]
    return writer.write_chunks(_needed(pieces, job) for pieces in merge_rows(sources))


def _rows_of(files: Iterable[FileMeta], tables: TableCache) -> Iterator[Rows]:
    for file in files:
        table = tables.get(file)
        yield from table.row_chunks() if isinstance(table, FastTable) else row_chunks_of(table.all_rows())


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
