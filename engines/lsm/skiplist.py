"""A skiplist: a sorted linked list with express lanes, the order of the memtable.

    level 2  ■───────────────────────────► 21 ─────────────────────► ■
    level 1  ■────────► 7 ───────────────► 21 ─────────► 42 ───────► ■        each node is on level 0, and on the
    level 0  ■──► 3 ──► 7 ──► 9 ──► 16 ──► 21 ──► 30 ──► 42 ──► 50 ─► ■        next higher one with chance 1/4

A search begins on the highest level, goes right while the next key is smaller, and down when it is not: O(log n)
steps, by luck and not by rebalancing. So nothing that was linked is ever moved, and a reader needs no lock.

All nodes live in one flat list, the *arena*, and a node is the position of its first cell:

    cells   key │ sequence │ value │ next on level 0 │ next on level 1 │ ...      (0 is both the head and the end)

1. Order: keys ascend; of equal keys, the one that was inserted last comes first. So a memtable, which inserts in the
   order of sequences, has the newest version of a key in front without ever comparing sequences.
2. Nodes are never changed but for their links, never removed, and a node's links are set before it is linked, from
   level 0 up. A reader may go on while the one writer inserts: it sees the new node or doesn't.
3. One writer at a time: the caller's lock.

Why an arena and not an object for each node: the garbage collector looks at containers. Thirty thousand nodes would
be thirty thousand of them, and inserting would spend a third of its time being collected; the arena is one. LevelDB's
nodes come from an arena too, for another reason: they are freed all at once.

Left out: deletion (a memtable writes a tombstone), and backward links (`stretch_before` serves reverse scans).
Follows LevelDB's db/skiplist.h, and Pugh, "Skip Lists: A Probabilistic Alternative to Balanced Trees" (1990).
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any, Final

__all__ = ["HEAD", "MAX_HEIGHT", "SkipList"]

MAX_HEIGHT: Final = 12  # enough for 4**12 = 16 million nodes
HEAD: Final = 0
LINKS: Final = 3  # a node's cells before its links: key, sequence, value
STRETCH_LEVEL: Final = 3  # one node in 4**3 = 64 is there: the length of a reverse scan's steps

# One draw of 22 bits decides a height: each pair of zero bits at its end is one more level.
_HEIGHT_BITS: Final = 2 * (MAX_HEIGHT - 1)


class SkipList:
    """Keys with a sequence and a value each. `cells` is readable by the memtable; only `insert` writes it.

    rng: decides the heights; a simulation hands in its own.
    """

    __slots__ = ("_draw", "_latest", "_path", "_top", "cells", "length")

    def __init__(self, rng: random.Random) -> None:
        self.cells: list[Any] = [b"", 0, None, *[HEAD] * MAX_HEIGHT]
        self.length = 0
        self._draw = rng.getrandbits
        self._top = LINKS  # cell of the highest link in use, counted from its node
        self._latest = HEAD  # the node that was inserted last, and for each level it or the last node before it:
        self._path = [HEAD] * (LINKS + MAX_HEIGHT)

    def insert(self, key: bytes, sequence: int, value: bytes | None) -> int:
        """Adds a node before all nodes of the same key, and returns it. O(log n) comparisons; O(1) when keys ascend.

        Requires: one writer at a time, and a sequence above those of the same key (rule 1).
        """
        cells, path = self.cells, self._path
        node = self._latest
        bound = after = HEAD  # the first node of the level above that is not smaller: no need to compare it again
        if cells[node + LINKS] != HEAD or cells[node] >= key:  # else it goes to the end, behind the latest
            node = HEAD
            for link in range(self._top, LINKS - 1, -1):
                after = cells[node + link]
                while after != bound and cells[after] < key:
                    node = after
                    after = cells[node + link]
                path[link] = node
                bound = after
        self._latest = new = len(cells)
        draw = self._draw(_HEIGHT_BITS)
        if draw & 3:  # three of four nodes are on level 0 only
            cells += (key, sequence, value, after)
            cells[node + LINKS] = path[LINKS] = new
        else:
            self._insert_tower(key, sequence, value, draw)
        self.length += 1
        return new

    def _insert_tower(self, key: bytes, sequence: int, value: bytes | None, draw: int) -> None:
        """Adds a node that is on level 1 at least. Requires: `_path` is that of `key`."""
        cells, path = self.cells, self._path
        new = len(cells)
        top = LINKS
        while draw & 3 == 0 and top < LINKS + MAX_HEIGHT - 1:
            draw >>= 2
            top += 1
        for link in range(self._top + 1, top + 1):
            path[link] = HEAD
        cells += (key, sequence, value, *[cells[path[link] + link] for link in range(LINKS, top + 1)])
        for link in range(LINKS, top + 1):
            cells[path[link] + link] = path[link] = new
        self._top = max(self._top, top)

    def seek(self, key: bytes) -> int:
        """The first node whose key is not smaller than `key`, HEAD if there is none. O(log n) comparisons."""
        cells = self.cells
        node = HEAD
        bound = after = HEAD
        for link in range(self._top, LINKS - 1, -1):
            after = cells[node + link]
            while after != bound and cells[after] < key:
                node = after
                after = cells[node + link]
            bound = after
        return after

    def stretch_before(self, stop: bytes | None) -> int:
        """The first node of a short stretch that ends just before `stop` (None: the end), HEAD if nothing is before it.

        All nodes from there on with keys below `stop` are what a reverse scan returns next; they are some 64, because
        the stretch begins at a node of level 3. The node before it has another key. O(log n) comparisons.
        """
        cells = self.cells
        node = HEAD
        for link in range(self._top, LINKS + STRETCH_LEVEL - 1, -1):
            while (after := cells[node + link]) != HEAD and (stop is None or cells[after] < stop):
                node = after
        first: int = self.seek(cells[node]) if node != HEAD else cells[HEAD + LINKS]
        return first if first != HEAD and (stop is None or cells[first] < stop) else HEAD

    def __iter__(self) -> Iterator[tuple[bytes, int, bytes | None]]:
        """(key, sequence, value) of each node in order, those too that are inserted ahead meanwhile. O(1) each."""
        cells = self.cells
        node = cells[HEAD + LINKS]
        while node != HEAD:
            yield cells[node], cells[node + 1], cells[node + 2]
            node = cells[node + LINKS]

    def __len__(self) -> int:
        return self.length
