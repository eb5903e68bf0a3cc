"""A listener: its port, and what it does when the system has no descriptors left."""

import contextlib
import resource
import socket
import sys
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


def test_whoever_stops_waits_for_a_thread_that_is_about_to_begin(front, monkeypatch):
    """It is in the table already, and a thread that hasn't begun can't be joined."""
    begin = threading.Thread.start
    ended = []

    def begin_beside_a_stop(thread):
        if thread.name.endswith("-connection"):
            stopper = threading.Thread(target=lambda: ended.append(front.end_connections(socket.SHUT_RD, 10.0)))
            begin(stopper)
            until(
                lambda: not stopper.is_alive() or (front.threads_guard.locked() and _is_in(stopper, "end_connections"))
            )
        begin(thread)

    monkeypatch.setattr(threading.Thread, "start", begin_beside_a_stop)
    # a request that gets a thread, in either form; which may be ended before the request has come
    with Wire(front.address) as wire, contextlib.suppress(EOFError, OSError):
        wire.ask("GET", "/_/status")
    until(lambda: ended == [False])


def _is_in(thread, name):
    frame = sys._current_frames().get(thread.ident)
    return frame is not None and frame.f_code.co_name == name
