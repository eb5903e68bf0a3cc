"""One client's connection: a thread that receives, answers, and can't be held up.

    recv ──▶ parse_head ──▶ find_call ──▶ the body ──▶ perform ──▶ one send ──┐
     ▲       request.py     routes.py                  routes.py              │
     └────────────────── keep-alive, pipelining ──────────────────────────────┘

Invariants:

1. Every request is answered once, or its connection is closed; answers are in the order of the requests.
2. After an error that leaves it unclear where the next request begins, or that leaves a body unread, the connection is
   closed. What the client still sends is read and dropped for a moment, because closing a socket that has unread bytes
   resets it, and the reset can overtake the answer (RFC 9112 section 9.6).
3. No deadline is moved by bytes that arrive: a client that drips a byte a second is closed when its time is up. (A
   timeout for each recv, as sockets have it, would let it hold a thread for ever.)
4. One recv that brings a whole request needs no system call for its deadline: the kernel's SO_RCVTIMEO is set only when
   a wait begins whose limit is another than the last one's.
5. A body is kept in the pieces in which it comes: an announced length reserves nothing, and a chunk's size neither.
6. A connection that has to end, because the server stops or its place is needed, answers the requests that it has read
   and says `Connection: close` in the last answer: what a client sends after that was not looked at.

A browser is a client too, and it runs what strangers wrote: server/strangers.py says what is refused. A request that a
stream answers leaves with its connection, for the streams' thread (server/v3/streams.py).
"""

from __future__ import annotations

import contextlib
import math
import socket
import socketserver
import struct
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, Protocol

from server.access import admit
from server.answers import Run, error_answer
from server.body import body_of
from server.errors import NodeStopped
from server.feed_taps import Taps
from server.limits import (
    ANSWER_BYTES_PER_S_MIN,
    ANSWER_S,
    BODY_BYTES_MAX,
    BODY_S,
    CONNECTIONS_MAX,
    CONNECTIONS_WAITING_MAX,
    HEAD_S,
    IDLE_S,
    PLACE_S,
    SPARE_CONNECTIONS_MAX,
    V3_BODY_BYTES_MAX,
)
from server.logs import logger
from server.metrics import Histogram
from server.request import HEAD_END, BadRequest, Request, parse_head
from server.routes import Answer, Call, Serving, about_the_node, perform
from server.routes_page import may_watch, share
from server.slots import BUSY, Place
from server.strangers import Strangers
from server.v3.method import Caller, Stream
from server.v3.routes import call_of, constant
from server.v3.status import Status

__all__ = ["RECEIVE_BYTES", "STATUS_LINES", "Connection", "Limits", "encode_answer"]

RECEIVE_BYTES = 64 << 10
VIEWER_BUFFER_BYTES = (
    64 << 10
)  # of the system's, for an endless answer: what a viewer doesn't take must not grow old in it

_log = logger("http")
_TIMEVAL = struct.Struct("ll")
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
BODILESS = frozenset((204, 304))
STATUS_LINES = {status.value: b"HTTP/1.1 %d %b\r\n" % (status, status.phrase.encode()) for status in HTTPStatus}


@dataclass(frozen=True)
class Limits:
    """What one client may take; seconds are absolute, from the beginning of what they limit.

    What is not explained here is in server/limits.py."""

    connections: int = CONNECTIONS_MAX
    spare_connections: int = SPARE_CONNECTIONS_MAX
    waiting_connections: int = CONNECTIONS_WAITING_MAX
    place_s: float = PLACE_S
    reclaimed_idle_s: float = 1.0  # a connection that has been idle that long is closed when others need its place
    spare_head_s: float = 2.0  # how long a spare connection may take to ask its one question
    body_bytes: int = BODY_BYTES_MAX
    v3_body_bytes: int = V3_BODY_BYTES_MAX
    head_s: float = HEAD_S
    body_s: float = BODY_S
    answer_s: float = ANSWER_S
    answer_bytes_per_s: int = ANSWER_BYTES_PER_S_MIN
    idle_s: float = IDLE_S
    viewer_s: float = 5.0  # for each block of an endless answer
    linger_s: float = 5.0  # how long a connection is drained after an error
    linger_bytes: int = 64 << 20  # and how much of a body that was refused; then it is reset


class _Late(Exception):
    """A deadline passed, or the client went away in the middle of something: there is nobody to answer."""


