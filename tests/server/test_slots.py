"""Who may be connected when there are more connections than places."""

import contextlib
import socket

import pytest

from server.http import Limits
from server.newcomers import ORDINARY
from server.slots import Slots, has_sent
from tests.server.fake_node import Wire, serving
from tests.server.http_client import hold, sentence, until


def test_more_connections_than_places_are_answered_503(node):
    with serving(node, Limits(connections=2, spare_connections=0, place_s=0.1, linger_s=0.05)) as front:
        with Wire(front.address) as one, Wire(front.address) as two:
            for wire in (one, two):
                assert wire.ask("GET", "/a")[0] == 404
            with Wire(front.address) as three:
                answer = three.answer()
                assert answer[0] == 503
                assert "retry-after" in answer[1]
                sentence(answer)
                assert three.rest() == b""
            assert one.ask("GET", "/_/metrics")[2].count(b"metcd_http_connections_refused_total 1\n") == 1
        until(lambda: not front.threads)
        with Wire(front.address) as four:
            assert four.ask("GET", "/a")[0] == 404


@pytest.mark.parametrize("path", ["/_/health", "/_/status", "/_/metrics"])
def test_when_all_places_are_busy_the_node_still_tells_of_itself(node, path):
    """256 clients that wait for writes are no reason for a balancer to take the node away."""
    with (
        serving(node, Limits(connections=2, linger_s=0.05)) as front,
        Wire(front.address) as one,
        Wire(front.address) as two,
    ):
        hold((one, two), node)
        for _ in range(3):
            with Wire(front.address) as operator:
                status, headers, _ = operator.ask("GET", path)
                assert (status, headers["connection"]) == (200, "close")
        node.gate.set()
        assert [wire.answer()[0] for wire in (one, two)] == [204, 204]


def test_any_other_request_waits_for_a_place_and_takes_none_that_is_spare(node):
    with (
        serving(node, Limits(connections=1, spare_connections=1, linger_s=0.05)) as front,
        Wire(front.address) as busy,
        contextlib.ExitStack() as clients,
    ):
        hold([busy], node)
        many = [clients.enter_context(Wire(front.address)) for _ in range(10)]
        for at, client in enumerate(many):
            client.send(b"GET /%d HTTP/1.1\r\nHost: localhost\r\n\r\n" % at)
        with Wire(front.address) as operator:
            assert b"metcd_http_connections_waiting " in operator.ask("GET", "/_/metrics")[2]
        until(lambda: front.metrics()["http_connections_waiting"] == 10)
        node.gate.set()
        assert busy.answer()[0] == 204
        busy.socket.close()
        for client in many:
            assert client.answer()[0] == 404
            client.socket.close()
        assert front.metrics()["http_connections_refused_total"] == 0


def test_who_has_waited_too_long_for_a_place_is_told_so(node):
    with serving(node, Limits(connections=1, place_s=0.3, linger_s=0.05)) as front, Wire(front.address) as busy:
        hold([busy], node)
        with Wire(front.address) as client:
            answer = client.ask("GET", "/a")
            assert answer[0] == 503
            assert "1 connections are open already" in sentence(answer)
        assert front.metrics()["http_connections_waiting"] == 0


def test_no_more_than_so_many_wait(node):
    limits = Limits(connections=1, spare_connections=0, waiting_connections=1, linger_s=0.05)
    with serving(node, limits) as front, Wire(front.address) as busy:
        hold([busy], node)
        with Wire(front.address), Wire(front.address) as second:
            assert second.answer()[0] == 503


def test_who_waits_for_a_place_when_the_node_stops_is_told_so(node):
    with serving(node, Limits(connections=1, spare_connections=0)) as front, Wire(front.address) as busy:
        hold([busy], node)
        with Wire(front.address) as client:
            until(lambda: front.metrics()["http_connections_waiting"] == 1)
            front.stop()
            answer = client.answer()
            assert answer[0] == 503
            assert sentence(answer) == "The node stops."


def test_a_connection_that_has_sent_something_is_not_idle():
    """Its thread, or the loop, hasn't got to it; if it were closed, its client wouldn't know what became of the request."""
    slots = Slots(2, 0, 0.0, 0.0)
    with contextlib.ExitStack() as sockets:
        ends = [tuple(map(sockets.enter_context, socket.socketpair())) for _ in range(4)]
        for ours, theirs in ends[:2]:
            theirs.sendall(b"GET") if ours is ends[0][0] else None
            assert slots.take(ours, ORDINARY)
        assert slots.take(ends[2][0], ORDINARY), "the second one is idle"
        ends[2][1].sendall(b"GET")
        assert slots.take(ends[3][0], ORDINARY) is None


def test_when_places_are_short_the_longest_idle_connection_goes(node):
    """Silent connections keep nobody out, and who was served last stays longest."""
    with (
        serving(node, Limits(connections=3, reclaimed_idle_s=0.0, linger_s=0.05)) as front,
        Wire(front.address) as silent,
        Wire(front.address) as slow,
        Wire(front.address) as served,
    ):
        served.ask("GET", "/a")
        slow.send(b"GET /slow HTTP/1.1\r\nHos")
        until(lambda: len(front.threads) == 3 and not any(map(has_sent, front.threads)))
        with Wire(front.address) as first, Wire(front.address) as second:
            assert first.ask("GET", "/a")[0] == 404
            assert second.ask("GET", "/a")[0] == 404
            assert silent.rest() == b""
            assert slow.answer()[0] == 503  # its head had begun: it is told that nothing was done
            assert served.ask("GET", "/a")[0] == 404
            assert b"metcd_http_connections_reclaimed_total 2\n" in served.ask("GET", "/_/metrics")[2]


def test_who_has_just_been_answered_or_waits_for_an_answer_keeps_its_place(node):
    """A client whose connection is closed while it sends a write doesn't know what became of it."""
    with (
        serving(
            node, Limits(connections=2, spare_connections=0, reclaimed_idle_s=60.0, place_s=0.1, linger_s=0.05)
        ) as front,
        Wire(front.address) as busy,
        Wire(front.address) as fresh,
    ):
        fresh.ask("GET", "/a")
        hold([busy], node)
        with Wire(front.address) as third:
            assert third.answer()[0] == 503
        node.gate.set()
        assert busy.answer()[0] == 204
        assert fresh.ask("GET", "/a")[0] == 404


def test_a_silent_connection_waits_and_gets_no_spare_place(node):
    with (
        serving(node, Limits(connections=1, spare_connections=1, linger_s=0.05)) as front,
        Wire(front.address) as busy,
        Wire(front.address) as silent,
        Wire(front.address) as operator,
    ):
        hold([busy], node)
        assert operator.ask("GET", "/_/health")[0] == 200
        node.gate.set()
        busy.answer()
        busy.socket.close()
        assert silent.ask("GET", "/a")[0] == 404


def test_a_spare_connection_that_is_slow_makes_room_for_the_next(node, monkeypatch):
    monkeypatch.setattr("server.http.SPARE_IDLE_S", 0.0)
    with (
        serving(node, Limits(connections=1, spare_connections=1, linger_s=0.05)) as front,
        Wire(front.address) as busy,
        Wire(front.address) as silent,
        Wire(front.address) as operator,
    ):
        hold([busy], node)
        silent.send(b"GET")
        until(lambda: len(front.threads) == 2)
        assert operator.ask("GET", "/_/health")[0] == 200
        assert silent.rest() == b""
