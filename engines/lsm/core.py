"""What the parts of a store share: its files, its current state, and how that changes.

    state = (memtable, frozen memtables newest first, version)          one tuple (state.py), replaced as a whole

    write ──► memtable ──rotate──► frozen ──flush──► level 0 of the version ──compaction──► deeper levels

1. A reader takes the state, then the sequence, and works on these two without a lock (state.py).
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
from collections.abc import Iterator
from dataclasses import dataclass

from engines.env import Env
from engines.errors import StoreError
from engines.kvstore import Pair, Stats, Usable
from engines.lifetime import holding
from engines.lsm.files import listed, log_name
from engines.lsm.job import TableWriter, kept
from engines.lsm.manifest import VersionSet
from engines.lsm.memtable import MemTable
from engines.lsm.options import Options
from engines.lsm.parts import PLAIN, Parts
from engines.lsm.state import Scan, State, View
from engines.lsm.table_cache import TableCache
from engines.lsm.version import VersionEdit
from engines.lsm.wal import LogFile

__all__ = ["Core", "Frozen"]


@dataclass(frozen=True, slots=True)
class Frozen:
    """A full memtable with its log: `last_sequence` is its newest; `next_log` is the number of the log after its own."""

    memtable: MemTable
    log_number: int
    log_bytes: int
    next_log: int
    last_sequence: int


class Core(Usable):
    """The shared parts of one open store; `store.py` has the public ones."""

    def __init__(
        self, env: Env, directory: str, options: Options, stats: Stats, versions: VersionSet, parts: Parts = PLAIN
    ) -> None:
        # On the class, too; but for an instance's own attributes Python remembers the place, which is a fourth off each
        # pair of a scan.
        self.closed = False
        self.failure: BaseException | None = None
        self.env = env
        self.parts = parts
        self.directory = directory
        self.options = options
        self.stats = stats
        self.versions = versions
        self.cache = parts.block_cache(options.cache_bytes)
        self.tables = TableCache(
            env, directory, options.max_open_files, self.cache, lambda: versions.last_sequence, parts.table
        )
        self.lookup = parts.lookup
        self.sequence = versions.last_sequence  # the newest one that readers may see
        self.state_lock = threading.Lock()
        self.state = State(self.new_memtable(), (), versions.current)
        self.frozen: list[Frozen] = []  # oldest first
        self.log: LogFile | None = None  # None: opened for reading only
        self.log_number = 0
        self.views: weakref.WeakSet[View] = weakref.WeakSet()  # those of the snapshots that are open
        self.pending: set[int] = set()  # numbers of tables in the making

    # ---- reading ----------------------------------------------------------------------------------------------------

    def pairs(self, state: State, scan: Scan, owner: object, view: View | None = None) -> Iterator[Pair]:
        """The pairs that a scan asks for (state.py). owner: the store, which lives as long as the iterator."""
        if scan.stop is not None and scan.stop <= scan.start:
            return iter(())
        return self.parts.pairs(state, self.tables, scan, self, view, owner)

    def take_view(self) -> View:
        """A snapshot's: of what is visible now, until it is closed or forgotten."""
        return holding(self.state_lock, self._take_view)

    def _take_view(self) -> View:
        view = View(self.sequence)
        self.views.add(view)
        return view

    def close_view(self, view: View) -> None:
        """Nobody reads by it any more. For a view that is closed already, nothing."""
        holding(self.state_lock, self._close_view, view)

    def _close_view(self, view: View) -> None:
        view.is_open = False
        view.pinned = None
        self.views.discard(view)

    def smallest_snapshot(self) -> int:
        """No reader of the current state asks for less than this sequence."""
        return holding(self.state_lock, self._smallest_snapshot)

    def _smallest_snapshot(self) -> int:
        open_ones = [view.sequence for view in self.views if view.pinned is None]
        return min(open_ones, default=self.sequence)

    def poison_if_final(self, failure: BaseException) -> None:
        """A failure of the disk is, and an interrupt in the middle of a change; damage that was found is not."""
        if isinstance(failure, OSError) or not isinstance(failure, Exception):
            self.poison(failure)

    # ---- changing ---------------------------------------------------------------------------------------------------

    def table_writer(self, options: Options, bounds: tuple[int, int], numbers: Iterator[int], site: str) -> TableWriter:
        """For tables of what was in no table before: a flush, a load. `options` may be others than the store's.

        bounds: no row has a lower sequence, a higher one.
        """
        lowest, highest = bounds
        writer = self.parts.table_writer(self.env, self.directory, options, highest, numbers, site, min_sequence=lowest)
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
            return self.tables.get(deepest[0]).compression()
        except (
            StoreError,
            OSError,
        ):  # it is only a question of size here; a reader of the table will be told what is wrong
            return None

    def new_memtable(self) -> MemTable:
        """An empty memtable of the chosen representation."""
        return self.parts.new_memtable(self.options.memtable, self.env.rng, self.sequence)

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
        """Makes the memtable the newest frozen one, and an empty one the memtable: in one assignment of `state`, because
        readers take it at any moment, without a lock, and must find every row.

        log_number, log_bytes: of the log that has the memtable's rows; `self.log_number` is the next log already. The
        memtable also becomes the last one of `self.frozen`, the list for the flush lane, which has the oldest first;
        `state.frozen` has the newest first. Requires: the writer lock, so that nobody adds a row; the state lock.
        """
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
        """Makes `versions.current` what readers read, in one assignment of `state`, which has no memtable less otherwise.

        flushed: a frozen memtable whose rows are in tables of that version. It goes in the same moment, from `state` and
        from `self.frozen`: no reader may miss its rows. None: no memtable goes (a compaction). Requires: the state lock.
        """
        memtable, frozen, _ = self.state
        if flushed is not None:
            self.frozen.remove(flushed)
            frozen = tuple(table for table in frozen if table is not flushed.memtable)
        self.state = State(memtable, frozen, self.versions.current)

    def delete_obsolete(self) -> None:
        """Deletes the files that nobody needs any more (rule 3). Raises OSError; StoreFailed if nobody knows which."""
        self.versions.write(self._delete_obsolete)

    def _delete_obsolete(self) -> None:
        # Listed first: a table that is there now was pending before it was made.
        for number, name in self.versions.obsolete(listed(self.env, self.directory), self.pending):
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
