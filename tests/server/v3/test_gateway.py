"""The gateway over HTTP, on one real node in both forms: paths, heads and bodies, and that the loop answers as a thread does."""

import contextlib
import json
import re
import socket

import pytest

from server.config import NodeConfig
from server.http import FrontEnd, Limits
from server.node import Node
from server.strangers import ANYBODY, Strangers
from server.v3.method import Caller, Write
from server.v3.rpc import (
    AuthUserGrantRoleRequest,
    DeleteRangeRequest,
    InternalRaftRequest,
    PutRequest,
    RequestHeader,
    TxnRequest,
)
from server.v3.unary import entry_of
from server.v3.wire import encode
from tests.server.fake_node import Wire
from tests.server.gateways import asked, serving
from tests.server.local_nodes import eventually, free_ports

HEAD = b"%b %b HTTP/1.1\r\nHost: localhost\r\n%bContent-Length: %d\r\n\r\n%b"


FORMS = ("plain", "loop")


@contextlib.contextmanager
def running(form, directory):
    """One node that leads, in the plain form or in the fast one."""
    patch = pytest.MonkeyPatch()
    patch.setenv("METCD_PLAIN", "1" if form == "plain" else "")
    node = Node(NodeConfig(1, {1: ("127.0.0.1", free_ports(1)[0])}, str(directory / "data"), tick_s=0.01))
    patch.undo()
    assert (node.loop is None) == (form == "plain")
    node.start()
    eventually("it leads", lambda: node.health()[0])
    yield node
    node.stop()


@pytest.fixture(scope="module", params=FORMS)
def node(request, tmp_path_factory):
    with running(request.param, tmp_path_factory.mktemp("node")) as node:
        yield node


@pytest.fixture
def wire(node):
    with connected(node) as wire:
        yield wire


@contextlib.contextmanager
def connected(node):
    """A client's connection to a front end of its own; the node's streams end with that."""
    front = FrontEnd(node, ("127.0.0.1", 0), Limits(), strangers=Strangers(frozenset((ANYBODY,))))
    front.start()
    with Wire(front.address) as wire:
        yield wire
    front.stop()


def ask(wire, target, body=b"{}", fields=b"", method=b"POST"):
    wire.send(HEAD % (method, target, fields, len(body), body))
    return wire.answer(method == b"HEAD")


def sentence(answer):
    return json.loads(answer[2])["message"]


def test_a_put_is_what_the_simple_path_reads_and_the_other_way_round(wire):
    assert ask(wire, b"/v3/kv/put", b'{"key":"Zm9v","value":"YmFy"}')[0] == 200
    assert wire.ask("GET", "/foo")[2] == b"bar"
    assert wire.ask("PUT", "/foo", b"baz")[0] == 204
    kvs = json.loads(ask(wire, b"/v3/kv/range", b'{"key":"Zm9v"}')[2])["kvs"]
    assert (kvs[0]["value"], kvs[0]["version"]) == ("YmF6", "2")
    assert ask(wire, b"/v3/kv/deleterange", b'{"key":"Zm9v"}')[0] == 200
    assert wire.ask("GET", "/foo")[0] == 404


@pytest.mark.parametrize("form", FORMS)
def test_after_a_stream_its_connection_serves_other_requests(form, tmp_path):
    """As etcd3gw's session has it: a keepalive is a stream of one message."""
    with running(form, tmp_path) as node, connected(node) as wire:
        for _ in range(5):
            assert ask(wire, b"/v3/lease/keepalive", b'{"ID": 7}')[0] == 200
            assert ask(wire, b"/v3/kv/range", b'{"key": "YQ=="}')[0] == 200


