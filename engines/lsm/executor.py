"""Who does the work of a flush or a compaction: this thread, or a process of the store's own.

    Flusher, Compactor ──(job)──► ThreadExecutor    the calling thread writes the tables
                             └──► ProcessExecutor   a worker process writes them, and the calling thread waits

The two give the same tables. In a thread, the work takes its time from the users of the store, because Python runs one
thread at a time: throughput is one over the sum of both. In a process it doesn't (worker.py), but that costs its start,
0.1 s of another core, and its memory, 30 MB and a frozen memtable's. So it is started for the first job that is worth it,
or a little before that (`prepare`), by the thread that is busy anyway: engines/process.py says what that saves.

| option compaction_process | flushes and compactions are done by                                                        |
|---------------------------|--------------------------------------------------------------------------------------------|
| None                      | the process, once a job of a MiB is coming; the threads before, in the plain form, without |
|                           | `background`, and on an Env that another process can't see                                 |
| True                      | the process, from the first job on                                                         |
| False                     | the threads                                                                                |

1. An executor writes tables and nothing else. Only when the caller has put them into the manifest are they a part of the
   store; what an executor leaves behind when it fails is garbage for the next open.
2. When the worker process dies, or can't be started, its jobs, and all later ones, are done by the calling thread.
3. The calls for one lane come one at a time: the lane's lock. Both lanes share the process.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final, Protocol

from engines.env import real_env
from engines.errors import CorruptionError
from engines.lifetime import holding
from engines.lsm.core import Core
from engines.lsm.job import Job, keep_compression
from engines.lsm.memtable import MemTable
from engines.lsm.worker import Compact, Done, FlushLog, Worker, WorkerDied, flush_gaps, flush_options
from engines.process import NoHelper

__all__ = ["Done", "Executor", "FlushJob", "ProcessExecutor", "ThreadExecutor", "executor_for"]

WORTH_BYTES: Final = 1 << 20  # takes a thread 0.02 s, and a process is started in 0.1


@dataclass(frozen=True, slots=True)
class FlushJob:
    """A frozen memtable that is to become tables. `log_path` is its log, which has the same rows.

    All sequences are from `lowest` to `highest`; nobody reads as of less than `smallest_snapshot`. level1: (last user key,
    size) of each file of level 1.
    """

    memtable: MemTable
    log_path: str
    lowest: int
    highest: int
    smallest_snapshot: int
    level1: Sequence[tuple[bytes, int]] = ()


class Executor(Protocol):
    """Writes the tables of a job: synced, but not their names. `numbers` gives their numbers.

    Both methods raise OSError, CorruptionError, ForeignFormat.
    """

    @property
    def workers_died(self) -> int:
        """How many processes have died before their store was closed."""

    @property
    def refusal(self) -> str | None:
        """Why no process could be started, if one was to be."""

    @property
    def where(self) -> str:
        """Who does the next job, for people."""

    def prepare(self, size_bytes: int) -> None:
        """A job of that size is coming: starts the process for it, if there is to be one, and doesn't wait. O(1)."""

    def flush(self, job: FlushJob, numbers: Iterator[int]) -> Done:
        """The tables of a memtable."""

    def compact(self, job: Job, numbers: Iterator[int]) -> Done:
        """The tables of a compaction."""

    def end(self) -> None:
        """Ends the process, if there is one; later jobs are done by the calling thread. Requires: no job is running."""

    def leave_to_parent(self) -> None:
        """In a forked child: lets go of the process. Its sockets would keep it alive as long as the child lives."""


class ThreadExecutor:
    """Executor: the calling thread does the work."""

    workers_died = 0
    refusal = None
    where = "the threads"

    def __init__(self, core: Core) -> None:
        self._core = core
        self._flush_options = flush_options(core.options)

    def prepare(self, size_bytes: int) -> None: ...

    def flush(self, job: FlushJob, numbers: Iterator[int]) -> Done:
        core = self._core
        writer = core.table_writer(self._flush_options, (job.lowest, job.highest), numbers, "lsm.table.flush")
        writer.gaps = flush_gaps(job.level1, core.options)
        files = core.parts.flush(job.memtable, job.smallest_snapshot, writer)
        return Done(files, writer.bytes_written, writer.fsyncs)

    def compact(self, job: Job, numbers: Iterator[int]) -> Done:
        core = self._core
        writer = core.parts.table_writer(
            core.env,
            core.directory,
            core.options,
            job.max_sequence,
            numbers,
            "lsm.table.compact",
            job.grandparents,
            min_sequence=job.min_sequence,
        )
        keep_compression(job, writer, core.tables)
        files = core.parts.compact(job, writer, core.tables)
        return Done(files, writer.bytes_written, writer.fsyncs)

    def end(self) -> None: ...

    def leave_to_parent(self) -> None: ...


