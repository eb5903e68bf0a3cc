"""The HTTP interface as a client sees it: keys, scans, batches, and what is answered for a node's errors."""

import base64
import errno
import itertools
import json
import socket
import threading
from types import SimpleNamespace

import pytest

from server.errors import NodeStopped, NoLeader, OutcomeUnknown, Overloaded, TooLarge
from server.http import Limits
from tests.server.fake_node import Wire, serving
from tests.server.http_client import b64, batch, lines, sentence, until

BAD_LINES = [
    b"{",
    b"[]",
    b"null",
    b'{"op":"put","key":"YQ=="}',
    b'{"op":"put","key":"YQ==","value":null}',
    b'{"op":"put","key":"YQ==","value":"YQ"}',
    b'{"op":"put","key":"YQ==","value":"Y Q="}',
    b'{"op":"put","key":"YQ==","value":"\xc3\xa9"}',
    b'{"op":"put","key":"","value":""}',
    b'{"op":"put","key":1,"value":""}',
    b'{"op":["put"],"key":"YQ==","value":""}',
    b'{"op":"delete","key":"YQ==","value":""}',
    b'{"op":"increment","key":"YQ=="}',
    b'{"op":"delete","key":"YQ==","why":1}',
    b'{"op":"delete","key":"Xy94"}',  # _/x
    b'{"op":"delete","key":"djMveA=="}',  # v3/x
    b'{"op":"delete","key":"%b"}' % base64.b64encode(b"x" * 32_768),
    b'{"op":"delete","key":"YQ=="}{"op":"delete","key":"YQ=="}',
    b"\xff\xfe{",
    b"[" * 100_000,
    b"9" * 5_000,
]


def test_what_was_put_is_got_until_it_is_deleted(wire):
    status, headers, _ = wire.ask("PUT", "/hello", b"world")
    assert (status, headers["x-metcd-index"]) == (204, "1")
    status, headers, body = wire.ask("GET", "/hello")
    assert (status, headers["content-type"], body) == (200, "application/octet-stream", b"world")
    assert wire.ask("DELETE", "/hello")[0] == 204
    absent = wire.ask("GET", "/hello")
    assert absent[0] == 404
    assert "no such key" in sentence(absent)


def test_a_value_is_any_bytes(wire):
    for value in (b"", b"\x00\r\n\r\n\xff", b"GET / HTTP/1.1\r\n\r\n", bytes(range(256)) * 4096):
        wire.ask("PUT", "/k", value)
        assert wire.ask("GET", "/k")[2] == value


@pytest.mark.parametrize(
    ("target", "key"),
    [
        ("/a", b"a"),
        ("/a/b//c", b"a/b//c"),
        ("//a", b"/a"),
        ("/%00%ff%2F%3f%e4%bd%a0", b"\x00\xff/?\xe4\xbd\xa0"),
        ("/a+b%20c", b"a+b c"),
        ("/..%2f../etc/passwd", b"../../etc/passwd"),
        ("/a?wait=true", b"a"),
        ("/_", b"_"),
        ("/v3x", b"v3x"),
        ("http://127.0.0.1/abs?wait=true", b"abs"),
    ],
)
def test_the_path_is_the_key_percent_decoded(node, wire, target, key):
    assert wire.ask("PUT", target, b"v")[0] == 204
    assert list(node.machine.scan()) == [(key, b"v")]


@pytest.mark.parametrize("target", ["/%", "/%4", "/%zz", "/a%2", "/a?consistency=%7", "/"])
def test_a_broken_escape_or_an_empty_key_is_400(wire, target):
    answer = wire.ask("GET", target)
    assert answer[0] == 400
    sentence(answer)


@pytest.mark.parametrize("target", ["/_/hello", "/%5F/hello", "/_/", "/_/member", "/_/leader"])
def test_reserved_paths_hold_no_keys(node, wire, target):
    for method, body in (("GET", None), ("PUT", b"v"), ("DELETE", None), ("POST", b"")):
        with Wire(wire.socket.getpeername()) as other:
            answer = other.ask(method, target, body)
            assert answer[0] == 404
            assert "reserved" in sentence(answer)
    assert list(node.machine.scan()) == []


