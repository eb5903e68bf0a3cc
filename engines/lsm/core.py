"""What the parts of a store share: its files, its current state, and how that changes.

    state = (memtable, frozen memtables newest first, version)          one tuple (state.py), replaced as a whole

    write ──► memtable ──rotate──► frozen ──flush──► level 0 of the version ──compaction──► deeper levels

1. A reader takes the state, then the sequence, and works on these two: no lock, and nothing that happens afterwards
   touches it. (In this order. The other way round, a compaction in between could have dropped what it asks for.)
2. The state is replaced under `state_lock`, which is held for a few assignments only.
3. A table that is in no version that anybody reads, and in no compaction's making, is deleted, but never before the
   edit that made it superfluous is on disk.
4. Lock order: writer lock, flush lock, compaction lock, versions.lock, state_lock.

Follows the middle part of LevelDB's db/db_impl.cc.
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engines.env import Env
from engines.errors import CorruptionError, StoreError
from engines.kvstore import Stats
from engines.lifetime import holding
from engines.lsm import level0
from engines.lsm.cache import TableCache
from engines.lsm.files import listed, log_name, repair_advice, table_name
from engines.lsm.keys import ABSENT, Found
from engines.lsm.manifest import VersionSet
from engines.lsm.memtable import REPRESENTATIONS, Chunk, MemTable
from engines.lsm.merge import TableWriter, kept
from engines.lsm.options import Options
from engines.lsm.parts import PLAIN, Parts
from engines.lsm.sstable import Table
from engines.lsm.state import State
from engines.lsm.statistics import Counters
from engines.lsm.version import FileMeta, Version, VersionEdit
from engines.lsm.wal import LogFile

if TYPE_CHECKING:
    from engines.lsm.snapshot import LsmSnapshot

__all__ = ["Core", "Frozen"]


@dataclass(frozen=True, slots=True)
class Frozen:
    """A full memtable with its log: `last_sequence` is its newest; `next_log` is the number of the log after its own."""

    memtable: MemTable
    log_number: int
    log_bytes: int
    next_log: int
    last_sequence: int


class Core:
    """The shared parts of one open store; `store.py` has the public ones."""

    def __init__(
        self, env: Env, directory: str, options: Options, stats: Stats, versions: VersionSet, parts: Parts = PLAIN
    ) -> None:
        self.env = env
        self.parts = parts
        self.directory = directory
        self.options = options
        self.stats = stats
        self.versions = versions
        self.counters = Counters()
        self.cache = parts.block_cache(options.cache_bytes)
        self.tables = TableCache(options.max_open_files)
        self.sequence = versions.last_sequence  # the newest one that readers may see
        self.state_lock = threading.Lock()
        self.state = State(self.new_memtable(), (), versions.current)
        self.frozen: list[Frozen] = []  # oldest first
        self.log: LogFile | None = None  # None: opened for reading only
        self.log_number = 0
        self.snapshots: weakref.WeakSet[LsmSnapshot] = weakref.WeakSet()
        self.pending: set[int] = set()  # numbers of tables in the making
        self.on_failure: Callable[[BaseException], None] = lambda failure: None

    # ---- reading ----------------------------------------------------------------------------------------------------

    def lookup(self, state: State, key: bytes, sequence: int) -> Found:
        """The newest value of `key` in the state not above `sequence`; None or ABSENT if there is none.

        Newest first: memtables, level 0 (all of it, if its numbers don't say which table is newer), then one file of
        each level. O(levels); at most one block read for each.
        """
        memtable, frozen, version = state
        if key in memtable.index and (found := memtable.get(key, sequence)) is not ABSENT:
            return found
        for older in frozen:
            if key in older.index and (found := older.get(key, sequence)) is not ABSENT:
                return found
        if not (version.level0_in_order or self.is_in_order(version)):
            found = level0.lookup(version.levels[0], self.table, key, sequence)
            if found is not ABSENT:
                return found
            level0_files: list[FileMeta] = []
        else:
            level0_files = version.levels[0]
        for file in level0_files:
            if file.first <= key <= file.last:
                found = (file.table or self.table(file)).get(key, sequence)
                if found is not ABSENT:
                    return found
        for files, lasts in version.sorted_levels:
            at = bisect_left(lasts, key)
            while at < len(files) and (file := files[at]).first <= key:
                found = (file.table or self.table(file)).get(key, sequence)
                if found is not ABSENT:
                    return found
                at += 1  # only a store of old LevelDB has a key's older versions in the next file
        return ABSENT

    def chunks(
        self, state: State, start: bytes, stop: bytes | None, sequence: int, reverse: bool
    ) -> list[Iterator[Chunk]]:
        """The sources of a scan of [start, stop), newest first, for `iterator.merge_chunks`. Nothing is read yet."""
        memtable, frozen, version = state
        sources = [source.chunks(start, stop, sequence, reverse) for source in (memtable, *frozen) if len(source)]
        if not self.is_in_order(version):
            sources.append(level0.chunks(version.levels[0], self.table, start, stop, sequence, reverse))
            return sources + self._deeper(version, start, stop, sequence, reverse)
        for file in version.levels[0]:
            if file.last >= start and (stop is None or file.first < stop):
                sources.append(self.table(file).chunks(start, stop, sequence, reverse))
        return sources + self._deeper(version, start, stop, sequence, reverse)

    def _deeper(
        self, version: Version, start: bytes, stop: bytes | None, sequence: int, reverse: bool
    ) -> list[Iterator[Chunk]]:
        """The sources of a scan that are levels 1 to 6."""
        sources = []
        for files, lasts in version.sorted_levels:
            first = bisect_left(lasts, start)
            end = len(files) if stop is None else bisect_left(files, stop, key=lambda file: file.first)
            if first < end:
                level = self._level_backward if reverse else self._level_forward
                sources.append(level(files[first:end], start, stop, sequence))
        return sources

    def _level_forward(self, files: list[FileMeta], start: bytes, stop: bytes | None, sequence: int) -> Iterator[Chunk]:
        split: bytes | None = None  # a user key whose older versions begin the next file (only old LevelDB does that)
        for file in files:
            for keys, values in self.table(file).chunks(start, stop, sequence, False):
                if keys[0] == split:
                    keys, values = keys[1:], values[1:]
                if keys:
                    yield keys, values
                    split = keys[-1]

    def _level_backward(
        self, files: list[FileMeta], start: bytes, stop: bytes | None, sequence: int
    ) -> Iterator[Chunk]:
        for at in range(len(files) - 1, -1, -1):
            before = files[at - 1] if at else None
            after = files[at + 1] if at + 1 < len(files) else None
            for keys, values in self.table(files[at]).chunks(start, stop, sequence, True):
                if after is not None and keys[0] == after.first and after.first == files[at].last:
                    keys, values = keys[1:], values[1:]  # was given with the file after this one
                if before is not None and keys and keys[-1] == before.last:
                    newer = self.table(before).get(keys[-1], sequence)
                    if newer is not ABSENT:
                        values = [*values[:-1], newer]
                if keys:
                    yield keys, values

    def is_in_order(self, version: Version) -> bool:
        """True if on level 0, of two tables that have a key, the one with the higher number has its newer versions.

        O(1) but for the first time that a version is asked about (level0.py). Raises OSError.
        """
        if version.level0_in_order is None:
            version.level0_in_order = level0.is_in_order(version.levels[0], self.table)
        return version.level0_in_order

    def smallest_snapshot(self) -> int:
        """No reader of the current state asks for less than this sequence."""
        return holding(self.state_lock, self._smallest_snapshot)

    def _smallest_snapshot(self) -> int:
        open_ones = [snapshot.sequence for snapshot in self.snapshots if snapshot.pinned is None]
        return min(open_ones, default=self.sequence)

    def table(self, file: FileMeta) -> Table:
        """The file's table, opened if it isn't. Raises CorruptionError, OSError. O(1), or three reads.

        A hot path looks at `file.table` first.
        """
        return file.table or self.tables.get(file, self._open_table)

    def _open_table(self, file: FileMeta) -> Table:
        path = f"{self.directory}/{table_name(file.number)}"
        try:
            try:
                opened = self.env.open(path, "r")
            except FileNotFoundError:
                opened = self.env.open(path[:-4] + ".sst", "r")
        except FileNotFoundError:
            raise CorruptionError(path, None, f"the table is missing; {repair_advice(self.directory)}") from None
        try:
            table = Table(opened, file.size_bytes, self.cache, self.counters)
        except BaseException:
            opened.close()
            raise
        if table.statistics is not None:
            file.statistics = table.statistics
            if table.max_sequence > self.sequence:
                raise CorruptionError(
                    path,
                    None,
                    f"the table has sequences up to {table.max_sequence}, but the manifest says that "
                    f"{self.sequence} is the last one: newer versions would be invisible; {repair_advice(self.directory)}",
                )
        return table

    # ---- changing ---------------------------------------------------------------------------------------------------

    def table_writer(self, options: Options, bounds: tuple[int, int], numbers: Iterator[int], site: str) -> TableWriter:
        """For tables of what was in no table before: a flush, a load. `options` may be others than the store's.

        bounds: no row has a lower sequence, a higher one.
        """
        lowest, highest = bounds
        writer = TableWriter(self.env, self.directory, options, highest, numbers, site, min_sequence=lowest)
        writer.compression = self.compression()
        return writer

    def compression(self) -> str | None:
        """What new tables are compressed with: the option, or for "keep" what the deepest level has. O(1)."""
        if self.options.compression != "keep":
            return self.options.compression
        return kept([self.deepest_compression()])

    def deepest_compression(self) -> str | None:
        """That of the first table of the deepest level that has one; None also if it can't be read. O(1)."""
        deepest = next((files for files in reversed(self.versions.current.levels) if files), None)
        if deepest is None:
            return None
        try:
            return self.table(deepest[0]).compression()
        except (StoreError, OSError):  # it is only a question of size here; who needs the table will say what is wrong
            return None

    def new_memtable(self) -> MemTable:
        """An empty memtable of the chosen representation."""
        return REPRESENTATIONS[self.options.memtable](self.env.rng, self.sequence)

    def new_log(self) -> None:
        """Begins the next log; its name is on disk when this returns. Raises OSError."""
        number = self.versions.new_number()
        self.log = LogFile(
            self.env, f"{self.directory}/{log_name(number)}", self.stats, self.options.write_buffer_bytes
        )
        self.log_number = number
        self.versions.sync_names("lsm.wal.dir")

    def rotate(self) -> None:
        """Freezes the memtable, and begins a new one with a new log. Raises OSError. Requires: the writer lock."""
        assert self.log is not None
        log, number = self.log, self.log_number
        log.seal(self.sequence + 1, "lsm.wal.rotate")
        self.new_log()
        holding(self.state_lock, self._freeze, number, log.size_bytes)

    def _freeze(self, log_number: int, log_bytes: int) -> None:
        memtable, frozen, version = self.state
        self.frozen.append(Frozen(memtable, log_number, log_bytes, self.log_number, self.sequence))
        self.state = State(self.new_memtable(), (memtable, *frozen), version)

    def install(self, edit: VersionEdit, flushed: Frozen | None = None) -> None:
        """Makes the edit durable, and then what readers see; `flushed` is in its tables from now on. Raises OSError.

        Requires: the edit's tables are synced. Their names are synced here.
        """
        if edit.added:
            self.versions.sync_names("lsm.table.dir")
        holding(self.versions.lock, self._apply, edit, flushed)

    def _apply(self, edit: VersionEdit, flushed: Frozen | None) -> None:
        self.versions.apply(edit)
        holding(self.state_lock, self._turn, flushed)

    def _turn(self, flushed: Frozen | None) -> None:
        memtable, frozen, _ = self.state
        if flushed is not None:
            self.frozen.remove(flushed)
            frozen = tuple(table for table in frozen if table is not flushed.memtable)
        self.state = State(memtable, frozen, self.versions.current)

    def delete_obsolete(self) -> None:
        """Deletes the files that nobody needs any more (rule 3). Raises OSError; StoreFailed if nobody knows which."""
        self.versions.write(self._delete_obsolete)

    def _delete_obsolete(self) -> None:
        live = self.versions.live_files().keys() | self.pending
        highest = self.versions.next_file_number
        oldest_log, previous_log = self.versions.log_number, self.versions.previous_log_number
        for kind, number, name in listed(self.env, self.directory):
            if kind in ("ldb", "sst"):
                keep = number in live or number >= highest
            elif kind == "log":
                keep = number >= oldest_log or number == previous_log
            elif kind == "manifest":
                keep = number >= self.versions.number
            else:
                keep = kind == "part" and number in self.pending
            if not keep:
                self.tables.forget(number)
                self.env.unlink(f"{self.directory}/{name}")

    @contextlib.contextmanager
    def numbers(self, count: int | None = None) -> Iterator[Iterator[int]]:
        """Numbers for new tables, which nobody deletes until the block ends: `count` of them, or as many as asked."""
        taken: set[int] = set()

        def give() -> Iterator[int]:
            while count is None or len(taken) < count:
                number = self.versions.new_number()
                taken.add(number)
                self.pending.add(number)
                yield number

        try:
            yield give()
        finally:
            self.pending -= taken
