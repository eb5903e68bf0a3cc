"""What a document of results says, sorted by what is to be shown: the terminal, the report and the README draw from this.

    Results ──► panels          one workload each: the subjects, and how fast each was
            ──► growth          a workload that was run with several numbers of keys
            ──► latencies       the percentiles of a workload
            ──► amplifications  bytes written, read and kept for each byte that somebody wanted
            ──► memory          how far the process grew

1. A figure is the median over repetitions; with it go the lowest and the highest, which are the spread.
2. Two subjects differ if the interval of their ratio over the repetitions leaves 1 out (bench/compare.py). With one
   repetition there is no interval, and nothing is said to differ.
3. What a subject doesn't tell is absent here, and never 0.
4. What is done once (opening after a kill) has a time and no rate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import median

from bench.compare import paired
from bench.quantities import duration, rate
from bench.results import Counters, Measured, Results

__all__ = [
    "Amplification",
    "Curve",
    "Growth",
    "Latencies",
    "Memory",
    "Panel",
    "Row",
    "Spread",
    "amplifications",
    "growth",
    "latencies",
    "memory",
    "panels",
]

# the workload whose garbage and rewriting show most comes first
REWRITING = ("overwrite", "fillrandom", "deleterandom", "fillseq", "fillbatch")
READING = ("readrandom", "ycsb-c")
KEY_BYTES = 16
VALUE_BYTES = 100


@dataclass(frozen=True)
class Spread:
    """A figure over `count` repetitions: its median, and between what it lay."""

    middle: float
    low: float
    high: float
    count: int

    @classmethod
    def of(cls, figures: Iterable[float]) -> Spread:
        """Requires at least one."""
        known = sorted(figures)
        return cls(median(known), known[0], known[-1], len(known))


@dataclass(frozen=True)
class Row:
    """One subject in one workload. measured: its repetitions."""

    subject: str
    rate: Spread  # operations a second
    measured: list[Measured]

    @property
    def seconds(self) -> Spread:
        """Of one operation."""
        return Spread.of(each.normalised / each.operations for each in self.measured)

    def differs(self, other: Row) -> bool:
        """Whether the repetitions tell the two apart: those that ran side by side are compared with each other."""
        mine, others = ({each.repetition: each.rate for each in row.measured} for row in (self, other))
        both = sorted(mine.keys() & others.keys())
        interval = paired([mine[at] for at in both], [others[at] for at in both])
        return interval is not None and interval.real

    @property
    def counters(self) -> Counters | None:
        """Of the first repetition: counts are the same in each, but for what a second thread does meanwhile."""
        return self.measured[0].counters

    @property
    def operations(self) -> int:
        """Of one repetition."""
        return self.measured[0].operations


@dataclass(frozen=True)
class Panel:
    """One workload, at the number of keys with which most of it was measured. rows: in the order of the subjects."""

    workload: str
    keys: int
    rows: list[Row]

    @property
    def once(self) -> bool:
        """Whether it was done once in each repetition, so that its time is looked at and not its rate."""
        return all(row.operations == 1 for row in self.rows)

    def figure(self, row: Row) -> Spread:
        """What is shown of a row: operations a second, or seconds."""
        return row.seconds if self.once else row.rate

    def text(self, figure: float) -> str:
        """A figure, as it is written: in thousands, or with its unit."""
        return duration(figure) if self.once else rate(figure)

    @property
    def ranked(self) -> list[Row]:
        """The fastest first."""
        return sorted(self.rows, key=lambda row: -row.rate.middle)


@dataclass(frozen=True)
class Curve:
    """A line of a picture: (x, y) with rising x."""

    subject: str
    points: list[tuple[float, Spread]]

    @property
    def factor(self) -> float:
        """How many times the first y the last one is."""
        return self.points[-1][1].middle / self.points[0][1].middle


@dataclass(frozen=True)
class Growth:
    """What an operation takes, against the number of keys. seconds: of one operation; resident: bytes, where known."""

    workload: str
    seconds: list[Curve]
    resident: list[Curve]


@dataclass(frozen=True)
class Latencies:
    """Of single operations, in seconds: x is the share of operations that took no longer, below 1."""

    workload: str
    keys: int
    curves: list[Curve]


@dataclass(frozen=True)
class Amplification:
    """Each is a factor, or None where nobody counted.

    write: bytes written to files for each byte that callers wrote. read: bytes read from files for each byte of the pairs
    that callers got. space: bytes on disk for each byte of live pairs.
    """

    subject: str
    write: float | None
    read: float | None
    space: float | None

    @property
    def known(self) -> list[tuple[str, float]]:
        """The factors that were counted, with their names."""
        named = (("write", self.write), ("read", self.read), ("space", self.space))
        return [(name, factor) for name, factor in named if factor is not None]


@dataclass(frozen=True)
class Memory:
    """How far a process had grown in the workload that made it largest."""

    subject: str
    workload: str
    keys: int
    resident: Spread  # bytes


def panels(results: Results) -> list[Panel]:
    """One for each workload, in the order of the document. O(measured)."""
    return [panel for workload in _workloads(results) if (panel := _panel(results, workload)).rows]


def _workloads(results: Results) -> list[str]:
    return list(dict.fromkeys(each.workload for each in results.measured))


def _panel(results: Results, workload: str) -> Panel:
    """At the number of keys with the most subjects, then the most repetitions; of equals, the largest."""
    by_keys: dict[int, list[Measured]] = {}
    for each in results.measured:
        if each.workload == workload and each.operations and each.normalised > 0:
            by_keys.setdefault(each.keys, []).append(each)
    if not by_keys:
        return Panel(workload, 0, [])
    keys = max(by_keys, key=lambda keys: (len({each.subject for each in by_keys[keys]}), len(by_keys[keys]), keys))
    return Panel(workload, keys, _rows(results, by_keys[keys]))


def _rows(results: Results, measured: list[Measured]) -> list[Row]:
    rows = []
    for subject in results.subjects:
        if mine := [each for each in measured if each.subject == subject.name]:
            rows.append(Row(subject.name, Spread.of(each.rate for each in mine), mine))
    return rows


def growth(results: Results) -> list[Growth]:
    """One for each workload in which some subject was measured with two numbers of keys or more."""
    grown = []
    for workload in _workloads(results):
        seconds = _against_keys(results, workload, lambda each: each.normalised / each.operations)
        resident = _against_keys(results, workload, lambda each: each.resident_bytes)
        if seconds:
            grown.append(Growth(workload, seconds, resident))
    return grown


def _against_keys(results: Results, workload: str, figure: Callable[[Measured], float | None]) -> list[Curve]:
    curves = []
    for subject in results.subjects:
        at: dict[int, list[float]] = {}
        for each in results.measured:
            mine = (each.subject, each.workload) == (subject.name, workload) and each.operations and each.normalised > 0
            if mine and (known := figure(each)):
                at.setdefault(each.keys, []).append(known)
        if len(at) > 1:
            curves.append(Curve(subject.name, [(keys, Spread.of(at[keys])) for keys in sorted(at)]))
    return curves


def latencies(results: Results) -> list[Latencies]:
    """One for each workload whose latencies were recorded; a curve ends at the longest of all operations."""
    found = []
    for panel in panels(results):
        curves = [curve for row in panel.rows if (curve := _latency_curve(row)).points]
        if curves:
            found.append(Latencies(panel.workload, panel.keys, curves))
    return found


def _latency_curve(row: Row) -> Curve:
    at: dict[float, list[float]] = {}
    for each in row.measured:
        if each.latency is not None and each.latency.count > 1 and each.latency.longest > 0:
            for name, seconds in each.latency.percentiles.items():
                if (
                    seconds > 0 and (share := float(name) / 100) <= 1 - 1 / each.latency.count
                ):  # beyond, it is the longest one
                    at.setdefault(round(share, 9), []).append(seconds)
            at.setdefault(1 - 1 / each.latency.count, []).append(each.latency.longest)
    return Curve(row.subject, [(share, Spread.of(at[share])) for share in sorted(at)])


def amplifications(results: Results) -> tuple[list[Amplification], dict[str, str]]:
    """One for each subject of which a factor is known, and in which workload each factor was counted.

    Every subject's factor is of the same workload, so that they can be compared.
    """
    shown = panels(results)
    chosen = {
        "write": _most_telling(shown, REWRITING, _write_factor),
        "read": _most_telling(shown, READING, lambda row: _read_factor(results, row)),
        "space": _most_telling(shown, REWRITING, _space_factor),
    }
    found = []
    for subject in results.subjects:
        factors = {name: factors.get(subject.name) for name, (_, factors) in chosen.items()}
        each = Amplification(subject.name, factors["write"], factors["read"], factors["space"])
        if each.known:
            found.append(each)
    return found, {name: workload for name, (workload, _) in chosen.items() if workload}


def _most_telling(
    shown: list[Panel], preferred: tuple[str, ...], factor: Callable[[Row], float | None]
) -> tuple[str, dict[str, float]]:
    """The first workload in which it is known of the most subjects; those that are preferred come first."""
    order = sorted(shown, key=lambda panel: preferred.index(panel.workload) if panel.workload in preferred else 99)
    best: tuple[str, dict[str, float]] = ("", {})
    for panel in order:
        known = {row.subject: value for row in panel.rows if (value := factor(row)) is not None}
        if len(known) > len(best[1]):
            best = (panel.workload, known)
    return best


def _write_factor(row: Row) -> float | None:
    counters = row.counters
    return counters.bytes_written / counters.user_bytes if counters and counters.user_bytes else None


def _read_factor(results: Results, row: Row) -> float | None:
    """Of a workload that only gets. Each get of it finds its pair."""
    counters = row.counters
    if counters is None or counters.user_bytes or row.measured[0].workload not in READING:
        return None
    pair = float(results.settings.get("key_bytes", KEY_BYTES)) + float(results.settings.get("value_bytes", VALUE_BYTES))
    return counters.bytes_read / (row.operations * pair)


def _space_factor(row: Row) -> float | None:
    factors = [each.disk_bytes / each.live_bytes for each in row.measured if each.disk_bytes and each.live_bytes]
    return median(factors) if factors else None


def memory(results: Results) -> list[Memory]:
    """One for each subject whose process was looked at."""
    found = []
    shown = panels(results)
    for subject in results.subjects:
        largest: Memory | None = None
        for panel in shown:
            for row in panel.rows:
                sizes = [each.resident_bytes for each in row.measured if each.resident_bytes is not None]
                if row.subject == subject.name and sizes:
                    each = Memory(subject.name, panel.workload, panel.keys, Spread.of(sizes))
                    largest = each if largest is None or each.resident.middle > largest.resident.middle else largest
        if largest is not None:
            found.append(largest)
    return found
