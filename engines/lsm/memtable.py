"""Memtables: where writes live until they are a table, sorted or sortable, in memory.

    put ──► log ──► memtable ──(full)──► immutable memtable ──(flush)──► table in level 0

Two representations behind one protocol, because what is best depends on what is read before the flush:

| representation     | put                     | get  | scan                          | RocksDB calls it  |
|--------------------|-------------------------|------|-------------------------------|-------------------|
| `SkipListMemTable` | O(log n), keeps order   | O(1) | O(log n), then O(1) an entry  | skiplist, hashed  |
| `SortedMemTable`   | O(1), appends           | O(1) | O(n log n) if new keys came   | vector            |

Both have a hash index from user key to its newest version, so that a point read needs no search. Both keep every
version: the flush writes them all, and only compaction knows which of them no snapshot needs.

1. One writer, who holds the store's writer lock; any number of readers without a lock. A version is complete before
   the index or a link points to it, and nothing is changed afterwards.
2. A reader asks as of a sequence, and sees of each key the newest version that is not above it. The store publishes a
   batch by raising its own last sequence after all of the batch has been added: so nobody sees half of it.
3. The last version added to a key has its highest sequence.

`chunks` and `rows` hand out lists instead of single entries, because whoever consumes them (a merge, a table builder)
works on lists. Follows LevelDB's db/memtable.cc; the second representation is RocksDB's memtable/vectorrep.cc.
"""

from __future__ import annotations

import random
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Final, Protocol

from engines.kvstore import Operation
from engines.lsm.keys import ABSENT, DELETION, VALUE, Found, Row, pack_trailer
from engines.lsm.skiplist import HEAD, LINKS, SkipList
from engines.lsm.tombstones import EmptyRanges

__all__ = ["REPRESENTATIONS", "Chunk", "MemTable", "Rows", "SkipListMemTable", "SortedMemTable"]

Chunk = tuple[list[bytes], list[bytes | None]]  # user keys in order, each once; values, None for a tombstone
Rows = tuple[
    list[bytes], list[bytes], list[bytes]
]  # user keys, internal keys, values (b"" for a tombstone): all versions

ENTRY_BYTES: Final = 32  # what a version costs besides its bytes, as LevelDB's arena would: trailer, lengths, links
FIRST_CHUNK: Final = 16  # entries: short scans are the most frequent ones
MAX_CHUNK: Final = 256
MAX_STEPS: Final = 8  # over older versions of a key; a search costs as much


class MemTable(Protocol):
    """What the store needs of a representation. `size_bytes` is the approximate memory, by which it is full.

    It is made with the Env's `rng` and with the sequence behind which its versions will be.

    `index` has every user key of the memtable, so that a hot read can spare itself the call of `get`. `empty_ranges` is
    for scans (tombstones.py); None: it keeps none.
    """

    size_bytes: int
    index: dict[bytes, int]
    empty_ranges: EmptyRanges | None

    def add(self, sequence: int, key: bytes, value: bytes | None) -> None:
        """Adds a version; None is a tombstone. Requires: the writer lock, rule 3."""

    def add_all(self, sequence: int, operations: Sequence[Operation]) -> None:
        """Adds a batch, whose first operation has `sequence`. Requires: as `add`."""

    def get(self, key: bytes, sequence: int) -> Found:
        """The newest value of `key` not above `sequence`; None if that is a tombstone; ABSENT if there is none."""

    def chunks(self, start: bytes, stop: bytes | None, sequence: int, reverse: bool) -> Iterator[Chunk]:
        """The keys in [start, stop) as of `sequence`, a few at a time; with `reverse`, each chunk descends as well."""

    def rows(self, start: bytes = b"", stop: bytes | None = None, reverse: bool = False) -> Iterator[Row]:
        """All versions of the user keys in [start, stop), in the order of internal keys, or against it."""

    def row_chunks(self) -> Iterator[Rows]:
        """As `rows`, a few at a time, for a flush. Requires: nobody adds any more."""

    def __len__(self) -> int:
        """The number of versions."""


