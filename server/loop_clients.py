"""Clients' connections in the node's loop: requests for one key that come at once, without a thread.

                    ┌──────────────────── the node's thread ────────────────────┐
    accept ─ enter ─▶ recv ─▶ parse_head ─▶ find_call ─▶ begin ─▶ … ─▶ resolve ─▶ one send ─▶ the next request
                         │         │            │                                  │
                         └─────────┴────────────┴── anything else ─▶ a thread that goes on with what was received

What the plain form does in a thread of its own for each connection (server/connection.py) is done here in two halves: `begin`
hands the write or the read to the node, and `resolve`, called by the node's thread when it knows the outcome, makes the
answer and sends it. Only what is simple stays here: GET, PUT or DELETE of a key, and of etcd's methods those that wait for
nothing but the node; HTTP/1.1, the head in one piece. A body may come a moment after its head: Python's http.client, and so
requests and etcd3gw, sends the two apart. One that takes longer than BODY_SOON_S gets a thread, with BODY_S to come.
Everything else, errors too, gets a thread with the bytes as they came, so that it is answered by the same code as in the
plain form; tests/server/test_loop_clients.py compares the bytes of the two.

Invariants:

1. What server/connection.py promises holds here: one answer for each request, in their order; deadlines that no byte
   moves (looked at every SWEEP_S); a connection that has to end says so in its last answer, and lingers.
2. A request that is being answered is one: what arrives meanwhile waits in the buffer, RECEIVE_BYTES of it and one recv,
   and beyond that in the system's.
3. A connection belongs to the loop's thread from `enter` until it is closed or handed to a thread, and never to both.
4. In a turn a connection is given REQUESTS_MAX answers at most; others have their turn before it goes on.

Measured with three nodes and 64 clients (tests/bench/http_load.py, CPU time of all nodes for each request): a PUT takes 75 µs
in place of 171, a linearizable GET 25 in place of 95; with one client a GET 270 in place of 546.
Follows redis's networking.c.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any, Protocol

from server.answers import Answer, Call, Run
from server.connection import RECEIVE_BYTES, Limits, encode_answer
from server.feed_taps import Taps
from server.listener import Life
from server.loop import READABLE, WRITABLE, Loop
from server.loop_calls import Begun, Serves, begin, is_simple
from server.loop_v3 import begin_v3, is_simple_v3
from server.metrics import Histogram
from server.request import HEAD_END, BadRequest, Request, parse_head
from server.routes import find_call
from server.slots import BUSY, Place
from server.strangers import Strangers

__all__ = ["LoopClients", "LoopConnection"]

BODY_SOON_S = 0.5  # after its head: time enough for a client that is sending it
REQUESTS_MAX = 32  # that are answered at once, for one connection and turn: stale reads that were sent ahead


class Port(Serves, Protocol):
    """What the connections ask of the listener that they arrived at: server.http.FrontEnd."""

    limits: Limits
    taps: Taps | None
    stopping: bool
    local_only: bool
    strangers: Strangers

    def place_of(self, connection: socket.socket) -> Place: ...
    def left_loop(self, connection: socket.socket) -> None: ...
    def give_thread(self, connection: socket.socket, address: Any, received: bytes) -> Life | None: ...


class LoopClients:
    """The connections of one listener that are in a loop. For the loop's thread."""

    def __init__(self, loop: Loop, port: Port) -> None:
        self.loop = loop
        self.port = port
        self.answers: Counter[int] = Counter()
        self.latencies: defaultdict[Run, Histogram] = defaultdict(Histogram)
        self.connections: set[LoopConnection] = set()
        loop.at_sweep(self._sweep)
        loop.at_close(self._leave)

    def _sweep(self, now: float) -> None:
        for connection in [each for each in self.connections if each.deadline < now]:
            connection.expire()

    def _leave(self) -> None:
        for connection in list(self.connections):
            connection.hand_over()


