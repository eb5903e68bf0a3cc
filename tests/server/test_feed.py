"""The feed of the live page: what a frame says, who may watch, and that it costs nothing while nobody does."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from raft.raftpb import MSG_HEARTBEAT, Message
from server.connection import Limits
from server.feed import LOOK_S
from server.feed_taps import EVENTS_MAX, MESSAGES_MAX, OWN_PATHS, REQUESTS_MAX, Taps
from server.feed_viewers import QUEUE_MAX, Viewers
from server.http import FrontEnd
from server.limits import VIEWERS_MAX
from server.metrics import SECONDS, Histogram
from tests.server.fake_node import Wire
from tests.server.local_nodes import LocalCluster, eventually

HEARTBEAT = Message(MSG_HEARTBEAT, to=2, from_=1, term=3)
FIELDS = {"id", "engine", "now_ms", "pages", "raft", "messages", "wal", "requests", "rates", "store", "events"}


class Viewer:
    """A page's end of a feed."""

    def __init__(self, front: FrontEnd, *fields: str, version: str = "1.1") -> None:
        self._socket = socket.create_connection(front.address, timeout=20)
        lines = [f"GET /_/feed HTTP/{version}", "Host: 127.0.0.1", *fields, "", ""]
        self._socket.sendall("\r\n".join(lines).encode())
        self._lines = self._socket.makefile("rb")
        self.status = int(self._lines.readline().split()[1])
        self.head = dict(line.decode().strip().split(": ", 1) for line in iter(self._lines.readline, b"\r\n"))

    def __enter__(self) -> Viewer:
        return self

    def __exit__(self, *_: object) -> None:
        self._lines.close()
        self._socket.close()

    def frames(self) -> Iterator[dict[str, Any]]:
        """The frames, until the stream ends. (A frame's line is whole in one chunk.)"""
        for line in self._lines:
            if line.startswith(b"data: "):
                yield json.loads(line[6:])

    def first(self, wanted: Any = lambda frame: True) -> dict[str, Any]:
        """The next frame of which `wanted` is true."""
        return next(frame for frame in self.frames() if wanted(frame))

    def comment(self) -> None:
        """Returns when one has come."""
        next(line for line in self._lines if line.startswith(b": "))

    def rest(self) -> bytes:
        """All that comes until the server closes."""
        return self._lines.read()


@contextmanager
def front_of(node: Any, limits: Limits | None = None, pages: tuple[str, ...] = ()) -> Iterator[FrontEnd]:
    front = FrontEnd(node, ("127.0.0.1", 0), limits, pages)
    front.start()
    try:
        yield front
    finally:
        front.stop()


@pytest.fixture
def front(one):
    with front_of(one) as front:
        yield front
    assert not _tapped(front)


def _tapped(front: FrontEnd) -> list[object]:
    """What gathers something for viewers."""
    return [part for part in [front, *front.node.watched._parts] if part.taps is not None]


def _put(front: FrontEnd, key: str) -> int:
    with Wire(front.address) as wire:
        status, headers, _ = wire.ask("PUT", f"/{key}", b"value")
        assert status == 204
        return int(headers["x-metcd-index"])


# ---- the frame ------------------------------------------------------------------------------------------------------


def test_a_frame_says_what_status_and_describe_say(front, one):
    index = _put(front, "a")
    with Viewer(front) as viewer:
        frame = viewer.first(lambda frame: frame["store"] is not None)
    status = one.status()
    assert frame.keys() == FIELDS
    assert (frame["id"], frame["engine"], frame["pages"]) == (1, "lsm", [f"http://127.0.0.1:{front.address[1]}"])
    raft = frame["raft"]
    assert (raft["role"], raft["leader"], raft["term"]) == ("leader", 1, status["term"])
    assert raft["commit"] == raft["applied"] == raft["last"] == status["applied_index"] == index
    assert raft["members"] == {"1": "voter"}
    assert raft["log"][-1] == [index, status["term"], "put", raft["log"][-1][3]]
    store = frame["store"]
    assert store["applied"] == store["until"] == index
    counters = store["describe"]["counters"]
    assert store["describe"] == {**one.machine.store.sketch(), "counters": counters}
    assert counters["puts"] == status["stats"]["puts"] and counters["bytes_written"] == status["stats"]["bytes_written"]
    with Wire(front.address) as wire:
        told = json.loads(wire.ask("GET", "/_/describe")[2])
    assert told["applied"] == told["until"] == index
    assert told["describe"] == one.machine.store.describe()
    assert told["describe"]["last_sequence"] == store["describe"]["last_sequence"]
    assert told["stats"]["puts"] == counters["puts"]


