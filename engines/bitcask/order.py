"""The keys of a hash in order: a list of sorted lists, made when first asked for, and brought up to date when asked again.

    lists    [a b c] [f g] [k m p]       some LIST_KEYS keys in each, none empty
    lasts     c       g     p            the last key of each, to find the list that a key belongs to

The writer only notes which keys came and went, in O(1). The next look sorts those in, each by a bisection and a move
within one list. Stores that are never scanned pay nothing.

The shape is that of sortedcontainers' SortedList. This one hands out keys by slices of its lists, which a scan takes in
chunks, and not one by one.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Collection

__all__ = ["KeyOrder"]

LIST_KEYS = 512


class KeyOrder:
    """The keys of a mapping in order."""

    __slots__ = ("_count", "_lasts", "_lists", "changed", "made")  # all but `made` from `_make` on

    _count: int
    _lists: list[list[bytes]]
    _lasts: list[bytes]
    changed: set[bytes]  # keys that may have come or gone since

    def __init__(self) -> None:
        self.made = False

    def note(self, key: bytes) -> None:
        """The key has come or gone. O(1). Requires: `made`."""
        self.changed.add(key)
        # Beyond this many it is no dearer to sort all keys anew, so the order is given up until it is asked for. Else a
        # store that was scanned once would remember every key that has come and gone since.
        if 8 * len(self.changed) > self._count:
            self.made = False
            self.changed.clear()
            self._lists, self._lasts = [], []

    def take(
        self, places: Collection[bytes], start: bytes, stop: bytes | None, count: int, *, after: bool, reverse: bool
    ) -> list[bytes]:
        """The first `count` keys of `places` with start <= key < stop, or the last, the greatest first, if `reverse`.

        With `after`, `start` itself is left out. O(log n), and O(log n) for each noted key; O(n log n) at first.
        """
        if not self.made:
            self._make(places)
        elif self.changed:
            self._update(places)
        if reverse:
            return self._before(start, stop, count)
        lists = self._lists
        at = bisect_left(self._lasts, start)
        if at == len(lists):
            return []
        first = lists[at]
        begin = bisect_right(first, start) if after else bisect_left(first, start)
        keys = first[begin : begin + count]
        while len(keys) < count and (at := at + 1) < len(lists):
            keys += lists[at][: count - len(keys)]
        if stop is not None and keys and keys[-1] >= stop:
            del keys[bisect_left(keys, stop) :]
        return keys

    def _before(self, start: bytes, stop: bytes | None, count: int) -> list[bytes]:
        lists = self._lists
        keys: list[bytes] = []
        at, end = len(lists), 0
        if stop is not None and (at := bisect_left(self._lasts, stop)) < len(lists):
            end = bisect_left(lists[at], stop)
        while True:
            if end:
                keys += lists[at][max(0, end - (count - len(keys))) : end][::-1]
            if len(keys) == count or at == 0:
                break
            at -= 1
            end = len(lists[at])
        while keys and keys[-1] < start:
            keys.pop()
        return keys

    def _make(self, places: Collection[bytes]) -> None:
        keys = sorted(places)
        self._count = len(keys)
        self._lists = [keys[at : at + LIST_KEYS] for at in range(0, len(keys), LIST_KEYS)]
        self._lasts = [part[-1] for part in self._lists]
        self.changed = set()
        self.made = True

    def _update(self, places: Collection[bytes]) -> None:
        for key in self.changed:
            at = bisect_left(self._lasts, key)
            part = self._lists[at] if at < len(self._lists) else []
            position = bisect_left(part, key)
            known = position < len(part) and part[position] == key
            if known and key not in places:
                self._remove(at, position)
            elif not known and key in places:
                self._insert(at, key)
        self.changed.clear()

    def _remove(self, at: int, position: int) -> None:
        part = self._lists[at]
        del part[position]
        self._count -= 1
        if part:
            self._lasts[at] = part[-1]
        else:
            del self._lists[at], self._lasts[at]

    def _insert(self, at: int, key: bytes) -> None:
        """Into the list `at`, or the last one if there are not so many; a list that has grown to twice its size splits."""
        if not self._lists:
            self._lists, self._lasts = [[]], [key]
        at = min(at, len(self._lists) - 1)
        part = self._lists[at]
        insort(part, key)
        self._lasts[at] = part[-1]
        self._count += 1
        if len(part) > 2 * LIST_KEYS:
            self._lists.insert(at + 1, part[LIST_KEYS:])
            del part[LIST_KEYS:]
            self._lasts.insert(at, part[-1])

    def check(self, places: Collection[bytes]) -> bool:
        """True if the order, once up to date, is that of `places`, and what it knows of itself is right."""
        keys = self.take(places, b"", None, len(places) + 1, after=False, reverse=False)
        lists = self._lists
        whole = all(lists) and self._lasts == [part[-1] for part in lists] and self._count == len(keys)
        return whole and keys == sorted(places)
