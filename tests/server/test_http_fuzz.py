"""Whatever bytes a client sends: each request is answered or its connection closed, never a 500, never a dead thread.

Three layers: the pure parser on arbitrary bytes and on requests with bytes changed, where every outcome is None, a
Request, or BadRequest; the same over a real socket, with a healthy client that is asked afterwards; and JSON lines
that are nearly operations. Requests are grown from parts that parsers are known to trip over (RFC 9112 section 11).
"""

import base64
import contextlib
import json
import threading

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from server.http import Limits
from server.limits import FIELDS_BYTES_MAX, REQUEST_LINE_BYTES_MAX
from server.request import BadRequest, Request, parse_head
from server.routes import find_call, perform
from tests.server.fake_node import FakeNode, Wire, serving

STATUSES = {400, 403, 404, 405, 408, 411, 413, 417, 431}

GOOD_METHODS = [b"GET", b"PUT", b"DELETE", b"HEAD", b"POST", b"OPTIONS"]
BAD_METHODS = [b"get", b"G T", b"", b"\x00", b"P\xc3T", b"(GET)", b"G" * 9000]
GOOD_TARGETS = b"""
    /k /a%20b /%00 // /k?wait=false /k?consistency=stale /_/scan /_/scan?limit=1&reverse=true /_/scan?start=%ff
    /_/batch /_/status /_/health /_/metrics http://h/k
""".split()
BAD_TARGETS = [
    *b"/ /% /%zz /_/x /v3/x /%5f/x /k?wait= /k?consistency=stale& /k?&& /k?= * k http:/// /\xff /# http: %2Fk".split(),
    *(b"/_/scan?limit=9999999999999999999", b"", b"/a b", b"/" + b"x" * 9000, b"/%41" * 1000),
]
BAD_VERSIONS = [b"HTTP/0.9", b"HTTP/2.0", b"HTTP/1.", b"HTTP/1.1 ", b"", b"http/1.1", b"HTTP/1.10"]
LENGTHS = [b"0", b"1", b"5", b"005", b"+5", b"-1", b"5, 5", b"5_0", b"", b"9" * 30, b"2000000", b"\xd9\xa2"]
GOOD_FIELDS = [b"Accept: */*", b"X: \xff", b"X:", b"Connection: keep-alive, X", b"Connection: close"]
BAD_FIELDS = [
    *(b"Content-Length: " + length for length in LENGTHS),
    *(
        b"Host: localhost",
        b"Host:",
        b"Host: a b",
        b"HOST: x",
        b"Origin: http://x",
        b"Expect: 100-continue",
        b"Expect: x",
    ),
    *(b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity", b" folded", b"\tfolded", b"No colon", b": empty"),
    *(b"A : b", b"A: \x00", b"A: " + b"b" * 9000, b"A:b\rC: d", b""),
]
BODIES = [b"", b"v", b"value", b"0\r\n\r\n", b'{"op":"delete","key":"YQ=="}', b"[" * 5000, b"\xff" * 50]
FAULTS = st.sampled_from(["none", "none", "method", "target", "version", "field", "end", "length", "host"])


@st.composite
def requests(draw, faults=FAULTS):
    """One request in order, but for one or two of its parts."""
    wrong = {draw(faults), draw(faults)}

    def pick(part, good, bad):
        return draw(st.sampled_from(bad if part in wrong else good))

    body = draw(st.sampled_from(BODIES))
    lines = [
        b" ".join((
            pick("method", GOOD_METHODS, BAD_METHODS),
            pick("target", GOOD_TARGETS, BAD_TARGETS),
            pick("version", [b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0"], BAD_VERSIONS),
        )),
        pick("host", [b"Host: localhost", b"host:\t127.0.0.1:3379 ", b"Host: [::1]"], [b"Host: example.com", b"A: b"]),
        pick("length", [b"Content-Length: %d" % len(body)], [b"Content-Length: %d" % (len(body) + 3), b"A: b"]),
        *draw(st.lists(st.sampled_from(GOOD_FIELDS), max_size=3)),
        *draw(st.lists(st.sampled_from(BAD_FIELDS), min_size=1, max_size=2) if "field" in wrong else st.just([])),
    ]  # fmt: skip
    end = pick("end", [b"\r\n"], [b"\n", b"\r", b"\r\r\n", b""])
    return end.join([*lines, b"", b""]) + body


@st.composite
def mutated(draw):
    """Requests after one another, then a few bytes of it all changed, cut out or put in."""
    data = bytearray(b"".join(draw(st.lists(requests(), min_size=1, max_size=4))))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data)))
        data[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
    return bytes(data)


ANYTHING = st.one_of(st.binary(max_size=300), requests(), mutated())


def parsed(data, pieces=()):
    """What the parser makes of `data` when it arrives in pieces that end at these offsets: a Request, None, a status."""
    seen = 0
    try:
        for end in [*sorted(end for end in pieces if end < len(data)), len(data)]:
            request = parse_head(data[:end], seen)
            if request is not None:
                return request
            seen = end
    except BadRequest as refused:
        return refused.status
    return None


@given(ANYTHING)
def test_the_parser_answers_refuses_or_wants_more(data):
    outcome = parsed(data)
    if isinstance(outcome, Request):
        head = data[: outcome.size]
        assert head.endswith(b"\r\n\r\n")
        assert head.count(b"\r") == head.count(b"\n") == head.count(b"\r\n")
        assert b"\0" not in head
        assert outcome.target.startswith(b"/")
        assert parse_head(head) == outcome  # nothing after the head was looked at
    elif outcome is None:
        assert b"\r\n\r\n" not in data
        assert len(data) <= REQUEST_LINE_BYTES_MAX + FIELDS_BYTES_MAX
    else:
        assert outcome in STATUSES


@given(ANYTHING, st.lists(st.integers(0, 400), max_size=5))
def test_how_a_head_is_cut_into_pieces_does_not_matter(data, pieces):
    whole, cut = parsed(data), parsed(data, pieces)
    # a head that is wrong early on may be refused for that before its end arrives, and nothing else may differ
    if not isinstance(whole, int) or not isinstance(cut, int):
        assert whole == cut


@given(requests(faults=st.just("none")), st.sampled_from(BAD_FIELDS))
def test_a_request_that_is_in_order_is_taken_and_a_second_reading_of_it_refused(data, second):
    """Smuggling needs two answers to the question where a request ends: none is accepted that names a second one."""
    request = parsed(data)
    assert isinstance(request, Request)
    head = data[: request.size - 2]
    outcome = parsed(head + second + b"\r\n\r\n")
    if second in (b"Origin: http://x", b"Expect: 100-continue"):
        assert isinstance(outcome, Request)
    elif second == b"":
        assert outcome == request
    else:
        assert outcome in (400, 411, 413, 417, 431)


class Front:
    """Who serves, for `perform`, without a socket."""

    def __init__(self):
        self.node = FakeNode()

    def metrics(self):
        return {}


@given(ANYTHING, st.binary(max_size=50))
def test_what_parses_is_performed_without_a_500(data, body):
    request = parsed(data)
    assume(isinstance(request, Request))
    front = Front()
    try:
        answer = perform(front, find_call(request), body)
    except BadRequest as refused:
        assert refused.status in STATUSES
    else:
        assert answer.status in {200, 204} | STATUSES


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(["put", "delete", "YQ==", "Xy94"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["op", "key", "value", "x"]), inner, max_size=4),
    max_leaves=8,
)  # fmt: skip
LINES = st.one_of(
    JUNK.map(lambda value: json.dumps(value).encode()),
    st.binary(max_size=20),
    st.binary(min_size=1, max_size=9).map(lambda key: b'{"op":"delete","key":"%b"}' % base64.b64encode(key)),
)


