"""One stream: a request whose body and whose answer go on beside each other, on one connection.

    bytes ─▶ Body ─▶ Documents ─▶ messages ─▶ incoming.received        (the streams' thread)
                                                     │
    socket ◀─ one send ◀─ queue of chunks ◀─ Out ◀───┴── send, fail, end (any thread)

    HTTP/1.1 200 OK … Transfer-Encoding: chunked     the head goes out with the first message, not before
    7d CR LF {"result":{…}}\\n CR LF                  a message and its newline; from 2,048 bytes on, Go's writer gives
                                                     the newline a chunk of its own, and so does this
    a5 CR LF {"error":{…}} CR LF                     a failure is the last message, without a newline
    0 CR LF CR LF                                    the end

Invariants:

1. Messages are given to `incoming` in the order of the body; it is opened with the first of them, or when the body has ended
   without one. `closed` is the last call, and comes once.
2. What waits to be sent is bounded: who sends in the streams' thread looks at `full`, who sends elsewhere waits for `room`,
   and a client whose answers aren't taken is not read from, either.
3. A client that takes nothing for ANSWER_S, or less than ANSWER_BYTES_PER_S_MIN since then, is cut off. A client that
   sends nothing is not: a watch may wait for months. TCP's keepalive finds those that are gone.
4. Bad JSON in the first message is an answer of its own. Later it ends the body, and the stream goes on: its client may be
   listening for the watches that it has.
5. A stream that has ended in order gives its connection back, if the client may use it again.
6. A stream whose client has given it a time (Grpc-Timeout) ends with an error then.

Left out: HTTP/1.0, which has no chunks (server/connection.py refuses it).

Follows grpc-gateway 1.16's runtime/handler.go, and Go's net/http/server.go for the shape of chunks.
"""

from __future__ import annotations

import contextlib
import math
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from server.body import body_of
from server.limits import ANSWER_BYTES_PER_S_MIN, ANSWER_S, BODY_BYTES_MAX, BODY_S, STREAM_QUEUE_BYTES_MAX
from server.logs import logger
from server.loop import READABLE, WRITABLE
from server.request import BadRequest, Request
from server.v3.chunks import LAST_CHUNK, chunk_of, line_of
from server.v3.documents import Documents
from server.v3.failures import DEADLINE, status_of
from server.v3.jobs import Jobs
from server.v3.jsonpb import parse
from server.v3.method import Caller, Incoming, Stream
from server.v3.status import NO_LEADER, REQUEST_TOO_LARGE, STOPPED, Code, Status

__all__ = ["StreamConnection", "StreamPort"]

RECEIVE_BYTES = 64 << 10
SEND_BYTES = 256 << 10  # that are put together for one system call
REST_BYTES_MAX = 64 << 10  # of what follows the body: the next request, which waits
JOBS_MAX = 64  # requests of one stream that are being answered; then no more are read
LINGER_S = 5.0
LINGER_BYTES = 64 << 20
KEEPALIVE_S = 60  # of silence, until TCP asks whether the client is still there

_RESET = struct.pack("ii", 1, 0)

_log = logger("streams")


class StreamPort(Protocol):
    """What a stream asks of the port that its request arrived at."""

    def stream_head(self, request: Request, status: int, grpc: bool, keep_alive: bool) -> bytes:
        """The head of a chunked answer; grpc: it has messages."""

    def error_answer(self, request: Request, status: Status, keep_alive: bool) -> bytes:
        """A whole answer."""

    def back(self, connection: socket.socket, received: bytes) -> None:
        """The connection may serve another request, which begins with what was received."""


class Around(Protocol):
    """What a stream asks of all streams (server/v3/streams.py) and of the node."""

    etcd: Any

    def call(self, function: Callable[[], object]) -> bool: ...
    def in_thread(self) -> bool: ...
    def watch(self, stream: StreamConnection, descriptor: int, before: int, events: int) -> None: ...
    def soon(self, stream: StreamConnection) -> None: ...
    def timed(self, stream: StreamConnection, has_deadline: bool) -> None: ...
    def forget(self, stream: StreamConnection) -> None: ...
    def work(self, function: Callable[[], object]) -> None: ...


