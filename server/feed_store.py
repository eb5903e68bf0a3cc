"""The part of a frame that tells of the engine: `describe()` and `stats()`, and which applied index they belong to.

The feed's thread asks the engine, which any thread may; entries may be applied meanwhile. So the frame says `applied` and
`until`, the indexes before and after: between the two nothing else can have been seen, and once nothing is written they
are the same, and so is what `GET /_/describe` says.

A description has to be bounded. An engine that has a method `sketch() -> dict` is asked for that, a description in which
what grows with the store is summed up; of another one's `describe()` long lists and strings are cut, and the cut says so.
`GET /_/describe` has the whole. Whatever it takes, the feed spends SHARE_MAX of its time with it at most.
"""

from __future__ import annotations

import time
from typing import Any

from engines.errors import StoreError
from engines.kvstore import KVStore
from server.node_metrics import stats_of
from server.watched import Watched

__all__ = ["StorePart", "describe_store"]

PERIOD_S = 0.5
SHARE_MAX = 0.05
ITEMS_MAX = 256  # of a list
SHOWN_ITEMS = 64
TEXT_MAX = 4096


def describe_store(watched: Watched, whole: bool) -> dict[str, Any]:
    """What the engine tells of itself now: {"applied", "until", "describe", "stats"}. Raises StoreClosed, StoreFailed."""
    store, machine = watched.store, watched.machine
    applied = machine.applied_index
    described = store.describe() if whole else _sketch(store)
    return {
        "applied": applied,
        "describe": described,
        "stats": stats_of(store.stats()),
        "until": machine.applied_index,
    }


def _sketch(store: KVStore) -> dict[str, Any]:
    sketch = getattr(store, "sketch", None)
    described: dict[str, Any] = bounded(store.describe()) if sketch is None else sketch()
    return described


def bounded(value: Any) -> Any:
    """The same with long lists and strings cut: {"cut": how long it was, "first": what it began with}."""
    if isinstance(value, dict):
        return {name: bounded(each) for name, each in value.items()}
    if isinstance(value, list):
        if len(value) > ITEMS_MAX:
            return {"cut": len(value), "first": [bounded(each) for each in value[:SHOWN_ITEMS]]}
        return [bounded(each) for each in value]
    if isinstance(value, str) and len(value) > TEXT_MAX:
        return {"cut": len(value), "first": value[:TEXT_MAX]}
    return value


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
