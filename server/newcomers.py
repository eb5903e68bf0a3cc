"""Connections that wait for a place: many clients that come at the same moment are served one after the other, not refused.

    accept ─▶ a place is free? ─ yes ─▶ served
                │ no
                ▼
          [ unread ] ── it has sent something, and a spare place is free ──▶ is it about the node itself? ─ yes ─▶ answered
                │                                                                  │ no
                │ an ordinary place                                                ▼
                ▼                                                              [ read ]
             served  ◀──────────────────── an ordinary place ──────────────────────┘

256 places (server/limits.py) bound threads and memory, and a node's restart brings everybody who watched it back in the same
instant. A watch needs its place for a millisecond, until the streams' thread has it; so a refusal would tell a client to come
again in a second for what is there in a moment. Only if no place has become free for PLACE_S is it told so: 503.

Invariants:

1. What waits is bounded, in number and in time, and costs a descriptor and what was read: a head and one recv.
2. Who waits is served in the order of arrival; those whose request was read, and is none about the node, come first.
3. A spare place is for those who have sent something, and is given back if that isn't about the node: a full node still says
   how it is.
4. Places are given while `_turn` is held, so that after `close` nobody is served any more.

Follows haproxy's queue of a server that has reached its maxconn, with its `timeout queue`.
"""

from __future__ import annotations

import socket
import threading
import time
from collections import deque
from itertools import islice
from typing import Any, NamedTuple, Protocol

from server.slots import has_sent

__all__ = ["ORDINARY", "Newcomers", "Port"]

ORDINARY = (False,)
SPARE = (True,)
LOOKED_AT = 64  # of the unread ones, whether they have sent something, whenever a place may be free,
LOOK_S = 0.1  # and all of them after this time


class Port(Protocol):
    """What is asked of the listener (server/http.py)."""

    def take(self, connection: socket.socket, kinds: tuple[bool, ...]) -> bool:
        """Whether the connection has got a place of one of these kinds, the first that is to be had."""

    def serve_newcomer(self, connection: socket.socket, address: Any, received: bytes) -> None:
        """Serves a connection that has a place."""


class _Newcomer(NamedTuple):
    connection: socket.socket
    address: Any
    received: bytes
    deadline: float


class Newcomers:
    """Those who wait for a place of one listener. For any thread."""

    def __init__(self, port: Port, most: int, patience_s: float) -> None:
        """most: how many may wait. patience_s: for how long each."""
        self._port = port
        self._most = most
        self._patience_s = patience_s
        self._turn = threading.RLock()
        self._admitting = self._closed = False
        self._looked_at = 0.0
        self._unread: deque[_Newcomer] = deque()
        self._read: deque[_Newcomer] = deque()  # they want an ordinary place
        self.waited = 0  # how many have waited so far

    def __len__(self) -> int:
        return len(self._unread) + len(self._read)

    def arrive(self, connection: socket.socket, address: Any, received: bytes | None = None) -> bool:
        """Has a connection wait for its place; False if it can't: then it is still the caller's.

        received: what was read from it, if that is a request for an ordinary place. The socket object that was given is
        empty afterwards. O(connections) if there is no place.
        """
        with self._turn:
            if self._closed or len(self) >= self._most:
                return False
            self.waited += 1
            taken = socket.socket(connection.family, connection.type, connection.proto, connection.detach())
            newcomer = _Newcomer(taken, address, received or b"", time.monotonic() + self._patience_s)
            (self._unread if received is None else self._read).append(newcomer)
            self.admit()
        return True

    def admit(self, looked_at: int = LOOKED_AT) -> None:
        """Serves those for whom there is a place now: to be called when one may be free. O(1) if nobody waits.

        looked_at: how many may be asked whether they have sent something, if there are spare places only."""
        if not (self._unread or self._read):
            return
        with self._turn:
            if self._admitting:  # who is served may be gone at once: the loop below goes on
                return
            self._admitting = True
            try:
                while self._admit_first() or self._admit_spare(looked_at):
                    pass
            finally:
                self._admitting = False

    def _admit_first(self) -> bool:
        queue = self._read or self._unread
        return bool(queue) and self._admit_at(queue, 0, ORDINARY)

    def _admit_spare(self, looked_at: int) -> bool:
        sent = (at for at, newcomer in enumerate(islice(self._unread, looked_at)) if has_sent(newcomer.connection))
        at = next(sent, None)
        return at is not None and self._admit_at(self._unread, at, SPARE)

    def _admit_at(self, queue: deque[_Newcomer], at: int, kinds: tuple[bool, ...]) -> bool:
        newcomer = queue[at]
        if not self._port.take(newcomer.connection, kinds):
            return False
        del queue[at]
        self._port.serve_newcomer(newcomer.connection, newcomer.address, newcomer.received)
        return True

    def sweep(self) -> list[socket.socket]:
        """Serves those for whom there is a place as time has passed, and returns those who have waited too long: they wait no
        more, and are the caller's. To be called several times a second."""
        now, late = time.monotonic(), []
        if now - self._looked_at >= LOOK_S:
            self._looked_at = now
            self.admit(self._most)
        with self._turn:
            for queue in (self._read, self._unread):
                while queue and queue[0].deadline < now:
                    late.append(queue.popleft().connection)
        return late

    def close(self) -> list[socket.socket]:
        """All who wait: they are the caller's, and nobody is served any more."""
        with self._turn:
            self._closed = True
            waiting = [newcomer.connection for newcomer in (*self._read, *self._unread)]
            self._read.clear()
            self._unread.clear()
            return waiting
