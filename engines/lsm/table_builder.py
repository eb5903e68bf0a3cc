"""Writing a table: the blocks, filter, statistics and index of engines/lsm/sstable.py, in one pass.

    rows ──► data blocks ──► file
         ├─► filter
         └─► index: a separator for each block ──► file, at the end

1. Rows come in the order of internal keys.
2. With `statistics=False`, and LevelDB's filter or none, the file is LevelDB's byte for byte (compression off).
3. The table is durable when `finish` returns; its name is not (the caller syncs the directory, once for all tables).

Follows LevelDB's table/table_builder.cc.
"""

from __future__ import annotations

from typing import ClassVar, Final

from engines.env import File
from engines.lsm.block import BlockBuilder
from engines.lsm.bloom import BlockedBloomBuilder, LevelDBBloomBuilder
from engines.lsm.compression import RAW, compress
from engines.lsm.keys import TRAILER_BYTES, Row, separator, successor
from engines.lsm.options import Options
from engines.lsm.sstable import (
    STATISTICS_NAME,
    add_trailer,
    encode_footer,
    encode_handle,
)
from engines.lsm.statistics import TableInfo, TableStatistics

__all__ = ["TableBuilder"]

WRITE_BYTES: Final = 1 << 18  # blocks are handed to the file in writes of this size: 64 blocks, one system call
KEPT_RATIO: Final = 8  # a compressed block is kept if it saves at least one part in eight


class TableBuilder:
    """Builds one table into an empty file. `size_bytes` is what has been written so far.

    max_sequence, min_sequence: no row will have a higher one, a lower one; a max_sequence of None: look at each row.
    compression: a name of compression.py.
    """

    block_builder: ClassVar[type[BlockBuilder]] = BlockBuilder

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
        self.options = options
        self.data = self.block_builder(options.block_restart_interval)
        self._index = BlockBuilder(1)
        self.filter = filter_builder(options)
        if self.filter is not None:
            self.filter.start_block(0)
        self.statistics = TableStatistics(max_sequence=max_sequence or 0, min_sequence=min_sequence)
        self.bounded = max_sequence is not None
        self._parts: list[bytes] = []
        self._parts_bytes = 0
        self._pending: tuple[int, int] | None = None  # the handle of a block whose separator awaits the next key
        self.smallest = self.last = b""
        self.size_bytes = 0

    @property
    def is_block_end(self) -> bool:
        """True if the next row begins a block."""
        return not self.data.count

    def add(self, row: Row) -> None:
        """Appends a row. Requires: rule 1. Raises OSError. O(bytes)."""
        key = row.internal_key
        self.begin_block(key)
        self.data.add(key, row.value)
        if self.filter is not None:
            self.filter.add_all((row.key,))
        self._count(row)
        self.last = key
        self.end_block_if_full()

    def begin_block(self, key: bytes) -> None:
        """Before each row: if a block awaits its entry in the index (`_pending` is its handle), the entry is made, and
        `_pending` is None again. The separator can't be known earlier: it lies between `self.last`, the block's last
        internal key, and `key`, the next one's first. Requires: `key` is above `self.last`. O(len(key)).
        """
        if self._pending is not None:
            self._index.add(separator(self.last, key), encode_handle(*self._pending))
            self._pending = None

    def end_block_if_full(self) -> None:
        """After each row. Raises OSError."""
        if self.data.size_bytes >= self.options.block_bytes:
            self._end_block()

    def _count(self, row: Row) -> None:
        statistics = self.statistics
        if not self.smallest:
            self.smallest = row.internal_key
        elif self.last[:-TRAILER_BYTES] == row.key:
            statistics.versions += 1
        statistics.entries += 1
        statistics.deletions += row.is_deletion
        if not self.bounded:
            statistics.max_sequence = max(statistics.max_sequence, row.sequence)
            statistics.min_sequence = min(statistics.min_sequence or row.sequence, row.sequence)
        statistics.key_bytes += len(row.key)
        statistics.value_bytes += len(row.value)

    def _end_block(self) -> None:
        """Writes the data block and begins an empty one. Its handle is `_pending`: its separator awaits the next key.

        The filter, if there is one, is told where the next block begins (`start_block`). Requires: the block has a row.
        """
        self._pending = self._write_block(self.data.finish())
        self.data.reset()
        if self.filter is not None:
            self.filter.start_block(self.size_bytes)

    def _write_block(self, raw: bytes) -> tuple[int, int]:
        """Appends a block with its trailer, compressed if that is asked for and pays: its handle, (offset, size)."""
        return self._append(*self._compressed(raw))

    def _compressed(self, raw: bytes) -> tuple[bytes, int]:
        if self._compression is not None:
            smaller, kind = compress(raw, self._compression)
            if len(smaller) < len(raw) - len(raw) // KEPT_RATIO:
                return smaller, kind
        return raw, RAW

    def _append(self, raw: bytes, kind: int) -> tuple[int, int]:
        handle = self.size_bytes, len(raw)
        self._write(add_trailer(raw, kind))
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

        In this order: the data block that isn't full, if it has a row; the meta blocks and the metaindex; the index, whose
        last entry has the `successor` of the last key; the footer. All that was written is in the file before the sync.
        Requires: at least one row was added.
        """
        assert self.smallest, "a table without rows must not be finished: it has no smallest key"
        if self.data.count:
            self._end_block()
        assert self._pending is not None
        meta = self._write_meta()
        self._index.add(successor(self.last), encode_handle(*self._pending))
        index = self._write_block(self._index.finish())
        self._write(encode_footer(meta, index))
        self._hand_over()
        self._file.sync(site)
        return TableInfo(self.size_bytes, self.smallest, self.last, self.statistics)

    def _write_meta(self) -> tuple[int, int]:
        """Appends the meta blocks that the options ask for, and the metaindex, whose handle is returned."""
        meta = BlockBuilder(self.options.block_restart_interval)
        if self.filter is not None:
            meta.add(b"" + self.filter.name, encode_handle(*self._append(self.filter.finish(), RAW)))
        if self.options.table_statistics:
            meta.add(STATISTICS_NAME, encode_handle(*self._append(self.statistics.encode(), RAW)))
        return self._write_block(meta.finish())


def filter_builder(options: Options) -> BlockedBloomBuilder | LevelDBBloomBuilder | None:
    """What collects a new table's keys for its filter: ours for the option "bloom", LevelDB's for "leveldb", None for
    none.

    Each gets `bloom_bits_per_key`. The table builder calls it once for each table.
    """
    if options.filter == "bloom":
        return BlockedBloomBuilder(options.bloom_bits_per_key)
    if options.filter == "leveldb":
        return LevelDBBloomBuilder(options.bloom_bits_per_key)
    return None
