"""Internal keys: what orders all versions of all user keys, in every table, log position and manifest.

    internal key = user key │ trailer
    trailer      = fixed64 of (sequence << 8 | kind)          kind: 0 deletion, 1 value

    user key ascending, then trailer *descending*:            "a"@9  "a"@4  "a\\x00"@7  "b"@5

1. So the newest version of a user key comes first, and a search for (user key, snapshot) ends at the newest version
   that the snapshot may see.
2. The bytes of internal keys are NOT in this order: "a" + trailer and "a\\x00" + trailer compare by their trailers'
   bytes. What compares is the pair (user key, trailer upside down), which `order` makes.
3. Sequences are 56 bits, count operations (not batches), and 1 is the first one ever used.
4. A trailer with the highest sequence sorts before every real version of its user key; separators end in it.

A separator lies between the last key of one block and the first key of the next; it is shortened because the index
of a table holds one of them for each block. Follows LevelDB's db/dbformat.cc and util/comparator.cc.
"""

from __future__ import annotations

import struct
from enum import Enum
from typing import Final, NamedTuple

from engines.coding import DecodeError

__all__ = [
    "ABSENT",
    "DELETION",
    "MAX_SEQUENCE",
    "MAX_TRAILER",
    "TRAILER_BYTES",
    "VALUE",
    "Absent",
    "Found",
    "Row",
    "internal_key",
    "order",
    "pack_trailer",
    "separator",
    "successor",
    "trailer_of",
]

DELETION: Final = 0
VALUE: Final = 1
MAX_SEQUENCE: Final = (1 << 56) - 1
TRAILER_BYTES: Final = 8

pack_trailer = struct.Struct("<Q").pack
MAX_TRAILER: Final = (1 << 64) - 1
_FIRST_TRAILER: Final = pack_trailer(MAX_SEQUENCE << 8 | VALUE)  # rule 4


class Absent(Enum):
    """The type of ABSENT, which says that a memtable or table knows nothing of a key; None says: it was deleted."""

    ABSENT = "absent"


ABSENT: Final = Absent.ABSENT
Found = bytes | None | Absent  # what a lookup in one place gives: a value, "deleted", or "ask further down"


class Row(NamedTuple):
    """One version of a user key. Rows compare as internal keys do (rule 2): by user key, then the newest first.

    `inverted` is the trailer upside down, 2**64 - 1 - trailer; `value` is b"" for a deletion.
    """

    key: bytes
    inverted: int
    value: bytes

    @classmethod
    def of(cls, key: bytes, sequence: int, value: bytes | None) -> Row:
        """The row of a write; a value of None deletes."""
        kind = DELETION if value is None else VALUE
        return cls(key, MAX_TRAILER - (sequence << 8 | kind), value or b"")

    @classmethod
    def first_of(cls, key: bytes) -> Row:
        """A bound: no version of `key` sorts before it, and every version of a smaller key does."""
        return cls(key, 0, b"")

    @classmethod
    def decode(cls, key: bytes, value: bytes) -> Row:
        """The row of an entry in a table. Raises DecodeError if the key has no trailer."""
        if len(key) < TRAILER_BYTES:
            raise DecodeError(f"an internal key has at least {TRAILER_BYTES} bytes, and this is {key!r}")
        return cls(*order(key), value)

    @property
    def trailer(self) -> int:
        """Sequence and kind in one number, as in the internal key."""
        return MAX_TRAILER - self.inverted

    @property
    def sequence(self) -> int:
        """Of the write that made the row."""
        return self.trailer >> 8

    @property
    def is_deletion(self) -> bool:
        """True for a tombstone."""
        return self.trailer & 255 == DELETION

    @property
    def internal_key(self) -> bytes:
        """The key as tables have it."""
        return self.key + pack_trailer(self.trailer)


def internal_key(user_key: bytes, sequence: int, kind: int) -> bytes:
    """The internal key of one version. O(len(user_key))."""
    return user_key + pack_trailer(sequence << 8 | kind)


def trailer_of(key: bytes) -> int:
    """The trailer of an internal key, as a number: `>> 8` is the sequence, `& 255` the kind."""
    return int.from_bytes(key[-TRAILER_BYTES:], "little")


def order(key: bytes) -> tuple[bytes, int]:
    """What internal keys are compared by (rule 2)."""
    return key[:-TRAILER_BYTES], MAX_TRAILER - trailer_of(key)


def separator(last: bytes, first: bytes) -> bytes:
    """A short internal key K with last <= K < first, for the index between two blocks.

    Requires: last < first, both internal keys. Let `at` be the length of the user keys' common prefix. If `last`'s byte
    there can grow by one and stay below `first`'s, K's user key is the prefix with that greater byte, and its trailer is
    `_FIRST_TRAILER` (rule 4): but only if that is shorter than `last`'s user key. Otherwise K is `last` itself.
    O(len(last)).
    """
    start, limit = last[:-TRAILER_BYTES], first[:-TRAILER_BYTES]
    shorter = min(len(start), len(limit))
    at = 0
    while at < shorter and start[at] == limit[at]:
        at += 1
    if at < shorter and start[at] < 0xFF and start[at] + 1 < limit[at] and at + 1 < len(start):
        return start[:at] + bytes((start[at] + 1,)) + _FIRST_TRAILER
    return last


def successor(last: bytes) -> bytes:
    """A short internal key K >= last, for the end of the index. O(len(last))."""
    user_key = last[:-TRAILER_BYTES]
    for at, byte in enumerate(user_key):
        if byte != 0xFF:
            if at + 1 < len(user_key):
                return user_key[:at] + bytes((byte + 1,)) + _FIRST_TRAILER
            break
    return last
