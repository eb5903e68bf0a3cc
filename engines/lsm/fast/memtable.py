"""A memtable in the order of arrival, with an index by key, and an order that readers bring up to date. In place of
engines/lsm/memtable.py, for both of its representations.

    keys     7   42   16   42          values and keys lie in lists as they come: the first has sequence `first`, and so on
    values   a   b    c    ✝
    index    7 → 0, 42 → 3, 16 → 2     position of each key's newest version
    older    3 → 1                     position of a version → of the one before it, of the same key
    order    │ 7 16 │ 42 │             the keys sorted, in chunks: as far as some reader has asked

What that saves: a put is two appends and a dict's place, and compares no keys. A get looks the key up in the dict. The
garbage collector sees five containers, and not one for each row.

What it costs: the first scan after many new keys sorts them, 0.3 µs each (timsort finds what was sorted before). After a
few, each is put into its chunk: 2.4 µs for one, 0.8 µs each for 64 in random order, 0.35 µs if they follow each other. So
reading and writing in turns costs about what a skiplist does.

1. A writer appends the value, then sets `older`, then `index`, and appends the key last. A reader that finds a position in
   `index` finds all of it, and one that finds a key in `keys` finds it in `index`.
2. `order` is one tuple and replaced as a whole; its lists are never changed in place. So any number of readers go on with
   the one that they have, and of two that bring it up to date at once, one wins, and both are right.
3. Sequences ascend in the order of arrival, nearly always without a gap. After a gap, which a repaired log may have,
   they are kept in a list, and everything asks that.

`chunks` hands out lists instead of single rows, for fast/reading.py: what costs something for each call, then costs it
for each sixteen keys, and later for each 256.
"""

from __future__ import annotations

import marshal
import random
import struct
import weakref
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from itertools import chain
from pickle import PickleBuffer
from typing import Final, NamedTuple

from engines.kvstore import Operation
from engines.lsm.fast.chunks import Chunk, Rows
from engines.lsm.fast.tombstones import EmptyRanges
from engines.lsm.keys import ABSENT, MAX_SEQUENCE, VALUE, Found, Row
from engines.lsm.memtable import ENTRY_BYTES, MemTable
from engines.lsm.vector import Vector

__all__ = ["FastMemTable", "new_memtable"]

FIRST_CHUNK: Final = 16  # entries: short scans are the most frequent ones
MAX_CHUNK: Final = 256
MARSHAL_VERSION: Final = 2  # without references to equal objects, for which later ones keep a table
MANY: Final = 16  # operations of a batch that are added together
FEW: Final = 64  # new keys that are put into their chunks; or an eighth of all, if that is more
TOGETHER: Final = 32  # new keys of one chunk that are sorted into it together


class Order(NamedTuple):
    """The keys among the first `arrived` versions, sorted: chunks of 1 to 2 * MAX_CHUNK keys, and the last key of each."""

    arrived: int
    chunks: list[list[bytes]]
    lasts: list[bytes]


