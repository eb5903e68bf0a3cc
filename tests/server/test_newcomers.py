"""Who waits for a place and in which order they get one: sockets, and a listener that is only a number of places."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from server.newcomers import Newcomers


class Listener:
    """So many places, which nobody gives back; whom it has served."""

    def __init__(self) -> None:
        self.ordinary = self.spare = 0
        self.served: list[tuple[str, bytes]] = []
        self.connections: list[socket.socket] = []

    def take(self, connection: socket.socket, kinds: tuple[bool, ...]) -> bool:
        for spare in kinds:
            name = "spare" if spare else "ordinary"
            if getattr(self, name):
                setattr(self, name, getattr(self, name) - 1)
                return True
        return False

    def serve_newcomer(self, connection: socket.socket, address: Any, received: bytes) -> None:
        self.served.append((address, received))
        self.connections.append(connection)


class Waiting:
    """The newcomers of a listener; `ends` has the other end of each one's connection."""

    def __init__(self, most: int, patience_s: float) -> None:
        self.listener = Listener()
        self.newcomers = Newcomers(self.listener, most, patience_s)
        self.ends: dict[str, socket.socket] = {}
        self.own: list[socket.socket] = []

    def arrive(self, name: str, received: bytes | None = None) -> bool:
        ours, self.ends[name] = socket.socketpair()
        self.own.append(ours)
        return self.newcomers.arrive(ours, name, received)

    def close(self) -> None:
        for connection in (*self.newcomers.close(), *self.listener.connections, *self.ends.values(), *self.own):
            connection.close()


@pytest.fixture
def waiting() -> Iterator[Waiting]:
    with contextlib.closing(Waiting(3, 60.0)) as waiting:
        yield waiting


def test_all_for_whom_there_is_a_place_get_one_in_the_order_in_which_they_came(waiting: Waiting) -> None:
    for name in ("a", "b", "c"):
        assert waiting.arrive(name)
    waiting.listener.ordinary = 2
    waiting.newcomers.admit()
    assert waiting.listener.served == [("a", b""), ("b", b"")]
    assert len(waiting.newcomers) == 1
    waiting.ends["a"].sendall(b"hello")
    assert waiting.listener.connections[0].recv(5) == b"hello"


def test_those_whose_request_was_read_come_first(waiting: Waiting) -> None:
    waiting.arrive("silent")
    waiting.arrive("asked", b"GET /a")
    waiting.listener.ordinary = 2
    waiting.newcomers.admit()
    assert waiting.listener.served == [("asked", b"GET /a"), ("silent", b"")]
    waiting.arrive("alone", b"GET /b")
    waiting.listener.ordinary = 1
    waiting.newcomers.admit()
    assert waiting.listener.served[2:] == [("alone", b"GET /b")]


def test_a_spare_place_is_for_the_first_who_has_sent_something_that_was_not_read_yet(waiting: Waiting) -> None:
    waiting.arrive("silent")
    waiting.arrive("asked", b"GET /a")
    waiting.listener.spare = 1
    waiting.newcomers.admit()
    assert not waiting.listener.served
    waiting.arrive("new")
    waiting.ends["new"].sendall(b"GET")
    waiting.newcomers.admit()
    assert waiting.listener.served == [("new", b"")]
    assert waiting.listener.spare == 0


def test_no_more_than_so_many_wait_and_who_is_refused_is_still_the_callers(waiting: Waiting) -> None:
    assert [waiting.arrive(name) for name in ("a", "b", "c", "d")] == [True, True, True, False]
    assert [own.fileno() == -1 for own in waiting.own] == [True, True, True, False]
    assert waiting.newcomers.waited == 3
    waiting.listener.ordinary = 1
    waiting.newcomers.admit()
    assert waiting.arrive("e")


def test_who_has_waited_too_long_is_returned_and_gets_no_place_any_more() -> None:
    with contextlib.closing(Waiting(3, -1.0)) as waiting:
        waiting.arrive("read", b"GET /a")
        waiting.arrive("unread")
        late = waiting.newcomers.sweep()
        waiting.own += late
        assert len(late) == 2 and len(waiting.newcomers) == 0
        waiting.listener.ordinary = 2
        waiting.newcomers.admit()
        assert not waiting.listener.served


def test_after_the_end_nobody_is_served(waiting: Waiting) -> None:
    waiting.arrive("a")
    waiting.arrive("b", b"GET /a")
    left = waiting.newcomers.close()
    waiting.own += left
    assert len(left) == 2
    waiting.listener.ordinary = 3
    waiting.newcomers.admit()
    assert not waiting.arrive("c")
    assert not waiting.listener.served
