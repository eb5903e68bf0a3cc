"""The inbox of the thread that owns the Raft node: what all other threads hand in, in its order.

    HTTP threads, peers' threads, jobs ── put ──▶ [ event, event, … ] ── wait ──▶ the node's thread takes all there is

`Inbox` is the plain form, a queue. server/loop.py has the fast one, which waits for sockets with the same call; the node
takes it unless METCD_PLAIN is set (`new_inbox`).

Follows raftexample's `proposeC` and `confChangeC`, which are one inbox here.
"""

from __future__ import annotations

import queue
from typing import Any

__all__ = ["Event", "Inbox"]

Event = tuple[int, Any]  # a kind (server/node.py has them), and what it carries


class Inbox:
    """A queue of events. `put` is for any thread; the rest is for the one that owns it."""

    def __init__(self) -> None:
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()

    def put(self, event: Event) -> None:
        """Hands an event in. Never blocks. O(1)."""
        self._events.put(event)

    def wait(self, timeout_s: float) -> list[Event]:
        """All events that are there, in their order; waits for the first one, up to `timeout_s`. [] if none comes."""
        try:
            events = [self._events.get(timeout=max(timeout_s, 0))]
        except queue.Empty:
            return []
        return events + self.drain()

    def drain(self) -> list[Event]:
        """All events that are there; doesn't wait."""
        return [self._events.get() for _ in range(self._events.qsize())]

    def waiting(self) -> int:
        """How many events are there. For any thread."""
        return self._events.qsize()

    def close(self) -> None:
        """The owner ends. Nobody takes anything any more, but for what `drain` still gives."""
