"""The memtable: the newest writes, in memory and in order, until they are a table.

    put a=1, put c=2, delete a    ──►    a@3 deleted    a@1 = 1    c@2 = 2        rows, as in a table

    write ──► log ──► memtable ──(full)──► frozen memtable ──(flush)──► table in level 0

Every write adds a row, and no row is changed: an older version of a key may still be asked for by a snapshot, and only
a compaction knows which ones are not. What keeps the rows in order is handed in, and there are two:

| rows       | add      | get, start of a scan            | RocksDB calls it |
|------------|----------|---------------------------------|------------------|
| `SkipList` | O(log n) | O(log n)                        | skiplist         |
| `Vector`   | O(1)     | O(log n); O(n) after a new row  | vector           |

1. One writer, who holds the store's writer lock; any number of readers without a lock.
2. A reader asks as of a sequence, and sees of each key the newest version that is not above it. The store raises its
   last sequence after all of a batch has been added: so no reader sees half of a batch.
3. The last version added to a key has the highest sequence.

Follows LevelDB's db/memtable.cc; the vector follows RocksDB's memtable/vectorrep.cc.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import ClassVar, Final, Protocol

from engines.kvstore import Operation
from engines.lsm.keys import ABSENT, Found, Row
from engines.lsm.skiplist import SkipList
from engines.lsm.vector import Vector

__all__ = ["ENTRY_BYTES", "MemTable", "OrderedRows", "new_memtable"]

ENTRY_BYTES: Final = 32  # what a row costs besides its bytes, as LevelDB's arena would: trailer, lengths, links


class OrderedRows(Protocol):
    """What a memtable keeps its rows in. Reading goes on beside one writer."""

    def insert(self, row: Row) -> None:
        """Adds a row. Requires: one writer at a time."""

    def ascend(self, start: Row) -> Iterator[Row]:
        """The rows that are not smaller than `start`, in order."""

    def descend(self, stop: Row | None) -> Iterator[Row]:
        """The rows smaller than `stop` (None: all), against the order."""

    def __len__(self) -> int:
        """How many there are."""


class MemTable:
    """Rows in order. `size_bytes` is about the memory that they take, by which a memtable is full."""

    __slots__ = ("_rows", "size_bytes")

    travels: ClassVar[bool] = False  # True: a pickle of it is quicker to make and to read than its log is to be read

    def __init__(self, rows: OrderedRows) -> None:
        self._rows = rows
        self.size_bytes = 0

    def add(self, sequence: int, key: bytes, value: bytes | None) -> None:
        """Adds a version; None deletes. Requires: the writer lock, rule 3."""
        self._rows.insert(Row.of(key, sequence, value))
        self.size_bytes += len(key) + len(value or b"") + ENTRY_BYTES

    def add_all(self, sequence: int, operations: Sequence[Operation]) -> None:
        """Adds a batch, whose first operation has `sequence`. Requires: as `add`."""
        for place, (key, value) in enumerate(operations):
            self.add(sequence + place, key, value)

    def get(self, key: bytes, sequence: int) -> Found:
        """The newest value of `key` not above `sequence`; None if it was deleted then; ABSENT if there is no version.

        One search in the rows, and one row taken from it, whatever the number of versions. O(log n).
        """
        # Newer versions come first in order, so the first row from this one on is the newest that the reader may see.
        newest_visible = Row.of(key, sequence, b"")
        row = next(self._rows.ascend(newest_visible), None)
        if row is None or row.key != key:
            return ABSENT
        return None if row.is_deletion else row.value

    def rows(self, start: bytes = b"", stop: bytes | None = None, reverse: bool = False) -> Iterator[Row]:
        """All versions of the user keys in [start, stop), in order, or against it; None is no bound.

        Lazy. `Row.first_of(key)` is the bound before all versions of `key`. O(log n) to begin with.
        """
        first = Row.first_of(start)
        if reverse:
            for row in self._rows.descend(None if stop is None else Row.first_of(stop)):
                if row < first:
                    return
                yield row
        else:
            for row in self._rows.ascend(first):
                if stop is not None and row.key >= stop:
                    return
                yield row

    def key_count(self) -> int:
        """The number of user keys. O(n)."""
        return len({row.key for row in self.rows()})

    def __len__(self) -> int:
        """The number of versions."""
        return len(self._rows)


def new_memtable(representation: str, rng: random.Random, last_sequence: int) -> MemTable:
    """An empty memtable; representation: "skiplist" or "sorted", the names of the store's option.

    last_sequence: of the last write before it. A memtable that remembers what scans have found (engines/lsm/fast) needs it.
    """
    return MemTable(SkipList(rng) if representation == "skiplist" else Vector())
