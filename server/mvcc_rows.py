"""The rows in which a key's versions stand in the engine.

    k<key>                          → the newest version of a key
    h<main, 8 bytes><sub, 4 bytes>  → what one change did to one key; big-endian, so that changes stand in their order
    mrevision                       → where revisions are (`State`)
    mversion                        → 2; there as soon as revisions have begun

The newest version. A value that was written before revisions began stands as it is, after an escape byte "=" if it begins
with "=" or with "bitcask_tombstone", which Bitcask's format can't tell from its own tombstones. Since then:

    0   2  "=" and 1: a value; "=" and 2: the key was deleted. (What was escaped has "=" or "b" there.)
    2   8  create   the main revision that created the key
   10  12  mod      main and sub of the revision that wrote this version, 8 and 4 bytes
   22   8  version  1 when it was created, and one more with each put
   30   8  lease    0: none
   38   …  the value

A change:

    0   1  kind     0: the key was deleted, 1: put
    1   4  size of the key
    5   4  size of the value before revisions, if this change replaced one; else 0
    9   8  create, then version and lease, 8 each; of a deletion, 0
   33  12  prev     main and sub of the version that it replaced, also of a deletion. 0: there was none. 1: it was written
                    before revisions began, has no row of its own, and stands here
   45   …  the key, the value before revisions, the value

All numbers but those in keys are little-endian. A key's versions are a list that begins at its newest one, and each names
the one before it. Follows etcd's server/mvcc, which keeps the index of a key's revisions in memory and reads all of it
when it starts; here nothing is kept in memory.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from engines.coding import DecodeError
from engines.kvstore import Reader

__all__ = [
    "BEFORE",
    "CHANGE",
    "DELETED",
    "HISTORY",
    "HISTORY_KEY",
    "NEWEST",
    "NONE",
    "PUT",
    "REVISION",
    "USER",
    "VERSION",
    "VERSION_ROW",
    "Change",
    "Record",
    "Revision",
    "State",
    "change_row",
    "deleted_row",
    "history_key",
    "inline_value",
    "newest_row",
    "plain_row",
    "plain_value",
    "read_change",
    "read_newest",
    "read_state",
    "revision_at",
    "state_row",
]

USER = b"k"
HISTORY = b"h"
REVISION = b"mrevision"
VERSION = b"mversion"
VERSION_ROW = (2).to_bytes(8, "little")
ESCAPE = b"="
ESCAPED = (b"bitcask_tombstone", ESCAPE)
PUT, DELETED = b"=\x01", b"=\x02"

NEWEST = struct.Struct("<2sQQIQq")
CHANGE = struct.Struct("<BIIQQqQI")
HISTORY_KEY = struct.Struct(">cQI")
_STATE = struct.Struct("<QqQIQ")
_VALUE_AT = NEWEST.size


class Revision(NamedTuple):
    """A place in the order of all changes: the entry's, and the change's in its entry, from 0."""

    main: int
    sub: int


NONE = Revision(0, 0)
BEFORE = Revision(1, 0)  # of all that was written before revisions began


class Record(NamedTuple):
    """One version of a key. version 0: the key was deleted here, and of the rest only key, mod and sub count."""

    key: bytes
    value: bytes
    create: int
    mod: int
    version: int
    lease: int
    sub: int


class Change(NamedTuple):
    """What one change did to one key. record: the new version; of a deletion, key, mod and sub. prev: what it replaced."""

    main: int
    sub: int
    deleted: bool
    record: Record
    prev: Revision | None


class State(NamedTuple):
    """Where revisions are. revision: the current one. compacted: -1 if nothing was. walked: the first change that compaction
    has not looked at. owed: the changes since it last did so."""

    revision: int = 1
    compacted: int = -1
    walked: Revision = NONE
    owed: int = 0


def state_row(state: State) -> bytes:
    """The value of REVISION."""
    revision, compacted, walked, owed = state
    return _STATE.pack(revision, compacted, *walked, owed)


def read_state(reader: Reader) -> State | None:
    """Where a store's revisions are; None if they have not begun. Raises DecodeError."""
    found = reader.get(REVISION)
    if found is None:
        return None
    if len(found) != _STATE.size:
        raise DecodeError(f"the value of {REVISION!r} has {_STATE.size} bytes, and this one has {len(found)}")
    revision, compacted, main, sub, owed = _STATE.unpack(found)
    return State(revision, compacted, Revision(main, sub), owed)