@pytest.mark.parametrize(
    ("target", "method", "status", "location"),
    [
        (b"/v3/kv/nothing", b"POST", 404, None),
        (b"/v3/kv/range/", b"POST", 404, None),
        (b"/v3/kv", b"GET", 404, None),
        (b"/v3/kv/range", b"GET", 405, None),
        (b"/v3/kv/range", b"PUT", 405, None),
        (b"/v3beta/kv/range", b"DELETE", 405, None),
        (b"/v3/kv/range", b"OPTIONS", 200, None),
        (b"/v3", b"POST", 301, "/v3/"),
        (b"/v3", b"GET", 301, "/v3/"),
        (b"/v3//kv/range?a=b", b"POST", 301, "/v3/kv/range?a=b"),
        (b"/v3beta/./kv/range", b"POST", 301, "/v3/kv/range"),
        (b"/v3/kv/../kv/range/", b"POST", 301, "/v3/kv/range/"),
    ],
)
def test_paths_and_methods(wire, target, method, status, location):
    """And the connection goes on, whatever was answered: the body was read."""
    answer = ask(wire, target, b"{}", method=method)
    assert (answer[0], answer[1].get("location")) == (status, location)
    assert answer[1]["access-control-allow-origin"] == "*"
    assert ask(wire, b"/v3/kv/range", b'{"key":"Zm9v"}')[0] == 200


def test_a_form_may_say_that_its_post_is_a_get(wire):
    """And nothing but a form, as grpc-gateway has it."""
    form = b"Content-Type: application/x-www-form-urlencoded\r\nX-HTTP-Method-Override: get\r\n"
    assert ask(wire, b"/v3/kv/range", b'{"key":"Zm9v"}', form)[0] == 405
    assert ask(wire, b"/v3/kv/range", b'{"key":"Zm9v"}', form[: form.index(b"X-")])[0] == 200
    assert ask(wire, b"/v3/kv/range", b'{"key":"Zm9v"}', form[form.index(b"X-") :])[0] == 200


def test_a_key_s_path_may_be_percent_encoded(wire):
    assert ask(wire, b"/v3/kv/%72ange", b'{"key":"Zm9v"}')[0] == 200
    assert ask(wire, b"/%763/kv%2Frange?x=1", b'{"key":"Zm9v"}')[0] == 200


def test_a_body_in_chunks(wire):
    wire.send(
        b"POST /v3/kv/range HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: Chunked\r\n\r\n"
        b'5\r\n{"key\r\n9;x=y\r\n":"Zm9v"}\r\n0\r\nA: b\r\n\r\n'
    )
    assert wire.answer()[0] == 200
    assert ask(wire, b"/v3/kv/range", b'{"key":"Zm9v"}')[0] == 200


def test_who_expects_a_100_continue_gets_one(wire):
    """Also where the body is there already, as Go's server does it."""
    wire.send(HEAD % (b"POST", b"/v3/kv/range", b"Expect: 100-continue\r\n", 14, b'{"key":"Zm9v"}'))
    assert wire.answer()[0] == 100
    assert wire.answer()[0] == 200


def test_a_connection_that_is_to_be_closed_says_so(wire):
    assert ask(wire, b"/v3/kv/range", b'{"key":"Zm9v"}', b"Connection: close\r\n")[1]["connection"] == "close"
    assert wire.rest() == b""


@pytest.mark.parametrize("timeout", [b"5", b"m", b"1 S", b"-", b"1s", b"9" * 19 + b"S"])
def test_a_timeout_that_is_none(wire, timeout):
    answer = ask(wire, b"/v3/kv/range", b'{"key":"Zm9v"}', b"Grpc-Timeout: %b\r\n" % timeout)
    assert answer[0] == 400
    assert sentence(answer) == "invalid grpc-timeout: " + timeout.decode()


@pytest.mark.parametrize("target", [b"/v3/kv/range", b"/v3/kv/put"])
def test_a_timeout_that_is_over(wire, target):
    answer = ask(wire, target, b'{"key":"Zm9v"}', b"Grpc-Timeout: -1m\r\n")
    assert (answer[0], sentence(answer)) == (504, "context deadline exceeded")
    for enough in (b"1M", b"0S", b""):
        assert ask(wire, target, b'{"key":"Zm9v"}', b"Grpc-Timeout: %b\r\n" % enough)[0] == 200


