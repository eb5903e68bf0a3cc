"""A meta page, with its checksum over words in place of bytes."""

from __future__ import annotations

import struct
from functools import cache

from crc32c import crc32c

from engines.btree.meta import FNV_PRIME, MAGIC, MASK_64, NO_FREELIST, VERSION, Meta, fnv1a_64
from engines.btree.page import (
    META,
    header,
)
from engines.btree.provisional import SUM_MAGIC

__all__ = ["encode_meta", "encode_provisional"]

_POWER_6, _POWER_8, _POWER_14 = (pow(FNV_PRIME, n, 1 << 64) for n in (6, 8, 14))
_FNV_OF_ONES = [  # by the low byte of a hash: what 8 bytes of 0xFF add to hash x prime**8
    (fnv1a_64(b"\xff" * 8, low) - low * _POWER_8) & MASK_64 for low in range(256)
]
_prefix = struct.Struct("<IIII")
_fields = struct.Struct("<6Q")
_fields_and_sum = struct.Struct("<6Q4sQQI")
_u32 = struct.Struct("<I").pack


def encode_meta(meta: Meta) -> bytes:
    """Meta.encode, with FNV-1a over 8-byte words in place of bytes: 4.0 µs -> 1.4 µs."""
    page_header, prefix, found = _prefix_of(meta.txid % 2, meta.page_bytes, meta.flags)
    words = (meta.root, meta.sequence, meta.freelist, meta.high_water, meta.txid)
    return page_header + prefix + _fields.pack(*words, _fnv(words, found))


def encode_provisional(meta: Meta, base: int, total: int) -> bytes:
    """provisional.add_sum of the encoded meta, in one piece."""
    page_bytes, root, freelist, high_water, txid, sequence, flags, _ = meta
    page_header, prefix, found = _prefix_of(txid % 2, page_bytes, flags)
    if sequence or freelist != NO_FREELIST or max(root, high_water, txid) >= 1 << 24:
        found = _fnv((root, sequence, freelist, high_water, txid), found)
    else:  # as there, without its loop
        found = ((found ^ root & 0xFF) * FNV_PRIME ^ root >> 8 & 0xFF) * FNV_PRIME & MASK_64
        found = (found ^ root >> 16) * _POWER_14 & MASK_64
        found = found * _POWER_8 + _FNV_OF_ONES[found & 0xFF] & MASK_64
        found = ((found ^ high_water & 0xFF) * FNV_PRIME ^ high_water >> 8 & 0xFF) * FNV_PRIME & MASK_64
        found = (found ^ high_water >> 16) * _POWER_6 & MASK_64
        found = ((found ^ txid & 0xFF) * FNV_PRIME ^ txid >> 8 & 0xFF) * FNV_PRIME & MASK_64
        found = (found ^ txid >> 16) * _POWER_6 & MASK_64
    fields = root, sequence, freelist, high_water, txid, found, SUM_MAGIC, base, total, 0
    body = prefix + _fields_and_sum.pack(*fields)
    return b"".join((page_header, body, _u32(crc32c(body))))


def _fnv(words: tuple[int, ...], found: int) -> int:
    """FNV-1a of words of 8 bytes, `found` being the hash of what comes before them.

    A word's high bytes are mostly zeros, and a run of those is one multiplication by a power of the prime. So is a word of
    ones, which every provisional meta has for its freelist: an xor with 0xFF adds what only the low byte decides, and the
    low bytes of a hash depend on nothing but its low byte.
    """
    for word in words:
        if word == 0:
            found = found * _POWER_8 & MASK_64
        elif word < 1 << 24:
            found = ((found ^ word & 0xFF) * FNV_PRIME ^ word >> 8 & 0xFF) * FNV_PRIME & MASK_64
            found = (found ^ word >> 16) * _POWER_6 & MASK_64
        elif word == NO_FREELIST:
            found = found * _POWER_8 + _FNV_OF_ONES[found & 0xFF] & MASK_64
        else:
            found = fnv1a_64(word.to_bytes(8, "little"), found)
    return found


@cache
def _prefix_of(page: int, page_bytes: int, flags: int) -> tuple[bytes, bytes, int]:
    """The page header; the first 16 bytes of the meta, which never change, and the hash after these."""
    prefix = _prefix.pack(MAGIC, VERSION, page_bytes, flags)
    return header.pack(page, META, 0, 0), prefix, fnv1a_64(prefix)
