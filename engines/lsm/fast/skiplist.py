"""The skiplist without an object for each node. In place of engines/lsm/skiplist.py, for the memtable of fast/memtable.py.

    lane     7 ────────────────────────────► 42 ─────────────        an array, for bisect: one node in 64
    level 2  7 ───────────────► 21 ────────► 42 ───────────► ■       one in 16
    level 1  7 ───► 9 ────────► 21 ────────► 42 ──► 50 ────► ■       one in 4
    level 0  7 ───► 9 ──► 16 ─► 21 ──► 30 ─► 42 ──► 50 ─► 61 ■       each node

All nodes live in one flat list, the *arena*, and a node is the position of its first cell:

    cells   key │ sequence │ value │ next on level 0 │ next on level 1 │ next on level 2       (0 is both head and end)

What that saves:

* The garbage collector looks at containers. Thirty thousand nodes would be thirty thousand of them, and an insertion
  would spend a third of its time being collected; the arena is one.
* All levels from the third on are one array, the *lane*: `bisect` finds a place in it at the speed of C, in the time of
  two steps along links. With links to the top, an insertion of the 30,000th key takes 18 steps; so it takes 8. The array
  has 500 places then, and an insertion into it, once in 64 nodes, moves 2 KiB.
* Sequences are not compared: of equal keys, the one that was inserted last comes first, which is the newest one.
* The path of the latest insertion is kept. Keys that ascend are appended after it, with one comparison each.

1. Order: keys ascend; of equal keys, the one that was inserted last comes first. Requires: sequences ascend.
2. Nodes are never changed but for their links, never removed, and a node's links are set before it is linked, from
   level 0 up. A reader may go on while the one writer inserts: it sees the new node or doesn't.
3. In the lane, the node is put before the key. So a reader that comes in between, and bisects the old keys, gets the
   right node or the one before it, and merely begins its walk too early.
4. The arena keeps the order of insertion, too: `arrivals` walks through it (fast/tombstones.py needs that).
"""

from __future__ import annotations

import random
from bisect import bisect_left
from collections.abc import Iterator
from typing import Any, Final

from engines.lsm.keys import Row

__all__ = ["HEAD", "LINKED_LEVELS", "LINKS", "ArenaSkipList"]

HEAD: Final = 0
LINKS: Final = 3  # a node's cells before its links: key, sequence, value
LINKED_LEVELS: Final = 3  # below the lane
_DOWN: Final = range(LINKS + LINKED_LEVELS - 1, LINKS - 1, -1)  # from the highest level to the lowest
DRAWN_BITS: Final = 6  # decide a height: each pair of zero bits at their end is one more level


