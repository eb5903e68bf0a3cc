"""Writing a table: the blocks, filter, statistics and index of engines/lsm/sstable.py, in one pass.

    rows (user keys, internal keys, values) ──► data blocks ──► file
                                            ├─► filter
                                            └─► index: a separator for each block ──► file, at the end

1. Rows come in the order of internal keys.
2. With `statistics=False`, and LevelDB's filter or none, the file is LevelDB's byte for byte (compression off).
3. The table is durable when `finish` returns; its name is not (the caller syncs the directory, once for all tables).

Follows LevelDB's table/table_builder.cc.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from operator import eq
from typing import TYPE_CHECKING, Final

from engines.env import File
from engines.lsm.block import BlockBuilder
from engines.lsm.bloom import BlockedBloomBuilder, LevelDBBloomBuilder
from engines.lsm.compression import RAW, compress
from engines.lsm.keys import TRAILER_BYTES, separator, successor, trailer_of
from engines.lsm.sstable import (
    FOOTER_BYTES,
    MAGIC,
    STATISTICS_NAME,
    encode_handle,
    seal_block,
)
from engines.lsm.statistics import TableInfo, TableStatistics

if TYPE_CHECKING:
    from engines.lsm.options import Options

__all__ = ["TableBuilder"]

WRITE_BYTES: Final = 1 << 18  # blocks are handed to the file in writes of this size: 64 blocks, one system call
KEPT_RATIO: Final = 8  # a compressed block is kept if it saves at least one part in eight


class TableBuilder:
    """Builds one table into an empty file. `size_bytes` is what has been written so far.

    max_sequence, min_sequence: no row will have a higher one, a lower one; a max_sequence of None: look at each row.
    compression: a name of compression.py.
    """

    def __init__(
        self,
        file: File,
        options: Options,
        max_sequence: int | None,
        min_sequence: int = 0,
        compression: str | None = None,
    ) -> None:
        self._file = file
        self._compression = compression
        self._options = options
        self._data = BlockBuilder(options.block_restart_interval)
        self._index = BlockBuilder(1)
        self._filter = _filter_builder(options)
        if self._filter is not None:
            self._filter.start_block(0)
        self._statistics = TableStatistics(max_sequence=max_sequence or 0, min_sequence=min_sequence)
        self._bounded = max_sequence is not None
        self._parts: list[bytes] = []
        self._parts_bytes = 0
        self._pending: bytes | None = None  # the handle of a block whose separator awaits the next key
        self._smallest = self._last = b""
        self.size_bytes = 0

    def add(self, keys: Sequence[bytes], internal_keys: Sequence[bytes], values: Sequence[bytes], at: int) -> int:
        """Appends rows from position `at` on until a data block is full; returns the position behind the last one.

        Requires: rule 1; `at` < len(keys). Raises OSError. O(bytes).
        """
        if self._pending is not None:
            self._index.add(separator(self._last, internal_keys[at]), self._pending)
            self._pending = None
        block_bytes = self._options.block_bytes
        end = self._data.fill(internal_keys, values, at, block_bytes)
        if self._filter is not None:
            self._filter.add_all(keys[at:end] if at or end < len(keys) else keys)
        self._count(keys, internal_keys, values, at, end)
        self._last = internal_keys[end - 1]
        if self._data.size_bytes >= block_bytes:
            self._end_block()
        return end

    def _count(
        self, keys: Sequence[bytes], internal_keys: Sequence[bytes], values: Sequence[bytes], at: int, end: int
    ) -> None:
        statistics = self._statistics
        if not self._smallest:
            self._smallest = internal_keys[at]
        elif self._last[:-TRAILER_BYTES] == keys[at]:
            statistics.versions += 1
        statistics.versions += sum(map(eq, islice(keys, at, end), islice(keys, at + 1, end)))
        statistics.entries += end - at
        statistics.deletions += sum([not key[-TRAILER_BYTES] for key in islice(internal_keys, at, end)])
        if not self._bounded:
            sequences = [trailer_of(key) >> 8 for key in islice(internal_keys, at, end)]
            statistics.max_sequence = max(statistics.max_sequence, *sequences)
            statistics.min_sequence = min(statistics.min_sequence or sequences[0], *sequences)
        statistics.key_bytes += sum(map(len, islice(keys, at, end)))
        statistics.value_bytes += sum(map(len, islice(values, at, end)))

    def _end_block(self) -> None:
        """Writes the data block, whose index entry waits for the next key."""
        raw, kind = self._compressed(self._data.finish())
        self._pending = self._write_block(raw, kind)
        self._data.reset()
        if self._filter is not None:
            self._filter.start_block(self.size_bytes)

    def _compressed(self, raw: bytes) -> tuple[bytes, int]:
        if self._compression is not None:
            smaller, kind = compress(raw, self._compression)
            if len(smaller) < len(raw) - len(raw) // KEPT_RATIO:
                return smaller, kind
        return raw, RAW

    def _write_block(self, raw: bytes, kind: int = RAW) -> bytes:
        """Appends a block with its trailer, and returns its handle."""
        handle = encode_handle(self.size_bytes, len(raw))
        self._write(seal_block(raw, kind))
        return handle

    def _write(self, data: bytes) -> None:
        self._parts.append(data)
        self._parts_bytes += len(data)
        self.size_bytes += len(data)
        if self._parts_bytes >= WRITE_BYTES:
            self._hand_over()

    def _hand_over(self) -> None:
        self._file.append(b"".join(self._parts))
        self._parts.clear()
        self._parts_bytes = 0

    def finish(self, site: str) -> TableInfo:
        """Writes what follows the data blocks, and syncs the file under the name `site`. Raises OSError.

        Requires: at least one row was added.
        """
        assert self._smallest, "a table without rows must not be finished: it has no smallest key"
        if self._data.count:
            self._end_block()
        assert self._pending is not None
        meta = BlockBuilder(self._options.block_restart_interval)
        if self._filter is not None:
            meta.add(b"" + self._filter.name, self._write_block(self._filter.finish()))
        if self._options.table_statistics:
            meta.add(STATISTICS_NAME, self._write_block(self._statistics.encode()))
        meta_handle = self._write_block(*self._compressed(meta.finish()))
        self._index.add(successor(self._last), self._pending)
        handles = meta_handle + self._write_block(*self._compressed(self._index.finish()))
        self._write(handles.ljust(FOOTER_BYTES - len(MAGIC), b"\x00") + MAGIC)
        self._hand_over()
        self._file.sync(site)
        return TableInfo(self.size_bytes, self._smallest, self._last, self._statistics)


def _filter_builder(options: Options) -> BlockedBloomBuilder | LevelDBBloomBuilder | None:
    if options.filter == "bloom":
        return BlockedBloomBuilder(options.bloom_bits_per_key)
    if options.filter == "leveldb":
        return LevelDBBloomBuilder(options.bloom_bits_per_key)
    return None
