"""LevelDB's workloads, by the names that db_bench made usual.

    fillseq            puts in key order                                an empty store
    fillrandom         puts in random order, each key once              an empty store
    fillbatch          puts in key order, in batches of 1,000           an empty store
    fillsync           puts in random order, each synced; 500 of them   an empty store
    overwrite          puts of all keys in another random order         a filled store
    readrandom         gets of keys that are there                      a filled store, opened again
    readmissing        gets of keys that aren't, between those          a filled store, opened again
    readseq            one scan of everything                           a filled store, opened again
    seekrandom         a seek, and the next ten pairs                   a filled store, opened again
    readwhilewriting   gets, while a thread puts 20,000 times a second  a filled store, opened again
    deleterandom       deletes of all keys in random order              a filled store, and none after it

Keys have 16 bytes, values 100 unless told otherwise, of which half is repeated (db_bench's compression_ratio of 0.5).
readwhilewriting ends when the thread has put as many pairs as the store has, at most 100,000: long enough for flushes and
compactions, whose marks on the latency of a get it is there to show.

Workloads run in the order in which they are asked for, each on what the one before left: readrandom after overwrite reads
a store that has been overwritten. Where no filled store is left, one is filled, outside of the time.

What differs from db_bench: fillrandom puts every key once, where db_bench draws them and leaves a third out; there, 1 key
in 1,000 is synced by fillsync; and its writer beside readers isn't held back, which under the interpreter's lock would
measure the lock.
"""

from __future__ import annotations

import random
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import cycle, islice
from typing import Literal

from bench import chunks
from bench.calls import Calls
from bench.chunks import Chunk, Latencies
from bench.workload import key_of
from engines.kvstore import Pair

__all__ = ["DB_BENCH", "SEEK_PAIRS", "Task", "Workload", "values_of"]

SEEK_PAIRS = 10
BATCH_PAIRS = 1_000
SYNC_PUTS = 500
READS_MOST = 100_000
PUTS_BESIDE = 100_000
READS_BESIDE = 2_000  # between two looks at the writer
VALUES = 10_000  # different ones
PRINTABLE = bytes(32 + byte % 95 for byte in range(256))


@dataclass(frozen=True)
class Task:
    """What a workload is given. rng: the same for each subject of a repetition. beside: how many puts another thread has
    made so far, if one writes meanwhile."""

    keys: int
    values: tuple[bytes, ...]
    rng: random.Random
    beside: Callable[[], int] | None = None

    def shuffled(self) -> array[int]:
        """The numbers of all keys in random order: 4 bytes each."""
        numbers = array("I", range(self.keys))
        self.rng.shuffle(numbers)
        return numbers


@dataclass(frozen=True, kw_only=True)
class Workload:
    """One workload, and what it needs.

    state: of the store before it; leaves: after it. reopen: it begins on a store that was
    opened since the last write. writes: whether it does. limited: by the disk and not by the processor, so that its time is
    not normalised. ordered: it needs a store with an order.
    beside: a thread writes meanwhile.
    """

    name: str
    chunks: Callable[[Task, Calls], Iterator[Chunk]] = field(repr=False)
    state: Literal["empty", "filled", "loaded"] = "filled"
    leaves: Literal["filled", "loaded", "other"] = "filled"
    reopen: bool = False
    writes: bool = True
    latencies: Latencies = "some"
    sync: bool = False
    limited: bool = False
    ordered: bool = False
    beside: bool = False


