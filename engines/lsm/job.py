"""The work of a flush and of a compaction: sorted rows in, tables out.

    flush        rows of a memtable ─────────────────────────────────► tables of level 0
    compaction   rows of the inputs ──merge──drop what nobody needs──► tables of the output level

What may be dropped, of the versions of one user key, newest first:

1. A version after one that is itself not above the smallest snapshot: each reader who can see it sees the newer one.
2. A tombstone that is not above the smallest snapshot, if no deeper level has a file whose range includes the key:
   (a) deeper, there is nothing that it hides; (b) what it hides in the inputs goes by rule 1; (c) above, everything is
   newer. So without it the key is as absent as with it.

A flush applies rule 1, and only if a key has 1.4 versions on average or more: a counter that is overwritten all the
time would fill a table of level 0 with them, each scan would have to step over all, and the next compaction would read
them. Otherwise it writes what is there, as LevelDB does.

Where a table is cut:

3. At the size limit, or when it overlaps more than ten files' size of the level below the output's: otherwise its own
   compaction would be too large. Looked at after each data block.
4. Never between two versions of a user key.
5. Where a whole file's size of the level below lies between two keys (gaps.py).

A job is made of numbers, ranges and file metas only, so that it can be done by another process: what it reads never
changes, what it writes has numbers that no other file has, and only the store that asked for it knows its result.
Follows DoCompactionWork in LevelDB's db/db_impl.cc.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from operator import attrgetter
from typing import ClassVar, Final

from engines.env import Env
from engines.kvstore import Pair
from engines.lsm.compaction import GRANDPARENT_FILES, Compaction
from engines.lsm.compression import can_write
from engines.lsm.files import begin_file, table_name
from engines.lsm.gaps import Gaps
from engines.lsm.keys import Row, order
from engines.lsm.memtable import MemTable
from engines.lsm.merge import merge, versions_by_key
from engines.lsm.options import LEVELS, Options
from engines.lsm.statistics import TableStatistics
from engines.lsm.table_builder import TableBuilder
from engines.lsm.table_cache import TableCache
from engines.lsm.version import FileMeta, Version

__all__ = ["Job", "TableWriter", "compact", "flush", "is_crowded", "keep_compression", "kept", "needed"]

Ranges = list[tuple[bytes, bytes]]  # first and last user key of files, ascending
Statistics = Callable[[FileMeta], TableStatistics | None]
CROWDED: Final = 1.4  # versions for each key, on average, from which a flush leaves out the older ones


@dataclass(frozen=True, slots=True)
class Job:
    """What a compaction has to do. `runs`: sources, newest first; the files of each ascend and don't overlap.

    `deeper`: for each level below the output's, the ranges of its files; `grandparents`: (last user key, size) of the
    files in the level just below the output's. No row of the inputs is above `max_sequence` or below `min_sequence`, none
    of any table above `last_sequence`. `newest_first`: of two versions of a key, the newer one is in the earlier run. It
    holds for levels, and in level 0 for tables of ours (level0.py).
    """

    runs: list[list[FileMeta]]
    deeper: list[Ranges]
    grandparents: list[tuple[bytes, int]]
    smallest_snapshot: int
    max_sequence: int
    last_sequence: int
    min_sequence: int = 0
    newest_first: bool = False

    @classmethod
    def of(
        cls,
        compaction: Compaction,
        version: Version,
        smallest_snapshot: int,
        last_sequence: int,
        statistics: Statistics = attrgetter("statistics"),
    ) -> Job:
        """The job of a compaction. last_sequence: no table has a higher sequence.

        statistics: what a table says about itself, as far as it is known without opening it.
        """
        upper = compaction.upper
        runs = [[file] for file in sorted(upper, key=lambda file: -file.number)] if compaction.level == 0 else [upper]
        runs = [sorted(run, key=lambda file: order(file.smallest)) for run in [*runs, compaction.lower] if run]
        known = [statistics(file) for run in runs for file in run]
        highest = max(each.max_sequence if each is not None else last_sequence for each in known)
        lowest = min(each.min_sequence if each is not None else 0 for each in known)
        first = min(file.first for run in runs for file in run)
        last = max(file.last for run in runs for file in run)
        deeper = [
            [(file.first, file.last) for file in version.overlapping(level, first, last)]
            for level in range(compaction.output_level + 1, LEVELS)
        ]
        grandparents = [(file.last, file.size_bytes) for file in compaction.grandparents]
        deeper = [ranges for ranges in deeper if ranges]
        level0 = known[: len(upper)] if compaction.level == 0 else []
        newest_first = all(
            above is not None and below is not None and above.min_sequence > below.max_sequence
            for above, below in pairwise(level0)
        )
        return cls(runs, deeper, grandparents, smallest_snapshot, highest, last_sequence, lowest, newest_first)

    def most_tables(self, max_file_bytes: int) -> int:
        """More tables than the job will make, as a rule: of the size limit's, and of the grandparents'."""
        return 2 * (self.size_bytes // max_file_bytes) + len(self.grandparents) + 2

    @property
    def size_bytes(self) -> int:
        """Of the inputs."""
        return sum([file.size_bytes for run in self.runs for file in run])

    def is_base(self, key: bytes) -> bool:
        """True if no level below the output's may hold the user key (rule 2).

        `deeper` has, for each such level, its files' ranges as (first user key, last user key), ascending and disjoint;
        both ends belong to a range. O(log files) for each level, by bisection.
        """
        for ranges in self.deeper:
            at = bisect_left(ranges, key, key=lambda bounds: bounds[1])
            if at < len(ranges) and ranges[at][0] <= key:
                return False
        return True


class TableWriter:
    """Writes rows to as many tables as it takes. `bytes_written` and `fsyncs` are for the store's counters.

    numbers: of the tables, one at a time; the table number `max_tables` is not cut any more.
    suffix: is appended to the names of the files (worker.py). gaps: of rule 5; if not given, those of `grandparents`.
    """

    new_builder: ClassVar[type[TableBuilder]] = TableBuilder

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
        gaps: Gaps | None = None,
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
        self.gaps = gaps or Gaps(grandparents, options.max_file_bytes)
        self._builder: TableBuilder | None = None
        self._number = 0
        self.last = b""  # user key of the last row
        self._max_tables = max_tables
        self._suffix = suffix
        self.keeps = options.compression == "keep"
        self.compression: str | None = None if self.keeps else options.compression  # of the tables to come
        self.files: list[FileMeta] = []
        self.bytes_written = 0
        self.user_bytes = 0  # of it, user keys and values
        self.fsyncs = 0

    def add(self, row: Row) -> None:
        """Appends a row. Requires: it follows what was added before. Raises OSError."""
        if self._builder is not None and self.gaps.between(self.last, row.key):
            self.cut()
        self.cut_before(row.key)
        self.builder().add(row)
        self.last = row.key

    def cut_before(self, key: bytes) -> None:
        """Ends the table if it is full, and the next row, whose user key is `key`, may go to another one (rules 3 and
        4).

        Called before each row. `_builder` is the table's, None if none has begun; its `is_block_end` says that the next
        row would begin a block; `last` is the user key of the row before. `_end()` ends the table; the next row begins
        another. Raises OSError: from `_end`. O(1).
        """
        builder = self._builder
        if builder is not None and builder.is_block_end and key != self.last and self.is_full():
            self._end()

    def cut(self) -> None:
        """Ends the table, if one has begun and it isn't the last one that there may be. Raises OSError."""
        if self._builder is not None and len(self.files) + 1 < self._max_tables:
            self._end()

    def write_all(self, rows: Iterable[Row]) -> list[FileMeta]:
        """Adds all rows, and ends the last table; returns all tables: synced, but not their names.

        Raises OSError, and what the rows raise; nothing stays open then, and the files are garbage for the next open.
        """
        try:
            for row in rows:
                self.add(row)
            return self.finish()
        except BaseException:
            self.abandon()
            raise

    def write_pairs(self, pairs: Iterable[Pair], sequence: int) -> list[FileMeta]:
        """As `write_all`, for pairs that ascend and that are all written with one sequence: a load."""
        return self.write_all(Row.of(key, sequence, value) for key, value in pairs)

    def builder(self) -> TableBuilder:
        """Of the current table, which is begun if there is none."""
        if self._builder is None:
            self._begin()
        assert self._builder is not None
        return self._builder

    def _begin(self) -> None:
        self._number = next(self._numbers)
        self._file = begin_file(self._env, f"{self._directory}/{table_name(self._number)}{self._suffix}")
        self._builder = self.new_builder(
            self._file, self._options, self._max_sequence, self._min_sequence, self.compression
        )
        self._overlap_bytes = 0

    def is_full(self) -> bool:
        """Rule 3, after the row with the user key `last`: True if the table has reached `max_file_bytes`, or overlaps
        more than GRANDPARENT_FILES times that of grandparents.

        `_grandparents` are (last user key, size in bytes), ascending. One that ends before `last` lies before the next
        row: it is passed, once and for all (`_passed` counts them), and its size is added to `_overlap_bytes`, which
        `_begin` sets to 0. The table number `_max_tables` is never full (`files` are those that have ended): a worker
        has only so many numbers. Requires: a table has begun. Amortised O(1).
        """
        assert self._builder is not None
        while self._passed < len(self._grandparents) and self._grandparents[self._passed][0] < self.last:
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
        self.user_bytes += info.statistics.key_bytes + info.statistics.value_bytes
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


