"""Tables: immutable files of sorted versions (`000007.ldb`), with an index, a filter and statistics.

    ┌──────────────┬─ ─┬──────────────┬────────┬────────────┬───────────┬───────┬────────┐
    │ data block 0 │ … │ data block n │ filter │ statistics │ metaindex │ index │ footer │
    └──────────────┴─ ─┴──────────────┴────────┴────────────┴───────────┴───────┴────────┘
    each block      its bytes │ compression: u8 (compression.py) │ masked crc32c of both: fixed32
    index           separator → handle of a data block           metaindex       name → handle of a meta block
    handle          offset: varint64 │ size: varint64, without the five bytes of the trailer
    footer, 48 B    handle of metaindex │ handle of index │ zeros up to byte 40 │ 57 fb 80 8b 24 75 47 db
    statistics      varint64 each: entries │ deletions │ versions │ max_sequence │ key bytes │ value bytes

`metcd.statistics` is ours: LevelDB ignores meta blocks that it doesn't know. `versions` counts the rows whose user key
is that of the row before; `max_sequence` is a bound: no row has a higher one.

1. Keys ascend strictly in the order of internal keys, over all data blocks.
2. For the separator K of a block: last key of the block <= K < first key of the next one.
3. Every block is checked against its checksum when it is read from the file, always.
4. A user key's versions may lie in two neighbouring blocks. But of all keys that are not before a given internal key,
   the first one lies in the first block whose separator is not before it, or that block has none: so a get reads one.
5. A table is never changed. Its file is closed when the last reader lets go of it.

A read has two steps: bisect the index for the block, and search the block (block.py). The index is decoded when the
table is opened, and stays in memory.

Left out: mapping files (an I/O error would be a SIGBUS). Follows LevelDB's table/table.cc, table/two_level_iterator.cc
and table/format.cc; table_builder.py writes.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import ClassVar, Final

from crc32c import crc32c

from engines.coding import DecodeError, get_varint64, put_varint, u32
from engines.env import File
from engines.errors import CorruptionError, ForeignFormat
from engines.log import mask
from engines.lsm.block import Block, Entry
from engines.lsm.bloom import LEVELDB_NAME, NAME, BlockedBloom, LevelDBBloom
from engines.lsm.cache import BlockCache
from engines.lsm.compression import RAW, UnknownCompression, decompress, name_of
from engines.lsm.keys import ABSENT, MAX_SEQUENCE, TRAILER_BYTES, VALUE, Found, Row, internal_key, order
from engines.lsm.statistics import Counters, TableStatistics

__all__ = ["Table", "add_trailer", "decode_footer", "decode_handle", "encode_footer", "encode_handle"]

FOOTER_BYTES: Final = 48
MAGIC: Final = bytes.fromhex("57fb808b247547db")
ROCKSDB_MAGIC: Final = bytes.fromhex("f7cff485b741e288")
BLOCK_TRAILER_BYTES: Final = 5
STATISTICS_NAME: Final = b"metcd.statistics"
SAMPLES: Final = 8  # blocks that are asked for a table's compression


def encode_handle(offset: int, size: int) -> bytes:
    """A BlockHandle's bytes."""
    return put_varint(offset) + put_varint(size)


def decode_handle(raw: bytes) -> tuple[int, int]:
    """(offset, size without trailer) of a block. Raises DecodeError."""
    offset, at = get_varint64(raw, 0)
    return offset, get_varint64(raw, at)[0]


def add_trailer(raw: bytes, kind: int) -> bytes:
    """The block with its trailer, as it is on disk: the compression byte `kind`, and the masked checksum of both."""
    body = raw + bytes((kind,))
    return body + u32.pack(mask(crc32c(body)))


def encode_footer(meta: tuple[int, int], index: tuple[int, int]) -> bytes:
    """The footer of a table: where its metaindex and its index are, both as (offset, size without trailer)."""
    handles = encode_handle(*meta) + encode_handle(*index)
    return handles.ljust(FOOTER_BYTES - len(MAGIC), b"\x00") + MAGIC


def decode_footer(footer: bytes) -> tuple[tuple[int, int], tuple[int, int]]:
    """(offset, size) of the metaindex, and of the index. Requires: the 48 bytes end in the magic number.

    Raises DecodeError.
    """
    meta_offset, at = get_varint64(footer, 0)
    meta_size, at = get_varint64(footer, at)
    index_offset, at = get_varint64(footer, at)
    index_size, at = get_varint64(footer, at)
    return (meta_offset, meta_size), (index_offset, index_size)


