"""The feed: what a node does, ten times a second, for pages that watch it (`GET /_/feed`). No viewer, no cost.

    the node's thread, clients' threads ── taps ──▶ Interval ─┐
    the node's thread ◀── look ── View ───────────────────────┼─▶ the feed's thread: one frame, one JSON text ──▶ all viewers
    the engine ◀── describe, stats (twice a second) ──────────┘

An answer is a text/event-stream (the HTML standard, section 9.2): `event: frame` and one JSON object in `data:`. Each field
is always there, null where nothing is known, and more may be added. This is the contract with the page:

    {
     "id": 1, "engine": "lsm", "now_ms": 123456.7             of a clock that only goes forward
     "pages": ["http://127.0.0.1:3379", …]                    this node's URL, and those of --page-with
     "raft": {"role": "leader", "term": 3, "leader": 1, "vote": 1, "commit": 17, "applied": 17, "first": 1, "last": 17,
              "snapshot_index": 0, "installing": false, "members": {"1": "voter", "2": "voter", "3": "learner"},
              "progress": {"2": {"match": 17, "next": 18, "state": "replicate", "active": true, "inflight": 0}},
              "log": [[index, term, kind, bytes], …]}         the last 32; kinds: server/feed_frame.py, EntryKinds
     "messages": {"sent": [["MsgApp", to, term, index, entries], …], "received": [[type, from, term, index, entries], …],
                  "dropped": 0, "counts": {"MsgApp>2": 120, "MsgAppResp<2": 118}}     lists: 40 at most; counts: all
     "wal": {"segments": [[name, bytes], …], "fsyncs": 90, "bytes": 12345}            the newest 64; since the start
     "requests": [[method, key, status, ms, {"queue": ms, "persist": ms, "replicate": ms, "apply": ms, "answer": ms}], …]
                                                              20 at most; {} for what is no write, or has no entry here
     "rates": {"puts": 310.0, "gets": 0.0, "deletes": 0.0, "latency_ms": 1.9}         a second; the median, or null
     "store": null | {"applied": 17, "until": 17, "describe": {…}}                    sketch(): server/feed_store.py
     "events": [["role", before, after, leader, term], ["snapshot", "cut" | "begins to load" | "loaded", index],
                ["flush" | "compaction" | "merge", {"count": 1}], …]                       of the engine: when it is looked at
    }

"raft" is null until the node's thread has answered once. "progress" is of a leader, else {}. "store" is null in the frames
between; the page keeps the last one. "messages", "requests" and "events" are those since the last frame, oldest first.
"rates" are of requests for keys, over the last second.

Invariants:

1. While nobody watches there is no thread, no tap and no look at the node: the parts' `taps` are None.
2. A frame is made and serialised once for all viewers. A viewer that comes makes the next one have everything.
3. The feed holds nobody up: it waits for the node's thread for LOOK_S at most, and shows the last View until it answers;
   viewers are bounded, and the slow ones are dropped (server/feed_viewers.py).
4. A frame goes if anything in it changed; otherwise a comment every SILENCE_S, so that a dead viewer's connection breaks.

Left out: a history. Who wants one scrapes /_/metrics.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from server.errors import Overloaded
from server.feed_frame import EntryKinds, messages_part, nothing_sent, raft_part, requests_part
from server.feed_store import StorePart
from server.feed_taps import Interval, Tapped, Taps
from server.feed_viewers import Viewers
from server.limits import VIEWERS_MAX
from server.logs import logger
from server.metrics import Histogram, Metrics, describe
from server.watched import View, Watched

__all__ = ["Feed"]

INTERVAL_S = 0.1
LOOK_S = 0.05
SILENCE_S = 1.0
RATE_FRAMES = 10  # frames over which rates are taken: a second
SEGMENTS_SHOWN = 64
NONE = Histogram()

describe(
    {
        "feed_viewers": "Pages that watch this node.",
        "feed_viewers_dropped_total": "Pages that did not take what they were sent, and had to connect again.",
    }
)


class Watchable(Protocol):
    """A node that can be watched: server.node.Node."""

    @property
    def watched(self) -> Watched: ...


class FrontEnd(Tapped, Protocol):
    """Where the requests come in: server.http.FrontEnd."""

    def latencies(self) -> Mapping[str, Histogram]: ...


class Feed:
    """The feed of one node. `join`, `close` and `metrics` are for any thread."""

    def __init__(self, node: Watchable, front_end: FrontEnd, pages: Sequence[str]) -> None:
        """front_end: tells of requests. pages: URLs, this node's first."""
        self._node = node
        self._front_end = front_end
        self.pages = list(pages)
        self._viewers = Viewers(VIEWERS_MAX, self._look_up)
        self._guard = threading.Lock()
        self._thread: threading.Thread | None = None
        self._wake = threading.Event()
        self._newcomer = False
        self._closed = False

    def join(self) -> Iterator[bytes]:
        """A viewer's stream of frames, until it is too slow or the server stops. Raises Overloaded if there is no place."""
        blocks = self._viewers.join()
        if blocks is None:
            raise Overloaded(f"{VIEWERS_MAX} pages watch this node already: close one, or watch another node")
        self._newcomer = True
        with self._guard:
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._run, name="feed", daemon=True)
                self._thread.start()
        self._look_up()
        return blocks

    def close(self) -> None:
        """Ends all streams and the thread. Twice is fine."""
        self._closed = True
        self._viewers.close()
        self._look_up()
        with self._guard:
            thread = self._thread
        if thread is not None:
            thread.join()

    def metrics(self) -> Metrics:
        """How many watch, and how many were dropped."""
        return {"feed_viewers": len(self._viewers), "feed_viewers_dropped_total": self._viewers.dropped}

    def _look_up(self) -> None:
        """Has the thread see at once that somebody came or went."""
        self._wake.set()

    def _run(self) -> None:
        watched = self._node.watched
        taps = Taps(self._front_end)
        try:
            watched.tap(taps)
            frames = Frames(watched, taps, self._front_end.latencies, self.pages)
            while self._goes_on(watched):
                begun = time.monotonic()
                if self._newcomer:
                    self._newcomer = False
                    frames.forget()
                block = frames.next(begun)
                if block is not None:
                    self._viewers.send(block)
                self._wake.wait(max(0.0, INTERVAL_S - (time.monotonic() - begun)))
                self._wake.clear()
        except Exception:
            logger("feed").exception("the feed failed")
            self._viewers.end()
            with self._guard:
                self._end(watched)

    def _goes_on(self, watched: Watched) -> bool:
        """Whether somebody watches; if not, all is as if nobody ever had, and the next one who comes gets a new thread."""
        with self._guard:
            if len(self._viewers) and not self._closed:
                return True
            self._end(watched)
            return False

    def _end(self, watched: Watched) -> None:
        """Requires: the guard, so that a new thread's taps aren't taken away."""
        watched.tap(None)
        self._front_end.taps = None
        self._thread = None


