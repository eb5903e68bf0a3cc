"""The service Watch: what a client is told, in which order; with a store in memory, a hub, and the calls in our hands."""

import contextlib
from types import SimpleNamespace

import pytest

from server.v3 import rpc, watch_service
from server.v3.method import Caller
from server.v3.status import INVALID_AUTH_TOKEN, PERMISSION_DENIED, TOO_MANY_REQUESTS, Status
from server.v3.watch_hub import WatchHub
from server.v3.watch_service import METHODS, Watches
from tests.server.v3.watch_world import World, entry_of


class Auth:
    """alice may watch what begins with a."""

    def __init__(self):
        self.known_here = True

    def ready(self, caller):
        return self.known_here

    def identify(self, caller):
        if caller.token == "bad":
            raise Status(*INVALID_AUTH_TOKEN)
        return caller._replace(username=caller.token or "")

    def check_watch(self, who, key, range_end):
        if who.username == "alice" and not key.startswith(b"a"):
            raise Status(*PERMISSION_DENIED)


class Out:
    """Keeps what was sent, as the service says it."""

    def __init__(self):
        self.sent, self.jobs = [], []
        self.full = False
        self.on_room = None

    def send(self, message):
        self.sent.append(message)
        return True

    def send_chunk(self, chunk):
        self.sent.append(chunk)
        return True

    def job(self, function):
        self.jobs.append(function)


class Node(World):
    def __init__(self, progress_s=600.0):
        super().__init__()
        self.hub = WatchHub(self.views, self.revision, self.calls.append)
        self.watches = Watches(progress_s)
        self.auth = Auth()
        self.streams = SimpleNamespace(call=self.calls.append)

    def header(self, revision):
        return rpc.ResponseHeader(revision=revision)

    def put(self, *keys):
        self.hub.applied(self.write(entry_of([(key, b"1") for key in keys])))
        self.drain()

    def open(self, token=None):
        out = Out()
        return METHODS[0].open(self, Caller(token), out), out


@pytest.fixture
def node():
    with contextlib.closing(Node()) as node:
        yield node


def create(key=b"a", **others):
    return rpc.WatchRequest(create_request=rpc.WatchCreateRequest(key=key, **others))


def cancel(watch_id):
    return rpc.WatchRequest(cancel_request=rpc.WatchCancelRequest(watch_id=watch_id))


PROGRESS = rpc.WatchRequest(progress_request=rpc.WatchProgressRequest())


def told(message):
    """A message in short."""
    if isinstance(message, bytes):
        return "events", message.count(b'"kv":')
    words = [name for name in ("created", "canceled") if getattr(message, name)]
    return " ".join(words) or "progress", message.watch_id, message.header.revision


def test_a_past_is_told_after_created(node):
    node.put(b"a"), node.put(b"a")
    stream, out = node.open()
    stream.received(create(start_revision=2))
    stream.received(create(start_revision=3))
    node.drain()
    assert [told(message) for message in out.sent] == [
        ("created", 0, 3),
        ("created", 1, 3),
        ("events", 2),
        ("events", 1),
    ]


def test_ids_are_the_clients_or_the_next_that_is_free(node):
    stream, out = node.open()
    for watch_id in (1, 0, 0, 7, 7):
        stream.received(create(watch_id=watch_id))
    assert [told(message)[:2] for message in out.sent] == [
        ("created", 1), ("created", 0), ("created", 2), ("created", 7), ("created canceled", -1),
    ]  # fmt: skip
    assert out.sent[-1].cancel_reason == "mvcc: duplicate watch ID provided on the WatchStream"


def test_an_empty_range_is_refused(node):
    stream, out = node.open()
    stream.received(create(b"b", range_end=b"a"))
    stream.received(create(b"b", range_end=b"b"))
    assert [told(message)[:2] for message in out.sent] == [("created canceled", -1)] * 2
    stream.received(create(b"", range_end=b"\0"))  # everything
    assert told(out.sent[-1]) == ("created", 0, 1)


def test_a_message_that_asks_for_nothing_is_answered_with_nothing(node):
    stream, out = node.open()
    stream.received(rpc.WatchRequest())
    node.watches.sweep(0.0)
    assert out.sent == []


def test_the_empty_key_is_the_first_one(node):
    stream, out = node.open()
    stream.received(create(b""))
    stream.received(create(b"", range_end=b"a"))
    node.put(b"\0", b"\0\0", b"a")
    assert [told(message) for message in out.sent[2:]] == [("events", 1), ("events", 2)]


def test_a_watch_from_minus_1_begins_now_and_one_from_before_is_told_that_it_is_compacted(node):
    node.put(b"a")
    stream, out = node.open()
    stream.received(create(start_revision=-1))
    stream.received(create(start_revision=-2))
    node.drain()
    node.put(b"a")
    assert [told(message) for message in out.sent] == [
        ("created", 0, 2), ("created", 1, 2), ("canceled", 1, 0), ("events", 1),
    ]  # fmt: skip
    assert out.sent[2].compact_revision == -1


def test_after_a_cancellation_there_are_no_events_and_only_what_is_there_can_be_cancelled(node):
    stream, out = node.open()
    stream.received(create())
    stream.received(cancel(5))
    stream.received(cancel(0))
    stream.received(cancel(0))
    node.put(b"a")
    assert [told(message) for message in out.sent] == [("created", 0, 1), ("canceled", 0, 1)]
    assert node.watches.count == 0


