"""The work of the flush lane: the oldest frozen memtable becomes tables of level 0.

    frozen memtable ──► tables, synced ──► edit in the manifest, synced ──► its log is deleted

1. Oldest first: what is newer stays above it, in level 0 or in memory.
2. The log is deleted after the edit is on disk; a crash before that replays it, and makes the same tables again.
3. One flush at a time: the lock. It is held for one memtable; `load` and `close` take it to keep level 0 as it is.
"""

from __future__ import annotations

import threading

from engines.lifetime import holding
from engines.lsm.core import Core, Frozen
from engines.lsm.executor import Executor, FlushJob
from engines.lsm.files import log_name
from engines.lsm.version import VersionEdit
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
        frozen = self._core.frozen[0] if self._core.frozen else None
        if frozen is not None:
            self._flush(frozen)
        return frozen is not None

    def _flush(self, frozen: Frozen) -> None:
        core, work = self._core, self._work
        begin = core.env.now()
        edit = VersionEdit(log_number=frozen.next_log, previous_log_number=0, last_sequence=frozen.last_sequence)
        with core.numbers() as numbers:
            if len(frozen.memtable):
                job = FlushJob(
                    frozen.memtable,
                    f"{core.directory}/{log_name(frozen.log_number)}",
                    core.versions.last_sequence + 1,  # what was written before is in tables
                    frozen.last_sequence,
                    core.smallest_snapshot(),
                )
                done = self._executor.flush(job, numbers)
                core.stats.bytes_written += done.bytes_written
                core.stats.fsyncs += done.fsyncs
                work.flushed_bytes += done.bytes_written
                edit.added = [(0, file) for file in done.files]
            core.install(edit, frozen)
        work.flushes += 1
        work.levels[0].add(core.env.now() - begin, [], [file for _, file in edit.added])
        core.delete_obsolete()
