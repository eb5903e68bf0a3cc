"""Who watches a key: watchers by key, and watchers of ranges in an interval tree.

    one key        b"a" ──▶ group                       a dictionary: O(1)
    ranges         [b"a", b"k")  ──▶ group              a treap by where ranges begin; each node knows the furthest end
                   /          \\                         below it, so that a subtree that ends before the key isn't entered
         [b"a", b"c")     [b"d", to the end)

A group has all watchers of one and the same key or range, so that a thousand of them are found as fast as one.

Invariants:

1. Nodes are ordered by (start, stop); a node's priority is not below its children's; `furthest` is the greatest stop in
   its subtree.
2. No group is empty.

A treap, because what keeps it balanced is a number drawn for each node: `_split` and `_merged` are all that it takes.
Follows etcd's watcher_group.go and pkg/adt/interval_tree.go (there a red-black tree), and Seidel and Aragon, "Randomized
search trees" (1996).
"""

from __future__ import annotations

import random
from bisect import bisect_left, bisect_right
from collections import Counter
from typing import Generic, TypeVar

from server.limits import KEY_BYTES_MAX

__all__ = ["TO_THE_END", "WatchIndex", "Watched"]

TO_THE_END = b"\xff" * (KEY_BYTES_MAX + 1)  # a stop that comes after every key

Watcher = TypeVar("Watcher")
Group = dict[Watcher, None]  # a set that keeps the order in which they came


class _Node(Generic[Watcher]):
    __slots__ = ("furthest", "group", "left", "priority", "right", "start", "stop")

    def __init__(self, start: bytes, stop: bytes, priority: float) -> None:
        self.start, self.stop, self.priority = start, stop, priority
        self.furthest = stop
        self.group: Group[Watcher] = {}
        self.left: _Node[Watcher] | None = None
        self.right: _Node[Watcher] | None = None


class WatchIndex(Generic[Watcher]):
    """Watchers, by what they watch: a key (stop None), or the keys from `key` on and before `stop`. For one thread."""

    def __init__(self) -> None:
        self._keys: dict[bytes, Group[Watcher]] = {}
        self._ranges: dict[tuple[bytes, bytes], _Node[Watcher]] = {}
        self._root: _Node[Watcher] | None = None
        self._draw = random.Random(0).random
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def add(self, key: bytes, stop: bytes | None, watcher: Watcher) -> None:
        """Adds a watcher that isn't here. O(log ranges)."""
        self._size += 1
        if stop is None:
            self._keys.setdefault(key, {})[watcher] = None
            return
        node = self._ranges.get((key, stop))
        if node is None:
            node = self._ranges[key, stop] = _Node(key, stop, self._draw())
            less, rest = _split(self._root, (key, stop))
            self._root = _merged(_merged(less, node), rest)
        node.group[watcher] = None

    def remove(self, key: bytes, stop: bytes | None, watcher: Watcher) -> None:
        """Removes a watcher that is here. O(log ranges)."""
        self._size -= 1
        if stop is None:
            group = self._keys[key]
            del group[watcher]
            if not group:
                del self._keys[key]
            return
        node = self._ranges[key, stop]
        del node.group[watcher]
        if not node.group:
            del self._ranges[key, stop]
            self._root = _without(self._root, node)

    def at(self, key: bytes) -> list[Group[Watcher]]:
        """The groups whose watchers watch this key: not to be changed meanwhile. O(log ranges) for each group."""
        group = self._keys.get(key)
        found = [] if group is None else [group]
        if self._root is not None:
            _stab(self._root, key, found)
        return found

    def watchers(self) -> list[Watcher]:
        """All of them. O(watchers)."""
        groups = [*self._keys.values(), *(node.group for node in self._ranges.values())]
        return [watcher for group in groups for watcher in group]


def _stab(node: _Node[Watcher] | None, key: bytes, found: list[Group[Watcher]]) -> None:
    """Adds the groups of the subtree's ranges that have the key."""
    while node is not None and node.furthest > key:
        _stab(node.left, key, found)
        if node.start > key:
            return
        if node.stop > key:
            found.append(node.group)
        node = node.right


