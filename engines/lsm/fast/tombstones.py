"""Ranges that scans have found empty, so that no scan steps over the same tombstones twice.

    a queue: take the first job, delete it, take the first job, ...

    job0001 ✝   job0002 ✝   job0003 ✝  ...  job0999 ✝   job1000   job1001
    └──────────── known to be empty ──────────────────┘ ▲
                                                        the next scan begins here

A deleted key stays until compaction as a tombstone, and a scan has to step over it. A queue that has done 16,000 jobs
would step over 16,000 of them for each further job; LevelDB does. So a scan that has met a run of tombstones notes the
range on the memtable, and the next one skips it.

1. What is noted is a fact that stays true: "as of this sequence, no key in [start, stop) is live". A scan as of a later
   sequence may use it, once the puts in between have been looked at: the memtable has them in the order of their
   arrival. So writers know nothing of this and pay nothing; a scan pays 0.1 µs for each write since the last one.
2. A scan as of an earlier sequence may not use it: some of the tombstones are newer.
3. Facts are about one memtable and everything below it, which flushes and compactions don't change for a reader. They
   end with the memtable; the first scan after a rotation pays for what compaction has left. A snapshot that is older
   than the memtable notes nothing on it: the puts in between are elsewhere.
4. `known` is one tuple, replaced as a whole by any reader without a lock. Of two that do it at once, one is lost, and
   what remains is true.

Left out: the same for snapshots older than what is known. RocksDB's answer to the same is a compaction of tables with many tombstones (CompactOnDeletionCollector), which
rewrites; compaction.py's rule 6 is ours, and works besides.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from typing import Final, Protocol

from engines.lsm.statistics import Counters

__all__ = ["EmptyRanges", "Run"]

WORTH_NOTING: Final = 16  # tombstones: fewer cost less to step over than to look up
MAX_RANGES: Final = 32  # of one memtable; a queue has one
MAX_BACK: Final = 1024  # writes newer than a scan that it looks at, to note what it has found

Range = tuple[bytes, bytes | None, int]  # start, stop (None: no bound), how many tombstones it spares
Known = tuple[int, int, tuple[Range, ...]]  # as of which sequence; the arrivals' position after it; ranges, ascending


class Arrivals(Protocol):
    """Rows in the order of their arrival: what a memtable tells here (fast/memtable.py). Sequences ascend in it."""

    def arrivals(self, position: int, sequence: int) -> Iterator[tuple[bytes, bytes | None]]:
        """(key, value) of those from a position on, up to `sequence`."""

    def position_after(self, sequence: int, limit: int) -> int | None:
        """The position after the last one up to `sequence`; None if more than `limit` follow it."""


class EmptyRanges:
    """The facts about one memtable's state. `known` is None while there are none.

    sequence: the store's last one when the memtable was made (rule 3).
    """

    __slots__ = ("_arrived", "_oldest", "known")

    def __init__(self, arrived: Arrivals, sequence: int) -> None:
        self._arrived = arrived
        self._oldest = sequence
        self.known: Known | None = None

    def narrow(
        self, start: bytes, stop: bytes | None, sequence: int, reverse: bool
    ) -> tuple[bytes, bytes | None] | None:
        """[start, stop) without the empty range that the scan would begin in; None if nothing is left of it.

        O(log ranges), and O(1) for each write since the last call.
        """
        known = self._as_of(sequence)
        for first, end, _ in known[2] if known is not None else ():
            if reverse and (end is None or (stop is not None and stop <= end)) and (stop is None or first < stop):
                stop = first
                break
            if not reverse and first <= start and (end is None or start < end):
                if end is None:
                    return None
                start = end
                break
        return None if stop is not None and stop <= start else (start, stop)

    def note(self, start: bytes, stop: bytes | None, sequence: int, tombstones: int) -> None:
        """Notes that as of `sequence` nothing is live in [start, stop), which a scan has seen. Cost as `narrow`."""
        known = self._as_of(sequence)
        if known is None:
            position = self._arrived.position_after(sequence, MAX_BACK)
            if position is None or self.known is not None or sequence < self._oldest:
                return  # too long ago, or rule 2, or rule 3
            known = sequence, position, ()
        apart: list[Range] = []
        for each in known[2]:
            first, end, spared = each
            if (end is not None and end < start) or (stop is not None and first > stop):
                apart.append(each)
                continue
            start = min(start, first)
            stop = None if stop is None or end is None else max(stop, end)
            tombstones += spared
        if len(apart) == MAX_RANGES:
            apart.remove(min(apart, key=lambda each: each[2]))
        self.known = known[0], known[1], tuple(sorted([*apart, (start, stop, tombstones)]))

    def _as_of(self, sequence: int) -> Known | None:
        """The facts, brought up to `sequence` (rule 1); None if there are none for it. Forgets what costs more to
        bring up than it spares."""
        known = self.known
        if known is None or sequence < known[0]:
            return None
        if sequence == known[0]:
            return known
        budget = sum([spared for _, _, spared in known[2]]) + MAX_BACK
        position, ranges = known[1], list(known[2])
        for key, value in self._arrived.arrivals(position, sequence):
            position += 1
            budget -= 1
            if value is not None:
                _split(ranges, key)
            if not ranges or not budget:
                self.known = None
                return None
        self.known = known = sequence, position, tuple(ranges)
        return known


def _split(ranges: list[Range], key: bytes) -> None:
    """Takes a key that is live now out of the range that has it."""
    at = bisect_right(ranges, key, key=lambda each: each[0]) - 1
    if at < 0:
        return
    start, stop, spared = ranges[at]
    if stop is None or key < stop:
        after = key + b"\x00"
        parts = [(start, key, spared // 2), (after, stop, spared // 2)]
        ranges[at : at + 1] = [part for part in parts if part[1] is None or part[0] < part[1]]
        del ranges[MAX_RANGES:]


class Run:
    """The tombstones that a scan of [start, stop) is stepping over, from the last live key to the next one.

    `tombstones` is their number so far, over all chunks; 0 while the last key was live.
    """

    __slots__ = ("_counters", "_fresh", "_ranges", "_reverse", "_sequence", "_start", "_stop", "tombstones")

    def __init__(
        self,
        ranges: EmptyRanges | None,
        counters: Counters,
        start: bytes,
        stop: bytes | None,
        sequence: int,
        reverse: bool,
        fresh: bool,
    ) -> None:
        """fresh: nothing was live so far, so that the run begins where the scan has begun."""
        self._ranges = ranges
        self._counters = counters
        self._start = start
        self._stop = stop
        self._sequence = sequence
        self._reverse = reverse
        self._fresh = fresh
        self.tombstones = 0

    def step(self, key: bytes, rest: Iterator[tuple[bytes, bytes | None]]) -> tuple[bytes, bytes] | None:
        """The next live pair of the chunk of which `rest` is left after the tombstone `key`; None: there is none.

        O(tombstones).
        """
        if not self.tombstones and not self._fresh:
            if self._reverse:
                self._stop = key + b"\x00"
            else:
                self._start = key
        count = 1
        found = None
        for pair in rest:
            if pair[1] is not None:
                found = pair
                break
            count += 1
        self.tombstones += count
        self._counters.tombstones += count
        if found is not None:
            self.end(found[0])
        return found  # type: ignore[return-value]

    def end(self, key: bytes | None) -> None:
        """The run ends before the live `key`, or with the scan (None)."""
        if self.tombstones >= WORTH_NOTING and self._ranges is not None:
            start, stop = self._start, self._stop
            if key is not None:
                start, stop = (key + b"\x00", stop) if self._reverse else (start, key)
            self._ranges.note(start, stop, self._sequence, self.tombstones)
        self.tombstones = 0
        self._fresh = False

    def beyond(self, last: bytes) -> tuple[bytes, bytes | None] | None:
        """What is left of the scan after `last`, the last tombstone so far, if it lies in a range known to be empty."""
        if self._ranges is None or self._ranges.known is None or self.tombstones < WORTH_NOTING:
            return None
        start, stop = (self._start, last) if self._reverse else (last, self._stop)
        left = self._ranges.narrow(start, stop, self._sequence, self._reverse)
        if left == (start, stop):
            return None
        return left or (start, start)