@pytest.mark.parametrize("target", ["/v3/x", "/%76%33/x", "/v3beta/x", "/v3%2Fkv/nothing"])
def test_paths_of_etcd_hold_no_keys(node, wire, target):
    """What is answered there is etcd's 404, however the path is written."""
    for method, body in (("GET", None), ("PUT", b"v"), ("DELETE", None), ("POST", b"")):
        assert wire.ask(method, target, body)[::2] == (404, b"Not Found\n")
    assert list(node.machine.scan()) == []


@pytest.mark.parametrize("target", ["/version", "/health", "/metrics", "/%76ersion"])
def test_keys_that_have_etcd_s_pages_are_not_written_by_their_path(node, wire, target):
    """A batch can, and the gateway. etcd answers every method of /metrics 200, which would say that the key is written."""
    refused = 400 if target == "/metrics" else 405
    with Wire(wire.socket.getpeername()) as other:
        assert other.ask("DELETE", target)[0] == refused
    with Wire(wire.socket.getpeername()) as other:
        assert other.ask("PUT", target, b"v")[0] == refused
    assert list(node.machine.scan()) == []
    assert wire.ask("POST", "/_/batch", batch({"op": "put", "key": b64(b"version"), "value": ""}))[0] == 200


def test_wait_false_answers_without_an_index(node, wire):
    status, headers, _ = wire.ask("PUT", "/k?wait=false", b"v")
    assert status == 204
    assert "x-metcd-index" not in headers
    assert wire.ask("DELETE", "/k?wait=false")[0] == 204
    assert node.waited == [False, False]


def test_reads_are_linearizable_unless_the_query_says_otherwise(node, wire):
    for query in ("", "?consistency=linearizable", "?consistency=lease", "?consistency=stale"):
        wire.ask("GET", f"/k{query}")
        wire.ask("GET", f"/_/scan{query}")
    assert node.barriers == ["linearizable"] * 4 + ["lease"] * 2 + ["stale"] * 2


@pytest.mark.parametrize(
    "target",
    ["/k?consistancy=stale", "/k?consistency=never", "/k?consistency", "/k?wait=true", "/k?", "/_/status?x=1"]
    + [f"/_/scan?{query}" for query in ("limit=0", "limit=-1", "limit=x", "limit=1&limit=2", "reverse=yes", "&")],
)
def test_parameters_that_mean_nothing_are_refused(wire, target):
    """A misspelt `consistency` would otherwise silently get what it did not ask for."""
    answer = wire.ask("GET", target)
    if target == "/k?":
        assert answer[0] == 404  # an empty query asks for nothing
    else:
        assert answer[0] == 400
        sentence(answer)


def test_head_is_get_without_the_body(wire):
    wire.ask("PUT", "/k", b"value")
    status, headers, _ = wire.ask("HEAD", "/k")
    assert (status, headers["content-length"]) == (200, "5")
    assert wire.ask("HEAD", "/absent")[0] == 404
    assert wire.ask("HEAD", "/_/status")[0] == 200
    assert wire.ask("HEAD", "/_/scan")[0] == 200
    assert wire.ask("GET", "/k")[2] == b"value"  # the connection is still in step


@pytest.mark.parametrize(
    ("method", "target", "allow"),
    [
        ("POST", "/k", "GET, PUT, DELETE, HEAD"),
        ("OPTIONS", "/k", "GET, PUT, DELETE, HEAD"),
        ("BREW", "/k", "GET, PUT, DELETE, HEAD"),
        ("PUT", "/_/scan", "GET, HEAD"),
        ("GET", "/_/batch", "POST"),
        ("DELETE", "/_/status", "GET, HEAD"),
    ],
)
def test_another_method_is_405_and_told_which_there_are(wire, method, target, allow):
    answer = wire.ask(method, target)
    assert (answer[0], answer[1]["allow"]) == (405, allow)
    sentence(answer)


