"""A listener: its port, and what it does when the system has no descriptors left."""

import resource
import socket
import threading

import pytest

from server.http import FrontEnd
from tests.server.fake_node import FakeNode, Wire, serving
from tests.server.http_client import GET, until


def test_without_descriptors_accepting_pauses_and_goes_on(node, caplog):
    """EMFILE leaves the connection in the backlog, so that the next accept would fail at once, and so on."""
    with serving(node) as front:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        with Wire(front.address) as wire, socket.socket() as waiting:
            wire.ask("GET", "/a")
            highest = waiting.fileno()
            held = [socket.socket()]
            while held[-1].fileno() <= highest + 3:
                held.append(socket.socket())
            resource.setrlimit(resource.RLIMIT_NOFILE, (held[-1].fileno() + 1, hard))
            try:
                waiting.settimeout(10)
                waiting.connect(front.address)
                waiting.sendall(GET)
                until(lambda: "can't accept" in caplog.text)
                assert wire.ask("GET", "/a")[0] == 404  # who is in is served
                threading.Event().wait(0.25)
                assert caplog.text.count("can't accept") < 10  # ten a second, and not as fast as it can
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
                for each in held:
                    each.close()
            assert waiting.recv(99).startswith(b"HTTP/1.1 404 ")


def test_a_taken_port_is_an_error_at_once(front):
    with pytest.raises(OSError):
        FrontEnd(FakeNode(), front.address)
