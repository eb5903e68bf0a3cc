"""One client's connection: what may be on the wire, and clients that are slow or gone."""

import json
import threading
import time

import pytest

from server.http import Limits
from server.limits import KEY_BYTES_MAX, REQUEST_LINE_BYTES_MAX
from tests.server.fake_node import Wire, serving
from tests.server.http_client import GET, b64, sentence, until

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
    "chunked": (b"PUT /a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 411),
    "two encodings": (b"PUT /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 411),
    "chunked by 1.0": (b"POST /v3/kv/put HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "chunks that are none": (
        b"POST /v3/kv/put HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n+5\r\n",
        400,
    ),
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


HASTY = Limits(head_s=0.25, body_s=0.25, idle_s=0.25, linger_s=0.05)


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


def test_a_body_of_etcd_s_is_limited_by_what_has_come_of_it(node):
    """A chunk announces its own size, and nobody the whole."""
    with serving(node, Limits(v3_body_bytes=100_000)) as front, Wire(front.address) as wire:
        wire.send(b"POST /v3/kv/put HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        wire.send(b"10\r\n" + b"x" * 16 + b"\r\nfffffff\r\n" + b"x" * 200_000)
        assert wire.answer()[0] == 413


def test_a_body_of_the_largest_size_is_taken(front, wire):
    assert wire.ask("PUT", "/k", b"x" * front.limits.body_bytes)[0] == 204
    assert len(wire.ask("GET", "/k")[2]) == front.limits.body_bytes


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
            if not front.threads and time.monotonic() > began + 0.2:
                break
            pause.wait(0.02)
        until(lambda: not front.threads)
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


def test_a_client_that_goes_in_the_middle_frees_its_place(node):
    with serving(node, Limits(connections=1)) as front:
        for start in (b"", b"GET /a", b"PUT /k HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nabc", GET):
            with Wire(front.address) as wire:
                wire.send(start)
            until(lambda: not front.threads)
    assert node.applied == 0
