"""The work of the flush lane: the oldest frozen memtable becomes tables of level 0.

    frozen memtable ──► tables, synced ──► edit in the manifest, synced ──► its log is deleted

1. Oldest first: what is newer stays above it, in level 0 or in memory.
2. The log is deleted after the edit is on disk; a crash before that replays it, and makes the same tables again.
3. One flush at a time: the lock. It is held for one memtable; `load` and `close` take it to keep level 0 as it is.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator

from engines.lifetime import holding
from engines.lsm.core import Core, Frozen
from engines.lsm.executor import Executor, FlushJob
from engines.lsm.files import log_name
from engines.lsm.version import FileMeta, VersionEdit
from engines.lsm.work import Work

__all__ = ["Flusher"]


class Flusher:
    """Flushes the memtables of one store, one after the other."""

    name = "flush"

    def __init__(self, core: Core, executor: Executor, work: Work) -> None:
        self._core = core
        self._executor = executor
        self._work = work
        self.lock = threading.Lock()

    def has_work(self) -> bool:
        """True if a memtable waits."""
        return bool(self._core.frozen)

    def step(self) -> bool:
        """Flushes the oldest frozen memtable; False if there is none. Raises OSError."""
        return holding(self.lock, self._flush_oldest)

    def _flush_oldest(self) -> bool:
        """Flushes the first of `core.frozen`, which has the oldest first (rule 1); False if none is frozen."""
        frozen = self._core.frozen[0] if self._core.frozen else None
        if frozen is not None:
            self._flush(frozen)
        return frozen is not None

    def _flush(self, frozen: Frozen) -> None:
        core, work = self._core, self._work
        begin = core.env.now()
        files = self._to_level0(frozen)
        work.flushes += 1
        work.levels[0].add(core.env.now() - begin, [], files)
        core.delete_obsolete()

    def _to_level0(self, frozen: Frozen) -> list[FileMeta]:
        """Puts tables of level 0 in the frozen memtable's place, and returns them: none if it has no rows.

        `_write_tables` writes them, with numbers of `core.numbers()`; nobody deletes these while its block lasts, and it
        ends after `core.install` has put the edit on disk. The edit says: the tables are on level 0, logs before
        `frozen.next_log` are in tables (there is no previous log: 0), `frozen.last_sequence` is the last one in any table.
        Raises OSError.
        """
        edit = VersionEdit(log_number=frozen.next_log, previous_log_number=0, last_sequence=frozen.last_sequence)
        with self._core.numbers() as numbers:
            files = self._write_tables(frozen, numbers) if len(frozen.memtable) else []
            edit.added = [(0, file) for file in files]
            self._core.install(edit, frozen)
        return files

    def _write_tables(self, frozen: Frozen, numbers: Iterator[int]) -> list[FileMeta]:
        """The tables of a memtable: synced, but not their names. Requires: it has rows. Raises OSError."""
        core = self._core
        job = FlushJob(
            frozen.memtable,
            f"{core.directory}/{log_name(frozen.log_number)}",
            core.versions.last_sequence + 1,  # what was written before is in tables
            frozen.last_sequence,
            core.smallest_snapshot(),
            [(file.last, file.size_bytes) for file in core.versions.current.levels[1]],
        )
        done = self._executor.flush(job, numbers)
        core.stats.bytes_written += done.bytes_written
        core.stats.fsyncs += done.fsyncs
        self._work.flushed_bytes += done.bytes_written
        return done.files
