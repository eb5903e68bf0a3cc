"""Which keys the clients use: a few at a time, so that they meet, and new ones before a key has too many operations.

    g00001/a g00001/b g00001/c        the first group; then g00002/…, as soon as one key of it has had its share

A scan is about a whole group, and counts for each key of it.
"""

from __future__ import annotations

import random
import threading
from collections import Counter

from tests.cluster.verdict import KEY_OPERATIONS_MAX

__all__ = ["GROUPS", "Keys"]

GROUPS = b"g"  # what all keys of clients begin with
LETTERS = (b"a", b"b", b"c")
SPARE = 12  # operations of a key that a round adds after the load: the scans of the end


class Keys:
    """The group in use. For any thread."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._group = 0
        self._used: Counter[bytes] = Counter()
        self._names: list[bytes] = []
        self._next()

    def one(self, rng: random.Random) -> bytes:
        """A key for one more operation."""
        with self._guard:
            key = rng.choice(self._names)
            self._count([key])
            return key

    def prefix(self) -> bytes:
        """What the keys of the group begin with, for one more scan."""
        with self._guard:
            prefix = self._names[0][:-1]
            self._count(self._names)
            return prefix

    def _count(self, names: list[bytes]) -> None:
        self._used.update(names)
        if max(self._used[name] for name in names) >= KEY_OPERATIONS_MAX - SPARE:
            self._next()

    def _next(self) -> None:
        self._group += 1
        self._names = [b"%b%05d/%b" % (GROUPS, self._group, letter) for letter in LETTERS]
