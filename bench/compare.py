"""Which differences between runs are real: by an interval over repetitions, and not by one figure.

    ratio of B to A, of each repetition's figure:   0.9 ──[────•────]── 1.3       does the interval have 1 in it?

A difference counts if the interval of 95 % for the ratio leaves 1 out. Figures are looked at as logarithms, so that twice as
fast and half as fast lie equally far from 1, and a ratio of means is one of geometric means.

Two runs (`compare`): each has its repetitions, at its own time; Welch's t interval for the difference of two means. One run
(`unclear`): the subjects of a repetition ran one after the other, and a slow minute hurt both; the t interval of the ratios
of each repetition. With one repetition there is no interval, and nothing is said to be real.

What no interval sees: of 20 rows that don't differ, one looks as if it did, so the count of rows is told; and what has
changed between two runs beside the program, the machine above all. That the probe loop took longer is told, too.

Source: B. L. Welch, "The generalization of 'Student's' problem when several different population variances are involved"
(1947); the approach is that of Kalibera and Jones, "Rigorous Benchmarking in Reasonable Time" (2013), without its levels.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from bench.quantities import factor
from bench.results import Measured, Results

__all__ = ["QUANTITIES", "Change", "Interval", "compare", "paired", "remarks", "unclear", "welch"]

# Student's t, 97.5 %, for 1, 2, 3, ... degrees of freedom; beyond the table the last one's, which is a little wide
T = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110,
    2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip
PROBES_DIFFER = 1.1
NOTHING = 0.001  # a difference of one in a thousand

Key = tuple[str, str, int]  # workload, subject, keys


@dataclass(frozen=True)
class Interval:
    """A ratio, and from where to where it may lie."""

    ratio: float
    low: float
    high: float

    @property
    def real(self) -> bool:
        """Whether it differs from 1."""
        return not self.low <= 1 <= self.high


@dataclass(frozen=True)
class Change:
    """One quantity of one row in two runs: medians, and the interval of the ratio; None if a run has one repetition."""

    workload: str
    subject: str
    keys: int
    quantity: str
    before: float
    after: float
    interval: Interval | None


def _each(name: str) -> Callable[[Measured], float | None]:
    """A counter, for each operation."""

    def for_each(row: Measured) -> float | None:
        return None if row.counters is None else int(getattr(row.counters, name)) / row.operations

    return for_each


QUANTITIES: dict[str, Callable[[Measured], float | None]] = {
    "operations a second": lambda row: row.rate,
    "bytes written for each": _each("bytes_written"),
    "bytes read for each": _each("bytes_read"),
    "reads for each": _each("reads"),
    "fsyncs for each": _each("fsyncs"),
    "bytes on disk": lambda row: row.disk_bytes,
    "bytes of memory": lambda row: row.resident_bytes,
}


def welch(before: Sequence[float], after: Sequence[float]) -> Interval | None:
    """The ratio of `after` to `before`, two samples that have nothing to do with each other. None with fewer than two of
    either. Requires: every figure is above 0."""
    if min(len(before), len(after)) < 2:
        return None
    one, other = [math.log(x) for x in before], [math.log(x) for x in after]
    parts = [statistics.variance(sample) / len(sample) for sample in (one, other)]
    error = sum(parts)
    freedom = 1.0
    if error > 0:
        freedom = error**2 / sum(part**2 / (len(sample) - 1) for part, sample in zip(parts, (one, other)))
    return _interval(statistics.fmean(other) - statistics.fmean(one), math.sqrt(error), freedom)


def paired(before: Sequence[float], after: Sequence[float]) -> Interval | None:
    """The ratio of `after` to `before`, whose figures belong together in turn. None with fewer than two.

    Requires: as many of either, and every figure is above 0.
    """
    if len(before) < 2:
        return None
    ratios = [math.log(y / x) for x, y in zip(before, after, strict=True)]
    error = math.sqrt(statistics.variance(ratios) / len(ratios))
    return _interval(statistics.fmean(ratios), error, len(ratios) - 1)


def _interval(middle: float, error: float, freedom: float) -> Interval:
    """Degrees of freedom are rounded down, which makes the interval wider. Counts don't vary, and NOTHING is nobody's gain."""
    reach = max(NOTHING, T[min(max(int(freedom), 1), len(T)) - 1] * error)
    return Interval(math.exp(middle), math.exp(middle - reach), math.exp(middle + reach))


def compare(before: Results, after: Results) -> list[Change]:
    """What both runs have measured, in the order of the first: one change for each quantity that both have."""
    old, new = _samples(before), _samples(after)
    found = []
    for key, rows in old.items():
        if key not in new:
            continue
        for quantity, look in QUANTITIES.items():
            one, other = _figures(rows, look), _figures(new[key], look)
            if one and other and (any(one) or any(other)):  # what both lack or never do hasn't changed
                found.append(
                    Change(*key, quantity, statistics.median(one), statistics.median(other), _ratio(one, other))
                )
    return found


def _ratio(before: Sequence[float], after: Sequence[float]) -> Interval | None:
    """Of two samples that may have zeros: nothing at all and always something differ, whatever the number."""
    if all(before) and all(after):
        return welch(before, after)
    if min(len(before), len(after)) > 1 and any(before) != any(after) and all(before) != all(after):
        extreme = math.inf if any(after) else 0.0
        return Interval(extreme, extreme, extreme)
    return None


def _samples(results: Results) -> dict[Key, list[Measured]]:
    found: dict[Key, list[Measured]] = {}
    for row in results.measured:
        found.setdefault((row.workload, row.subject, row.keys), []).append(row)
    return found


def _figures(rows: Iterable[Measured], look: Callable[[Measured], float | None]) -> list[float]:
    """What each row says; nothing if one doesn't say."""
    figures = [look(row) for row in rows]
    return [] if None in figures else [figure for figure in figures if figure is not None]


