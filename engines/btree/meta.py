"""Meta pages: which tree is the newest, in two places, so that one of them is always whole.

    OFFSET SIZE FIELD                                         (after the 16-byte page header of pages 0 and 1)
    0      4    magic 0xED0CDAED
    4      4    version 2
    8      4    page size
    12     4    flags, 0
    16     8    page id of the root bucket's tree
    24     8    sequence of the root bucket, 0
    32     8    page id of the freelist; 2**64 - 1: there is none
    40     8    high-water mark: the first page id that was never given out
    48     8    txid
    56     8    FNV-1a-64 of the 56 bytes above
    64     28   our seal of a provisional meta (below), or zeros; bbolt writes zeros
    496    108  header, meta and seal of a provisional meta once more (pager.py says why), or zeros;
                at 112 where pages have less than 640 bytes

A commit writes to page `txid % 2`, and so to the one that doesn't hold the last durable meta. bbolt takes the valid meta
with the higher txid, and its txids go up by one.

**Provisional metas.** A write with sync=False is committed without an fsync: a killed process must not lose it, and after
a power cut this meta may be on disk when pages of its tree are not. Such a meta is told by its txid: it is an *odd number
of at least 3* above the other meta's, which bbolt never writes and a synced commit of ours never does. It carries a seal:

    0      4    magic b"PROV"
    4      8    txid of the durable meta it builds upon
    12     8    sum, modulo 2**64, over every page that is reachable from it and not from that one: `term(page id, checksum)`
    20     4    zero
    24     4    CRC-32C of the 64 bytes of the meta and the 24 above

so that opening can tell whether all of its pages are there, each in the version that belongs to it. If one is not, the
durable meta is what counts, and it is whole, because nothing reachable from it is written to while it is the last one.
An older version of a page has a valid checksum of its own; the sum is what finds it out.

Follows bbolt's internal/common/meta.go.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from functools import cache
from typing import NamedTuple

from crc32c import crc32c

from engines.btree.page import HEADER_BYTES, META, header

__all__ = [
    "MAGIC",
    "META_AREA_BYTES",
    "META_BYTES",
    "NO_FREELIST",
    "VERSION",
    "Meta",
    "MetaError",
    "NoChecksum",
    "Seal",
    "checked_sum",
    "fnv1a_64",
    "spare_place",
    "term",
]

MAGIC = 0xED0CDAED
VERSION = 2
NO_FREELIST = (1 << 64) - 1
META_BYTES = 64
SEAL_BYTES = 28
META_AREA_BYTES = 128  # of a page: what header, meta and seal lie in
SPARE_PLACE = 512  # in a page: another sector than the meta's own
SPARE_PLACE_IN_SMALL_PAGES = META_AREA_BYTES
MIN_PAGE_BYTES = HEADER_BYTES + META_BYTES  # bbolt takes whatever page size it is told, powers of two or not

_prefix = struct.Struct("<IIII")
_fields = struct.Struct("<QQQQQQ")
_words = struct.Struct("<7Q")
_seal = struct.Struct("<4sQQI")
_u32 = struct.Struct("<I")
SEAL_MAGIC = b"PROV"

_MASK = (1 << 64) - 1
_FNV_BASIS = 0xCBF29CE484222325
_FNV_PRIME = 0x100000001B3
_FNV_POWERS = [pow(_FNV_PRIME, n, 1 << 64) for n in range(9)]


class MetaError(ValueError):
    """Bytes that are no meta, and why."""


class NoChecksum(MetaError):
    """A meta whose checksum is 0, which meant "not set" to boltdb and to bbolt up to 1.3.6; since 1.3.7 it is wrong."""

    def __init__(self, txid: int) -> None:
        super().__init__("it has no checksum: 0, which bbolt takes for a wrong one since 1.3.7")
        self.txid = txid


def fnv1a_64(words: Iterable[int], basis: int = _FNV_BASIS) -> int:
    """FNV-1a over 8-byte little-endian words: h = (h xor byte) x prime for each byte.

    A word's high bytes are mostly zeros, and a run of those is one multiplication by a power of the prime: 1.5 µs for a
    meta in place of 6.
    """
    for word in words:
        if word == _MASK:  # NO_FREELIST, in every unsynced commit; to cut back at every second step is enough
            for _ in range(4):
                basis = ((basis ^ 0xFF) * _FNV_PRIME ^ 0xFF) * _FNV_PRIME & _MASK
            continue
        zeros = 8
        while word:
            basis = (basis ^ word & 0xFF) * _FNV_PRIME & _MASK
            word >>= 8
            zeros -= 1
        basis = basis * _FNV_POWERS[zeros] & _MASK
    return basis


def spare_place(page_bytes: int) -> int:
    """Where a meta's page has its spare place; 0 in pages so small that there is none, and no provisional meta either."""
    if page_bytes >= SPARE_PLACE + META_AREA_BYTES:
        return SPARE_PLACE
    return SPARE_PLACE_IN_SMALL_PAGES if page_bytes >= SPARE_PLACE_IN_SMALL_PAGES + META_AREA_BYTES else 0