class LoopConnection:
    """One client's connection. To who stops the listener it is a thread: `join`, `is_alive`."""

    def __init__(self, clients: LoopClients, connection: socket.socket, address: Any) -> None:
        self.deadline = time.monotonic() + clients.port.limits.head_s  # for what it does at the moment
        self._clients = clients
        self._loop = clients.loop
        self._port = clients.port
        self._socket = connection
        self._address = address
        self._descriptor = connection.fileno()
        self._place = clients.port.place_of(connection)
        self._buffer = b""  # received and not yet used
        self._whole_bytes = 0  # of the next request, if its head is there and its body isn't
        self._trusted_host: bytes | None = None
        self._waiting: Begun | None = None  # for the node
        self._request: Request | None = None  # that is being answered,
        self._request_bytes = b""  # as it came,
        self._begun = 0.0  # since when,
        self._times = Histogram()  # and what counts that
        self._unsent = b""  # of an answer for which the client wasn't ready
        self._after: Callable[[], None] = self._next  # what comes when all is sent
        self._watched = 0  # for what epoll looks: 0 if it doesn't
        self._at_end = False  # the client sends no more
        self._dropped = -1  # bytes since the last answer; -1 until that is sent
        self._left = threading.Event()
        self._thread: Life | None = None

    # ---- for who stops the listener ------------------------------------------------------------------------------

    def join(self, timeout: float | None = None) -> None:
        """Waits until the connection has ended, also if it was given a thread."""
        until = None if timeout is None else time.monotonic() + timeout
        self._left.wait(timeout)
        if self._thread is not None:
            self._thread.join(None if until is None else max(0.0, until - time.monotonic()))

    def is_alive(self) -> bool:
        """Whether the connection is still there."""
        return self._thread.is_alive() if self._thread is not None else not self._left.is_set()

    # ---- its life ------------------------------------------------------------------------------------------------

    def enter(self) -> None:
        """Begins to be served."""
        self._clients.connections.add(self)
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._watch(READABLE)
        if self._loop.closed:
            self.hand_over()

    def hand_over(self) -> None:
        """Gives the connection to a thread, with what was received and not yet answered."""
        if self._waiting is not None or self._unsent or self._dropped >= 0:
            self._close()  # its answer is on its way, and there is nobody left to send it
            return
        self._leave()
        self._socket.setblocking(True)
        self._thread = self._port.give_thread(self._socket, self._address, self._buffer)
        self._left.set()

    def _close(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.give_up()
        self._leave()
        self._port.left_loop(self._socket)
        self._left.set()

    def _leave(self) -> None:
        self._watch(0)
        self._clients.connections.discard(self)

    def _watch(self, events: int) -> None:
        if events == self._watched:
            return
        if not self._watched:
            self._loop.watch(self._descriptor, self.ready, events)
        elif not events:
            self._loop.unwatch(self._descriptor)
        else:
            self._loop.change(self._descriptor, events)
        self._watched = events

    def expire(self) -> None:
        """The time is up for what it does: a request that waits is answered, one whose body is late gets a thread, and
        everything else ends without a word."""
        if self._whole_bytes:
            self.hand_over()
            return
        if self._waiting is None:
            self._close()
            return
        waiting, self._waiting = self._waiting, None
        self._answer(waiting.expired())
        if self._buffer:
            self._loop.call(self._serve)

    # ---- receiving -----------------------------------------------------------------------------------------------

    def ready(self, events: int) -> None:
        """epoll says that the socket is ready. One recv, or one send."""
        if self._unsent:
            self._flush()
            return
        try:
            data = self._socket.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if self._dropped >= 0:
            self._dropped += len(data)
            if not data or self._dropped >= self._port.limits.linger_bytes:
                self._close()
        elif not data:
            self._at_end = True
            if self._whole_bytes:
                self.hand_over()
            elif self._waiting is None and not self._buffer:
                self._close()
            else:  # what was received before is still answered
                self._watch(0)
        elif self._waiting is not None:
            self._buffer += data
            if len(self._buffer) > RECEIVE_BYTES:
                self._watch(0)
        else:
            self._buffer += data
            if len(self._buffer) >= self._whole_bytes:
                self._serve()

    def _serve(self) -> None:
        """Begins what has been received, until something has to wait for the node, the client, or its next turn."""
        for _ in range(REQUESTS_MAX):
            if self._waiting is not None or self._unsent or self._dropped >= 0 or self._left.is_set():
                return
            if not self._buffer:
                return
            answer = self._begin()
            if answer is None:
                return
            self._answer(answer)
        self._loop.call(self._serve)

    def _begin(self) -> Answer | None:
        """Begins the next request; its answer if that is known at once. None if it waits, for the node or for its body, or was
        handed to a thread."""
        buffer, self._whole_bytes = self._buffer, 0
        try:
            request = parse_head(buffer)
            call = self._simple_call(request) if request is not None else None
        except BadRequest:
            call = None
        if call is None:
            self.hand_over()
            return None
        assert request is not None
        body_at, end = request.size, request.size + (request.fields.content_length or 0)
        if end > len(buffer):
            if end > RECEIVE_BYTES or self._at_end:
                self.hand_over()
            else:
                self._whole_bytes, self.deadline = end, time.monotonic() + BODY_SOON_S
            return None
        self._place.waits_since = BUSY
        self._request = request
        self._times, self._begun = self._clients.latencies[call.route.run], time.monotonic()
        start = begin_v3 if call.options and "method" in call.options else begin
        begun = start(self._port, call, buffer[body_at:end], self._resolved)
        if begun is None:
            self.hand_over()
            return None
        self._request_bytes, self._buffer = buffer[:end], buffer[end:]
        if isinstance(begun, Answer):
            return begun
        self._waiting = begun
        self.deadline = begun.deadline
        return None

    def _simple_call(self, request: Request) -> Call | None:
        """What the request asks for, if that can be done here. Raises BadRequest."""
        fields = request.fields
        if request.http_1_0 or self._place.closing or self._port.stopping or fields.chunked or fields.expects:
            return None
        if (fields.content_length or 0) > self._port.limits.body_bytes or request.method == b"HEAD":
            return None
        if fields.host != self._trusted_host or fields.from_page:
            if self._port.strangers.check(fields, self._port.local_only, request.target) is not None:
                return None
            self._trusted_host = fields.host
        call = find_call(request)
        if is_simple(call):
            return None if self._port.node.etcd.auth.enabled else call  # who asks may have to be found out by a hash
        return call if is_simple_v3(call) else None

    # ---- answering -----------------------------------------------------------------------------------------------

    def _resolved(self, answer: Answer | None) -> None:
        """The node knows what became of the request that waits for it. None: nothing, and a thread is to go on with it."""
        self._waiting = None
        if answer is None:
            self._buffer = self._request_bytes + self._buffer
            self.hand_over()
            return
        self._answer(answer)
        if self._buffer:
            self._loop.call(self._serve)

    def _answer(self, answer: Answer) -> None:
        """Sends an answer; what the client doesn't take at once is sent when it does."""
        request = self._request
        assert request is not None
        port = self._port
        self._clients.answers[answer.status] += 1
        took_s = time.monotonic() - self._begun
        self._times.observe(took_s)
        if port.taps is not None:
            port.taps.answered(request.method, request.target, answer.status, took_s, answer.headers)
        ends = (self._place.closing or port.stopping) and HEAD_END not in self._buffer
        keep_alive = request.keep_alive and not ends
        data = encode_answer(request, answer, keep_alive)
        self._after = self._next if keep_alive else self._linger if ends else self._close
        try:
            sent = self._socket.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._close()
            return
        if sent < len(data):
            self._unsent = data[sent:]
            self.deadline = time.monotonic() + port.limits.answer_s
            self._watch(WRITABLE)
        else:
            self._after()

    def _flush(self) -> None:
        try:
            self._unsent = self._unsent[self._socket.send(self._unsent) :]
        except BlockingIOError:
            return
        except OSError:
            self._close()
            return
        if not self._unsent:
            self._watch(0 if self._at_end else READABLE)
            self._after()
            if self._buffer and not self._left.is_set():
                self._loop.call(self._serve)

    def _next(self) -> None:
        """All is sent: the next request may come."""
        if self._at_end and not self._buffer:
            self._close()
            return
        if not self._at_end:
            self._watch(READABLE)
        self._place.waits_since = now = time.monotonic()
        self.deadline = now + self._port.limits.idle_s

    def _linger(self) -> None:
        """Drops what the client sends after an answer that ends the connection, so that it gets to read the answer."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)
        self._place.waits_since = now = time.monotonic()
        self.deadline = now + self._port.limits.linger_s
        self._dropped = 0
        if self._at_end:
            self._close()
        else:
            self._watch(READABLE)
