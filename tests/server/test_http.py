"""The HTTP interface as a client sees it: DESIGN's table, and what is said to whoever asks for something else."""

import base64
import errno
import itertools
import json
import resource
import socket
import threading
import time
from types import SimpleNamespace

import pytest

from server.addresses import url_of
from server.client import Client
from server.errors import NodeStopped, NoLeader, OutcomeUnknown, Overloaded, TooLarge
from server.http import FrontEnd, Limits
from server.limits import FIELD_BYTES_MAX, FIELDS_BYTES_MAX, KEY_BYTES_MAX, REQUEST_LINE_BYTES_MAX
from server.request import BadRequest, is_local_name, parse_head, percent_decode
from tests.server.fake_node import FakeNode, Wire, serving
from tests.server.local_nodes import loopbacks

GET = b"GET /a HTTP/1.1\r\nHost: x.localhost\r\n\r\n"


@pytest.fixture
def node():
    return FakeNode()


@pytest.fixture(scope="module")
def shared_front():
    with serving(FakeNode()) as front:
        yield front


@pytest.fixture
def front(shared_front, node):
    """One server for all tests that don't look at its life, with a node of its own for each."""
    shared_front.node = node
    return shared_front


@pytest.fixture
def wire(front):
    with Wire(front.address) as wire:
        yield wire


def sentence(answer):
    """The one sentence of an error; fails if the answer isn't one."""
    _, headers, body = answer
    assert headers["content-type"] == "application/json"
    error = json.loads(body)["error"]
    assert "\n" not in error
    assert error
    return error


def b64(data):
    return base64.b64encode(data).decode()


# ---- keys -----------------------------------------------------------------------------------------------------------


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
        ("/v3", b"v3"),
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


@pytest.mark.parametrize(
    "target", ["/_/hello", "/%5F/hello", "/_/", "/v3/kv/put", "/%76%33/x", "/_/members", "/_/leader/2"]
)
def test_reserved_paths_hold_no_keys(node, wire, target):
    for method, body in (("GET", None), ("PUT", b"v"), ("DELETE", None), ("POST", b"")):
        with Wire(wire.socket.getpeername()) as other:
            answer = other.ask(method, target, body)
            assert answer[0] == 404
            assert "reserved" in sentence(answer)
    assert list(node.machine.scan()) == []


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


# ---- scan and batch -------------------------------------------------------------------------------------------------


def lines(body):
    return [
        (base64.b64decode(pair["key"]), base64.b64decode(pair["value"])) for pair in map(json.loads, body.splitlines())
    ]


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
        _until(lambda: taken and not front._open)  # given up, because a block did not leave in time
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


def batch(*operations):
    return "".join(json.dumps(operation) + "\n" for operation in operations).encode()


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


# ---- the node's answers ---------------------------------------------------------------------------------------------


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


# ---- the wire -------------------------------------------------------------------------------------------------------


def test_requests_can_be_pipelined_and_are_answered_in_order(wire):
    wire.send(b"".join(b"PUT /k%d HTTP/1.1\r\nHost: [::1]\r\nContent-Length: 1\r\n\r\n%d" % (n, n) for n in range(9)))
    wire.send(b"".join(b"GET /k%d HTTP/1.1\r\nHost: [::1]\r\n\r\n" % n for n in range(9)))
    assert [wire.answer()[1]["x-metcd-index"] for _ in range(9)] == [str(n + 1) for n in range(9)]
    assert [wire.answer()[2] for _ in range(9)] == [b"%d" % n for n in range(9)]


def test_a_request_may_come_in_any_pieces(wire):
    data = b"PUT /k HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5\r\n\r\nvalueGET /k HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    for byte in data:
        wire.send(bytes((byte,)))
    assert wire.answer()[0] == 204
    assert wire.answer()[2] == b"value"


@pytest.mark.parametrize("head", [b"GET /a HTTP/1.0\r\n\r\n", GET[:-2] + b"Connection: foo, Close\r\n\r\n"])
def test_http_1_0_and_connection_close_end_the_connection(front, head):
    with Wire(front.address) as wire:
        wire.send(head + GET)
        assert wire.rest().count(b"HTTP/1.1 ") == 1


def test_expect_100_continue_is_told_to_go_on_unless_the_answer_is_known(wire):
    head = "PUT /k HTTP/1.1\r\nHost: 127.0.0.1\r\nExpect: 100-Continue\r\nContent-Length: %d\r\n\r\n"
    wire.send((head % 5).encode())
    assert wire.answer()[0] == 100
    wire.send(b"value")
    assert wire.answer()[0] == 204
    wire.send((head % 5).encode() + b"value")  # didn't wait: nothing to say
    assert wire.answer()[0] == 204
    wire.send((head % (2 << 20)).encode())
    assert wire.answer()[0] == 413


