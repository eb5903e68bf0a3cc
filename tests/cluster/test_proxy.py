"""The proxy between the nodes: what each mode of a link does with bytes, and that a link has one direction."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tests.cluster.proxy import DROP, HOLD, PASS, RESET, Proxy, delay
from tests.server.local_nodes import eventually, free_ports

HEAD = b"POST /raft/stream HTTP/1.1\r\nHost: x\r\nX-Metcd-From: %d\r\n\r\n"
PATIENCE_S = 10.0


class Sink:
    """A node that keeps what it hears, and answers each connection with its first bytes in capitals."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.heard: list[bytearray] = []
        self.lost = 0  # connections that were reset
        threading.Thread(target=self.run, daemon=True).start()

    def run(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                self.heard.append(bytearray())
                threading.Thread(target=self.hear, args=(connection, self.heard[-1]), daemon=True).start()

    def hear(self, connection: socket.socket, heard: bytearray) -> None:
        with connection:
            try:
                while data := connection.recv(65536):
                    if not heard:
                        connection.sendall(data[:4].lower())
                    heard += data
                connection.sendall(b"end")
            except OSError:
                self.lost += 1


@pytest.fixture
def sinks() -> Iterator[tuple[Proxy, dict[int, Sink], dict[int, int]]]:
    sinks = {1: Sink(), 2: Sink()}
    ports = dict(zip(sinks, free_ports(2)))
    with Proxy() as proxy:
        for node_id, sink in sinks.items():
            proxy.add(node_id, ports[node_id], sink.listener.getsockname())
        yield proxy, sinks, ports
    for sink in sinks.values():
        sink.listener.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "proxy"]


def call(port: int, from_: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
    connection.sendall(HEAD % from_)
    return connection


def ended(connection: socket.socket) -> bool:
    """Whether the other side has ended or reset it; waits for that."""
    try:
        return connection.recv(1) == b""
    except ConnectionError:
        return True


def test_bytes_pass_in_both_directions_and_so_does_the_end(sinks):
    proxy, nodes, ports = sinks
    with call(ports[2], 1) as connection:
        assert connection.recv(100) == b"post"
        data = bytes(range(256)) * 40_000
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(100) == b"end"
        assert nodes[2].heard == [HEAD % 1 + data]
        assert not nodes[1].heard
    assert proxy.passed[1, 2] == len(HEAD % 1 + data)


def test_a_head_that_comes_in_pieces_says_who_calls(sinks):
    _, nodes, ports = sinks
    with socket.create_connection(("127.0.0.1", ports[1]), timeout=PATIENCE_S) as connection:
        for at in range(0, len(HEAD), 10):
            connection.sendall((HEAD % 7)[at : at + 10])
        assert connection.recv(100).startswith(b"p")
        eventually("all of it has come", lambda: nodes[1].heard == [HEAD % 7])


def test_one_direction_is_dropped_and_the_other_passes_and_a_stream_with_a_hole_is_reset(sinks):
    proxy, nodes, ports = sinks
    with call(ports[2], 1) as mute, call(ports[1], 2) as heard:
        assert mute.recv(100) == heard.recv(100) == b"post"
        proxy.set(DROP, (1, 2))
        assert proxy.broken() == [(1, 2)]
        mute.sendall(b"into the void")
        heard.sendall(b"and back")
        eventually("the other direction passes", lambda: nodes[1].heard[0].endswith(b"and back"))
        eventually("it is dropped", lambda: proxy.dropped[1, 2] == len(b"into the void"))
        assert not nodes[2].heard[0].endswith(b"void")
        with call(ports[2], 1) as unanswered:
            eventually("a new one is taken, and swallowed", lambda: proxy.dropped[1, 2] > 20)
            proxy.heal()
            assert ended(mute)
            assert ended(unanswered)
        heard.sendall(b", still")
        eventually("the other one was left alone", lambda: nodes[1].heard[0].endswith(b"still"))
    assert len(nodes[2].heard) == 1
    with call(ports[2], 1) as anew:
        assert anew.recv(100) == b"post"


def test_what_is_held_arrives_later_in_its_order_and_is_bounded(sinks):
    proxy, nodes, ports = sinks
    with call(ports[2], 1) as connection:
        assert connection.recv(100) == b"post"
        proxy.set(HOLD, (1, 2))
        with call(ports[2], 1) as waiting:
            connection.settimeout(0.2)
            sent = 0
            with contextlib.suppress(TimeoutError):
                while True:
                    sent += connection.send(b"x" * 65536)
            assert nodes[2].heard == [HEAD % 1]
            proxy.set(PASS, (1, 2))
            eventually("it has arrived", lambda: len(nodes[2].heard[0]) == len(HEAD % 1) + sent)
            assert waiting.recv(100) == b"post"


def test_what_is_delayed_arrives_that_much_later(sinks):
    proxy, _, ports = sinks
    proxy.set(delay(0.2), (1, 2))
    begin = time.monotonic()
    with call(ports[2], 1) as connection:
        assert connection.recv(100) == b"post"
        assert time.monotonic() - begin >= 0.4, "there and back"


def test_connections_are_reset_and_new_ones_too_until_the_link_passes(sinks):
    proxy, nodes, ports = sinks
    with call(ports[2], 1) as connection, call(ports[1], 2) as other:
        assert connection.recv(100) == other.recv(100) == b"post"
        proxy.set(RESET, (1, 2))
        assert ended(connection)
        eventually("the node notices", lambda: nodes[2].lost == 1)
        with call(ports[2], 1) as refused:
            assert ended(refused)
        proxy.heal()
        with call(ports[2], 1) as again:
            assert again.recv(100) == b"post"
        other.sendall(b"!")
        eventually("the other link was left alone", lambda: nodes[1].heard[0].endswith(b"!"))


def test_a_node_that_is_down_is_told_as_an_ended_connection(sinks):
    _, nodes, ports = sinks
    nodes[2].listener.shutdown(socket.SHUT_RDWR)
    nodes[2].listener.close()
    with call(ports[2], 1) as connection:
        assert ended(connection)


def test_who_does_not_say_who_it_is_reaches_nobody(sinks):
    _, nodes, ports = sinks
    with socket.create_connection(("127.0.0.1", ports[1]), timeout=PATIENCE_S) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert ended(connection)
    assert not nodes[1].heard


def test_a_proxy_may_have_stopped_before_it_is_woken_for_that(monkeypatch):
    """Its thread looks at the calls after anything that happens: the end of a connection, say."""
    proxy = Proxy()

    class Late:
        wake = proxy._wake

        def send(self, data: bytes) -> int:
            self.wake.send(data)
            proxy._thread.join(PATIENCE_S)
            return self.wake.send(data)

        def close(self) -> None:
            self.wake.close()

    monkeypatch.setattr(proxy, "_wake", Late())
    proxy.close()
    assert not proxy._thread.is_alive()
