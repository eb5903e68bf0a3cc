"""The two forms of the front end answer alike, byte for byte; and what is special to connections in the node's loop."""

import random
import re
import socket
import threading

import pytest

from server.http import Limits
from server.loop import Loop
from server.loop_clients import REQUESTS_MAX, LoopConnection
from server.metrics import Histogram, Metrics
from tests.server.fake_node import FakeLoop, FakeNode, Wire, serving, shared_loop
from tests.server.hostile import http_input
from tests.server.http_client import GET, hold, until

PUT = b"PUT /%b HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b"
ENDS = re.compile(rb"close|HTTP/1.0", re.I)
DATE = re.compile(rb"Date: [^\r]*\r\n")


def request(rng: random.Random) -> bytes:
    """A request in order, some for the loop, some for a thread."""
    key = b"k%d" % rng.randrange(5)
    value = rng.randbytes(rng.choice([0, 1, 100, 70_000]))
    head = b" /%b HTTP/1.1\r\nHost: localhost\r\nX-Metcd-Request: %d/%d\r\nContent-Length: 2\r\n\r\nvw"
    return rng.choice(
        [
            rng.choice([b"PUT", b"DELETE", b"GET"]) + head % (key, rng.randrange(3), rng.randrange(4)),
            PUT % (key, len(value), value),
            PUT % (key + b"?wait=false", len(value), value),
            b"GET /%b HTTP/1.1\r\nHost: localhost\r\n\r\n" % key,
            b"GET /%b?consistency=stale HTTP/1.1\r\nHost: localhost\r\n\r\n" % key,
            b"GET /%b HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nxyz" % key,
            b"DELETE /%b HTTP/1.1\r\nHost: localhost\r\n\r\n" % key,
            b"HEAD /%b HTTP/1.1\r\nHost: localhost\r\n\r\n" % key,
            b"GET /%b HTTP/1.0\r\n\r\n" % key,
            b"GET /%b HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n" % key,
            b"GET /_/scan HTTP/1.1\r\nHost: localhost\r\n\r\n",
        ]
    )


def talk(address: tuple[str, int], pieces: list[bytes]) -> bytes:
    """Sends the pieces and nothing more; all that is answered until the server closes, without the dates."""
    with Wire(address) as wire:
        try:
            for piece in pieces:
                wire.send(piece)
            wire.socket.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the server has closed already, and what it said is still to be read
        return DATE.sub(b"", wire.rest())


def counted(metrics: Metrics) -> dict[str, float]:
    """Counters and gauges as they are; of what took its time, how often it happened."""
    return {name: value.count if isinstance(value, Histogram) else value for name, value in metrics.items()}


@pytest.mark.parametrize("count", [300, pytest.param(20_000, marks=pytest.mark.slow)])
def test_both_forms_answer_the_same_bytes(seed, count):
    rng = random.Random(f"{seed}:forms")
    plain, fast = FakeNode(), FakeNode(shared_loop())
    with serving(plain, Limits(linger_s=1.0)) as one, serving(fast, Limits(linger_s=1.0)) as other:
        for _ in range(count):
            sent = b"".join(request(rng) for _ in range(rng.randrange(1, 6)))
            cuts = sorted(rng.randrange(len(sent) + 1) for _ in range(rng.choice([0, 0, 0, 1, 3])))
            if rng.random() < 0.3:  # in one piece: what is said of a bad head depends on how much of it has come
                sent, cuts = http_input(rng).replace(b"/_/metrics", b"/_/status"), []
            pieces = [sent[a:b] for a, b in zip([0, *cuts], [*cuts, len(sent)])]
            answers = talk(one.address, pieces), talk(other.address, pieces)
            if ENDS.search(sent):  # what follows is unread, and the reset can overtake the end of an answer
                assert answers[0].startswith(answers[1]) or answers[1].startswith(answers[0]), pieces
            else:
                assert answers[0] == answers[1], pieces
        assert list(plain.machine.scan()) == list(fast.machine.scan())
        until(lambda: not one.threads and not other.threads)
        assert counted(one.metrics()) == counted(other.metrics())


def test_simple_requests_have_no_thread_and_others_get_one():
    with serving(FakeNode(shared_loop())) as front, Wire(front.address) as wire:
        before = threading.active_count()
        assert wire.ask("PUT", "/k", b"v")[0] == 204
        assert wire.ask("GET", "/k")[2] == b"v"
        assert wire.ask("DELETE", "/k")[0] == 204
        assert threading.active_count() == before
        assert wire.ask("GET", "/_/scan")[0] == 200
        assert threading.active_count() == before + 1
        assert wire.ask("GET", "/k")[0] == 404


@pytest.mark.parametrize("bytes_early", [0, 1])
def test_a_body_that_comes_right_after_its_head_needs_no_thread(bytes_early):
    """As Python's http.client sends it, and so requests and etcd3gw."""
    with serving(FakeNode(shared_loop())) as front, Wire(front.address) as wire:
        for value in (b"one", b"another"):
            request = PUT % (b"k", len(value), value)
            early = len(request) - len(value) + bytes_early
            wire.send(request[:early])
            until(lambda: any(connection._whole_bytes for connection in front.threads.values()))
            wire.send(request[early:])
            assert wire.answer()[0] == 204
            assert wire.ask("GET", "/k")[2] == value
        assert all(type(connection) is LoopConnection for connection in front.threads.values())


def test_a_body_that_comes_late_is_read_by_a_thread():
    with serving(FakeNode(shared_loop())) as front, Wire(front.address) as wire:
        wire.send((PUT % (b"k", 1, b"v"))[:-1])
        until(lambda: any(isinstance(life, threading.Thread) for life in front.threads.values()))
        wire.send(b"v")
        assert wire.answer()[0] == 204


