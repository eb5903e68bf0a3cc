"""A place in the store from which to go either way; both kinds of iterators stand on one.

An iterator of plyvel stands between two keys. Here its place is one bound: every key on its left is below the bound,
every key on its right is not. A step to the right is the first pair of a scan from the bound; a step to the left is the
first pair of a reverse scan up to it. Steps in one direction share one scan.
"""

from __future__ import annotations

from collections.abc import Iterator as AnyIterator

from engines.kvstore import Snapshot
from engines.lsm.store import LsmStore
from tests.interop.plyvel_adapter.errors import translated

__all__ = ["Cursor"]


class Cursor:
    """A place between two keys of [low, high), from which to go either way."""

    def __init__(
        self, store: LsmStore, snapshot: Snapshot | None, low: bytes, high: bytes | None, at: bytes | None
    ) -> None:
        with translated():
            self._reader = store.snapshot() if snapshot is None else snapshot
            self._reader.scan()  # raises if it is closed
        self._own = snapshot is None
        self._low, self._high = low, high
        self.closed = False
        self.place(at)

    def place(self, at: bytes | None) -> None:
        """Goes to the bound `at`, or to the end of the range that is nearest; None is after all keys."""
        self.check()
        if self._high is not None:
            at = self._high if at is None else min(at, self._high)
        self._at = at if at is None else max(at, self._low)
        self._scan: AnyIterator[tuple[bytes, bytes]] | None = None

    def check(self) -> None:
        if self.closed:
            raise RuntimeError("the iterator is closed")

    def step(self, right: bool) -> tuple[bytes, bytes] | None:
        """The pair that is passed on the way; None at the end of the range, and then nothing moves."""
        self.check()
        with translated():
            if self._scan is None or self._right is not right:
                start, stop = (self._at, self._high) if right else (self._low, self._at)
                self._right = right
                self._scan = iter(()) if start is None else self._reader.scan(start, stop, reverse=not right)
            pair = next(self._scan, None)
            if pair is not None:
                self._at = pair[0] + b"\x00" if right else pair[0]
            return pair

    def close(self) -> None:
        self.closed = True
        self._scan = None
        if self._own:
            self._reader.close()
