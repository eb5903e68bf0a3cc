"""What the workloads do to a store: db_bench's, YCSB's, and mixes."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest

from bench import chunks
from bench.calls import Calls, calls_of
from bench.child import workload_named
from bench.db_bench import DB_BENCH, Task, Workload, values_of
from bench.workload import key_of
from bench.ycsb import YCSB, hashed_key, mix_of
from engines.memory import MemoryStore

KEYS = 1_000
VALUES = values_of(100, random.Random(0))


class Recorder:
    """A store in memory that notes what it is asked."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.asked: list[tuple[str, Any]] = []
        calls = calls_of(self.store)
        assert calls.seek is not None
        noting = {name: self._noting(name, getattr(calls, name)) for name in ("put", "get", "delete", "batch", "seek")}
        self.calls = Calls(**noting, scan=calls.scan, close=calls.close)  # type: ignore[arg-type]

    def _noting(self, name: str, call: Any) -> Any:
        def noting(*arguments: Any) -> Any:
            self.asked.append((name, arguments))
            return call(*arguments)

        return noting

    def run(self, workload: Workload, seed: str = "0") -> chunks.Timed:
        """The workload, with nothing noted before it."""
        self.asked.clear()
        steps = workload.chunks(Task(KEYS, VALUES, random.Random(seed)), self.calls)
        return chunks.run(steps, "none", 60)

    def keys(self, name: str) -> list[bytes]:
        return [arguments[0] for asked, arguments in self.asked if asked == name]


@pytest.fixture
def filled() -> Iterator[Recorder]:
    recorder = Recorder()
    recorder.run(DB_BENCH["fillrandom"])
    yield recorder


ALL = [key_of(number) for number in range(KEYS)]


def test_fills_put_every_key_once() -> None:
    recorder = Recorder()
    recorder.run(DB_BENCH["fillseq"])
    assert recorder.keys("put") == ALL
    recorder.run(DB_BENCH["fillrandom"])
    assert recorder.keys("put") != ALL and sorted(recorder.keys("put")) == ALL
    recorder.run(DB_BENCH["fillbatch"])
    batches = [pairs for (pairs,) in (arguments for name, arguments in recorder.asked if name == "batch")]
    assert [key for pairs in batches for key, _ in pairs] == ALL and max(map(len, batches)) == 1_000
    recorder.run(DB_BENCH["fillsync"])
    assert len(recorder.keys("put")) == 500 and DB_BENCH["fillsync"].sync


def test_the_order_of_a_random_fill_depends_on_the_seed_alone() -> None:
    one, other = Recorder(), Recorder()
    for recorder, seed in ((one, "a"), (other, "a")):
        recorder.run(DB_BENCH["fillrandom"], seed)
    assert one.asked == other.asked
    other.run(DB_BENCH["fillrandom"], "b")
    assert one.asked != other.asked


def test_reads_find_what_they_should(filled: Recorder) -> None:
    filled.run(DB_BENCH["overwrite"], "1")
    assert sorted(filled.keys("put")) == ALL
    assert filled.run(DB_BENCH["readrandom"]).pairs == KEYS and sorted(filled.keys("get")) == ALL
    assert filled.run(DB_BENCH["readmissing"]).pairs == 0
    assert not set(filled.keys("get")) & set(ALL) and all(ALL[0] < key < ALL[-1] + b"~" for key in filled.keys("get"))
    assert filled.run(DB_BENCH["readseq"]).pairs == KEYS
    assert filled.run(DB_BENCH["seekrandom"]).operations == 200
    assert {arguments[1] for name, arguments in filled.asked} == {10}


def test_reads_beside_a_writer_that_is_already_done(filled: Recorder) -> None:
    """A small store's puts may all be there before the first read: there are reads all the same, and they end."""
    puts = iter([KEYS])
    task = Task(KEYS, VALUES, random.Random(0), lambda: next(puts))
    steps = DB_BENCH["readwhilewriting"].chunks(task, filled.calls)
    assert chunks.run(steps, "none", 60).operations == 2_000