def test_what_was_compacted_is_said_without_a_revision(node):
    node.put(b"a"), node.put(b"a"), node.put(b"a")
    node.write(lambda writes: writes.compact(4))
    stream, out = node.open()
    stream.received(create(start_revision=2))
    node.drain()
    assert [told(message) for message in out.sent] == [("created", 0, 4), ("canceled", 0, 0)]
    assert out.sent[1].compact_revision == 4
    assert node.watches.count == 0


def test_progress_is_told_when_it_is_true(node):
    node.put(b"a"), node.put(b"b")
    stream, out = node.open()
    stream.received(create(start_revision=2))
    stream.received(PROGRESS)
    assert [told(message) for message in out.sent] == [("created", 0, 3)], "it hasn't been told of revision 2"
    node.drain()
    node.watches.sweep(0.0)
    assert [told(message) for message in out.sent[1:]] == [("events", 1), ("progress", -1, 3)]
    stream.received(PROGRESS)
    assert told(out.sent[-1]) == ("progress", -1, 3)


def test_progress_waits_for_a_slow_client(node):
    stream, out = node.open()
    stream.received(create())
    out.full = True
    node.put(b"a")
    stream.received(PROGRESS)
    assert len(out.sent) == 1
    out.full = False
    out.on_room()
    node.drain()
    node.watches.sweep(0.0)
    assert [told(message) for message in out.sent[1:]] == [("events", 1), ("progress", -1, 2)]


def test_progress_waits_no_longer_for_a_watch_that_is_cancelled(node):
    node.put(b"a")
    stream, out = node.open()
    stream.received(create(start_revision=2))
    stream.received(PROGRESS)
    stream.received(cancel(0))
    node.watches.sweep(0.0)
    assert [told(message)[0] for message in out.sent] == ["created", "canceled", "progress"]


def test_those_that_want_it_are_told_of_progress_if_they_had_no_event(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(watch_service.time, "monotonic", lambda: now[0])
    with contextlib.closing(Node(progress_s=10.0)) as node:
        stream, out = node.open()
        stream.received(create(b"a", progress_notify=True))
        stream.received(create(b"b"))
        node.put(b"c")
        node.watches.sweep(now[0] + 9.9)
        assert len(out.sent) == 2
        node.watches.sweep(now[0] + 11.1)
        assert [told(message) for message in out.sent[2:]] == [("progress", 0, 2)]
        node.watches.sweep(now[0] + 12)
        assert len(out.sent) == 3, "it is not yet time again"
        node.put(b"a")
        node.watches.sweep(now[0] + 22.3)
        assert len(out.sent) == 4, "the event has said it"
        node.watches.sweep(now[0] + 33.6)
        assert told(out.sent[4]) == ("progress", 0, 3)
        stream.closed()
        node.watches.sweep(now[0] + 50)
        assert len(out.sent) == 5


def test_who_may_not_is_told_with_the_id_that_was_asked_for(node):
    stream, out = node.open("alice")
    stream.received(create(b"b", watch_id=4))
    stream.received(create(b"a"))
    assert [told(message)[:2] for message in out.sent] == [("created canceled", 4), ("created", 0)]
    assert out.sent[0].cancel_reason == "rpc error: code = PermissionDenied desc = etcdserver: permission denied"
    stream, out = node.open("bad")
    stream.received(create(b"a"))
    assert told(out.sent[0])[0] == "created canceled"


def test_what_comes_while_a_token_is_looked_up_waits_in_its_order(node):
    node.auth.known_here = False
    stream, out = node.open("alice")
    stream.received(create(b"b"))
    stream.received(cancel(0))
    stream.received(create(b"a"))
    assert (out.sent, len(out.jobs)) == ([], 1)
    out.jobs.pop()()
    node.drain()
    assert [told(message)[0] for message in out.sent] == ["created canceled"]
    out.jobs.pop()()
    node.drain()
    assert [told(message)[0] for message in out.sent] == ["created canceled", "created"]


def test_a_client_that_goes_while_its_token_is_looked_up_leaves_no_watch(node):
    node.auth.known_here = False
    stream, out = node.open("alice")
    stream.received(create(b"a"))
    stream.closed()
    out.jobs.pop()()
    node.drain()
    assert (node.watches.count, node.hub.metrics()["watchers"], out.sent) == (0, 0, [])


def test_what_waits_for_a_token_is_bounded(node, monkeypatch):
    monkeypatch.setattr(watch_service, "REQUESTS_MAX", 3)
    node.auth.known_here = False
    stream, _ = node.open("alice")
    for _ in range(3):
        stream.received(create(b"a"))
    with pytest.raises(Status) as refused:
        stream.received(create(b"a"))
    assert refused.value.args == TOO_MANY_REQUESTS


def test_there_are_no_more_than_so_many_watches(node, monkeypatch):
    monkeypatch.setattr(watch_service, "WATCHES_MAX", 3)
    one, out = node.open()
    two, other = node.open()
    for _ in range(2):
        one.received(create()), two.received(create())
    assert [told(message)[0] for message in out.sent + other.sent] == [
        "created",
        "created",
        "created",
        "created canceled",
    ]
    reason = "rpc error: code = ResourceExhausted desc = etcdserver: too many requests"
    assert (other.sent[-1].watch_id, other.sent[-1].cancel_reason) == (-1, reason)
    one.closed()
    two.received(create())
    assert told(other.sent[-1])[0] == "created"


def test_a_client_that_goes_takes_its_watches_along(node):
    stream, out = node.open()
    stream.received(create(progress_notify=True))
    stream.received(PROGRESS)
    stream.closed()
    node.put(b"a")
    assert len(out.sent) == 2
    assert (node.watches.count, node.hub.metrics()["watchers"]) == (0, 0)
    assert not node.watches.notified