def test_more_than_grpc_takes_is_told_in_grpc_s_words(wire):
    """Its own size, whatever the JSON around it is."""
    answer = ask(wire, b"/v3/kv/range", b'{"key":"%b"}%b' % (b"YWFh" * 400_000, b" " * 1_000_000))
    assert answer[0] == 200
    answer = ask(wire, b"/v3/kv/range", b'{"key":"%b"}' % (b"YWFh" * 700_000))
    assert answer[0] == 429
    assert re.fullmatch(r"grpc: received message larger than max \(2100005 vs\. 2097152\)", sentence(answer))


def test_an_answer_of_more_than_2_048_bytes_comes_in_a_chunk(wire):
    """As Go's server sends it."""
    for size, length in ((900, True), (1800, False)):
        ask(wire, b"/v3/kv/put", b'{"key":"bGFyZ2U=","value":"%b"}' % (b"AAAA" * (size // 3)))
        answer = ask(wire, b"/v3/kv/range", b'{"key":"bGFyZ2U="}')
        assert ("content-length" in answer[1]) == length
        assert len(json.loads(answer[2])["kvs"][0]["value"]) == size // 3 * 4


def test_an_error_of_more_than_2_048_bytes_comes_in_a_chunk(wire):
    """As any answer: its sentence stands in it twice, and quotes what wasn't understood."""
    for size, length in ((500, True), (1500, False)):
        answer = ask(wire, b"/v3/kv/range", b'{"key":"YQ==","sort_order":"%b"}' % (b"A" * size))
        assert (answer[0], "content-length" in answer[1]) == (400, length)
        assert len(json.loads(answer[2])["message"]) > size


REQUESTS = [
    (b"/v3/kv/put", b'{"key":"YQ==","value":"YQ=="}', b""),
    (b"/v3/kv/put", b'{"value":"YQ=="}', b""),
    (b"/v3/kv/put", b'{"key":"YQ==","lease":"77"}', b""),
    (b"/v3/kv/put", b'{"key":5}', b""),
    (b"/v3/kv/put", b"", b""),
    (b"/v3/kv/range", b'{"key":"YQ=="}', b""),
    (b"/v3/kv/range", b'{"key":"YQ==","serializable":true}', b""),
    (b"/v3/kv/range", b'{"key":"YQ==","range_end":"AA=="}', b""),
    (b"/v3/kv/range", b'{"key":"YQ==","revision":"99999"}', b""),
    (b"/v3/kv/range", b'{"key":"YQ=="}', b"Grpc-Metadata-hasleader: true\r\n"),
    (b"/v3/kv/range", b'{"key":"YQ=="}', b"Authorization: nonsense\r\n"),
    (b"/v3/kv/txn", b'{"success":[{"request_range":{"key":"YQ=="}}]}', b""),
    (b"/v3/kv/txn", b'{"success":[{"request_put":{"key":"YQ=="}}]}', b""),
    (b"/v3/kv/deleterange", b'{"key":"bm9uZQ=="}', b""),
    (b"/v3/auth/status", b"{}", b""),
]


@pytest.mark.parametrize(("target", "body", "fields"), REQUESTS)
def test_the_loop_answers_as_a_thread_does(node, wire, target, body, fields):
    """The same bytes but for revision and time. A timeout is what makes a thread of a call that could begin in the loop."""

    def answer(more):
        found = ask(wire, target, body, fields + more)
        headers = {name: value for name, value in found[1].items() if name not in ("date", "content-length")}
        return found[0], headers, re.sub(rb'(_revision|revision|version|raft_term)":"[0-9]+"', b"", found[2])

    assert answer(b"") == answer(b"Grpc-Timeout: 1H\r\n")


@pytest.mark.parametrize("who", [Caller(), Caller("t", "alice", 7), Caller("t", "é" * 100, 1 << 40)])
@pytest.mark.parametrize(
    ("field", "request_"),
    [
        ("put", PutRequest(b"k", b"v" * 300, 77)),
        ("delete_range", DeleteRangeRequest(b"")),
        ("txn", TxnRequest()),
        ("auth_user_grant_role", AuthUserGrantRoleRequest("a", "b")),
    ],
)
def test_an_entry_that_is_put_together_is_the_one_that_is_encoded(who, field, request_):
    """What the loop proposes and what a thread proposes are the same bytes."""
    asked = InternalRaftRequest(header=RequestHeader(username=who.username, auth_revision=who.auth_revision))
    setattr(asked, field, request_)
    method = Write("x", type(request_), lambda request: None, field)
    assert entry_of(method, who, request_) == encode(asked)


def test_requests_that_were_sent_ahead_are_answered_in_their_order(wire):
    ahead = [(b"/v3/kv/put", b'{"key":"cA==","value":"%b"}' % value) for value in (b"MQ==", b"Mg==")]
    ahead += [(b"/v3/kv/range", b'{"key":"cA=="}'), (b"/v3/kv/range", b'{"key":"cA==","range_end":"AA=="}')]
    wire.send(b"".join(HEAD % (b"POST", target, b"", len(body), body) for target, body in ahead))
    answers = [json.loads(wire.answer()[2]) for _ in ahead]
    assert "kvs" not in answers[0]
    assert [each["value"] for answer in answers[2:] for each in answer["kvs"][:1]] == ["Mg==", "Mg=="]


def test_a_call_that_waits_while_the_node_stops_is_told_so(node):
    """Not that the client has gone, which is there and reads it. (500, because etcd's lock service passes on no codes.)"""
    front = FrontEnd(node, ("127.0.0.1", 0), Limits(), strangers=Strangers(frozenset((ANYBODY,))))
    front.start()
    try:
        with Wire(front.address) as wire, Wire(front.address) as waiting:
            lease = json.loads(ask(wire, b"/v3/lease/grant", b'{"TTL":"60"}')[2])["ID"].encode()
            assert ask(wire, b"/v3/lock/lock", b'{"name":"bG9jaw==","lease":"%b"}' % lease)[0] == 200
            body = b'{"name":"bG9jaw=="}'
            waiting.send(HEAD % (b"POST", b"/v3/lock/lock", b"", len(body), body))
            locks = b'{"key":"bG9jay8=","range_end":"bG9jazA=","count_only":true}'
            eventually("it waits", lambda: json.loads(ask(wire, b"/v3/kv/range", locks)[2])["count"] == "2")
            front.stop()
            answer = waiting.answer()
            assert (answer[0], sentence(answer)) == (500, "etcdserver: server stopped")
    finally:
        front.stop()


@pytest.mark.parametrize("plain", ["1", ""])
def test_a_thousand_watchers_that_come_at_the_same_moment_are_all_served(tmp_path, monkeypatch, plain):
    """As they do when a node has started again: there are 256 places, and a watch needs its own for a moment."""
    monkeypatch.setenv("METCD_PLAIN", plain)
    body = b'{"create_request":{"key":"YQ=="}}'
    with serving(tmp_path / "node") as url, contextlib.ExitStack() as clients:
        host, _, port = url.removeprefix("http://").rpartition(":")
        watchers = []
        for _ in range(1000):
            watchers.append(clients.enter_context(socket.create_connection((host, int(port)), timeout=30)))
            watchers[-1].sendall(HEAD % (b"POST", b"/v3/watch", b"", len(body), body))
        assert {watcher.recv(12) for watcher in watchers} == {b"HTTP/1.1 200"}
        told = asked(url, "GET", "/_/metrics")[2]
        assert b"metcd_streams 1000\n" in told
        assert b"metcd_http_connections_refused_total 0\n" in told
