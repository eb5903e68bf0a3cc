"""The client: what it returns, what it raises, and which node it asks when one doesn't answer."""

import contextlib
import re
import socket
import threading

import pytest

from engines import InvalidKey, InvalidValue
from server.client import LOOK_AFTER_CALLS, Client, RequestRefused, ScanBroken
from server.errors import NodeStopped, NoLeader, OutcomeUnknown, Overloaded, SessionExpired, TooLarge
from server.http import Limits
from server.sessions import Serial
from tests.server.fake_node import FakeNode, serving
from tests.server.local_nodes import eventually


def url(front):
    return "http://{}:{}".format(*front.address)


@pytest.fixture
def node():
    return FakeNode()


@pytest.fixture(scope="module")
def shared_front():
    with serving(FakeNode()) as front:
        yield front


@pytest.fixture
def client(shared_front, node):
    shared_front.node = node
    with Client([url(shared_front)]) as client:
        yield client


@pytest.fixture
def nobody():
    """The URL of a port that nobody listens on, and that nobody else can take meanwhile."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


KEYS = [b"hello", b"a/b//c", b"\x00\xff?#%&+ \r\n", "你好".encode(), b"..", b"/", b"x" * 2000]


@pytest.mark.parametrize("key", KEYS, ids=repr)
def test_any_key_and_any_value_come_back(client, key):
    assert client.get(key) is None
    for value in (b"", b"\x00\r\n", b"x" * 100_000):
        client.put(key, value)
        assert client.get(key) == value
    assert list(client.scan()) == [(key, b"x" * 100_000)]
    client.delete(key)
    assert client.get(key) is None


def test_writes_return_their_log_index(client):
    assert [client.put(b"a", b"1"), client.batch([(b"b", b"2"), (b"a", None)]), client.delete(b"b")] == [1, 2, 3]


def test_scan_takes_every_bound(client):
    client.batch([(key, key) for key in (b"a", b"b", b"b\xff", b"c")])
    assert [key for key, _ in client.scan(b"b")] == [b"b", b"b\xff", b"c"]
    assert [key for key, _ in client.scan(b"a", b"b\xff")] == [b"a", b"b"]
    assert [key for key, _ in client.scan(prefix=b"b")] == [b"b", b"b\xff"]
    assert [key for key, _ in client.scan(prefix=b"b", reverse=True, limit=1)] == [b"b\xff"]
    assert [key for key, _ in client.scan(b"\xff")] == []


def test_reads_say_what_they_want(client, node):
    client.get(b"k")
    client.get(b"k", consistency="stale")
    list(client.scan(consistency="lease"))
    assert node.barriers == ["linearizable", "stale", "lease"]


def test_status_and_health(client, node):
    assert client.status()["leader"] == 1
    assert client.health()
    node.fails = NoLeader("nobody leads")
    assert not client.health()


def test_a_reserved_key_is_refused_and_not_called_absent(client):
    for key in (b"_/x", b"v3/x"):
        for call in (lambda key=key: client.get(key), lambda key=key: client.put(key, b"")):
            with pytest.raises(RequestRefused) as refused:
                call()
            assert refused.value.status == 404


def test_a_bad_request_is_refused_with_the_servers_sentence(client):
    with pytest.raises(RequestRefused, match="linearizable or lease or stale") as refused:
        client.get(b"k", consistency="soon")
    assert refused.value.status == 400
    with pytest.raises(TooLarge):
        client.put(b"k", b"x" * (2 << 20))
    assert client.get(b"k") is None


@pytest.mark.parametrize("kind", [NoLeader, Overloaded, NodeStopped])
def test_what_was_not_done_is_asked_of_the_next_node(kind):
    """503 says that nothing was done, so that asking again is safe, for writes too."""
    failing, well = FakeNode(), FakeNode()
    failing.fails = kind("not me")
    with serving(failing) as one, serving(well) as two, Client([url(one), url(two)]) as client:
        client.put(b"k", b"v")
        assert client.get(b"k") == b"v"
        client.delete(b"k")
    assert (failing.applied, well.applied) == (0, 2)


@pytest.mark.parametrize("kind", [NoLeader, Overloaded, NodeStopped])
def test_when_no_node_can_the_last_ones_reason_is_raised(shared_front, node, kind):
    node.fails = kind("not now")
    shared_front.node = node
    with Client([url(shared_front)], timeout_s=0.5) as client:  # it tries for so long; one answer must come in less
        for call in (lambda: client.put(b"k", b"v"), lambda: client.get(b"k")):
            with pytest.raises(kind, match="not now"):
                call()


def test_a_node_that_is_not_there_is_skipped(client, nobody, shared_front):
    with Client([nobody, url(shared_front)]) as other:
        assert other.put(b"k", b"v") == 1
        assert other.get(b"k") == b"v"
    with Client([nobody], timeout_s=0.2) as lost:
        assert not lost.health()
        for call in (lambda: lost.get(b"k"), lambda: lost.put(b"k", b"v")):
            with pytest.raises(NoLeader, match="refused"):
                call()


def test_without_sessions_an_unknown_outcome_is_never_sent_again():
    """504 after the write was applied: had the client tried the other node, it would have been applied twice."""
    unsure, other = FakeNode(), FakeNode()
    unsure.fails, unsure.applies_before_failing = OutcomeUnknown("it may be"), True
    with serving(unsure) as one, serving(other) as two, Client([url(one), url(two)], sessions=False) as client:
        for call in (lambda: client.put(b"k", b"v"), lambda: client.batch([(b"k", b"v")]), lambda: client.delete(b"k")):
            with pytest.raises(OutcomeUnknown):
                call()
    assert (unsure.applied, other.applied) == (3, 0)


def test_an_answer_that_does_not_come_in_time_is_unknown_for_a_write_and_asked_elsewhere_for_a_read(shared_front, node):
    shared_front.node = node
    node.gate.clear()
    with Client([url(shared_front)], timeout_s=0.2) as client, pytest.raises(OutcomeUnknown):
        client.put(b"applied at some later time", b"v")
    node.gate.set()
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with Client([url(shared_front)]) as client:
            client.put(b"k", b"v2")
        hangs_up = threading.Thread(target=lambda: silent.accept()[0].close())
        hangs_up.start()
        with Client([f"http://127.0.0.1:{silent.getsockname()[1]}", url(shared_front)]) as client:
            assert client.get(b"k") == b"v2"
        hangs_up.join()


def test_a_connection_that_the_server_closed_meanwhile_is_opened_again(node):
    """The first write after a pause must not end as "unknown": the client sees the close before it sends."""
    with serving(node, Limits(idle_s=0.05)) as front, Client([url(front)]) as client:
        client.put(b"k", b"1")
        pause = threading.Event()
        while front.threads:
            pause.wait(0.01)
        assert client.put(b"k", b"2") == 2


@pytest.mark.parametrize("size", [(2 << 20), 5 << 20, 12 << 20, 40 << 20])
def test_a_body_that_is_refused_while_it_is_sent_is_called_too_large_and_not_unknown(client, size):
    """RFC 9112 section 9.5: the answer comes before the body has been sent, and then the connection ends."""
    for _ in range(3):
        with pytest.raises(TooLarge, match=f"at most 1,572,864 bytes, and this one has {size:,}"):
            client.put(b"k", b"x" * size)
    client.put(b"k", b"v")
    assert client.get(b"k") == b"v"


def test_an_answer_that_came_before_the_connection_broke_counts(nobody):
    """The server that refuses a body and closes at once: what the client still sends ends in a reset."""
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        Client([f"http://127.0.0.1:{server.getsockname()[1]}"]) as client,
    ):
        sentence = b'{"error": "It is too large."}'

        def refuse():
            connection, _ = server.accept()
            with connection:
                connection.recv(10_000)
                connection.sendall(b"HTTP/1.1 413 \r\nContent-Length: %d\r\n\r\n%b" % (len(sentence), sentence))

        refuses = threading.Thread(target=refuse)
        refuses.start()
        with pytest.raises(TooLarge, match="It is too large"):
            client.put(b"k", b"x" * (30 << 20))
        refuses.join()


def test_threads_share_a_client(client, node):
    def write(number):
        for count in range(20):
            client.put(b"%d-%d" % (number, count), b"v")

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(list(client.scan())) == 160
    assert node.applied == 160


BAD_URLS = ["http://localhost", "https://localhost:1", "http://:1", "localhost", "http://[::1:3379", "http://a:b", 3379]


@pytest.mark.parametrize("bad", BAD_URLS, ids=str)
def test_what_is_no_url_is_refused_by_name(bad):
    with pytest.raises(ValueError, match=f"this is {re.escape(repr(bad))}"):
        Client([bad])


def test_a_client_takes_a_list_of_urls():
    with pytest.raises(ValueError, match="at least one node"):
        Client([])
    with pytest.raises(TypeError, match=re.escape("Client(['http://127.0.0.1:3379'])")):
        Client("http://127.0.0.1:3379")


@pytest.mark.parametrize("bad", [0, -1, float("nan"), float("inf"), "10", None, True], ids=str)
def test_what_is_no_number_of_seconds_is_refused_when_the_client_is_made(bad):
    """A text raised from inside the first call, NaN made each call end at once, or never."""
    with pytest.raises((TypeError, ValueError), match="seconds, and this is"):
        Client(["http://127.0.0.1:3379"], timeout_s=bad)


@pytest.mark.parametrize("bad", [("put", b"a", b"b"), b"ab", (b"a",), None])
def test_what_is_no_operation_is_refused_before_anything_is_sent(client, node, bad):
    """Two bytes unpack into two numbers, so that not even their count says what is wrong."""
    with pytest.raises(TypeError, match=r"an operation is \(key, value\) or \(key, None\), and this is"):
        client.batch([(b"k", b"v"), bad])
    assert node.applied == 0


@pytest.mark.parametrize(
    "call",
    [
        lambda client: client.put(b"a", "b"),
        lambda client: client.put("a", b"b"),
        lambda client: client.put(b"a", None),
        lambda client: client.put(b"a", bytearray(b"b")),
        lambda client: client.get("a"),
        lambda client: client.delete(None),
        lambda client: client.batch([(b"a", "b")]),
        lambda client: client.batch([("a", None)]),
        lambda client: client.scan("a"),
        lambda client: client.scan(prefix="a"),
    ],
)
def test_what_is_not_bytes_is_refused_before_anything_is_sent(client, node, call):
    """http.client would send a str as ISO 8859-1, and a file, a number or an iterable in ways of its own."""
    with pytest.raises((InvalidKey, InvalidValue), match="must be bytes"):
        call(client)
    assert (node.applied, node.barriers) == (0, [])


def test_an_empty_stop_is_a_bound(client):
    client.put(b"k", b"v")
    assert list(client.scan(stop=b"")) == []
    assert list(client.scan(b"", None, prefix=b"")) == [(b"k", b"v")]


def test_a_closed_client_is_closed(shared_front, node):
    shared_front.node = node
    client = Client([url(shared_front)])
    client.close()
    client.close()
    calls = [lambda: client.get(b"k"), lambda: client.put(b"k", b""), client.scan, client.status, client.health]
    for call in calls:
        with pytest.raises(RuntimeError, match="the client is closed"):
            call()
    assert node.applied == 0


# ---- sessions, leaders ------------------------------------------------------------------------------------------------


def test_a_write_of_a_session_is_sent_again_until_it_is_answered():
    """504 after the write was applied, by one node; the other one is asked, for the same request of the same session."""
    unsure, other = FakeNode(), FakeNode()
    with serving(unsure) as one, serving(other) as two, Client([url(one), url(two)]) as client:
        client.put(b"k", b"v")
        unsure.fails, unsure.applies_before_failing = OutcomeUnknown("it may be"), True
        client.put(b"k", b"v2")
        client.batch([(b"k", b"v3")])
        client.delete(b"k")
    sent = [operations[0] for operations in (*unsure.proposed, *other.proposed)]
    assert sent == [Serial(1, 1), Serial(1, 2), Serial(1, 2), Serial(1, 3), Serial(1, 4)], (
        "the node that knew is asked first"
    )


def test_what_no_node_knows_before_the_timeout_is_unknown():
    unsure = FakeNode()
    with serving(unsure) as front, Client([url(front)], timeout_s=0.2) as client:
        client.put(b"k", b"v")
        unsure.fails, unsure.applies_before_failing = OutcomeUnknown("it may be"), True
        with pytest.raises(OutcomeUnknown, match="may be applied"):
            client.put(b"k", b"v2")
        assert len(unsure.proposed) > 2
        unsure.fails = None
        client.put(b"k", b"v3")
        assert unsure.proposed[-1][0] == Serial(1, 3), "what stayed unknown is passed by the next number"


def test_a_session_that_expired_in_a_pause_is_replaced(client, node):
    client.put(b"k", b"v")
    node.fails_once = SessionExpired("it was not used for long")
    client.put(b"k", b"v2")
    assert [operations[0] for operations in node.proposed] == [Serial(1, 1), Serial(2, 1)]


def test_a_session_that_expired_between_two_sendings_leaves_it_unknown(client, node):
    client.put(b"k", b"v")
    node.fails_once, node.fails = OutcomeUnknown("it may be"), SessionExpired("too many others")
    with pytest.raises(OutcomeUnknown, match="too many others"):
        client.put(b"k", b"v2")


def test_writes_at_the_same_time_have_a_session_each(client, node):
    def write():
        for _ in range(10):
            client.put(b"k", b"v")

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sent = [operations[0] for operations in node.proposed]
    assert len(set(sent)) == 40
    assert node.sessions <= 4


def test_the_leader_is_asked_first_once_it_is_known():
    nodes = {node_id: FakeNode() for node_id in (1, 2, 3)}
    for node_id, each in nodes.items():
        each.status = lambda node_id=node_id: {"id": node_id, "leader": 3}
    with contextlib.ExitStack() as stack:
        fronts = [stack.enter_context(serving(each)) for each in nodes.values()]
        client = stack.enter_context(Client([url(front) for front in fronts]))
        for _ in range(40):
            client.put(b"k", b"v")
        assert nodes[1].applied < LOOK_AFTER_CALLS
        assert (nodes[2].applied, nodes[3].applied) == (0, 40 - nodes[1].applied)
        nodes[3].fails = NoLeader("it leads no more")
        client.get(b"k")
        assert nodes[1].barriers, "the next one in the list"


# ---- scans ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def large(client, node):
    """Pairs that are far more than a node sends at once."""
    pairs = [(b"%06d" % number, b"v" * 1000) for number in range(2000)]
    client.batch([(key, b"") for key, _ in pairs[:1]])
    for key, value in pairs:
        node.machine.store.put(key, value)
    return pairs


def test_a_scan_comes_as_it_arrives_and_other_calls_go_on_meanwhile(client, node, large, shared_front):
    pairs = client.scan()
    assert [next(pairs), next(pairs)] == large[:2]
    assert client.get(large[0][0]) == large[0][1]
    client.put(b"later", b"v")
    assert list(pairs) == large[2:], "it is of one moment"
    assert list(pairs) == []
    assert list(client.scan(prefix=b"later")) == [(b"later", b"v")]


def test_a_scan_holds_a_piece_and_a_line(client, large):
    pairs = client.scan()
    next(pairs)
    assert sum(map(len, pairs._lines)) < 3 * (64 << 10)
    pairs.close()


def test_a_scan_that_is_closed_early_frees_its_connection(client, large, shared_front):
    eventually("other tests' connections have ended", lambda: len(shared_front.threads) <= 1)
    for end in (lambda pairs: pairs.close(), lambda pairs: None):
        pairs = client.scan()
        next(pairs)
        assert shared_front.threads
        end(pairs)
        del pairs
        eventually("the connection's thread has ended", lambda: not shared_front.threads)
    assert not client._connections


def test_a_broken_scan_says_how_far_it_came_and_never_ends_silently(client, node, large):
    """The store fails in the middle: the node resets the connection."""
    scan = node.machine.scan

    def failing(*bounds, **options):
        for number, pair in enumerate(scan(*bounds, **options)):
            if number == 1500:
                raise OSError("the disk is gone")
            yield pair

    node.machine.scan = failing
    got = []
    with pytest.raises(ScanBroken, match=r"broke off after [\d,]+ pairs, the last with the key b'\d+'.*begin again"):
        iter_into(got, client.scan())
    assert got == large[: len(got)]


def iter_into(got, pairs):
    for pair in pairs:
        got.append(pair)


LINE = b'{"key":"YQ==","value":"%b"}\n' % (b"Ymli" * 30_000)
HEAD = b"HTTP/1.1 200 OK\r\n"


def chunk(data):
    return b"%x\r\n%b\r\n" % (len(data), data)


@pytest.mark.parametrize(
    "sent",
    [
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunk(LINE),
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunk(LINE) + b"ffff\r\n" + LINE[:100],
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunk(LINE + LINE[:100]) + b"0\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunk(LINE + b"[]\n") + b"0\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunk(LINE) + b"zz\r\n\r\n",
        HEAD + b"Content-Length: 9999999\r\n\r\n" + LINE,
        HEAD + b"Connection: close\r\n\r\n" + LINE,
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunk(LINE) + chunk(b"x" * (1 << 20)) * 9 + b"0\r\n\r\n",
    ],
    ids=[
        "cut between chunks",
        "cut in a chunk",
        "half a line",
        "no pair",
        "no size",
        "too short",
        "no length",
        "long line",
    ],
)
def test_every_kind_of_early_end_is_an_error(sent):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer():
            connection, _ = server.accept()
            with connection, contextlib.suppress(OSError):
                connection.recv(10_000)
                connection.sendall(sent)

        answers = threading.Thread(target=answer)
        answers.start()
        got = []
        only = f"http://127.0.0.1:{server.getsockname()[1]}"
        after_one = "broke off after 1 pairs, the last with the key b'a'"
        with Client([only]) as client, pytest.raises(ScanBroken, match=after_one):
            iter_into(got, client.scan())
        answers.join()
        assert [key for key, _ in got] == [b"a"]
