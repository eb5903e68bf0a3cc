"""Records, the one thing that a data file consists of, and the three meanings that a record can have.

    offset  size  field                       big-endian, as everything in this format
         0     4  crc32      of all that follows, zlib's (IEEE) polynomial
         4     4  timestamp  seconds since 1970, never less than that of the record before; 0 has a meaning of ours
         8     2  key size
        10     4  value size
        14     .  key
         .     .  value

**A value.** Any record that is none of the other two.

**A tombstone.** The value begins with `bitcask_tombstone`. Three generations of Riak wrote three forms, and all are read:
v0 is those 17 bytes alone; v1 appends `1` and a u32, the last file that may hold the dead value; v2 appends `2` and a
u32, the file that holds it. We write v2. The format knows no escape, so a user's value that begins with these bytes
would be a deletion: `ReservedValue` refuses it.

A tombstone with timestamp 0 that names an *older* file is half of an overwrite. Riak's merges rely on a tombstone before
a new value whose predecessor lies in an older file. If the power is cut between the two halves, the old value has to
stay, so recovery takes this tombstone only together with the value after it.

**A mark.** The key is empty, which no key of a user of ours is, and the value is 44 bytes of ours:

    offset  size  field
         0     8  magic "METCDv1\\n"
         8     4  file id    of the file that it was written to
        12     8  offset     at which it was written there
        20     8  synced     everything in the file before this offset was on the disk when the mark was written
        28     4  records    how many records after the mark are one batch with it; 0 for a mark alone
        32     8  size       how many bytes they have
        40     4  crc32      of those bytes

A mark makes the records after it atomic: recovery takes all of them or none. It also is a witness: damage before
`synced` can't be the trace of a power cut. To Riak it is an ordinary record, which its merges may move elsewhere; then
file id and offset aren't its own any more, and it means nothing.

Timestamps mean nothing to us. Riak's merges compare them before they compare files, and drop a value that is older than
a tombstone of its key, whatever the order of the records: so ours must not go backwards, even if the clock does.

Follows bitcask_fileops.erl and bitcask.hrl of basho/bitcask. Left out: expiry, which Riak computes from the timestamp.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from typing import NamedTuple
from zlib import crc32

from engines.env import View
from engines.errors import ReservedValue

__all__ = [
    "HALF_TIMESTAMP",
    "HEADER",
    "HEADER_BYTES",
    "MARK_BYTES",
    "MARK_MAGIC",
    "MAX_TIMESTAMP",
    "TOMBSTONE",
    "TOMBSTONE_V1",
    "BadRecord",
    "Mark",
    "Record",
    "claimed_size",
    "decode_record",
    "encode_mark",
    "encode_record",
    "encode_tombstone",
    "half_of_overwrite",
    "is_tombstone",
    "parse_mark",
    "read_records",
    "refuse_tombstone",
    "tombstone_file",
    "why_bad",
]

# (offset, timestamp, key, value): a plain tuple, since a file is read at half a million records a second
Record = tuple[int, int, bytes, bytes]

HEADER = Struct(">IIHI")
HEADER_BYTES = HEADER.size
CRC = Struct(">I")
AFTER_CRC = Struct(">IHI")  # the rest of the header, which the checksum covers with the key and the value

HALF_TIMESTAMP = 0  # of a tombstone that is half of an overwrite
MAX_TIMESTAMP = 0xFFFF_FFFF  # of 2106

TOMBSTONE = b"bitcask_tombstone"
TOMBSTONE_V1 = b"bitcask_tombstone1"
TOMBSTONE_V2 = b"bitcask_tombstone2"

V2 = Struct(">18sI")  # the value of a v2 tombstone

MARK_MAGIC = b"METCDv1\n"
MARK = Struct(">8sIQQIQI")
MARK_BYTES = HEADER_BYTES + MARK.size

WINDOW_BYTES = 1 << 20  # how much of a file is copied at once while it is read from end to end


class BadRecord(ValueError):
    """The bytes at `offset` are no record, or a record that doesn't count without a later one, which is none.

    `why` says what is wrong, `broken` where the bytes stop being records. The caller knows of which file, and what made
    them so.
    """

    def __init__(self, offset: int, why: str, broken: int | None = None) -> None:
        super().__init__(f"at byte {offset}: {why}")
        self.offset = offset
        self.why = why
        self.broken = offset if broken is None else broken


class Mark(NamedTuple):
    """The fields of a mark, without the magic."""

    file_id: int
    offset: int
    synced: int
    records: int
    size_bytes: int
    crc: int


def encode_record(timestamp: int, key: bytes, value: bytes) -> bytes:
    """The bytes of one record: the table at the top of the file, in that order, without a gap.

    The checksum is `zlib.crc32` of all bytes after itself. `HEADER`, `CRC` and `AFTER_CRC` pack the fields.
    Requires: 0 <= timestamp < 2**32, at most 65,535 bytes of key, less than 2**32 of value (the contract sees to that).
    O(bytes).
    """
    body = AFTER_CRC.pack(timestamp, len(key), len(value)) + key + value
    return CRC.pack(crc32(body)) + body


def decode_record(data: bytes, at: int) -> tuple[int, int, bytes, bytes] | None:
    """The record that begins at data[at], as (end, timestamp, key, value); data[end] is the first byte after it.

    None if `data` ends before the record does, in its header, its key or its value: there is nothing to be verified
    yet. If all of it is there and the checksum isn't right, raises BadRecord(at, why_bad(data, at, crc)), `crc` being
    the one in the header. `data` may be anything, its lengths too. Requires: 0 <= at. O(bytes of the record).
    """
    if at + HEADER_BYTES > len(data):
        return None
    crc, timestamp, key_size, value_size = HEADER.unpack_from(data, at)
    value_at = at + HEADER_BYTES + key_size
    end = value_at + value_size
    if end > len(data):
        return None
    if crc32(data[at + 4 : end]) != crc:
        raise BadRecord(at, why_bad(data, at, crc))
    return end, timestamp, data[at + HEADER_BYTES : value_at], data[value_at:end]


def encode_tombstone(timestamp: int, key: bytes, file_id: int) -> bytes:
    """A v2 tombstone: the record which says that `key` is dead, and that its last value was in the file `file_id`.

    Its value is `bitcask_tombstone2` and the file's id as four bytes; `V2` packs the two. Requires: 0 < file_id < 2**32.
    """
    return encode_record(timestamp, key, V2.pack(TOMBSTONE_V2, file_id))


def encode_mark(timestamp: int, mark: Mark) -> bytes:
    """The record of a mark."""
    return encode_record(timestamp, b"", MARK.pack(MARK_MAGIC, *mark))


def is_tombstone(value: bytes) -> bool:
    """True if a record with this value is a tombstone of any form: if it begins with TOMBSTONE. O(1).

    No user of ours could have written such a value: `refuse_tombstone` sees to that.
    """
    return value[:17] == TOMBSTONE


def tombstone_file(value: bytes) -> int | None:
    """The id of the file that a v2 tombstone names; None for the older forms, and for what has another length. O(1)."""
    if len(value) == 22 and value.startswith(TOMBSTONE_V2):
        return CRC.unpack_from(value, 18)[0]  # type: ignore[no-any-return]
    return None


def half_of_overwrite(timestamp: int, value: bytes, file_id: int) -> bool:
    """True for a tombstone in the file `file_id` that means nothing without the value after it."""
    if timestamp != HALF_TIMESTAMP or not is_tombstone(value):
        return False
    victim = tombstone_file(value)
    return victim is not None and victim < file_id


def parse_mark(key: bytes, value: bytes) -> Mark | None:
    """The mark that a record is, if it is one: at its own place or moved, which the caller sees by comparing."""
    if key or len(value) != MARK.size or not value.startswith(MARK_MAGIC):
        return None
    return Mark(*MARK.unpack(value)[1:])


def read_records(view: View, start: int, stop: int, window_bytes: int = WINDOW_BYTES) -> Iterator[Record]:
    """Reads the records in view[start:stop], one after the other, each with its checksum verified.

    Raises BadRecord at the first that isn't whole; the ones before it have been handed out. No length is believed
    that leads beyond `stop`, and no more than WINDOW_BYTES or one record is held at a time; `window_bytes` is how much
    the first look takes, for a caller that may soon begin elsewhere. Some 0.8 µs a record.
    """
    offset = start
    while offset < stop:
        window = view[offset : min(stop, offset + window_bytes)]  # one copy for many records
        at = 0
        try:
            while (record := decode_record(window, at)) is not None:
                end, timestamp, key, value = record
                yield offset + at, timestamp, key, value
                at = end
        except BadRecord as bad:
            raise BadRecord(offset + bad.offset, bad.why) from None
        # the rest of the window is the beginning of a record, and the next window begins with it
        window_bytes = WINDOW_BYTES
        if at == 0:  # no record was whole: the next window is as large as the first one, if that can be
            window_bytes = claimed_size(window, offset, stop)
            assert len(window) < window_bytes <= stop - offset, "claimed_size let a size pass that can't be"
        offset += at


def claimed_size(window: bytes, offset: int, stop: int) -> int:
    """The size of the whole record whose first bytes are `window`, as its header says. O(1): nothing is read.

    The record lies in a file at `offset`, and the file's records end at `stop`. Lengths are never believed: raises
    BadRecord(offset, a sentence) if less than a header is left between the two, or less than the claimed size.
    Requires: `window` has a whole header, or all that is left (`read_records`).
    """
    if len(window) < HEADER_BYTES:
        raise BadRecord(offset, f"a header of {HEADER_BYTES} bytes should be here, and {len(window)} bytes are left")
    _, _, key_size, value_size = HEADER.unpack_from(window)
    size: int = HEADER_BYTES + key_size + value_size
    if offset + size > stop:
        raise BadRecord(offset, f"the record says that it has {size:,} bytes, and {stop - offset:,} are left")
    return size


def why_bad(data: bytes, at: int, crc: int) -> str:
    """What is said about a record whose checksum is not `crc`, which its header says."""
    if not any(data[at : at + HEADER_BYTES]):
        return "a record should be here, and there are zeros"
    return f"the record's checksum is not {crc:08x}, as its header says"


def refuse_tombstone(value: bytes) -> None:
    """Raises ReservedValue, with a sentence, for a value that a reader would take for a deletion; else does nothing."""
    if value.startswith(TOMBSTONE):
        raise ReservedValue(
            f"a value can't begin with {TOMBSTONE.decode()!r}: in this format that is a deletion; "
            "put a byte before it, or use another engine"
        )
