"""Snapshots: the store as of one sequence.

Taking one costs nothing: it is a number. Compaction keeps, of each key, the newest version that the oldest snapshot may
see; so an old snapshot costs space, and one that is forgotten counts no longer (the core knows its view weakly).

`load` replaces the content not by newer versions but by other tables: snapshots that are open then are *pinned* to the
state from before, whose memtables and tables they keep alive.
"""

from __future__ import annotations

from collections.abc import Iterator

from engines.kvstore import KVStore, Pair, Snapshot, check_key_type, scan_bounds
from engines.lsm.core import Core
from engines.lsm.keys import ABSENT
from engines.lsm.state import Scan, State, check_open

__all__ = ["LsmSnapshot"]


class LsmSnapshot(Snapshot):
    """A view of one sequence; for any number of threads. get and scan cost what the store's cost.

    store: whose snapshot it is; it lives as long as the snapshot.
    """

    def __init__(self, core: Core, store: KVStore) -> None:
        self._core = core
        self._store = store
        self._view = core.take_view()
        self.sequence = self._view.sequence

    def get(self, key: bytes, default: bytes | None = None) -> bytes | None:
        check_key_type(key)
        check_open(self._core, self._view)
        core = self._core
        core.stats.gets += 1
        found = core.lookup(self._state(), core.tables, key, self.sequence)
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
        check_open(self._core, self._view)
        return self._core.pairs(self._state(), Scan(start, stop, self.sequence, reverse), self._store, self._view)

    def _state(self) -> State:
        """What to read. In this order: `load` pins before it replaces the state."""
        state = self._core.state
        return self._view.pinned or state

    def close(self) -> None:
        """What only this snapshot needed goes at the next compaction of where it is."""
        self._core.close_view(self._view)
