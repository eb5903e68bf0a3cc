"""Latencies in an HdrHistogram."""

from __future__ import annotations

import random

import pytest

from bench import latency
from bench.latency import Recorder, percentiles_of
from bench.results import Latency


def latency_of(*parts: list[int]) -> Latency | None:
    recorder = Recorder()
    for times in parts:
        recorder.add(times)
    return recorder.latency()


def test_percentiles_are_those_of_the_sorted_times(rng: random.Random) -> None:
    """To three digits."""
    times = [int(rng.lognormvariate(8, 1)) + 1 for _ in range(20_000)]
    found = latency_of(times[:7_000], times[7_000:])
    assert found is not None and found.count == 20_000 and found.longest == max(times) / 1e9
    for name, seconds in found.percentiles.items():
        exact = sorted(times)[int(float(name) / 100 * len(times) + 0.5) - 1] / 1e9
        assert seconds == pytest.approx(exact, rel=0.001)


def test_histograms_add_up(rng: random.Random) -> None:
    """Of several repetitions, from their text; and one time of 0 ns is counted as one."""
    times = [rng.randrange(100_000) for _ in range(3_000)] + [0]
    parts = [found for at in range(0, 3_001, 1_000) if (found := latency_of(times[at : at + 1_000]))]
    whole, together = latency_of(times), percentiles_of(parts)
    assert whole is not None and together is not None and len(parts) == 4
    assert (together.count, together.longest, together.percentiles) == (whole.count, whole.longest, whole.percentiles)


def test_without_the_package_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """`metcd bench` works without the extra, and says what is missing."""
    monkeypatch.setitem(__import__("sys").modules, "hdrh.histogram", None)
    assert not latency.available() and latency_of([1, 2, 3]) is None and percentiles_of([]) is None
    assert "pip install 'metcd[bench]'" in latency.MISSING