class SkipListMemTable:
    """In order at any time: a skiplist of versions, and a dict from user key to its newest version's node."""

    __slots__ = ("_cells", "_insert", "_list", "empty_ranges", "index", "size_bytes")

    def __init__(self, rng: random.Random, sequence: int = 0) -> None:
        self._list = SkipList(rng)
        self._cells = self._list.cells
        self._insert = self._list.insert
        self.empty_ranges: EmptyRanges | None = EmptyRanges(self._list, sequence)
        self.index: dict[bytes, int] = {}
        self.size_bytes = 0

    def add(self, sequence: int, key: bytes, value: bytes | None) -> None:
        self.index[key] = self._insert(key, sequence, value)
        self.size_bytes += len(key) + len(value or b"") + ENTRY_BYTES

    def add_all(self, sequence: int, operations: Sequence[Operation]) -> None:
        index, insert = self.index, self._insert
        size = 0
        for key, value in operations:
            index[key] = insert(key, sequence, value)
            sequence += 1
            size += len(key) + len(value or b"")
        self.size_bytes += size + ENTRY_BYTES * len(operations)

    def get(self, key: bytes, sequence: int) -> Found:
        """O(1) for the newest version; one step back for each newer version than `sequence`."""
        node = self.index.get(key)
        if node is None:
            return ABSENT
        cells = self._cells
        while cells[node + 1] > sequence:
            node = cells[node + LINKS]
            if node == HEAD or cells[node] != key:
                return ABSENT
        value: bytes | None = cells[node + 2]
        return value

    def chunks(self, start: bytes, stop: bytes | None, sequence: int, reverse: bool) -> Iterator[Chunk]:
        return self._backward(start, stop, sequence) if reverse else self._forward(start, stop, sequence)

    def _forward(self, start: bytes, stop: bytes | None, sequence: int) -> Iterator[Chunk]:
        node = self._list.seek(start)
        size = FIRST_CHUNK
        while node != HEAD:
            keys, values, node = self._collect(node, stop, sequence, size)
            if keys:
                yield keys, values
            size = min(2 * size, MAX_CHUNK)

    def _backward(self, start: bytes, stop: bytes | None, sequence: int) -> Iterator[Chunk]:
        """Stretch by stretch: each is collected forwards, and turned round."""
        while (node := self._list.stretch_before(stop)) != HEAD:
            first: bytes = self._cells[node]
            if first < start:
                node = self._list.seek(start)
            keys, values, _ = self._collect(node, stop, sequence, self._list.length)
            if keys:
                yield keys[::-1], values[::-1]
            if first <= start:
                return
            stop = first

    def _collect(
        self, node: int, stop: bytes | None, sequence: int, size: int
    ) -> tuple[list[bytes], list[bytes | None], int]:
        """Up to `size` keys from `node` on, and the node to go on from. That node never has the last key again."""
        cells = self._cells
        keys: list[bytes] = []
        values: list[bytes | None] = []
        last: bytes | None = None
        older = 0  # versions of `last` behind the one that counts
        while node != HEAD:
            key = cells[node]
            if key != last:
                if len(keys) == size:
                    break
                if stop is not None and key >= stop:
                    return keys, values, HEAD
                if cells[node + 1] <= sequence:
                    keys.append(key)
                    values.append(cells[node + 2])
                    last = key
                    older = 0
            else:
                older += 1
                if older == MAX_STEPS:  # a key that is overwritten all the time: a search is shorter
                    node = self._list.seek(key + b"\x00")
                    continue
            node = cells[node + LINKS]
        return keys, values, node

    def rows(self, start: bytes = b"", stop: bytes | None = None, reverse: bool = False) -> Iterator[Row]:
        return reversed(list(self._rows(start, stop))) if reverse else self._rows(start, stop)

    def _rows(self, start: bytes, stop: bytes | None) -> Iterator[Row]:
        cells = self._cells
        node = self._list.seek(start)
        while node != HEAD and (stop is None or cells[node] < stop):
            key, sequence, value, node = cells[node : node + LINKS + 1]
            yield Row.of(key, sequence, value)

    def row_chunks(self) -> Iterator[Rows]:
        cells = self._cells
        node = cells[HEAD + LINKS]
        while node != HEAD:
            keys: list[bytes] = []
            internal_keys: list[bytes] = []
            values: list[bytes] = []
            while node != HEAD and len(keys) < MAX_CHUNK:
                key, sequence, value, node = cells[node : node + LINKS + 1]
                keys.append(key)
                if value is None:
                    internal_keys.append(key + pack_trailer(sequence << 8 | DELETION))
                    values.append(b"")
                else:
                    internal_keys.append(key + pack_trailer(sequence << 8 | VALUE))
                    values.append(value)
            yield keys, internal_keys, values

    def __len__(self) -> int:
        return self._list.length


