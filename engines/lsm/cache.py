"""The block cache: blocks that were read, by memory.

    found in young ──► hit
    found in old   ──► hit, and moved to young          the cache is full: what is oldest in old goes; when old is
    in neither     ──► read it, add it to young         empty, young becomes old, and a new young begins

1. What was used since the last change of generations is not evicted: an approximation of "least recently used" (the
   second chance) in which a hit costs one dict lookup. A linked list in the order of use, as LevelDB's cache has it,
   would cost more to keep than the lookup itself.
2. Each block is charged with its memory, what Python adds to its bytes included; the two generations together stay below the
   capacity.

A store's threads share a `SharedBlockCache`: a block that is young is found without a lock, and whatever moves a block or
changes `size_bytes` has it. Left out: shards, priorities, pinning. LevelDB's is util/cache.cc.
"""

from __future__ import annotations

import threading
from typing import Final

from engines.lifetime import holding
from engines.lsm.block import Block

__all__ = ["BlockCache", "NoBlockCache", "SharedBlockCache"]

TABLE_SHIFT: Final = 24  # a block's key is its table's number in this cache << 24, plus the number of the block


class BlockCache:
    """Blocks of all tables of a store: (table's id << 24) + number of the block → the block. `young` is for reading.

    For one thread: SharedBlockCache is for many.
    """

    def __init__(self, capacity_bytes: int) -> None:
        self.young: dict[int, Block] = {}
        self._old: dict[int, Block] = {}
        self._victims: list[int] = []  # the keys of old when it became old, oldest last
        self._capacity = capacity_bytes
        self.size_bytes = 0  # the charge of both
        self._tables = 0

    @property
    def room_bytes(self) -> int:
        """What can be added without an eviction; less than 0 for a moment while another thread adds. O(1)."""
        return self._capacity - self.size_bytes

    @property
    def is_off(self) -> bool:
        """True if it keeps nothing, because its capacity is 0. O(1)."""
        return not self._capacity

    def first_key(self) -> int:
        """The key of block 0 of a table that is being opened; a table that is opened twice gets two."""
        self._tables += 1
        return self._tables << TABLE_SHIFT

    def find(self, key: int) -> Block | None:
        """The block, which is young from now on; None if it isn't here. `size_bytes` stays: a block only moves.
        O(1)."""
        found = self.young.get(key)
        if found is None:
            found = self._old.pop(key, None)
            if found is not None:
                self.young[key] = found
        return found

    def add(self, key: int, block: Block) -> None:
        """Keeps a block, young, in place of what was there under the key; then evicts until the capacity is kept.

        `size_bytes` is the sum of `memory_bytes` of all blocks that are here, before and after. A block that is larger
        than the capacity doesn't stay. Amortised O(1).
        """
        before = self.find(key)
        self.size_bytes += block.memory_bytes - (0 if before is None else before.memory_bytes)
        self.young[key] = block
        while self.size_bytes > self._capacity and (self._victims or self.young):
            self.evict()

    def evict(self) -> None:
        """Lets go of the oldest block of old, if it has had no second chance: if it is still there.

        `_victims` are the keys of old when it became old, the oldest last; `_next_victim()` takes the oldest. Its block,
        if `find` has not moved it to young meanwhile, leaves `_old` and `size_bytes`. When no victim is left, young
        becomes old first, with its keys as victims, and a new young begins. Amortised O(1).
        """
        if not self._victims:
            self._old, self.young = self.young, {}
            self._victims = list(self._old)[::-1]
        if (key := self._next_victim()) is not None and (block := self._old.pop(key, None)) is not None:
            self.size_bytes -= block.memory_bytes

    def forget(self, first_key: int, count: int) -> None:
        """Lets go of the blocks of a table that is going to be deleted: `count` keys from `first_key` on. O(count)."""
        for key in range(first_key, first_key + count):
            block = self.young.pop(key, None) or self._old.pop(key, None)
            if block is not None:
                self.size_bytes -= block.memory_bytes

    def _next_victim(self) -> int | None:
        """The next key off the end of `_victims`; None if there is none, because another thread was faster."""
        try:
            return self._victims.pop()
        except IndexError:
            return None

    def __len__(self) -> int:
        return len(self.young) + len(self._old)


class SharedBlockCache(BlockCache):
    """A BlockCache for many threads. Without its lock, a charge is lost, or stays for ever, when two of them add or evict at
    once: after a million lookups of four threads, a small cache believed that it was full, and kept nothing.

    The lock costs 0.5 µs, once for a block that is read, or becomes young again.
    """

    def __init__(self, capacity_bytes: int) -> None:
        super().__init__(capacity_bytes)
        self.lock = threading.RLock()  # `add` asks `find`

    def first_key(self) -> int:
        return holding(self.lock, super().first_key)

    def find(self, key: int) -> Block | None:
        found = self.young.get(key)
        return holding(self.lock, super().find, key) if found is None and key in self._old else found

    def add(self, key: int, block: Block) -> None:
        holding(self.lock, super().add, key, block)

    def forget(self, first_key: int, count: int) -> None:
        holding(self.lock, super().forget, first_key, count)


class NoBlockCache(BlockCache):
    """In place of the cache: keeps nothing, so that each block is read when it is needed."""

    def find(self, key: int) -> Block | None:
        """None: it isn't here."""
        return None

    def add(self, key: int, block: Block) -> None:
        """Doesn't keep it."""
