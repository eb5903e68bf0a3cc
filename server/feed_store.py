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
BACKGROUND = {"flushes": "flush", "compactions": "compaction", "merges": "merge"}  # counters, and what one of them is


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
        self._done: dict[str, int] | None = (
            None  # what the engine had done in the background, when it was looked at last
        )
        self.events: list[list[Any]] = []  # of the last call of `part`

    def forget(self) -> None:
        """Somebody came who has seen nothing: the next part is a whole one, at once."""
        self._told, self._next = None, 0.0

    def part(self) -> dict[str, Any] | None:
        """What is new, or None."""
        self.events = []
        begun = time.monotonic()
        if begun < self._next:
            return None
        try:
            told = describe_store(self._watched, whole=False)
        except StoreError:  # it is closed, or has failed, and the node is about to say so
            return None
        ended = time.monotonic()
        self._next = ended + max(PERIOD_S, (ended - begun) / SHARE_MAX)
        self._note(told["describe"].get("counters", {}))
        if told == self._told:
            return None
        self._told = told
        return told

    def _note(self, counters: dict[str, Any]) -> None:
        """Makes events of what an engine has done since the last look, by the counters that it has."""
        before, self._done = self._done, {name: counters[name] for name in BACKGROUND if name in counters}
        if before is None:
            return
        for name, count in self._done.items():
            if (more := count - before.get(name, 0)) > 0:
                self.events.append([BACKGROUND[name], {"count": more}])