@pytest.mark.parametrize(
    ("query", "keys"),
    [
        ("", ["a", "b", "ba", "c"]),
        ("?start=b", ["b", "ba", "c"]),
        ("?start=b&stop=c", ["b", "ba"]),
        ("?prefix=b", ["b", "ba"]),
        ("?prefix=b&reverse=true", ["ba", "b"]),
        ("?reverse=true&limit=1", ["c"]),
        ("?limit=2&reverse=false", ["a", "b"]),
        ("?start=%62%61", ["ba", "c"]),
        ("?start=d", []),
    ],
)
def test_scan_takes_bounds_a_prefix_a_direction_and_a_limit(wire, query, keys):
    for key in ("c", "a", "ba", "b"):
        wire.ask("PUT", f"/{key}", key.encode())
    status, headers, body = wire.ask("GET", f"/_/scan{query}")
    assert (status, headers["content-type"]) == (200, "application/x-ndjson")
    assert lines(body) == [(key.encode(), key.encode()) for key in keys]


def test_a_long_scan_is_streamed_in_blocks(node, wire):
    pairs = [(b"%06d" % number, b"x" * 1000) for number in range(500)]
    node._apply(pairs)
    status, headers, body = wire.ask("GET", "/_/scan")
    assert (status, headers["transfer-encoding"]) == (200, "chunked")
    assert lines(body) == pairs
    wire.ask("HEAD", "/_/scan")
    assert lines(wire.ask("GET", "/_/scan?limit=1")[2]) == pairs[:1]


def test_a_scan_reads_no_further_than_its_client(node):
    """Bounded memory: a client that doesn't read holds up the iterator, and blocks don't pile up."""
    taken = 0

    def pairs(*args, **options):
        nonlocal taken
        for number in range(1_000_000):
            taken += 1
            yield b"%08d" % number, b"x" * 1000

    node.machine.scan = pairs
    with serving(node, Limits(answer_s=0.3)) as front, Wire(front.address) as wire:
        wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        wire.send(b"GET /_/scan HTTP/1.0\r\n\r\n")
        until(lambda: taken and not front.threads)  # given up, because a block did not leave in time
    assert taken < 50_000


def test_a_scan_as_a_whole_has_a_slowest_pace(node, monkeypatch):
    """A client that takes a block now and then, each in time, must not keep a scan, and what it pins, for ever."""
    begun = next(clock := itertools.count(0, 20))  # seconds: from look to look, 20 of them pass
    monkeypatch.setattr("server.connection.time", SimpleNamespace(monotonic=lambda: next(clock), time=lambda: begun))
    closed = threading.Event()

    def pairs(*args, **options):
        try:
            while True:
                yield b"key", b"x" * 1000
        finally:
            closed.set()

    node.machine.scan = pairs
    with serving(node, Limits(answer_bytes_per_s=16 << 10)) as front, Wire(front.address) as wire:
        with pytest.raises((EOFError, ConnectionError)):
            wire.ask("GET", "/_/scan")
        assert closed.wait(10)


def test_a_scan_that_fails_in_the_middle_does_not_look_whole(node, wire):
    def pairs(*args, **options):
        for number in range(1000):
            yield b"%08d" % number, b"x" * 1000
        raise OSError(errno.EIO, "the disk is gone")

    node.machine.scan = pairs
    with pytest.raises((EOFError, ConnectionError)):
        wire.ask("GET", "/_/scan")


def test_http_1_0_gets_a_long_scan_until_close(node, front):
    node._apply([(b"%06d" % number, b"x" * 1000) for number in range(200)])
    with Wire(front.address) as wire:
        wire.send(b"GET /_/scan HTTP/1.0\r\n\r\n")
        head, _, body = wire.rest().partition(b"\r\n\r\n")
    assert b"chunked" not in head
    assert len(lines(body)) == 200


