"""What an engine does in a second, in the workloads that LevelDB's db_bench made usual.

Keys have 16 bytes, values 100. A round is one fixed list of operations on a store in one fixed state, which `setup` brings
about and `teardown` checks; so each engine does the same work, however fast it is. (Letting the tool choose the number of
rounds would give faster engines larger stores.) Nothing is synced but in `fillsync`; everything goes through the contract.

    make bench                 20,000 keys        make bench KEYS=100000 ARGS="--engine lsm --engine memory"

In the fast tier each body runs once, with few keys, as a test of the benchmark.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from engines import KVStore, WriteBatch
from tests.conformance.engine_table import Engine

ROUNDS = 5
VALUE_BYTES = 100
BATCH_OPERATIONS = 1_000
SEEK_PAIRS = 10
KEYS_AS_TEST = 200
SYNCS_SHARE = 20  # fillsync does one in so many operations of the others: it waits for a disk


def key_of(number: int) -> bytes:
    return b"%016d" % number


@dataclass
class Bench:
    """One engine, a directory, and the lists that the workloads go through."""

    engine: Engine
    directory: Path
    benchmark: BenchmarkFixture
    keys_count: int
    rng: random.Random
    _directories = count()

    def __post_init__(self) -> None:
        self.opened: list[KVStore] = []
        self.in_order = [key_of(number) for number in range(self.keys_count)]
        self.shuffled = self.rng.sample(self.in_order, self.keys_count)
        noise = self.rng.randbytes(VALUE_BYTES * 1_000)
        self.values = [
            noise[at : at + VALUE_BYTES] for at in self.rng.choices(range(len(noise) - VALUE_BYTES), k=1_000)
        ]

    def value_of(self, number: int) -> bytes:
        return self.values[number % len(self.values)]

    def open(self, path: str | None = None, *, sync: bool = False) -> KVStore:
        store = self.engine.open(path or str(self.directory / f"store {next(self._directories)}"), sync=sync)
        self.opened.append(store)
        return store

    def filled(self, path: str | None = None) -> KVStore:
        """A store with all keys, written in random order, and compacted."""
        store = self.open(path)
        for at in range(0, self.keys_count, BATCH_OPERATIONS):
            with store.batch() as batch:
                for number, key in enumerate(self.shuffled[at : at + BATCH_OPERATIONS], at):
                    batch.put(key, self.value_of(number))
        store.compact()
        return store

    def run(
        self,
        body: Callable[[KVStore], int],
        *,
        fresh: Callable[[], KVStore],
        check: Callable[[KVStore], None] = lambda store: None,
    ) -> None:
        """Each round runs `body` on a store of its own from `fresh`; `check` looks at what it left."""

        def teardown(store: KVStore) -> None:
            check(store)
            store.close()

        operations = self.benchmark.pedantic(
            body, setup=lambda: ((fresh(),), {}), teardown=teardown, rounds=ROUNDS, iterations=1
        )
        self.note(operations)

    def run_on(self, store: KVStore, body: Callable[[KVStore], int]) -> None:
        """Rounds of reading from one store; the first one, which fills its caches, isn't counted."""
        with store:
            self.note(self.benchmark.pedantic(body, args=(store,), rounds=ROUNDS, iterations=1, warmup_rounds=1))

    def note(self, operations: int) -> None:
        """Leaves in the results what the table is made of."""
        workload = self.benchmark.name.removeprefix("test_").partition("[")[0]
        self.benchmark.extra_info.update(engine=self.engine.name, workload=workload, operations=operations)

    def holds(self, keys: int) -> Callable[[KVStore], None]:
        """A check: so many keys, in order, each with a whole value."""

        def check(store: KVStore) -> None:
            pairs = list(store.scan())
            assert [key for key, _ in pairs] == self.in_order[:keys]
            assert all(len(value) == VALUE_BYTES for _, value in pairs)

        return check


@pytest.fixture
def bench(engine: Engine, tmp_path: Path, benchmark: BenchmarkFixture, rng: random.Random) -> Iterator[Bench]:
    keys = int(os.environ.get("METCD_BENCH_KEYS", "20000")) if benchmark.enabled else KEYS_AS_TEST
    benchmark.group = "engines"
    made = Bench(engine, tmp_path, benchmark, keys, rng)
    yield made
    for store in made.opened:  # pytest-benchmark calls no teardown when it doesn't measure
        store.close()


