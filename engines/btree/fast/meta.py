"""A meta page, with its checksum over words in place of bytes."""

from __future__ import annotations

import struct
from functools import cache

from engines.btree.meta import FNV_PRIME, MAGIC, MASK_64, NO_FREELIST, VERSION, Meta, fnv1a_64
from engines.btree.page import (
    META,
    header,
)

__all__ = ["encode_meta"]

_FNV_POWERS = [pow(FNV_PRIME, n, 1 << 64) for n in range(9)]
_FNV_OF_ONES = [  # by the low byte of a hash: what 8 bytes of 0xFF add to hash x prime**8
    (fnv1a_64(b"\xff" * 8, low) - low * _FNV_POWERS[8]) & MASK_64 for low in range(256)
]
_prefix = struct.Struct("<IIII")
_fields = struct.Struct("<6Q")


def encode_meta(meta: Meta) -> bytes:
    """Meta.encode, with FNV-1a over 8-byte words in place of bytes: 4.1 µs -> 1.7 µs.

    A word's high bytes are mostly zeros, and a run of those is one multiplication by a power of the prime. So is a word of
    ones, which every provisional meta has for its freelist: an xor with 0xFF adds what only the low byte decides, and the
    low bytes of a hash depend on nothing but its low byte. The 16 bytes that never change are hashed once.
    """
    page_bytes, root, freelist, high_water, txid, sequence, flags, _ = meta
    start, found = _prefix_of(txid % 2, page_bytes, flags)
    words = (root, sequence, freelist, high_water, txid)
    for word in words:
        if word == NO_FREELIST:
            found = found * _FNV_POWERS[8] + _FNV_OF_ONES[found & 0xFF] & MASK_64
            continue
        zeros = 8
        while word:
            found = (found ^ word & 0xFF) * FNV_PRIME & MASK_64
            word >>= 8
            zeros -= 1
        found = found * _FNV_POWERS[zeros] & MASK_64
    return start + _fields.pack(*words, found)


@cache
def _prefix_of(page: int, page_bytes: int, flags: int) -> tuple[bytes, int]:
    """The page header and the first 16 bytes of the meta, and the hash after these."""
    prefix = _prefix.pack(MAGIC, VERSION, page_bytes, flags)
    return header.pack(page, META, 0, 0) + prefix, fnv1a_64(prefix)
