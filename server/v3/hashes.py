"""Checksums by which nodes are compared: of all that one stores, and of its keys up to a revision.

    hash      CRC-32C of every row of the engine: the same on two nodes that have applied the same entry
    hashkv    CRC-32C of what each key was at the compacted revision, and of every change from there to a revision:
              the same on two nodes with that compacted revision, whatever they have applied since, and however far
              each has come with deleting what compaction has made superfluous

The numbers are not etcd's own: its hash is of the pages' content of its file, and its hashkv of rows that it encodes otherwise. They
mean the same, and nobody can compare the hashes of a node of etcd with those of one that isn't.

Both take a snapshot of the engine and read all of it, for any thread but the node's. Follows etcd's server/mvcc/hash.go.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from crc32c import crc32c

from server.mvcc import FutureRevision, Record, Revision, View

__all__ = ["KeysHash", "hash_of_keys", "hash_of_rows"]

_HEAD = struct.Struct("<QQQqI")


class KeysHash(NamedTuple):
    """The checksum, and from where it begins: the compacted revision, -1 if there is none."""

    checksum: int
    compacted: int


def hash_of_rows(rows: Iterable[tuple[bytes, bytes]]) -> int:
    """The checksum of all rows of an engine. O(bytes)."""
    checksum = 0
    for key, row in rows:
        checksum = crc32c(row, crc32c(key, crc32c(struct.pack("<II", len(key), len(row)), checksum)))
    return checksum


def hash_of_keys(view: View, revision: int) -> KeysHash:
    """The checksum up to `revision`, 0 for the current one. Raises Compacted, FutureRevision. O(bytes of the history)."""
    if revision > view.revision:
        raise FutureRevision
    checksum = 0
    for part in _parts(view, revision or view.revision):
        checksum = crc32c(part, checksum)
    return KeysHash(checksum, view.compacted)


def _parts(view: View, revision: int) -> Iterator[bytes]:
    base = max(view.compacted, 1)
    if revision < view.compacted:
        list(view.changes(Revision(revision, 0), 1))  # raises Compacted
    for record in view.range(b"", None, base):
        yield from _record(b"k", record)
    for change in view.changes(Revision(base + 1, 0)):
        if change.main > revision:
            return
        yield from _record(b"d" if change.deleted else b"p", change.record)


def _record(kind: bytes, record: Record) -> Iterator[bytes]:
    head = _HEAD.pack(record.create, record.mod, record.version, record.lease, record.sub)
    yield b"%b%b%d:%b%d:" % (kind, head, len(record.key), record.key, len(record.value))
    yield record.value