class SortedMemTable:
    """Sorted on demand: versions in the order of arrival, a dict to the newest of each key, and a sort when asked.

    For loading and for point reads. A scan after a write of a new key sorts again (timsort, on a list that is sorted
    but for its end), so that reading and writing in turns costs O(n) for each scan.
    """

    __slots__ = ("_older", "_order", "_sequences", "_values", "empty_ranges", "index", "size_bytes")

    def __init__(self, rng: random.Random, sequence: int = 0) -> None:
        self._sequences: list[int] = []
        self._values: list[bytes | None] = []
        self.index: dict[bytes, int] = {}  # user key → position of its newest version in the two lists
        self._older: dict[int, int] = {}  # position of a version → position of the one before it, of the same key
        self.empty_ranges: EmptyRanges | None = None
        self._order: list[bytes] = []  # the keys sorted, as of the last demand; never changed in place
        self.size_bytes = 0

    def add(self, sequence: int, key: bytes, value: bytes | None) -> None:
        index, values = self.index, self._values
        position = len(values)
        values.append(value)
        self._sequences.append(sequence)
        if key in index:
            self._older[position] = index[key]
        index[key] = position
        self.size_bytes += len(key) + len(value or b"") + ENTRY_BYTES

    def add_all(self, sequence: int, operations: Sequence[Operation]) -> None:
        index, older, values, sequences = self.index, self._older, self._values, self._sequences
        size = 0
        position = len(values)
        for key, value in operations:
            values.append(value)
            sequences.append(sequence)
            if key in index:
                older[position] = index[key]
            index[key] = position
            size += len(key) + len(value or b"")
            position += 1
            sequence += 1
        self.size_bytes += size + ENTRY_BYTES * len(operations)

    def get(self, key: bytes, sequence: int) -> Found:
        """O(1) for the newest version; one step back for each newer version than `sequence`."""
        position = self.index.get(key)
        while position is not None:
            if self._sequences[position] <= sequence:
                return self._values[position]
            position = self._older.get(position)
        return ABSENT

    def chunks(self, start: bytes, stop: bytes | None, sequence: int, reverse: bool) -> Iterator[Chunk]:
        order = self._sorted()
        low, high = bisect_left(order, start), len(order) if stop is None else bisect_left(order, stop)
        size = FIRST_CHUNK
        while low < high:
            if reverse:
                part = order[max(low, high - size) : high][::-1]
                high -= size
            else:
                part = order[low : min(low + size, high)]
                low += size
            size = min(2 * size, MAX_CHUNK)
            keys: list[bytes] = []
            values: list[bytes | None] = []
            for key in part:
                value = self.get(key, sequence)
                if value is not ABSENT:
                    keys.append(key)
                    values.append(value)
            if keys:
                yield keys, values

    def rows(self, start: bytes = b"", stop: bytes | None = None, reverse: bool = False) -> Iterator[Row]:
        order = self._sorted()
        low, high = bisect_left(order, start), len(order) if stop is None else bisect_left(order, stop)
        places = range(low, high)
        for place in reversed(places) if reverse else places:
            key = order[place]
            versions = []
            at: int | None = self.index[key]
            while at is not None:
                versions.append(Row.of(key, self._sequences[at], self._values[at]))
                at = self._older.get(at)
            yield from reversed(versions) if reverse else versions

    def row_chunks(self) -> Iterator[Rows]:
        order = self._sorted()
        for start in range(0, len(order), MAX_CHUNK):
            yield self._rows_of(order[start : start + MAX_CHUNK])

    def _rows_of(self, part: list[bytes]) -> Rows:
        """All versions of some keys; in one sweep if each of them has only one."""
        sequences, values, older = self._sequences, self._values, self._older
        positions = [self.index[key] for key in part]
        found = [values[position] for position in positions]
        keys = part
        if not older.keys().isdisjoint(positions):
            keys, positions = [], []
            for key in part:
                at: int | None = self.index[key]
                while at is not None:
                    keys.append(key)
                    positions.append(at)
                    at = older.get(at)
            found = [values[position] for position in positions]
        internal_keys = [
            key + pack_trailer(sequences[position] << 8 | (value is not None))
            for key, position, value in zip(keys, positions, found)
        ]
        return keys, internal_keys, [value or b"" for value in found]

    def _sorted(self) -> list[bytes]:
        """The keys of now in order. A dict keeps the order of insertion, so the new keys are at its end."""
        order = self._order
        keys = list(self.index)
        if len(keys) != len(order):
            order = order + keys[len(order) :]
            order.sort()
            self._order = order
        return order

    def __len__(self) -> int:
        return len(self._values)


REPRESENTATIONS: Final[dict[str, type[SkipListMemTable] | type[SortedMemTable]]] = {
    "skiplist": SkipListMemTable,
    "sorted": SortedMemTable,
}