class Port(Serving, Protocol):
    """What a connection asks of the listener that it arrived at: server.http.FrontEnd, which says what each call means."""

    limits: Limits
    taps: Taps | None
    stopping: bool
    local_only: bool
    strangers: Strangers

    def place_of(self, connection: socket.socket) -> Place: ...
    def leave_place(self, place: Place) -> None: ...
    def waits(self, connection: socket.socket, address: Any, received: bytes) -> bool: ...
    def received(self, connection: socket.socket) -> bytes: ...
    def opened(self, connection: Connection) -> None: ...
    def closed(self, connection: Connection) -> None: ...
    def find_call(self, request: Request) -> Call: ...
    def tell_of_garbage(self, host: str, why: str) -> None: ...
    def crowded(self) -> BadRequest: ...
    def cut_off(self) -> BadRequest: ...
    def stream_head(self, request: Request, status: int, grpc: bool, keep_alive: bool) -> bytes: ...
    def error_answer(self, request: Request, status: Status, keep_alive: bool) -> bytes: ...
    def back(self, connection: socket.socket, received: bytes) -> None: ...


class Connection(socketserver.BaseRequestHandler):
    """Serves one connection, in the constructor, as socketserver has it; in place of `http.server`'s handler."""

    request: socket.socket
    server: Port  # type: ignore[assignment]  # socketserver's name for it

    def setup(self) -> None:
        self.place: Place = self.server.place_of(self.request)
        self.answers: Counter[int] = Counter()  # by status; this thread counts, others look
        self.latencies: defaultdict[Run, Histogram] = defaultdict(Histogram)  # by what was asked for; likewise
        self._buffer = self.server.received(self.request)  # and not yet used
        self._limits = self.server.limits
        self._head = b""  # of the request, on a spare place
        self._timeout_s = 0.0  # what SO_RCVTIMEO is set to
        # for the first byte of the next request
        self._patience_s = self._limits.spare_head_s if self.place.spare else self._limits.head_s
        self._trusted_host: bytes | None = None
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.request.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(self._limits.answer_s))
        self.server.opened(self)

    def finish(self) -> None:
        self.server.closed(self)

    def handle(self) -> None:
        """Answers requests until the client goes, is too slow, or an answer ends the connection."""
        place, now = self.place, time.monotonic
        with contextlib.suppress(_Late, OSError):
            while self._serve_one(place):
                self._patience_s = self._limits.idle_s
                place.waits_since = now()

    def _serve_one(self, place: Place) -> bool:
        """One request and its answer; False if the connection ends with it."""
        request = None
        try:
            request = self._read_head()
            if request is None:
                return False
            place.waits_since = BUSY
            refused = None
            if request.fields.host != self._trusted_host or request.fields.from_page:
                watches = request.fields.from_page and may_watch(request, self.server.feed.pages)
                refused = self.server.strangers.check(request.fields, self.server.local_only, request.target, watches)
                self._trusted_host = request.fields.host if refused is None else None
            call = self.server.find_call(request) if refused is None else constant(refused)
            if place.spare and not about_the_node(call):
                self._wait_for_place()
                return False
            method = call.options.get("method") if call.options else None
            if type(method) is Stream:
                self._hand_to_streams(request, method, call.options["caller"])
                return False
            if method is not None:
                call = call_of(call, self._client_gone)
            elif (auth := self.server.node.etcd.auth).enabled:
                call = admit(auth, call, request.fields.authorization)
            body = self._read_body(request, method is not None)
        except BadRequest as error:
            answer = error_answer(error.status, error.sentence, error.headers)
            # only a request that is understood and has no body shows where the next one begins
            has_body = request is None or bool(request.fields.content_length) or request.fields.chunked
            unclear = has_body or error.status == 411
            if request is None and error.status in (400, 431):
                self.server.tell_of_garbage(self.client_address[0], error.sentence)
        else:
            begun = time.monotonic()
            answer = perform(self.server, call, body)
            took_s = time.monotonic() - begun
            self.latencies[call.route.run].observe(took_s)
            if (taps := self.server.taps) is not None:
                taps.answered(request.method, request.target, answer.status, took_s, answer.headers)
            unclear = False
        if self.server.strangers.origins is not None and request is not None:
            answer = self.server.strangers.dressed(answer, request.fields.origin)
        if request is not None and request.target.startswith(b"/_/"):
            answer = share(request, self.server.feed.pages, answer)
        if unclear or ((place.closing or self.server.stopping) and self._has_answered_all()):
            self._answer(request, answer, False)
            self._linger()
            return False
        assert request is not None
        if answer.endless:
            self._answer_endlessly(request, answer)
            return False
        return self._answer(request, answer, request.keep_alive)

    def _has_answered_all(self) -> bool:
        """True if this answer is the last one of a connection that has to end: no other request has been read."""
        return self.place.spare or HEAD_END not in self._buffer

    # ---- receiving --------------------------------------------------------------------------------------------------

    def _read_head(self) -> Request | None:
        """The next request, whose head is taken from the buffer; None if the client goes or is idle for too long."""
        if not self._buffer:
            self._buffer = self._receive(self._patience_s)
            if not self._buffer:
                return None
        request = parse_head(self._buffer)
        if request is None:
            request = self._read_slow_head()
        if self.place.spare:
            self._head = self._buffer[: request.size]
        self._buffer = self._buffer[request.size :]
        return request

    def _read_slow_head(self) -> Request:
        """A head that takes more than one recv. Raises BadRequest (408) at its deadline."""
        limit_s = self._limits.spare_head_s if self.place.spare else self._limits.head_s
        deadline = time.monotonic() + limit_s
        buffer = bytearray(self._buffer)  # grows in place: a head that comes byte by byte isn't copied for each of them
        while True:
            seen = len(buffer)
            buffer += self._receive_before(deadline, "head", limit_s)
            if buffer.find(HEAD_END, max(0, seen - 3)) < 0:
                parse_head(buffer, seen)  # raises if it can't become a head
                continue
            self._buffer = bytes(buffer)
            request = parse_head(self._buffer, seen)
            assert request is not None
            return request

    def _read_body(self, request: Request, is_etcd_s: bool) -> bytes:
        """The request's body. Raises BadRequest: 413 before anything is read, 400 for chunks that are none, 408 at its
        deadline. is_etcd_s: of a method of etcd's, whose JSON is larger than what it says, and whose clients always hear a
        100 Continue if they expect one."""
        length, chunked = request.fields.content_length, request.fields.chunked
        if not (length or chunked):
            return b""
        most = self._limits.v3_body_bytes if is_etcd_s else self._limits.body_bytes
        if length and length > most:
            raise BadRequest(413, f"A body has at most {most:,} bytes, and this one has {length:,}.")
        is_here = not chunked and len(self._buffer) >= (length or 0)
        if request.fields.expects and not request.http_1_0 and (is_etcd_s or not is_here):
            self._send(_CONTINUE)
        body = body_of(length, chunked)
        pieces = [body.feed(self._buffer)]
        size = len(pieces[0])
        deadline = math.inf if body.over else time.monotonic() + self._limits.body_s
        while not body.over:
            pieces.append(body.feed(self._receive_before(deadline, "body", self._limits.body_s)))
            size += len(pieces[-1])
            if size > most:
                raise BadRequest(413, f"A body has at most {most:,} bytes, and this one has more.")
        self._buffer = body.rest  # the next request has begun to arrive
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _client_gone(self) -> bool:
        """Whether the client has closed its side: nobody waits for the answer. Raises NodeStopped if it is the server that
        stops, whose own end of all connections looks the same here."""
        if self.server.stopping:
            raise NodeStopped("the node stops")
        try:
            return not self.request.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def _wait_for_place(self) -> None:
        """The connection has a spare place and another one's request: it waits for a place of its own. Raises BadRequest if too
        many wait already."""
        if not self.server.waits(self.request, self.client_address, self._head + self._buffer):
            raise self.server.crowded()

    def _hand_to_streams(self, request: Request, method: Stream, caller: Caller) -> None:
        """The connection goes to the streams' thread. Raises BadRequest if there is no place for one more."""
        if request.http_1_0:
            raise BadRequest(400, "A stream is answered in chunks, which HTTP/1.0 doesn't have.")
        if request.fields.expects:
            self._send(_CONTINUE)
        streams = self.server.node.etcd.streams
        if not streams.adopt(self.request, self._buffer, request, method, caller, self.server):
            raise BadRequest(503, "Too many streams are open already: try again later.", b"Retry-After: 1\r\n")

    def _receive_before(self, deadline: float, what: str, limit_s: float) -> bytes:
        """At least a byte. Raises BadRequest (408) at the deadline, _Late if the client has gone."""
        remaining_s = deadline - time.monotonic()
        try:
            data = self._receive(remaining_s) if remaining_s > 0 else None
        except _Late:
            data = None
        if data is None:
            raise BadRequest(408, f"The {what} of a request must arrive within {limit_s:g} seconds.")
        if not data and ((self.place.closing and not self.place.spare) or self.server.stopping):
            raise self.server.cut_off()
        if not data:
            raise _Late
        return data

    def _receive(self, timeout_s: float) -> bytes:
        """What has arrived, or arrives within `timeout_s`; b"" if the client has closed. Raises _Late, OSError."""
        if timeout_s != self._timeout_s:
            self.request.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _timeval(timeout_s))
            self._timeout_s = timeout_s
        try:
            return self.request.recv(RECEIVE_BYTES)
        except BlockingIOError:
            raise _Late from None

    # ---- answering --------------------------------------------------------------------------------------------------

    def _answer(self, request: Request | None, answer: Answer, keep_alive: bool) -> bool:
        """Sends an answer in one piece, or block by block if it comes so; returns whether the connection lives on."""
        self.answers[answer.status] += 1
        self._send(encode_answer(request, answer, keep_alive))
        body = answer.body
        if not (isinstance(body, bytes) or (request is not None and request.method == b"HEAD")):
            self._send_blocks(body, request is None or not request.http_1_0, answer.endless)
        return keep_alive

    def _send_blocks(self, blocks: Iterator[bytes], chunked: bool, endless: bool) -> None:
        """Sends a body of unknown length. If it breaks off, so does the connection, and the client knows.

        Raises _Late if the client takes it more slowly than `Limits` allow; an endless one has no pace.
        """
        deadline = math.inf if endless else time.monotonic() + self._limits.answer_s
        try:
            for block in blocks:
                deadline += len(block) / self._limits.answer_bytes_per_s
                if time.monotonic() > deadline:
                    self._reset()
                    raise _Late
                self._send(b"%x\r\n%b\r\n" % (len(block), block) if chunked else block)
        except (_Late, OSError):
            raise
        except Exception:
            _log.exception("an answer broke off")
            self._reset()
            raise _Late from None
        if chunked:
            self._send(b"0\r\n\r\n")

    def _answer_endlessly(self, request: Request, answer: Answer) -> None:
        """Sends blocks until there are no more, or one isn't taken within `Limits.viewer_s` (_Late).

        The connection gives its place back first, since it would have it for ever (server/slots.py); how many there are
        of these is the route's business.
        """
        self.server.leave_place(self.place)
        self.request.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(self._limits.viewer_s))
        self.request.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, VIEWER_BUFFER_BYTES)
        self._answer(request, answer, False)

    def _send(self, data: bytes) -> None:
        """Sends all of `data`; Linux and BSD count SO_SNDTIMEO over the whole call. Raises _Late, OSError."""
        if self.request.send(data) != len(data):
            raise _Late

    def _reset(self) -> None:
        """Makes the close that follows a reset: for HTTP/1.0, an orderly one would mean that the answer is whole."""
        with contextlib.suppress(OSError):
            self.request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def _linger(self) -> None:
        """Drops what the client sends after an answer that ends the connection, so that it gets to read the answer."""
        self.request.shutdown(socket.SHUT_WR)
        self.place.waits_since = time.monotonic()
        deadline = time.monotonic() + self._limits.linger_s
        dropped = 0
        while dropped < self._limits.linger_bytes and (remaining_s := deadline - time.monotonic()) > 0:
            data = self._receive(remaining_s)
            if not data:
                return
            dropped += len(data)