class Table:
    """An open table. Opening reads footer, index, filter and statistics; a block is read when it is needed.

    file: becomes the table's, which closes it. size_bytes: the file's size according to the manifest.
    For any number of threads. Raises CorruptionError for everything that the format doesn't allow, OSError.
    """

    block_class: ClassVar[type[Block]] = Block
    bloom_class: ClassVar[type[BlockedBloom]] = BlockedBloom

    def __init__(self, file: File, size_bytes: int, cache: BlockCache, counters: Counters) -> None:
        self._file = file
        self.path = file.path
        self.cache = cache
        self.first_key = cache.first_key()
        self.counters = counters
        actual = file.size()
        if actual != size_bytes or size_bytes < FOOTER_BYTES:
            raise CorruptionError(self.path, None, f"a table of {size_bytes} bytes was expected, but it has {actual}")
        self.size_bytes = size_bytes
        meta_handle, index_handle = self._read_footer()
        self._read_index(*index_handle)
        self._bloom: BlockedBloom | None = None
        self._leveldb_bloom: LevelDBBloom | None = None
        self.statistics: TableStatistics | None = None
        self.read_meta(*meta_handle)

    def __del__(self) -> None:
        self._file.close()

    @property
    def max_sequence(self) -> int:
        """No row has a higher sequence; 0 if the table doesn't say (LevelDB wrote it)."""
        return self.statistics.max_sequence if self.statistics is not None else 0

    @property
    def blocks(self) -> int:
        """The number of data blocks."""
        return len(self.handles)

    @property
    def filters(self) -> list[str]:
        """The names of the filters that it has and that are known here."""
        found = {NAME: self._bloom, LEVELDB_NAME: self._leveldb_bloom}
        return [name.decode() for name, each in found.items() if each is not None]

    # ---- opening ----------------------------------------------------------------------------------------------------

    def _read_footer(self) -> tuple[tuple[int, int], tuple[int, int]]:
        begin = self.size_bytes - FOOTER_BYTES
        footer = self._file.pread(FOOTER_BYTES, begin)
        if footer[-len(MAGIC) :] == ROCKSDB_MAGIC:
            raise ForeignFormat(self.path, "this is a table of RocksDB, not of LevelDB: open its store with RocksDB")
        if footer[-len(MAGIC) :] != MAGIC:
            raise CorruptionError(
                self.path, begin, f"a table ends in {MAGIC.hex()}, and this one in {footer[-8:].hex()}"
            )
        with self.damage(begin, "the footer"):
            return decode_footer(footer)

    def _read_index(self, offset: int, size: int) -> None:
        raw = self.read(offset, size)
        with self.damage(offset, "the index"):
            self.separators, self.handles = self.index_entries(raw)
            if not self.handles or min(map(len, self.separators)) < TRAILER_BYTES:
                raise DecodeError("the index is empty, or has a key without a trailer")

    def index_entries(self, raw: bytes) -> tuple[list[bytes], list[tuple[int, int]]]:
        """The separators and the handles of an index block. Raises DecodeError."""
        entries = list(Block(raw).entries())
        return [separator for separator, _ in entries], [decode_handle(handle) for _, handle in entries]

    @cached_property
    def _order(self) -> list[tuple[bytes, int]]:
        """What `order` makes of each separator."""
        return [order(separator) for separator in self.separators]

    def read_meta(self, offset: int, size: int) -> None:
        """Reads the filter and the statistics that are known here; other meta blocks are another program's."""
        meta = self.read(offset, size)
        with self.damage(offset, "the metaindex"):
            handles = {name: decode_handle(handle) for name, handle in Block(meta).entries()}
        for name in (NAME, LEVELDB_NAME, STATISTICS_NAME):
            if name not in handles:
                continue
            raw = self.read(*handles[name])
            with self.damage(handles[name][0], "a meta block"):
                if name == NAME:
                    self._bloom = self.bloom_class(raw)
                elif name == LEVELDB_NAME:
                    self._leveldb_bloom = LevelDBBloom(raw)
                else:
                    self.statistics = TableStatistics.decode(raw)

    # ---- blocks -----------------------------------------------------------------------------------------------------

    def read(self, offset: int, size: int) -> bytes:
        """One block's bytes, checked and decompressed."""
        if offset + size + BLOCK_TRAILER_BYTES > self.size_bytes - FOOTER_BYTES:
            raise CorruptionError(
                self.path, offset, f"a block of {size} bytes begins here, but the footer is in its way"
            )
        self.counters.blocks_read += 1
        return self.contents(self.read_bytes(offset, size + BLOCK_TRAILER_BYTES), offset, size)

    def read_bytes(self, offset: int, size: int) -> bytes:
        """Bytes of the file, unchecked; fewer at its end. Raises OSError."""
        data = self._file.pread(size, offset)
        self.counters.bytes_read += len(data)
        return data

    def contents(self, stored: bytes, offset: int, size: int) -> bytes:
        """The block in `stored`, which is what the file has at `offset`: `size` bytes and the trailer, if it is whole.

        Raises CorruptionError if bytes are missing, or if the checksum in the trailer isn't that of block and compression
        byte; ForeignFormat. Only then is anything of it looked at: `_decompressed` is for a compression other than RAW.
        """
        if len(stored) != size + BLOCK_TRAILER_BYTES:
            raise CorruptionError(self.path, offset, f"a block of {size} bytes was expected, but the file ends")
        (expected,) = u32.unpack_from(stored, size + 1)
        actual = mask(crc32c(memoryview(stored)[: size + 1]))
        if actual != expected:
            raise CorruptionError(
                self.path, offset, f"the block's checksum should be {expected:#010x}, but its bytes have {actual:#010x}"
            )
        raw = stored[:size]
        return raw if stored[size] == RAW else self._decompressed(stored[size], raw, offset)

    def _decompressed(self, kind: int, raw: bytes, offset: int) -> bytes:
        try:
            return decompress(kind, raw)
        except UnknownCompression as unknown:
            raise ForeignFormat(self.path, f"the block at byte {offset} {unknown}") from None
        except DecodeError as error:
            raise CorruptionError(self.path, offset, f"the block's compressed bytes are damaged: {error}") from error

    def compression(self) -> str | None:
        """That of the first of a few data blocks that has one, spread over the table; None if they are as they were.

        Nothing is checked: it is a hint for the table that replaces this one. Raises OSError. O(1), two small reads for each.
        """
        for number in range(0, self.blocks, -(-self.blocks // SAMPLES)):
            if (found := self.block_compression(number)) is not None:
                return found
        return None

    def block_compression(self, number: int) -> str | None:
        """That of one data block, unchecked. Raises OSError. Two small reads."""
        offset, size = self.handles[number]
        kind = self._file.pread(1, offset + size)
        return name_of(kind[0], self._file.pread(4, offset)) if kind and kind[0] != RAW else None

    @contextmanager
    def damage(self, offset: int, what: str) -> Iterator[None]:
        """Says where the damage is that a decoder has found."""
        try:
            yield
        except DecodeError as error:
            raise CorruptionError(self.path, offset, f"{what} is damaged: {error}") from error

    def block(self, number: int) -> Block:
        """A data block, from the cache or from the file; it is in the cache afterwards."""
        self.counters.block_lookups += 1
        block = self.cache.find(self.first_key + number)
        if block is None:
            self.counters.cache_misses += 1
            block = self.read_block(number)
            self.cache.add(self.first_key + number, block)
        return block

    def read_block(self, number: int) -> Block:
        """A data block from the file, past the cache."""
        return self.new_block(number, self.read(*self.handles[number]))

    def new_block(self, number: int, raw: bytes) -> Block:
        """A data block of the bytes that were read."""
        with self.damage(self.handles[number][0], "the block"):
            block = self.block_class(raw)
            if not block.end:
                raise DecodeError("a data block holds at least one key")
        return block

    # ---- reading ----------------------------------------------------------------------------------------------------

    def may_contain(self, key: bytes) -> bool:
        """False only if no version of `key` is in the table: the filter's answer, True without one. O(1)."""
        if self._bloom is not None:
            found = self._bloom.may_contain(key)
        elif self._leveldb_bloom is not None:
            found = any(self._leveldb_bloom.may_contain(offset, key) for offset in self._offsets_of(key))
        else:
            return True
        if not found:
            self.counters.filter_hits += 1
        return found

    def _offsets_of(self, key: bytes) -> Iterator[int]:
        """Of the blocks that may have versions of `key`."""
        first = self.block_of(internal_key(key, MAX_SEQUENCE, VALUE))
        last = self.block_of(internal_key(key, 0, 0))
        return (offset for offset, _ in self.handles[first : last + 1])

    def get(self, key: bytes, sequence: int) -> Found:
        """The newest value of `key` not above `sequence`; None if that is a tombstone; ABSENT if there is none.

        O(log n) and at most one block (rule 4); none if the filter denies it.
        """
        row = self.find(key, sequence)
        if row is None:
            return ABSENT
        return None if row.is_deletion else row.value

    def find(self, key: bytes, sequence: int) -> Row | None:
        """As `get`, but the whole row; None if there is none.

        Of `key`, the newest version not above the sequence is the first row that is not before the internal key of
        (key, sequence, VALUE): VALUE is the higher kind, and sorts first. Asks the filter (`may_contain`) before the index
        (`block_of`), and reads one block at most; none if the answer is no already. Entries become rows in `decoded`.
        """
        if not self.may_contain(key):
            return None
        wanted = internal_key(key, sequence, VALUE)
        number = self.block_of(wanted)
        if number == self.blocks:
            return None
        row = next(self.decoded(number, self.block(number).forward(wanted)), None)
        return row if row is not None and row.key == key else None

    def rows(self, start: bytes = b"", stop: bytes | None = None, reverse: bool = False) -> Iterator[Row]:
        """All versions of the user keys in [start, stop), in the order of internal keys, or against it.

        O(log n) and one block to begin with; then blocks as they come.
        """
        return self._backward(start, stop) if reverse else self._forward(start, stop)

    def _forward(self, start: bytes, stop: bytes | None) -> Iterator[Row]:
        """All versions of the user keys in [start, stop), in order; a stop of None is no bound.

        Lazy: a block is read (`block`) when its first row is asked for, and none after the last row. `decoded` makes rows of
        a block's entries. The highest internal key of `start` is that of (start, MAX_SEQUENCE, VALUE).
        """
        first = internal_key(start, MAX_SEQUENCE, VALUE)
        for number in range(self.block_of(first), self.blocks):
            for row in self.decoded(number, self.block(number).forward(first)):
                if stop is not None and row.key >= stop:
                    return
                yield row

    def _backward(self, start: bytes, stop: bytes | None) -> Iterator[Row]:
        end = None if stop is None else internal_key(stop, MAX_SEQUENCE, VALUE)
        last = self.blocks - 1 if end is None else min(self.block_of(end), self.blocks - 1)
        for number in range(last, -1, -1):
            for row in self.decoded(number, self.block(number).backward(end)):
                if row.key < start:
                    return
                yield row

    def all_rows(self) -> Iterator[Row]:
        """All versions in the order of internal keys, past the cache: for a compaction, which asks once for each."""
        for number in range(self.blocks):
            yield from self.block_rows(number)

    def block_rows(self, number: int) -> Iterator[Row]:
        """The rows of one data block, from the file and past the cache: for a check or a repair."""
        return self.decoded(number, self.read_block(number).entries())

    def decoded(self, number: int, entries: Iterator[Entry]) -> Iterator[Row]:
        """The rows of entries of a data block."""
        with self.damage(self.handles[number][0], "the block"):
            for key, value in entries:
                yield Row.decode(key, value)

    def block_of(self, key: bytes) -> int:
        """The first block whose separator is not before the internal key `key` (rule 4); `blocks` if there is none.

        `self._order` has what `order` makes of each separator, ascending. O(log blocks), and nothing is read.
        """
        return bisect_left(self._order, order(key))

    def index_violations(self, number: int, first: bytes, last: bytes) -> list[str]:
        """Each violation of rule 2 by data block `number`, whose first and last internal keys are given."""
        found = []
        if order(last) > order(self.separators[number]):
            found.append(f"{self.path}: block {number} ends with {last!r}, after its separator in the index")
        if number and order(first) <= order(self.separators[number - 1]):
            found.append(f"{self.path}: block {number} begins with {first!r}, before the separator of the block before")
        return found

    def offset_of(self, key: bytes) -> int:
        """About how many bytes of the file lie before the user key `key`: where its block begins. O(log n)."""
        number = self.block_of(internal_key(key, MAX_SEQUENCE, VALUE))
        return self.handles[number][0] if number < self.blocks else self.size_bytes
