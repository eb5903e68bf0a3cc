"""Places: where a record lies, and the one way in which it is read back.

    place = (file id, offset, size)         of the whole record, header included

The keydir has one for each key (section 2 of the paper: file id, value size, value position, timestamp). Ours is the
place of the whole record and not of the value alone, so that one read fetches the checksum and what it covers. The
timestamp isn't kept: the later position wins, whatever the timestamps say (engines.bitcask.record).

Each read of a value goes through `read_record`: a value is never returned whose checksum is wrong, or which is another
key's. Follows bitcask_fileops:read of basho/bitcask.
"""

from __future__ import annotations

from zlib import crc32

from engines.bitcask.record import HEADER_BYTES, BadRecord
from engines.env import View

__all__ = ["CutRecord", "Place", "read_record"]

# (file id, offset, size). A plain tuple and no NamedTuple: the keydir has one for each key, and makes a million of them
# when a store is opened, in 0.14 s in place of 0.70; and the garbage collector stops looking at plain tuples of ints
Place = tuple[int, int, int]


class CutRecord(BadRecord):
    """The file ends before the record does."""


def read_record(view: View, place: Place, key: bytes) -> bytes:
    """The bytes of the record of `key` at a place, verified. `view` is of the place's file.

    Raises CutRecord if the file ends before the record does, BadRecord if the checksum is wrong or the key another one.
    O(size).
    """
    _, offset, size = place
    record = view[offset : offset + size]
    if len(record) < size:
        why = f"the record of {key[:40]!r} has {size:,} bytes, and the file ends after {len(record):,} of them"
        raise CutRecord(offset, why)
    if crc32(record[4:]) != int.from_bytes(record[:4]):
        raise BadRecord(offset, f"the record of {key[:40]!r} fails its checksum")
    if not record.startswith(key, HEADER_BYTES):
        raise BadRecord(offset, f"the record of {key[:40]!r} should be here, and it is another key's")
    return record
