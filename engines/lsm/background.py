"""Flushing and compacting: what a store does besides answering, and who does it.

    background=True      a thread for each lane, which begins when there is work and ends when there is none
    compaction_process   the same threads, but each has a process do the work (worker.py)
    background=False     whoever writes, inside the call: deterministic, for simulations and tests

    flush lane        frozen memtable → tables of level 0 → edit → its log is deleted
    compaction lane   pick → merge → edit → inputs are deleted, as often as there is something to pick

1. The lanes are independent, so that a long compaction doesn't keep a full memtable waiting. Each has a lock, held for
   one unit of work; what needs the structure to hold still (load, compact, close) takes both. A lane's thread waits for
   nothing: a store that is forgotten without `close` keeps none alive. Starting one costs 50 µs, once a memtable.
2. Edits of the two lanes commute: a flush only adds to level 0, and only the compaction lane takes away.
3. An OSError in a lane poisons the store. A CorruptionError in a compaction's input, or a compression that can't be read
   here (ForeignFormat), stops the compactions and refuses further writes, and what is whole can still be read.
4. Writers are slowed from 20 tables in level 0 on (a millisecond each, once a write), and stopped from 36 on, and while
   four full memtables wait for their flush: with a number of its own in the counters, each. The numbers are RocksDB's;
   LevelDB has 8, 12 and one. A level 0 of twenty costs a read twenty looks at a filter, and lets a burst through.

Follows MakeRoomForWrite and BackgroundCompaction in LevelDB's db/db_impl.cc.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from typing import Final, NoReturn

from engines.errors import CorruptionError, ForeignFormat
from engines.lifetime import holding
from engines.lsm.compaction import Compaction, in_place, manual, pick, total_bytes
from engines.lsm.core import Core, Frozen
from engines.lsm.files import log_name
from engines.lsm.job import Job
from engines.lsm.level0 import is_in_order
from engines.lsm.options import LEVELS
from engines.lsm.version import FileMeta, VersionEdit
from engines.lsm.worker import Done, Worker, WorkerDied

__all__ = ["Background"]

SLOWDOWN_S: Final = 0.001
LANES: Final = ("flush", "compact")


class Background:
    """The two lanes of one store."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._options = core.options
        self.flush_lock = threading.Lock()
        self.compaction_lock = threading.Lock()
        self._wake_lock = (
            threading.RLock()
        )  # of the next one, taken without its Python code: an interrupt has no gap there
        self._wake = threading.Condition(self._wake_lock)  # something to do for a lane, or done by one
        self._threads = self._options.background  # False where none can be started any more: then writers do the work
        self._lanes: dict[str, threading.Thread] = {}  # those that are running
        self._ending = False
        self.damage: CorruptionError | ForeignFormat | None = None
        self.failure: BaseException | None = None
        self.running: Compaction | None = None  # for describe()
        self._workers: dict[str, Worker | None] = {}  # by lane; None: it has died
        # one table for a memtable, unless batches have made that very large (google/leveldb#1145)
        flush_bytes = max(self._options.max_file_bytes, 2 * self._options.write_buffer_bytes)
        self._flush_options = replace(self._options, max_file_bytes=flush_bytes)
        # by output level, as in LevelDB's property "leveldb.stats": [seconds, bytes read, bytes written]
        self.level_work: list[list[float]] = [[0.0, 0.0, 0.0] for _ in range(LEVELS)]
        self.counts: dict[str, int] = dict.fromkeys(
            (
                "flushes",
                "flushed_bytes",
                "compactions",
                "compacted_bytes_read",
                "compacted_bytes",
                "trivial_moves",
                "tombstone_compactions",
                "write_slowdowns",
                "write_stops",
                "workers_died",
            ),
            0,
        )

    # ---- for writers --------------------------------------------------------------------------------------------

    def make_room(self) -> None:
        """Rotates the full memtable away, after waiting as rule 4 says. Requires: the writer lock. Raises OSError."""
        if self._threads:
            self.counts["write_stops"] += holding(self._wake_lock, self._wait_for_room)
        self._core.rotate()
        self.kick()

    def _wait_for_room(self) -> bool:
        """True if it had to wait."""
        stopped = False
        while self._must_wait():
            stopped = True
            self._start()
            if self._threads:
                self._wake.wait()
        return stopped

    def _must_wait(self) -> bool:
        if self.failure is not None or self._ending or not self._threads:
            return False
        if len(self._core.frozen) >= self._options.max_frozen:
            return True
        return self.damage is None and self.level0() >= self._options.level0_stop_files

    def slow_down(self) -> None:
        """One write's millisecond, while level 0 is too full."""
        self.counts["write_slowdowns"] += 1
        holding(self._wake_lock, self._wake.wait, SLOWDOWN_S)

    def level0(self) -> int:
        """The number of tables in level 0."""
        return len(self._core.versions.current.levels[0])

    @property
    def too_full(self) -> bool:
        """True if writers are to be slowed down."""
        return self._threads and self.level0() >= self._options.level0_slowdown_files

    def refuse_writes(self) -> NoReturn:
        """Rule 3. Requires: `damage`."""
        damage, found = self.damage, "(found by a compaction: writing has stopped)"
        assert damage is not None
        if isinstance(damage, ForeignFormat):
            raise ForeignFormat(damage.path, f"{damage.what} {found}")
        raise CorruptionError(damage.path, damage.offset, f"{damage.why} {found}")

    # ---- the lanes ----------------------------------------------------------------------------------------------

    def work(self) -> None:
        """Everything that is to be done, in the caller's thread. Raises OSError; for damage see rule 3."""
        try:
            while self._flush_one() or self._compact_one():
                pass
        except (CorruptionError, ForeignFormat) as damage:
            self.damage = damage

    def kick(self) -> None:
        """Lets the lanes look whether there is something to do; without lanes, does it."""
        if self._threads:
            self._start()
        if not self._threads:
            self.work()

    def _start(self) -> None:
        """Starts a thread for each lane that has work and no thread, and wakes whoever waits.

        Where none can be started (the interpreter is ending, the system has no more), it is left to the writers.
        """
        holding(self._wake_lock, self._start_lanes)

    def _start_lanes(self) -> None:
        self._wake.notify_all()
        for name in LANES:
            if name not in self._lanes and self._threads and not self._ending and self._has_work(name):
                lane = threading.Thread(target=self._lane, args=(name,), name=f"lsm-{name}", daemon=True)
                self._lanes[name] = lane
                try:
                    lane.start()  # it can't end before `_wake` is free
                except RuntimeError:
                    del self._lanes[name]
                    self._threads = False
                except BaseException as interrupt:  # nobody knows whether it has started
                    self.failure = self.failure or interrupt
                    raise

    def _lane(self, name: str) -> None:
        """The life of a lane's thread: as long as there is work."""
        step = self._flush_one if name == "flush" else self._compact_one
        while not holding(self._wake_lock, self._lane_ends, name):
            try:
                step()
            except (CorruptionError, ForeignFormat) as damage:
                self.damage = self.damage or damage
            except BaseException as failure:
                self.failure = self.failure or failure
                self._core.on_failure(failure)

    def _lane_ends(self, name: str) -> bool:
        """Between two steps of a lane: True if there is nothing for it to do, and then the next one has to be started."""
        self._wake.notify_all()
        if not self._ending and self._threads and self._has_work(name):
            return False
        self._lanes.pop(name, None)
        return True

    def _has_work(self, lane: str) -> bool:
        if self.failure is not None:
            return False
        if lane == "flush":
            return bool(self._core.frozen)
        return self.damage is None and self._pick() is not None

    def leave_to_parent(self) -> None:
        """In a forked child: lets go of the workers. Their pipes would keep them alive for as long as the child lives."""
        for worker in list(self._workers.values()):
            if worker is not None:
                worker.leave_to_parent()
        self._workers.clear()

    def end(self) -> None:
        """Ends the lanes; what they are doing is finished first. Their locks are free afterwards."""
        self._ending = True
        self.end_threads()

    def end_threads(self) -> None:
        """As `end`, but there is still work to be done: whoever writes does it from now on."""
        self._threads = False
        holding(self._wake_lock, self._wake.notify_all)
        for lane in list(self._lanes.values()):
            if lane is not threading.current_thread():  # the collector may drop a store in its own lane
                with contextlib.suppress(RuntimeError):  # an interrupt kept it from being started
                    lane.join()
        for worker in self._workers.values():
            if worker is not None:
                worker.end()
        self._workers.clear()

    def wait_for_flush(self) -> None:
        """Returns when no memtable is frozen. Raises CorruptionError; a failure is in `failure`."""
        self.kick()
        holding(self._wake_lock, self._wait_for_flush)
        if self._core.frozen and not self._threads and not self._ending:
            self.work()

    def _wait_for_flush(self) -> None:
        while self._core.frozen and self.failure is None and not self._ending and self._threads:
            self._wake.wait()

    # ---- flush --------------------------------------------------------------------------------------------------

    def _flush_one(self) -> bool:
        """Flushes the oldest frozen memtable; False if there is none."""
        done = holding(self.flush_lock, self._flush_oldest)
        if done and self._threads:
            self._start()  # the compaction lane may have work now
        return done

    def _flush_oldest(self) -> bool:
        frozen = self._core.frozen[0] if self._core.frozen else None
        if frozen is not None:
            self._flush(frozen)
        return frozen is not None

    def _flush(self, frozen: Frozen) -> None:
        core = self._core
        begin = core.env.now()
        edit = VersionEdit(log_number=frozen.next_log, previous_log_number=0, last_sequence=frozen.last_sequence)
        with core.numbers() as numbers:
            if len(frozen.memtable):
                edit.added = [(0, file) for file in self._tables_of(frozen, numbers)]
            core.install(edit, frozen)
        self.counts["flushes"] += 1
        self._worked(0, begin, [], edit)
        core.delete_obsolete()

    def _worked(self, level: int, begin_s: float, inputs: list[tuple[int, FileMeta]], edit: VersionEdit) -> None:
        """Notes what was done for a level."""
        work = self.level_work[level]
        work[0] += self._core.env.now() - begin_s
        work[1] += total_bytes([file for _, file in inputs])
        work[2] += total_bytes([file for _, file in edit.added])

    def _tables_of(self, frozen: Frozen, numbers: Iterator[int]) -> list[FileMeta]:
        """The memtable's rows in tables of level 0: written here, or by the lane's worker from the log."""
        core = self._core
        count = 2 + frozen.memtable.size_bytes // self._flush_options.max_file_bytes
        log_path = f"{core.directory}/{log_name(frozen.log_number)}"
        bounds = core.versions.last_sequence + 1, frozen.last_sequence  # what was written before is in tables
        snapshot = core.smallest_snapshot()

        def ask(worker: Worker) -> Done:
            try:
                some = list(islice(numbers, count))
                return worker.flush(core.env, log_path, bounds, some, core.compression(), snapshot)
            except CorruptionError:  # the log has rotted, but what it said is still in memory
                return do()

        def do() -> Done:
            writer = core.table_writer(self._flush_options, bounds, numbers, "lsm.table.flush")
            files = core.parts.flush(frozen.memtable, snapshot, writer)
            return files, writer.bytes_written, writer.fsyncs

        return self._done("flush", "flushed_bytes", ask, do)

    def _done(self, lane: str, counter: str, ask: Callable[[Worker], Done], do: Callable[[], Done]) -> list[FileMeta]:
        """What the lane's worker gives, if there is one; otherwise, or when it dies, what this thread makes."""
        worker = self._worker(lane)
        try:
            files, written, fsyncs = ask(worker) if worker is not None else do()
        except WorkerDied:
            self._workers[lane] = None
            self.counts["workers_died"] += 1
            files, written, fsyncs = do()
        self.counts[counter] += written
        self._core.stats.bytes_written += written
        self._core.stats.fsyncs += fsyncs
        return files

    def _worker(self, lane: str) -> Worker | None:
        """The lane's process, started when it is first needed. Requires: the lane's lock."""
        if not self._options.compaction_process or not self._threads:
            return None
        if lane not in self._workers:
            options = self._flush_options if lane == "flush" else self._options
            self._workers[lane] = Worker(self._core.directory, options)
        return self._workers[lane]

    # ---- compaction ---------------------------------------------------------------------------------------------

    def _pick(self) -> Compaction | None:
        versions = self._core.versions
        snapshot, statistics = self._core.smallest_snapshot(), self._core.tables.statistics
        return pick(versions.current, self._options, versions.compact_pointers, snapshot, statistics)

    def _compact_one(self) -> bool:
        """Does the next compaction; False if there is nothing to compact."""
        if self.damage is not None:
            return False
        return holding(self.compaction_lock, self._compact_picked)

    def _compact_picked(self) -> bool:
        compaction = self._pick()
        if compaction is not None:
            self._compact(compaction)
        return compaction is not None

    def _compact(self, compaction: Compaction) -> None:
        """Does one compaction. Requires: the compaction lock. Raises OSError, CorruptionError."""
        core = self._core
        edit = VersionEdit(deleted=[(level, file.number) for level, file in compaction.inputs()])
        if compaction.reason != "manual" and compaction.level < LEVELS - 1:
            edit.compact_pointers = [(compaction.level, compaction.pointer)]
            core.versions.compact_pointers[compaction.level] = compaction.pointer
        self.running = compaction
        begin = core.env.now()
        try:
            with core.numbers() as numbers:
                if compaction.trivial:
                    edit.added = [(compaction.output_level, compaction.upper[0])]
                    self.counts["trivial_moves"] += 1
                else:
                    edit.added = [(compaction.output_level, file) for file in self._merge(compaction, numbers)]
                core.install(edit)
        finally:
            self.running = None
        self.counts["compactions"] += 1
        if not compaction.trivial:
            self._worked(compaction.output_level, begin, compaction.inputs(), edit)
        self.counts["tombstone_compactions"] += compaction.reason == "tombstones"
        core.delete_obsolete()

    def _merge(self, compaction: Compaction, numbers: Iterator[int]) -> list[FileMeta]:
        core = self._core
        # in this order: a snapshot that is taken meanwhile has at least this sequence
        current, snapshot = core.versions.current, core.smallest_snapshot()
        in_order = compaction.level > 0 or is_in_order(current, core.tables)
        job = Job.of(compaction, current, snapshot, core.versions.last_sequence, in_order, core.tables.statistics)
        self.counts["compacted_bytes_read"] += sum(file.size_bytes for _, file in compaction.inputs())

        def ask(worker: Worker) -> Done:
            count = job.most_tables(self._options.max_file_bytes)
            return worker.compact(core.env, job, list(islice(numbers, count)))

        def do() -> Done:
            site = "lsm.table.compact"
            writer = core.parts.table_writer(
                core.env,
                core.directory,
                self._options,
                job.max_sequence,
                numbers,
                site,
                job.grandparents,
                min_sequence=job.min_sequence,
            )
            return core.parts.compact(job, writer, core.tables), writer.bytes_written, writer.fsyncs

        return self._done("compact", "compacted_bytes", ask, do)

    def compact_range(self, first: bytes | None, last: bytes | None) -> None:
        """Compacts what lies between two user keys down to the deepest level that has any of it, and rewrites there
        what holds garbage. Requires: no memtable is frozen that has keys of the range. Raises OSError, CorruptionError.
        """
        for level in range(LEVELS - 1):
            while holding(self.compaction_lock, self._compact_level, level, first, last):
                pass
        done: set[int] = set()
        while holding(self.compaction_lock, self._rewrite_garbage, first, last, done):
            pass

    def _compact_level(self, level: int, first: bytes | None, last: bytes | None) -> bool:
        """One compaction of the range; False if there is none to do in this level."""
        current = self._core.versions.current
        deeper = any(current.overlapping(below, first, last) for below in range(level + 1, LEVELS))
        compaction = manual(current, self._options, level, first, last) if deeper or level == 0 else None
        if compaction is not None:
            self._compact(compaction)
        return compaction is not None

    def _rewrite_garbage(self, first: bytes | None, last: bytes | None, done: set[int]) -> bool:
        """Rewrites a table of the range, in its level, that has versions or tombstones nobody needs; False if none has."""
        core = self._core
        found = self._garbage_file(first, last, done)
        if found is None:
            return False
        level, file = found
        before = {each.number for _, each in core.versions.current.files()}
        self._compact(in_place(core.versions.current, level, file, "manual"))
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
