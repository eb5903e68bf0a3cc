"""Long work beside the node's thread, in pieces: the interpreter runs one thread at a time.

A thread that computes without a pause gives the interpreter away only when it is asked to, and it is asked 5 ms after
another one wants it (`sys.getswitchinterval`). The node's thread wants it again after each system call: a Ready with ten of
them would take 50 ms, beside a scan of the whole engine. So such work stops after each PIECE_S for as long as REST_S, and
the node's thread finds the interpreter free after a millisecond or two.
"""

from __future__ import annotations

import threading
import time

__all__ = ["Pace"]

PIECE_S = 0.002
REST_S = (
    0.0005  # a pause of none would not do: who gives the interpreter away may have it back before the other wakes up
)
STEPS = 16  # between two looks at the clock


class Pace:
    """Counts the steps of one thread's work, and rests when a piece is done."""

    def __init__(self, stop: threading.Event) -> None:
        """stop: ends a rest, and the work."""
        self._stop = stop
        self._left = STEPS
        self._until = time.monotonic() + PIECE_S

    def step(self) -> bool:
        """Called for each small step, such as a pair; rests if it is time. True if the work has to be given up. O(1)."""
        self._left -= 1
        if self._left:
            return self._stop.is_set()
        self._left = STEPS
        if time.monotonic() >= self._until:
            self._stop.wait(REST_S)
            self._until = time.monotonic() + PIECE_S
        return self._stop.is_set()
