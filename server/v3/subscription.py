"""A watch within the server, for who waits in a thread of its own: a lock for the key before it, say.

    hub (the streams' thread) ── deliver ─▶ [revisions with their changes, QUEUED_MAX of them] ── next ─▶ a thread
                                               │ full: the hub goes on from the history when there is room again

Invariants: those of the hub, for one reader. A revision's changes come together.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from server.mvcc import Change, Compacted
from server.v3.watch_hub import Block, Watcher, WatchHub

__all__ = ["Subscription"]

QUEUED_MAX = 1000  # changes


class Subscription:
    """The changes of a key, or of the keys from `key` on and before `stop`, from a revision on. Made by Etcd.subscribe."""

    def __init__(
        self,
        hub: WatchHub,
        call: Callable[[Callable[[], object]], object],
        key: bytes,
        stop: bytes | None,
        start: int,
    ) -> None:
        """hub: to be asked by way of `call` alone, which has a function called in the streams' thread. start: 0 means those
        changes that come from here on."""
        self._hub, self._call = hub, call
        self._guard = threading.Condition()
        self._queued: deque[Sequence[Change]] = deque()
        self._count = 0
        self._full = self._closed = False
        self._compacted: int | None = None
        self._watcher = Watcher(self, key, stop)
        start = start or hub.revision + 1
        call(lambda: self._closed or hub.watch(self._watcher, start))

    def next(self, timeout_s: float) -> Sequence[Change] | None:
        """The next changes, all of one revision or of several whole ones; None if there are none within `timeout_s`, or it is
        closed. Raises Compacted. For one thread."""
        with self._guard:
            self._guard.wait_for(lambda: self._queued or self._closed or self._compacted is not None, timeout_s)
            if not self._queued:
                if self._compacted is not None:
                    raise Compacted(self._compacted)
                return None
            changes = self._queued.popleft()
            self._count -= len(changes)
            resume = self._full and self._count <= QUEUED_MAX // 2
            if resume:
                self._full = False
        if resume:
            self._call(lambda: self._hub.resume(self))
        return changes

    def close(self) -> None:
        """Ends it; who waits is told. Twice is fine; for any thread."""
        with self._guard:
            self._closed = True
            self._guard.notify_all()
        self._call(lambda: self._hub.cancel(self._watcher))

    # ---- what the hub says ---------------------------------------------------------------------------------------

    @property
    def full(self) -> bool:
        """Whether it takes no more for now."""
        return self._full

    def deliver(self, watcher: Any, block: Block) -> None:
        """Queues the changes."""
        with self._guard:
            self._queued.append(block.changes)
            self._count += len(block.changes)
            self._full = self._count >= QUEUED_MAX
            self._guard.notify_all()

    def compacted(self, watcher: Any, revision: int) -> None:
        """What it wants isn't there any more."""
        with self._guard:
            self._compacted = revision
            self._guard.notify_all()
