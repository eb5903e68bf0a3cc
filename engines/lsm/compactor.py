"""The work of the compaction lane: pick, merge, put the result into the manifest, delete the inputs.

    pick (compaction.py) ──► Job ──► tables, synced ──► edit in the manifest, synced ──► the inputs are deleted

1. One compaction at a time: the lock. It is held for one compaction; `load` and `close` take it to keep the levels as
   they are. Only a holder of it takes tables out of a level, so that what was picked is still there at the edit.
2. An input is deleted after the edit is on disk, and when no reader has it any more.

Follows BackgroundCompaction in LevelDB's db/db_impl.cc.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator

from engines.lifetime import holding
from engines.lsm.compaction import Compaction, in_place, manual, pick, total_bytes
from engines.lsm.core import Core
from engines.lsm.executor import Executor
from engines.lsm.job import Job
from engines.lsm.options import LEVELS
from engines.lsm.version import FileMeta
from engines.lsm.work import Work

__all__ = ["Compactor"]


class Compactor:
    """Compacts the levels of one store.

    For `describe`: `running` is the compaction that is being done, since `began`; `outputs` are the numbers that it has
    taken for its tables.
    """

    name = "compact"

    def __init__(self, core: Core, executor: Executor, work: Work) -> None:
        self._core = core
        self._executor = executor
        self._work = work
        self.lock = threading.Lock()
        self.running: Compaction | None = None
        self.began = 0.0
        self.outputs: list[int] = []

    def has_work(self) -> bool:
        """True if a level is too full, or a table has too many tombstones."""
        return self._pick() is not None

    def waiting_bytes(self) -> int:
        """The size of the next compaction's tables; 0 if there is none to do."""
        compaction = self._pick()
        return 0 if compaction is None else total_bytes(compaction.upper + compaction.lower)

    def step(self) -> bool:
        """Does the next compaction; False if there is none to do. Raises OSError, CorruptionError, ForeignFormat."""
        return holding(self.lock, self._compact_picked)

    def _pick(self) -> Compaction | None:
        core, versions = self._core, self._core.versions
        snapshot = core.smallest_snapshot()
        return pick(versions.current, core.options, versions.compact_pointers, snapshot, core.tables.statistics)

    def _compact_picked(self) -> bool:
        compaction = self._pick()
        if compaction is not None:
            self.compact(compaction)
        return compaction is not None

    def compact(self, compaction: Compaction) -> None:
        """Does one compaction. Requires: the lock. Raises OSError, CorruptionError, ForeignFormat."""
        core, work = self._core, self._work
        core.versions.compact_pointers.update(compaction.pointers)
        self.began = begin = core.env.now()
        self.outputs = []
        self.running = compaction
        try:
            with core.numbers() as numbers:
                made = compaction.upper if compaction.trivial else self._merge(compaction, self._noted(numbers))
                core.install(compaction.edit(made))
        finally:
            self.running = None
        work.compactions += 1
        work.tombstone_compactions += compaction.reason == "tombstones"
        work.trivial_moves += compaction.trivial
        if not compaction.trivial:
            inputs = [file for _, file in compaction.inputs()]
            work.levels[compaction.output_level].add(core.env.now() - begin, inputs, made)
        core.delete_obsolete()

    def _noted(self, numbers: Iterator[int]) -> Iterator[int]:
        for number in numbers:
            self.outputs.append(number)
            yield number

    def _merge(self, compaction: Compaction, numbers: Iterator[int]) -> list[FileMeta]:
        """The tables that take the place of the inputs."""
        core = self._core
        # In this order: a snapshot that is taken after this has at least this sequence.
        current, snapshot = core.versions.current, core.smallest_snapshot()
        job = Job.of(compaction, current, snapshot, core.versions.last_sequence, core.tables.statistics)
        done = self._executor.compact(job, numbers)
        core.stats.bytes_written += done.bytes_written
        core.stats.fsyncs += done.fsyncs
        self._work.compacted_bytes_read += sum(file.size_bytes for _, file in compaction.inputs())
        self._work.compacted_bytes += done.bytes_written
        return done.files

    # ---- by hand ----------------------------------------------------------------------------------------------------

    def compact_range(self, first: bytes | None, last: bytes | None) -> None:
        """Compacts what lies between two user keys down to the deepest level that has any of it, and rewrites there
        what holds garbage. Requires: no memtable is frozen that has keys of the range. Raises as `step`; StoreClosed,
        StoreFailed if it is so between two compactions.
        """
        for level in range(LEVELS - 1):
            while holding(self.lock, self._compact_level, level, first, last):
                pass
        done: set[int] = set()
        while holding(self.lock, self._rewrite_garbage, first, last, done):
            pass

    def _compact_level(self, level: int, first: bytes | None, last: bytes | None) -> bool:
        """One compaction of the range; False if there is none to do in this level."""
        core = self._core
        core.check_usable()
        current = core.versions.current
        deeper = any(current.overlapping(below, first, last) for below in range(level + 1, LEVELS))
        compaction = manual(current, core.options, level, first, last) if deeper or level == 0 else None
        if compaction is not None:
            self.compact(compaction)
        return compaction is not None

    def _rewrite_garbage(self, first: bytes | None, last: bytes | None, done: set[int]) -> bool:
        """Rewrites a table of the range, in its level, that has versions or tombstones nobody needs; False if none has."""
        core = self._core
        core.check_usable()
        found = self._garbage_file(first, last, done)
        if found is None:
            return False
        level, file = found
        before = {each.number for _, each in core.versions.current.files()}
        self.compact(in_place(core.versions.current, level, file, "manual"))
        done |= {each.number for _, each in core.versions.current.files()} - before | {file.number}
        return True

    def _garbage_file(self, first: bytes | None, last: bytes | None, done: set[int]) -> tuple[int, FileMeta] | None:
        """(level, file) of a table below level 0 that isn't simple, although no snapshot needs what it has besides."""
        snapshot = self._core.smallest_snapshot()
        for level, file in self._core.versions.current.files():
            if level and file.number not in done and file.overlaps(first, last):
                known = file.statistics or self._core.tables.get(file).statistics
                if known is None or (not known.simple and known.max_sequence <= snapshot):
                    return level, file
        return None