def _split(node: _Node[Watcher] | None, at: tuple[bytes, bytes]) -> tuple[_Node[Watcher] | None, _Node[Watcher] | None]:
    """The subtree's nodes before (start, stop), and the others, as two trees."""
    if node is None:
        return None, None
    if (node.start, node.stop) < at:
        node.right, rest = _split(node.right, at)
        return _measured(node), rest
    less, node.left = _split(node.left, at)
    return less, _measured(node)


def _merged(left: _Node[Watcher] | None, right: _Node[Watcher] | None) -> _Node[Watcher] | None:
    """One tree of two, of which the left one's nodes come first."""
    if left is None or right is None:
        return left or right
    if left.priority > right.priority:
        left.right = _merged(left.right, right)
        return _measured(left)
    right.left = _merged(left, right.left)
    return _measured(right)


def _without(node: _Node[Watcher] | None, gone: _Node[Watcher]) -> _Node[Watcher] | None:
    """The subtree without one of its nodes."""
    assert node is not None
    if node is gone:
        return _merged(node.left, node.right)
    if (gone.start, gone.stop) < (node.start, node.stop):
        node.left = _without(node.left, gone)
    else:
        node.right = _without(node.right, gone)
    return _measured(node)


def _measured(node: _Node[Watcher]) -> _Node[Watcher]:
    """The node, with `furthest` as its children have it now."""
    node.furthest = node.stop
    for child in (node.left, node.right):
        if child is not None and child.furthest > node.furthest:
            node.furthest = child.furthest
    return node


class Watched:
    """Which keys are watched by anybody: for one thread that says so, and another one that asks, without a lock.

        ranges   [a, c)  [b, d)  [x, y)        bounds   a d x y        between the 1st and the 2nd, the 3rd and the 4th: watched

    `has` may say yes of a key that isn't watched any more: the bounds are made anew when half of the ranges have gone,
    so that the end of a stream with ten thousand of them takes no time that others would miss. It never says no of a key
    that was added before: the bounds change in one step, which no other thread sees halves of (one slice of a list).
    """

    def __init__(self) -> None:
        self._keys: Counter[bytes] = Counter()
        self._ranges: Counter[tuple[bytes, bytes]] = Counter()
        self._bounds: list[bytes] = []
        self._gone = 0  # ranges that were removed since the bounds were made
        self.somebody = False

    def add(self, key: bytes, stop: bytes | None) -> None:
        """One more watches this. O(log ranges)."""
        if stop is None:
            self._keys[key] += 1
        else:
            self._ranges[key, stop] += 1
            if self._ranges[key, stop] == 1:
                self._include(key, stop)
        self.somebody = True

    def remove(self, key: bytes, stop: bytes | None) -> None:
        """One less. O(log ranges), amortized."""
        where: Counter[object] = self._keys if stop is None else self._ranges  # type: ignore[assignment]
        what = key if stop is None else (key, stop)
        where[what] -= 1
        if not where[what]:
            del where[what]
            if stop is not None:
                self._gone += 1
                if self._gone >= len(self._ranges):
                    self._make_anew()
        self.somebody = bool(self._keys or self._ranges)

    def has(self, key: bytes) -> bool:
        """Whether somebody watches the key. O(log ranges)."""
        return key in self._keys or (bool(self._bounds) and bisect_right(self._bounds, key) % 2 == 1)

    def _include(self, start: bytes, stop: bytes) -> None:
        """Adds a range to the bounds: those within it go. An odd number of bounds before a key: it is in a range already."""
        bounds = self._bounds
        first, after = bisect_left(bounds, start), bisect_right(bounds, stop)
        bounds[first:after] = [start] * (first % 2 == 0) + [stop] * (after % 2 == 0)

    def _make_anew(self) -> None:
        bounds: list[bytes] = []
        for start, stop in sorted(self._ranges):
            if bounds and start <= bounds[-1]:
                bounds[-1] = max(bounds[-1], stop)
            else:
                bounds += start, stop
        self._bounds, self._gone = bounds, 0