class ProcessExecutor:
    """Executor: a process does the work, started with the first job of `worth_bytes`."""

    def __init__(self, core: Core, worth_bytes: int = 0) -> None:
        self._core = core
        self._here = ThreadExecutor(core)
        self._worth_bytes = worth_bytes
        self._most_bytes = flush_options(core.options).max_file_bytes  # of a table that a flush writes
        self._lock = threading.Lock()  # the lanes start the process, or find it dead
        self._worker: Worker | None = None
        self._compacts = False  # the worker, at the moment
        self._ended = False  # no process, or no more
        self.workers_died = 0
        self.refusal: str | None = None

    @property
    def where(self) -> str:
        if self.refusal is not None:
            return f"the threads ({self.refusal})"
        if self.workers_died:
            return "the threads (the process has died)"
        worker = self._worker
        return "the threads, so far" if worker is None else f"process {worker.pid}"

    def prepare(self, size_bytes: int) -> None:
        if self._worker is None and not self._ended and size_bytes >= self._worth_bytes:
            holding(self._lock, self._start)

    def flush(self, job: FlushJob, numbers: Iterator[int]) -> Done:
        if self._is_idle_here():
            return self._here.flush(job, numbers)
        worker = self._worker_for(job.memtable.size_bytes)
        if worker is not None:
            count = 3 + job.memtable.size_bytes // self._most_bytes
            request = FlushLog(
                job.log_path,
                job.lowest,
                job.highest,
                list(islice(numbers, count)),
                self._core.compression(),
                job.smallest_snapshot,
                job.memtable if job.memtable.travels else None,
                job.level1,
            )
            try:
                return worker.do(request, self._core.env)
            except WorkerDied:
                self._forget(worker)
            except CorruptionError:
                pass  # the log has rotted; the memtable has not
        return self._here.flush(job, numbers)

    def _is_idle_here(self) -> bool:
        """The process starts or compacts, and writers wait for a flush, or nearly: then the calling thread is sooner, and its
        core has little else to do. A million puts: 195,000 -> 230,000 a second."""
        core, worker = self._core, self._worker
        if worker is None or len(core.frozen) < core.options.max_frozen - 1:
            return False
        return self._compacts or not worker.is_ready()

    def compact(self, job: Job, numbers: Iterator[int]) -> Done:
        worker = self._worker_for(job.size_bytes)
        if worker is not None:
            count = job.most_tables(self._core.options.max_file_bytes)
            self._compacts = True
            try:
                return worker.do(Compact(job, list(islice(numbers, count))), self._core.env)
            except WorkerDied:
                self._forget(worker)
            finally:
                self._compacts = False
        return self._here.compact(job, numbers)

    def _worker_for(self, size_bytes: int) -> Worker | None:
        """The process for a job of that size; None if there is none (any more), or none worth starting."""
        if self._ended or (self._worker is None and size_bytes < self._worth_bytes):
            return None
        return holding(self._lock, self._started)

    def _start(self) -> None:
        if self._worker is None and not self._ended:
            core = self._core
            try:
                self._worker = Worker(core.directory, core.options, core.parts)
            except (NoHelper, OSError) as refusal:  # OSError: no descriptors are left for its sockets
                self._refuse(refusal)

    def _started(self) -> Worker | None:
        self._start()
        if self._worker is not None:
            try:
                self._worker.wait()
            except NoHelper as refusal:
                self._refuse(refusal)
        return self._worker

    def _refuse(self, refusal: NoHelper | OSError) -> None:
        self.refusal = str(refusal)
        self._worker, self._ended = None, True

    def _forget(self, worker: Worker) -> None:
        holding(self._lock, self._forget_once, worker)

    def _forget_once(self, worker: Worker) -> None:
        """The other lane may have been here before."""
        if self._worker is worker:
            self._worker, self._ended = None, True
            self.workers_died += 1
            worker.end()

    def end(self) -> None:
        self._ended = True
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.end()

    def leave_to_parent(self) -> None:
        self._ended = True
        self._lock = threading.Lock()
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.leave_to_parent()


def executor_for(core: Core) -> Executor:
    """What the option compaction_process asks for: the table on top of this file."""
    options = core.options
    if options.compaction_process is None and options.fast and options.background and core.env is real_env():
        return ProcessExecutor(core, WORTH_BYTES)
    return ProcessExecutor(core) if options.compaction_process else ThreadExecutor(core)
