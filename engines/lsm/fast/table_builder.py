"""A table builder that takes many rows at once."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from operator import eq

from engines.lsm.fast.block import FastBlockBuilder
from engines.lsm.keys import TRAILER_BYTES, trailer_of
from engines.lsm.table_builder import TableBuilder

__all__ = ["FastTableBuilder"]


class FastTableBuilder(TableBuilder):
    """Stands in for TableBuilder: it can take a list. Part of what a compaction saves (job.py)."""

    block_builder = FastBlockBuilder

    def add_all(self, keys: Sequence[bytes], internal_keys: Sequence[bytes], values: Sequence[bytes], at: int) -> int:
        """As `add` for each row from position `at` on, until a data block is full. Returns the position after the last
        one added."""
        self.begin_block(internal_keys[at])
        data = self.data
        assert isinstance(data, FastBlockBuilder)
        end = data.fill(internal_keys, values, at, self.options.block_bytes)
        if self.filter is not None:
            self.filter.add_all(keys[at:end] if at or end < len(keys) else keys)
        self._count_all(keys, internal_keys, values, at, end)
        self.last = internal_keys[end - 1]
        self.end_block_if_full()
        return end

    def _count_all(
        self, keys: Sequence[bytes], internal_keys: Sequence[bytes], values: Sequence[bytes], at: int, end: int
    ) -> None:
        statistics = self.statistics
        if not self.smallest:
            self.smallest = internal_keys[at]
        elif self.last[:-TRAILER_BYTES] == keys[at]:
            statistics.versions += 1
        statistics.versions += sum(map(eq, islice(keys, at, end), islice(keys, at + 1, end)))
        statistics.entries += end - at
        statistics.deletions += sum([not key[-TRAILER_BYTES] for key in islice(internal_keys, at, end)])
        if not self.bounded:
            sequences = [trailer_of(key) >> 8 for key in islice(internal_keys, at, end)]
            statistics.max_sequence = max(statistics.max_sequence, *sequences)
            statistics.min_sequence = min(statistics.min_sequence or sequences[0], *sequences)
        statistics.key_bytes += sum(map(len, islice(keys, at, end)))
        statistics.value_bytes += sum(map(len, islice(values, at, end)))
