"""The front end's life: where it listens, and how it stops."""

import socket
import threading

import pytest

from server.addresses import url_of
from server.client import Client
from server.errors import OutcomeUnknown
from server.http import FrontEnd
from tests.server.fake_node import Wire
from tests.server.http_client import hold, until
from tests.server.local_nodes import loopbacks


@pytest.mark.parametrize("host", loopbacks())
def test_a_server_and_a_client_speak_both_internet_protocols(node, host):
    front = FrontEnd(node, (host, 0))
    front.start()
    try:
        assert front.local_only
        with Client([url_of(*front.address)]) as client:
            client.put(b"k", b"v")
            assert client.get(b"k") == b"v"
    finally:
        front.stop()


def test_a_server_for_all_interfaces_goes_by_any_name(node):
    front = FrontEnd(node, ("0.0.0.0", 0))
    front.start()
    try:
        with Wire(("127.0.0.1", front.address[1])) as wire:
            wire.send(b"GET /a HTTP/1.1\r\nHost: node1.example.com\r\n\r\n")
            assert wire.answer()[0] == 404
    finally:
        front.stop()


def test_stop_lets_a_request_end_and_closes_the_idle(node):
    front = FrontEnd(node, ("127.0.0.1", 0))
    front.start()
    node.gate.clear()
    with Wire(front.address) as idle, Wire(front.address) as busy:
        idle.ask("GET", "/a")
        busy.send(b"PUT /k HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nv")
        assert node.asked.wait(10)
        stopper = threading.Thread(target=front.stop, args=(10.0,))
        stopper.start()
        assert idle.rest() == b""
        node.gate.set()
        status, headers, _ = busy.answer()
        assert (status, headers["connection"]) == (204, "close")
        assert busy.rest() == b""
        stopper.join(10)
        assert not stopper.is_alive()
    with pytest.raises(OSError):
        socket.create_connection(front.address, timeout=1)


def test_stop_answers_every_request_that_was_read_and_closes_with_the_last(node):
    """Pipelined requests that came in one piece are all in the server's hands."""
    front = FrontEnd(node, ("127.0.0.1", 0))
    front.start()
    put = b"PUT /k%d HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nv"
    with Wire(front.address) as wire:
        node.gate.clear()
        wire.send(b"".join(put % number for number in range(3)))
        assert node.asked.wait(10)
        stopper = threading.Thread(target=front.stop, args=(10.0,))
        stopper.start()
        until(lambda: front.stopping)
        node.gate.set()
        answers = [wire.answer() for _ in range(3)]
        assert [(status, headers.get("connection")) for status, headers, _ in answers] == [
            (204, None), (204, None), (204, "close"),
        ]  # fmt: skip
        assert wire.rest() == b""
        stopper.join(10)


def test_stop_tells_a_client_in_the_middle_of_a_request_that_nothing_was_done(node):
    front = FrontEnd(node, ("127.0.0.1", 0))
    front.start()
    for start in (b"GET /a HT", b"PUT /k HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nabc"):
        with Wire(front.address) as wire:
            wire.send(b"GET /a HTTP/1.1\r\nHost: localhost\r\n\r\n" + start)
            assert wire.answer()[0] == 404
            front.stopping = True
            wire.socket.shutdown(socket.SHUT_WR)
            status, headers, _ = wire.answer()
            assert (status, headers["x-metcd-error"], headers["connection"]) == (503, "NodeStopped", "close")
            front.stopping = False
    front.stop()


def test_stop_does_not_wait_for_writes_that_nobody_will_confirm(node, monkeypatch):
    """A forwarded write whose leader is gone would wait for its 504, and the node with it."""
    front = FrontEnd(node, ("127.0.0.1", 0))
    front.start()
    answers = []

    def stop_waiting():
        """Nobody may wait any more. The answer is read at once: a client that takes none within the grace is cut off."""
        node.gate.set()
        answers.append(wire.answer())

    monkeypatch.setattr(node, "stop_waiting", stop_waiting)
    with Wire(front.address) as wire:
        hold([wire], node)
        node.fails = OutcomeUnknown("on its way")
        front.stop(0.01)
    [(status, headers, _)] = answers
    assert (status, headers["connection"]) == (504, "close")
