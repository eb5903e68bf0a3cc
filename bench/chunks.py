"""A workload in chunks: what is timed, and what stands between.

    make chunk 1, run it, probe, make chunk 2, run it, probe, ...

Keys and values of a chunk are made just before it runs, outside of its time: so a run of 10^7 keys needs no memory for
them, and a key is as fresh as a caller's would be. They are tuples of bytes, which the cyclic garbage collector stops to
look at after the first time.

Of a workload whose latencies are wanted, one chunk in five is timed operation by operation, and the others as wholes: a
look at the clock takes 50 ns, a third of what a fast get takes. Time and rate are those of the whole chunks, scaled to all
operations.

Every chunk counts what it found. A store that finds too little would be the fastest.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Literal

from bench.calls import Calls
from bench.latency import Recorder
from bench.probe import probe
from bench.resident import resident_bytes
from engines.kvstore import Pair

__all__ = [
    "Call",
    "Chunk",
    "Latencies",
    "Timed",
    "WrongAnswers",
    "calls",
    "deletes",
    "gets",
    "puts",
    "run",
    "scans",
    "seeks",
]

CHUNKS = 25
CHUNK_LEAST = 100  # operations
SINGLY = 5  # one chunk in so many is timed operation by operation

Call = tuple[Callable[..., Any], tuple[Any, ...]]
Latencies = Literal["none", "some", "all"]


class WrongAnswers(Exception):
    """A store found too little or too much; the sentence says how much."""


@dataclass(frozen=True)
class Chunk:
    """So many operations. run: does all, and returns how many found something, which has to be `finds`; None: nobody knows.

    pairs: that are asked for. each: the operations as single calls, or None.
    """

    operations: int
    run: Callable[[], int]
    each: Callable[[], Iterable[Call]] | None = None
    finds: int | None = None
    pairs: int = 0


@dataclass
class Timed:
    """What a workload took. chunks: (operations, seconds, probe in ns beside it) of those that were timed as wholes."""

    chunks: list[tuple[int, float, float]] = field(default_factory=list)
    operations: int = 0  # all that were done
    pairs: int = 0  # that these asked for
    latencies: Recorder = field(default_factory=Recorder)
    resident_bytes: int | None = None  # the most at the end of a chunk
    own_bytes: int = 0  # of these, what was taken to make the first chunk: tables of choosers, and keys
    cut: bool = False  # the time limit came first


def sizes(count: int) -> Iterator[int]:
    """How many operations each chunk has, for `count` of them."""
    size = max(CHUNK_LEAST, -(-count // CHUNKS))
    for at in range(0, count, size):
        yield min(size, count - at)


def run(chunks: Iterable[Chunk], latencies: Latencies, limit_s: float) -> Timed:
    """Runs a workload's chunks, and no more of them once they have taken `limit_s`. Raises WrongAnswers."""
    timed, spent, resident = Timed(), 0.0, resident_bytes()
    before = probe()
    for number, chunk in enumerate(chunks):
        if number == 0 and resident is not None:
            timed.own_bytes = max(0, (resident_bytes() or 0) - resident)
        if spent > limit_s:
            timed.cut = True
            break
        singly = latencies == "all" or (latencies == "some" and number % SINGLY == SINGLY // 2)
        if singly and chunk.each is not None:
            noted: list[int] = []
            seconds = _singly(list(chunk.each()), noted)
            timed.latencies.add(noted)
        else:
            began = time.perf_counter()
            found = chunk.run()
            seconds = time.perf_counter() - began
            if chunk.finds is not None and found != chunk.finds:
                raise WrongAnswers(
                    f"of {chunk.operations:,} operations {found:,} found something, and not {chunk.finds:,}"
                )
        after = probe()
        spent += seconds
        timed.operations += chunk.operations
        timed.pairs += chunk.pairs
        if not singly or latencies == "all":
            timed.chunks.append((chunk.operations, seconds, (before + after) / 2))
        before = after
        if (resident := resident_bytes()) is not None:
            timed.resident_bytes = max(timed.resident_bytes or 0, resident)
    return timed


def _singly(calls: Sequence[Call], noted: list[int]) -> float:
    """Notes the time of each call, in nanoseconds, and returns that of all, and what lay between them, in seconds."""
    clock, note = time.perf_counter_ns, noted.append
    first = clock()
    for call, arguments in calls:
        began = clock()
        call(*arguments)
        note(clock() - began)
    return (clock() - first) / 1e9


# ---- the loops ------------------------------------------------------------------------------------------------------


def puts(store: Calls, keys: Sequence[bytes], values: Sequence[bytes]) -> Chunk:
    """A put of each key."""
    put = store.put

    def run() -> int:
        for key, value in zip(keys, values):
            put(key, value)
        return 0

    return Chunk(len(keys), run, lambda: ((put, pair) for pair in zip(keys, values)))


def gets(store: Calls, keys: Sequence[bytes], *, present: bool = True) -> Chunk:
    """A get of each key. present: whether the keys are there."""
    get = store.get

    def run() -> int:
        found = 0
        for key in keys:
            if get(key) is not None:
                found += 1
        return found

    count = len(keys) if present else 0
    return Chunk(len(keys), run, lambda: ((get, (key,)) for key in keys), finds=count, pairs=count)


def deletes(store: Calls, keys: Sequence[bytes]) -> Chunk:
    """A delete of each key."""
    delete = store.delete

    def run() -> int:
        for key in keys:
            delete(key)
        return 0

    return Chunk(len(keys), run, lambda: ((delete, (key,)) for key in keys))


def seeks(store: Calls, keys: Sequence[bytes], count: int) -> Chunk:
    """The next `count` pairs from each key on."""
    seek = store.seek
    assert seek is not None, "the workload is left out for a store without an order"

    def run() -> int:
        found = 0
        for key in keys:
            if seek(key, count):
                found += 1
        return found

    return Chunk(
        len(keys), run, lambda: ((seek, (key, count)) for key in keys), finds=len(keys), pairs=len(keys) * count
    )


def scans(pairs: Callable[[], Iterator[Pair]], count: int) -> Chunk:
    """The next `count` pairs of a scan that goes on from chunk to chunk; each is an operation.

    pairs: gives the scan, and begins it when it is first asked: some stores sort their keys then.
    """

    def run() -> int:
        found = 0
        for _ in islice(pairs(), count):
            found += 1
        return found

    return Chunk(count, run, finds=count, pairs=count)


def batches(store: Calls, pairs: Sequence[Sequence[Pair]]) -> Chunk:
    """Batches of puts; each put is an operation."""
    write = store.batch

    def run() -> int:
        for batch in pairs:
            write(batch)
        return 0

    return Chunk(sum(map(len, pairs)), run)


def calls(each: Sequence[Call], finds: int | None, pairs: int) -> Chunk:
    """Calls of several kinds, of which `finds` read what is there; None: nobody knows. A call that writes may return a thing."""

    def run() -> int:
        found = 0
        for call, arguments in each:
            if call(*arguments) is not None:
                found += 1
        return found if finds is None else min(found, finds)

    return Chunk(len(each), run, lambda: each, finds=finds, pairs=pairs)
