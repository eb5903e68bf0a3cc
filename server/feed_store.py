"""The part of a frame that tells of the engine: `describe()` and `stats()`, and which applied index they belong to.

The feed's thread asks the engine, which any thread may; entries may be applied meanwhile. So the frame says `applied` and
`until`, the indexes before and after: between the two nothing else can have been seen, and once nothing is written they
are the same, and so is what `GET /_/describe` says.

A frame has the engine's `sketch()`, a description of a few KB with "counters" in it (engines/telling.py); `GET /_/describe`
has `describe()` and `stats()`, whole. Whatever it takes, the feed spends SHARE_MAX of its time with it at most.
"""

from __future__ import annotations

import time
from typing import Any

from engines.errors import StoreError
from server.node_metrics import stats_of
from server.watched import Watched

__all__ = ["StorePart", "describe_store"]

PERIOD_S = 0.5
SHARE_MAX = 0.05


def describe_store(watched: Watched, whole: bool) -> dict[str, Any]:
    """What the engine tells of itself now: {"applied", "describe", "until"}, and "stats" if it is to be whole. Raises StoreError."""
    store, machine = watched.store, watched.machine
    applied = machine.applied_index
    told = {"describe": store.describe(), "stats": stats_of(store.stats())} if whole else {"describe": store.sketch()}
    return {"applied": applied, **told, "until": machine.applied_index}


class StorePart:
    """The frame's "store", at most twice a second, and only if something changed. For the feed's thread."""

    def __init__(self, watched: Watched) -> None:
        self._watched = watched
        self._next = 0.0
        self._told: dict[str, Any] | None = None

    def forget(self) -> None:
        """Somebody came who has seen nothing: the next part is a whole one, at once."""
        self._told, self._next = None, 0.0

    def part(self) -> dict[str, Any] | None:
        """What is new, or None."""
        begun = time.monotonic()
        if begun < self._next:
            return None
        try:
            told = describe_store(self._watched, whole=False)
        except StoreError:  # it is closed, or has failed, and the node is about to say so
            return None
        ended = time.monotonic()
        self._next = ended + max(PERIOD_S, (ended - begun) / SHARE_MAX)
        if told == self._told:
            return None
        self._told = told
        return told
