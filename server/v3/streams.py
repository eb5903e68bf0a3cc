"""All streams of a node: one thread, with an epoll of its own, that owns their connections.

    a connection's thread, or the node's ─▶ adopt ─▶ ┌────────────────────────────────────────────────────┐
    the node's thread: the hub has changes ─▶ call ─▶ │ a turn: sockets that are ready, calls, then every    │
    workers: messages to send ──────────────▶ call ─▶ │ stream to which something was given: one send each  │
                                                      └────────────────────────────────────────────────────┘

A stream lives as long as its client likes, so it must not have a thread; and a thousand of them must not have the node's
thread, which has heartbeats to send. So they have this one, in both forms of the server. It begins with the first stream.

Invariants:

1. A connection that was adopted belongs to this thread alone. It is none of the listener's any more: streams are bounded by
   STREAMS_MAX, connections by their own limit.
2. Nothing that this thread calls waits. What has to wait for the node is a stream's `job`: for WORKERS_MAX workers, the jobs
   of one stream in their order.
3. A stream that was adopted is ended by `stop`, at whichever moment that is: its client is told that the node stops.
4. What many streams were given in a turn is sent at its end, so that each of them costs one system call however many
   messages it got.

Left out: systems without epoll, where streams are refused. Follows redis's ae.c, and server/loop.py, whose loop this is.
"""

from __future__ import annotations

import math
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from server.limits import STREAMS_MAX
from server.logs import logger
from server.loop import Loop
from server.metrics import Metrics, describe
from server.request import Request
from server.v3.method import Caller, Stream
from server.v3.status import NO_LEADER, Status
from server.v3.stream import StreamConnection, StreamPort

__all__ = ["Streams"]

WORKERS_MAX = 16
TURN_S = 1.0  # how long an idle turn waits at most
LEADERLESS_S = 3.0  # until a stream that wants a leader is ended, if there is none

describe(
    {
        "streams": "Streams that are open: watches, keepalives, observers, snapshots.",
        "streams_total": "Streams that were opened.",
        "streams_refused_total": "Streams for which there was no place.",
    }
)

_log = logger("streams")


