"""Who does the work of a flush or a compaction: this thread, or a process of its own.

    Flusher, Compactor ──(job)──► ThreadExecutor    the calling thread writes the tables
                             └──► ProcessExecutor   a worker process writes them, and the calling thread waits

The two give the same tables. In a thread, the work takes its time from the users of the store, because Python runs one
thread at a time: throughput is one over the sum of both. In a process it doesn't (worker.py), but each lane costs the
start of a process and its memory.

1. An executor writes tables and nothing else. Only when the caller has put them into the manifest are they a part of the
   store; what an executor leaves behind when it fails is garbage for the next open.
2. When a worker process dies, its job, and all later ones of its lane, are done by the calling thread.
3. The calls for one lane come one at a time: the lane's lock.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Protocol

from engines.errors import CorruptionError
from engines.lsm.core import Core
from engines.lsm.job import Job, keep_compression
from engines.lsm.memtable import MemTable
from engines.lsm.options import Options
from engines.lsm.worker import Compact, Done, FlushLog, Worker, WorkerDied

__all__ = ["Done", "Executor", "FlushJob", "ProcessExecutor", "ThreadExecutor"]


@dataclass(frozen=True, slots=True)
class FlushJob:
    """A frozen memtable that is to become tables. `log_path` is its log, which has the same rows.

    All sequences are from `lowest` to `highest`; nobody reads as of less than `smallest_snapshot`.
    """

    memtable: MemTable
    log_path: str
    lowest: int
    highest: int
    smallest_snapshot: int


class Executor(Protocol):
    """Writes the tables of a job: synced, but not their names. `numbers` gives their numbers.

    Both methods raise OSError, CorruptionError, ForeignFormat.
    """

    @property
    def workers_died(self) -> int:
        """How many processes have died before their store was closed."""

    def flush(self, job: FlushJob, numbers: Iterator[int]) -> Done:
        """The tables of a memtable."""

    def compact(self, job: Job, numbers: Iterator[int]) -> Done:
        """The tables of a compaction."""

    def end(self) -> None:
        """Ends the processes, if there are any; later jobs are done by the calling thread. Requires: no job is running."""

    def leave_to_parent(self) -> None:
        """In a forked child: lets go of the processes. Their pipes would keep them alive as long as the child lives."""


def flush_options(options: Options) -> Options:
    """One table for a memtable, unless batches have made that very large (google/leveldb#1145)."""
    return replace(options, max_file_bytes=max(options.max_file_bytes, 2 * options.write_buffer_bytes))


class ThreadExecutor:
    """Executor: the calling thread does the work."""

    workers_died = 0

    def __init__(self, core: Core) -> None:
        self._core = core
        self._flush_options = flush_options(core.options)

    def flush(self, job: FlushJob, numbers: Iterator[int]) -> Done:
        core = self._core
        writer = core.table_writer(self._flush_options, (job.lowest, job.highest), numbers, "lsm.table.flush")
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
    """Executor: a process for each lane does the work, started with the lane's first job."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._here = ThreadExecutor(core)
        self._options = {"flush": flush_options(core.options), "compact": core.options}  # of each lane
        self._workers: dict[str, Worker] = {}  # by lane
        self._without: set[str] = set()  # lanes whose worker has died
        self._ended = False

    @property
    def workers_died(self) -> int:
        return len(self._without)

    def flush(self, job: FlushJob, numbers: Iterator[int]) -> Done:
        worker = self._worker("flush")
        if worker is not None:
            count = 2 + job.memtable.size_bytes // self._options["flush"].max_file_bytes
            compression = self._core.compression()
            request = FlushLog(
                job.log_path, job.lowest, job.highest, list(islice(numbers, count)), compression, job.smallest_snapshot
            )
            try:
                return worker.do(request, self._core.env)
            except WorkerDied:
                self._forget("flush")
            except CorruptionError:
                pass  # the log has rotted; the memtable has not
        return self._here.flush(job, numbers)

    def compact(self, job: Job, numbers: Iterator[int]) -> Done:
        worker = self._worker("compact")
        if worker is not None:
            count = job.most_tables(self._core.options.max_file_bytes)
            try:
                return worker.do(Compact(job, list(islice(numbers, count))), self._core.env)
            except WorkerDied:
                self._forget("compact")
        return self._here.compact(job, numbers)

    def _worker(self, lane: str) -> Worker | None:
        """The lane's process; None if there is none any more."""
        if self._ended or lane in self._without:
            return None
        if lane not in self._workers:
            self._workers[lane] = Worker(self._core.directory, self._options[lane], self._core.parts)
        return self._workers[lane]

    def _forget(self, lane: str) -> None:
        self._without.add(lane)
        self._workers.pop(lane).end()

    def end(self) -> None:
        self._ended = True
        for worker in list(self._workers.values()):
            worker.end()
        self._workers.clear()

    def leave_to_parent(self) -> None:
        self._ended = True
        for worker in list(self._workers.values()):
            worker.leave_to_parent()
        self._workers.clear()
