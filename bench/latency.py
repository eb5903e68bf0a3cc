"""Latencies of single operations, in an HdrHistogram: three significant digits, from a nanosecond to an hour.

A histogram is small however many operations it counts, histograms can be added up without loss, and its text can be read
by HdrHistogram's tools in every language. The package is hdrhistogram, an extra of ours: without it nothing is recorded.

Source: HdrHistogram's README (Gil Tene). Coordinated omission is not corrected for: the callers here are loops that send
the next operation when the last one has returned, and that is what is reported.
"""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from bench.results import Latency

__all__ = ["MISSING", "PERCENTILES", "Recorder", "available", "percentiles_of"]

PERCENTILES = ("50", "90", "99", "99.9", "99.99")
MISSING = "no latencies: they need the package hdrhistogram (pip install 'metcd[bench]')"
LONGEST_NS = 3600 * 10**9
DIGITS = 3


def available() -> bool:
    """Whether the package is installed."""
    return _histogram_class() is not None


def _histogram_class() -> Any:
    try:
        return importlib.import_module("hdrh.histogram").HdrHistogram
    except ImportError:
        return None


class Recorder:
    """Counts times, chunk by chunk, in memory that doesn't grow. Counts nothing if the package is missing."""

    def __init__(self) -> None:
        make = _histogram_class()
        self._histogram = make(1, LONGEST_NS, DIGITS) if make is not None else None
        self._longest_ns = -1  # no time yet

    def add(self, times_ns: Sequence[int]) -> None:
        """A microsecond for each time that differs from the others."""
        if self._histogram is None or not times_ns:
            return
        for time_ns, count in Counter(times_ns).items():
            self._histogram.record_value(min(max(time_ns, 1), LONGEST_NS), count)
        self._longest_ns = max(self._longest_ns, *times_ns)

    def latency(self) -> Latency | None:
        """What all times say; None if there are none."""
        return _latency(self._histogram, self._longest_ns / 1e9) if self._longest_ns >= 0 else None


def percentiles_of(latencies: Iterable[Latency]) -> Latency | None:
    """Several latencies as one, of all their operations. None for none, or if the package is missing."""
    make, several = _histogram_class(), list(latencies)
    if not several or make is None:
        return None
    histogram = make(1, LONGEST_NS, DIGITS)
    for each in several:
        histogram.decode_and_add(each.histogram.encode())
    return _latency(histogram, max(each.longest for each in several))


def _latency(histogram: Any, longest: float) -> Latency:
    return Latency(
        count=histogram.get_total_count(),
        percentiles={name: histogram.get_value_at_percentile(float(name)) / 1e9 for name in PERCENTILES},
        longest=longest,
        histogram=histogram.encode().decode("ascii"),
    )