class FastMemTable(MemTable):
    """MemTable, as the module says. 30,000 keys in random order: add 3.4 µs -> 0.25 µs, get 2.6 µs -> 0.1 µs.

    `index` has every user key. `empty_ranges` is what scans have found to be empty (fast/tombstones.py).
    """

    __slots__ = ("__weakref__", "_first", "_keys", "_older", "_order", "_sequences", "_values", "empty_ranges", "index")

    travels = True

    def __init__(self, last_sequence: int) -> None:
        super().__init__(Vector())  # which stays empty: the rows are here
        self._keys: list[bytes] = []
        self._values: list[bytes | None] = []
        self._first = last_sequence + 1
        self._sequences: list[int] | None = None  # rule 3: of all versions, once there was a gap
        self._older: dict[int, int] = {}
        self._order = Order(0, [], [])
        self.index: dict[bytes, int] = {}
        # By a weak reference: in a cycle, a flushed memtable would stay until the collector comes.
        self.empty_ranges = EmptyRanges(weakref.proxy(self), last_sequence)

    # ---- writing ----------------------------------------------------------------------------------------------------

    def add(self, sequence: int, key: bytes, value: bytes | None) -> None:
        """O(1)."""
        index, values = self.index, self._values
        position = len(values)
        if sequence != self._first + position:
            self._note_gap(sequence, position)
        values.append(value)
        if key in index:
            self._older[position] = index[key]
        index[key] = position
        self._keys.append(key)
        self.size_bytes += len(key) + len(value or b"") + ENTRY_BYTES

    def add_all(self, sequence: int, operations: Sequence[Operation]) -> None:
        """O(1) each. Many new keys, each once and with a value, at the speed of C. A batch of 1000: 0.25 µs -> 0.12 µs each."""
        if len(operations) < MANY:
            for place, (key, value) in enumerate(operations, sequence):
                self.add(place, key, value)
            return
        position = len(self._values)
        keys, values = zip(*operations)
        distinct = set(keys)
        if (
            len(distinct) == len(keys)
            and None not in values
            and sequence == self._first + position
            and self.index.keys().isdisjoint(distinct)
        ):
            self._values += values
            self.index.update(zip(keys, range(position, position + len(keys))))
            self._keys += keys
            self.size_bytes += sum(map(len, keys)) + sum(map(len, values)) + ENTRY_BYTES * len(keys)
            return
        for place, (key, value) in enumerate(operations, sequence):
            self.add(place, key, value)

    def _note_gap(self, sequence: int, position: int) -> None:
        """Rule 3; the first version of all decides what `first` is."""
        if not position:
            self._first = sequence
            return
        if self._sequences is None:
            self._sequences = list(range(self._first, self._first + position))
            self._first = MAX_SEQUENCE + 1  # every version asks the list from now on
        self._sequences.append(sequence)

    # ---- reading ----------------------------------------------------------------------------------------------------

    def _sequence(self, position: int) -> int:
        return self._first + position if self._sequences is None else self._sequences[position]

    def get(self, key: bytes, sequence: int) -> Found:
        """O(1) for the newest version; one step back for each newer version than `sequence`."""
        position = self.index.get(key)
        if position is None:
            return ABSENT
        if self._first + position <= sequence:
            return self._values[position]
        while self._sequence(position) > sequence:
            position = self._older.get(position)
            if position is None:
                return ABSENT
        return self._values[position]

    def chunks(self, start: bytes, stop: bytes | None, sequence: int, reverse: bool) -> Iterator[Chunk]:
        """The keys in [start, stop) as of `sequence`, a few at a time; with `reverse`, each chunk descends as well."""
        _, chunks, lasts = self._ordered()
        if reverse:
            return self._backward(chunks, lasts, start, stop, sequence)
        return self._forward(chunks, lasts, start, stop, sequence)

    def _forward(
        self, chunks: list[list[bytes]], lasts: list[bytes], start: bytes, stop: bytes | None, sequence: int
    ) -> Iterator[Chunk]:
        number = bisect_left(lasts, start)
        at = bisect_left(chunks[number], start) if number < len(chunks) else 0
        size = FIRST_CHUNK
        while number < len(chunks):
            part = chunks[number][at : at + size]
            at += size
            if at >= len(chunks[number]):
                number, at = number + 1, size - len(part)
                if at and number < len(chunks):
                    part = part + chunks[number][:at]
                    if at >= len(chunks[number]):  # the last chunk may have one key only
                        number, at = number + 1, 0
            is_last = stop is not None and part[-1] >= stop
            found = self._as_of(part[: bisect_left(part, stop)] if is_last and stop is not None else part, sequence)
            if found[0]:
                yield found
            if is_last:
                return
            size = min(2 * size, MAX_CHUNK)

    def _backward(
        self, chunks: list[list[bytes]], lasts: list[bytes], start: bytes, stop: bytes | None, sequence: int
    ) -> Iterator[Chunk]:
        number = len(chunks) if stop is None else bisect_left(lasts, stop)
        end = bisect_left(chunks[number], stop) if stop is not None and number < len(chunks) else 0
        size = FIRST_CHUNK
        while end or number:
            if not end:
                number -= 1
                end = len(chunks[number])
            part = chunks[number][max(0, end - size) : end]
            end -= size
            if end < 0 and number:
                number -= 1
                part = chunks[number][end:] + part
                end += len(chunks[number])
            is_last = part[0] < start
            keys, values = self._as_of(part[bisect_left(part, start) :] if is_last else part, sequence)
            if keys:
                yield keys[::-1], values[::-1]
            if is_last:
                return
            end = max(0, end)
            size = min(2 * size, MAX_CHUNK)

    def _as_of(self, keys: list[bytes], sequence: int) -> Chunk:
        """Of the keys those that have a version not above `sequence`, with the newest such."""
        positions = list(map(self.index.__getitem__, keys))
        if positions and self._first + max(positions) <= sequence:
            values = self._values
            return keys, [values[position] for position in positions]
        pairs = [(key, self.get(key, sequence)) for key in keys]
        found = [(key, value) for key, value in pairs if value is not ABSENT]
        return [key for key, _ in found], [value for _, value in found]

    def rows(self, start: bytes = b"", stop: bytes | None = None, reverse: bool = False) -> Iterator[Row]:
        """As MemTable.rows; the keys are those of the moment of the call."""
        _, chunks, lasts = self._ordered()
        keys = list(chain.from_iterable(chunks[bisect_left(lasts, start) :]))
        low, high = bisect_left(keys, start), len(keys) if stop is None else bisect_left(keys, stop)
        for key in reversed(keys[low:high]) if reverse else keys[low:high]:
            rows = [Row.of(key, self._sequence(position), self._values[position]) for position in self._versions(key)]
            yield from reversed(rows) if reverse else rows

    def _versions(self, key: bytes) -> list[int]:
        """The positions of a key's versions, the newest first."""
        positions = []
        position: int | None = self.index[key]
        while position is not None:
            positions.append(position)
            position = self._older.get(position)
        return positions

    def row_chunks(self, newest_only: bool = False) -> Iterator[Rows]:
        """All versions, or each key's newest, in the order of internal keys: for a flush. Requires: nobody adds any more."""
        values = self._values
        sequences = self._sequences or range(self._first, self._first + len(values))
        numbers: Sequence[int] = [sequence << 8 | VALUE for sequence in sequences]
        if None in values:
            numbers = [number - (value is None) for number, value in zip(numbers, values)]  # a deletion's kind is 0
        trailers = struct.pack(f"<{len(values)}Q", *numbers)
        for keys in self._ordered().chunks:
            if self._older and not newest_only:
                versions = [(key, position) for key in keys for position in self._versions(key)]
                keys, positions = [key for key, _ in versions], [position for _, position in versions]
            else:
                positions = list(map(self.index.__getitem__, keys))
            stored = [key + trailers[8 * position : 8 * position + 8] for key, position in zip(keys, positions)]
            yield keys, stored, [values[position] or b"" for position in positions]

    @property
    def last_sequence(self) -> int:
        """Of the newest version; 0 if there is none."""
        return self._sequence(len(self._values) - 1) if self._values else 0

    def key_count(self) -> int:
        """O(1)."""
        return len(self.index)

    def __len__(self) -> int:
        return len(self._values)

    # ---- the way to a worker process --------------------------------------------------------------------------------

    def __reduce__(self) -> tuple[object, tuple[PickleBuffer]]:
        """The rows only, in the order of arrival, in a part of their own (engines/process.py, rule 6): 0.15 µs a row. Requires:
        nobody adds any more; protocol 5."""
        rows = self._first, self._sequences, self._keys, self._values
        return _unpacked, (PickleBuffer(marshal.dumps(rows, MARSHAL_VERSION)),)

    # ---- the order --------------------------------------------------------------------------------------------------

    def _ordered(self) -> Order:
        """The order with everything that has arrived. O(1) if nothing has."""
        order = self._order
        count = len(self._keys)
        if order.arrived != count:
            new = self._keys[order.arrived : count]
            bring = _put_into_chunks if len(new) <= max(FEW, count // 8) else _sort_anew
            order = self._order = Order(count, *bring(order, new))  # rule 2
        return order

    # ---- in the order of arrival, for fast/tombstones.py ------------------------------------------------------------

    def arrivals(self, position: int, sequence: int) -> Iterator[tuple[bytes, bytes | None]]:
        """(key, value) of the versions from a position on, up to `sequence`. O(1) each."""
        for at in range(position, len(self._keys)):
            if self._sequence(at) > sequence:
                return
            yield self._keys[at], self._values[at]

    def position_after(self, sequence: int, limit: int) -> int | None:
        """The position after the last version up to `sequence`; None if more than `limit` versions follow it. O(limit)."""
        position = len(self._values)
        for _ in range(limit + 1):
            if not position or self._sequence(position - 1) <= sequence:
                return position
            position -= 1
        return None


def _unpacked(rows: bytes | bytearray) -> FastMemTable:
    """The memtable that `__reduce__` has packed, in another process of the same Python: to be read only."""
    memtable = FastMemTable(0)
    memtable._first, memtable._sequences, memtable._keys, memtable._values = marshal.loads(rows)
    keys, index = memtable._keys, memtable.index
    index.update(zip(keys, range(len(keys))))
    if len(index) < len(keys):
        newest: dict[bytes, int] = {}
        for position, key in enumerate(keys):
            if key in newest:
                memtable._older[position] = newest[key]
            newest[key] = position
    return memtable


def _sort_anew(order: Order, new: list[bytes]) -> tuple[list[list[bytes]], list[bytes]]:
    keys = list(dict.fromkeys(chain(chain.from_iterable(order.chunks), new)))
    keys.sort()
    chunks = [keys[at : at + MAX_CHUNK] for at in range(0, len(keys), MAX_CHUNK)]
    return chunks, [chunk[-1] for chunk in chunks]


def _put_into_chunks(order: Order, new: list[bytes]) -> tuple[list[list[bytes]], list[bytes]]:
    """The new keys that aren't there yet go into their chunks, those of one chunk together; the last one takes what is
    beyond it. From the end to the beginning, so that a chunk that is divided moves none that is still to come."""
    chunks, lasts = order.chunks[:] or [[]], order.lasts[:] or [b""]
    keys = sorted(set(new))
    end = len(keys)
    while end:
        number = min(bisect_left(lasts, keys[end - 1]), len(chunks) - 1)
        first = bisect_right(keys, lasts[number - 1], 0, end) if number else 0
        chunk = _with(chunks[number], keys[first:end])
        end = first
        if len(chunk) < 2 * MAX_CHUNK:
            chunks[number], lasts[number] = chunk, chunk[-1]
            continue
        parts = [chunk[at : at + MAX_CHUNK] for at in range(0, len(chunk), MAX_CHUNK)]
        chunks[number : number + 1] = parts
        lasts[number : number + 1] = [part[-1] for part in parts]
    return chunks, lasts


def _with(chunk: list[bytes], keys: list[bytes]) -> list[bytes]:
    """A new chunk with these keys as well. Both ascend."""
    if len(keys) >= TOGETHER:
        chunk = list(dict.fromkeys(chain(chunk, keys)))
        chunk.sort()
        return chunk
    chunk = chunk[:]
    for key in keys:
        at = bisect_left(chunk, key)
        if at == len(chunk) or chunk[at] != key:
            chunk.insert(at, key)
    return chunk


def new_memtable(representation: str, rng: random.Random, last_sequence: int) -> FastMemTable:
    """In place of memtable.new_memtable: one for both representations."""
    return FastMemTable(last_sequence)
