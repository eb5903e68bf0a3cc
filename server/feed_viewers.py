"""Who watches a node: a bounded queue of frames for each viewer, and what happens to one that doesn't take them.

    the feed's thread ── send(block) ──▶ queue ──▶ a viewer's connection thread ──▶ its socket
                                          │ full
                                          ▼
                                        the viewer is dropped: its page connects again, and begins with a whole frame

Invariants:

1. `send` never blocks, and a viewer that takes nothing costs QUEUE_MAX references to blocks that all viewers share.
2. A viewer has its place until its connection's thread has let go of it, dropped or not: so threads are bounded by
   VIEWERS_MAX, too.
3. A place is given back however the stream ends: read to its end, broken off, or never begun.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator

__all__ = ["QUEUE_MAX", "Viewers"]

QUEUE_MAX = 16  # frames that wait for one viewer: more than a second of them

HELLO = b"retry: 1000\n\n"  # how many milliseconds a page waits before it connects again


class Viewer:
    """One stream. The feed's thread puts, the connection's takes."""

    __slots__ = ("over", "waiting")

    def __init__(self) -> None:
        self.waiting: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()  # None: the end
        self.over = False  # it gets nothing any more


class Viewers:
    """The viewers of one node. For any thread."""

    def __init__(self, most: int, left: Callable[[], object]) -> None:
        """most: how many may be there at a time. left: told after each that went."""
        self._most = most
        self._left = left
        self._guard = threading.Lock()
        self._here: set[Viewer] = set()
        self._closed = False
        self.dropped = 0  # how many were too slow

    def __len__(self) -> int:
        """How many are there, and take frames."""
        return sum(not viewer.over for viewer in list(self._here))

    def join(self) -> Iterator[bytes] | None:
        """A new viewer's blocks, until it is dropped or all is closed; None if there is no place for it."""
        viewer = Viewer()
        with self._guard:
            if len(self._here) >= self._most or self._closed:
                return None
            self._here.add(viewer)
        blocks = self._blocks(viewer)
        return _chained(next(blocks), blocks)  # begun, so that it is ended

    def _blocks(self, viewer: Viewer) -> Iterator[bytes]:
        try:
            yield HELLO
            while (block := viewer.waiting.get()) is not None and not viewer.over:
                yield block
        finally:
            with self._guard:
                self._here.discard(viewer)
            self._left()

    def send(self, block: bytes) -> None:
        """Queues a block for everybody; who has not taken QUEUE_MAX of them is dropped. O(viewers)."""
        for viewer in list(self._here):
            if viewer.over:
                continue
            if viewer.waiting.qsize() >= QUEUE_MAX:
                viewer.over = True
                self.dropped += 1
                viewer.waiting.put(None)  # it may have begun to wait since
            else:
                viewer.waiting.put(block)

    def end(self) -> None:
        """Ends all streams, whatever waits for them."""
        for viewer in list(self._here):
            viewer.over = True
            viewer.waiting.put(None)

    def close(self) -> None:
        """The same, and nobody joins any more."""
        with self._guard:
            self._closed = True
        self.end()


def _chained(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest
