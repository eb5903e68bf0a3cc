"""Flushing and compacting in a process of their own, so that the interpreter's lock stays with the store's users.

    store ──(pipe)──► worker    FlushLog: "the log 12 as tables, numbers 13 to 15"     Compact: a Job, with numbers
          ◄──(pipe)──           Done: the tables, and what was written                 or the failure

A flush and a compaction read files that no longer change, and write files that are in no manifest yet. So a few numbers say
all that a process needs to know.

1. A worker writes to `NNNNNN.ldb.<pid>`, and the store renames what it accepts. A worker whose store was killed goes on
   until its job's end; it must not be able to touch a file of the store's next life.
2. Only the store writes the manifest.
3. A worker ends when its pipe does: with the store, however that ends.

It is started by `multiprocessing`'s spawn, which imports the program's main module: as always there, a script needs
its `if __name__ == "__main__":`. For the real Env only, and asked for by `compaction_process=True`.
"""

from __future__ import annotations

import multiprocessing
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Final, NamedTuple, Protocol

from engines.env import Env, real_env
from engines.errors import CorruptionError, ForeignFormat
from engines.lsm.files import table_name
from engines.lsm.job import Job, keep_compression
from engines.lsm.options import Options
from engines.lsm.parts import Parts
from engines.lsm.table_cache import TableCache
from engines.lsm.version import FileMeta
from engines.lsm.wal import replay

__all__ = ["Compact", "Done", "FlushLog", "Worker", "WorkerDied"]

END_S: Final = 5.0  # that a worker gets to end by itself


class Done(NamedTuple):
    """What a flush or a compaction has made: tables, and what that took."""

    files: list[FileMeta]
    bytes_written: int
    fsyncs: int


class WorkerDied(Exception):
    """The process is gone. Nobody knows how far it came with its job; what it has written is garbage."""


class Place(NamedTuple):
    """Where a request is done, in the worker."""

    env: Env
    directory: str
    options: Options
    parts: Parts

    @property
    def suffix(self) -> str:
        """Of the names of the files that are written (rule 1)."""
        return f".{self.env.pid()}"


class Request(Protocol):
    """What is asked of a worker."""

    def run(self, place: Place) -> Done:
        """Does it, in the worker. Raises OSError, CorruptionError, ForeignFormat."""


@dataclass(frozen=True, slots=True)
class FlushLog:
    """The batches of a closed log, whose sequences are from `lowest` to `highest`, as tables with the given numbers.

    Its memtable is in the store's process, and too large to be sent; so the worker makes it again from the log.
    smallest_snapshot: as for job.flush.
    """

    log_path: str
    lowest: int
    highest: int
    numbers: list[int]
    compression: str | None
    smallest_snapshot: int

    def run(self, place: Place) -> Done:
        memtable = place.parts.new_memtable("sorted", place.env.rng, 0)  # it is filled, and then read once
        for sequence, operations in replay(place.env, self.log_path):
            memtable.add_all(sequence, operations)
        writer = place.parts.table_writer(
            place.env,
            place.directory,
            place.options,
            self.highest,
            iter(self.numbers),
            "lsm.table.flush",
            max_tables=len(self.numbers),
            suffix=place.suffix,
            min_sequence=self.lowest,
        )
        writer.compression = self.compression
        files = place.parts.flush(memtable, self.smallest_snapshot, writer)
        return Done(files, writer.bytes_written, writer.fsyncs)


@dataclass(frozen=True, slots=True)
class Compact:
    """A compaction's tables, with the given numbers."""

    job: Job
    numbers: list[int]

    def run(self, place: Place) -> Done:
        job, parts = self.job, place.parts
        tables = TableCache(
            place.env,
            place.directory,
            place.options.max_open_files,
            parts.block_cache(0),
            lambda: job.last_sequence,
            parts.table,
        )
        writer = parts.table_writer(
            place.env,
            place.directory,
            place.options,
            job.max_sequence,
            iter(self.numbers),
            "lsm.table.compact",
            job.grandparents,
            max_tables=len(self.numbers),
            suffix=place.suffix,
            min_sequence=job.min_sequence,
        )
        keep_compression(job, writer, tables)
        files = parts.compact(job, writer, tables)
        return Done(files, writer.bytes_written, writer.fsyncs)


class Worker:
    """One process for one lane."""

    def __init__(self, directory: str, options: Options, parts: Parts) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, directory, options, parts), daemon=True)
        self._process.start()
        theirs.close()
        self._directory = directory

    def do(self, request: Request, env: Env) -> Done:
        """Blocks until the request is done; other threads go on meanwhile.

        Raises WorkerDied, and what the request itself raised: OSError, CorruptionError, ForeignFormat.
        """
        try:
            self._pipe.send(request)
            answer: Done | Exception = self._pipe.recv()
        except (EOFError, OSError) as error:
            raise WorkerDied(f"the worker process is gone: {error}") from error
        if isinstance(answer, Exception):
            raise answer
        for file in answer.files:
            name = f"{self._directory}/{table_name(file.number)}"
            env.rename(f"{name}.{self._process.pid}", name)
        return answer

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


def _serve(pipe: Connection, directory: str, options: Options, parts: Parts) -> None:
    """The life of the process: requests until the pipe ends."""
    place = Place(real_env(), directory, options, parts)
    while True:
        answer: Done | Exception
        try:
            request: Request = pipe.recv()
        except (EOFError, OSError, KeyboardInterrupt):
            return
        try:
            answer = request.run(place)
        except (CorruptionError, ForeignFormat, OSError) as error:
            answer = error
        except KeyboardInterrupt:
            return
        try:
            pipe.send(answer)
        except OSError:  # nobody is at the other end any more
            return
