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

A commit writes to page `txid % 2`, and so to the one that doesn't hold the meta before it. A reader takes the valid meta
with the higher txid. The rest of the page is zeros in bbolt's files. In ours, an unsynced commit leaves a sum there, 28
bytes after the meta, and a second copy of both further on; provisional.py has that, and why.

Follows bbolt's internal/common/meta.go.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

from engines.btree.page import HEADER_BYTES, META, header
from engines.env import File

__all__ = [
    "FNV_BASIS",
    "FNV_PRIME",
    "MAGIC",
    "MASK_64",
    "META_AREA_BYTES",
    "META_BYTES",
    "META_ROOM_BYTES",
    "NO_FREELIST",
    "VERSION",
    "Meta",
    "MetaError",
    "NoChecksum",
    "fnv1a_64",
    "newest_first",
    "read_meta",
]

MAGIC = 0xED0CDAED
VERSION = 2
NO_FREELIST = (1 << 64) - 1
META_BYTES = 64
META_AREA_BYTES = 128  # of a page: room for the header, the meta, and what an unsynced commit puts after it
META_ROOM_BYTES = 640  # of a page: that, and the second copy further on
MIN_PAGE_BYTES = HEADER_BYTES + META_BYTES  # bbolt takes whatever page size it is told, powers of two or not

_layout = struct.Struct("<IIIIQQQQQ")
_u64 = struct.Struct("<Q")

MASK_64 = (1 << 64) - 1
FNV_BASIS = 0xCBF29CE484222325
FNV_PRIME = 0x100000001B3


class MetaError(ValueError):
    """Bytes that are no meta, and why."""


class NoChecksum(MetaError):
    """A meta whose checksum is 0, which meant "not set" to boltdb and to bbolt up to 1.3.6; since 1.3.7 it is wrong."""

    def __init__(self, txid: int) -> None:
        super().__init__("it has no checksum: 0, which bbolt takes for a wrong one since 1.3.7")
        self.txid = txid


def fnv1a_64(data: bytes, found: int = FNV_BASIS) -> int:
    """FNV-1a: h = (h xor byte) x prime for each byte, modulo 2**64; `found` is the hash of what comes before."""
    for byte in data:
        found = (found ^ byte) * FNV_PRIME & MASK_64
    return found


class Meta(NamedTuple):
    """One meta page's fields. Page ids and sizes as in the table."""

    page_bytes: int
    root: int
    freelist: int
    high_water: int
    txid: int
    sequence: int = 0
    flags: int = 0
    extra: bytes = b""  # what was read after it in its page, if not zeros; `encode` leaves it out

    @property
    def page(self) -> int:
        """The page that this meta belongs to, 0 or 1."""
        return self.txid % 2

    def encode(self) -> bytes:
        """The page header and the meta, 80 bytes: what is written at the beginning of its page.

        The header has this meta's page (`page`), the flags META, a count and an overflow of 0. The checksum, the last
        field of `_layout` and `_u64`, is over the meta's 56 bytes before it, and not over the header. O(1).
        """
        fields = (self.root, self.sequence, self.freelist, self.high_water, self.txid)
        body = _layout.pack(MAGIC, VERSION, self.page_bytes, self.flags, *fields)
        return header.pack(self.page, META, 0, 0) + body + _u64.pack(fnv1a_64(body))

    def encode_page(self) -> bytes:
        """The whole page, as a synced commit leaves it."""
        return self.encode().ljust(self.page_bytes, b"\0")

    @classmethod
    def decode(cls, page: bytes) -> Meta:
        """The meta in the first bytes of a page: META_AREA_BYTES of them, or less if the file ends before that.

        The page header is not looked at: bbolt doesn't. `extra` is what comes between the meta and META_AREA_BYTES,
        without the zeros at its end. Raises MetaError, one sentence about the first of these that is wrong: there are 80
        bytes at least; magic; version; checksum (NoChecksum if 0 is stored where something else is due); a page size of
        MIN_PAGE_BYTES at least; root and freelist, each at least 2 and below the high-water mark (a freelist may be
        NO_FREELIST). O(1).
        """
        body = page[HEADER_BYTES : HEADER_BYTES + META_BYTES]
        if len(body) < META_BYTES:
            raise MetaError(f"a meta has {HEADER_BYTES + META_BYTES} bytes, and {len(page)} are there")
        magic, version, page_bytes, flags, root, sequence, freelist, high_water, txid = _layout.unpack_from(body)
        if magic != MAGIC:
            raise MetaError(f"its magic number should be {MAGIC:08x}, and is {magic:08x}")
        if version != VERSION:
            raise MetaError(f"its version should be {VERSION}, and is {version}")
        (stored,) = _u64.unpack_from(body, META_BYTES - 8)
        found = fnv1a_64(body[:-8])
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
        extra = page[HEADER_BYTES + META_BYTES : META_AREA_BYTES].rstrip(b"\0")
        return cls(page_bytes, root, freelist, high_water, txid, sequence, flags, extra)


def newest_first(metas: Sequence[Meta | MetaError]) -> list[tuple[Meta, int]]:
    """The metas that could be decoded, each with the page that it was found in; the first one is the one that counts.

    `metas` are what was found in page 0 and in page 1, in this order. The higher txid comes first; of two with the same
    txid, the one that lies in its own page (`page`). Both may be damaged: then there are none.
    """
    found = [(meta, page) for page, meta in enumerate(metas) if isinstance(meta, Meta)]
    found.sort(key=lambda each: (each[0].txid, each[0].page == each[1]), reverse=True)
    return found


def read_meta(file: File, place: int) -> Meta | MetaError:
    """The meta at a byte of a file, or what is wrong with it."""
    try:
        return Meta.decode(file.pread(META_AREA_BYTES, place))
    except MetaError as error:
        return error