def test_deletes_leave_nothing(filled: Recorder) -> None:
    filled.run(DB_BENCH["deleterandom"])
    assert sorted(filled.keys("delete")) == ALL and list(filled.store.scan()) == []


@pytest.mark.parametrize("size", [0, 1, 7, 100, 4_001])
def test_values_have_their_size_and_are_half_compressible(size: int) -> None:
    """db_bench's compression_ratio of 0.5; printable, for tools that show them."""
    values = values_of(size, random.Random(1))
    assert {len(value) for value in values} == {size}
    assert all(value.isascii() and value.decode().isprintable() for value in values)
    assert values[0][: size // 2] == values[0][-(-size // 2) :][: size // 2]


def loaded() -> Recorder:
    recorder = Recorder()
    recorder.calls.batch([(hashed_key(number), b"value") for number in range(KEYS)])
    return recorder


@pytest.mark.parametrize("letter", YCSB)
def test_ycsb_has_its_shares(letter: str) -> None:
    """Of 1,000 operations; within four standard deviations. Without deletes every get finds its key."""
    recorder = loaded()
    timed = recorder.run(workload_named(f"ycsb-{letter}", "zipfian", 0.99))
    asked = Counter(name for name, _ in recorder.asked)
    mix = YCSB[letter][0]
    writes = mix.put + mix.insert
    assert asked["put"] == pytest.approx(writes * KEYS, abs=4 * (KEYS / 4) ** 0.5)
    assert asked["seek"] == pytest.approx(mix.scan * KEYS, abs=4 * (KEYS / 4) ** 0.5)
    assert asked["get"] == pytest.approx(
        (mix.get + (mix.put if letter == "f" else 0)) * KEYS, abs=4 * (KEYS / 4) ** 0.5
    )
    assert timed.operations == KEYS
    added = [key for key in recorder.keys("put") if key not in {hashed_key(number) for number in range(KEYS)}]
    assert bool(added) == bool(mix.insert) and len(set(added)) == len(added)


def test_workload_f_reads_a_record_before_it_writes_it() -> None:
    recorder = loaded()
    recorder.run(workload_named("ycsb-f", "zipfian", 0.99))
    for at, (name, arguments) in enumerate(recorder.asked):
        if name == "put":
            assert recorder.asked[at - 1] == ("get", arguments[:1])


def test_scans_of_workload_e_ask_for_1_to_100() -> None:
    recorder = loaded()
    recorder.run(workload_named("ycsb-e", "zipfian", 0.99))
    counts = [arguments[1] for name, arguments in recorder.asked if name == "seek"]
    assert min(counts) < 10 and max(counts) > 90 and set(counts) <= set(range(1, 101))


def test_hashed_keys_are_different_and_in_no_order() -> None:
    keys = [hashed_key(number) for number in range(100_000)]
    assert len(set(keys)) == len(keys) and {len(key) for key in keys} == {16}
    assert 45_000 < sum(one < other for one, other in pairwise(keys)) < 55_000
    assert hashed_key(0) == b"e220a8397b1dcdaf", "splitmix64's first number for the seed 0"


def test_a_mix_takes_shares_of_any_sum() -> None:
    assert mix_of("get=90,put=8,scan=2") == mix_of("get=0.9, put=0.08, scan=0.02") == mix_of("scan=1,put=4,get=45")
    recorder = loaded()
    recorder.run(workload_named("get=1,delete=1", "uniform", 0.99))
    assert {name for name, _ in recorder.asked} == {"get", "delete"}


@pytest.mark.parametrize(
    "text", ["", "get", "get=", "get=x", "get=1,get=1", "get=-1,put=2", "get=inf", "get=nan", "go=1"]
)
def test_what_is_no_mix_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"mix|share"):
        mix_of(text)
