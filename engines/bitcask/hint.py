"""Hint files: the keys of a data file without its values, so that opening a store need not read the values.

    offset  size  field                              one for each key, big-endian
         0     4  timestamp
         4     2  key size
         6     4  total size  of the record in the data file: 14 + key size + value size
        10     8  offset      of the record in the data file; bit 63 is set if it is a tombstone
        18     .  key

    trailer: timestamp 0, key size 0, total size = crc32 of everything before the trailer, offset = 2**63 - 1

Riak writes a hint while it writes the data. We write it when a data file is closed, *after* the data has been synced,
and list only the last record of each key. A hint needs no sync of its own: if a power cut tears it, the trailer doesn't
match, and the data file is read instead. (Riak syncs the hint before the data. After a power cut its hint can be whole,
and list records that were never written.)

1. A hint whose trailer is right lists, for every key that has a record in the data file, the last one.
2. The greatest end of a listed record is the size of the data file: so a hint tells whether the file was cut, or grew.

Old writers closed a hint with offset 2**64 - 1; both are read. Follows bitcask_fileops.erl of basho/bitcask.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from operator import itemgetter
from struct import Struct
from struct import error as StructError
from zlib import crc32

__all__ = [
    "TOMBSTONE_BIT",
    "BadHint",
    "Entry",
    "decode_hint",
    "encode_entry",
    "encode_hint",
    "hint_reach",
    "key_of_entry",
    "parse_entries",
    "unchecked_entries",
    "was_closed",
]

Entry = tuple[int, int, int, bytes]  # (timestamp, total size, offset with its tombstone bit, key)

ENTRY = Struct(">IHIQ")
ENTRY_BYTES = ENTRY.size
key_of_entry = itemgetter(slice(ENTRY_BYTES, None))  # of an encoded one
TOMBSTONE_BIT = 1 << 63
OFFSET_MASK = TOMBSTONE_BIT - 1
MAX_OFFSETS = (TOMBSTONE_BIT - 1, (1 << 64) - 1)  # what a trailer has: today's, and that of old writers


class BadHint(ValueError):
    """The hint can't be used; the data file has all that it says. `why` is for people."""


def encode_entry(timestamp: int, size: int, offset: int, key: bytes) -> bytes:
    """One entry, without a trailer; `offset` includes the tombstone bit."""
    return ENTRY.pack(timestamp, len(key), size, offset) + key


def encode_hint(entries: Iterable[bytes]) -> bytes:
    """The bytes of a hint file: the encoded entries one after the other, and the trailer.

    The trailer's offset is the first of MAX_OFFSETS. Requires: each entry is one of `encode_entry`. O(bytes).
    """
    body = b"".join(entries)
    return body + ENTRY.pack(0, 0, crc32(body), MAX_OFFSETS[0])


def decode_hint(data: bytes) -> Iterator[Entry]:
    """The entries of a hint file `data`, which may be anything. All is verified before the first entry is handed out.

    Raises BadHint: fewer bytes than a trailer has, a last entry that is no trailer (`was_closed`), a checksum that is
    not that of everything before the trailer; and, while entries are taken, one that leads beyond the trailer
    (`parse_entries`). 0.3 µs an entry.
    """
    stop = len(data) - ENTRY_BYTES
    if stop < 0:
        raise BadHint(f"a trailer has {ENTRY_BYTES} bytes, and the file has {len(data)}")
    if not was_closed(data):
        raise BadHint("the file does not end with a trailer: it was not closed")
    crc = ENTRY.unpack_from(data, stop)[2]
    if crc32(memoryview(data)[:stop]) != crc:
        raise BadHint(f"the checksum is not {crc:08x}, as the trailer says")
    return parse_entries(data, stop)


def was_closed(data: bytes) -> bool:
    """True if a hint ends with a trailer, right or wrong. One that doesn't is of a file that nobody has closed."""
    stop = len(data) - ENTRY_BYTES
    if stop < 0:
        return False
    timestamp, key_size, _, offset = ENTRY.unpack_from(data, stop)
    return not timestamp and not key_size and offset in MAX_OFFSETS


def parse_entries(data: bytes, stop: int) -> Iterator[Entry]:
    """The entries in data[:stop]. Raises BadHint for one that leads beyond `stop`."""
    unpack = ENTRY.unpack_from
    at = 0
    while at < stop:
        timestamp, key_size, size, offset = unpack(data, at)
        key_at = at + ENTRY_BYTES
        at = key_at + key_size
        if at > stop:
            raise BadHint(f"the entry at byte {key_at - ENTRY_BYTES} leads into the trailer")
        yield timestamp, size, offset, data[key_at:at]


def unchecked_entries(data: bytes) -> Iterator[Entry]:
    """The entries of a hint as far as they lead, whatever its trailer says: each is to be compared with the data."""
    with contextlib.suppress(BadHint, StructError):
        yield from parse_entries(data, len(data))


def hint_reach(entries: Iterable[Entry]) -> tuple[int, int]:
    """Where in the data file the record ends that ends last, which is the size of the file if the hint is of this
    file; and the greatest timestamp. (0, 0) without entries.

    An entry's offset has the tombstone bit in it, which belongs to no position. Entries are in no special order. O(n).
    """
    reach = newest = 0
    for timestamp, size, offset, _ in entries:
        end = size + (offset & OFFSET_MASK)
        if end > reach:
            reach = end
        if timestamp > newest:
            newest = timestamp
    return reach, newest
