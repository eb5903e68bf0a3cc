"""One segment of Raft's write-ahead log: its name, and the bytes of its records.

A segment is a file in the format of engines/log.py. Its name is `%016x-%016x.wal`: its sequence number, and the index
that the next entry had when it was begun, as in etcd. The payload of each of its records:

    OFFSET SIZE FIELD
    0      1    kind       1 HEAD, 2 ENTRIES, 3 STATE, 4 SNAPSHOT, 5 RESTORE, 6 END, 7 START
    1      8    stamp      the segment's salt + the offset of this record, modulo 2**64
    9      8    synced     up to this offset the file was on disk when the record was written
    17     …    data       by kind:

    HEAD       the first record of each segment, and only that
               17   8  node id        25  8  cluster id
               33   8  salt           drawn at random for this segment
               41   8  the salt, and 49  8  the end, of the segment before it; 0 and 0 if there was none
               57  24  HardState      and then SnapshotMetadata: what was known when the segment was begun
    ENTRIES    each entry as a length of 4 bytes and its encoding (raft/raftpb.py)
    STATE      HardState (24 bytes), then entries as in ENTRIES
    SNAPSHOT   SnapshotMetadata: a mark; what lies up to its index is in a snapshot, what follows it stays
    RESTORE    SnapshotMetadata: a mark; the snapshot replaces the whole log, and nothing of it stays
    END        nothing; written by a clean close, so that the record before it has a witness
    START      17   8  number of the data directory     25  8  how often a node has started on it
               written at each start, and after the HEAD of each later segment; logs of earlier versions have none

Why the stamp: a block that the disk wrote to the wrong place, or that a crash has left from an older file, may hold
records with valid checksums; only the stamp gives them away. They count as damage where they are found. And a value that
somebody stored may hold the bytes of a log: found by the search after a damaged spot, it would testify to anything, if
it could guess the salt.

Why `synced`: it is how a torn tail is told from bit rot (engines/log.py, rule 5). Saves that needn't be on disk at once
share a later sync, so that a crash may take one of them and leave the one after it; a save's record testifies only to
what lies before `synced`.

Integers are little-endian and unsigned. Decoders raise DecodeError, which becomes CorruptionError where path and offset
are known.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from raft.errors import DecodeError
from raft.raftpb import Entry, HardState, SnapshotMetadata

__all__ = [
    "Head",
    "SegmentName",
    "Start",
    "decode_entries",
    "decode_state",
    "encode_entries",
    "encode_state",
    "prefix",
    "split",
]

HEAD, ENTRIES, STATE, SNAPSHOT, RESTORE, END, START = range(1, 8)
KIND_NAMES: Final = ("", "HEAD", "ENTRIES", "STATE", "SNAPSHOT", "RESTORE", "END", "START")

PREFIX_BYTES: Final = 17

_PREFIX = struct.Struct("<BQQ")
_HEAD = struct.Struct("<QQQQQ")
_START = struct.Struct("<QQ")
_LENGTH = struct.Struct("<I")
_STATE_BYTES: Final = 24
_U64: Final = (1 << 64) - 1
_NAME = re.compile(r"([0-9a-f]{16})-([0-9a-f]{16})\.wal")


@dataclass(frozen=True, slots=True, order=True)
class SegmentName:
    """What a segment's name says: its sequence number, and the index of the next entry when it was begun."""

    sequence: int
    first_index: int

    def __str__(self) -> str:
        return f"{self.sequence:016x}-{self.first_index:016x}.wal"

    @classmethod
    def parse(cls, name: str) -> SegmentName | None:
        """The name's parts, or None if it is no segment's."""
        match = _NAME.fullmatch(name)
        return cls(int(match[1], 16), int(match[2], 16)) if match else None