def test_a_write_is_seen_with_where_its_time_went(front):
    with Viewer(front) as viewer:
        viewer.first()
        index = _put(front, "hello%20world")
        frame = viewer.first(lambda frame: frame["requests"])
        ((method, key, status, total_ms, phases),) = frame["requests"]
        assert (method, key, status) == ("PUT", "hello world", 204)
        assert phases.keys() == {"queue", "persist", "replicate", "apply", "answer"}
        assert sum(phases.values()) == pytest.approx(total_ms, abs=0.01)
        assert phases["persist"] > 0
        assert frame["rates"]["puts"] > 0
        assert frame["rates"]["latency_ms"] > 0
        if frame["raft"]["applied"] < index:
            frame = viewer.first(lambda frame: frame["raft"]["applied"] >= index)
        assert frame["wal"]["fsyncs"] > 0
        assert frame["wal"]["segments"][-1][1] <= frame["wal"]["bytes"]


def test_the_page_s_own_requests_are_not_shown(front):
    with Viewer(front) as viewer, Wire(front.address) as wire:
        viewer.first()
        for path in OWN_PATHS:
            with Wire(front.address) as other:
                other.ask("HEAD", path.decode())
        wire.ask("GET", "/_/status")
        wire.ask("GET", "/absent")
        shown = viewer.first(lambda frame: frame["requests"])["requests"]
        while shown[-1][1] != "absent":
            shown += viewer.first(lambda frame: frame["requests"])["requests"]
    assert [(method, key, status) for method, key, status, *_ in shown] == [
        ("GET", "/_/status", 200),
        ("GET", "absent", 404),
    ]


def test_messages_and_roles_are_seen_in_a_cluster(tmp_path):
    with LocalCluster(tmp_path) as cluster:
        leader = cluster.leader()
        with front_of(leader) as front, Viewer(front) as viewer:
            frame = viewer.first(lambda frame: frame["messages"]["received"] and frame["messages"]["sent"])
            peers = {int(node) for node in frame["raft"]["progress"]}
            assert peers == set(cluster.nodes) - {leader.id}
            for kind, node, term, _, _ in frame["messages"]["sent"] + frame["messages"]["received"]:
                assert kind.startswith("Msg") and node in peers and term == frame["raft"]["term"]
            assert sum(frame["messages"]["counts"].values()) >= len(frame["messages"]["sent"])
            follower = cluster.follower()
            leader.transfer(follower.id)
            event = viewer.first(lambda frame: frame["events"])["events"][0]
            assert event[:3] == ["role", "leader", "follower"]


def test_who_comes_later_sees_everything(front):
    """The next frame after a viewer came has the store, although nothing has changed since the others got it."""
    with Viewer(front) as early:
        assert early.first()["store"] is not None
        with Viewer(front) as late:
            late.first(lambda frame: frame["store"] is not None)


def test_a_node_s_thread_that_is_away_is_waited_for_no_longer_than_a_look_takes(one):
    away, back = threading.Event(), threading.Event()

    def stand() -> None:
        away.set()
        back.wait(20)

    one.later(stand)
    assert away.wait(20)
    try:
        assert one.watched.look(LOOK_S) is None
        assert one.watched.look(LOOK_S) is None
    finally:
        back.set()
    assert eventually("it answers", lambda: one.watched.look(1.0)).status.id == 1