class ArenaSkipList:
    """SkipList, with the same methods. `cells` is readable by the memtable; only `add` writes it.

    rng: decides the heights; a simulation hands in its own.
    """

    __slots__ = ("_draw", "_lane_keys", "_lane_nodes", "_latest", "_path", "cells", "length")

    def __init__(self, rng: random.Random) -> None:
        self.cells: list[Any] = [b"", 0, None, *[HEAD] * LINKED_LEVELS]
        self.length = 0
        self._draw = rng.getrandbits
        self._lane_keys: list[bytes] = []
        self._lane_nodes: list[int] = []
        self._latest = HEAD  # the node that was inserted last, and for each level it or the last node before it:
        self._path = [HEAD] * (LINKS + LINKED_LEVELS)

    # ---- as SkipList has it -----------------------------------------------------------------------------------------

    def insert(self, row: Row) -> None:
        """SkipList.insert. Requires: the row's sequence is above those of the same key."""
        self.add(row.key, row.sequence, None if row.is_deletion else row.value)

    def ascend(self, start: Row) -> Iterator[Row]:
        """SkipList.ascend."""
        cells = self.cells
        node = self.seek(start.key)
        while node != HEAD and Row.of(*cells[node : node + LINKS]) < start:  # a newer version of the same key
            node = cells[node + LINKS]
        while node != HEAD:
            yield Row.of(*cells[node : node + LINKS])
            node = cells[node + LINKS]

    def descend(self, stop: Row | None) -> Iterator[Row]:
        """SkipList.descend: stretch by stretch, each of which is walked forwards and turned round."""
        end = None if stop is None else stop.key + b"\x00"  # some versions of the key may sort before `stop`
        while (node := self.stretch_before(end)) != HEAD:
            first = end = self.cells[node]
            stretch: list[Row] = []
            for row in self.ascend(Row.first_of(first)):
                if stop is not None and row >= stop:
                    break
                stretch.append(row)
            yield from reversed(stretch)
            stop = Row.first_of(first)

    def __len__(self) -> int:
        return self.length

    # ---- by nodes ---------------------------------------------------------------------------------------------------

    def add(self, key: bytes, sequence: int, value: bytes | None) -> int:
        """Adds a node before all nodes of the same key, and returns it. O(log n) comparisons; O(1) when keys ascend.

        Requires: one writer at a time, and a sequence above those of the same key.
        """
        cells, path = self.cells, self._path
        node = self._latest
        after = HEAD
        if cells[node + LINKS] != HEAD or cells[node] >= key:  # else it goes to the end, after the latest
            lane = self._lane_nodes
            at = bisect_left(self._lane_keys, key)
            node = lane[at - 1] if at else HEAD
            bound = lane[at] if at < len(lane) else HEAD  # the first node of the level above that is not smaller
            for link in _DOWN:
                after = cells[node + link]
                while after != bound and cells[after] < key:
                    node = after
                    after = cells[node + link]
                path[link] = node
                bound = after
        self._latest = new = len(cells)
        draw = self._draw(DRAWN_BITS)
        if draw & 3:  # three of four nodes are on level 0 only
            cells += (key, sequence, value, after)
            cells[node + LINKS] = path[LINKS] = new
        else:
            self._add_tower(key, sequence, value, draw)
        self.length += 1
        return new

    def _add_tower(self, key: bytes, sequence: int, value: bytes | None, draw: int) -> None:
        """Adds a node that is on level 1 at least. Requires: `_path` is that of `key`."""
        cells, path = self.cells, self._path
        new = len(cells)
        links = range(LINKS, LINKS + (2 if draw & 15 else 3))
        cells += (key, sequence, value, *[cells[path[link] + link] for link in links])
        for link in links:
            cells[path[link] + link] = path[link] = new
        if not draw:
            keys = self._lane_keys
            at = bisect_left(keys, key) if keys and keys[-1] >= key else len(keys)
            self._lane_nodes.insert(at, new)  # rule 3
            keys.insert(at, key)

    def seek(self, key: bytes) -> int:
        """The first node whose key is not smaller than `key`, HEAD if there is none. O(log n) comparisons."""
        cells = self.cells
        node = self._lane_before(key)
        bound = after = HEAD
        for link in _DOWN:
            after = cells[node + link]
            while after != bound and cells[after] < key:
                node = after
                after = cells[node + link]
            bound = after
        return after

    def _lane_before(self, key: bytes | None) -> int:
        """The last node of the lane whose key is smaller than `key` (None: the last one), HEAD if there is none."""
        at = len(self._lane_keys) if key is None else bisect_left(self._lane_keys, key)
        return self._lane_nodes[at - 1] if at else HEAD

    def stretch_before(self, stop: bytes | None) -> int:
        """The first node of a short stretch that ends just before `stop` (None: the end), HEAD if nothing is before it.

        All nodes from there on with keys below `stop` are what a reverse scan returns next; they are some 64, because
        the stretch begins at a node of the lane. The node before it has another key. O(log n) comparisons.
        """
        cells = self.cells
        node = self._lane_before(stop)
        first: int = self.seek(cells[node]) if node != HEAD else cells[HEAD + LINKS]
        return first if first != HEAD and (stop is None or cells[first] < stop) else HEAD

    # ---- in the order of insertion ----------------------------------------------------------------------------------

    def arrivals(self, position: int, sequence: int) -> Iterator[tuple[bytes, bytes | None, int]]:
        """(key, value, position after it) of the nodes from a position of the arena on, in the order of insertion, up
        to `sequence`. Requires: sequences ascend in that order. O(1) each.
        """
        cells = self.cells
        end = len(cells)
        while position < end and cells[position + 1] <= sequence:
            key, value = cells[position], cells[position + 2]
            position += LINKS + 1
            while position < end and type(cells[position]) is int:  # the links; a node begins with its key
                position += 1
            yield key, value, position

    def position_after(self, sequence: int, limit: int) -> int | None:
        """The arena's position after the last node up to `sequence`; None if more than `limit` nodes follow it.

        Requires: as `arrivals`. O(nodes that follow it).
        """
        cells = self.cells
        position = len(cells)
        for _ in range(limit + 1):
            value = position - 1
            while type(cells[value]) is int:
                value -= 1
            if cells[value - 1] <= sequence:
                return position
            position = value - 2
        return None
