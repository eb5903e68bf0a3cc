"""Which engine fits a mix of operations, why, and where the answer flips.

    metcd advise --mix get=90,put=8,scan=2 --keys 50000 --value 100 --zipf 0.99

The model: each kind of operation is run by itself, once on each engine, on a store of the size that is asked about. A
mix then costs the sum of its kinds, each times its share; where two engines' sums are equal, the answer flips
(`bench/flips.py`). Two questions have two answers:

    larger than memory   counted. The engine's caches hold a small share of the data, 1 % if nothing is said. What an
                         operation read, wrote and synced then costs what a disk takes for it (`Disk`). Nothing of it is
                         timed, and lsm does its compactions in the calling thread: the figures are the same every day
    in memory            timed, on this machine, with the engines' own options and caches that were warmed up

The reason is a counter in both cases: which kind of operation makes most of the difference between the first and the
second, and what one of that kind reads, writes and syncs.

Limits, which `REMARKS` repeats in the output:

1. An engine pays later for what it puts off. A run that doesn't fill lsm's write buffer several times has next to no
   compactions in it, and one that doesn't fill a segment of bitcask no merges: then ask with more keys.
2. Kinds are priced apart. In a mix they help or hinder each other, so the mix itself is run as well, and stands beside
   the sum.
3. The operating system's cache isn't counted: a read is a read, and it is the same for every engine.
4. Memory isn't priced: bitcask keeps every key in it.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import engines
from bench.choosers import Chooser, Uniform, Zipfian
from bench.counters import Costs, measure
from bench.flips import Stretch, cheapest, mix_cost, stretches
from bench.results import Subject
from bench.workload import SCAN_PAIRS, Kind, Mix, Operation, apply, key_of, operations
from engines import KVStore

__all__ = ["REMARKS", "Advice", "Disk", "Priced", "Question", "advise", "price", "run_mix", "store_options"]

BATCH = 100
WARM_UP_SHARE = 5  # one in so many operations is done before the clock runs
REMARKS = (
    "What an engine puts off beyond the run isn't counted, nor is the operating system's cache.",
    "bitcask keeps every key in memory, which isn't counted either.",
)


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked about. theta: of the zipfian chooser, 0 for uniform. cache_share: of the data, for the counted half."""

    mix: Mix
    keys: int = 50_000
    value_bytes: int = 100
    theta: float = 0.99
    sync: bool = False
    cache_share: float = 0.01
    seed: int = 0

    @property
    def operations(self) -> int:
        """How many operations of a kind are run."""
        return max(1, min(self.keys // 2, 50_000))

    @property
    def data_bytes(self) -> int:
        """Keys and values together."""
        return self.keys * (len(key_of(0)) + self.value_bytes)


@dataclass(frozen=True)
class Disk:
    """What a disk takes, in seconds: an SSD of no particular make."""

    read: float = 100e-6
    byte: float = 2e-9
    sync: float = 1e-3

    def seconds(self, costs: Costs) -> float:
        """What it takes for one operation's reads, bytes and fsyncs."""
        moved = costs.bytes_read + costs.bytes_written
        return costs.reads * self.read + moved * self.byte + costs.fsyncs * self.sync


@dataclass(frozen=True)
class Priced:
    """One engine's half of an answer. prices: seconds an operation; costs: what was counted in the same run.

    mix_price and mix_costs are those of the mix itself, really run.
    """

    prices: dict[Kind, float]
    costs: dict[Kind, Costs]
    mix_price: float
    mix_costs: Costs


@dataclass(frozen=True)
class Advice:
    """The answer to a question: engines in their order, and which is the first from which share of a kind on."""

    question: Question
    ranking: list[str]
    priced: dict[str, Priced]
    flips: dict[Kind, list[Stretch]]

    def sum_of(self, engine: str) -> float:
        """What the model says that an operation of the mix costs this engine, in seconds."""
        return mix_cost(self.priced[engine].prices, self.question.mix)

    @property
    def deciding(self) -> Kind:
        """The kind of operation that makes most of the difference between the first and the second engine."""
        first, second = (self.priced[engine].prices for engine in self.ranking[:2])
        shares = self.question.mix.shares
        return max(Kind, key=lambda kind: shares[kind] and shares[kind] * (second[kind] - first[kind]))


def store_options(subject: Subject, question: Question, *, counted: bool) -> dict[str, Any]:
    """How a store is opened: in the subject's options, or with small caches and in one thread besides, to be counted."""
    known = engines.options(subject.engine)
    told = dict(subject.options)
    if "sync" in known:
        told["sync"] = question.sync
    if not counted:
        return told
    cache_bytes = int(question.data_bytes * question.cache_share)
    if "cache_bytes" in known:
        told["cache_bytes"] = cache_bytes
    if "background" in known:
        told["background"] = False
    return told


def chooser_of(question: Question, rng: random.Random) -> Chooser:
    """Which key comes next."""
    return Zipfian(question.keys, rng, question.theta) if question.theta else Uniform(question.keys)


def work_of(question: Question, mix: Mix, *, added: int = 0) -> list[Operation]:
    """The same operations for each engine. added: how many keys were added by inserts before."""
    rng = random.Random(question.seed)
    count = question.operations
    if mix.scan == 1.0:
        count = max(1, count // SCAN_PAIRS)  # each of them reads that many pairs
    chosen = operations(mix, chooser_of(question, rng), count, rng, keys=question.keys + added)
    return [
        each._replace(value=rng.randbytes(question.value_bytes)) if each.kind in (Kind.PUT, Kind.INSERT) else each
        for each in chosen
    ]


def fill(store: KVStore, question: Question) -> None:
    """Puts all keys, in random order and in batches, and flushes."""
    rng = random.Random(question.seed)
    numbers = iter(rng.sample(range(question.keys), question.keys))
    while chunk := list(islice(numbers, BATCH)):
        with store.batch(sync=False) as batch:
            for number in chunk:
                batch.put(key_of(number), rng.randbytes(question.value_bytes))
    store.flush()


def counted(store: KVStore, work: Sequence[Operation]) -> tuple[float, Costs]:
    """Does the work, and says what a disk takes for one operation of it."""
    costs = Costs.of(measure(store, work))
    return Disk().seconds(costs), costs


def timed(store: KVStore, work: Sequence[Operation]) -> tuple[float, Costs]:
    """Warms up with the first few, does the rest of the work, and says how long one operation of it took."""
    warm_up = len(work) // WARM_UP_SHARE
    for operation in work[:warm_up]:
        apply(store, operation)
    began = time.perf_counter()
    costs = Costs.of(measure(store, work[warm_up:]))
    return (time.perf_counter() - began) / (len(work) - warm_up), costs


Runner = Callable[[KVStore, Sequence[Operation]], tuple[float, Costs]]
Step = Callable[[str], object]  # called with the subject's name, for a progress bar


def price(subject: Subject, question: Question, *, by_counting: bool, step: Step = str) -> Priced:
    """Runs the mix and then each kind by itself, on one store that is filled and opened again. Deletions come last."""
    run: Runner = counted if by_counting else timed
    options = store_options(subject, question, counted=by_counting)
    found: dict[Kind, tuple[float, Costs]] = {}
    with tempfile.TemporaryDirectory(prefix="metcd-advise-") as directory:
        with engines.open(f"{directory}/store", subject.engine, **options) as store:
            fill(store, question)
        step(subject.name)
        with engines.open(f"{directory}/store", subject.engine, **options) as store:
            mix_price, mix_costs = run(store, work_of(question, question.mix))
            step(subject.name)
            for kind in (Kind.GET, Kind.SCAN, Kind.PUT, Kind.INSERT, Kind.DELETE):
                work = work_of(question, Mix(**{kind.value: 1.0}), added=question.operations)
                found[kind] = run(store, work)
                step(subject.name)
    prices = {kind: seconds for kind, (seconds, _) in found.items()}
    return Priced(prices, {kind: costs for kind, (_, costs) in found.items()}, mix_price, mix_costs)


def run_mix(subject: Subject, question: Question) -> float:
    """What a disk takes for one operation of the question's mix, which is really run: the model's judge."""
    options = store_options(subject, question, counted=True)
    with tempfile.TemporaryDirectory(prefix="metcd-advise-") as directory:
        with engines.open(f"{directory}/store", subject.engine, **options) as store:
            fill(store, question)
        with engines.open(f"{directory}/store", subject.engine, **options) as store:
            return counted(store, work_of(question, question.mix))[0]


STEPS = 2 + len(Kind)  # of `price`, for a progress bar


def advise(subjects: Sequence[Subject], question: Question, *, by_counting: bool, step: Step = str) -> Advice:
    """Ranks engines, each in its options, for the mix, and looks for flips. Requires: at least two engines. step: is called STEPS times for each."""
    found = {each.name: price(each, question, by_counting=by_counting, step=step) for each in subjects}
    prices = {engine: each.prices for engine, each in found.items()}
    movable = [kind for kind, share in question.mix.shares.items() if share < 1]  # not one that is the whole mix
    flips = {kind: stretches(prices, question.mix, kind) for kind in movable}
    return Advice(question, cheapest(prices, question.mix), found, flips)
