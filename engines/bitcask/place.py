"""Places: where a record lies, and the one way in which it is read back.

    place = file id << 80 | offset << 33 | size         of the whole record, header included; `pack` and `unpack`

The keydir has one for each key (section 2 of the paper: file id, value size, value position, timestamp). Ours is the
place of the whole record and not of the value alone, so that one read fetches the checksum and what it covers. The
timestamp isn't kept: the later position wins, whatever the timestamps say (engines.bitcask.record).

A place is packed into one int because of what a million of them cost. Bitcask keeps all keys in memory, and so a user's
question is how many fit: with a place of 48 bytes a key of 16 bytes takes 140, with a tuple and its ints it took 190. It
saves no time that could be measured.

Each read of a value goes through `read_record`: a value is never returned whose checksum is wrong, or which is another
key's. Follows bitcask_fileops:read of basho/bitcask.
"""

from __future__ import annotations

from zlib import crc32

from engines.bitcask.record import HEADER_BYTES, BadRecord
from engines.env import View

__all__ = ["FILE_SHIFT", "OFFSET_MASK", "SIZE_BITS", "SIZE_MASK", "CutRecord", "Place", "pack", "read_record", "unpack"]

Place = int

SIZE_BITS = 33  # a record has up to 14 + 65,535 + 2**32 - 1 bytes
FILE_SHIFT = 80  # leaves 47 bits for the offset: 128 TiB
SIZE_MASK = (1 << SIZE_BITS) - 1
OFFSET_MASK = (1 << (FILE_SHIFT - SIZE_BITS)) - 1


def pack(file_id: int, offset: int, size: int) -> Place:
    """The place of a record. Requires: size < 2**33, offset < 2**47."""
    return file_id << FILE_SHIFT | offset << SIZE_BITS | size


def unpack(place: Place) -> tuple[int, int, int]:
    """(file id, offset, size)."""
    return place >> FILE_SHIFT, place >> SIZE_BITS & OFFSET_MASK, place & SIZE_MASK


class CutRecord(BadRecord):
    """The file ends before the record does."""


def read_record(view: View, offset: int, size: int, key: bytes) -> bytes:
    """The bytes of the record of `key` at a place, header included, verified.

    `view` is of the place's file; the record is view[offset : offset + size], and that is the one slice which is taken:
    one read. A slice of a view is bytes, and shorter than asked for where the file ends.

    Raises CutRecord(offset, a sentence) if the file ends before the record does, BadRecord if the checksum of what was
    read is wrong, or the key another one. O(size).
    """
    record = view[offset : offset + size]
    if len(record) < size:
        why = f"the record of {key[:40]!r} has {size:,} bytes, and the file ends after {len(record):,} of them"
        raise CutRecord(offset, why)
    if crc32(record[4:]) != int.from_bytes(record[:4]):
        raise BadRecord(offset, f"the record of {key[:40]!r} fails its checksum")
    if not record.startswith(key, HEADER_BYTES) or record[8:10] != len(key).to_bytes(2):
        raise BadRecord(offset, f"the record of {key[:40]!r} should be here, and it is another key's")
    return record