def put_all(bench: Bench, keys: list[bytes]) -> Callable[[KVStore], int]:
    def body(store: KVStore) -> int:
        for number, key in enumerate(keys):
            store.put(key, bench.value_of(number))
        return len(keys)

    return body


def test_fillseq(bench: Bench) -> None:
    """One put after the other, in key order."""
    bench.run(put_all(bench, bench.in_order), fresh=bench.open, check=bench.holds(bench.keys_count))


def test_fillrandom(bench: Bench) -> None:
    """One put after the other, in random order."""
    bench.run(put_all(bench, bench.shuffled), fresh=bench.open, check=bench.holds(bench.keys_count))


def test_overwrite(bench: Bench) -> None:
    """Every key of a full store is put once more, in random order."""
    again = bench.rng.sample(bench.in_order, bench.keys_count)
    bench.run(put_all(bench, again), fresh=bench.filled, check=bench.holds(bench.keys_count))


def test_fillbatch(bench: Bench) -> None:
    """Batches of 1,000, in random order. An operation is one key."""

    def body(store: KVStore) -> int:
        for at in range(0, bench.keys_count, BATCH_OPERATIONS):
            batch = WriteBatch()
            for number, key in enumerate(bench.shuffled[at : at + BATCH_OPERATIONS], at):
                batch.put(key, bench.value_of(number))
            store.write(batch)
        return bench.keys_count

    bench.run(body, fresh=bench.open, check=bench.holds(bench.keys_count))


def test_fillsync(bench: Bench) -> None:
    """Puts that are on disk when they return. For an engine without files it is fillseq."""
    keys = bench.in_order[: max(1, bench.keys_count // SYNCS_SHARE)]
    bench.run(put_all(bench, keys), fresh=lambda: bench.open(sync=True), check=bench.holds(len(keys)))


def test_delete(bench: Bench) -> None:
    """Every key of a full store is deleted, in random order."""
    order = bench.rng.sample(bench.in_order, bench.keys_count)

    def body(store: KVStore) -> int:
        for key in order:
            store.delete(key)
        return len(order)

    bench.run(body, fresh=bench.filled, check=bench.holds(0))


def test_readrandom(bench: Bench) -> None:
    """Every key of a compacted store is read, in random order."""
    order = bench.rng.sample(bench.in_order, bench.keys_count)

    def body(store: KVStore) -> int:
        found = 0
        for key in order:
            found += store.get(key) is not None
        assert found == len(order)
        return found

    bench.run_on(bench.filled(), body)


def test_readmissing(bench: Bench) -> None:
    """As readrandom, for keys that lie between those that are there."""
    order = [key + b"." for key in bench.rng.sample(bench.in_order, bench.keys_count)]

    def body(store: KVStore) -> int:
        missing = 0
        for key in order:
            missing += store.get(key) is None
        assert missing == len(order)
        return missing

    bench.run_on(bench.filled(), body)


def test_readseq(bench: Bench) -> None:
    """One scan of everything. An operation is one pair."""

    def body(store: KVStore) -> int:
        pairs = sum(1 for _ in store.scan())
        assert pairs == bench.keys_count
        return pairs

    bench.run_on(bench.filled(), body)


def test_seek10(bench: Bench) -> None:
    """Scans from a random key on, of ten pairs. An operation is one scan."""
    starts = [
        key_of(number) for number in bench.rng.choices(range(bench.keys_count - SEEK_PAIRS), k=bench.keys_count // 5)
    ]

    def body(store: KVStore) -> int:
        for start in starts:
            pairs = list(islice(store.scan(start), SEEK_PAIRS))
            assert pairs[0][0] == start and len(pairs) == SEEK_PAIRS
        return len(starts)

    bench.run_on(bench.filled(), body)


@pytest.mark.persistent
def test_reopen(bench: Bench) -> None:
    """A store that was closed is opened, and a key is read. An operation is one key of the store."""
    path = str(bench.directory / "full")
    bench.filled(path).close()

    def body() -> int:
        with bench.open(path) as store:
            assert store.get(bench.in_order[-1]) is not None
        return bench.keys_count

    bench.note(bench.benchmark.pedantic(body, rounds=ROUNDS, iterations=1, warmup_rounds=1))
