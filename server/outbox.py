"""The outbox of the thread that owns the Raft node: what leaves for the peers goes through it, in its order.

`Outbox` is the plain form, which holds nothing back. server/loop_notices.py has the fast one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from raft.raftpb import Message

__all__ = ["Outbox"]


class Outbox:
    """What one node sends. For the node's thread."""

    def __init__(
        self, send: Callable[[Sequence[Message]], object], now: Callable[[], float], settled: Callable[[], bool]
    ) -> None:
        """send: to the peers. now: seconds. settled: whether every membership change in the log is applied here."""
        self._send = send
        self._now = now
        self._settled = settled
        self.due = math.inf  # when what is held back has to leave

    def heard(self, messages: Sequence[Message]) -> None:
        """Messages have come in."""

    def send(self, messages: Sequence[Message]) -> None:
        """Sends messages, or holds some of them back until `due`; the order for each peer stays."""
        self._send(messages)

    def flush(self) -> None:
        """Sends what has been held back for long enough."""
