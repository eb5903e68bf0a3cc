"""When flushes and compactions are done, and in which thread.

    background=True      a thread for each lane, which begins when there is work and ends when there is none
    background=False     the thread that writes does the work, inside the call: deterministic, for simulations and tests

    flush lane        Flusher     frozen memtable → tables of level 0
    compaction lane   Compactor   pick → merge → tables of the next level, as often as there is something to pick

What a lane does is in flusher.py and compactor.py, and whether it does that itself or asks a process is in executor.py.

1. The lanes are independent, so that a long compaction doesn't keep a full memtable waiting. Each has a lock, held for
   one step; what needs the structure to hold still (load, close) takes both. A lane's thread waits for nothing, so a
   store that is dropped without `close` keeps none alive. Starting one costs 50 µs, once a memtable.
2. Edits of the two lanes commute: a flush only adds to level 0, and only the compaction lane takes away.
3. An OSError in a lane poisons the store. A CorruptionError in a compaction's input, or a compression that can't be read
   here (ForeignFormat), is *damage*: it stops the compactions and refuses further writes, and what is whole can still be
   read.

Follows MaybeScheduleCompaction and BackgroundCall in LevelDB's db/db_impl.cc.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import NoReturn

from engines.errors import CorruptionError, ForeignFormat
from engines.lifetime import holding
from engines.lsm.compactor import Compactor
from engines.lsm.core import Core
from engines.lsm.executor import executor_for
from engines.lsm.flusher import Flusher
from engines.lsm.work import Work

__all__ = ["Background"]


class Background:
    """The two lanes of one store. `failure` and `damage` are the first ones of either lane (rule 3)."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self.work = Work()
        self.executor = executor_for(core)
        self.flusher = Flusher(core, self.executor, self.work)
        self.compactor = Compactor(core, self.executor, self.work)
        self.has_threads = core.options.background  # False also where none can be started any more
        self.damage: CorruptionError | ForeignFormat | None = None
        self.failure: BaseException | None = None
        self._running: dict[str, threading.Thread] = {}  # by lane
        self._ending = False
        # The lock of the condition by its own name: it is taken without the condition's Python code, in which an
        # interrupt could leave it taken.
        self._wake_lock = threading.RLock()
        self._wake = threading.Condition(self._wake_lock)  # a lane has something to do, or has done something

    # ---- for writers ------------------------------------------------------------------------------------------------

    def kick(self) -> None:
        """After something has changed: starts the lanes that have work now; without threads, does the work."""
        if self.has_threads:
            holding(self._wake_lock, self._start_lanes)
        if not self.has_threads:
            self.do_all()

    def prepare(self) -> None:
        """Before there is work: a memtable is filling, or the store has just been opened. See `Executor.prepare`."""
        if self.has_threads and self.damage is None:
            coming = max(self._core.state.memtable.size_bytes, self.compactor.waiting_bytes())
            if coming:
                self.executor.prepare(coming)

    def do_all(self) -> None:
        """Everything that is to be done, in the calling thread. Raises OSError; for damage see rule 3."""
        try:
            while self.flusher.step() or (self.damage is None and self.compactor.step()):
                pass
        except (CorruptionError, ForeignFormat) as damage:
            self.damage = damage

    def wait_while(self, condition: Callable[[], bool]) -> bool:
        """Waits while the condition holds, for as long as lanes can change it. True if it had to wait."""
        return holding(self._wake_lock, self._wait_while, condition)

    def _wait_while(self, condition: Callable[[], bool]) -> bool:
        waited = False
        while condition() and self.failure is None and self.has_threads and not self._ending:
            waited = True
            self._start_lanes()
            if self.has_threads:
                self._wake.wait()
        return waited

    def wait_for_step(self, timeout_s: float) -> None:
        """Waits until a lane has done something, but not longer than the time."""
        holding(self._wake_lock, self._wake.wait, timeout_s)

    def wait_for_flush(self) -> None:
        """Returns when no memtable is frozen. Raises CorruptionError; a failure is in `failure`."""
        self.kick()
        self.wait_while(self.flusher.has_work)
        if self.flusher.has_work() and not self.has_threads and not self._ending:
            self.do_all()

    def refuse_writes(self) -> NoReturn:
        """Rule 3. Requires: `damage`."""
        damage, found = self.damage, "(found by a compaction: writing has stopped)"
        assert damage is not None
        if isinstance(damage, ForeignFormat):
            raise ForeignFormat(damage.path, f"{damage.what} {found}")
        raise CorruptionError(damage.path, damage.offset, f"{damage.why} {found}")

    # ---- the threads ------------------------------------------------------------------------------------------------

    def _start_lanes(self) -> None:
        """Starts a thread for each lane that has work and no thread, and wakes all that wait. Requires: the wake lock.

        Where none can be started (the interpreter is ending, the system has no more), the work is left to the writers.
        """
        self._wake.notify_all()
        for lane in (self.flusher, self.compactor):
            if lane.name not in self._running and self._has_work(lane):
                thread = threading.Thread(target=self._run, args=(lane,), name=f"lsm-{lane.name}", daemon=True)
                self._running[lane.name] = thread
                try:
                    thread.start()  # it can't end before the wake lock is free
                except RuntimeError:
                    del self._running[lane.name]
                    self.has_threads = False
                except BaseException as interrupt:  # nobody knows whether it has started
                    self.failure = self.failure or interrupt
                    raise

    def _run(self, lane: Flusher | Compactor) -> None:
        """The life of a lane's thread: as long as there is work."""
        while holding(self._wake_lock, self._goes_on, lane):
            try:
                lane.step()
            except (CorruptionError, ForeignFormat) as damage:
                self.damage = self.damage or damage
            except BaseException as failure:
                self.failure = self.failure or failure
                self._core.poison(failure)

    def _goes_on(self, lane: Flusher | Compactor) -> bool:
        """Before each step of a lane: False if there is nothing to do, and then it has to be started anew."""
        self._start_lanes()  # what this lane has done may be work for the other one
        if self._has_work(lane):
            return True
        self._running.pop(lane.name, None)
        return False

    def _has_work(self, lane: Flusher | Compactor) -> bool:
        if self.failure is not None or self._ending or not self.has_threads:
            return False
        if lane is self.compactor and self.damage is not None:
            return False
        return lane.has_work()

    # ---- the end ----------------------------------------------------------------------------------------------------

    def end(self) -> None:
        """Ends the lanes. What they are doing is finished first, and full memtables are flushed: else the next open would have
        to replay a log for each, which takes three times as long. Only a `compact_range` may still hold one of their locks.
        """
        self.wait_while(lambda: self._core.failure is None and self.flusher.has_work())
        self._ending = True
        self.end_threads()

    def in_lane(self) -> bool:
        """True if the calling thread is one of the lanes'."""
        return threading.current_thread() in self._running.values()

    def end_threads(self) -> None:
        """As `end`, but there is still work to be done: the writers do it from now on."""
        self.has_threads = False
        holding(self._wake_lock, self._wake.notify_all)
        for thread in list(self._running.values()):
            if thread is not threading.current_thread():  # the collector may drop a store in its own lane
                with contextlib.suppress(RuntimeError):  # an interrupt kept it from being started
                    thread.join()
        self.executor.end()

    def leave_to_parent(self) -> None:
        """In a forked child: the threads are not there, and the processes are the parent's."""
        self.executor.leave_to_parent()
