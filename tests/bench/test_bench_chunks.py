"""Chunks: what is timed, what stands between, and what is refused. Probe and memory beside them."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from bench import chunks
from bench.calls import Calls, calls_of
from bench.chunks import Chunk, WrongAnswers
from bench.probe import probe
from bench.resident import resident_bytes
from engines.memory import MemoryStore


@pytest.fixture
def calls() -> Calls:
    store = calls_of(MemoryStore())
    store.batch([(b"%03d" % number, b"value") for number in range(100)])
    return store


@pytest.mark.parametrize("count", [1, 99, 100, 2_500, 2_501, 1_000_000])
def test_sizes_make_the_count(count: int) -> None:
    """At most 25 chunks, of at least 100 operations but for the last."""
    sizes = list(chunks.sizes(count))
    assert sum(sizes) == count and len(sizes) <= 25 and min(sizes[:-1], default=100) >= 100


def test_one_chunk_in_five_is_timed_operation_by_operation(calls: Calls) -> None:
    """And the others as wholes: time and rate are theirs."""
    timed = chunks.run((chunks.gets(calls, [b"007"] * 10) for _ in range(25)), "some", 60)
    assert len(timed.chunks) == 20 and timed.operations == 250
    latency = timed.latencies.latency()
    assert latency is not None and latency.count == 50 and 0 < latency.percentiles["50"] <= latency.longest


def test_all_are_timed_both_ways_if_that_is_asked(calls: Calls) -> None:
    timed = chunks.run((chunks.gets(calls, [b"007"] * 10) for _ in range(3)), "all", 60)
    latency = timed.latencies.latency()
    assert [count for count, *_ in timed.chunks] == [10, 10, 10] and latency is not None and latency.count == 30
    assert sum(seconds for _, seconds, _ in timed.chunks) >= latency.longest


def test_a_store_that_finds_too_little_is_refused(calls: Calls) -> None:
    """It would be the fastest."""
    with pytest.raises(WrongAnswers, match="of 2 operations 1 found something, and not 2"):
        chunks.run([chunks.gets(calls, [b"007", b"700"])], "none", 60)
    with pytest.raises(WrongAnswers):
        chunks.run([chunks.gets(calls, [b"007"], present=False)], "none", 60)
    with pytest.raises(WrongAnswers):
        chunks.run([chunks.scans(lambda: iter(calls.scan()), 101)], "none", 60)
    with pytest.raises(WrongAnswers):
        chunks.run([chunks.seeks(calls, [b"9"], 10)], "none", 60)
    with pytest.raises(WrongAnswers):
        chunks.run([chunks.calls([(calls.get, (b"700",))], 1, 1)], "none", 60)
    chunks.run([chunks.calls([(calls.get, (b"700",))], None, 1)], "none", 60)  # after deletes, nobody knows


def test_a_scan_is_begun_in_its_time_and_goes_on(calls: Calls) -> None:
    begun = [0]
    pairs = iter(calls.scan())

    def scan() -> object:
        begun[0] += 1
        return pairs

    steps = [chunks.scans(scan, 60), chunks.scans(scan, 40)]  # type: ignore[arg-type]
    assert begun == [0], "to make a chunk begins nothing"
    timed = chunks.run(steps, "none", 60)
    assert (timed.operations, timed.pairs) == (100, 100)


def test_chunks_end_when_their_time_is_over() -> None:
    """The chunk that goes beyond it is whole, and the last."""
    steps = (Chunk(1, lambda: time.perf_counter_ns() and sum(range(200_000)) * 0) for _ in range(1_000_000))
    timed = chunks.run(steps, "none", 0.05)
    assert timed.cut and 1 <= timed.operations < 1_000_000


def test_the_probe_takes_cpu_time_of_its_own_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads of a store that hold the interpreter's lock meanwhile are not in it."""
    readings = iter([1_000, 6_000])
    monkeypatch.setattr(time, "thread_time_ns", lambda: next(readings))
    assert probe(100) == 50
    monkeypatch.undo()
    assert 1 < probe() < 10_000, "nanoseconds of a turn, on any machine"


def test_memory_that_is_taken_shows_in_the_resident_set() -> None:
    """And so does that of a process which was started."""
    before = resident_bytes()
    assert before is not None and before > 1 << 20
    taken = b"x" * (32 << 20)
    with_it = resident_bytes()
    assert with_it is not None and with_it - before > 30 << 20
    program = "import sys; taken = b'x' * (48 << 20); print('taken', flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None and child.stdout.readline() == b"taken\n"
        with_child = resident_bytes()
        child.communicate()
    assert len(taken) and with_child is not None and with_child - with_it > 40 << 20