def checked_sum(total: int) -> int:
    """A sum of terms as a provisional meta has it."""
    return total & _MASK


def term(pgid: int, crc: int) -> int:
    """What one page adds to a provisional meta's sum: its checksum times a number of its own, so that no two errors are
    likely to cancel out."""
    return crc * (pgid * 0x9E3779B97F4A7C15 | 1) & _MASK


class Seal(NamedTuple):
    """What a provisional meta says about itself: the txid it builds upon, and the sum of its own pages' terms."""

    base: int
    total: int


class Meta(NamedTuple):
    """One meta page's fields; `seal` is None unless the meta is provisional. Page ids and sizes as in the table.

    A named tuple, because every commit makes one: a frozen dataclass takes 1 µs longer.
    """

    page_bytes: int
    root: int
    freelist: int
    high_water: int
    txid: int
    sequence: int = 0
    flags: int = 0
    seal: Seal | None = None

    @property
    def page(self) -> int:
        """The page that this meta belongs to, 0 or 1."""
        return self.txid % 2

    def encode(self) -> bytes:
        """Header, meta and seal: what is written at the beginning of its page."""
        head, prefix, basis = _prefix_of(self.txid % 2, self.page_bytes, self.flags)
        fields = (self.root, self.sequence, self.freelist, self.high_water, self.txid)
        body = prefix + _fields.pack(*fields, fnv1a_64(fields, basis))
        if self.seal is None:
            return b"".join((head, body, bytes(SEAL_BYTES)))
        sealed = body + _seal.pack(SEAL_MAGIC, *self.seal, 0)
        return b"".join((head, sealed, _u32.pack(crc32c(sealed))))

    def encode_page(self) -> bytes:
        """The whole page of a meta that is not provisional."""
        return self.encode().ljust(self.page_bytes, b"\0")[: self.page_bytes]

    @classmethod
    def decode(cls, page: bytes) -> Meta:
        """The meta in the first bytes of a page. Raises MetaError. The page header is not looked at: bbolt doesn't."""
        body = page[HEADER_BYTES : HEADER_BYTES + META_BYTES]
        if len(body) < META_BYTES:
            raise MetaError(f"a meta has {HEADER_BYTES + META_BYTES} bytes, and {len(page)} are there")
        magic, version, page_bytes, flags = _prefix.unpack_from(body)
        if magic != MAGIC:
            raise MetaError(f"its magic number should be {MAGIC:08x}, and is {magic:08x}")
        if version != VERSION:
            raise MetaError(f"its version should be {VERSION}, and is {version}")
        root, sequence, freelist, high_water, txid, stored = _fields.unpack_from(body, 16)
        found = fnv1a_64(_words.unpack_from(body))
        if stored == 0 != found:
            raise NoChecksum(txid)
        if stored != found:
            raise MetaError(f"its checksum should be {stored:016x}, and its bytes give {found:016x}")
        if page_bytes < MIN_PAGE_BYTES:
            raise MetaError(f"its page size should be at least {MIN_PAGE_BYTES}, a meta's own, and is {page_bytes}")
        if not 2 <= root < high_water or not (2 <= freelist < high_water or freelist == NO_FREELIST):
            raise MetaError(
                f"its root {root} and freelist {freelist} should lie below its high-water mark {high_water}"
            )
        return cls(page_bytes, root, freelist, high_water, txid, sequence, flags, _read_seal(page, body))


def _read_seal(page: bytes, body: bytes) -> Seal | None:
    at = HEADER_BYTES + META_BYTES
    raw = page[at : at + SEAL_BYTES]
    if raw[:4] != SEAL_MAGIC or len(raw) < SEAL_BYTES:
        return None
    if crc32c(body + raw[:24]) != _u32.unpack_from(raw, 24)[0]:
        return None
    _, base, total, _ = _seal.unpack_from(raw)
    return Seal(base, total)


@cache
def _prefix_of(page: int, page_bytes: int, flags: int) -> tuple[bytes, bytes, int]:
    """The page header, the first 16 bytes of the meta, which never change, and the hash's state behind them."""
    prefix = _prefix.pack(MAGIC, VERSION, page_bytes, flags)
    return header.pack(page, META, 0, 0), prefix, fnv1a_64(struct.unpack("<2Q", prefix))
