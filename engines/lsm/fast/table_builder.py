"""A table builder that takes many rows at once."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from operator import eq, itemgetter
from typing import Final

from engines.lsm.fast.block import FastBlockBuilder
from engines.lsm.keys import DELETION, TRAILER_BYTES, trailer_of
from engines.lsm.table_builder import TableBuilder

__all__ = ["FastTableBuilder"]


class FastTableBuilder(TableBuilder):
    """Stands in for TableBuilder: it can take a list. Part of what a compaction saves (job.py)."""

    block_builder = FastBlockBuilder

    def add_all(
        self,
        keys: Sequence[bytes],
        internal_keys: Sequence[bytes],
        values: Sequence[bytes],
        shared: Sequence[int],
        at: int,
    ) -> int:
        """As `add` for each row from position `at` on, until a data block is full. Returns the position after the last
        one added. shared: the prefixes that internal keys have in common with the ones before them."""
        self.begin_block(internal_keys[at])
        data = self.data
        assert isinstance(data, FastBlockBuilder)
        end = data.fill(internal_keys, values, shared, at, self.options.block_bytes)
        added = keys[at:end]
        if self.filter is not None:
            self.filter.add_all(added)
        self._count_all(added, internal_keys[at:end], values[at:end])
        self.last = internal_keys[end - 1]
        self.end_block_if_full()
        return end

    def _count_all(self, keys: Sequence[bytes], internal_keys: Sequence[bytes], values: Sequence[bytes]) -> None:
        statistics = self.statistics
        if not self.smallest:
            self.smallest = internal_keys[0]
        elif self.last[:-TRAILER_BYTES] == keys[0]:
            statistics.versions += 1
        statistics.versions += sum(map(eq, keys, islice(keys, 1, None)))
        statistics.entries += len(keys)
        statistics.deletions += list(map(_kind, internal_keys)).count(DELETION)
        if not self.bounded:
            sequences = [trailer_of(key) >> 8 for key in internal_keys]
            statistics.max_sequence = max(statistics.max_sequence, *sequences)
            statistics.min_sequence = min(statistics.min_sequence or sequences[0], *sequences)
        statistics.key_bytes += sum(map(len, keys))
        statistics.value_bytes += sum(map(len, values))


_kind: Final = itemgetter(-TRAILER_BYTES)  # the lowest byte of an internal key's trailer