def test_a_batch_is_applied_as_one(node, wire):
    wire.ask("PUT", "/old", b"1")
    body = batch(
        {"op": "put", "key": b64(b"\xff\x00"), "value": b64(b"v")},
        {"op": "put", "key": b64(b"empty"), "value": ""},
        {"op": "delete", "key": b64(b"old")},
    )
    status, _, answer = wire.ask("POST", "/_/batch", body)
    assert (status, json.loads(answer)) == (200, {"index": 2, "count": 3})
    assert list(node.machine.scan()) == [(b"empty", b""), (b"\xff\x00", b"v")]


@pytest.mark.parametrize("line", BAD_LINES, ids=lambda line: repr(line[:40]))
def test_a_bad_line_is_named_and_nothing_is_applied(node, wire, line):
    good = batch({"op": "put", "key": b64(b"k"), "value": ""})
    answer = wire.ask("POST", "/_/batch", good + line + b"\n" + good)
    assert answer[0] == 400
    assert "Line 2 " in sentence(answer)
    assert node.applied == 0


def test_a_batch_without_operations_is_refused(wire):
    for body in (b"", b"\n\n", b" \r\n"):
        answer = wire.ask("POST", "/_/batch", body)
        assert answer[0] == 400
        sentence(answer)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (NoLeader("nobody leads"), 503),
        (Overloaded("too much waits"), 503),
        (NodeStopped("it has stopped"), 503),
        (OutcomeUnknown("the outcome is unknown"), 504),
        (TooLarge("it is too large"), 413),
    ],
)
def test_what_a_node_refuses_has_a_status_of_its_own(node, wire, error, status):
    node.fails = error
    answer = wire.ask("PUT", "/k", b"v")
    assert (answer[0], answer[1]["x-metcd-error"]) == (status, type(error).__name__)
    assert sentence(answer) == str(error)
    assert ("retry-after" in answer[1]) == (status == 503)


def test_reads_without_a_leader_are_503_and_stale_ones_are_answered(node, wire):
    wire.ask("PUT", "/k", b"v")
    node.fails = NoLeader("nobody leads")
    assert wire.ask("GET", "/k")[0] == 503
    assert wire.ask("GET", "/_/scan")[0] == 503
    assert wire.ask("GET", "/k?consistency=stale")[2] == b"v"


def test_a_bug_is_500_in_one_sentence_and_is_logged(node, front, wire, caplog):
    """The one 500 there is; the fuzz test shows that no client can bring it about."""
    node.fails = ZeroDivisionError("a bug")
    answer = wire.ask("PUT", "/k", b"v")
    assert answer[0] == 500
    assert "ZeroDivisionError" in sentence(answer)
    assert "a bug" in caplog.text
    node.fails = None
    assert wire.ask("PUT", "/k", b"v")[0] == 204


def test_status_health_and_metrics(node):
    with serving(node) as front, Wire(front.address) as wire:
        assert json.loads(wire.ask("GET", "/_/status")[2])["leader"] == 1
        status, _, body = wire.ask("GET", "/_/health")
        assert (status, json.loads(body)["healthy"]) == (200, True)
        node.fails = NoLeader("nobody leads")
        status, _, body = wire.ask("GET", "/_/health")
        assert (status, json.loads(body)["healthy"]) == (503, False)
        assert wire.ask("GET", "/_/health?serializable=true")[0] == 200
        wire.ask("GET", "/absent?consistency=stale")
        text = wire.ask("GET", "/_/metrics")[2].decode()
        assert "# TYPE metcd_proposals_total counter\nmetcd_proposals_total 0\n" in text
        assert "# TYPE metcd_http_connections gauge\nmetcd_http_connections 1\n" in text
        assert 'metcd_http_answers_total{status="200"} 3\nmetcd_http_answers_total{status="404"} 1\n' in text
        assert text.count("# TYPE metcd_http_answers_total counter") == 1