class StreamConnection:
    """A stream, and the Out of who answers it. What is not said to be for any thread is for the streams'."""

    def __init__(
        self,
        around: Around,
        connection: socket.socket,
        request: Request,
        method: Stream,
        caller: Caller,
        port: StreamPort,
    ) -> None:
        self.method, self.caller = method, caller
        self.waiting = 0  # bytes that are queued
        self.on_room: Callable[[], object] | None = None  # called when it was full and has room again
        self.closed = False
        self._around, self._socket, self._request, self._port = around, connection, request, port
        self._descriptor = connection.fileno()
        self._watched = 0
        self._body = body_of(request.fields.content_length, request.fields.chunked)
        self._documents = Documents(method.request, BODY_BYTES_MAX) if method.many else None
        self._whole: list[bytes] = []  # the body of a method that takes one message
        self._whole_bytes = 0
        self._asked = False  # all that the body says has been given on
        self._incoming: Incoming | None = None
        self._opened = False
        self._queue: deque[bytes | memoryview] = deque()
        self._head_sent = self._over = self._finishing = self._soon = self._blocked = self._was_full = False
        self._dropped = -1  # bytes since the end, while it lingers
        self.deadline = math.inf  # for what it does at the moment
        self._guard = threading.Condition()
        self._coming = 0  # bytes that other threads have sent and that aren't queued yet
        self._jobs = Jobs(around.work, self._job_done)

    def begin(self, received: bytes) -> None:
        """Takes the connection over, with what was received after the head."""
        self._socket.setblocking(False)
        with contextlib.suppress(AttributeError, OSError):  # not every system and every kind of socket has all of them
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_S)
        if not self._body.over:
            self._set_deadline(time.monotonic() + BODY_S)  # for the first message
        self._interest()
        self._guarded(lambda: self._read(received))

    # ---- receiving -----------------------------------------------------------------------------------------------

    def ready(self, events: int) -> None:
        """epoll says that the socket is ready."""
        if events & WRITABLE:
            self._blocked = False
            self.flush()
        if events & ~WRITABLE and not self.closed:
            self._guarded(self._receive)

    def _guarded(self, function: Callable[[], object]) -> None:
        try:
            function()
        except Exception:
            _log.exception("a stream failed")
            self._fail(Status(Code.INTERNAL, "the server failed at this stream"))

    def _receive(self) -> None:
        try:
            data = self._socket.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
        elif self._dropped >= 0:
            self._dropped += len(data)
            if self._dropped > LINGER_BYTES:
                self.close()
        else:
            self._read(data)

    def _read(self, data: bytes) -> None:
        body, was_over = self._body, self._body.over
        try:
            piece = body.feed(data) if data else b""
            if not (self._asked or self._over) and (piece or (body.over and not was_over) or not data):
                self._understand(piece)
        except BadRequest as error:
            self._misunderstood(Status(Code.INVALID_ARGUMENT, error.sentence))
        except Status as error:
            self._misunderstood(error)
        self._interest()

    def _understand(self, piece: bytes) -> None:
        """Gives on what the body says with its next piece. Raises Status."""
        documents = self._documents
        if documents is None:
            self._whole.append(piece)
            self._whole_bytes += len(piece)
            if self._whole_bytes > BODY_BYTES_MAX:
                raise Status(*REQUEST_TOO_LARGE)
            if self._body.over:
                text = b"".join(self._whole)
                self._give(parse(self.method.request, text) if text.strip() else self.method.request())
        else:
            documents.feed(piece)
            if self._body.over:
                documents.end()
            while (message := documents.next()) is not None:
                self._give(message)
        if self._body.over:
            self._ask_no_more()

    def _misunderstood(self, status: Status) -> None:
        """The body goes on with what is no message."""
        if self._opened:
            self._ask_no_more()
        else:
            self._refuse(status)

    def _refuse(self, status: Status) -> None:
        """Answers with an error, in place of messages."""
        self._asked = self._opened = self._head_sent = True
        keep_alive = self._request.keep_alive and self._body.over
        self._push(self._port.error_answer(self._request, status, keep_alive))
        self._finish_when_sent()

    def too_late(self) -> None:
        """The time is over that the client has given the call."""
        (self._fail if self._head_sent else self._refuse)(Status(Code.DEADLINE_EXCEEDED, DEADLINE))

    def _ask_no_more(self) -> None:
        self._asked = True
        self._open()
        if self._incoming is not None and not self._over:
            self._incoming.ended()

    def _give(self, message: Any) -> None:
        self._open()
        if self._incoming is not None and not self._over:
            try:
                self._incoming.received(message)
            except Status as error:
                self._fail(error)

    def _open(self) -> None:
        if self._opened:
            return
        self._opened = True
        self._set_deadline(math.inf)
        if self.caller.until <= time.monotonic():
            self.too_late()
            return
        try:
            if self.caller.wants_leader and not self._around.etcd.has_leader():
                raise Status(*NO_LEADER)
            self._incoming = self.method.open(self._around.etcd, self.caller, self)
        except Status as error:
            self._fail(error)

    # ---- Out -----------------------------------------------------------------------------------------------------

    @property
    def full(self) -> bool:
        """Whether who sends in the streams' thread should wait for `on_room`."""
        return self.waiting >= STREAM_QUEUE_BYTES_MAX

    def send(self, message: Any) -> bool:
        """Sends a message; False if the stream is over. For any thread."""
        return self.send_line(line_of(message))

    def send_line(self, line: bytes) -> bool:
        """Sends a message that is a line already. For any thread."""
        if self._over:
            return False
        chunk = chunk_of(line)
        if self._nothing_before():
            return self.send_chunk(chunk)
        with self._guard:
            self._coming += len(chunk)
        return self._around.call(lambda: self._arrived(chunk))

    def _nothing_before(self) -> bool:
        """Whether this is the streams' thread, and it may go on at once: nothing that another one has sent is on its way."""
        return not self._coming and self._around.in_thread()

    def send_chunk(self, chunk: bytes) -> bool:
        """Sends a message that is a chunk already (`chunk_of`)."""
        if self._over:
            return False
        if not self._head_sent:
            self._send_head(200, True)
        self._push(chunk)
        return True

    def fail(self, status: Exception) -> None:
        """Ends the stream with an error. For any thread."""
        if self._nothing_before():
            self._fail(status)
        else:
            self._around.call(lambda: self._fail(status))

    def end(self) -> None:
        """Ends the stream in order, once all is sent. For any thread."""
        if self._nothing_before():
            self._end()
        else:
            self._around.call(self._end)

    def room(self, timeout_s: float) -> bool:
        """Waits until there is room for more; False if there is none in that time, or the stream is over. Not for the
        streams' thread."""
        with self._guard:
            self._guard.wait_for(lambda: self._over or self.waiting + self._coming < STREAM_QUEUE_BYTES_MAX, timeout_s)
            return not self._over and self.waiting + self._coming < STREAM_QUEUE_BYTES_MAX

    def job(self, function: Callable[[], object]) -> None:
        """Has a function run by a worker, after those that were given before. What it raises fails the stream. For any
        thread."""
        self._jobs.add(function)

    def _job_done(self, failure: Exception | None) -> None:
        if failure is not None:
            self.fail(failure)
        if len(self._jobs) == JOBS_MAX - 1:
            self._around.call(self._interest)

    # ---- sending -------------------------------------------------------------------------------------------------

    def _arrived(self, chunk: bytes) -> None:
        with self._guard:
            self._coming -= len(chunk)
        self.send_chunk(chunk)

    def _send_head(self, status: int, grpc: bool) -> None:
        self._head_sent = True
        self._push(self._port.stream_head(self._request, status, grpc, self._request.keep_alive))

    def _push(self, data: bytes) -> None:
        self._queue.append(data)
        self.waiting += len(data)
        if self.waiting >= STREAM_QUEUE_BYTES_MAX and not self._was_full:
            self._was_full = True
            self._interest()
        if not self._soon and not self._blocked:
            self._soon = True
            self._around.soon(self)

    def _fail(self, status: Exception) -> None:
        if self._over:
            return
        status = status_of(status, reads=True)
        if not self._head_sent:
            self._send_head(status.http_status, False)
        self._push(chunk_of(status.stream_line()))
        self._end()

    def _end(self) -> None:
        if self._over:
            return
        if not self._head_sent:
            self._send_head(200, False)
        self._push(LAST_CHUNK)
        self._finish_when_sent()

    def _finish_when_sent(self) -> None:
        self._over = self._finishing = True
        with self._guard:
            self._guard.notify_all()
        if not self._soon and not self._blocked:  # nothing may be queued
            self._soon = True
            self._around.soon(self)

    def flush(self) -> None:
        """Sends what is queued, as far as the client takes it."""
        self._soon = False
        queue = self._queue
        while queue and not (self.closed or self._blocked):
            data = queue[0] if len(queue) == 1 else self._together()
            try:
                sent = self._socket.send(data)
            except BlockingIOError:
                self._blocked = True
                if self.deadline == math.inf:
                    self._set_deadline(time.monotonic() + ANSWER_S)
                self._interest()
                return
            except OSError:
                self.close()
                return
            if sent == len(data):
                queue.popleft()
            else:
                queue[0] = memoryview(data)[sent:]
            self._sent(sent)
        if not queue and not self.closed:
            self._all_sent()

    def _together(self) -> bytes:
        """The first SEND_BYTES of the queue, or so, which are one piece at its front from here on."""
        queue, pieces, size = self._queue, [], 0
        while queue and size < SEND_BYTES:
            pieces.append(queue.popleft())
            size += len(pieces[-1])
        together = b"".join(pieces)
        queue.appendleft(together)
        return together

    def _sent(self, size: int) -> None:
        self.waiting -= size
        if self.deadline != math.inf:
            self.deadline += size / ANSWER_BYTES_PER_S_MIN
        if self._was_full and self.waiting <= STREAM_QUEUE_BYTES_MAX // 2:
            self._was_full = False
            with self._guard:
                self._guard.notify_all()
            self._interest()
            if self.on_room is not None and not self._over:
                self.on_room()

    def _all_sent(self) -> None:
        if self._finishing:
            self._finish()
            return
        if self.deadline != math.inf and self._opened:
            self._set_deadline(math.inf)
        if self._watched & WRITABLE:
            self._interest()

    # ---- the end -------------------------------------------------------------------------------------------------

    def _finish(self) -> None:
        """All is sent, and nothing comes after it."""
        self._finishing = False
        if self._body.over and self._request.keep_alive:
            self._leave()
            self._port.back(self._socket, self._body.rest)
            return
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)
        self._dropped = 0
        self._set_deadline(time.monotonic() + LINGER_S)
        self._interest()

    def expire(self) -> None:
        """The time is up for what it does."""
        if not self._opened:
            self._misunderstood(Status(Code.CANCELED, f"The body of a request must arrive within {BODY_S:g} seconds."))
            return
        if self._dropped < 0:
            with contextlib.suppress(OSError):
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.close()

    def stop(self) -> None:
        """The node stops: the client is told, if it takes it at once. Also for a stream that has not begun."""
        self._socket.setblocking(False)
        self._request = self._request._replace(keep_alive=False)
        self._fail(Status(*STOPPED))
        self.flush()
        self.close()

    def close(self) -> None:
        """Ends it without a word: the client has gone, or has to. Twice is fine."""
        if not self.closed:
            self._leave()
            self._socket.close()

    def _leave(self) -> None:
        self.closed = self._over = True
        if self._watched:
            self._around.watch(self, self._descriptor, self._watched, 0)
            self._watched = 0
        self._around.forget(self)
        self._queue.clear()
        self._jobs.clear()
        self.waiting = 0
        with self._guard:
            self._guard.notify_all()
        incoming, self._incoming = self._incoming, None
        if incoming is not None:
            try:
                incoming.closed()
            except Exception:
                _log.exception("a stream's end failed")

    # ---- bookkeeping ---------------------------------------------------------------------------------------------

    def _interest(self) -> None:
        """Has epoll look for what is of use now."""
        if self.closed:
            return
        reads = self._dropped >= 0 or (
            self.waiting < STREAM_QUEUE_BYTES_MAX
            and len(self._jobs) < JOBS_MAX
            and len(self._body.rest) <= REST_BYTES_MAX
        )
        events = (READABLE if reads else 0) | (WRITABLE if self._blocked else 0)
        if events != self._watched:
            self._around.watch(self, self._descriptor, self._watched, events)
            self._watched = events

    def _set_deadline(self, deadline: float) -> None:
        self.deadline = deadline
        self._around.timed(self, deadline != math.inf)