# ---- the newest version ---------------------------------------------------------------------------------------------


def plain_row(value: bytes) -> bytes:
    """The row of a value that is written before revisions begin."""
    return ESCAPE + value if value.startswith(ESCAPED) else value


def newest_row(record: Record) -> bytes:
    """The row of a key's newest version, which was put."""
    _, value, create, mod, version, lease, sub = record
    return NEWEST.pack(PUT, create, mod, sub, version, lease) + value


def deleted_row(revision: Revision) -> bytes:
    """The row of a key that was deleted there."""
    return NEWEST.pack(DELETED, 0, *revision, 0, 0)


def plain_value(row: bytes) -> bytes | None:
    """The value in a row; None if the key was deleted. O(bytes)."""
    if not row.startswith(ESCAPE):
        return row
    second = row[1]
    if second == 1:
        return row[_VALUE_AT:]
    return None if second == 2 else row[1:]


def read_newest(key: bytes, row: bytes) -> Record:
    """The version that the row of a key holds. Raises DecodeError. O(bytes)."""
    if not row.startswith(ESCAPE):
        return Record(key, row, 1, 1, 1, 0, 0)
    if row[1:2] not in (b"\x01", b"\x02"):
        return Record(key, row[1:], 1, 1, 1, 0, 0)
    try:
        _, create, main, sub, version, lease = NEWEST.unpack_from(row)
    except struct.error:
        raise DecodeError(f"the row of key {key[:40]!r} has {len(row)} bytes, and needs {NEWEST.size}") from None
    return Record(key, row[_VALUE_AT:], create, main, version, lease, sub)


# ---- history --------------------------------------------------------------------------------------------------------


def history_key(revision: Revision) -> bytes:
    """The key under which the change of this revision stands."""
    return HISTORY_KEY.pack(HISTORY, *revision)


def revision_at(key: bytes) -> Revision:
    """The revision of the change that stands under this key. Raises DecodeError."""
    try:
        first, main, sub = HISTORY_KEY.unpack(key)
        if first != HISTORY:
            raise DecodeError
        return Revision(main, sub)
    except (struct.error, DecodeError):
        raise DecodeError(f"{key[:40]!r} is not the key of a change") from None


def change_row(record: Record, prev: Revision, before: bytes = b"") -> bytes:
    """The row of the change that made this version. before: the value that it replaced, if `prev` is BEFORE."""
    key, value, create, _, version, lease, _ = record
    head = CHANGE.pack(1 if version else 0, len(key), len(before), create, version, lease, *prev)
    return b"".join((head, key, before, value))


def read_change(key: bytes, row: bytes) -> Change:
    """The change in a row of the history. Raises DecodeError. O(bytes)."""
    try:
        _, main, sub = HISTORY_KEY.unpack(key)
        kind, key_size, before_size, create, version, lease, prev_main, prev_sub = CHANGE.unpack_from(row)
        key_at = CHANGE.size
        value_at = key_at + key_size + before_size
        if value_at > len(row) or kind > 1:
            raise DecodeError(f"a change of kind {kind} whose value begins at byte {value_at} of {len(row)}")
    except (struct.error, DecodeError) as error:
        raise DecodeError(f"the row {key!r} is no change: {error}") from None
    record = Record(row[key_at : key_at + key_size], row[value_at:], create, main, version, lease, sub)
    return Change(main, sub, not kind, record, Revision(prev_main, prev_sub) if prev_main else None)


def inline_value(row: bytes) -> bytes:
    """The value of before revisions that a change has replaced."""
    _, key_size, before_size, *_ = CHANGE.unpack_from(row)
    at = CHANGE.size + key_size
    return row[at : at + before_size]
