"""A table that keeps blocks decoded, and hands them out whole.

A table without tombstones, and with one version of each key, is *simple*: as of any snapshot that is not below its
highest sequence it says what it holds, and no trailer has to be looked at. Compaction leaves such tables, and a scan of
one passes the lists of its blocks on as they are.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from operator import attrgetter
from typing import Final

from engines.coding import DecodeError
from engines.env import File
from engines.errors import CorruptionError
from engines.lsm.block import Block
from engines.lsm.cache import BlockCache
from engines.lsm.fast.block import DecodedBlock, find
from engines.lsm.fast.chunks import Chunk, Rows
from engines.lsm.keys import ABSENT, MAX_SEQUENCE, TRAILER_BYTES, Found
from engines.lsm.sstable import BLOCK_TRAILER_BYTES, Table
from engines.lsm.statistics import Counters

__all__ = ["FastTable"]

READAHEAD_BYTES: Final = 1 << 17  # a scan reads so much at once, once it has read two blocks in a row
FIRST_CHUNK: Final = 16  # keys: short scans are the most frequent ones
ROWS_BYTES: Final = 1 << 20  # a compaction reads so much at once


class FastTable(Table):
    """Stands in for Table. It costs 20 µs for each block that is read, and the memory of the decoded blocks; it saves, in a
    warm cache, 14 of 15 µs of a get, and 2.1 of 2.2 µs for each pair of a scan."""

    block_class = DecodedBlock

    def __init__(self, file: File, size_bytes: int, cache: BlockCache, counters: Counters) -> None:
        super().__init__(file, size_bytes, cache, counters)
        self._user_separators = [separator[:-TRAILER_BYTES] for separator in self.separators]
        simple = self.statistics is not None and self.statistics.simple
        self._simple_from = self.max_sequence if simple else MAX_SEQUENCE + 1

    def get(self, key: bytes, sequence: int) -> Found:
        """As Table.get; but a block that is there, decoded, is searched without asking the filter: both cost the same,
        and the answer is final."""
        separators = self._user_separators
        number = bisect_left(separators, key)
        while number < len(separators):
            block = self.cache.young.get(self.first_key + number)
            if type(block) is DecodedBlock:
                self.counters.block_lookups += 1
                at = (block.places or block.index()).get(key)
                if at is None:
                    found: Found = ABSENT
                elif sequence >= self._simple_from:
                    return block.values[at]
                else:
                    found = _version(block, at, key, sequence)
            elif not self.may_contain(key):
                return ABSENT
            else:
                found = self._get_cold(number, key, sequence)
            if found is not ABSENT or separators[number] != key:
                return found
            number += 1  # the key's versions go on in the next block, or the separator was shortened to this key
        return ABSENT

    def _get_cold(self, number: int, key: bytes, sequence: int) -> Found:
        """As `get`, in a block that isn't decoded, or not young. A block that isn't there is searched as it is: in a
        store larger than its cache, most blocks that a get reads go before they are asked again. The second get that
        finds it decodes it."""
        place = self.first_key + number
        if self.cache.find(place) is not None:
            block = self._decoded(number)
            return _version(block, bisect_left(block.keys, key), key, sequence)
        self.counters.block_lookups += 1
        self.counters.cache_misses += 1
        offset, size = self.handles[number]
        raw = self.read(offset, size)
        try:
            undecoded = Block(raw)
            if not undecoded.end:
                raise DecodeError("a data block holds at least one key")
            found = find(undecoded, key, sequence)
        except DecodeError as error:
            raise CorruptionError(self.path, offset, f"the block is damaged: {error}") from error
        self.cache.add(place, undecoded)
        return found

    def _decoded(self, number: int) -> DecodedBlock:
        """A data block, from the cache or from the file; it is in the cache afterwards, decoded."""
        place = self.first_key + number
        known = self.cache.young.get(place)
        if type(known) is DecodedBlock:
            self.counters.block_lookups += 1
            return known
        block = self.block(number)
        if not isinstance(block, DecodedBlock):
            block = self.new_block(number, block.raw)
            self.cache.add(place, block)
        return block

    def new_block(self, number: int, raw: bytes) -> DecodedBlock:
        try:
            block = DecodedBlock(raw)
            if not block.keys:
                raise DecodeError("a data block holds at least one key")
        except DecodeError as error:
            raise CorruptionError(self.path, self.handles[number][0], f"the block is damaged: {error}") from error
        return block

    def chunks(self, start: bytes, stop: bytes | None, sequence: int, reverse: bool) -> Iterator[Chunk]:
        """The keys in [start, stop) as of `sequence`, block by block; with `reverse`, each chunk descends as well.

        The lists may be the cache's own: they must not be changed.
        """
        if sequence >= self._simple_from and not reverse:
            return self._ascending(start, stop)
        return self._clipped(start, stop, sequence, reverse)

    def _ascending(self, start: bytes, stop: bytes | None) -> Iterator[Chunk]:
        """`_clipped` for what is asked most: a simple table, in order. Ten pairs from somewhere: 22 µs -> 17 µs."""
        first, last = self._places(start, stop)
        if first < last:
            block = self._decoded(first)
            keys: list[bytes] = block.keys
            values: list[bytes | None] = block.values  # type: ignore[assignment]  # a list of bytes that nobody changes
            low = bisect_left(keys, start)
            high = bisect_left(keys, stop, low) if stop is not None and keys[-1] >= stop else len(keys)
            middle = min(low + FIRST_CHUNK, high)
            if low < middle:
                yield keys[low:middle], values[low:middle]
            if middle < high:
                yield keys[middle:high], values[middle:high]
        for block in self._blocks(first + 1, last, False, first + 2):
            keys, values = block.keys, block.values  # type: ignore[assignment]
            if stop is None or keys[-1] < stop:
                yield keys, values
            elif high := bisect_left(keys, stop):
                yield keys[:high], values[:high]

    def _clipped(self, start: bytes, stop: bytes | None, sequence: int, reverse: bool) -> Iterator[Chunk]:
        some = FIRST_CHUNK
        for keys, values in self._visible(start, stop, sequence, reverse):
            low = bisect_left(keys, start) if keys[0] < start else 0
            high = bisect_left(keys, stop) if stop is not None and keys[-1] >= stop else len(keys)
            if reverse:
                if low < high:
                    yield keys[low:high][::-1], values[low:high][::-1]
                continue
            if low + some < high:  # a short scan needn't merge a whole block
                yield keys[low : low + some], values[low : low + some]
                low += some
            some = len(keys)
            if low < high:
                yield (keys[low:high], values[low:high]) if low or high < len(keys) else (keys, values)

    def _visible(self, start: bytes, stop: bytes | None, sequence: int, reverse: bool) -> Iterator[Chunk]:
        """What the blocks that may have keys in [start, stop) say as of `sequence`. A user key is in one chunk only."""
        first, last = self._places(start, stop)
        blocks = self._blocks(first, last, reverse, first + 2)
        if sequence >= self._simple_from:
            return map(attrgetter("keys", "values"), blocks)
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

    def _blocks(self, first: int, last: int, reverse: bool, ahead: int) -> Iterator[DecodedBlock]:
        """The data blocks first..last-1 in order or against it; from `ahead` on, a forward scan reads several at once
        of those that aren't cached."""
        if reverse:
            for number in range(last - 1, first - 1, -1):
                yield self._decoded(number)
            return
        number = first
        while number < last:
            if number < ahead or self.cache.find(self.first_key + number) is not None:
                yield self._decoded(number)
                number += 1
                continue
            for block in self._read_ahead(number, last, READAHEAD_BYTES):
                self.counters.block_lookups += 1
                self.counters.cache_misses += 1
                self.cache.add(self.first_key + number, block)
                yield block
                number += 1

    def _read_ahead(self, number: int, stop: int, size_bytes: int) -> list[DecodedBlock]:
        """The blocks from `number` on, before `stop`, as many as lie side by side in `size_bytes`: one read."""
        begin = self.handles[number][0]
        last = number + 1
        while last < stop and begin < self.handles[last][0] and sum(self.handles[last]) - begin < size_bytes:
            last += 1
        end = max(map(sum, self.handles[number:last])) + BLOCK_TRAILER_BYTES
        stored = self.read_bytes(begin, end - begin)
        self.counters.blocks_read += last - number
        blocks: list[DecodedBlock] = []
        for each in range(number, last):
            offset, size = self.handles[each]
            at = offset - begin
            raw = self.contents(stored[at : at + size + BLOCK_TRAILER_BYTES], offset, size)
            blocks.append(self.new_block(each, raw))
        return blocks

    def row_chunks(self) -> Iterator[Rows]:
        """All versions in the order of internal keys, past the cache: for compaction. The chunks are the file's blocks."""
        number = 0
        while number < self.blocks:
            for block in self._read_ahead(number, self.blocks, ROWS_BYTES):
                yield block.keys, block.internal_keys(), block.values
                number += 1


def _version(block: DecodedBlock, at: int, key: bytes, sequence: int) -> Found:
    """The newest version of `key` not above `sequence`, from position `at` on."""
    keys = block.keys
    while at < len(keys) and keys[at] == key:
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
