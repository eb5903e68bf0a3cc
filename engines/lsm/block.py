"""Blocks: sorted keys and values with shared prefixes cut away, the unit that a table reads, checks and caches.

    block    entry* │ restart: fixed32 * n │ n: fixed32                   n >= 1, and restart[0] = 0 even if empty
    entry    shared: varint │ unshared: varint │ size of value: varint │ key[shared:] │ value

    "apple" 1        00 05 01  a p p l e  1          a restart point: every 16th entry repeats its key in full,
    "apply" 2        04 01 01  y          2          so that a reader can bisect the restarts and then walk 16 entries
    "banana" 3       00 06 01  b a n a n a  3        nothing shared, although it is no restart point

1. shared is how many bytes the key has in common with the key before it; it is 0 at a restart point.
2. Keys ascend strictly in the order of internal keys (data and index blocks) or of bytes (metaindex).
3. The block says nothing about its own size: whoever stores it (a table's BlockHandle) does. The checksum, too, is
   the table's.

Two ways to read. `decode` takes a whole block apart into lists, on which `bisect` runs at C speed: 20 µs once, then
half a microsecond for each search; that is what the cache keeps. `find_raw` finds one entry in the bytes: 6 µs, for a
block that may never be asked again.

A decoder never reads past its bytes and never believes a length; what doesn't fit is a DecodeError, which the table
turns into a CorruptionError with path and offset. Follows LevelDB's table/block_builder.cc and table/block.cc.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

from engines.coding import DecodeError, get_varint32, put_varint, u32
from engines.lsm.keys import TRAILER_BYTES, order

__all__ = ["Block", "BlockBuilder", "decode", "decode_entries", "find_raw"]

RESTART_BYTES: Final = 4
# what an entry costs besides its bytes: two objects, two places in lists, one in the dict of places
OBJECT_BYTES: Final = 2 * (33 + 8) + 36
_HEADS: Final = [bytes((i,)) for i in range(128)]  # a varint below 128
Entries = tuple[list[bytes], list[bytes]]  # keys as stored, values


class BlockBuilder:
    """Builds one block after the other. `size_bytes` is that of the block as it would be now."""

    __slots__ = ("_interval", "_last", "_parts", "_restarts", "_size", "count")

    def __init__(self, restart_interval: int) -> None:
        self._interval = restart_interval
        self.reset()

    def reset(self) -> None:
        """Begins an empty block."""
        self._parts: list[bytes] = []
        self._restarts = [0]
        self._last = b""
        self._size = 0  # of the entries
        self.count = 0

    @property
    def size_bytes(self) -> int:
        return self._size + RESTART_BYTES * (len(self._restarts) + 1)

    def add(self, key: bytes, value: bytes) -> None:
        """Appends one entry. Requires: `key` is above all keys added."""
        self.fill((key,), (value,), 0, 1 << 62)

    def fill(self, keys: Sequence[bytes], values: Sequence[bytes], at: int, limit_bytes: int) -> int:
        """Appends entries from position `at` on until the block has `limit_bytes`, and returns the position behind the
        last one appended. Requires: as `add`. O(bytes); about a microsecond an entry.

        The entry that reaches the limit is still added, as LevelDB does. The search for the shared prefix begins with
        the length of the last one: neighbours in a sorted table share about as much as their neighbours do.
        """
        restarts, interval, last, size, count = self._restarts, self._interval, self._last, self._size, self.count
        limit_bytes -= RESTART_BYTES * (len(restarts) + 1)
        append = self._parts.append
        guess = 0
        end = len(keys)
        while at < end:
            key, value = keys[at], values[at]
            if count % interval:
                shared = guess = _shared(last, key, guess)
            else:
                shared = 0
                if count:
                    restarts.append(size)
                    limit_bytes -= RESTART_BYTES
            unshared, value_size = len(key) - shared, len(value)
            if shared < 128 and unshared < 128 and value_size < 128:
                entry = bytes((shared, unshared, value_size)) + key[shared:] + value
            else:
                entry = put_varint(shared) + put_varint(unshared) + put_varint(value_size) + key[shared:] + value
            append(entry)
            size += len(entry)
            last = key
            count += 1
            at += 1
            if size >= limit_bytes:
                break
        self._last, self._size, self.count = last, size, count
        return at

    def finish(self) -> bytes:
        """The block's bytes; `reset` before the next one."""
        restarts = self._restarts
        self._parts.append(struct.pack(f"<{len(restarts) + 1}I", *restarts, len(restarts)))
        return b"".join(self._parts)


def _shared(last: bytes, key: bytes, guess: int) -> int:
    """The length of the common prefix of two different keys. `guess` is only a hint."""
    limit = min(len(last), len(key))
    at = min(guess, limit)
    if last[:at] != key[:at]:
        at = 0
    while at < limit and last[at] == key[at]:
        at += 1
    return at


