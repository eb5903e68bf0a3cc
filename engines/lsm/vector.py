"""Rows in the order of their arrival, sorted when a reader asks: a memtable for loading.

    arrived   d@1  a@2  c@3 │ b@4      a write appends
    ordered   a@2  c@3  d@1 │          as of the last reader; the next one sorts what has come since into it

An insertion costs next to nothing, and a flush sorts once. But a read after a write costs O(n): so it is good for many
writes in a row, and bad for reads and writes in turns.

1. `_ordered` is replaced as a whole and never changed in place, so a reader can go on with the list that it has.

Follows RocksDB's memtable/vectorrep.cc.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator

from engines.lsm.keys import Row

__all__ = ["Vector"]


class Vector:
    """Rows, sorted on demand. Reading goes on beside one writer."""

    def __init__(self) -> None:
        self._arrived: list[Row] = []
        self._ordered: list[Row] = []

    def insert(self, row: Row) -> None:
        """Adds a row. O(1)."""
        self._arrived.append(row)

    def ascend(self, start: Row) -> Iterator[Row]:
        """The rows that are not smaller than `start`, in order; those that come meanwhile are not among them."""
        ordered = self._in_order()
        for at in range(bisect_left(ordered, start), len(ordered)):
            yield ordered[at]

    def descend(self, stop: Row | None) -> Iterator[Row]:
        """The rows smaller than `stop` (None: all), against the order."""
        ordered = self._in_order()
        end = len(ordered) if stop is None else bisect_left(ordered, stop)
        for at in reversed(range(end)):
            yield ordered[at]

    def _in_order(self) -> list[Row]:
        """All rows, sorted. O(1), or O(n) if rows have come since the last call: Python's sort merges sorted runs."""
        ordered = self._ordered
        new = self._arrived[len(ordered) :]
        if new:
            self._ordered = ordered = sorted(ordered + new)
        return ordered

    def __len__(self) -> int:
        return len(self._arrived)