@dataclass(frozen=True, slots=True)
class Head:
    """A segment's first record: whose it is, what it follows on, and what the log had said until then."""

    node_id: int
    cluster_id: int
    salt: int
    previous_salt: int = 0
    previous_end: int = 0
    hard_state: HardState = field(default_factory=HardState)
    snapshot: SnapshotMetadata = field(default_factory=SnapshotMetadata)

    def encode(self) -> bytes:
        """The whole payload, for offset 0 of the segment."""
        ids = _HEAD.pack(self.node_id, self.cluster_id, self.salt, self.previous_salt, self.previous_end)
        return b"".join((prefix(HEAD, self.salt, 0, 0), ids, self.hard_state.encode(), self.snapshot.encode()))

    @classmethod
    def decode(cls, payload: bytes) -> Head:
        if len(payload) < PREFIX_BYTES + _HEAD.size + _STATE_BYTES or payload[0] != HEAD:
            raise DecodeError(
                f"a segment begins with a HEAD of at least {PREFIX_BYTES + _HEAD.size + _STATE_BYTES} bytes, and this "
                f"is a record of kind {payload[:1].hex() or 'none'} with {len(payload)} bytes"
            )
        at = PREFIX_BYTES + _HEAD.size
        node_id, cluster_id, salt, previous_salt, previous_end = _HEAD.unpack_from(payload, PREFIX_BYTES)
        hard_state = HardState.decode(payload[at : at + _STATE_BYTES])
        snapshot = SnapshotMetadata.decode(payload[at + _STATE_BYTES :])
        return cls(node_id, cluster_id, salt, previous_salt, previous_end, hard_state, snapshot)


@dataclass(frozen=True, slots=True)
class Start:
    """A node has started on this log: the number of its data directory (server/identity.py), and the count of starts."""

    number: int
    count: int

    def encode(self) -> bytes:
        """The data of START."""
        return _START.pack(self.number, self.count)

    @classmethod
    def decode(cls, payload: bytes) -> Start:
        if len(payload) != PREFIX_BYTES + _START.size:
            raise DecodeError(f"a START has {PREFIX_BYTES + _START.size} bytes, and this one {len(payload)}")
        return cls(*_START.unpack_from(payload, PREFIX_BYTES))


def prefix(kind: int, salt: int, offset: int, synced: int) -> bytes:
    """The first 17 bytes of the record of this kind at `offset` of the segment with this salt."""
    return _PREFIX.pack(kind, salt + offset & _U64, synced)


def split(payload: bytes, salt: int, offset: int) -> tuple[int, int] | None:
    """A record's (kind, synced); None if it is not a record of the segment with this salt, written for this offset."""
    if len(payload) < PREFIX_BYTES:
        return None
    kind, stamp, synced = _PREFIX.unpack_from(payload)
    if stamp != (salt + offset) & _U64 or not HEAD <= kind <= START or synced > offset:
        return None
    return kind, synced


def encode_entries(entries: Sequence[Entry]) -> bytes:
    """The data of ENTRIES. O(bytes)."""
    parts = []
    for entry in entries:
        encoded = entry.encode()
        parts.append(_LENGTH.pack(len(encoded)))
        parts.append(encoded)
    return b"".join(parts)


def decode_entries(payload: bytes, at: int = PREFIX_BYTES) -> list[Entry]:
    """The entries in `payload` from `at` to its end. Raises DecodeError. O(bytes)."""
    entries = []
    end = len(payload)
    while at < end:
        if end - at < _LENGTH.size:
            raise DecodeError(f"the length of an entry has {_LENGTH.size} bytes, but {end - at} are left")
        (length,) = _LENGTH.unpack_from(payload, at)
        at += _LENGTH.size
        if length > end - at:
            raise DecodeError(f"an entry of {length} bytes was expected, but {end - at} are left")
        entries.append(Entry.decode(payload[at : at + length]))
        at += length
    return entries


def encode_state(hard_state: HardState, entries: Sequence[Entry]) -> bytes:
    """The data of STATE. O(bytes)."""
    return hard_state.encode() + encode_entries(entries)


def decode_state(payload: bytes) -> tuple[HardState, list[Entry]]:
    """What a STATE says. Raises DecodeError. O(bytes)."""
    at = PREFIX_BYTES + _STATE_BYTES
    return HardState.decode(payload[PREFIX_BYTES:at]), decode_entries(payload, at)
