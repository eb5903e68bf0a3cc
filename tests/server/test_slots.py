"""Who may be connected when there are more connections than places."""

import pytest

from server.http import Limits
from tests.server.fake_node import Wire, serving
from tests.server.http_client import hold, sentence, until


def test_more_connections_than_places_are_answered_503(node):
    with serving(node, Limits(connections=2, spare_connections=0, linger_s=0.05)) as front:
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
            with Wire(front.address) as client:
                answer = client.ask("GET", "/a")
                assert (answer[0], answer[1]["connection"]) == (503, "close")
                assert "2 connections are open already" in sentence(answer)
        node.gate.set()
        assert [wire.answer()[0] for wire in (one, two)] == [204, 204]


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
        until(lambda: len(front.threads) == 3)
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
        serving(node, Limits(connections=2, spare_connections=0, reclaimed_idle_s=60.0, linger_s=0.05)) as front,
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


def test_a_silent_spare_connection_makes_room_for_the_next(node, monkeypatch):
    monkeypatch.setattr("server.http.SPARE_IDLE_S", 0.0)
    with (
        serving(node, Limits(connections=1, spare_connections=1, linger_s=0.05)) as front,
        Wire(front.address) as busy,
        Wire(front.address) as silent,
        Wire(front.address) as operator,
    ):
        hold([busy], node)
        assert operator.ask("GET", "/_/health")[0] == 200
        assert silent.rest() == b""
