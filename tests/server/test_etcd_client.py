"""What the client of etcd's gateway makes of each answer, and of none: whether anything can have been done."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from server.errors import NoLeader, OutcomeUnknown
from server.etcd_client import EtcdClient
from server.v3 import rpc, status
from server.v3.status import Sentence, Status
from tests.server.local_nodes import eventually, free_ports


class Gateway(ThreadingHTTPServer):
    """Answers each request as `answer` says, and keeps what was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.asked: list[str] = []
        self.tokens: list[str | None] = []
        self.given = threading.Event()  # a token is given out when this is set
        self.given.set()
        self.token = ""  # what it gives out, and takes; none is asked for while this is ""
        self.answer: tuple[int, bytes] | None = (200, b'{"header":{"revision":"7"}}')  # None: not before `ending`
        self.ending = threading.Event()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        gateway = self.server
        assert isinstance(gateway, Gateway)
        self.rfile.read(int(self.headers["Content-Length"]))
        gateway.asked.append(self.path)
        gateway.tokens.append(self.headers.get("Authorization"))
        if gateway.answer is None:
            gateway.ending.wait()
            self.close_connection = True
            return
        code, body = gateway.answer
        if self.path == "/v3/auth/authenticate":
            gateway.given.wait(30)
            code, body = 200, json.dumps({"token": gateway.token}).encode()
        elif gateway.token and self.headers.get("Authorization") != gateway.token:
            code, body = refusing(status.INVALID_AUTH_TOKEN)
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing."""


@pytest.fixture
def gateways() -> Iterator[list[Gateway]]:
    """Two of them."""
    running = [Gateway(), Gateway()]
    threads = [threading.Thread(target=gateway.serve_forever, args=(0.01,)) for gateway in running]
    for thread in threads:
        thread.start()
    yield running
    for gateway, thread in zip(running, threads):
        gateway.ending.set()
        gateway.shutdown()
        thread.join()
        gateway.server_close()


@pytest.fixture
def client(gateways: list[Gateway]) -> Iterator[EtcdClient]:
    asking = EtcdClient([gateway.url for gateway in gateways], timeout_s=30)
    yield asking
    asking.close()


def refusing(said: Sentence) -> tuple[int, bytes]:
    wrong = Status(*said)
    return wrong.http_status, wrong.body()


def put(client: EtcdClient) -> rpc.PutResponse:
    return client.tell("kv/put", rpc.PutRequest(key=b"a"), rpc.PutResponse)


def get(client: EtcdClient) -> rpc.RangeResponse:
    return client.ask("kv/range", rpc.RangeRequest(key=b"a"), rpc.RangeResponse)


def test_the_answer_is_a_message_and_the_node_that_gave_it_is_asked_first(
    gateways: list[Gateway], client: EtcdClient
) -> None:
    gateways[0].answer = refusing(status.NO_LEADER)
    assert put(client).header == rpc.ResponseHeader(revision=7)
    assert put(client).header == rpc.ResponseHeader(revision=7)
    assert [len(gateway.asked) for gateway in gateways] == [1, 2]


@pytest.mark.parametrize("said", [status.NO_LEADER, status.NOT_CAPABLE, status.TOO_MANY_REQUESTS])
def test_what_says_that_nothing_was_done_sends_a_write_to_the_next_node(
    gateways: list[Gateway], client: EtcdClient, said: Sentence
) -> None:
    for gateway in gateways:
        gateway.answer = refusing(said)
    with pytest.raises(NoLeader, match=said.sentence):
        put(client)
    assert [len(gateway.asked) for gateway in gateways] == [1, 1]


UNKNOWN = [
    status.TIMEOUT,
    status.TIMEOUT_DUE_TO_LEADER_FAIL,
    status.STOPPED,
    status.LEADER_CHANGED,
    Sentence(2, "context deadline exceeded"),
    Sentence(4, "context deadline exceeded"),
    Sentence(14, "error reading from server: EOF"),
]


@pytest.mark.parametrize("said", UNKNOWN)
def test_whatever_may_have_been_done_is_unknown_and_not_sent_again(
    gateways: list[Gateway], client: EtcdClient, said: Sentence
) -> None:
    gateways[0].answer = refusing(said)
    with pytest.raises(OutcomeUnknown, match=said.sentence):
        put(client)
    assert [len(gateway.asked) for gateway in gateways] == [1, 0]
    assert get(client).header == rpc.ResponseHeader(revision=7)  # a read may be sent again


@pytest.mark.parametrize("said", [status.EMPTY_KEY, status.LEASE_NOT_FOUND, status.COMPACTED, status.NO_SPACE])
def test_what_etcd_refuses_is_raised_with_its_sentence(
    gateways: list[Gateway], client: EtcdClient, said: Sentence
) -> None:
    gateways[0].answer = refusing(said)
    for call in (put, get):
        with pytest.raises(Status) as refused:
            call(client)
        assert (refused.value.code, refused.value.sentence) == said
    assert gateways[1].asked == []


SILENCE_S = 0.3


def test_no_answer_at_all_is_unknown_for_a_write(gateways: list[Gateway]) -> None:
    gateways[0].answer = None
    urls = [gateway.url for gateway in gateways]
    with EtcdClient(urls, SILENCE_S) as client, pytest.raises(OutcomeUnknown, match="it doesn't answer"):
        put(client)
    assert [len(gateway.asked) for gateway in gateways] == [1, 0]


def test_no_answer_at_all_sends_a_read_to_the_next_node(
    gateways: list[Gateway], client: EtcdClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.etcd_client.TRY_S", 0.05)
    gateways[0].answer = None
    assert get(client).header == rpc.ResponseHeader(revision=7)
    gateways[1].answer = None
    with EtcdClient([gateway.url for gateway in gateways], SILENCE_S) as impatient, pytest.raises(NoLeader):
        get(impatient)


def test_nobody_there_is_no_leader_whatever_is_asked(gateways: list[Gateway]) -> None:
    nobody = EtcdClient(["http://127.0.0.1:1"], timeout_s=1)
    for call in (put, get):
        with pytest.raises(NoLeader, match="can't be reached"):
            call(nobody)


def test_of_a_stream_the_first_message_is_the_answer(gateways: list[Gateway], client: EtcdClient) -> None:
    gateways[0].answer = (200, b'{"result":{"ID":"7","TTL":"60"}}\n')
    asked = rpc.LeaseKeepAliveRequest(ID=7)
    assert client.ask("lease/keepalive", asked, rpc.LeaseKeepAliveResponse).TTL == 60


@pytest.mark.parametrize(
    ("answer", "code"), [((404, b"Not Found\n"), 12), ((404, json.dumps({"error": "no such key"}).encode()), 12)]
)
def test_who_is_no_gateway_is_said_to_be_none(
    gateways: list[Gateway], client: EtcdClient, answer: tuple[int, bytes], code: int
) -> None:
    gateways[0].answer = answer
    with pytest.raises(Status, match="which etcd's JSON gateway doesn't"):
        put(client)


CALLS: list[Callable[[EtcdClient], object]] = [put, get]


@pytest.mark.parametrize("call", CALLS)
def test_an_answer_that_is_no_json_is_no_answer(
    gateways: list[Gateway], client: EtcdClient, call: Callable[[EtcdClient], object]
) -> None:
    for gateway in gateways:
        gateway.answer = (200, b"<html>")
    with pytest.raises((OutcomeUnknown, NoLeader), match="can't be read"):
        call(client)


def test_a_user_gets_a_token_and_another_one_when_that_has_expired(gateways: list[Gateway]) -> None:
    gateways[0].token = "first"
    with EtcdClient([gateways[0].url], user="root:pass:word") as client:
        put(client)
        gateways[0].token = "second"
        put(client)
        put(client)
    assert gateways[0].tokens == [None, "first", "first", None, "second", "second"]
    with pytest.raises(ValueError, match="name:password"):
        EtcdClient([gateways[0].url], user="root")


def test_while_a_thread_gets_a_new_token_no_other_one_calls_without(gateways: list[Gateway]) -> None:
    gateway = gateways[0]
    gateway.token = "first"
    with EtcdClient([gateway.url], user="root:secret", timeout_s=30) as client, ThreadPoolExecutor(8) as threads:
        get(client)
        gateway.token = "second"
        gateway.given.clear()
        asked = [threads.submit(get, client)]
        eventually("it asks for a token", lambda: gateway.asked[-1] == "/v3/auth/authenticate")
        before = len(gateway.asked)
        asked += [threads.submit(get, client) for _ in range(7)]
        eventually("the others have been refused", lambda: len(gateway.asked) == before + 7)
        gateway.given.set()
        for each in asked:
            assert each.result().header is not None
    said = list(zip(gateway.asked, gateway.tokens))
    assert ("/v3/kv/range", None) not in said
    assert [path for path, _ in said].count("/v3/auth/authenticate") == 2


def test_urls_are_those_of_nodes() -> None:
    for urls in ([], ["https://a:1"], ["127.0.0.1:2379"]):
        with pytest.raises(ValueError, match="URL"):
            EtcdClient(urls)


class Kept(Counter[str]):
    """Counts that a thread changes only while it keeps the others out: an addition is a read and a write."""

    guard: threading.Lock

    def __setitem__(self, outcome: str, count: int) -> None:
        assert self.guard.locked()
        super().__setitem__(outcome, count)


def test_outcomes_are_counted_by_one_thread_at_a_time(gateways: list[Gateway]) -> None:
    nobody = f"http://127.0.0.1:{free_ports(1)[0]}"
    with EtcdClient([nobody, gateways[0].url]) as client:
        client._outcomes = Kept()
        client._outcomes.guard = client._guard
        for _ in range(3):
            client.ask("kv/range", rpc.RangeRequest(key=b"a"), rpc.RangeResponse)
        assert client.outcomes() == {"not sent": 1, "200": 3}
