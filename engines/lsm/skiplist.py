"""A skiplist: a sorted linked list with express lanes above it. It keeps the rows of a memtable in order.

    level 2   head ─────────────────► 21 ────────────────────────► ■
    level 1   head ───────► 9 ──────► 21 ─────────► 42 ──────────► ■
    level 0   head ─► 7 ──► 9 ─► 16 ► 21 ─► 30 ───► 42 ──► 50 ───► ■        every node, in order

A node has a *height*: it is on so many levels, from 0 up, and has one forward link on each. Its height is drawn by
chance: every node is on level 0, one in four is on level 1 as well, one in sixteen on level 2, and so on.

A search begins at the head, on the highest level. It goes right while the next row is smaller, and down where it is
not. To find 30:

    level 2   head ─► 21       the next one is the end: down
    level 1           21       the next one is 42, too large: down
    level 0           21       the next one is 30: found

On each level it takes four steps on average, because one node in four is on the level above, and there are log4(n)
levels: so O(log n) steps. A balanced tree takes as many, but has to move nodes to stay balanced. Here chance keeps the
balance, and a node never moves:

1. Rows ascend along the links of each level, as Row compares: by user key, then the newest first. No two are equal.
2. The nodes of a level are also on the level below.
3. A row is never changed, and a node is never removed.
4. One writer at a time (the caller holds a lock); readers need none. For a new node's own links are set before any
   other node links to it: a reader who follows a link finds a complete node. It sees a row that is being inserted, or
   it does not.

Left out: removing, because a memtable never does (a deletion is a row, too), and links backwards: a step back is a
search of its own, as in LevelDB.

Follows LevelDB's db/skiplist.h, and Pugh, "Skip Lists: A Probabilistic Alternative to Balanced Trees" (1990).
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Final

from engines.lsm.keys import Row

__all__ = ["BRANCHING", "MAX_HEIGHT", "Node", "SkipList"]

MAX_HEIGHT: Final = 12  # enough for 4**12 rows, 16 million
BRANCHING: Final = 4  # one node in so many is on the next level, too; as fast as 2, with fewer links (Pugh, section 3)


class Node:
    """A row with its forward links: `next[level]` is the next node on that level, or None at the end."""

    __slots__ = ("next", "row")

    def __init__(self, row: Row, height: int) -> None:
        self.row = row
        self.next: list[Node | None] = [None] * height


class SkipList:
    """Rows in order. rng: decides the heights; a simulation hands in its own."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._head = Node(Row(b"", 0, b""), MAX_HEIGHT)  # its row is never looked at
        self._height = 1  # of the highest node so far: the levels above are empty
        self._length = 0

    def insert(self, row: Row) -> None:
        """Adds a row, at a height drawn by chance. O(log n).

        Requires: one writer at a time, and no equal row; the caller guarantees both. Readers are at work meanwhile, on any
        level: at each moment they find invariants 1, 2 and 4 kept. `_height` and `_length` count the new node as well.
        """
        height = self._random_height()
        path, _ = self._search(row)
        self._height = max(self._height, height)
        node = Node(row, height)
        for level in range(height):
            node.next[level] = path[level].next[level]
        # Only now do others link to it (invariant 4); from level 0 up, so that invariant 2 holds at any moment.
        for level in range(height):
            path[level].next[level] = node
        self._length += 1

    def seek(self, row: Row) -> Node | None:
        """The first node whose row is not smaller than `row`; None if all are smaller. O(log n)."""
        return self._search(row)[1]

    def before(self, row: Row | None) -> Node | None:
        """The last node whose row is smaller than `row`, or the last node of all for None; None if there is none. O(log n).

        LevelDB's FindLessThan and FindLast.
        """
        node = self._search(row)[0][0]
        return None if node is self._head else node

    def ascend(self, start: Row) -> Iterator[Row]:
        """The rows from the first one that is not smaller than `start`, in order. O(log n), then O(1) for each.

        Lazy: a row that is inserted meanwhile is among them if the iterator has not passed its place yet.
        """
        node = self.seek(start)
        while node is not None:
            yield node.row
            node = node.next[0]

    def descend(self, stop: Row | None) -> Iterator[Row]:
        """The rows smaller than `stop` (None: all), the largest one first. O(log n) for each: there is no link back."""
        node = self.before(stop)
        while node is not None:
            yield node.row
            node = self.before(node.row)

    def __len__(self) -> int:
        return self._length

    def _search(self, row: Row | None) -> tuple[list[Node], Node | None]:
        """The path to a row: for each of the MAX_HEIGHT levels, the last node whose row is smaller than `row`, or the head;
        and the first node of level 0 whose row is not smaller, None if there is none.

        A `row` of None is above all rows. The heart of the skiplist: an insertion links the new node to the path. The node
        that is given is one that was compared: no link may be read again after that. O(log n) comparisons, which begin on
        the highest level that has a node (`_height` counts the levels) and never go back.
        """
        path = [self._head] * MAX_HEIGHT
        node = self._head
        after = None
        for level in reversed(range(self._height)):
            after = node.next[level]
            while after is not None and (row is None or after.row < row):
                node = after
                after = node.next[level]
            path[level] = node  # and the search goes on from here, one level down
        # `after` as it was compared: the link may lead to a smaller row by now, one that was inserted meanwhile
        return path, after

    def _random_height(self) -> int:
        """A height from 1 to MAX_HEIGHT: 1 with chance 3/4, 2 with chance 3/16, 3 with chance 3/64, ...

        Each level more is one in BRANCHING. All chance comes from `self._rng`.
        """
        height = 1
        while height < MAX_HEIGHT and self._rng.randrange(BRANCHING) == 0:
            height += 1
        return height
