"""A table that keeps blocks decoded, and hands them out whole.

    a block that isn't cached ──get──► searched in its bytes, and kept so ──some gets later──► decoded, and kept so
                             ──scan──► decoded, and kept so

It saves, in a warm cache, 14 of 15 µs of a get, and 2.1 of 2.2 µs for each pair of a scan. Decoding costs 26 µs for a block,
11 in a simple table, and the memory of the decoded block.

A table without tombstones, and with one version of each key, is *simple*: as of any snapshot that is not below its
highest sequence it says what it holds, and no trailer has to be looked at. Compaction leaves such tables, and a scan of
one passes the lists of its blocks on as they are.
"""

from __future__ import annotations

import struct
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from operator import attrgetter
from typing import Final

from engines.coding import DecodeError
from engines.env import File, View
from engines.errors import CorruptionError
from engines.lsm.block import Block
from engines.lsm.cache import BlockCache
from engines.lsm.fast.block import DecodedBlock, SimpleBlock, TouchedBlock, decode, decode_simple, find
from engines.lsm.fast.bloom import FastBloom
from engines.lsm.fast.chunks import Chunk, Rows
from engines.lsm.keys import ABSENT, MAX_SEQUENCE, TRAILER_BYTES, Found
from engines.lsm.sstable import BLOCK_TRAILER_BYTES, Table, decode_handle
from engines.lsm.statistics import Counters

__all__ = ["EAGER", "PATIENCE", "FastTable", "Head", "decode_handles"]

READAHEAD_BYTES: Final = 1 << 17  # a scan reads so much at once, once it has read two blocks in a row
FIRST_CHUNK: Final = 16  # keys: short scans are the most frequent ones
ROWS_BYTES: Final = 1 << 17  # a compaction reads so much at once

# A block is decoded at its third get if that evicts nothing: its memory grows by `GROWTH` times its bytes. In a full cache
# it has to be asked `PATIENCE` times: searching the bytes so often costs what decoding does, and in a store that is much
# larger than its cache most blocks go before.
GROWTH: Final = 2
EAGER: Final = 3
PATIENCE: Final = 8

FIVE: Final = struct.Struct("5B")

_CHUNK: Final = attrgetter("keys", "values")
Decoded = DecodedBlock | SimpleBlock
Head = tuple[Sequence[bytes], Sequence[bytes | None], int, int]  # keys and values, and which of them are meant


