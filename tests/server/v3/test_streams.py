"""Streams: requests that come in pieces, answers in chunks, clients that are slow, and a node that stops."""

import os
import random
import socket
import threading
import time
from types import SimpleNamespace

import pytest

from server.errors import NoLeader
from server.request import parse_head
from server.v3 import rpc, stream
from server.v3.chunks import chunk_of
from server.v3.method import Caller, Stream
from server.v3.status import NO_LEADER, TIMEOUT, Code, Status
from server.v3.streams import Streams
from tests.server.local_nodes import eventually

SEED = int(os.environ.get("METCD_SEED", "0"))
WAIT_S = 10.0


class Port:
    """What http gives streams, in short."""

    def __init__(self):
        self.given_back = []
        self.was_given_back = threading.Event()
        self.over = False

    def stream_head(self, request, status, grpc, keep_alive):
        return b"HTTP/1.1 %d\r\nGrpc: %d\r\n\r\n" % (status, grpc)

    def error_answer(self, request, status, keep_alive):
        return b"HTTP/1.1 %d\r\n\r\n%b" % (status.http_status, status.body())

    def back(self, connection, received):
        self.given_back.append((connection, received))
        self.was_given_back.set()
        if self.over:
            connection.close()


class Echo:
    """Answers each watch request by its watch_id; 13 fails, 14 ends, 15 raises, 16 answers from a worker."""

    def __init__(self, node, out):
        self.node, self.out = node, out
        node.opened.append(self)

    def received(self, message):
        number = message.create_request.watch_id if message.create_request else -1
        self.node.events.append(number)
        if number == 13:
            self.out.fail(Status(Code.NOT_FOUND, "unlucky"))
        elif number == 14:
            self.out.end()
        elif number == 15:
            raise RuntimeError("on purpose")
        elif number == 16:
            self.out.job(lambda: self.out.send(rpc.WatchResponse(watch_id=16)))
        else:
            self.out.send(rpc.WatchResponse(watch_id=number))

    def ended(self):
        self.node.events.append("ended")
        self.node.ended.set()

    def closed(self):
        self.node.events.append("closed")
        self.node.closed.set()


class Node:
    def __init__(self, leader=True):
        self.leader = leader
        self.opened, self.events = [], []
        self.ended, self.closed = threading.Event(), threading.Event()

    def has_leader(self):
        return self.leader


CALLER = Caller()
MANY = Stream("watch", rpc.WatchRequest, lambda node, caller, out: Echo(node, out))
ONE = Stream("observe", rpc.WatchRequest, lambda node, caller, out: Echo(node, out), many=False)


@pytest.fixture
def node():
    return Node()


@pytest.fixture
def streams(node):
    streams = Streams(node)
    yield streams
    streams.stop()


class Client:
    """The other end of a stream."""

    def __init__(self, streams, head=b"", received=b"", method=MANY, caller=CALLER, chunked=False):
        ours, theirs = socket.socketpair()
        self.socket, self.port = ours, Port()
        ours.settimeout(WAIT_S)
        request = parse_head(b"POST /v3/watch HTTP/1.1\r\nHost: x\r\n%b\r\n" % head)
        fields = SimpleNamespace(content_length=request.fields.content_length, chunked=chunked)
        request = request._replace(fields=fields)
        self.taken = streams.adopt(theirs, received, request, method, caller, self.port)
        if not self.taken:
            theirs.close()
        self.read = b""

    def until(self, text):
        while text not in self.read:
            data = self.socket.recv(1 << 16)
            assert data, f"{text!r} didn't come: {self.read!r}"
            self.read += data
        before, _, self.read = self.read.partition(text)
        return before

    def rest(self):
        while data := self.socket.recv(1 << 16):
            self.read += data
        return self.read

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()
        self.port.over = True
        for connection, _ in self.port.given_back:
            connection.close()


def create(number):
    return b'{"create_request":{"key":"YQ==","watch_id":%d}}' % number


def sized(*numbers):
    body = b"".join(map(create, numbers))
    return b"Content-Length: %d\r\n" % len(body), body


