"""YCSB's workloads A to F, and mixes of one's own (Cooper et al., "Benchmarking Cloud Serving Systems with YCSB", 2010).

    ycsb-a    50 % gets, 50 % puts                    zipfian    a store of sessions
    ycsb-b    95 % gets, 5 % puts                     zipfian    tags of photos
    ycsb-c    gets                                    zipfian    a cache of profiles
    ycsb-d    95 % gets, 5 % inserts                  latest     what friends have just written
    ycsb-e    95 % scans of 1 to 100, 5 % inserts     zipfian    conversations
    ycsb-f    50 % gets, 50 % a get and then a put    zipfian    records that are changed
    get=90,put=8,scan=2                               zipfian    a mix; also insert and delete. A scan asks for 10 pairs

There are as many operations as keys, READS_MOST at most. Keys are loaded in batches before the time begins, and the store
is opened again. Popular keys lie anywhere: a key is its number, mixed, in 16 hexadecimal digits, which is YCSB's "hashed"
order. A mix of one's own takes the chooser and the skew of the command line.

What differs from YCSB: a value is one field of 100 bytes, unless told otherwise, and not ten.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bench import chunks
from bench.calls import Calls
from bench.choosers import THETA, Chooser, Latest, Uniform, Zipfian
from bench.chunks import Call, Chunk
from bench.db_bench import READS_MOST, Task, Workload
from bench.workload import SCAN_PAIRS, Kind, Mix

__all__ = ["CHOOSERS", "YCSB", "Choice", "hashed_key", "mix_of", "mix_workload", "ycsb_workload"]

CHOOSERS = ("uniform", "zipfian", "latest")
SCAN_MOST = 100  # of workload E
MASK = (1 << 64) - 1


@dataclass(frozen=True)
class Choice:
    """How keys are chosen: one of CHOOSERS, and its skew."""

    name: str = "zipfian"
    theta: float = THETA

    def make(self, keys: int, rng: random.Random) -> Chooser:
        """The chooser, for so many keys."""
        if self.name == "uniform":
            return Uniform(keys)
        return (Zipfian if self.name == "zipfian" else Latest)(keys, rng, self.theta)


def hashed_key(number: int) -> bytes:
    """The key of a number: another one for each number below 2^64, in no order.

    The end of splitmix64 (Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators", 2014), which can be undone,
    so that no two numbers meet.
    """
    number = (number + 0x9E3779B97F4A7C15) & MASK
    number = ((number ^ number >> 30) * 0xBF58476D1CE4E5B9) & MASK
    number = ((number ^ number >> 27) * 0x94D049BB133111EB) & MASK
    return b"%016x" % (number ^ number >> 31)


def mix_of(text: str) -> Mix:
    """A mix as it is typed: "get=90,put=8,scan=2", in parts of their sum. Raises ValueError, with a sentence."""
    parts: dict[str, float] = {}
    for part in text.split(","):
        name, equals, share = part.strip().partition("=")
        if not equals or name not in {kind.value for kind in Kind}:
            raise ValueError(f"a mix is written get=90,put=8,scan=2 (also insert, delete), and this is {text!r}")
        if name in parts:
            raise ValueError(f"the mix {text!r} has {name} twice")
        try:
            parts[name] = float(share)
        except ValueError:
            raise ValueError(f"the share of {name} in a mix is a number, and this is {share!r}") from None
    total = sum(parts.values())
    if not (0 < total < float("inf")) or min(parts.values()) < 0:
        raise ValueError(f"the shares of a mix are at least 0, and one is more: this is {text!r}")
    return Mix(**{name: share / total for name, share in parts.items()})


def mix_workload(text: str, choice: Choice) -> Workload:
    """A mix of one's own as a workload, called as it was typed. Raises ValueError."""
    return _workload(text, mix_of(text), choice)


def ycsb_workload(letter: str, theta: float = THETA) -> Workload:
    """One of YCSB's, by its letter in small. Raises KeyError."""
    mix, chooser = YCSB[letter]
    return _workload(f"ycsb-{letter}", mix, Choice(chooser, theta), scan_most=SCAN_MOST, rewrites=letter == "f")


YCSB = {
    "a": (Mix(get=0.5, put=0.5), "zipfian"),
    "b": (Mix(get=0.95, put=0.05), "zipfian"),
    "c": (Mix(get=1.0), "zipfian"),
    "d": (Mix(get=0.95, insert=0.05), "latest"),
    "e": (Mix(scan=0.95, insert=0.05), "zipfian"),
    "f": (Mix(get=0.5, put=0.5), "zipfian"),
}


def _workload(name: str, mix: Mix, choice: Choice, *, scan_most: int = 0, rewrites: bool = False) -> Workload:
    def steps(task: Task, store: Calls) -> Iterator[Chunk]:
        work = _Work(task, store, mix, choice.make(task.keys, task.rng), scan_most, rewrites)
        for size in chunks.sizes(min(task.keys, READS_MOST)):
            yield work.chunk(size)

    return Workload(
        name=name, chunks=steps, state="loaded", leaves="other" if mix.insert or mix.delete else "loaded", reopen=True,
        ordered=bool(mix.scan),
    )  # fmt: skip


class _Work:
    """The operations of a mix, one after the other, as calls of a store."""

    def __init__(self, task: Task, store: Calls, mix: Mix, chooser: Chooser, scan_most: int, rewrites: bool) -> None:
        self.rng, self.values, self.next_number = task.rng, task.values, task.keys
        self.mix, self.chooser, self.scan_most = mix, chooser, scan_most
        self.store = store
        self.finds = self.pairs = 0  # of the chunk that is being made
        self.put = self._rewrite if rewrites else store.put

    def chunk(self, size: int) -> Chunk:
        """The next operations. Without deletes, every read finds something."""
        self.finds = self.pairs = 0
        each = tuple(self._call() for _ in range(size))
        return chunks.calls(each, None if self.mix.delete else self.finds, self.pairs)

    def _call(self) -> Call:
        kind = self.mix.kind(self.rng.random())
        if kind is Kind.INSERT:
            key = hashed_key(self.next_number)
            self.next_number += 1
            self.chooser.grow()
            return self.store.put, (key, self._value())
        key = hashed_key(self.chooser.next(self.rng))
        if kind is Kind.GET:
            self.finds, self.pairs = self.finds + 1, self.pairs + 1
            return self.store.get, (key,)
        if kind is Kind.SCAN:
            count = self.rng.randint(1, self.scan_most) if self.scan_most else SCAN_PAIRS
            self.finds, self.pairs = self.finds + 1, self.pairs + count
            seek: Any = self.store.seek
            return seek, (key, count)
        if kind is Kind.DELETE:
            return self.store.delete, (key,)
        return self.put, (key, self._value())

    def _value(self) -> bytes:
        return self.rng.choice(self.values)

    def _rewrite(self, key: bytes, value: bytes) -> None:
        """Reads a record and writes it, changed."""
        self.store.get(key)
        self.store.put(key, value)
