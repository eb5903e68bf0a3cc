"""The two caches of a store: blocks, by memory, and open tables, by number.

    found in young ──► hit
    found in old   ──► hit, and moved to young          young grows to half the capacity, then it becomes old,
    in neither     ──► read it, add it to young         and what was old until then is forgotten

1. What was used since the last change of generations is kept: an approximation of "least recently used" in which a
   hit costs one dict lookup. A linked list in the order of use, as LevelDB's cache has it, would cost more to keep
   than the lookup itself.
2. A block enters as the bytes that were read, and is taken apart (`block.decode`) when it is asked for a second time,
   or by a scan: most blocks that a point read meets in a store larger than its cache are never asked again.
3. Each entry is charged with its bytes and what Python adds to them; the two generations together stay below the
   capacity, give or take one block.

Threads share a cache without a lock: each step is one dict operation, and two threads that read the same block both
put the same thing there. Left out: shards, priorities, pinning. LevelDB's is util/cache.cc.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from engines.lsm.block import Block
    from engines.lsm.sstable import Table
    from engines.lsm.version import FileMeta

__all__ = ["BlockCache", "TableCache"]

TABLE_SHIFT: Final = 24  # a block's key is its table's number in this cache << 24, plus the number of the block


class BlockCache:
    """Blocks of all tables of a store: (table's id << 24) + number of the block → bytes, or a decoded Block.

    `young` is for reading, by the hot path of `Table.get`.
    """

    def __init__(self, capacity_bytes: int) -> None:
        self.young: dict[int, Block | bytes] = {}
        self._old: dict[int, Block | bytes] = {}
        self._half = capacity_bytes // 2
        self._young_bytes = 0
        self._tables = 0

    def first_key(self) -> int:
        """The key of block 0 of a table that is being opened; a table that is opened twice gets two."""
        self._tables += 1
        return self._tables << TABLE_SHIFT

    def find(self, key: int) -> Block | bytes | None:
        """The block, which is young from now on; None if it isn't here. O(1)."""
        found = self.young.get(key)
        if found is None:
            found = self._old.pop(key, None)
            if found is not None:
                self.add(key, found)
        return found

    def add(self, key: int, block: Block | bytes) -> None:
        """Keeps a block, in place of what was there under the key. O(1)."""
        self._young_bytes += len(block)
        self.young[key] = block
        if self._young_bytes > self._half:
            self._old, self.young, self._young_bytes = self.young, {}, 0

    @property
    def size_bytes(self) -> int:
        """The charge of what is here, the older half estimated as full."""
        return self._young_bytes + (self._half if self._old else 0)

    def __len__(self) -> int:
        return len(self.young) + len(self._old)


class TableCache:
    """Open tables: at most `capacity`, the one that was opened first goes first.

    An evicted table stays open for whoever holds it, and closes its file when nobody does.
    """

    def __init__(self, open_table: Callable[[FileMeta], Table], capacity: int) -> None:
        self._open = open_table
        self._capacity = max(1, capacity)
        self.tables: dict[int, Table] = {}

    def get(self, file: FileMeta) -> Table:
        """The file's table, opened if it isn't. Raises CorruptionError, OSError. O(1), or three reads."""
        table = self.tables.get(file.number)
        if table is None:
            table = self._open(file)
            while len(self.tables) >= self._capacity:
                try:
                    self.tables.pop(next(iter(self.tables)), None)
                except (StopIteration, RuntimeError):  # another thread was faster
                    break
            self.tables[file.number] = table
        return table

    def forget(self, number: int) -> None:
        """The file is going to be deleted."""
        self.tables.pop(number, None)

    def clear(self) -> None:
        """Lets go of all tables."""
        self.tables.clear()