def answer(number):
    line = b'{"result":{"watch_id":"%d"}}\n' % number
    return b"%x\r\n%b\r\n" % (len(line), line)


def test_the_head_comes_with_the_first_message_and_messages_are_chunks(streams, node):
    with Client(streams, *sized(1, 2)) as client:
        client.until(b"HTTP/1.1 200\r\nGrpc: 1\r\n\r\n" + answer(1) + answer(2))
        assert node.ended.wait(WAIT_S)
        assert node.events == [1, 2, "ended"]
    assert node.closed.wait(WAIT_S)


def test_a_body_in_any_pieces_is_the_same_messages(streams, node):
    rng = random.Random(SEED)
    for _ in range(20):
        node.events.clear(), node.ended.clear()
        body = b" ".join(map(create, range(1, 6)))
        pieces, at = [], 0
        while at < len(body):
            size = rng.randrange(1, 60)
            pieces.append(b"%x\r\n%b\r\n" % (len(body[at : at + size]), body[at : at + size]))
            at += size
        data = b"".join(pieces) + b"0\r\n\r\n"
        with Client(streams, chunked=True) as client:
            at = 0
            while at < len(data):
                size = rng.randrange(1, 40)
                client.socket.sendall(data[at : at + size])
                at += size
            client.until(b"".join(map(answer, range(1, 6))))
            assert node.ended.wait(WAIT_S)
            assert [each for each in node.events if isinstance(each, int)] == [1, 2, 3, 4, 5]


def test_bad_json_is_an_answer_of_its_own_if_it_comes_first(streams, node):
    with Client(streams, b"Content-Length: 18\r\n", b'{"create_request":') as client:
        client.until(b'HTTP/1.1 500\r\n\r\n{"error":"unexpected EOF","code":2,"message":"unexpected EOF"}')
        assert client.port.was_given_back.wait(WAIT_S)
    assert node.events == []


def test_bad_json_later_is_the_end_of_the_body(streams, node):
    body = create(1)
    with Client(streams, b"Content-Length: %d\r\n" % (len(body) + 9), body + b" nonsense") as client:
        client.until(answer(1))
        assert node.ended.wait(WAIT_S)
        node.opened[0].out.send(rpc.WatchResponse(watch_id=5))
        client.until(answer(5))


def test_what_is_no_chunk_is_bad_json_too(streams, node):
    with Client(streams, received=b"zz\r\n", chunked=True) as client:
        client.until(b"HTTP/1.1 400\r\n")
    with Client(streams, received=b"30\r\n%b\r\n" % create(12).ljust(0x30), chunked=True) as client:
        client.until(answer(12))
        client.socket.sendall(b"zz\r\n")
        assert node.ended.wait(WAIT_S)


def test_a_method_of_one_message_takes_the_whole_body(streams, node):
    head, body = sized(1)
    with Client(streams, head, body[:10], ONE) as client:
        client.socket.sendall(body[10:])
        client.until(answer(1))
        assert node.ended.wait(WAIT_S)
    with Client(streams, method=ONE) as client:  # an empty body is an empty message
        client.until(b'{"watch_id":"-1"}')
    with Client(streams, b"Content-Length: 3\r\n", b"{]}", ONE) as client:
        client.until(b"HTTP/1.1 400\r\n")


def test_nothing_not_even_a_head_comes_to_an_empty_body(streams, node):
    with Client(streams) as client:
        assert node.ended.wait(WAIT_S)
        client.socket.setblocking(False)
        with pytest.raises(BlockingIOError):
            client.socket.recv(1)
    assert node.closed.wait(WAIT_S)


def test_a_failure_is_the_last_message_and_the_head_if_it_is_the_first(streams, node):
    line = Status(Code.NOT_FOUND, "unlucky").stream_line()
    last = b"%x\r\n%b\r\n0\r\n\r\n" % (len(line), line)
    with Client(streams, *sized(13, 1)) as client:
        client.until(b"HTTP/1.1 404\r\nGrpc: 0\r\n\r\n" + last)
        assert client.port.was_given_back.wait(WAIT_S)
    with Client(streams, *sized(1, 13, 2)) as client:
        client.until(b"HTTP/1.1 200\r\nGrpc: 1\r\n\r\n" + answer(1) + last)
        assert client.port.was_given_back.wait(WAIT_S)
    assert node.events[-1] == "closed"


