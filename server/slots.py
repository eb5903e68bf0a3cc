"""Who may be connected: a place for each connection, and what happens when there are more connections than places.

    a newcomer ──▶ an ordinary place is free?  ──yes──▶ it takes it
                     │ no
                     ▼
                   somebody waits idly with one? ──yes──▶ the one that has waited longest is closed, and the newcomer
                     │ no                                 takes its place
                     ▼
                   a spare place is free, or idle? ──yes──▶ one request, and only for what tells of the node itself:
                     │ no                                   /_/health, /_/status and /_/metrics
                     ▼
                   it waits (server/newcomers.py, which asks for all of these)

A connection is idle while it waits for a request, or for the rest of a request's head: nobody misses an answer when it
is closed, and one that has sent something that wasn't read yet isn't idle. What is being answered is never interrupted.
Neither is a connection that has waited less than `idle_s`: its
next request may be on its way already, and a client that is cut off in the middle of a write doesn't know what became
of it. So 256 silent connections keep nobody out, and 256 busy ones don't hide from an operator that the node is healthy.

Invariants:

1. A place is taken before a thread is made for it, so that threads are bounded: by `ordinary` + `spare`, and those that
   have lost their place and are about to end.
2. Who takes a place from another one has it at once. The one that lost it gives nothing back when it ends.

Follows haproxy's reserved statistics socket, and Apache's event MPM, which closes idle keep-alive connections first.
"""

from __future__ import annotations

import contextlib
import math
import socket
import threading
import time

__all__ = ["Place", "Slots", "has_sent"]


class Place:
    """One connection's place. Its own thread writes `waits_since`; the rest belongs to Slots."""

    __slots__ = ("closing", "connection", "spare", "waits_since")

    def __init__(self, connection: socket.socket, spare: bool) -> None:
        self.connection = connection
        self.spare = spare  # good for one request that asks about the node itself
        self.waits_since = time.monotonic()  # since when it waits for a request; infinity while it doesn't
        self.closing = (
            spare  # no more is taken after what has been read: one request, or the place is another one's now
        )


class Slots:
    """The places of one listener. For any thread."""

    def __init__(self, ordinary: int, spare: int, idle_s: float, spare_idle_s: float) -> None:
        """`idle_s`, `spare_idle_s`: a place may be taken from a connection that has waited for a request that long."""
        self._free = {False: ordinary, True: spare}
        self._idle_s = {False: idle_s, True: spare_idle_s}
        self._places: set[Place] = set()
        self._guard = threading.Lock()
        self.taken_over = 0  # how often an idle connection had to go

    def take(self, connection: socket.socket, kinds: tuple[bool, ...]) -> Place | None:
        """A place for a new connection, or None. kinds: False for an ordinary one, True for a spare one, in the order in which
        they are tried. O(connections) when all ordinary places are taken, else O(1)."""
        with self._guard:
            for spare in kinds:
                if self._free[spare] > 0:
                    self._free[spare] -= 1
                elif not self._free_longest_idle(spare):
                    continue
                place = Place(connection, spare)
                self._places.add(place)
                return place
        return None

    def _free_longest_idle(self, spare: bool) -> bool:
        """Takes its place from the connection of this kind that has waited longest; False if none has long enough."""
        idle_since = time.monotonic() - self._idle_s[spare]
        idle = [place for place in self._places if place.spare == spare and place.waits_since <= idle_since]
        longest = next((place for place in sorted(idle, key=_waits_since) if not has_sent(place.connection)), None)
        if longest is None:
            return False
        self._places.discard(longest)
        longest.closing = True
        self.taken_over += 1
        with contextlib.suppress(OSError):
            longest.connection.shutdown(socket.SHUT_RD)  # wakes its thread; what has arrived already is still read
        return True

    def give_back(self, place: Place) -> None:
        """The connection has ended."""
        with self._guard:
            if place in self._places:
                self._places.discard(place)
                self._free[place.spare] += 1

    def free(self) -> int:
        """How many ordinary places are free."""
        return self._free[False]


def has_sent(connection: socket.socket) -> bool:
    """Whether something is there to be read, to which nobody has got yet."""
    try:
        return bool(connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
    except OSError:
        return False


def _waits_since(place: Place) -> float:
    return place.waits_since


BUSY = math.inf  # what `waits_since` is while a request is being answered
