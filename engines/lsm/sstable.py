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
4. A user key's versions may lie in two neighbouring blocks, and then the index has that user key in full.
5. A table is never changed. Its file is closed when the last reader lets go of it.

A table with deletions == versions == 0 is *plain*: as of any snapshot >= max_sequence, what it holds is what it
says, and nobody needs to look at trailers. That is what compaction leaves, and why scans of it are fast.

Left out: mapping files (an I/O error would be a SIGBUS). Follows LevelDB's table/table.cc and table/format.cc; table_builder.py writes.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import Final

from crc32c import crc32c

from engines.coding import DecodeError, get_varint64, put_varint, u32
from engines.env import File
from engines.errors import CorruptionError, ForeignFormat
from engines.log import mask
from engines.lsm.block import Block, decode, decode_entries, find_raw
from engines.lsm.bloom import LEVELDB_NAME, NAME, BlockedBloom, LevelDBBloom
from engines.lsm.cache import BlockCache
from engines.lsm.compression import RAW, UnknownCompression, decompress, name_of
from engines.lsm.keys import ABSENT, TRAILER_BYTES, Found, internal_key, order, trailer_of
from engines.lsm.memtable import FIRST_CHUNK, Chunk, Rows
from engines.lsm.statistics import Counters, TableStatistics

__all__ = ["Table", "encode_handle", "seal_block"]

FOOTER_BYTES: Final = 48
MAGIC: Final = bytes.fromhex("57fb808b247547db")
ROCKSDB_MAGIC: Final = bytes.fromhex("f7cff485b741e288")
BLOCK_TRAILER_BYTES: Final = 5
STATISTICS_NAME: Final = b"metcd.statistics"
READAHEAD_BYTES: Final = 1 << 17  # a scan reads so much at once, once it has read two blocks in a row
SAMPLES: Final = 8  # blocks that are asked for a table's compression
ROWS_BYTES: Final = 1 << 20  # a compaction reads so much at once


def encode_handle(offset: int, size: int) -> bytes:
    """A BlockHandle's bytes."""
    return put_varint(offset) + put_varint(size)


def seal_block(raw: bytes, kind: int) -> bytes:
    """The block with its trailer, as it is on disk."""
    body = raw + bytes((kind,))
    return body + u32.pack(mask(crc32c(body)))