def compact(job: Job, writer: TableWriter, tables: TableCache) -> list[FileMeta]:
    """Does the job; returns the new tables, which may be none. Raises OSError, CorruptionError.

    One source for each run of `job.runs`: the rows of its files, one file after the other (`rows_of`). They are merged,
    `needed` says which rows stay, `writer.write_all` makes tables of them. Requires: no run's files overlap (`Job.of`).
    O(rows of the inputs), and log of the number of sources for each; O(1) memory: nothing is made a list.
    """
    sources = [rows_of(files, tables) for files in job.runs]
    return writer.write_all(needed(merge(sources), job.smallest_snapshot, job.is_base))


def flush(memtable: MemTable, smallest_snapshot: int, writer: TableWriter) -> list[FileMeta]:
    """Writes the rows of a memtable, without the older versions that no reader needs, if those are many. O(rows).

    Requires: no reader of what is written asks for less than `smallest_snapshot`.
    """
    rows = memtable.rows()
    return writer.write_all(needed(rows, smallest_snapshot) if is_crowded(memtable) else rows)


def needed(
    rows: Iterable[Row], smallest_snapshot: int, is_base: Callable[[bytes], bool] = lambda key: False
) -> Iterator[Row]:
    """The rows that a reader may ask for, in order: rules 1 and 2.

    rows: all versions of each user key, the newest first (`merge` sees to that). smallest_snapshot: no reader asks for
    less than this sequence. is_base: says that no deeper level may hold a user key; asked only about a tombstone that
    is not above `smallest_snapshot`. So a key has at most one row left that is not above it. Lazy; O(1) memory; O(1) a
    row.
    """
    for key, versions in versions_by_key(rows):
        for row in versions:
            is_seen_by_all = row.sequence <= smallest_snapshot
            if not (is_seen_by_all and row.is_deletion and is_base(key)):
                yield row
            if is_seen_by_all:
                break


def is_crowded(memtable: MemTable) -> bool:
    """True if a flush leaves out versions."""
    return len(memtable) >= CROWDED * memtable.key_count()


def keep_compression(job: Job, writer: TableWriter, tables: TableCache) -> None:
    """For the option "keep": the new tables have the compression of those they replace."""
    if writer.keeps:
        files = (file for run in reversed(job.runs) for file in run)
        writer.compression = kept(tables.get(file).compression() for file in files)


def kept(found: Iterable[str | None]) -> str | None:
    """The first compression of several tables' that can be written: for the option "keep" (compression.py, rule 3)."""
    return next((name for name in found if name is not None and can_write(name)), None)


def rows_of(files: Iterable[FileMeta], tables: TableCache) -> Iterator[Row]:
    """The rows of tables, one table after the other; each is opened when it is reached."""
    for file in files:
        yield from tables.get(file).all_rows()