def test_a_client_that_goes_before_its_body_leaves_nothing():
    with serving(FakeNode(shared_loop())) as front, Wire(front.address) as wire:
        wire.send((PUT % (b"k", 1, b"v"))[:-1])
        wire.socket.shutdown(socket.SHUT_WR)
        assert wire.rest() == b""
        until(lambda: not front.threads)


def test_a_client_that_does_not_take_its_answer_holds_up_nobody_and_is_cut():
    node = FakeNode(shared_loop())
    node.machine.store.put(b"k", bytes(32 << 20))  # more than the system's buffers take
    with serving(node, Limits(answer_s=0.3)) as front, Wire(front.address) as slow, Wire(front.address) as other:
        slow.send(GET.replace(b"/a", b"/k"))
        assert other.ask("GET", "/absent")[0] == 404
        until(lambda: len(front.threads) == 1)


def test_a_client_that_takes_its_answer_slowly_gets_all_of_it():
    node = FakeNode(shared_loop())
    value = random.Random(1).randbytes(8 << 20)
    node.machine.store.put(b"k", value)
    with serving(node) as front, Wire(front.address) as wire:
        wire.send(GET.replace(b"/a", b"/k") * 2 + GET)
        assert wire.answer()[2] == value
        assert wire.answer()[2] == value
        assert wire.answer()[0] == 404


def test_what_is_sent_ahead_is_bounded_and_answered_in_order():
    """While a write waits, its connection's buffer takes a recv or two; then the client has to wait as well."""
    node = FakeNode(shared_loop())
    with serving(node) as front, Wire(front.address) as wire:
        hold([wire], node)
        stale = b"GET /k?consistency=stale HTTP/1.1\r\nHost: localhost\r\n\r\n"
        sender = threading.Thread(target=wire.send, args=(stale * 5000,))
        sender.start()
        (connection,) = front.threads.values()
        until(lambda: len(connection._buffer) > 64 << 10)
        assert len(connection._buffer) <= 128 << 10
        node.gate.set()
        assert wire.answer()[0] == 204
        assert {wire.answer()[2] for _ in range(5000)} == {b"v"}
        sender.join()


def test_when_the_loop_ends_its_connections_go_on_in_threads():
    """A node that has failed still answers, that it has."""
    loop = FakeLoop()
    node = FakeNode(loop)
    with serving(node) as front, Wire(front.address) as old:
        assert old.ask("PUT", "/k", b"v")[0] == 204
        loop.end()
        assert old.ask("GET", "/k")[2] == b"v"
        with Wire(front.address) as new:
            assert new.ask("GET", "/k")[2] == b"v"


def test_a_node_whose_disk_hangs_can_still_be_asked_how_it_is():
    """Its thread is in an fsync for as long as that takes; a monitor that calls meanwhile is answered."""
    loop = FakeLoop()
    hangs, back = threading.Event(), threading.Event()
    with serving(FakeNode(loop)) as front, Wire(front.address) as old:
        assert old.ask("PUT", "/k", b"v")[0] == 204
        loop.call(lambda: (hangs.set(), back.wait(10)))
        assert hangs.wait(10)
        with Wire(front.address) as early:
            assert early.ask("GET", "/_/health")[0] == 200
        until(loop.stalled)
        with Wire(front.address) as late:
            assert late.ask("GET", "/_/status")[0] == 200
        old.send(GET)
        back.set()
        assert old.answer()[0] == 404
    loop.end()


def test_a_turn_answers_a_bounded_number_of_requests_of_each_connection():
    """Stale reads that are sent ahead are answered at once, 1,600 in a recv: a heartbeat must not wait for all of them."""
    loop = Loop()
    node = FakeNode(loop)
    with serving(node) as front, Wire(front.address) as wire:
        wire.send(GET.replace(b"/a", b"/a?consistency=stale") * 500)
        until(lambda: loop._calls)
        loop.wait(0)
        (connection,) = front.threads.values()
        turns = 0
        until(lambda: bool(loop.wait(0.01)) or front.metrics().get('http_answers_total{status="404"}', 0))
        while (answered := front._clients.answers[404]) < 500:
            loop.wait(0)
            assert front._clients.answers[404] - answered <= REQUESTS_MAX
            turns += 1
        assert turns >= 500 // REQUESTS_MAX - 1
        connection.hand_over()
        loop.close()


def test_a_handler_that_fails_ends_its_connection_and_not_the_loop(caplog):
    loop = FakeLoop()
    node = FakeNode(loop)
    with serving(node, Limits(head_s=0.2, idle_s=0.2)) as front, Wire(front.address) as wire:
        assert wire.ask("GET", "/k")[0] == 404
        (connection,) = front.threads.values()
        changed = threading.Event()
        loop.call(lambda: loop.unwatch(connection._descriptor))
        loop.call(lambda: loop.watch(connection._descriptor, lambda events: 1 // 0))
        loop.call(changed.set)
        assert changed.wait(10)
        wire.send(GET)
        assert wire.rest() == b""
        assert "ZeroDivisionError" in caplog.text
        with Wire(front.address) as other:
            assert other.ask("GET", "/k")[0] == 404
    loop.end()


def test_a_call_that_another_thread_takes_back_meanwhile_fails_nobody(caplog):
    """The thread that accepts connections does that when the loop seems to be away, and it may just have come back."""
    loop = Loop()
    called = []

    def second() -> None:
        called.append("second")

    loop.call(lambda: called.append(loop.take_back(second)))
    loop.call(second)
    loop.wait(0.0)
    assert called == [True]
    assert not caplog.records
    loop.close()
