"""Open tables by their numbers, and what is known of each.

    get(file) ──► open already? ──► the table
                  otherwise      ──► open it (three reads: footer, index, filter), and close the one opened first, if
                                     more than `capacity` are open

An evicted table stays open for a reader who holds it, and closes its file when nobody does. What it said about itself
is kept: compaction picks tables by their statistics, and must not open them all for that.

LevelDB's is db/table_cache.cc.
"""

from __future__ import annotations

from collections.abc import Callable

from engines.env import Env
from engines.errors import CorruptionError
from engines.lsm.cache import BlockCache
from engines.lsm.files import repair_advice, table_name
from engines.lsm.sstable import Table
from engines.lsm.statistics import Counters, TableStatistics
from engines.lsm.version import FileMeta

__all__ = ["TableCache"]


class TableCache:
    """The tables of one store. Threads share it without a lock: two that open the same table both may read it.

    last_sequence: no table has a higher one; asked at each opening. It must not keep the store alive: a store that is
    dropped has to go at once, and not when the garbage collector finds a cycle.
    """

    def __init__(
        self,
        env: Env,
        directory: str,
        capacity: int,
        blocks: BlockCache,
        last_sequence: Callable[[], int],
        table: type[Table] = Table,
    ) -> None:
        self._env = env
        self._directory = directory
        self._capacity = max(1, capacity)
        self._last_sequence = last_sequence
        self._table = table
        self._learned: dict[int, TableStatistics | None] = {}
        self.blocks = blocks
        self.counters = Counters()
        self.opened: dict[int, Table] = {}  # by number, the one opened first comes first

    def get(self, file: FileMeta) -> Table:
        """The file's table, opened if it isn't. Raises CorruptionError, ForeignFormat, OSError. O(1), or three reads."""
        table = self.opened.get(file.number)
        if table is None:
            table = self._open(file)
            self._learned[file.number] = table.statistics
            self.keep(file.number, table)
        return table

    def keep(self, number: int, table: Table) -> None:
        """Keeps the table open, the newest of `opened`; before that, lets go of as many as it takes, the one opened
        first going first, so that no more than `_capacity` are open afterwards.

        `_forget_first()` lets go of the first one; it returns False if it couldn't, and then nothing more is let go.
        Amortised O(1).
        """
        while len(self.opened) >= self._capacity and self._forget_first():
            pass
        self.opened[number] = table

    def _forget_first(self) -> bool:
        """Lets go of the table opened first; False if another thread was faster."""
        try:
            del self.opened[next(iter(self.opened))]
        except (StopIteration, KeyError, RuntimeError):
            return False
        return True

    def _open(self, file: FileMeta) -> Table:
        path = f"{self._directory}/{table_name(file.number)}"
        try:
            try:
                opened = self._env.open(path, "r")
            except FileNotFoundError:
                opened = self._env.open(path[:-4] + ".sst", "r")  # as old LevelDB named it
        except FileNotFoundError:
            raise CorruptionError(path, None, f"the table is missing; {repair_advice(self._directory)}") from None
        try:
            table = self._table(opened, file.size_bytes, self.blocks, self.counters)
        except BaseException:
            opened.close()
            raise
        if table.max_sequence > self._last_sequence():
            raise CorruptionError(
                path,
                None,
                f"the table has sequences up to {table.max_sequence}, but the manifest says that {self._last_sequence()} "
                f"is the last one: newer versions would be invisible; {repair_advice(self._directory)}",
            )
        return table

    def statistics(self, file: FileMeta) -> TableStatistics | None:
        """What the table says about itself; None if it has not been opened yet, or doesn't say. O(1), without a read."""
        return file.statistics or self._learned.get(file.number)

    def forget(self, number: int) -> None:
        """Lets go of a table whose file is going to be deleted, and of its blocks: a compaction's output takes their place.
        A reader who still holds the table reads what it needs again. O(blocks of the table)."""
        table = self.opened.pop(number, None)
        if table is not None:
            self.blocks.forget(table.first_key, table.blocks)
        self._learned.pop(number, None)

    def clear(self) -> None:
        """Lets go of all tables."""
        self.opened.clear()

    def __len__(self) -> int:
        return len(self.opened)
