"""The work of a flush and of a compaction: sorted rows in, tables out.

    flush        rows of a memtable ─────────────────────────────► tables of level 0
    compaction   rows of the inputs ──merge──drop what nobody needs──► tables of the output level

What may be dropped, of the versions of one user key, newest first:

1. A version behind one that is itself not above the smallest snapshot: everybody who can see it sees the newer one.
2. A tombstone that is not above the smallest snapshot, if no deeper level has a file whose range includes the key:
   (a) deeper, there is nothing that it hides; (b) what it hides in the inputs goes by rule 1; (c) above, everything is
   newer. So without it the key is as absent as with it.

A flush applies rule 1, and only if a key has four versions on average or more: a counter that is overwritten all the
time would fill a table of level 0 with them, and each scan would have to step over all. Otherwise it writes what is
there, as LevelDB does.

Where a table is cut:

3. At the size limit, or when it overlaps more than ten files' size of the level below the output's: otherwise its own
   compaction would be too large. Looked at after each data block.
4. Never between two versions of a user key.

A job is made of numbers, ranges and file metas only, so that it can be done by another process: what it reads never
changes, what it writes has numbers that nobody else has, and only the store that asked for it knows its result.
Follows DoCompactionWork in LevelDB's db/db_impl.cc.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from engines.env import Env
from engines.lsm.compaction import GRANDPARENT_FILES, Compaction
from engines.lsm.compression import can_write
from engines.lsm.files import begin_file, table_name
from engines.lsm.iterator import merge_rows, whole_keys
from engines.lsm.keys import TRAILER_BYTES, order, trailer_of
from engines.lsm.memtable import MemTable, Rows
from engines.lsm.options import LEVELS, Options
from engines.lsm.sstable import Table
from engines.lsm.table_builder import TableBuilder
from engines.lsm.version import FileMeta, Version

__all__ = ["Job", "TableWriter", "kept", "rows_to_flush", "run"]

Ranges = list[tuple[bytes, bytes]]  # first and last user key of files, ascending
CROWDED: Final = 4  # versions for each key, on average, from which a flush leaves out the older ones
TRAILER_SLICE: Final = slice(-TRAILER_BYTES, None)


@dataclass(frozen=True, slots=True)
class Job:
    """What a compaction has to do. `runs`: sources, newest first; the files of each ascend and don't overlap.

    `deeper`: for each level below the output's, the ranges of its files; `grandparents`: (last user key, size) of the
    files in the level just below the output's. No row of the inputs is above `max_sequence` or below `min_sequence`, none
    of any table above `last_sequence`. in_order: of two runs that have a key, the first one has its newer versions.
    """

    runs: list[list[FileMeta]]
    deeper: list[Ranges]
    grandparents: list[tuple[bytes, int]]
    smallest_snapshot: int
    max_sequence: int
    last_sequence: int
    min_sequence: int = 0
    in_order: bool = True

    @classmethod
    def of(
        cls,
        compaction: Compaction,
        version: Version,
        smallest_snapshot: int,
        last_sequence: int,
        in_order: bool = True,
    ) -> Job:
        """The job of a compaction. last_sequence: no table has a higher sequence. in_order: of level 0 (level0.py)."""
        upper = compaction.upper
        runs = [[file] for file in sorted(upper, key=lambda file: -file.number)] if compaction.level == 0 else [upper]
        runs = [sorted(run, key=lambda file: order(file.smallest)) for run in [*runs, compaction.lower] if run]
        known = [file.statistics.max_sequence if file.statistics else last_sequence for run in runs for file in run]
        least = min(file.statistics.min_sequence if file.statistics else 0 for run in runs for file in run)
        first = min(file.first for run in runs for file in run)
        last = max(file.last for run in runs for file in run)
        deeper = [
            [(file.first, file.last) for file in version.overlapping(level, first, last)]
            for level in range(compaction.output_level + 1, LEVELS)
        ]
        grandparents = [(file.last, file.size_bytes) for file in compaction.grandparents]
        deeper = [ranges for ranges in deeper if ranges]
        in_order = in_order or compaction.level > 0
        return cls(runs, deeper, grandparents, smallest_snapshot, max(known), last_sequence, least, in_order)

    def most_tables(self, max_file_bytes: int) -> int:
        """More tables than the job will make, as a rule: of the size limit's, and of the grandparents'."""
        size = sum([file.size_bytes for run in self.runs for file in run])
        return 2 * (size // max_file_bytes) + len(self.grandparents) + 2

    def is_base(self, key: bytes) -> bool:
        """True if no deeper level may hold the user key (rule 2). O(log files)."""
        for ranges in self.deeper:
            at = bisect_left(ranges, key, key=lambda bounds: bounds[1])
            if at < len(ranges) and ranges[at][0] <= key:
                return False
        return True


class TableWriter:
    """Writes rows to as many tables as it takes. `bytes_written` and `fsyncs` are for the store's counters.

    numbers: of the tables, one at a time; the table number `max_tables` is not cut any more.
    suffix: behind the names of the files (worker.py).
    """

    def __init__(
        self,
        env: Env,
        directory: str,
        options: Options,
        max_sequence: int | None,
        numbers: Iterator[int],
        site: str,
        grandparents: Sequence[tuple[bytes, int]] = (),
        max_tables: int = 1 << 30,
        suffix: str = "",
        min_sequence: int = 0,
    ) -> None:
        self._env = env
        self._directory = directory
        self._options = options
        self._max_sequence = max_sequence
        self._min_sequence = min_sequence
        self._numbers = numbers
        self._site = site
        self._grandparents = grandparents
        self._passed = 0  # grandparents that lie before the last row
        self._overlap_bytes = 0  # size of those that the current table overlaps
        self._builder: TableBuilder | None = None
        self._number = 0
        self._max_tables = max_tables
        self._suffix = suffix
        self.keeps = options.compression == "keep"
        self.compression: str | None = None if self.keeps else options.compression  # of the tables to come
        self.files: list[FileMeta] = []
        self.bytes_written = 0
        self.fsyncs = 0

    def add(self, rows: Rows) -> None:
        """Appends rows. Requires: they follow what was added before. Raises OSError."""
        keys, internal_keys, values = rows
        at, end = 0, len(keys)
        while at < end:
            if self._builder is None:
                self._begin()
            assert self._builder is not None
            at = self._builder.add(keys, internal_keys, values, at)
            if self._is_full(keys[at - 1]) and (at == end or keys[at] != keys[at - 1]):
                self._end()

    def write_all(self, stream: Iterable[Rows]) -> list[FileMeta]:
        """`add` of everything, and `finish`. Whatever the stream raises comes out; nothing stays open."""
        try:
            for rows in stream:
                if rows[0]:
                    self.add(rows)
            return self.finish()
        except BaseException:
            self.abandon()
            raise

    def _begin(self) -> None:
        self._number = next(self._numbers)
        self._file = begin_file(self._env, f"{self._directory}/{table_name(self._number)}{self._suffix}")
        self._builder = TableBuilder(
            self._file, self._options, self._max_sequence, self._min_sequence, self.compression
        )
        self._overlap_bytes = 0

    def _is_full(self, key: bytes) -> bool:
        """Rule 3, after the row with the user key `key`."""
        assert self._builder is not None
        while self._passed < len(self._grandparents) and self._grandparents[self._passed][0] < key:
            self._overlap_bytes += self._grandparents[self._passed][1]
            self._passed += 1
        if len(self.files) + 1 >= self._max_tables:
            return False
        limit = self._options.max_file_bytes
        return self._builder.size_bytes >= limit or self._overlap_bytes > GRANDPARENT_FILES * limit

    def _end(self) -> None:
        assert self._builder is not None
        info = self._builder.finish(self._site)
        self._file.close()
        self._builder = None
        self.files.append(FileMeta.of(self._number, info))
        self.bytes_written += info.size_bytes
        self.fsyncs += 1

    def finish(self) -> list[FileMeta]:
        """Ends the last table, and returns them all: synced, but not their names. Raises OSError."""
        if self._builder is not None:
            self._end()
        return self.files

    def abandon(self) -> None:
        """Closes the table that is being written: after a failure. The files are garbage for the next open."""
        if self._builder is not None:
            self._file.close()
            self._builder = None


def run(job: Job, writer: TableWriter, open_table: Callable[[FileMeta], Table]) -> list[FileMeta]:
    """Does the job; returns the new tables, which may be none. Raises OSError, CorruptionError.

    O(rows of the inputs); some 2.5 µs each.
    """
    if writer.keeps:
        writer.compression = kept(open_table(file).compression() for files in reversed(job.runs) for file in files)
    sources = [whole_keys(_rows_of(files, open_table)) for files in job.runs]
    keep = _newest if job.in_order and job.max_sequence <= job.smallest_snapshot else _needed
    return writer.write_all(keep(pieces, job) for pieces in merge_rows(sources))


def rows_to_flush(memtable: MemTable, smallest_snapshot: int) -> Iterator[Rows]:
    """The rows of a memtable, without the older versions that nobody needs if those are many. O(rows).

    Requires: no reader of what is written asks for less than `smallest_snapshot`.
    """
    if len(memtable) < CROWDED * len(memtable.index):
        return memtable.row_chunks()
    return _without_hidden(memtable.row_chunks(), smallest_snapshot)


def _without_hidden(rows: Iterable[Rows], snapshot: int) -> Iterator[Rows]:
    """Rule 1."""
    current: bytes | None = None
    hidden = False  # a version of the current key that is not above the snapshot has been seen
    for piece in rows:
        kept: Rows = ([], [], [])
        for key, internal_key, value in zip(*piece):
            if key != current:
                current, hidden = key, False
            elif hidden:
                continue
            hidden = trailer_of(internal_key) >> 8 <= snapshot
            kept[0].append(key)
            kept[1].append(internal_key)
            kept[2].append(value)
        yield kept


def kept(found: Iterable[str | None]) -> str | None:
    """The first compression of several tables' that can be written: for the option "keep" (compression.py, rule 3)."""
    return next((name for name in found if name is not None and can_write(name)), None)