def encode_answer(request: Request | None, answer: Answer, keep_alive: bool) -> bytes:
    """The bytes of an answer; of one that comes in blocks the head. request: None for one that can't be read. O(bytes)."""
    parts = [STATUS_LINES[answer.status], _date_line(), answer.headers]
    body = answer.body
    is_whole, may_chunk = isinstance(body, bytes), request is None or not request.http_1_0
    bodiless = request is not None and request.method == b"HEAD"
    if may_chunk and (answer.one_chunk or not is_whole) and not bodiless:
        parts.append(b"Transfer-Encoding: chunked\r\n")
    elif isinstance(body, bytes) and answer.status not in BODILESS:
        parts.append(b"Content-Length: %d\r\n" % len(body))
    parts.append(b"\r\n" if keep_alive else b"Connection: close\r\n\r\n")
    if isinstance(body, bytes) and not bodiless:
        parts.append(b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if answer.one_chunk and may_chunk else body)
    return b"".join(parts)


def _timeval(seconds: float) -> bytes:
    """The kernel's struct timeval; never 0, which would mean for ever."""
    microseconds = max(1, int(seconds * 1e6))
    return _TIMEVAL.pack(*divmod(microseconds, 1_000_000))


_date = (0, b"")  # the second, and the line for it


def _date_line() -> bytes:
    """The Date field, made once a second; a race between threads makes it twice."""
    global _date
    now = int(time.time())
    second, line = _date
    if second != now:
        line = b"Date: %b\r\n" % formatdate(now, usegmt=True).encode()
        _date = (now, line)
    return line