def test_what_the_engine_does_in_the_background_is_an_event(tmp_path):
    with LocalCluster(tmp_path, ["lsm"]) as cluster:
        node = cluster.leader()
        with front_of(node) as front, Viewer(front) as viewer:
            cluster.put(node, b"a", b"1")
            viewer.first(lambda frame: frame["store"] and frame["store"]["describe"]["counters"]["puts"])
            node.machine.store.flush()
            assert viewer.first(lambda frame: frame["events"])["events"] == [["flush", {"count": 1}]]


def test_messages_that_were_not_sent_are_counted(one):
    taps = Taps(Asking())
    one.watched.tap(taps)
    one.unreachable(2, [HEARTBEAT] * 3)
    one.read_barrier()
    one.watched.tap(None)
    assert taps.take().dropped == 3


class Asking:
    """A front end: it tells of requests while it has taps."""

    taps: Taps | None = None


def test_what_is_gathered_between_two_frames_is_bounded():
    asking = Asking()
    taps = Taps(asking)
    asked = 0
    for _ in range(2):
        interval = taps.take()
        while asking.taps is not None:
            asking.taps.answered(b"GET", b"/key", 200, 0.001, b"")
            asked += 1
        for _ in range(1000):
            taps.event("role", "a", "b", 1, 1)
            taps.dropped(1)
            taps.sent([HEARTBEAT] * 3)
            taps.received([HEARTBEAT] * 3)
    assert len(interval.asked) == REQUESTS_MAX and asked == 2 * REQUESTS_MAX
    assert len(interval.events) == EVENTS_MAX and interval.dropped == 1000
    assert len(interval.sent) == len(interval.received) == MESSAGES_MAX
    assert list(interval.sent_types.values()) == list(interval.received_types.values()) == [3000]
    assert taps.take() is not taps.take()


def test_a_median_of_buckets_lies_among_the_samples():
    assert Histogram().median() is None
    histogram = Histogram()
    for milliseconds in (1.1, 1.4, 2.0, 2.4, 30.0):
        histogram.observe(milliseconds / 1000)
    assert 0.001 < histogram.median() < 0.0025
    earlier = Histogram()
    earlier.add(histogram)
    histogram.observe(0.007)
    later = histogram.since(earlier)
    assert (later.count, later.total) == (1, pytest.approx(0.007))
    assert 0.005 < later.median() < 0.01
    high = Histogram()
    high.observe(100.0)
    assert high.median() == SECONDS[-1]


# ---- who watches ----------------------------------------------------------------------------------------------------


def test_while_nobody_watches_nothing_is_tapped_and_nobody_looks(front, one, monkeypatch):
    monkeypatch.setattr("server.feed.SILENCE_S", 0.05)
    looks = []
    view = one.watched._view
    monkeypatch.setattr(one.watched, "_view", lambda: looks.append(1) or view())
    _put(front, "b")
    assert not _tapped(front) and not looks
    assert not any(thread.name == "feed" for thread in threading.enumerate())
    with Viewer(front) as viewer:
        viewer.first()
        assert len(_tapped(front)) == 6 and looks
    eventually("it is as if nobody had watched", lambda: not _tapped(front) and front.feed._thread is None)
    seen = len(looks)
    _put(front, "c")
    assert len(looks) == seen


def test_so_many_watch_and_the_next_one_is_told(front):
    viewers = [Viewer(front) for _ in range(VIEWERS_MAX)]
    try:
        for viewer in viewers:
            assert viewer.status == 200 and viewer.head["Content-Type"] == "text/event-stream"
            viewer.first()
        with Wire(front.address) as wire:
            status, headers, body = wire.ask("GET", "/_/feed")
            assert status == 503 and headers["retry-after"] == "1"
            assert json.loads(body)["error"].startswith(f"{VIEWERS_MAX} pages watch this node already")
            assert wire.ask("GET", "/_/health")[0] == 200
    finally:
        for viewer in viewers:
            viewer.__exit__()
    eventually("their places are given back", lambda: not front.feed._viewers._here)
    with Viewer(front) as viewer:
        assert viewer.first()["id"] == 1


