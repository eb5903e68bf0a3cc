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
5. A body is kept in the pieces in which it comes: an announced length reserves nothing.
6. A connection that has to end, because the server stops or its place is needed, answers the requests that it has read
   and says `Connection: close` in the last answer: what a client sends after that was not looked at.

A browser is a client too, and it runs what strangers wrote. A server that listens on this machine only answers to
addresses and to localhost, since a stranger can make a name of his point here (DNS rebinding); and no server answers a
page of another origin, whether the browser says so by an Origin or, where it sends none, by Sec-Fetch-Site: cross-site.
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
from typing import Protocol

from server.answers import Run
from server.feed_taps import Taps
from server.limits import (
    ANSWER_BYTES_PER_S_MIN,
    ANSWER_S,
    BODY_BYTES_MAX,
    BODY_S,
    CONNECTIONS_MAX,
    HEAD_S,
    IDLE_S,
    SPARE_CONNECTIONS_MAX,
)
from server.logs import logger
from server.metrics import Histogram
from server.request import HEAD_END, BadRequest, Fields, Request, is_local_name, parse_head
from server.routes import Answer, Serving, about_the_node, error_answer, find_call, perform
from server.routes_page import may_watch, share
from server.slots import BUSY, Place

__all__ = ["RECEIVE_BYTES", "STATUS_LINES", "Connection", "Limits", "check_origin", "encode_answer"]

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
    reclaimed_idle_s: float = 1.0  # a connection that has been idle that long is closed when others need its place
    spare_head_s: float = 2.0  # how long a spare connection may take to ask its one question
    body_bytes: int = BODY_BYTES_MAX
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

    def place_of(self, connection: socket.socket) -> Place: ...
    def leave_place(self, place: Place) -> None: ...
    def received(self, connection: socket.socket) -> bytes: ...
    def opened(self, connection: Connection) -> None: ...
    def closed(self, connection: Connection) -> None: ...
    def tell_of_garbage(self, host: str, why: str) -> None: ...
    def crowded(self) -> BadRequest: ...
    def cut_off(self) -> BadRequest: ...


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
            if request.fields.host != self._trusted_host or request.fields.from_page:
                watches = request.fields.from_page and may_watch(request, self.server.feed.pages)
                check_origin(request.fields, self.server.local_only, watches)
                self._trusted_host = request.fields.host
            call = find_call(request)
            if place.spare and not about_the_node(call):
                raise self.server.crowded()
            length = request.fields.content_length
            body = self._read_body(request, length) if length else b""
        except BadRequest as error:
            answer = error_answer(error.status, error.sentence, error.headers)
            # only a request that is understood and has no body shows where the next one begins
            unclear = request is None or bool(request.fields.content_length) or error.status == 411
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

    def _read_body(self, request: Request, length: int) -> bytes:
        """The request's body. Raises BadRequest: 413 before anything is read, 408 at its deadline."""
        if length > self._limits.body_bytes:
            most = self._limits.body_bytes
            raise BadRequest(413, f"A body has at most {most:,} bytes, and this one has {length:,}.")
        body, self._buffer = self._buffer[:length], self._buffer[length:]
        if len(body) == length:
            return body
        if request.fields.expects and not request.http_1_0:
            self._send(_CONTINUE)
        deadline = time.monotonic() + self._limits.body_s
        pieces = [body]
        missing = length - len(body)
        while missing > 0:
            piece = self._receive_before(deadline, "body", self._limits.body_s)
            pieces.append(piece)
            missing -= len(piece)
        if missing < 0:  # the next request has begun to arrive
            self._buffer = pieces[-1][missing:]
            pieces[-1] = pieces[-1][:missing]
        return b"".join(pieces)

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


def check_origin(fields: Fields, local_only: bool, watches: bool = False) -> None:
    """Refuses what a stranger's page in a browser sends; watches: it is a page that may ask for this. Raises BadRequest (403)."""
    host = fields.host
    if host is not None and local_only and not is_local_name(host):
        raise BadRequest(
            403, "Only localhost or an IP address is accepted as Host: this server listens on this machine only."
        )
    if fields.from_page and not watches and fields.origin != b"http://" + (host or b""):
        raise BadRequest(403, "Pages of another origin are not answered.")


def encode_answer(request: Request | None, answer: Answer, keep_alive: bool) -> bytes:
    """The bytes of an answer; of one that comes in blocks the head. request: None for one that can't be read. O(bytes)."""
    parts = [STATUS_LINES[answer.status], _date_line(), answer.headers]
    body = answer.body
    if isinstance(body, bytes):
        if answer.status not in BODILESS:
            parts.append(b"Content-Length: %d\r\n" % len(body))
    elif request is None or not request.http_1_0:
        parts.append(b"Transfer-Encoding: chunked\r\n")
    parts.append(b"\r\n" if keep_alive else b"Connection: close\r\n\r\n")
    if isinstance(body, bytes) and (request is None or request.method != b"HEAD"):
        parts.append(body)
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
