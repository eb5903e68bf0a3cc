"""The sessions of one client: each write borrows one, so that threads that share a client don't wait for each other.

    write ──▶ a free session, or a new one ──▶ its next number ──▶ sent until it is answered ──▶ free again

Invariants:

1. A session is lent to one write at a time, and no number is lent twice.
2. A session that has expired is forgotten. Every other one is free again whatever came of the write: what stayed unknown
   is passed by the next number, and can't be applied after that one.
3. There are as many sessions as there were writes at the same time.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from server.errors import SessionExpired

__all__ = ["SessionPool"]


@dataclass(slots=True)
class _Session:
    id: int
    number: int = 0


class SessionPool:
    """Sessions that are open. For any thread."""

    def __init__(self) -> None:
        self._free: list[_Session] = []
        self._guard = threading.Lock()

    @contextlib.contextmanager
    def request(self, open_session: Callable[[], int]) -> Iterator[str]:
        """Lends a session for one write: what its header says. Raises what `open_session` raises."""
        with self._guard:
            session = self._free.pop() if self._free else None
        if session is None:
            session = _Session(open_session())
        session.number += 1
        try:
            yield f"{session.id}/{session.number}"
        except SessionExpired:
            raise
        except BaseException:
            self._give_back(session)
            raise
        self._give_back(session)

    def _give_back(self, session: _Session) -> None:
        with self._guard:
            self._free.append(session)
