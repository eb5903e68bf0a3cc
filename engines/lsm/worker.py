"""Flushing and compacting in a process of its own, so that the interpreter's lock stays with the store's users.

    store ──(channel)──► worker    0  FlushLog: "the log 12, or these rows of it, as tables, numbers 13 to 15"
                                   1  Compact: a Job, with numbers
          ◄──(channel)──           Done: the tables, and what was written, or the failure

A flush and a compaction read files that no longer change, and write files that are in no manifest yet. So a few numbers say
all that a process needs to know.

1. A worker writes to `NNNNNN.ldb.<pid>`, and the store renames what it accepts. A worker whose store was killed goes on
   for a table at most; it must not be able to touch a file of the store's next life.
2. Only the store writes the manifest.
3. A worker ends when its channels do: with the store, however that ends.
4. One process for both lanes. A flush that is asked for during a compaction is done between two of its tables: writers may
   be waiting for it, as in LevelDB's DoCompactionWork.

How such a process is started, and where none can be: engines/process.py. It imports this package, and never the program's
main module.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Final, NamedTuple, Protocol

from engines.env import Env, real_env
from engines.errors import CorruptionError, ForeignFormat
from engines.lsm.files import table_name
from engines.lsm.gaps import Gaps
from engines.lsm.job import Job, keep_compression
from engines.lsm.memtable import MemTable
from engines.lsm.options import Options
from engines.lsm.parts import Parts
from engines.lsm.table_cache import TableCache
from engines.lsm.version import FileMeta
from engines.lsm.wal import replay
from engines.process import Channel, ChannelClosed, Helper, has_input

__all__ = ["Compact", "Done", "FlushLog", "Worker", "WorkerDied", "flush_gaps", "flush_options", "serve"]

FLUSHES: Final = 0  # the channels
COMPACTIONS: Final = 1


class Done(NamedTuple):
    """What a flush or a compaction has made: tables, and what that took."""

    files: list[FileMeta]
    bytes_written: int
    fsyncs: int


def flush_options(options: Options) -> Options:
    """One table for a memtable, or two (`flush_gaps`), unless batches have made that very large (google/leveldb#1145)."""
    return replace(options, max_file_bytes=max(options.max_file_bytes, 2 * options.write_buffer_bytes))


def flush_gaps(level1: Sequence[tuple[bytes, int]], options: Options) -> Gaps:
    """At one gap a memtable is cut in two: each table of level 0 costs every read a look."""
    return Gaps(level1, options.max_file_bytes, most=1)


class WorkerDied(Exception):
    """The process is gone. Nobody knows how far it came with its job; what it has written is garbage."""


class Place(NamedTuple):
    """Where a request is done, in the worker."""

    env: Env
    directory: str
    options: Options
    parts: Parts
    pause: Callable[[], None]  # for a compaction, before each table (rule 4)

    @property
    def suffix(self) -> str:
        """Of the names of the files that are written (rule 1)."""
        return f".{self.env.pid()}"


class Request(Protocol):
    """What is asked of a worker. `channel` is where."""

    channel: ClassVar[int]

    def run(self, place: Place) -> Done:
        """Does it, in the worker. Raises OSError, CorruptionError, ForeignFormat."""


@dataclass(frozen=True, slots=True)
class FlushLog:
    """The batches of a closed log, whose sequences are from `lowest` to `highest`, as tables with the given numbers.

    memtable: None if the worker is to make it again from the log, because it is slow to send (`MemTable.travels`).
    smallest_snapshot: as for job.flush. level1: (last user key, size) of the files of level 1, for gaps.py.
    """

    channel: ClassVar[int] = FLUSHES

    log_path: str
    lowest: int
    highest: int
    numbers: list[int]
    compression: str | None
    smallest_snapshot: int
    memtable: MemTable | None = None
    level1: Sequence[tuple[bytes, int]] = ()

    def run(self, place: Place) -> Done:
        memtable = self.memtable or self._replayed(place)
        writer = place.parts.table_writer(
            place.env,
            place.directory,
            flush_options(place.options),
            self.highest,
            iter(self.numbers),
            "lsm.table.flush",
            max_tables=len(self.numbers),
            suffix=place.suffix,
            min_sequence=self.lowest,
            gaps=flush_gaps(self.level1, place.options),
        )
        writer.compression = self.compression
        files = place.parts.flush(memtable, self.smallest_snapshot, writer)
        return Done(files, writer.bytes_written, writer.fsyncs)

    def _replayed(self, place: Place) -> MemTable:
        memtable = place.parts.new_memtable("sorted", place.env.rng, 0)  # it is filled, and then read once
        for sequence, operations in replay(place.env, self.log_path):
            memtable.add_all(sequence, operations)
        return memtable


@dataclass(frozen=True, slots=True)
class Compact:
    """A compaction's tables, with the given numbers."""

    channel: ClassVar[int] = COMPACTIONS

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
            self._numbers(place.pause),
            "lsm.table.compact",
            job.grandparents,
            max_tables=len(self.numbers),
            suffix=place.suffix,
            min_sequence=job.min_sequence,
        )
        keep_compression(job, writer, tables)
        files = parts.compact(job, writer, tables)
        return Done(files, writer.bytes_written, writer.fsyncs)

    def _numbers(self, pause: Callable[[], None]) -> Iterator[int]:
        """The numbers, each when its table begins."""
        for number in self.numbers:
            pause()
            yield number


class Worker:
    """The process of one store, for both of its lanes."""

    def __init__(self, directory: str, options: Options, parts: Parts) -> None:
        """Starts it, and doesn't wait. Raises NoHelper."""
        self._helper = Helper("engines.lsm.worker", (directory, options, parts), 2)
        self._directory = directory

    def wait(self) -> None:
        """Returns when it runs. Raises NoHelper. Called before it is asked anything; once more is fine."""
        self._helper.wait()

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._helper.pid

    def is_ready(self) -> bool:
        """True if `wait` returns at once. O(1)."""
        return self._helper.is_ready()

    def do(self, request: Request, env: Env) -> Done:
        """Blocks until the request is done; other threads go on meanwhile, and may ask for one of the other lane.

        Raises WorkerDied, and what the request itself raised: OSError, CorruptionError, ForeignFormat.
        """
        try:
            answer: Done | Exception = self._helper.ask(request.channel, request)
        except ChannelClosed as error:
            raise WorkerDied(f"the worker process is gone: {error}") from error
        if isinstance(answer, Exception):
            raise answer
        for file in answer.files:
            name = f"{self._directory}/{table_name(file.number)}"
            env.rename(f"{name}.{self.pid}", name)
        return answer

    def leave_to_parent(self) -> None:
        """In a forked child: the process is the parent's."""
        self._helper.leave_to_parent()

    def end(self) -> None:
        """Ends the process. Requires: no job is running."""
        self._helper.end()


def serve(arguments: tuple[str, Options, Parts], channels: list[Channel]) -> Callable[[Channel], None]:
    """In the worker: what answers one request of a channel. For engines/process.py."""

    def answer(channel: Channel) -> None:
        request: Request = channel.receive()
        done: Done | Exception
        try:
            done = request.run(place)
        except (CorruptionError, ForeignFormat, OSError) as error:
            done = error
        channel.send(done)

    def pause() -> None:
        for channel in has_input([channels[FLUSHES]], 0):
            answer(channel)

    place = Place(real_env(), *arguments, pause)
    return answer
