"""Bloom filters: "this key is certainly not in the table", from ten bits a key, without reading a block.

Two formats, each under its name in the table's metaindex. A reader ignores what it doesn't know.

**Ours**, `filter.metcd.BlockedBloomMmh3`: one filter for the whole table, cut into blocks of 512 bits.

    n blocks of 64 bytes, bit i of a block at byte i // 8, bit i % 8

    hash       the low 64 bits of MurmurHash3 (x64, 128 bits, seed 0) of the user key
    block      (hash >> 32) % n
    bits       PATTERNS[0][hash & 4095] and PATTERNS[1][hash >> 12 & 4095]: three bits each, six for a key
    PATTERNS   pattern i of table t has the bits h & 511, h >> 9 & 511, h >> 18 & 511,
               where h is MurmurHash3 (32 bits, seed t + 1) of i as two bytes, little-endian

A textbook filter sets six bits one at a time, which in Python is six times a microsecond's fifth. Here a key touches
one block, with two ready-made patterns: two set operations in C. The price is a false positive rate of 1.0 % in place
of 0.8 at ten bits a key, because some blocks get more keys than others. (Putze, Sanders, Singler: "Cache-, Hash- and
Space-Efficient Bloom Filters", 2007, sections 3 and 4.)

**LevelDB's**, `filter.leveldb.BuiltinBloomFilter2`: one small filter for each 2 KiB of the file, with its own hash.

    filter* │ offset of each filter: fixed32 * m │ offset of that array: fixed32 │ 11
    filter i covers the data blocks that begin in the file's bytes [i * 2048, (i + 1) * 2048); it may be empty
    a filter is its bits, at least 64, and one byte k; k probes at h, h + delta, ...; delta is h rotated by 17 bits

1. No false negatives: a key that was added is never denied. An empty or damaged filter of ours denies nothing.
2. Filters hold *user* keys: a snapshot asks for an older version under the same name.

Left out: RocksDB's ribbon filters, prefix filters. Follows LevelDB's table/filter_block.cc, util/bloom.cc, util/hash.cc.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

from bitarray import bitarray
from bitarray.util import subset
from mmh3 import hash as mmh3_32
from mmh3 import mmh3_x64_128_uintdigest

from engines.coding import DecodeError

__all__ = [
    "LEVELDB_NAME",
    "NAME",
    "BlockedBloom",
    "BlockedBloomBuilder",
    "LevelDBBloom",
    "LevelDBBloomBuilder",
    "leveldb_bits",
    "leveldb_hash",
    "leveldb_match",
]

NAME: Final = b"filter.metcd.BlockedBloomMmh3"
LEVELDB_NAME: Final = b"filter.leveldb.BuiltinBloomFilter2"

BLOCK_BITS: Final = 512
BLOCK_BYTES: Final = BLOCK_BITS // 8
PATTERN_BITS: Final = 12  # of the hash, to choose a pattern
_PATTERN_MASK: Final = (1 << PATTERN_BITS) - 1


def _patterns(table: int) -> list[bitarray]:
    """The 4096 patterns of one table."""
    patterns = []
    for number in range(1 << PATTERN_BITS):
        hashed = mmh3_32(number.to_bytes(2, "little"), table + 1, signed=False)
        pattern = bitarray(BLOCK_BITS, endian="little")
        pattern.setall(0)
        for shift in (0, 9, 18):
            pattern[hashed >> shift & (BLOCK_BITS - 1)] = 1
        patterns.append(pattern)
    return patterns


PATTERNS: Final = (_patterns(0), _patterns(1))


class BlockedBloomBuilder:
    """Collects the hashes of a table's user keys, and makes the filter when their number is known."""

    name = NAME

    def __init__(self, bits_per_key: int) -> None:
        self._bits_per_key = bits_per_key
        self._hashes: list[int] = []

    def start_block(self, offset: int) -> None:
        """A data block begins at `offset`: nothing to do for a filter of the whole table."""

    def add_all(self, keys: Sequence[bytes]) -> None:
        """Adds user keys; a repeated one does no harm. O(1) each."""
        self._hashes += map(mmh3_x64_128_uintdigest, keys)

    def finish(self) -> bytes:
        """The filter's bytes: n blocks of 64 bytes, in which each key has set six bits at most, as the module's
        docstring says.

        `_hashes` are the keys' hashes, 128 bits of which the low 64 count. n is the keys' number * `_bits_per_key` /
        512, rounded up, and at least 1. A block is a `bitarray(BLOCK_BITS, endian="little")` that begins as zeros; `|=`
        sets a pattern's bits, `tobytes()` are its bytes. O(1) a key.
        """
        count = max(1, -(-len(self._hashes) * self._bits_per_key // BLOCK_BITS))
        blocks = [bitarray(BLOCK_BITS, endian="little") for _ in range(count)]
        for block in blocks:
            block.setall(0)
        first, second = PATTERNS
        for hashed in self._hashes:
            block = blocks[(hashed >> 32 & 0xFFFFFFFF) % count]
            block |= first[hashed & _PATTERN_MASK]
            block |= second[hashed >> PATTERN_BITS & _PATTERN_MASK]
        return b"".join([block.tobytes() for block in blocks])


class BlockedBloom:
    """Our filter, to be asked. Raises DecodeError if its size is no multiple of a block's."""

    __slots__ = ("_blocks", "_count")

    def __init__(self, raw: bytes) -> None:
        self.check_size(raw)
        self._count = len(raw) // BLOCK_BYTES
        self._blocks = []
        for start in range(0, len(raw), BLOCK_BYTES):
            block = bitarray(endian="little")
            block.frombytes(raw[start : start + BLOCK_BYTES])
            self._blocks.append(block)

    @staticmethod
    def check_size(raw: bytes) -> None:
        """Raises DecodeError if it is no multiple of a block's, or 0."""
        if len(raw) % BLOCK_BYTES or not raw:
            raise DecodeError(f"the filter has {len(raw)} bytes, which are not blocks of {BLOCK_BYTES}")

    def may_contain(self, key: bytes) -> bool:
        """False only if `key` was never added: a bit of one of its two patterns is not set in its block.

        The block and the patterns are chosen by the hash, as `BlockedBloomBuilder.finish` does it;
        `mmh3_x64_128_uintdigest` is the hash, `subset(pattern, block)` says that all of a pattern's bits are set. O(1):
        one hash, one block, two patterns.
        """
        hashed = mmh3_x64_128_uintdigest(key)
        block = self._blocks[(hashed >> 32 & 0xFFFFFFFF) % self._count]
        if not subset(PATTERNS[0][hashed & _PATTERN_MASK], block):
            return False
        found: bool = subset(PATTERNS[1][hashed >> PATTERN_BITS & _PATTERN_MASK], block)
        return found


# ---- LevelDB's own --------------------------------------------------------------------------------------------------

BASE_LOG2: Final = 11  # a filter for each 2 KiB of the file
HASH_SEED: Final = 0xBC9F1D34
HASH_FACTOR: Final = 0xC6A4A793
_WORD: Final = 0xFFFFFFFF


def leveldb_hash(data: bytes, seed: int = HASH_SEED) -> int:
    """LevelDB's 32-bit hash (util/hash.cc): like Murmur, but not Murmur. All arithmetic is modulo 2**32. O(len(data)).

    It begins as seed xor (length * HASH_FACTOR). Each whole word of four bytes, little-endian, is added; the sum is
    multiplied by HASH_FACTOR, and xored with itself shifted right by 16. The one to three bytes that are left, if any,
    are added as one little-endian number; multiplied likewise, and xored with itself shifted right by 24.
    """
    whole = len(data) & ~3
    hashed = seed ^ (len(data) * HASH_FACTOR & _WORD)
    for word in struct.unpack(f"<{whole // 4}I", data[:whole]):
        hashed = (hashed + word) * HASH_FACTOR & _WORD
        hashed ^= hashed >> 16
    if whole < len(data):
        hashed = (hashed + int.from_bytes(data[whole:], "little")) * HASH_FACTOR & _WORD
        hashed ^= hashed >> 24
    return hashed


def leveldb_bits(keys: Sequence[bytes], bits_per_key: int, probes: int) -> bytes:
    """The bits of one small filter of LevelDB's, in which each key has set `probes` bits.

    Its size is keys * bits_per_key bits, at least 64, rounded up to whole bytes. With h the key's `leveldb_hash`, and
    delta h rotated right by 17 in its 32 bits, a key sets the bits h, h + delta, h + 2 delta, ...: each sum modulo
    2**32, and then modulo the number of bits (of the whole bytes). Bit i is bit i % 8, counted from the lowest, of byte
    i // 8. O(keys * probes).
    """
    size_bits = (max(64, len(keys) * bits_per_key) + 7) // 8 * 8
    bits = bitarray(size_bits, endian="little")
    bits.setall(0)
    for key in keys:
        hashed = leveldb_hash(key)
        delta = (hashed >> 17 | hashed << 15) & _WORD
        for _ in range(probes):
            bits[hashed % size_bits] = 1
            hashed = hashed + delta & _WORD
    return bits.tobytes()


def leveldb_match(bits: bytes, probes: int, key: bytes) -> bool:
    """False only if `key` is none of the keys that `leveldb_bits` was given: one of its bits is not set.

    bits: at least one byte. probes: as many as the filter was made with. O(len(key) + probes); ends at the first bit
    that is not set.
    """
    size_bits = len(bits) * 8
    hashed = leveldb_hash(key)
    delta = (hashed >> 17 | hashed << 15) & _WORD
    for _ in range(probes):
        bit = hashed % size_bits
        if not bits[bit // 8] >> bit % 8 & 1:
            return False
        hashed = hashed + delta & _WORD
    return True


class LevelDBBloomBuilder:
    """Builds LevelDB's filter block byte for byte. `start_block` before each data block, then its keys."""

    name = LEVELDB_NAME

    def __init__(self, bits_per_key: int) -> None:
        self._bits_per_key = bits_per_key
        self._probes = min(30, max(1, int(bits_per_key * 0.69)))  # ln 2 bits a key, rounded down
        self._keys: list[bytes] = []
        self._filters = b""
        self._offsets: list[int] = []

    def start_block(self, offset: int) -> None:
        """A data block begins at byte `offset` of the file: the filters of all 2 KiB that lie before are made
        (`_make_filter`).

        So there are offset >> BASE_LOG2 filters afterwards, or more already. The first one made has all keys added so
        far, the others are empty. Requires: the offsets ascend (`TableBuilder` calls it before each block). O(keys
        since the last call).
        """
        while offset >> BASE_LOG2 > len(self._offsets):
            self._make_filter()

    def add_all(self, keys: Sequence[bytes]) -> None:
        """Adds user keys of the current data block, repeated ones too. O(1) each, at finish O(len(key))."""
        self._keys += keys

    def _make_filter(self) -> None:
        """Of all keys since the last filter; without any, a filter of no bytes."""
        self._offsets.append(len(self._filters))
        if self._keys:
            self._filters += leveldb_bits(self._keys, self._bits_per_key, self._probes) + bytes((self._probes,))
            self._keys.clear()

    def finish(self) -> bytes:
        """The filter block's bytes: filters, their offsets, the offset of these, and BASE_LOG2, as the module's
        docstring says.

        Keys that no filter has yet get one first. `_filters` are the bytes of the filters so far, `_offsets` where each
        begins. O(filters).
        """
        if self._keys:
            self._make_filter()
        array = struct.pack(f"<{len(self._offsets) + 1}I", *self._offsets, len(self._filters))
        return self._filters + array + bytes((BASE_LOG2,))


class LevelDBBloom:
    """LevelDB's filter block, to be asked. Raises DecodeError if its array of offsets isn't there."""

    __slots__ = ("_base", "_offsets", "_raw")

    def __init__(self, raw: bytes) -> None:
        if len(raw) < 5:
            raise DecodeError(f"a filter block has at least 5 bytes, and this one {len(raw)}")
        begin = int.from_bytes(raw[-5:-1], "little")
        if begin > len(raw) - 5 or (len(raw) - 5 - begin) % 4:
            raise DecodeError(f"the filter block's offsets begin at {begin}, but it has {len(raw)} bytes")
        self._raw = raw
        self._base = raw[-1]
        count = (len(raw) - 5 - begin) // 4
        self._offsets = struct.unpack_from(f"<{count + 1}I", raw, begin)  # the last one ends the last filter

    def may_contain(self, block_offset: int, key: bytes) -> bool:
        """False only if `key` is not in the data block at `block_offset`. O(len(key) + probes)."""
        number = block_offset >> self._base
        if number + 1 >= len(self._offsets):
            return True  # no filter for it: LevelDB treats that as a match
        start, stop = self._offsets[number : number + 2]
        if stop - start < 2 or stop > len(self._raw):
            return bool(start != stop)  # an empty filter is one of no keys; a damaged one denies nothing
        probes = self._raw[stop - 1]
        if probes > 30:
            return True  # reserved for other encodings
        return leveldb_match(self._raw[start : stop - 1], probes, key)
