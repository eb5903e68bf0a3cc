"""The two caches of a store: blocks, by memory, and open tables, by number.

    found in young ──► hit
    found in old   ──► hit, and moved to young          the cache is full: what is oldest in old goes; when old is
    in neither     ──► read it, add it to young         empty, young becomes old, and a new young begins

1. What was used since the last change of generations is not evicted: an approximation of "least recently used" (the
   second chance) in which a hit costs one dict lookup. A linked list in the order of use, as LevelDB's cache has it,
   would cost more to keep than the lookup itself.
2. A block enters as the bytes that were read, and is taken apart (`block.decode`) when it is asked for a second time,
   or by a scan: most blocks that a point read meets in a store larger than its cache are never asked again.
3. Each entry is charged with its bytes and what Python adds to them; the two generations together stay below the
   capacity.

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
        self._victims: list[int] = []  # the keys of old when it became old, oldest last
        self._capacity = capacity_bytes
        self.size_bytes = 0  # the charge of both
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
                self.young[key] = found
        return found

    def add(self, key: int, block: Block | bytes) -> None:
        """Keeps a block, in place of what was there under the key. Amortised O(1)."""
        before = self.find(key)
        self.size_bytes += len(block) - (0 if before is None else len(before))
        self.young[key] = block
        while self.size_bytes > self._capacity and (self._victims or self.young):
            self._evict()

    def _evict(self) -> None:
        """Lets go of the oldest block of old that has had no second chance."""
        if not self._victims:
            self._old, self.young = self.young, {}
            self._victims = list(self._old)[::-1]
        try:
            victim = self._old.pop(self._victims.pop(), None)
        except IndexError:  # another thread was faster
            return
        if victim is not None:
            self.size_bytes -= len(victim)

    def __len__(self) -> int:
        return len(self.young) + len(self._old)


class TableCache:
    """Open tables: at most `capacity`, the one that was opened first goes first.

    An evicted table stays open for whoever holds it, and closes its file when nobody does. The cache doesn't keep
    what opens them, a method of its owner: a store that is dropped must go at once, not with the next cycle that the
    garbage collector finds. A weak reference won't do: `__del__` of a store in a cycle finds it dead.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = max(1, capacity)
        self._files: dict[int, FileMeta] = {}  # those whose `table` is set, oldest first

    def get(self, file: FileMeta, open_table: Callable[[FileMeta], Table]) -> Table:
        """The file's table, opened if it isn't. Raises what `open_table` raises. O(1), or three reads."""
        table = file.table
        if table is None:
            table = open_table(file)
            while len(self._files) >= self._capacity:
                try:
                    self.forget(next(iter(self._files)))
                except (StopIteration, RuntimeError):  # another thread was faster
                    break
            self._files[file.number] = file
            file.table = table
        return table

    def forget(self, number: int) -> None:
        """Lets go of a table: its file is going to be deleted, or it must make room."""
        file = self._files.pop(number, None)
        if file is not None:
            file.table = None

    def clear(self) -> None:
        """Lets go of all tables."""
        for number in list(self._files):
            self.forget(number)

    def __len__(self) -> int:
        return len(self._files)