def values_of(size: int, rng: random.Random) -> tuple[bytes, ...]:
    """Different values of that many bytes: printable, the second half repeats the first."""
    return tuple(
        (half + half)[:size] for half in (rng.randbytes(-(-size // 2)).translate(PRINTABLE) for _ in range(VALUES))
    )


def _fill(task: Task, store: Calls, numbers: Iterator[int], count: int) -> Iterator[Chunk]:
    values = cycle(task.values)
    for size in chunks.sizes(count):
        yield chunks.puts(store, tuple(map(key_of, islice(numbers, size))), tuple(islice(values, size)))


def _fillseq(task: Task, store: Calls) -> Iterator[Chunk]:
    return _fill(task, store, iter(range(task.keys)), task.keys)


def _fillrandom(task: Task, store: Calls) -> Iterator[Chunk]:
    return _fill(task, store, iter(task.shuffled()), task.keys)


def _fillsync(task: Task, store: Calls) -> Iterator[Chunk]:
    return _fill(task, store, iter(task.shuffled()), min(task.keys, SYNC_PUTS))


def _fillbatch(task: Task, store: Calls) -> Iterator[Chunk]:
    pairs = zip(map(key_of, range(task.keys)), cycle(task.values))
    size = max(BATCH_PAIRS, task.keys // chunks.CHUNKS // BATCH_PAIRS * BATCH_PAIRS)
    for at in range(0, task.keys, size):
        starts = range(at, min(at + size, task.keys), BATCH_PAIRS)
        yield chunks.batches(store, tuple(tuple(islice(pairs, BATCH_PAIRS)) for _ in starts))


def _readrandom(task: Task, store: Calls) -> Iterator[Chunk]:
    numbers = task.shuffled()[:READS_MOST]
    for size, at in _parts(len(numbers)):
        yield chunks.gets(store, tuple(map(key_of, numbers[at : at + size])))


def _readwhilewriting(task: Task, store: Calls) -> Iterator[Chunk]:
    """Reads the keys over and over."""
    assert task.beside is not None, "the child has begun a writer"
    numbers = cycle(task.shuffled()[:READS_MOST])
    enough = False
    while not enough:  # at least once: a small store's puts may all be there already
        yield chunks.gets(store, tuple(map(key_of, islice(numbers, READS_BESIDE))))
        enough = task.beside() >= min(task.keys, PUTS_BESIDE)


def _readmissing(task: Task, store: Calls) -> Iterator[Chunk]:
    numbers = task.shuffled()[:READS_MOST]
    for size, at in _parts(len(numbers)):
        yield chunks.gets(store, tuple(b"%016d." % number for number in numbers[at : at + size]), present=False)


def _readseq(task: Task, store: Calls) -> Iterator[Chunk]:
    begun: list[Iterator[Pair]] = []

    def pairs() -> Iterator[Pair]:
        if not begun:
            begun.append(iter(store.scan()))
        return begun[0]

    for size in chunks.sizes(task.keys):
        yield chunks.scans(pairs, size)


def _seekrandom(task: Task, store: Calls) -> Iterator[Chunk]:
    numbers = task.shuffled()[:READS_MOST]
    numbers = numbers[: max(200, len(numbers) // 5)]
    for size, at in _parts(len(numbers)):
        yield chunks.seeks(store, tuple(map(key_of, numbers[at : at + size])), SEEK_PAIRS)


def _deleterandom(task: Task, store: Calls) -> Iterator[Chunk]:
    numbers = task.shuffled()
    for size, at in _parts(len(numbers)):
        yield chunks.deletes(store, tuple(map(key_of, numbers[at : at + size])))


def _parts(count: int) -> Iterator[tuple[int, int]]:
    """Size and beginning of each chunk."""
    at = 0
    for size in chunks.sizes(count):
        yield size, at
        at += size


DB_BENCH: dict[str, Workload] = {
    workload.name: workload
    for workload in (
        Workload(name="fillseq", chunks=_fillseq, state="empty"),
        Workload(name="fillbatch", chunks=_fillbatch, state="empty", latencies="none"),
        Workload(
            name="fillsync", chunks=_fillsync, state="empty", leaves="other", latencies="all", sync=True, limited=True
        ),
        Workload(name="fillrandom", chunks=_fillrandom, state="empty"),
        Workload(name="overwrite", chunks=_fillrandom),
        Workload(name="readrandom", chunks=_readrandom, reopen=True, writes=False),
        Workload(name="readmissing", chunks=_readmissing, reopen=True, writes=False),
        Workload(name="readseq", chunks=_readseq, reopen=True, writes=False, latencies="none"),
        Workload(name="seekrandom", chunks=_seekrandom, reopen=True, writes=False, ordered=True),
        Workload(name="readwhilewriting", chunks=_readwhilewriting, reopen=True, latencies="all", beside=True),
        Workload(name="deleterandom", chunks=_deleterandom, leaves="other"),
    )
}