def test_an_end_gives_the_connection_back_with_what_followed_the_body(streams, node):
    head, body = sized(1, 14)
    with Client(streams, head, body + b"GET / HT") as client:
        client.until(answer(1) + b"0\r\n\r\n")
        assert client.port.was_given_back.wait(WAIT_S)
        assert client.port.given_back[0][1] == b"GET / HT"
        client.port.given_back[0][0].sendall(b"again")
        client.until(b"again")
    with Client(streams, b"Connection: close\r\n" + head, body) as client:
        assert client.rest().endswith(answer(1) + b"0\r\n\r\n")
        assert client.port.given_back == []


def test_a_bug_of_a_service_ends_one_stream_and_no_other(streams, node, caplog):
    with Client(streams, *sized(1)) as other, Client(streams, *sized(15)) as client:
        assert b"the server failed" in client.until(b"\r\n0\r\n\r\n")
        other.until(answer(1))
        node.opened[0].out.send(rpc.WatchResponse(watch_id=2))
        other.until(answer(2))
    assert "on purpose" in caplog.text


def test_jobs_answer_in_the_order_of_their_requests(streams, node):
    with Client(streams, *sized(*[16] * 200)) as client:
        client.until(answer(16) * 200)


def test_an_end_comes_after_what_a_worker_has_sent_before(streams, node):
    for _ in range(50):
        node.ended.clear()
        with Client(streams, *sized(16)) as client:
            assert node.ended.wait(WAIT_S)
            out = node.opened[-1].out
            sent = threading.Event()
            turn = threading.Event()
            streams.call(
                lambda turn=turn, out=out: (turn.wait(WAIT_S), out.end())
            )  # the streams' thread is busy meanwhile
            out.job(lambda out=out, sent=sent: (out.send(rpc.WatchResponse(watch_id=17)), sent.set()))
            assert sent.wait(WAIT_S)
            turn.set()
            client.until(answer(17) + b"0\r\n\r\n")


def test_a_stream_that_wants_a_leader_is_refused_without_one(node):
    node.leader = False
    streams = Streams(node)
    try:
        with Client(streams, *sized(1), caller=Caller(wants_leader=True)) as client:
            client.until(b"HTTP/1.1 503\r\nGrpc: 0\r\n\r\n")
            client.until(Status(*NO_LEADER).stream_line())
        with Client(streams, *sized(1)) as client:
            client.until(answer(1))
    finally:
        streams.stop()


def test_it_ends_when_the_leader_has_been_away_for_long(streams, node, monkeypatch):
    monkeypatch.setattr("server.v3.streams.LEADERLESS_S", 0.0)
    with Client(streams, *sized(1), caller=Caller(wants_leader=True)) as client, Client(streams, *sized(2)) as other:
        client.until(answer(1))
        node.leader = False
        client.until(Status(*NO_LEADER).stream_line())
        other.until(answer(2))
        node.opened[1].out.send(rpc.WatchResponse(watch_id=3))
        other.until(answer(3))


LATE = Status(Code.DEADLINE_EXCEEDED, "context deadline exceeded")


def test_a_stream_ends_with_an_error_when_its_client_s_time_is_over(streams, node):
    caller = Caller(until=time.monotonic() + 0.1)
    with Client(streams, *sized(1), caller=caller) as client, Client(streams, *sized(2)) as other:
        client.until(answer(1))
        client.until(chunk_of(LATE.stream_line()) + b"0\r\n\r\n")
        assert node.closed.wait(WAIT_S)
        other.until(answer(2))
        node.opened[1].out.send(rpc.WatchResponse(watch_id=3))
        other.until(answer(3))


@pytest.mark.parametrize("body", [sized(1), (b"Content-Length: 90\r\n", create(1)[:20])])
def test_one_without_messages_is_an_answer_when_its_time_is_over(streams, node, body):
    with Client(streams, *body, caller=Caller(until=time.monotonic())) as client:
        client.until(b"HTTP/1.1 504\r\n\r\n" + LATE.body())
    assert node.opened == []