class FastTable(Table):
    """Stands in for Table; to open one of 512 blocks takes half of the time. See the module for what else it saves."""

    block_class = DecodedBlock
    bloom_class = FastBloom

    def __init__(self, file: File, size_bytes: int, cache: BlockCache, counters: Counters) -> None:
        self._view: View | None = None
        super().__init__(file, size_bytes, cache, counters)
        self._user_separators = [separator[:-TRAILER_BYTES] for separator in self.separators]
        simple = self.statistics is not None and self.statistics.simple
        self._simple_from = self.max_sequence if simple else MAX_SEQUENCE + 1

    def index_entries(self, raw: bytes) -> tuple[list[bytes], list[tuple[int, int]]]:
        separators, handles = decode(raw, Block(raw).end)
        return separators, decode_handles(handles)

    def read_meta(self, offset: int, size: int) -> None:
        super().read_meta(offset, size)
        self.filter = self._bloom.blocks if isinstance(self._bloom, FastBloom) else None

    def read_bytes(self, offset: int, size: int) -> bytes:
        """As Table.read_bytes, from a mapping, as LevelDB's env_posix.cc maps tables: 1.5 µs -> 0.5 for a block.

        No system call gives the interpreter lock up. A thread that reads a block every 100 µs and takes the lock back each
        time never lets a waiting one find it free, nor wait out the 5 ms after which that one would get it: a compaction
        that was done waited 1.3 s to be installed. Without a cache (a worker process, which has one thread) files are
        read: what is mapped counts as the process's memory.
        """
        if self._view is None:
            if self.cache.is_off:
                return super().read_bytes(offset, size)
            self._view = self._file.view()
        data = self._view[offset : offset + size]
        self.counters.bytes_read += len(data)
        return data

    def get(self, key: bytes, sequence: int, may_be_here: bool = False) -> Found:
        """As Table.get; but a block that is there, decoded, is searched without asking the filter: both cost the same,
        and the answer is final. may_be_here: the caller has asked the filter."""
        separators = self._user_separators
        number = bisect_left(separators, key)
        while number < len(separators):
            block = self.cache.young.get(self.first_key + number)
            found: Found
            if type(block) is SimpleBlock and sequence >= self._simple_from:
                self.counters.block_lookups += 1
                found = (block.pairs or block.index()).get(key, ABSENT)
            elif type(block) is DecodedBlock:
                self.counters.block_lookups += 1
                found = _version(block, (block.places or block.index()).get(key), key, sequence)
            elif may_be_here or self.may_contain(key):
                found = self._get_cold(number, key, sequence)
            else:
                return ABSENT
            if found is not ABSENT or separators[number] != key:
                return found
            number += 1  # the key's versions go on in the next block, or the separator was shortened to this key
        return ABSENT

    def _get_cold(self, number: int, key: bytes, sequence: int) -> Found:
        """As `get`, in a block that isn't decoded, or not young. A block that isn't there is searched as it is: in a
        store larger than its cache, most blocks that a get reads go before they are asked again. See PATIENCE."""
        block = self.cache.find(self.first_key + number)
        if type(block) is TouchedBlock:
            block.touches += 1
            touches = block.touches
            if touches < EAGER or (touches < PATIENCE and self.cache.room_bytes < GROWTH * len(block.raw)):
                self.counters.block_lookups += 1
                return self._find(number, block, key, sequence)
        if block is not None:
            block = self._decoded(number, sequence < self._simple_from)
            if type(block) is SimpleBlock:
                return (block.pairs or block.index()).get(key, ABSENT)
            assert isinstance(block, DecodedBlock)
            return _version(block, bisect_left(block.keys, key), key, sequence)
        self.counters.block_lookups += 1
        self.counters.cache_misses += 1
        offset, size = self.handles[number]
        undecoded = self._touched(number, self.read(offset, size))
        found = self._find(number, undecoded, key, sequence)
        self.cache.add(self.first_key + number, undecoded)
        return found

    def _touched(self, number: int, raw: bytes) -> TouchedBlock:
        """A data block as it was read."""
        try:
            block = TouchedBlock(raw)
            if not block.end:
                raise DecodeError("a data block holds at least one key")
        except DecodeError as error:
            raise self._damaged(number, error) from error
        return block

    def _find(self, number: int, block: Block, key: bytes, sequence: int) -> Found:
        try:
            return find(block, key, sequence)
        except DecodeError as error:
            raise self._damaged(number, error) from error

    def _damaged(self, number: int, error: DecodeError) -> CorruptionError:
        return CorruptionError(self.path, self.handles[number][0], f"the block is damaged: {error}")

    def block(self, number: int) -> DecodedBlock:
        """As Table.block, with the trailers."""
        block = self._decoded(number, True)
        assert isinstance(block, DecodedBlock)
        return block

    def _decoded(self, number: int, trailers: bool) -> Decoded:
        """A data block, from the cache or from the file; it is in the cache afterwards, decoded, and with its trailers if they
        are asked for. One that is there without them is read again."""
        place = self.first_key + number
        self.counters.block_lookups += 1
        block = self.cache.young.get(place) or self.cache.find(place)
        if isinstance(block, DecodedBlock) or (isinstance(block, SimpleBlock) and not trailers):
            return block
        if not isinstance(block, TouchedBlock):
            self.counters.cache_misses += 1
            block = self._touched(number, self.read(*self.handles[number]))
        decoded = self._decode(number, block, trailers)
        self.cache.add(place, decoded)
        return decoded

    def _decode(self, number: int, block: TouchedBlock, trailers: bool) -> Decoded:
        if not trailers:
            try:
                both = decode_simple(block.raw, block.end)
            except DecodeError as error:
                raise self._damaged(number, error) from error
            if both is not None and both[0]:
                return SimpleBlock(*both, len(block.raw))
        return self.new_block(number, block.raw)

    def new_block(self, number: int, raw: bytes) -> DecodedBlock:
        try:
            block = DecodedBlock(raw)
            if not block.keys:
                raise DecodeError("a data block holds at least one key")
        except DecodeError as error:
            raise self._damaged(number, error) from error
        return block

    def head(self, start: bytes, sequence: int, some: int) -> Head | None:
        """The first `some` keys from `start` on, or those of two blocks if that is fewer; None for a table that isn't simple.

        What `chunks` gives first, without a generator, and without touching what isn't asked for. There is no key only if no
        key of the table is left.
        """
        if sequence < self._simple_from:
            return None
        number = bisect_left(self._user_separators, start)
        if number == len(self.handles):
            return (), (), 0, 0
        found = self.cache.young.get(self.first_key + number)
        block = found if type(found) is SimpleBlock else self._decoded(number, False)
        keys = block.keys
        low = bisect_left(keys, start)
        end = low + some
        if end <= len(keys):
            return keys, block.values, low, end
        if number + 1 == len(self.handles):
            return keys, block.values, low, len(keys)
        following = self._decoded(number + 1, False)
        more = end - len(keys)
        keys = [*keys[low:], *following.keys[:more]]
        return keys, [*block.values[low:], *following.values[:more]], 0, len(keys)

    def chunks(
        self, start: bytes, stop: bytes | None, sequence: int, reverse: bool, some: int = FIRST_CHUNK
    ) -> Iterator[Chunk]:
        """The keys in [start, stop) as of `sequence`, block by block; with `reverse`, each chunk descends as well. In order,
        the first chunk has `some` keys at most: most scans are short, and needn't merge whole blocks.

        The sequences may be the cache's own: they must not be changed.
        """
        if sequence >= self._simple_from and not reverse:
            return self._ascending(start, stop, some)
        return self._clipped(start, stop, sequence, reverse, some)

    def _ascending(self, start: bytes, stop: bytes | None, some: int) -> Iterator[Chunk]:
        """`_clipped` for what is asked most: a simple table, in order. Ten pairs from somewhere: 22 µs -> 17 µs."""
        first, last = self._places(start, stop)
        if first < last:
            block = self._decoded(first, False)
            keys: Sequence[bytes] = block.keys
            low = bisect_left(keys, start)
            high = bisect_left(keys, stop, low) if stop is not None and keys[-1] >= stop else len(keys)
            middle = min(low + some, high)
            if low < middle:
                yield keys[low:middle], block.values[low:middle]
            if middle < high:
                yield keys[middle:high], block.values[middle:high]
        for keys, values in map(_CHUNK, self._blocks(first + 1, last, False, False)):
            if stop is None or keys[-1] < stop:
                yield keys, values
            elif high := bisect_left(keys, stop):
                yield keys[:high], values[:high]

    def _clipped(self, start: bytes, stop: bytes | None, sequence: int, reverse: bool, some: int) -> Iterator[Chunk]:
        for keys, values in self._visible(start, stop, sequence, reverse):
            low = bisect_left(keys, start) if keys[0] < start else 0
            high = bisect_left(keys, stop) if stop is not None and keys[-1] >= stop else len(keys)
            if reverse:
                if low < high:
                    yield keys[low:high][::-1], values[low:high][::-1]
                continue
            if low + some < high:
                yield keys[low : low + some], values[low : low + some]
                low += some
            some = len(keys)
            if low < high:
                yield (keys[low:high], values[low:high]) if low or high < len(keys) else (keys, values)

    def _visible(self, start: bytes, stop: bytes | None, sequence: int, reverse: bool) -> Iterator[Chunk]:
        """What the blocks that may have keys in [start, stop) say as of `sequence`. A user key is in one chunk only."""
        first, last = self._places(start, stop)
        if sequence >= self._simple_from:
            return map(_CHUNK, self._blocks(first, last, reverse, False))
        blocks: Iterator[DecodedBlock] = self._blocks(first, last, reverse, True)  # type: ignore[assignment]
        return self._newest_of(
            self._groups(blocks, last) if reverse else ([block] for block in blocks), reverse, sequence
        )

    def _places(self, start: bytes, stop: bytes | None) -> tuple[int, int]:
        """The first block that may have keys in [start, stop), and the one after the last."""
        separators = self._user_separators
        last = len(separators) if stop is None else min(bisect_right(separators, stop) + 1, len(separators))
        return bisect_left(separators, start), last

    def _newest_of(self, groups: Iterator[list[DecodedBlock]], reverse: bool, sequence: int) -> Iterator[Chunk]:
        before: bytes | None = None  # the last key of the chunk before
        for group in groups:
            chunk = _newest(group, sequence, None if reverse else before)
            if chunk[0]:
                before = chunk[0][-1]
                yield chunk

    def _groups(self, blocks: Iterator[DecodedBlock], last: int) -> Iterator[list[DecodedBlock]]:
        """Blocks that come in reverse, in groups that are in order: a block whose first key has newer versions at the end
        of the block before it is given together with that one. The index has such a key in full."""
        group: list[DecodedBlock] = []
        for number, block in zip(range(last - 1, -1, -1), blocks):
            group.insert(0, block)
            if number == 0 or self._user_separators[number - 1] != block.keys[0]:
                yield group
                group = []
        if group:
            yield group

    def _blocks(self, first: int, last: int, reverse: bool, trailers: bool) -> Iterator[Decoded]:
        """The data blocks first..last-1 in order or against it; from the third on, a forward scan reads several at once
        of those that aren't cached."""
        if reverse:
            for number in range(last - 1, first - 1, -1):
                yield self._decoded(number, trailers)
            return
        ahead = first + 2
        number = first
        while number < last:
            if number < ahead or self.cache.find(self.first_key + number) is not None:
                yield self._decoded(number, trailers)
                number += 1
                continue
            for each, raw in self._read_ahead(number, last, READAHEAD_BYTES):
                block = self._decode(each, self._touched(each, raw), trailers)
                self.counters.block_lookups += 1
                self.counters.cache_misses += 1
                self.cache.add(self.first_key + number, block)
                yield block
                number += 1

    def _read_ahead(self, number: int, stop: int, size_bytes: int) -> Iterator[tuple[int, bytes]]:
        """The blocks from `number` on, before `stop`, as many as lie side by side in `size_bytes`: one read. Each with
        its number, checked and decompressed when it is asked for."""
        begin = self.handles[number][0]
        last = number + 1
        while last < stop and begin < self.handles[last][0] and sum(self.handles[last]) - begin < size_bytes:
            last += 1
        end = max(map(sum, self.handles[number:last])) + BLOCK_TRAILER_BYTES
        stored = self.read_bytes(begin, end - begin)
        self.counters.blocks_read += last - number
        for each in range(number, last):
            offset, size = self.handles[each]
            at = offset - begin
            yield each, self.contents(stored[at : at + size + BLOCK_TRAILER_BYTES], offset, size)

    def row_chunks(self) -> Iterator[Rows]:
        """All versions in the order of internal keys, past the cache: for compaction. The chunks are the file's blocks."""
        number = 0
        while number < self.blocks:
            for each, raw in self._read_ahead(number, self.blocks, ROWS_BYTES):
                yield self._rows(each, raw)
            number = each + 1

    def _rows(self, number: int, raw: bytes) -> Rows:
        """All that a block has, without making a DecodedBlock of it: 34 µs -> 19 µs."""
        try:
            stored, values = decode(raw, Block(raw).end)
            if not stored or min(map(len, stored)) < TRAILER_BYTES:
                raise DecodeError("a data block holds at least one key, and each has a trailer")
        except DecodeError as error:
            raise self._damaged(number, error) from error
        return [key[:-TRAILER_BYTES] for key in stored], stored, values