def test_viewers_take_no_place_that_clients_need(one):
    with front_of(one, Limits(connections=1, spare_connections=0)) as front:
        with Viewer(front) as first:
            first.first()
            with Viewer(front) as second:
                second.first()
                with Wire(front.address) as wire:
                    assert wire.ask("PUT", "/d", b"1")[0] == 204
        eventually("they are gone", lambda: not front.threads)
        assert front._slots.free() == 1


def test_a_viewer_that_takes_nothing_is_dropped_and_the_others_go_on():
    left = threading.Event()
    viewers = Viewers(2, left.set)
    slow, quick = viewers.join(), viewers.join()
    assert slow is not None and quick is not None and viewers.join() is None
    assert next(slow) == next(quick)
    for number in range(QUEUE_MAX + 5):
        viewers.send(b"%d" % number)
        assert next(quick) == b"%d" % number
    assert list(slow) == []
    assert left.is_set() and viewers.dropped == 1 and len(viewers) == 1
    viewers.close()
    assert list(quick) == []
    assert viewers.join() is None


def test_a_slow_viewer_s_connection_ends(one):
    """The system's buffers take what they take; then a block isn't sent in time, and the connection is closed."""
    with front_of(one, Limits(viewer_s=0.05)) as front:
        frame = b"x" * (1 << 20)
        with Viewer(front), Viewer(front) as other:
            other.first()
            eventually("it is gone", lambda: front.feed._viewers.send(b"%b\n" % frame) or len(front.threads) < 2)


def test_a_dead_viewer_s_thread_ends(front, monkeypatch):
    monkeypatch.setattr("server.feed.SILENCE_S", 0.05)
    viewer = Viewer(front)
    viewer.first()
    viewer.__exit__()
    eventually("its thread has ended", lambda: not front.threads)


def test_a_feed_has_no_deadline_and_no_pace(one, monkeypatch):
    monkeypatch.setattr("server.feed.SILENCE_S", 0.05)
    with front_of(one, Limits(answer_s=0.2, answer_bytes_per_s=1 << 40)) as front, Viewer(front) as viewer:
        begun = time.monotonic()
        while time.monotonic() < begun + 0.6:
            viewer.comment()


@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_a_feed_ends_with_the_server(one, version):
    with front_of(one) as front:
        viewer = Viewer(front, version=version)
        assert viewer.first()["id"] == 1
        assert ("Transfer-Encoding" in viewer.head) == (version == "1.1")
        assert viewer.head["Connection"] == "close"
    rest = viewer.rest()
    assert rest.endswith(b"0\r\n\r\n") or version == "1.0"
    viewer.__exit__()
    assert not front.threads and front.feed._thread is None


def test_head_of_a_feed_has_no_body_and_leaves_no_viewer(front):
    with Wire(front.address) as wire:
        status, headers, body = wire.ask("HEAD", "/_/feed")
        assert (status, headers["content-type"], body) == (200, "text/event-stream", b"")
        assert wire.rest() == b""
    eventually("nobody watches", lambda: not front.feed._viewers._here)


def test_a_feed_that_fails_is_told_and_ends(front, one, monkeypatch, lines):
    monkeypatch.setattr(one.watched, "_view", lambda: 1 // 0)
    with Viewer(front) as viewer:
        assert list(viewer.frames()) == []
    assert "the feed failed" in lines
    assert not _tapped(front)
    assert one.propose([(b"e", b"1")])


def test_what_a_node_was_is_shown_after_it_has_stopped(tmp_path, monkeypatch):
    """Its front end may outlive it for a moment: there is no store to describe any more, and nobody who looks."""
    monkeypatch.setattr("server.feed.SILENCE_S", 0.05)
    with LocalCluster(tmp_path, ["btree"]) as cluster:
        node = cluster.leader()
        with front_of(node) as front, Viewer(front) as viewer:
            assert viewer.first()["raft"]["role"] == "leader"
            node.stop()
            with Viewer(front) as late:
                frame = late.first()
                assert frame["store"] is None and frame["raft"]["role"] == "leader"
            viewer.comment()