class Block:
    """A decoded data block: parallel lists in the order of internal keys.

    `trailers` is the concatenation of the keys' 8-byte trailers: they are rarely asked for, and a list of numbers
    would cost four times the memory. `places` is what `index` has made, for point reads: a scan needs none.
    """

    __slots__ = ("_charge", "keys", "places", "trailers", "values")

    def __init__(self, keys: list[bytes], trailers: bytes, values: list[bytes], size_bytes: int) -> None:
        self._charge = size_bytes + OBJECT_BYTES * len(keys)
        self.keys = keys  # user keys
        self.places: dict[bytes, int] | None = None
        self.trailers = trailers
        self.values = values

    def __len__(self) -> int:
        """What the block costs in memory, about, in bytes: the cache's charge."""
        return self._charge

    def index(self) -> dict[bytes, int]:
        """User key → position of its newest version, kept in `places`: one step where `bisect` takes five. O(n)."""
        last = len(self.keys) - 1
        self.places = dict(zip(reversed(self.keys), range(last, -1, -1)))  # the first of equal keys is put last
        return self.places

    def internal_keys(self) -> list[bytes]:
        """The keys as stored. O(n)."""
        trailers = self.trailers
        return [key + trailers[at : at + 8] for key, at in zip(self.keys, range(0, len(trailers), TRAILER_BYTES))]

    def trailer_numbers(self) -> tuple[int, ...]:
        """All trailers: `>> 8` is the sequence, `& 255` the kind. O(n)."""
        return struct.unpack(f"<{len(self.keys)}Q", self.trailers)

    def trailer(self, at: int) -> int:
        """The trailer of one entry. O(1)."""
        return int.from_bytes(self.trailers[TRAILER_BYTES * at : TRAILER_BYTES * (at + 1)], "little")


def decode(raw: bytes) -> Block:
    """Takes a data block apart. Raises DecodeError. O(bytes); 0.7 µs an entry."""
    keys, values = decode_entries(raw)
    if keys and min(map(len, keys)) < TRAILER_BYTES:
        raise DecodeError(f"an internal key has at least {TRAILER_BYTES} bytes, but the block has a shorter one")
    return Block(
        [key[:-TRAILER_BYTES] for key in keys], b"".join([key[-TRAILER_BYTES:] for key in keys]), values, len(raw)
    )


def decode_entries(raw: bytes) -> Entries:
    """The keys as stored, and the values. Raises DecodeError. O(bytes)."""
    end = _restarts(raw)[0]
    keys: list[bytes] = []
    values: list[bytes] = []
    add_key, add_value = keys.append, values.append
    key = b""
    at = 0
    while at + 3 <= end:
        shared, unshared, value_size = raw[at], raw[at + 1], raw[at + 2]
        if shared < 128 and unshared < 128 and value_size < 128:
            at += 3
        else:
            shared, unshared, value_size, at = _long_head(raw, at)
        middle = at + unshared
        if shared:
            if shared > len(key):
                raise DecodeError(f"the entry at byte {at} shares {shared} bytes with a key of {len(key)}")
            key = key[:shared] + raw[at:middle]
        else:
            key = raw[at:middle]
        at = middle + value_size
        add_key(key)
        add_value(raw[middle:at])
    if at != end:
        raise DecodeError(f"the entries end at byte {at}, but the restart points begin at {end}")
    return keys, values


def _long_head(raw: bytes, at: int) -> tuple[int, int, int, int]:
    """The three lengths of an entry, and the offset behind them. Raises DecodeError."""
    shared, at = get_varint32(raw, at)
    unshared, at = get_varint32(raw, at)
    value_size, at = get_varint32(raw, at)
    return shared, unshared, value_size, at


def _restarts(raw: bytes) -> tuple[int, int]:
    """(where the restart points begin, how many there are). Raises DecodeError."""
    if len(raw) < 2 * RESTART_BYTES:
        raise DecodeError(f"a block has at least {2 * RESTART_BYTES} bytes, and this one {len(raw)}")
    (count,) = u32.unpack_from(raw, len(raw) - RESTART_BYTES)
    begin = len(raw) - RESTART_BYTES * (count + 1)
    if count < 1 or begin < 0:
        raise DecodeError(f"the block says that it has {count} restart points, in {len(raw)} bytes")
    return begin, count


def find_raw(raw: bytes, key: bytes) -> tuple[bytes, bytes] | None:
    """The first entry whose internal key is not before `key`: (internal key, value); None if all are before it.

    Bisects the restart points and walks from there: O(log n + restart interval), without taking the block apart.
    Raises DecodeError.
    """
    end, count = _restarts(raw)
    wanted = order(key)
    low, high = 0, count - 1  # the last restart point before `key` is in [low, high]
    while low < high:
        middle = (low + high + 1) // 2
        (at,) = u32.unpack_from(raw, end + RESTART_BYTES * middle)
        shared, unshared, _, at = _checked_head(raw, at, end)
        if shared or unshared < TRAILER_BYTES:
            raise DecodeError(f"restart point {middle} is no whole internal key")
        if order(raw[at : at + unshared]) < wanted:
            low = middle
        else:
            high = middle - 1
    (at,) = u32.unpack_from(raw, end + RESTART_BYTES * low)
    found = b""
    while at < end:
        shared, unshared, value_size, at = _checked_head(raw, at, end)
        if shared > len(found) or shared + unshared < TRAILER_BYTES:
            raise DecodeError(f"the entry at byte {at} shares {shared} bytes with a key of {len(found)}")
        found = found[:shared] + raw[at : at + unshared]
        at += unshared
        if order(found) >= wanted:
            return found, raw[at : at + value_size]
        at += value_size
    return None


def _checked_head(raw: bytes, at: int, end: int) -> tuple[int, int, int, int]:
    """As `_long_head`, for an entry that must end at or before `end`."""
    shared, unshared, value_size, at = _long_head(raw, at)
    if at + unshared + value_size > end:
        raise DecodeError(f"the entry at byte {at} ends behind the block's entries, at {end}")
    return shared, unshared, value_size, at