def _rows_of(files: Iterable[FileMeta], open_table: Callable[[FileMeta], Table]) -> Iterator[Rows]:
    for file in files:
        yield from open_table(file).row_chunks()


def _newest(pieces: list[Rows], job: Job) -> Rows:
    """The rows of one round when no snapshot is older than any of them, and the job is in order: the newest version of
    each key.

    Older pieces first into a dict, newer ones over them; within a piece the newest version comes first, hence backwards.
    """
    merged: dict[bytes, tuple[bytes, bytes]] = {}
    for keys, internal_keys, values in reversed(pieces):
        merged.update(zip(reversed(keys), zip(reversed(internal_keys), reversed(values))))
    order_of_keys = sorted(merged)
    survivors = [merged[key] for key in order_of_keys]
    internal_keys = [row[0] for row in survivors]
    if 0 in [key[-TRAILER_BYTES] for key in internal_keys]:
        kept = [
            (key, row) for key, row in zip(order_of_keys, survivors) if row[0][-TRAILER_BYTES] or not job.is_base(key)
        ]
        return [key for key, _ in kept], [row[0] for _, row in kept], [row[1] for _, row in kept]
    return order_of_keys, internal_keys, [row[1] for row in survivors]


def _needed(pieces: list[Rows], job: Job) -> Rows:
    """The rows of one round when snapshots may need older versions, or only sequences say which is newer: rules 1 and 2,
    row by row."""
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