class Frames:
    """Makes the frames of one feed, one after the other. For the feed's thread."""

    def __init__(
        self, watched: Watched, taps: Taps, latencies: Callable[[], Mapping[str, Histogram]], pages: Sequence[str]
    ) -> None:
        self._watched = watched
        self._taps = taps
        self._rates = Rates(latencies)
        self._pages = list(pages)
        self._store = StorePart(watched)
        self._kinds = EntryKinds()
        self._view: View | None = None
        self._told: dict[str, Any] | None = None
        self._told_at = 0.0

    def forget(self) -> None:
        """Somebody has come: the next frame is a whole one."""
        self._told = None
        self._store.forget()

    def next(self, now: float) -> bytes | None:
        """The next block for all viewers: a frame, a comment, or nothing."""
        seen = self._watched.look(LOOK_S)
        interval = self._taps.take()
        before, self._view = self._view, seen or self._view
        frame = self._frame(before, interval, now)
        if frame == self._told and nothing_sent(frame["messages"]) and not frame["requests"]:
            if now - self._told_at < SILENCE_S:
                return None
            self._told_at = now
            return b": nothing new\n\n"
        self._told, self._told_at = frame, now
        text = json.dumps({**frame, "now_ms": round(1000 * now, 1)}, separators=(",", ":"))
        return b"event: frame\ndata: %b\n\n" % text.encode()

    def _frame(self, before: View | None, interval: Interval, now: float) -> dict[str, Any]:
        view = self._view
        return {
            "id": self._watched.id,
            "engine": self._watched.engine,
            "pages": self._pages,
            "raft": None if view is None else raft_part(view, self._kinds),
            "messages": messages_part(interval),
            "wal": None if view is None else self._wal(view),
            "requests": requests_part(interval, self._taps),
            "rates": self._rates.part(now),
            "store": self._store.part(),
            "events": [*interval.events, *_events(before, view), *self._store.events],
        }

    def _wal(self, view: View) -> dict[str, Any]:
        segments: list[tuple[str, int]] = []
        with (
            contextlib.suppress(OSError),
            os.scandir(f"{self._watched.data_dir}/wal") as found,
        ):  # one may go between two calls
            segments = sorted((entry.name, entry.stat().st_size) for entry in found if entry.name.endswith(".wal"))
        if segments:  # space is allocated ahead in the last one
            segments[-1] = (segments[-1][0], min(segments[-1][1], view.wal["last_segment_bytes"]))
        return {
            "segments": segments[-SEGMENTS_SHOWN:],
            "fsyncs": view.wal["fsyncs"],
            "bytes": view.wal["bytes_written"],
        }


class Rates:
    """How many requests for keys a second, over the last second, and how long they took. For the feed's thread."""

    def __init__(self, latencies: Callable[[], Mapping[str, Histogram]]) -> None:
        self._latencies = latencies
        self._counted = deque([(time.monotonic(), latencies())], maxlen=RATE_FRAMES + 1)

    def part(self, now: float) -> dict[str, float | None]:
        """The frame's "rates"."""
        then, earlier = self._counted[0]
        counted = self._latencies()
        self._counted.append((now, counted))
        together = Histogram()
        rates: dict[str, float | None] = {}
        for name in ("puts", "gets", "deletes"):
            call = name.removesuffix("s")
            news = counted.get(call, NONE).since(earlier.get(call, NONE))
            rates[name] = round(news.count / max(now - then, INTERVAL_S), 1)
            together.add(news)
        median = together.median()
        return {**rates, "latency_ms": None if median is None else round(1000 * median, 3)}


def _events(before: View | None, now: View | None) -> list[list[Any]]:
    """What can be told from two looks: snapshots that the log was cut at, or that were loaded."""
    if before is None or now is None:
        return []
    events: list[list[Any]] = []
    if now.snapshot_index != before.snapshot_index and not (before.installing or now.installing):
        events.append(["snapshot", "cut", now.snapshot_index])
    if now.installing and not before.installing:
        events.append(["snapshot", "begins to load", now.snapshot_index])
    if before.installing and not now.installing:
        events.append(["snapshot", "loaded", now.snapshot_index])
    return events