@given(st.lists(LINES, max_size=4))
def test_a_batch_is_applied_whole_or_refused_with_400(body_lines):
    front = Front()
    head = b"POST /_/batch HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n"
    answer = perform(front, find_call(parse_head(head)), b"\n".join(body_lines))
    assert answer.status in (200, 400)
    assert front.node.applied == (answer.status == 200)


@pytest.fixture(scope="module")
def front():
    hasty = Limits(head_s=0.05, body_s=0.05, idle_s=0.05, linger_s=0.01)
    with serving(FakeNode(), hasty) as front:
        yield front


@settings(max_examples=60)
@given(data=ANYTHING, close=st.booleans())
def test_over_a_socket_all_is_answered_or_closed(front, data, close):
    """Sends anything, perhaps hangs up in the middle; the server must answer a healthy client afterwards."""
    with Wire(front.address) as wire, contextlib.suppress(ConnectionError):
        wire.send(data)
        if not close:
            answers = wire.rest()  # until the server closes, by its deadlines at the latest
            assert answers == b"" or answers.startswith(b"HTTP/1.1 ")
            assert b"HTTP/1.1 500" not in answers
    with Wire(front.address) as healthy:
        assert healthy.ask("GET", "/_/health")[0] == 200


def test_after_the_fuzz_every_thread_is_gone_and_no_500_was_given(front):
    """Runs last in this module: each connection's thread ended by itself, and nothing was logged as a failure."""
    pause = threading.Event()
    for _ in range(500):
        if not front.threads:
            break
        pause.wait(0.01)
    assert not front.threads
    assert 'http_answers_total{status="500"}' not in front.metrics()
    assert front._slots.free() == front.limits.connections