class Table:
    """An open table. Opening reads footer, index, filter and statistics; a block is read when it is needed.

    file: becomes the table's, which closes it. size_bytes: the file's size according to the manifest.
    For any number of threads. Raises CorruptionError for everything that the format doesn't allow, OSError.
    """

    def __init__(self, file: File, size_bytes: int, cache: BlockCache, counters: Counters) -> None:
        self._file = file
        self.path = file.path
        self._cache = cache
        self._first_key = cache.first_key()
        self._counters = counters
        actual = file.size()
        if actual != size_bytes or size_bytes < FOOTER_BYTES:
            raise CorruptionError(self.path, None, f"a table of {size_bytes} bytes was expected, but it has {actual}")
        self.size_bytes = size_bytes
        meta_handle, index_handle = self._read_footer()
        self._read_index(*index_handle)
        self._bloom: BlockedBloom | None = None
        self._leveldb_bloom: LevelDBBloom | None = None
        self.statistics: TableStatistics | None = None
        self._read_meta(*meta_handle)
        # as of a snapshot from here on, the table may be read without looking at trailers
        self._plain_from = (1 << 62) if self.statistics is None or not self.statistics.plain else self.max_sequence

    def __del__(self) -> None:
        self._file.close()

    @property
    def max_sequence(self) -> int:
        """No row has a higher sequence; 0 if the table doesn't say (LevelDB wrote it)."""
        return self.statistics.max_sequence if self.statistics is not None else 0

    @property
    def blocks(self) -> int:
        """The number of data blocks."""
        return len(self._offsets)

    @property
    def filters(self) -> list[str]:
        """The names of the filters that it has and that are known here."""
        found = {NAME: self._bloom, LEVELDB_NAME: self._leveldb_bloom}
        return [name.decode() for name, each in found.items() if each is not None]

    def block_place(self, number: int) -> tuple[int, int, bytes]:
        """(offset, size without trailer, separator in the index) of a data block."""
        return self._offsets[number], self._sizes[number], self._index_keys[number]

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
        try:
            meta_offset, at = get_varint64(footer, 0)
            meta_size, at = get_varint64(footer, at)
            index_offset, at = get_varint64(footer, at)
            index_size, at = get_varint64(footer, at)
        except DecodeError as error:
            raise CorruptionError(self.path, begin, f"the footer is damaged: {error}") from error
        return (meta_offset, meta_size), (index_offset, index_size)

    def _read_index(self, offset: int, size: int) -> None:
        raw = self._read(offset, size)
        try:
            separators, handles = decode_entries(raw)
            places = [get_varint64(handle, 0) for handle in handles]
            self._offsets = [place[0] for place in places]
            self._sizes = [get_varint64(handle, place[1])[0] for handle, place in zip(handles, places)]
            if not separators or min(map(len, separators)) < TRAILER_BYTES:
                raise DecodeError("the index is empty, or has a key without a trailer")
        except DecodeError as error:
            raise CorruptionError(self.path, offset, f"the index is damaged: {error}") from error
        self._index_keys = separators
        self._separators = [key[:-TRAILER_BYTES] for key in separators]

    def _read_meta(self, offset: int, size: int) -> None:
        """Reads the filter and the statistics that it knows; other meta blocks are somebody else's."""
        try:
            handles = dict(zip(*decode_entries(self._read(offset, size))))
            for name in (NAME, LEVELDB_NAME, STATISTICS_NAME):
                if (handle := handles.get(name)) is None:
                    continue
                offset, at = get_varint64(handle, 0)
                raw = self._read(offset, get_varint64(handle, at)[0])
                if name == NAME:
                    self._bloom = BlockedBloom(raw)
                elif name == LEVELDB_NAME:
                    self._leveldb_bloom = LevelDBBloom(raw)
                else:
                    self.statistics = TableStatistics.decode(raw)
        except DecodeError as error:
            raise CorruptionError(self.path, offset, f"a meta block is damaged: {error}") from error

    # ---- blocks -----------------------------------------------------------------------------------------------------

    def _read(self, offset: int, size: int) -> bytes:
        """One block's bytes, checked and decompressed."""
        if offset + size + BLOCK_TRAILER_BYTES > self.size_bytes - FOOTER_BYTES:
            raise CorruptionError(
                self.path, offset, f"a block of {size} bytes begins here, but the footer is in its way"
            )
        stored = self._file.pread(size + BLOCK_TRAILER_BYTES, offset)
        self._counters.blocks_read += 1
        self._counters.bytes_read += len(stored)
        return self._opened(stored, offset, size)

    def _opened(self, stored: bytes, offset: int, size: int) -> bytes:
        """The block in `stored`, which is what the file has at `offset`."""
        if len(stored) != size + BLOCK_TRAILER_BYTES:
            raise CorruptionError(self.path, offset, f"a block of {size} bytes was expected, but the file ends")
        (expected,) = u32.unpack_from(stored, size + 1)
        actual = mask(crc32c(memoryview(stored)[: size + 1]))
        if actual != expected:
            raise CorruptionError(
                self.path, offset, f"the block's checksum should be {expected:#010x}, but its bytes have {actual:#010x}"
            )
        kind = stored[size]
        if kind == RAW:
            return stored[:size]
        try:
            return decompress(kind, stored[:size])
        except UnknownCompression as unknown:
            raise ForeignFormat(self.path, f"the block at byte {offset} {unknown}") from None
        except DecodeError as error:
            raise CorruptionError(self.path, offset, f"the block's compressed bytes are damaged: {error}") from error

    def compression(self) -> str | None:
        """That of the first of a few data blocks that has one, spread over the table; None if they are as they were.

        Nothing is checked: it is a hint for what replaces the table. Raises OSError. O(1), two small reads for each.
        """
        for number in range(0, self.blocks, -(-self.blocks // SAMPLES)):
            if (found := self.block_compression(number)) is not None:
                return found
        return None

    def block_compression(self, number: int) -> str | None:
        """That of one data block, unchecked. Raises OSError. Two small reads."""
        offset, size = self._offsets[number], self._sizes[number]
        kind = self._file.pread(1, offset + size)
        return name_of(kind[0], self._file.pread(4, offset)) if kind and kind[0] != RAW else None

    def _block(self, number: int) -> Block:
        """A data block, decoded; from the cache if it is there, and there afterwards."""
        self._counters.block_lookups += 1
        key = self._first_key + number
        found = self._cache.find(key)
        if type(found) is Block:
            return found
        if found is None:
            self._counters.cache_misses += 1
            found = self._read(self._offsets[number], self._sizes[number])
        block = self._decoded(found, number)  # type: ignore[arg-type]
        self._cache.add(key, block)
        return block

    def _decoded(self, raw: bytes, number: int) -> Block:
        try:
            block = decode(raw)
        except DecodeError as error:
            raise CorruptionError(self.path, self._offsets[number], f"the block is damaged: {error}") from error
        if not block.keys:
            raise CorruptionError(self.path, self._offsets[number], "a data block holds at least one key")
        return block

    def _read_ahead(self, number: int, stop: int, size_bytes: int) -> list[Block]:
        """The blocks from `number` on, up to `stop`, as many as lie in `size_bytes` behind each other: one read."""
        offsets, sizes = self._offsets, self._sizes
        begin = offsets[number]
        last = number + 1
        while last < stop and begin < offsets[last] and offsets[last] + sizes[last] - begin < size_bytes:
            last += 1
        if last == number + 1:
            raw = self._read(begin, sizes[number])
            return [self._decoded(raw, number)]
        end = max(offset + size for offset, size in zip(offsets[number:last], sizes[number:last])) + BLOCK_TRAILER_BYTES
        stored = self._file.pread(end - begin, begin)
        self._counters.blocks_read += last - number
        self._counters.bytes_read += len(stored)
        blocks = []
        for each in range(number, last):
            at = offsets[each] - begin
            raw = self._opened(stored[at : at + sizes[each] + BLOCK_TRAILER_BYTES], offsets[each], sizes[each])
            blocks.append(self._decoded(raw, each))
        return blocks

    def read_block(self, number: int) -> Block:
        """A data block from the file, past the cache."""
        return self._decoded(self._read(self._offsets[number], self._sizes[number]), number)

    # ---- reading ----------------------------------------------------------------------------------------------------

    def may_contain(self, key: bytes) -> bool:
        """False only if no version of `key` is in the table: the filter's answer, True without one. O(1)."""
        if self._bloom is not None:
            if self._bloom.may_contain(key):
                return True
        elif self._leveldb_bloom is not None:
            first = bisect_left(self._separators, key)
            for number in range(first, min(bisect_right(self._separators, key) + 1, self.blocks)):
                if self._leveldb_bloom.may_contain(self._offsets[number], key):
                    return True
        else:
            return True
        self._counters.filter_hits += 1
        return False

    def get(self, key: bytes, sequence: int) -> Found:
        """The newest value of `key` not above `sequence`; None if that is a tombstone; ABSENT if there is none.

        O(log n) and at most one block for almost every key (rule 4); none if the filter denies it. A block that is
        there, decoded, is searched without asking the filter: both cost the same, and the answer is final.
        """
        separators = self._separators
        number = bisect_left(separators, key)
        while number < len(separators):
            block = self._cache.young.get(self._first_key + number)
            if type(block) is not Block:
                if not self.may_contain(key):
                    return ABSENT
                found = self._get_cold(number, key, sequence)
            else:
                self._counters.block_lookups += 1
                at = (block.places or block.index()).get(key)
                if at is None:
                    found = ABSENT
                elif sequence >= self._plain_from:
                    return block.values[at]
                else:
                    found = _version(block, at, key, sequence)
            if found is not ABSENT or separators[number] != key:
                return found
            number += 1  # rule 4, and a separator that was shortened to exactly this key
        return ABSENT

    def _get_cold(self, number: int, key: bytes, sequence: int) -> Found:
        """As `get`, in a block that isn't decoded or not young: read if need be, decoded at the second time."""
        self._counters.block_lookups += 1
        place = self._first_key + number
        cached = self._cache.find(place)
        if type(cached) is Block:
            return _version(cached, bisect_left(cached.keys, key), key, sequence)
        if cached is not None:
            block = self._decoded(cached, number)  # type: ignore[arg-type]
            self._cache.add(place, block)
            return _version(block, bisect_left(block.keys, key), key, sequence)
        self._counters.cache_misses += 1
        raw = self._read(self._offsets[number], self._sizes[number])
        self._cache.add(place, raw)
        try:
            found = find_raw(raw, internal_key(key, sequence, 255))
        except DecodeError as error:
            raise CorruptionError(self.path, self._offsets[number], f"the block is damaged: {error}") from error
        if found is None or found[0][:-TRAILER_BYTES] != key:
            return ABSENT
        return found[1] if trailer_of(found[0]) & 255 else None

    def blocks_of(self, start: bytes, stop: bytes | None, reverse: bool) -> Iterator[Block]:
        """The data blocks that may have keys in [start, stop), in order or against it; they must not be changed."""
        first = bisect_left(self._separators, start)
        last = self.blocks if stop is None else min(bisect_right(self._separators, stop) + 1, self.blocks)
        return self._blocks_between(first, last, reverse)

    def chunks(self, start: bytes, stop: bytes | None, sequence: int, reverse: bool) -> Iterator[Chunk]:
        """The keys in [start, stop) as of `sequence`, block by block; with `reverse`, each chunk descends as well.

        A key is in one chunk only. The lists may be the cache's own: they must not be changed.
        """
        first = bisect_left(self._separators, start)
        last = self.blocks if stop is None else min(bisect_right(self._separators, stop) + 1, self.blocks)
        if sequence >= self._plain_from:
            return self._plain_chunks(first, last, start, stop, reverse)
        return (
            self._backward(first, last, start, stop, sequence)
            if reverse
            else self._forward(first, last, start, stop, sequence)
        )

    def _plain_chunks(self, first: int, last: int, start: bytes, stop: bytes | None, reverse: bool) -> Iterator[Chunk]:
        """The chunks are the cache's blocks, but for a short first one: who wants ten keys needn't merge a hundred."""
        if reverse:
            yield from self._plain_backward(first, last, start, stop)
            return
        if first < last:
            block = self._block(first)
            first += 1
            keys: list[bytes] = block.keys
            values: list[bytes | None] = block.values  # type: ignore[assignment]
            low = bisect_left(keys, start)
            high = bisect_left(keys, stop, low) if stop is not None and keys[-1] >= stop else len(keys)
            middle = min(low + FIRST_CHUNK, high)
            if low < middle:
                yield keys[low:middle], values[low:middle]
            if middle < high:
                yield keys[middle:high], values[middle:high]
        for block in self._blocks_between(first, last, False):
            keys, values = block.keys, block.values  # type: ignore[assignment]
            if stop is None or keys[-1] < stop:
                yield keys, values
            elif high := bisect_left(keys, stop):
                yield keys[:high], values[:high]

    def _plain_backward(self, first: int, last: int, start: bytes, stop: bytes | None) -> Iterator[Chunk]:
        for block in self._blocks_between(first, last, True):
            keys: list[bytes] = block.keys
            values: list[bytes | None] = block.values  # type: ignore[assignment]
            low = bisect_left(keys, start) if keys[0] < start else 0
            high = bisect_left(keys, stop) if stop is not None and keys[-1] >= stop else len(keys)
            if low < high:
                yield keys[low:high][::-1], values[low:high][::-1]

    def _blocks_between(self, first: int, last: int, reverse: bool) -> Iterator[Block]:
        """The data blocks first..last-1 in order or against it; a forward scan reads ahead what isn't cached."""
        if reverse:
            for number in range(last - 1, first - 1, -1):
                yield self._block(number)
            return
        number = first
        while number < last:
            if number < first + 1 or self._cache.find(self._first_key + number) is not None:
                yield self._block(number)
                number += 1
                continue
            for block in self._read_ahead(number, last, READAHEAD_BYTES):
                self._counters.block_lookups += 1
                self._counters.cache_misses += 1
                self._cache.add(self._first_key + number, block)
                yield block
                number += 1

    def _forward(self, first: int, last: int, start: bytes, stop: bytes | None, sequence: int) -> Iterator[Chunk]:
        previous: bytes | None = None
        for block in self._blocks_between(first, last, False):
            keys, values = _visible(block, start, stop, sequence, previous)
            if keys:
                previous = keys[-1]
                yield keys, values
            if stop is not None and block.keys[-1] >= stop:
                return

    def _backward(self, first: int, last: int, start: bytes, stop: bytes | None, sequence: int) -> Iterator[Chunk]:
        """Blocks that share a user key with their neighbour are taken together: the neighbour has the newer versions."""
        number = last
        while number > first:
            number -= 1
            group = [self._block(number)]
            while number > first and (before := self._block(number - 1)).keys[-1] == group[0].keys[0]:
                group.insert(0, before)
                number -= 1
            all_keys: list[bytes] = []
            all_values: list[bytes | None] = []
            for block in group:
                keys, values = _visible(block, start, stop, sequence, all_keys[-1] if all_keys else None)
                all_keys += keys
                all_values += values
            if all_keys:
                yield all_keys[::-1], all_values[::-1]

    def row_chunks(self, first: int = 0) -> Iterator[Rows]:
        """All versions from block `first` on, in the order of internal keys, past the cache: for compaction and check.

        The chunks are the file's blocks.
        """
        number = first
        while number < self.blocks:
            for block in self._read_ahead(number, self.blocks, ROWS_BYTES):
                yield block.keys, block.internal_keys(), block.values
                number += 1

    def index_violations(self, number: int, first: bytes, last: bytes) -> list[str]:
        """Each violation of rule 2 by data block `number`, whose first and last internal keys are given."""
        found = []
        if order(last) > order(self._index_keys[number]):
            found.append(f"{self.path}: block {number} ends with {last!r}, behind its separator in the index")
        if number and order(first) <= order(self._index_keys[number - 1]):
            found.append(f"{self.path}: block {number} begins with {first!r}, before the separator of the block before")
        return found

    def offset_of(self, key: bytes) -> int:
        """About how many bytes of the file lie before `key`: where its block begins. O(log n)."""
        number = bisect_left(self._separators, key)
        return self._offsets[number] if number < self.blocks else self.size_bytes


def _version(block: Block, at: int, key: bytes, sequence: int) -> Found:
    """The newest version of `key` not above `sequence`, from position `at` on."""
    keys = block.keys
    while at < len(keys) and keys[at] == key:
        trailer = block.trailer(at)
        if trailer >> 8 <= sequence:
            return block.values[at] if trailer & 255 else None
        at += 1
    return ABSENT


def _visible(block: Block, start: bytes, stop: bytes | None, sequence: int, previous: bytes | None) -> Chunk:
    """The keys of a block in [start, stop) as of `sequence`, each once; `previous` was seen already."""
    limit = sequence << 8 | 255
    keys: list[bytes] = []
    values: list[bytes | None] = []
    for key, trailer, value in zip(block.keys, block.trailer_numbers(), block.values):
        if key != previous and trailer <= limit and key >= start:
            if stop is not None and key >= stop:
                break
            previous = key
            keys.append(key)
            values.append(value if trailer & 255 else None)
    return keys, values
