"""Snapshots: the store as of one sequence.

Taking one costs nothing: it is a number. Compaction keeps, of each key, the newest version that the oldest snapshot may
see; so an old snapshot costs space, and one that is forgotten counts no longer (the store knows its snapshots weakly).

`load` replaces the content not by newer versions but by other tables: snapshots that are open then are *pinned* to the
state from before, whose memtables and tables they keep alive.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from engines.errors import StoreClosed
from engines.kvstore import Pair, Snapshot, check_key_type, scan_bounds
from engines.lifetime import holding
from engines.lsm.keys import ABSENT
from engines.lsm.state import State

if TYPE_CHECKING:
    from engines.lsm.store import LsmStore

__all__ = ["LsmSnapshot"]


class LsmSnapshot(Snapshot):
    """A view of one sequence; for any number of threads. get and scan cost what the store's cost."""

    def __init__(self, store: LsmStore, sequence: int) -> None:
        self._store = store
        self._open = True
        self.sequence = sequence
        self.pinned: State | None = None  # set by load
        self.taken_at = store.core.env.now()

    def get(self, key: bytes, default: bytes | None = None) -> bytes | None:
        check_key_type(key)
        self._check_open()
        store = self._store
        store.core.stats.gets += 1
        found = store.core.lookup(self._state(), key, self.sequence)
        return default if found is None or found is ABSENT else found

    def scan(
        self,
        start: bytes = b"",
        stop: bytes | None = None,
        *,
        prefix: bytes | None = None,
        reverse: bool = False,
    ) -> Iterator[Pair]:
        start, stop = scan_bounds(start, stop, prefix)
        self._check_open()
        return self._store.pairs(self._state(), self.sequence, start, stop, reverse, self)

    def _state(self) -> State:
        """What to read. In this order: `load` pins before it replaces the state."""
        state = self._store.core.state
        return self.pinned or state

    @property
    def is_open(self) -> bool:
        """False after `close`."""
        return self._open

    def _check_open(self) -> None:
        self._store.check_usable()
        if not self._open:
            raise StoreClosed("the snapshot is closed: take another one")

    def close(self) -> None:
        """What only this snapshot needed goes at the next compaction of where it is."""
        holding(self._store.core.state_lock, self._close)

    def _close(self) -> None:
        self._open = False
        self.pinned = None
        self._store.core.snapshots.discard(self)