def test_a_client_that_reads_nothing_fills_its_queue_and_is_cut_off(streams, node, monkeypatch):
    monkeypatch.setattr(stream, "ANSWER_S", 0.05)
    with Client(streams, *sized(1)) as client:
        client.until(answer(1))
        out = node.opened[0].out
        line = b"x" * 100_000 + b"\n"
        while out.room(0.0):
            out.send_line(line)
        assert node.closed.wait(WAIT_S)
        assert not out.room(1.0)
        assert not out.send_line(line)


def test_a_client_that_reads_again_makes_room(streams, node):
    with Client(streams, *sized(1)) as client:
        client.until(answer(1))
        out, sent = node.opened[0].out, 0
        resumed = threading.Event()
        out.on_room = resumed.set
        while not out.full:  # in the streams' thread, which takes over what was sent
            if out.room(0.01):
                sent += out.send_line(b"x" * 99_999 + b"\n")
        got = 0
        while got < sent * 100_000:
            got += len(client.socket.recv(1 << 20))
        assert resumed.wait(WAIT_S)
        assert out.room(WAIT_S)


def test_a_first_message_that_comes_too_late_is_refused(streams, node, monkeypatch):
    monkeypatch.setattr(stream, "BODY_S", 0.0)
    with Client(streams, b"Content-Length: 100\r\n", b"{") as client:
        client.until(b"HTTP/1.1 408\r\n")


def test_there_are_no_more_than_so_many(node):
    streams = Streams(node, most=2)
    try:
        with Client(streams, *sized(1)) as one, Client(streams, *sized(2)) as two:
            one.until(answer(1)), two.until(answer(2))
            with Client(streams, *sized(3)) as third:
                assert not third.taken
        assert node.closed.wait(WAIT_S)
        assert streams.metrics()["streams_refused_total"] == 1
    finally:
        streams.stop()


def test_a_node_that_stops_says_so(node):
    streams = Streams(node)
    with Client(streams, *sized(1)) as client:
        client.until(answer(1))
        streams.stop()
        assert client.rest().endswith(
            b'"message":"etcdserver: server stopped","http_status":"Service Unavailable"}}\r\n0\r\n\r\n'
        )
        assert node.events[-1] == "closed"
        with Client(streams, *sized(2)) as late:
            assert not late.taken
    streams.stop()


@pytest.mark.parametrize("ended", [False, True])
def test_a_stream_that_is_adopted_while_the_node_stops_is_ended_too(node, monkeypatch, ended):
    """ended: the streams' thread has ended when the stream comes; else it has just told all that it knew of."""
    streams, gate = Streams(node), threading.Event()
    streams.call(lambda: None if ended else gate.wait(WAIT_S))
    stopping = threading.Thread(target=streams.stop)
    call = streams.call

    def late(function):
        stopping.start()
        if ended:
            stopping.join()
            return call(function)
        eventually("it is told to end", lambda: streams._loop._calls)
        taken = call(function)
        gate.set()
        return taken

    monkeypatch.setattr(streams, "call", late)
    with Client(streams, *sized(1)) as client:
        assert client.taken
        assert b'"message":"etcdserver: server stopped"' in client.rest()
    stopping.join()
    assert streams.metrics()["streams"] == 0
    assert node.opened == []


def test_what_a_node_refuses_a_worker_is_no_fault_of_ours(streams, node, lines):
    """A token's entry that nobody confirms, say: etcd's clients come again after a code 14, and not after a 13."""
    with Client(streams, *sized(1)) as client:
        client.until(answer(1))

        def unconfirmed():
            raise NoLeader("nobody confirms it")

        node.opened[0].out.job(unconfirmed)
        client.until(Status(*TIMEOUT).stream_line())
    assert lines == []


def test_a_large_message_and_its_newline_are_two_chunks():
    assert chunk_of(b"x" * 2047 + b"\n") == b"800\r\n" + b"x" * 2047 + b"\n\r\n"
    assert chunk_of(b"x" * 2048 + b"\n") == b"800\r\n" + b"x" * 2048 + b"\r\n1\r\n\n\r\n"
