"""What a stream has to do that waits: in a worker, one after the other, so that its answers keep their order.

add, add, add ─▶ [jobs of this stream] ─▶ work(run) ─▶ a worker runs one, and asks for the next turn
                                             ▲                    │
                                             └────────────────────┘  so that one stream with many jobs leaves room for others
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

__all__ = ["Jobs"]


class Jobs:
    """The jobs of one stream. `add` is for any thread."""

    def __init__(
        self, work: Callable[[Callable[[], object]], object], done: Callable[[Exception | None], object]
    ) -> None:
        """work: has a function called by a worker. done: told after each job, with what it has raised, in that worker."""
        self._work = work
        self._done = done
        self._guard = threading.Lock()
        self._waiting: deque[Callable[[], object]] = deque()
        self._running = False

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def add(self, function: Callable[[], object]) -> None:
        """Has a function run after those that were added before."""
        with self._guard:
            self._waiting.append(function)
            if self._running:
                return
            self._running = True
        self._work(self._run)

    def clear(self) -> None:
        """Nobody wants those that wait."""
        with self._guard:
            self._waiting.clear()

    def _run(self) -> None:
        with self._guard:
            function = self._waiting.popleft() if self._waiting else None
        failure: Exception | None = None
        if function is not None:
            try:
                function()
            except Exception as error:
                failure = error
            self._done(failure)
        with self._guard:
            self._running = more = bool(self._waiting)
        if more:
            self._work(self._run)