def decode_handles(stored: list[bytes]) -> list[tuple[int, int]]:
    """As decode_handle of each, of which an index has hundreds: nearly all have three and two bytes, as those of blocks of
    128 B to 16 KiB in the file's first 2 MiB. 730 µs -> 280 µs for 512."""
    short = 0  # those of the file's first blocks
    while short < len(stored) and len(stored[short]) < 5:
        short += 1
    first, rest = stored[:short], stored[short:]
    if set(map(len, rest)) == {5}:
        raw = b"".join(rest)  # the highest bit of a byte says that the number goes on in the next one
        if min(raw[::5]) > 127 < min(raw[1::5]) and min(raw[3::5]) > 127 and max(raw[2::5] + raw[4::5]) < 128:
            return [
                *map(decode_handle, first),
                *[(a & 127 | (b & 127) << 7 | c << 14, d & 127 | e << 7) for a, b, c, d, e in FIVE.iter_unpack(raw)],
            ]
    return list(map(decode_handle, stored))


def _version(block: DecodedBlock, at: int | None, key: bytes, sequence: int) -> Found:
    """The newest version of `key` not above `sequence`, from position `at` on; None: the block doesn't have the key."""
    keys = block.keys
    while at is not None and at < len(keys) and keys[at] == key:
        trailer = block.trailer(at)
        if trailer >> 8 <= sequence:
            return block.values[at] if trailer & 255 else None
        at += 1
    return ABSENT


def _newest(blocks: Sequence[DecodedBlock], sequence: int, previous: bytes | None) -> Chunk:
    """Of each key the newest version not above `sequence`; but not of `previous`, which has been given."""
    limit = sequence << 8 | 255
    keys: list[bytes] = []
    values: list[bytes | None] = []
    for block in blocks:
        for key, trailer, value in zip(block.keys, block.trailer_numbers(), block.values):
            if key != previous and trailer <= limit:
                previous = key
                keys.append(key)
                values.append(value if trailer & 255 else None)
    return keys, values
