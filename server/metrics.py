"""What a node counts, in Prometheus's text format: the words for it, a histogram, and how they become lines.

    a module   describe({"proposals_total": "Writes of clients that were handed to Raft."})      once, when it is imported
    a part     metrics() -> {"proposals_total": 17, "wal_fsync_duration_seconds": Histogram}      whenever somebody asks
    a scrape   render(the dictionaries of all parts)                                             GET /_/metrics

    # HELP metcd_proposals_total Writes of clients that were handed to Raft.
    # TYPE metcd_proposals_total counter
    metcd_proposals_total 17

Nothing is registered with anybody, and nothing is updated when nobody asks: a counter is an int that its part keeps
anyway, and `metrics` says what it is now. So a node's hot path pays 0.04 µs for a counter and 0.1 µs for a sample of a
Histogram; prometheus_client's take 0.23 and 0.6, measured side by side: each of those has a lock, which ours don't need,
because each has one writer.

1. A name that ends in `_total` is a counter, a Histogram is a histogram, all others are gauges.
2. Units are base units and stand in the name: `_seconds`, `_bytes`. Every name gets the prefix `metcd_`, but for those of
   Prometheus itself, which begin with `process_`, and for those that are etcd's, which begin with `etcd_`.
3. A name may have labels: `labelled("peer_sent_bytes_total", peer=2)`. Their values come from a small set, never from a
   client: each one is a time series for ever.
4. Every name is described, once. tests/server/test_metrics.py asks a whole node for those that aren't.

Left out: exemplars, native histograms, summaries, and a registry that parts would have to be given. Follows the exposition format 0.0.4
of prometheus.io, and its page on naming.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence

__all__ = ["SECONDS", "Histogram", "Metrics", "describe", "described", "labelled", "render"]

SECONDS = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
)  # fmt: skip
"""Bounds of buckets for what takes between a disk's write and a client's patience."""

_NAME = re.compile(r"[a-z][a-z0-9_]*\Z")
_texts: dict[str, str] = {}


class Histogram:
    """How often something took how long. For one writer; readers see a moment that may be a sample late."""

    __slots__ = ("_bounds", "_counts", "total")

    def __init__(self, bounds: Sequence[float] = SECONDS) -> None:
        """bounds: the upper ends of the buckets, ascending; what is above the last one has a bucket of its own."""
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Counts one sample. O(log buckets)."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self.total += value

    def add(self, other: Histogram) -> None:
        """Takes in all samples of another one with the same bounds."""
        self._counts = [ours + theirs for ours, theirs in zip(self._counts, list(other._counts))]
        self.total += other.total

    def since(self, earlier: Histogram) -> Histogram:
        """The samples that came after `earlier`, a copy of this one at another time."""
        later = Histogram(self._bounds)
        later._counts = [count - before for count, before in zip(self._counts, earlier._counts)]
        later.total = self.total - earlier.total
        return later

    def median(self) -> float | None:
        """About the middle one of the samples, as if those of a bucket were spread evenly; None if there are none."""
        half = self.count / 2
        below, bounds = 0, (0.0, *self._bounds, self._bounds[-1])
        for count, low, high in zip(self._counts, bounds, bounds[1:]):
            if count and below + count >= half:
                return low + (high - low) * (half - below) / count
            below += count
        return None

    @property
    def count(self) -> int:
        """How many samples there were."""
        return sum(self._counts)

    def samples(self) -> Iterator[tuple[str, str, float]]:
        """The samples of the format: a suffix of the name, a label (or ""), and a value; buckets are cumulative."""
        counts, total, below = list(self._counts), self.total, 0
        for bound, count in zip([*map(_number, self._bounds), "+Inf"], counts):
            below += count
            yield "_bucket", f'le="{bound}"', below
        yield "_sum", "", total
        yield "_count", "", below


Metrics = Mapping[str, "int | float | Histogram"]
"""Values by name, without the prefix, and with labels as `labelled` writes them."""


def describe(texts: Mapping[str, str]) -> None:
    """Says what metrics mean, by name: one sentence each, for HELP. Raises ValueError for a name that has another."""
    for name, text in texts.items():
        if not _NAME.match(name) or not text or _texts.setdefault(name, text) != text:
            raise ValueError(f"{name!r} is no name of a metric, or has a sentence already, or gets none")


def described() -> Mapping[str, str]:
    """All sentences by name, without the prefix."""
    return dict(_texts)


def labelled(name: str, /, **labels: object) -> str:
    """A name with labels: `peer_queue_messages{peer="2"}`."""
    pairs = [f'{label}="{_escaped(str(value))}"' for label, value in labels.items()]
    return f"{name}{{{','.join(pairs)}}}"


def render(parts: Iterable[Metrics]) -> bytes:
    """All metrics as text, by name; one that two parts have comes from the later part. O(samples)."""
    families: dict[str, list[tuple[str, int | float | Histogram]]] = {}
    for name, value in sorted({name: value for part in parts for name, value in part.items()}.items()):
        family, _, labels = name.partition("{")
        families.setdefault(family, []).append((labels.removesuffix("}"), value))
    return "".join(line for family, values in families.items() for line in _family(family, values)).encode()


def _family(name: str, values: list[tuple[str, int | float | Histogram]]) -> Iterator[str]:
    full = name if name.startswith(("process_", "etcd_")) else f"metcd_{name}"
    kind = "histogram" if isinstance(values[0][1], Histogram) else "counter" if name.endswith("_total") else "gauge"
    yield f"# HELP {full} {_texts.get(name, 'Not described.')}\n# TYPE {full} {kind}\n"
    for labels, value in values:
        for suffix, label, sample in value.samples() if isinstance(value, Histogram) else [("", "", value)]:
            both = ",".join(filter(None, (labels, label)))
            braced = f"{{{both}}}" if both else ""
            yield f"{full}{suffix}{braced} {_number(sample)}\n"


def _number(value: int | float) -> str:
    return repr(value) if isinstance(value, int) or value % 1 else repr(int(value)) + ".0"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