class Streams:
    """The streams of one node. `adopt`, `call`, `stop` and `metrics` are for any thread."""

    def __init__(self, etcd: Any, most: int = STREAMS_MAX) -> None:
        """etcd: the node, as streams see it (server/v3/etcd.py)."""
        self.etcd = etcd
        self._most = most
        self._guard = threading.Lock()
        self._loop = Loop()
        self._thread: threading.Thread | None = None
        self._stopping = False
        self._here: set[StreamConnection] = set()
        self._timed: set[StreamConnection] = set()
        self._given: list[StreamConnection] = []  # to whom something was given in this turn
        self._workers: ThreadPoolExecutor | None = None
        self._opened = self._refused = self._places = 0
        self._wanting: set[StreamConnection] = set()  # a leader
        self._hurried: set[StreamConnection] = set()  # to which their clients have given a time
        self._leaderless_since = math.inf
        self._loop.at_sweep(self._sweep)

    def adopt(
        self,
        connection: socket.socket,
        received: bytes,
        request: Request,
        method: Stream,
        caller: Caller,
        port: StreamPort,
    ) -> bool:
        """Takes a connection over whose next request is a stream; False if there is no place: then it is still the caller's.

        received: what came after the request's head. The socket object that was given is empty afterwards.
        """
        with self._guard:
            if self._stopping or self._places >= self._most:
                self._refused += 1
                return False
            self._places += 1
            self._opened += 1
        taken = socket.socket(connection.family, connection.type, connection.proto, connection.detach())
        stream = StreamConnection(self, taken, request, method, caller, port)
        if not self.call(lambda: self._begin(stream, received)):
            stream.stop()  # the thread has ended meanwhile
        return True

    def at_sweep(self, sweeper: Callable[[float], object]) -> None:
        """Has `sweeper` called in the streams' thread with the time, every SWEEP_S of server/loop.py. Before the first stream."""
        self._loop.at_sweep(sweeper)

    def call(self, function: Callable[[], object]) -> bool:
        """Has a function called in the streams' thread; False if that has ended."""
        if self._thread is None:
            self._start()
        return self._loop.call(function)

    def _start(self) -> None:
        with self._guard:
            if self._thread is None and not self._stopping:
                self._thread = threading.Thread(target=self._run, name="streams", daemon=True)
                self._thread.start()

    def stop(self) -> None:
        """Tells every stream's client that the node stops, and ends them all. Twice is fine."""
        with self._guard:
            self._stopping = True
            thread, workers = self._thread, self._workers
        if thread is not None:
            self._loop.call(self._end)
            thread.join()
        if workers is not None:
            workers.shutdown(wait=False, cancel_futures=True)
        self._loop.close()

    def metrics(self) -> Metrics:
        """How many streams there are, were, and were refused."""
        return {"streams": self._places, "streams_total": self._opened, "streams_refused_total": self._refused}

    # ---- the thread ----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        loop = self._loop
        while not loop.closed:
            loop.wait(TURN_S)
            given, self._given = self._given, []
            for stream in given:
                try:
                    stream.flush()
                except Exception:
                    _log.exception("a stream failed")
                    stream.close()

    def _begin(self, stream: StreamConnection, received: bytes) -> None:
        if self._stopping:  # it was adopted just before, and `_end` has not seen it
            stream.stop()
            return
        self._here.add(stream)
        if stream.caller.wants_leader:
            self._wanting.add(stream)
        if stream.caller.until != math.inf:
            self._hurried.add(stream)
        stream.begin(received)

    def _end(self) -> None:
        for stream in list(self._here):
            stream.stop()
        self._loop.close()

    def _sweep(self, now: float) -> None:
        for stream in [each for each in self._timed if each.deadline < now]:
            stream.expire()
        for stream in [each for each in self._hurried if each.caller.until <= now]:
            self._hurried.discard(stream)
            stream.too_late()
        if self._wanting:
            self._leaderless_since = math.inf if self.etcd.has_leader() else min(self._leaderless_since, now)
            if now - self._leaderless_since > LEADERLESS_S:
                for stream in list(self._wanting):
                    stream.fail(Status(*NO_LEADER))

    # ---- what streams call -----------------------------------------------------------------------------------------

    def in_thread(self) -> bool:
        """Whether this is the streams' thread."""
        return threading.current_thread() is self._thread

    def watch(self, stream: StreamConnection, descriptor: int, before: int, events: int) -> None:
        """Has a stream told when its socket is ready for these events, in place of those before."""
        if self._loop.closed:  # nobody waits for sockets any more
            return
        if not before:
            self._loop.watch(descriptor, stream.ready, events)
        elif not events:
            self._loop.unwatch(descriptor)
        else:
            self._loop.change(descriptor, events)

    def soon(self, stream: StreamConnection) -> None:
        """Has a stream flushed at the end of this turn."""
        self._given.append(stream)

    def timed(self, stream: StreamConnection, has_deadline: bool) -> None:
        """Whether the stream's deadline is to be looked at."""
        if has_deadline:
            self._timed.add(stream)
        else:
            self._timed.discard(stream)

    def forget(self, stream: StreamConnection) -> None:
        """A stream has ended."""
        self._here.discard(stream)
        self._timed.discard(stream)
        self._wanting.discard(stream)
        self._hurried.discard(stream)
        with self._guard:
            self._places -= 1

    def work(self, function: Callable[[], object]) -> None:
        """Has a function run by a worker."""
        with self._guard:
            if self._stopping:
                return
            if self._workers is None:
                self._workers = ThreadPoolExecutor(WORKERS_MAX, thread_name_prefix="streams-worker")
            self._workers.submit(function)
