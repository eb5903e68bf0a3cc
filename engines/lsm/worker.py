"""Flushing and compacting in a process of their own, so that the interpreter's lock stays with the store's users.

    store ──(pipe)──► worker    "the log 12 as tables, numbers 13 to 15"      or  a Job, with numbers
          ◄──(pipe)──           the tables' metas, what was written; or the failure

A flush and a compaction read files that no longer change, and write files that nobody knows yet; so all that has to
be said is a few numbers. In a thread of the same process the work would take its time from the writers: throughput
would be one over the sum of both, not the smaller of the two.

1. A worker writes to `NNNNNN.ldb.<pid>`, and the store renames what it accepts. A worker whose store was killed goes on
   until its job's end; it must not be able to touch a file of the store's next life.
2. Only the store writes the manifest.
3. When a worker dies, its lane does that job, and all later ones, by itself.
4. A worker ends when its pipe does: with the store, however that ends.

It is started by `multiprocessing`'s spawn, which imports the program's main module: as always there, a script needs
its `if __name__ == "__main__":`. For the real Env only, and asked for by `compaction_process=True`.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any, Final

from engines.env import Env, real_env
from engines.errors import CorruptionError, ForeignFormat
from engines.lsm.fast import FAST
from engines.lsm.files import table_name
from engines.lsm.job import Job, TableWriter
from engines.lsm.memtable import SortedMemTable
from engines.lsm.options import Options
from engines.lsm.parts import PLAIN, Parts
from engines.lsm.table_cache import TableCache
from engines.lsm.version import FileMeta
from engines.lsm.wal import replay

__all__ = ["Done", "Worker", "WorkerDied"]

Done = tuple[list[FileMeta], int, int]  # tables, bytes written, fsyncs
END_S: Final = 5.0  # that a worker gets to end by itself


class WorkerDied(Exception):
    """The process is gone; its job was not done, or nobody knows."""


class Worker:
    """One process for one lane. Its methods block until the job is done; other threads go on meanwhile.

    Each raises WorkerDied, and what the job itself raised: OSError, CorruptionError, ForeignFormat.
    """

    def __init__(self, directory: str, options: Options) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, directory, options), daemon=True)
        self._process.start()
        theirs.close()
        self._directory = directory

    def flush(
        self,
        env: Env,
        log_path: str,
        bounds: tuple[int, int],
        numbers: Sequence[int],
        compression: str | None,
        smallest_snapshot: int,
    ) -> Done:
        """The batches of a sealed log as tables with the given numbers and compression. bounds: its lowest and highest
        sequence. smallest_snapshot: as for job.flush."""
        return self._ask(env, ("flush", log_path, bounds, numbers, compression, smallest_snapshot))

    def compact(self, env: Env, job: Job, numbers: Sequence[int]) -> Done:
        """A compaction's tables, with the given numbers."""
        return self._ask(env, ("compact", job, numbers))

    def _ask(self, env: Env, request: tuple[Any, ...]) -> Done:
        try:
            self._pipe.send(request)
            answer = self._pipe.recv()
        except (EOFError, OSError) as error:
            raise WorkerDied(f"the worker process is gone: {error}") from error
        if answer[0] == "corrupt":
            raise CorruptionError(*answer[1:])
        if answer[0] == "foreign":
            raise ForeignFormat(*answer[1:])
        if answer[0] == "failed":
            raise answer[1]
        files, written, fsyncs = answer[1:]
        for file in files:
            name = f"{self._directory}/{table_name(file.number)}"
            env.rename(f"{name}.{self._process.pid}", name)
        return files, written, fsyncs

    def leave_to_parent(self) -> None:
        """In a forked child: the process is the parent's, and multiprocessing's exit handler must not end it here."""
        self._pipe.close()
        multiprocessing.process._children.discard(self._process)  # type: ignore[attr-defined]

    def end(self) -> None:
        """Ends the process. Requires: no job is running."""
        self._pipe.close()
        self._process.join(END_S)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._process.close()


def _serve(pipe: Connection, directory: str, options: Options) -> None:
    """The life of the process: requests until the pipe ends."""
    env = real_env()
    while True:
        try:
            kind, *arguments = pipe.recv()
        except (EOFError, OSError, KeyboardInterrupt):
            return
        answer: tuple[Any, ...]
        try:
            answer = ("done", *(_flush if kind == "flush" else _compact)(env, directory, options, *arguments))
        except CorruptionError as error:
            answer = ("corrupt", error.path, error.offset, error.why)
        except ForeignFormat as error:
            answer = ("foreign", error.path, error.what)
        except OSError as error:
            answer = ("failed", error)
        except KeyboardInterrupt:
            return
        try:
            pipe.send(answer)
        except OSError:  # nobody is at the other end any more
            return


def parts_of(options: Options) -> Parts:
    """What the process works with, as the store does."""
    return FAST if options.fast else PLAIN


def _writer(
    env: Env, directory: str, options: Options, bounds: tuple[int, int], numbers: Sequence[int], job: Job | None
) -> TableWriter:
    site = "lsm.table.flush" if job is None else "lsm.table.compact"
    grandparents = job.grandparents if job is not None else ()
    lowest, highest = bounds
    suffix = f".{env.pid()}"
    return parts_of(options).table_writer(
        env, directory, options, highest, iter(numbers), site, grandparents, len(numbers), suffix, lowest
    )


def _flush(
    env: Env,
    directory: str,
    options: Options,
    log_path: str,
    bounds: tuple[int, int],
    numbers: Sequence[int],
    compression: str | None,
    smallest_snapshot: int,
) -> Done:
    memtable = SortedMemTable(env.rng)
    for sequence, operations in replay(env, log_path):
        memtable.add_all(sequence, operations)
    writer = _writer(env, directory, options, bounds, numbers, None)
    writer.compression = compression
    files = parts_of(options).flush(memtable, smallest_snapshot, writer)
    return files, writer.bytes_written, writer.fsyncs


def _compact(env: Env, directory: str, options: Options, job: Job, numbers: Sequence[int]) -> Done:
    parts = parts_of(options)
    blocks = parts.block_cache(0)
    tables = TableCache(env, directory, options.max_open_files, blocks, lambda: job.last_sequence, parts.table)
    writer = _writer(env, directory, options, (job.min_sequence, job.max_sequence), numbers, job)
    return parts.compact(job, writer, tables), writer.bytes_written, writer.fsyncs
