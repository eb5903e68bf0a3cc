"""The last lines of a terminal, drawn again and again, while other lines scroll by above them.

    [node 2] loads the snapshot of index 120        say: the block is taken away, the line written, the block drawn again
    node 1  leader    term 3  applied 1,204  410 writes/s  1.4 MB  ┐
    node 2  follower  term 3  applied 1,204  410 writes/s  2.1 MB  │ draw: the block, one line for each node
    node 3  away                                                   ┘

Every line is cut to the terminal's width: one that wrapped would be two, and the next drawing would leave one behind.
Everything goes through one writer, which nobody waits for (server/logs.py).
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from server.status_table import byte_size

__all__ = ["LiveLines", "Rates"]


class LiveLines:
    """A block of lines at the end of a terminal. `say` is for any thread."""

    def __init__(self, write: Callable[[str], None], width: Callable[[], int] | None = None) -> None:
        """write: has a line, or several, written with a line feed after them."""
        self._write = write
        self._width = width or (lambda: shutil.get_terminal_size().columns)
        self._block: list[str] = []
        self._guard = threading.Lock()

    def draw(self, lines: Sequence[str]) -> None:
        """Puts these lines, at least one, in the place of the last ones."""
        with self._guard:
            gone = self._taken_away()
            self._block = [line[: max(1, self._width() - 1)] for line in lines]
            if self._block:
                self._write(gone + "\n".join(self._block))

    def say(self, line: str) -> None:
        """Writes a line above the block."""
        with self._guard:
            self._write(self._taken_away() + "\n".join([line, *self._block]))

    def end(self) -> None:
        """Leaves the block where it is; what comes now is written below it."""
        with self._guard:
            self._block = []

    def _taken_away(self) -> str:
        """The cursor to the block's first line (CPL), and nothing from there on (ED)."""
        return f"\x1b[{len(self._block)}F\x1b[J" if self._block else ""


class Rates:
    """Turns what nodes say of themselves into live lines, with the writes a second since the last time."""

    def __init__(self) -> None:
        self._last: dict[int, tuple[float, int]] = {}

    def line(self, node_id: int, status: Mapping[str, Any] | None, now: float, away: str = "away") -> str:
        """One node's line; None: it didn't answer, and `away` is how it is. now: seconds."""
        if status is None:
            self._last.pop(node_id, None)
            return f"node {node_id}  {away}"
        applied = status["applied_index"]
        before = self._last.get(node_id)
        self._last[node_id] = (now, applied)
        rate = max(0.0, (applied - before[1]) / (now - before[0])) if before is not None and now > before[0] else 0.0
        role = str(status["role"]).replace("_", "-")
        return (
            f"node {node_id}  {role:<13}  term {status['term']}  applied {applied:,}  {rate:,.0f} writes/s  "
            f"{byte_size(status['stats']['disk_bytes'])}"
        )
