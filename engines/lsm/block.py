"""Blocks: sorted keys and values with shared prefixes cut away, the unit that a table reads, checks and caches.

    block    entry* │ restart: fixed32 * n │ n: fixed32                   n >= 1, and restart[0] = 0 even if empty
    entry    shared: varint │ unshared: varint │ size of value: varint │ key[shared:] │ value

    "apple" 1        00 05 01  a p p l e  1          a restart point: every 16th entry repeats its key in full,
    "apply" 2        04 01 01  y          2          so that a reader can bisect the restarts and then walk 16 entries
    "banana" 3       00 06 01  b a n a n a  3        nothing shared, although it is no restart point

1. shared is how many bytes the key has in common with the key before it; it is 0 at a restart point.
2. Keys ascend strictly in the order of internal keys (data and index blocks) or of bytes (metaindex).
3. The block says nothing about its own size: a table's BlockHandle does. The checksum, too, is the table's.

An entry can be read only after the one before it, because that one has the first part of its key. So every walk begins
at a restart point: forward from there on, and backward by reading the entries of one restart point forward and giving
them in reverse.

A reader never reads past its bytes and never believes a length; what doesn't fit is a DecodeError, which the table
turns into a CorruptionError with path and offset. Follows LevelDB's table/block_builder.cc and table/block.cc.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import dropwhile
from typing import Final

from engines.coding import DecodeError, get_varint32, put_varint, u32
from engines.lsm.keys import TRAILER_BYTES, order

__all__ = ["Block", "BlockBuilder", "Entry", "decode_lengths", "encode_entry"]

RESTART_BYTES: Final = 4
OBJECT_BYTES: Final = 200  # what Python adds to a block: the object, the list of restart points
Entry = tuple[bytes, bytes]  # key as stored, value


def encode_entry(shared: int, key: bytes, value: bytes) -> bytes:
    """The bytes of an entry (the grammar is on top of this file) whose first `shared` bytes are those of the key before it.

    Requires: shared <= len(key), and the key before it is in the block. O(len(key) + len(value)).
    """
    lengths = put_varint(shared) + put_varint(len(key) - shared) + put_varint(len(value))
    return lengths + key[shared:] + value


def decode_lengths(raw: bytes, at: int) -> tuple[int, int, int, int]:
    """(shared, unshared, size of value) of the entry at byte `at` of a block, and where its part of the key begins.

    Raises DecodeError. Nearly all lengths are one byte each.
    """
    shared, unshared, value_size = raw[at : at + 3]  # after every entry there are the restart points
    if shared | unshared | value_size < 128:
        return shared, unshared, value_size, at + 3
    shared, at = get_varint32(raw, at)
    unshared, at = get_varint32(raw, at)
    value_size, at = get_varint32(raw, at)
    return shared, unshared, value_size, at


class BlockBuilder:
    """Builds one block after the other. `size_bytes` is that of the block as it would be now."""

    def __init__(self, restart_interval: int) -> None:
        self.interval = restart_interval
        self.reset()

    def reset(self) -> None:
        """Begins an empty block."""
        self.entries: list[bytes] = []
        self.entries_bytes = 0
        self.restarts = [0]
        self.last = b""
        self.count = 0

    @property
    def size_bytes(self) -> int:
        return self.entries_bytes + RESTART_BYTES * (len(self.restarts) + 1)

    def add(self, key: bytes, value: bytes) -> None:
        """Appends one entry to `entries`; `entries_bytes` grows with it, `count` by one, and `last` is the key.

        Every `interval`-th entry is a restart point, the first one included: it shares nothing, and `restarts` has the
        offset at which it begins (that of the first one, 0, is there from the beginning). Any other entry shares as much as
        it can with the key before it. Requires: `key` is above all keys added. O(len(key) + len(value)).
        """
        shared = 0
        if self.count % self.interval:
            shared = _common_prefix(self.last, key)
        elif self.count:
            self.restarts.append(self.entries_bytes)
        entry = encode_entry(shared, key, value)
        self.entries.append(entry)
        self.entries_bytes += len(entry)
        self.last = key
        self.count += 1

    def finish(self) -> bytes:
        """The block's bytes: the entries, the restart points, and how many these are. The caller calls `reset` before the next
        block. A block without entries has one restart point, too. O(bytes)."""
        restarts = [*self.restarts, len(self.restarts)]
        return b"".join([*self.entries, struct.pack(f"<{len(restarts)}I", *restarts)])


def _common_prefix(one: bytes, two: bytes) -> int:
    """How many bytes two keys share at their beginnings."""
    length = 0
    for a, b in zip(one, two):
        if a != b:
            break
        length += 1
    return length


class Block:
    """A block as it was read: entries are decoded from its bytes as they are asked for.

    The entries from one restart point up to the next are a *run*. A search bisects the first keys of the runs, and then
    walks through one run. `restarts` has where each run begins, and at its end where the last one ends.

    Raises DecodeError if the restart points can't be right; each walk does, at an entry that doesn't fit.
    """

    __slots__ = ("memory_bytes", "raw", "restarts")

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self.memory_bytes = len(raw) + OBJECT_BYTES  # about: the cache's charge
        self.restarts = _restart_points(raw)
        if self.restarts[0] != 0 or self.restarts != sorted(self.restarts):
            raise DecodeError("the block's restart points don't ascend from 0")

    @property
    def end(self) -> int:
        """Where the entries end, in bytes; 0 if there are none."""
        return self.restarts[-1]

    def entries(self) -> Iterator[Entry]:
        """All entries, from the first one on."""
        return self._walk(0)

    def forward(self, key: bytes) -> Iterator[Entry]:
        """The entries from the first one on that is not before the internal key `key`; none if all are.

        Lazy: no entry is decoded before it is asked for, but for those of the search, O(log n + restart interval).
        Internal keys compare by `_order`, not as bytes. Raises DecodeError when it meets what can't be.
        """
        wanted = order(key)
        return dropwhile(lambda entry: _order(entry[0]) < wanted, self._walk(self._run_of(wanted)))

    def backward(self, key: bytes | None = None) -> Iterator[Entry]:
        """The entries before the internal key `key`, or all if it is None, the last one first.

        Lazy: a run is decoded, forwards, when its last entry is asked for. O(log n + restart interval) to begin with.
        Raises DecodeError when it meets what can't be.
        """
        wanted = None if key is None else order(key)
        last_run = len(self.restarts) - 2 if wanted is None else self._run_of(wanted)
        for run in range(last_run, -1, -1):
            entries = list(self._walk(run, run + 1))
            yield from (entry for entry in reversed(entries) if wanted is None or _order(entry[0]) < wanted)

    def _run_of(self, wanted: tuple[bytes, int]) -> int:
        """The last run that begins before the wanted key, or the first run: the key is in it, or is the next run's first.

        wanted: what `_order` makes of an internal key. Only first keys of runs are looked at, O(log runs) of them. A block
        without entries has one run, which is empty.
        """
        low, high = 0, len(self.restarts) - 2
        while low < high:
            middle = (low + high + 1) // 2
            first, _ = next(self._walk(middle), (b"", b""))
            if _order(first) < wanted:
                low = middle
            else:
                high = middle - 1
        return low

    def _walk(self, run: int, end_run: int = -1) -> Iterator[Entry]:
        """The entries from the beginning of run number `run` up to the beginning of run `end_run`, or to the end.

        `restarts[number]` is where a run begins; `restarts[-1]` is where the entries end. Lazy. Raises DecodeError if an
        entry shares more bytes than the key before it has (before a run's first entry there is none), or if it reaches
        beyond the bytes in question; `decode_lengths` raises it for lengths that are none. O(bytes).
        """
        raw = self.raw
        at, end = self.restarts[run], self.restarts[end_run]
        key = b""
        while at < end:
            begin = at
            shared, unshared, value_size, at = decode_lengths(raw, at)
            if shared > len(key):
                raise DecodeError(f"the entry at byte {begin} shares {shared} bytes with a key of {len(key)}")
            if at + unshared + value_size > end:
                raise DecodeError(f"the entry at byte {begin} ends after the entries do, at byte {end}")
            key = key[:shared] + raw[at : at + unshared]
            at += unshared
            yield key, raw[at : at + value_size]
            at += value_size


def _order(key: bytes) -> tuple[bytes, int]:
    """`order`, of a key that was read. Raises DecodeError if it has no trailer."""
    if len(key) < TRAILER_BYTES:
        raise DecodeError(f"an internal key has at least {TRAILER_BYTES} bytes, and the block has the key {key!r}")
    return order(key)


def _restart_points(raw: bytes) -> list[int]:
    """The offsets of the entries that have their keys in full, and of the end of the entries. Raises DecodeError."""
    if len(raw) < 2 * RESTART_BYTES:
        raise DecodeError(f"a block has at least {2 * RESTART_BYTES} bytes, and this one {len(raw)}")
    (count,) = u32.unpack_from(raw, len(raw) - RESTART_BYTES)
    end = len(raw) - RESTART_BYTES * (count + 1)
    if count < 1 or end < 0:
        raise DecodeError(f"the block says that it has {count} restart points, in {len(raw)} bytes")
    return [*struct.unpack_from(f"<{count}I", raw, end), end]