BAD_HEADS = {
    "http/0.9": (b"GET /a\r\n\r\n", 400),
    "http/2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "tls hello": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
    "bare lf": (b"GET /a HTTP/1.1\nHost: x\n\n", 400),
    "bare cr": (b"GET /a HTTP/1.1\r\nHost: x\rY: z\r\n\r\n", 400),
    "nul": (b"GET /a\0 HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "empty line first": (b"\r\n" + GET, 400),
    "two spaces": (b"GET  /a HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "space in target": (b"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "fragment": (b"GET /a#b HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "raw utf-8": ("GET /ä HTTP/1.1\r\nHost: x\r\n\r\n".encode(), 400),
    "lower-case version": (b"GET /a http/1.1\r\nHost: x\r\n\r\n", 400),
    "version 1.2": (b"GET /a HTTP/1.2\r\nHost: x\r\n\r\n", 400),
    "authority": (b"CONNECT localhost:80 HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "asterisk": (b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "no host": (b"GET /a HTTP/1.1\r\n\r\n", 400),
    "two hosts": (b"GET /a HTTP/1.1\r\nHost: x\r\nhost: x\r\n\r\n", 400),
    "bad host": (b"GET /a HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
    "host with path": (b"GET /a HTTP/1.1\r\nHost: x/y\r\n\r\n", 400),
    "obs-fold": (b"GET /a HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n", 400),
    "space before colon": (b"GET /a HTTP/1.1\r\nHost : x\r\n\r\n", 400),
    "no colon": (b"GET /a HTTP/1.1\r\nHost: x\r\nhello\r\n\r\n", 400),
    "control in value": (b"GET /a HTTP/1.1\r\nHost: x\r\nA: \x01\r\n\r\n", 400),
    "length twice": (b"PUT /a HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx", 400),
    "length +2": (b"PUT /a HTTP/1.1\r\nHost: x\r\nContent-Length: +2\r\n\r\nxx", 400),
    "length 0_2": (b"PUT /a HTTP/1.1\r\nHost: x\r\nContent-Length: 0_2\r\n\r\nxx", 400),
    "length -1": (b"PUT /a HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\nxx", 400),
    "length 0x2": (b"PUT /a HTTP/1.1\r\nHost: x\r\nContent-Length: 0x2\r\n\r\nxx", 400),
    "length list": (b"PUT /a HTTP/1.1\r\nHost: x\r\nContent-Length: 1, 1\r\n\r\nx", 400),
    "length empty": (b"PUT /a HTTP/1.1\r\nHost: x\r\nContent-Length:\r\n\r\n", 400),
    "length arabic": ("PUT /a HTTP/1.1\r\nHost: x\r\nContent-Length: ٢\r\n\r\nxx".encode(), 400),
    "length 2^63": (b"PUT /a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9223372036854775808\r\n\r\n", 413),
    "length of 5,000 digits": (b"PUT /a HTTP/1.1\r\nHost: x\r\nContent-Length: %b\r\n\r\n" % (b"9" * 5000), 413),
    "no length": (b"PUT /a HTTP/1.1\r\nHost: localhost\r\n\r\n", 411),
    "chunked": (b"PUT /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 411),
    "chunked and length": (
        b"PUT /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        400,
    ),
    "expectation": (b"PUT /a HTTP/1.1\r\nHost: x\r\nExpect: cake\r\nContent-Length: 1\r\n\r\nx", 417),
    "long line": (b"GET /%b HTTP/1.1\r\nHost: x\r\n\r\n" % (b"a" * REQUEST_LINE_BYTES_MAX), 431),
    "long field": (b"GET /a HTTP/1.1\r\nHost: x\r\nA: %b\r\n\r\n" % (b"a" * 9000), 431),
    "endless line": (b"GET /%b" % (b"a" * (REQUEST_LINE_BYTES_MAX + 1)), 431),
    "many fields": (b"GET /a HTTP/1.1\r\nHost: x\r\n%b\r\n" % (b"A: b\r\n" * 64), 431),
    "endless head": (b"GET /a HTTP/1.1\r\nHost: x\r\n" + b"A: bcdef\r\n" * 7000, 431),
    "other site's name": (b"GET /a HTTP/1.1\r\nHost: example.com\r\n\r\n", 403),
    "other site's link": (b"GET /a HTTP/1.1\r\nHost: localhost\r\nSec-Fetch-Site: cross-site\r\n\r\n", 403),
    "other site's page": (b"GET /a HTTP/1.1\r\nHost: localhost\r\nOrigin: http://example.com\r\n\r\n", 403),
}


@pytest.mark.parametrize("name", BAD_HEADS)
def test_a_bad_request_gets_one_sentence_and_nothing_happens(node, front, name):
    """RFC 9112 section 11.2; the lengths are those that `http.server` takes for numbers."""
    data, status = BAD_HEADS[name]
    with Wire(front.address) as wire:
        wire.send(data + b"PUT /smuggled HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")
        answer = wire.answer()
        assert answer[0] == status
        sentence(answer)
        if "other site" not in name:
            assert answer[1]["connection"] == "close"
            assert wire.rest() == b""
            assert node.applied == 0


def test_garbage_on_the_port_is_counted_and_told_once_a_minute(node, caplog):
    with serving(node) as front:
        for _ in range(3):
            with Wire(front.address) as wire:
                wire.send(b"\x16\x03\x01 no HTTP\r\n\r\n")
                assert wire.answer()[0] == 400
        with Wire(front.address) as wire:
            assert b"metcd_http_garbage_total 3\n" in wire.ask("GET", "/_/metrics")[2]
        port = front.address[1]
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 1
    assert f"what 127.0.0.1 sends to client port {port} is no request: " in lines[0]


def test_most_fields_and_longest_lines_are_still_taken():
    fields = b"".join(b"A%d: b\r\n" % number for number in range(63))
    assert parse_head(b"GET /a HTTP/1.1\r\nHost: x\r\n%b\r\n" % fields) is not None
    line = b"GET /%b HTTP/1.1\r\n" % (b"a" * (REQUEST_LINE_BYTES_MAX - 14))
    request = parse_head(line + b"Host: x\r\nA:%b\r\n\r\n" % (b"b" * (FIELD_BYTES_MAX - 2)))
    assert request is not None
    assert len(line) == REQUEST_LINE_BYTES_MAX + 2


def test_all_fields_together_are_bounded():
    fields = b"A: %b\r\n" % (b"b" * 8000) * (FIELDS_BYTES_MAX // 8000 + 1)
    with pytest.raises(BadRequest, match="65,536") as refused:
        parse_head(b"GET /a HTTP/1.1\r\n" + fields)
    assert refused.value.status == 431


@pytest.mark.parametrize("size", [8_150, 8_192, 20_000, KEY_BYTES_MAX])
@pytest.mark.parametrize("byte", [b"x", b"\xff"], ids=["plain", "escaped"])
def test_every_key_that_can_be_written_can_be_read_scanned_and_deleted(node, wire, size, byte):
    """Whatever wrote it: a batch carries keys in its body, and the others in a request line, three bytes for one."""
    key = byte * size
    path = "/" + ("%ff" * size if byte == b"\xff" else "x" * size)
    batch = json.dumps({"op": "put", "key": b64(key), "value": b64(b"v")}).encode()
    assert wire.ask("POST", "/_/batch", batch)[0] == 200
    assert wire.ask("GET", path)[2] == b"v"
    scan = f"/_/scan?start={path[1:]}&stop={path[1:]}&prefix={path[1:]}&consistency=linearizable&limit=99&reverse=false"
    assert wire.ask("GET", scan)[0] == 200
    assert b64(key).encode() in wire.ask("GET", f"/_/scan?start={path[1:]}&prefix={path[1:]}")[2]
    assert wire.ask("PUT", path, b"w")[0] == 204
    assert wire.ask("DELETE", path)[0] == 204
    assert list(node.machine.scan()) == []


def test_a_longer_key_is_refused_in_the_same_words_everywhere(node, wire):
    key = b"x" * (KEY_BYTES_MAX + 1)
    batch = json.dumps({"op": "put", "key": b64(key), "value": ""}).encode()
    for answer in (wire.ask("GET", "/" + key.decode()), wire.ask("POST", "/_/batch", batch)):
        assert answer[0] == 400
        assert "a key has at most 32,767 bytes, and this one has 32,768" in sentence(answer)


def test_an_error_in_a_bodyless_request_leaves_the_connection_open(wire):
    assert wire.ask("GET", "/%zz")[0] == 400
    assert wire.ask("POST", "/k")[0] == 405
    assert wire.ask("GET", "/absent")[0] == 404


def test_a_body_that_is_too_large_is_refused_before_it_is_read(front):
    """The client is in the middle of sending it, and gets to read the answer all the same."""
    with Wire(front.address) as wire:
        wire.send(b"PUT /k HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2000000\r\n\r\n" + b"x" * 200_000)
        answer = wire.answer()
        assert answer[0] == 413
        wire.send(b"x" * 200_000)
        assert wire.rest() == b""


def test_a_body_of_the_largest_size_is_taken(front, wire):
    assert wire.ask("PUT", "/k", b"x" * front.limits.body_bytes)[0] == 204
    assert len(wire.ask("GET", "/k")[2]) == front.limits.body_bytes


@pytest.mark.parametrize(("host", "local"), [
    ("localhost:3379", True), ("LOCALHOST", True), ("a.localhost", True), ("127.0.0.1", True), ("127.0.0.1:3379", True),
    ("[::1]:3379", True), ("[::1]", True), ("example.com", False), ("127.0.0.1.example.com", False), ("", False),
    ("localhost.example.com:80", False), ("1.2.3", False), ("notlocalhost", False),
])  # fmt: skip
def test_local_names_are_those_that_nobody_else_can_own(host, local):
    assert is_local_name(host.encode()) == local


def test_a_server_for_all_interfaces_goes_by_any_name(node):
    front = FrontEnd(node, ("0.0.0.0", 0))
    front.start()
    try:
        with Wire(("127.0.0.1", front.address[1])) as wire:
            wire.send(b"GET /a HTTP/1.1\r\nHost: node1.example.com\r\n\r\n")
            assert wire.answer()[0] == 404
    finally:
        front.stop()


# ---- clients that are slow, many, or gone ---------------------------------------------------------------------------

HASTY = Limits(head_s=0.25, body_s=0.25, idle_s=0.25, linger_s=0.05)


def _until(look):
    """Returns when `look()` is true; fails after ten seconds."""
    deadline = time.monotonic() + 10
    pause = threading.Event()
    while not look():
        assert time.monotonic() < deadline, "it did not happen within 10 s"
        pause.wait(0.01)


@pytest.mark.parametrize(
    ("start", "drip", "status"),
    [
        (b"", b"GET /aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", 408),
        (b"PUT /k HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n", b"x" * 500, 408),
    ],
)
def test_a_client_that_drips_is_closed_at_the_absolute_deadline(node, start, drip, status):
    """Slowloris: each byte would be in time for a timeout of each recv, and hold the thread for ever."""
    with serving(node, HASTY) as front, Wire(front.address) as wire:
        began = time.monotonic()
        wire.send(start)
        pause = threading.Event()
        for byte in drip:
            try:
                wire.send(bytes((byte,)))
            except OSError:
                break
            if not front._open and time.monotonic() > began + 0.2:
                break
            pause.wait(0.02)
        _until(lambda: not front._open)
        assert time.monotonic() - began < 2.0 + HASTY.head_s
        assert wire.rest()[9:12] in (b"%d" % status, b"")
    assert node.applied == 0


@pytest.mark.parametrize("first", [b"", GET])
def test_an_idle_connection_is_closed_without_a_word(node, first):
    with serving(node, HASTY) as front, Wire(front.address) as wire:
        if first:
            wire.send(first)
            assert wire.answer()[0] == 404
        assert wire.rest() == b""


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
        _until(lambda: not front._open)
        with Wire(front.address) as four:
            assert four.ask("GET", "/a")[0] == 404


def hold(wires, node):
    """Each of these connections waits for the answer of a write that takes its time; returns when all do."""
    node.gate.clear()
    for wire in wires:
        node.asked.clear()
        wire.send(b"PUT /k HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nv")
        assert node.asked.wait(10)


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
        _until(lambda: len(front._open) == 3)
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


def test_a_client_that_goes_in_the_middle_frees_its_place(node):
    with serving(node, Limits(connections=1)) as front:
        for start in (b"", b"GET /a", b"PUT /k HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nabc", GET):
            with Wire(front.address) as wire:
                wire.send(start)
            _until(lambda: not front._open)
    assert node.applied == 0


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
                _until(lambda: "can't accept" in caplog.text)
                assert wire.ask("GET", "/a")[0] == 404  # who is in is served
                threading.Event().wait(0.25)
                assert caplog.text.count("can't accept") < 10  # ten a second, and not as fast as it can
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
                for each in held:
                    each.close()
            assert waiting.recv(99).startswith(b"HTTP/1.1 404 ")


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
        _until(lambda: front.stopping)
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


def test_stop_does_not_wait_for_writes_that_nobody_will_confirm(node):
    """A forwarded write whose leader is gone would wait for its 504, and the node with it."""
    front = FrontEnd(node, ("127.0.0.1", 0))
    front.start()
    with Wire(front.address) as wire:
        hold([wire], node)
        node.fails = OutcomeUnknown("on its way")
        front.stop(0.01)  # the fake's gate opens when it is told that nobody may wait any more
        status, headers, _ = wire.answer()
        assert (status, headers["connection"]) == (504, "close")


def test_a_taken_port_is_an_error_at_once(front):
    with pytest.raises(OSError):
        FrontEnd(FakeNode(), front.address)


def test_percent_decoding_is_of_bytes():
    assert percent_decode(b"%e4%BD%a0+%25") == b"\xe4\xbd\xa0+%"
    for bad in (b"%", b"%1", b"a%1g", b"%%41"):
        with pytest.raises(BadRequest):
            percent_decode(bad)