def unclear(results: Results) -> Iterator[str]:
    """A sentence for each workload in which neighbours of the ranking differ by less than the noise."""
    samples = _samples(results)
    for workload, keys in dict.fromkeys((workload, keys) for workload, _, keys in samples):
        rates = {
            subject: {row.repetition: row.rate for row in rows}
            for (name, subject, count), rows in samples.items()
            if (name, count) == (workload, keys)
        }
        ranked = sorted(rates, key=lambda subject: -statistics.median(rates[subject].values()))
        told = []
        for one, other in pairwise(ranked):
            both = sorted(rates[one].keys() & rates[other].keys())
            interval = paired([rates[other][at] for at in both], [rates[one][at] for at in both])
            if interval is not None and not interval.real:
                between = f"{factor(interval.low)} to {factor(interval.high)}"
                told.append(f"{one} is {factor(interval.ratio)} times {other} ({between})")
        if told:
            yield f"{workload}, {keys:,} keys: the noise is larger than the difference: {', '.join(told)}"


def _subjects(results: Results) -> dict[str, None]:
    """The subjects of which there are figures, in their order."""
    return dict.fromkeys(row.subject for row in results.measured)


def remarks(before: Results, after: Results) -> Iterator[str]:
    """What makes two runs hard to compare: another machine, another Python, other settings, other subjects."""
    one, other = before.machine, after.machine
    for what in ("processor", "cores", "system", "python"):
        if getattr(one, what) != getattr(other, what):
            yield f"the {what} differs: {getattr(one, what)}, and {getattr(other, what)}"
    probes = other.probe_ns / one.probe_ns if one.probe_ns and other.probe_ns else 1.0
    if not 1 / PROBES_DIFFER <= probes <= PROBES_DIFFER:
        yield f"the machine was not as fast: the probe loop's fastest turn took {one.probe_ns:.1f} and {other.probe_ns:.1f} ns"
    for name in sorted(before.settings.keys() | after.settings.keys()):
        if name not in ("keys", "repetitions") and before.settings.get(name) != after.settings.get(name):
            yield f"the setting {name} differs: {before.settings.get(name)}, and {after.settings.get(name)}"
    versions = {subject.name: subject for subject in before.subjects}
    for which, names, others in (
        ("first", _subjects(before), _subjects(after)),
        ("second", _subjects(after), _subjects(before)),
    ):
        if alone := [name for name in names if name not in others]:
            yield f"only the {which} run has {', '.join(alone)}: there is nothing to compare {'it' if len(alone) == 1 else 'them'} with"
    for subject in after.subjects:
        known = versions.get(subject.name)
        if known is not None and known.version != subject.version:
            yield f"the version of {subject.name} differs: {known.version}, and {subject.version}"
