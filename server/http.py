"""The front end: `http.server`'s threads, tamed, around a request loop of our own.

    accept ──▶ a slot of 256? ──▶ a thread for each connection (connection.py)
                    │ no
                    ▼
              503 and close

What `http.server` does of its own accord, and what is done about it:

| http.server                                                  | here                                             |
|--------------------------------------------------------------|--------------------------------------------------|
| two small writes for an answer, Nagle on: 44 ms each         | one send, TCP_NODELAY                            |
| email.parser for the head: lenient, and half of the CPU time | `server.request`                                 |
| a timeout for each recv: a byte a second holds a thread      | absolute deadlines for head, body and answer     |
| as many threads as somebody opens connections                | 256 slots, taken before the thread is made       |
| a backlog of 5                                               | 128                                              |
| on EMFILE accept fails, and is tried again at once           | a pause                                          |
| a look-up of its own name when it binds                      | none                                             |
| HTTP/1.0                                                     | HTTP/1.1 with keep-alive, and 1.0 without        |

Threads, and not one epoll loop, though that is three times as fast with no node behind it: each request is one straight
line of code that blocks in the node, and reads like it. Left out: TLS, authentication, HTTP/2, compression.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import socket
import socketserver
import threading
import time
from collections import Counter, deque
from http.server import ThreadingHTTPServer
from typing import Any

from server.connection import STATUS_LINES, Connection, Limits
from server.routes import Node, error_answer

__all__ = ["FrontEnd", "Limits"]

ACCEPT_PAUSE_S = 0.1
POLL_S = 0.1  # how soon `stop` is noticed
REFUSED_LINGERING_MAX = 32

_log = logging.getLogger("metcd.http")


class FrontEnd(ThreadingHTTPServer):
    """Serves a node over HTTP.

    `FrontEnd(node, ("127.0.0.1", 3379))` binds and listens (OSError if the port is taken), `start` serves in threads,
    `stop` ends them. Port 0 takes any free one; `address` says which.
    """

    request_queue_size = 128
    daemon_threads = True
    block_on_close = False  # `stop` joins the threads, with a deadline

    def __init__(self, node: Node, address: tuple[str, int], limits: Limits | None = None) -> None:
        self.node = node
        self.limits = limits or Limits()
        self.stopping = False
        self._slots = threading.Semaphore(self.limits.connections)
        self._guard = threading.Lock()
        self._open: dict[socket.socket, threading.Thread] = {}
        self._answers: Counter[int] = Counter()  # of connections that have ended
        self._connections: set[Connection] = set()
        self._refused: deque[tuple[float, socket.socket]] = deque()  # when it was answered, and what is to be closed
        self._refusals = 0
        self._paused = threading.Event()
        super().__init__(address, Connection)
        self.local_only = self.address[0].startswith("127.") or self.address[0] == "::1"
        self._acceptor = threading.Thread(target=self.serve_forever, args=(POLL_S,), name="http", daemon=True)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port that it listens on."""
        host, port = self.socket.getsockname()[:2]
        return host, port

    def start(self) -> None:
        """Begins to accept."""
        self._acceptor.start()

    def stop(self, grace_s: float = 5.0) -> None:
        """Accepts no more, lets requests that are being answered end within `grace_s`, then closes all connections."""
        self.stopping = True
        self._paused.set()
        if self._acceptor.ident is not None:
            self.shutdown()
            self._acceptor.join()
        self.server_close()
        self._close_refused(0)
        self._end_connections(socket.SHUT_RD, time.monotonic() + grace_s)
        self._end_connections(socket.SHUT_RDWR, time.monotonic() + 1.0)

    def _end_connections(self, how: int, deadline: float) -> None:
        with self._guard:
            connections = list(self._open.items())
        for connection, _ in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(how)
        for _, thread in connections:
            thread.join(max(0.0, deadline - time.monotonic()))

    def metrics(self) -> dict[str, int | float]:
        """Connections that are open and that were refused, and answers by status."""
        with self._guard:
            answers = sum((connection.answers.copy() for connection in self._connections), self._answers.copy())
            counted = {f'http_answers_total{{status="{status}"}}': count for status, count in answers.items()}
            return {
                "http_connections": len(self._open),
                "http_connections_refused_total": self._refusals,
                **counted,
            }

    # ---- what connections call --------------------------------------------------------------------------------------

    def opened(self, connection: Connection) -> None:
        """Has the connection's answers counted in `metrics`."""
        with self._guard:
            self._connections.add(connection)

    def closed(self, connection: Connection) -> None:
        """Keeps the connection's count of answers beyond its life."""
        with self._guard:
            self._connections.discard(connection)
            self._answers += connection.answers

    # ---- what socketserver calls --------------------------------------------------------------------------------------

    def server_bind(self) -> None:
        """Binds; http.server's own would also look its name up, which takes seconds on a machine without DNS."""
        socketserver.TCPServer.server_bind(self)

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accepts. Without descriptors or memory, the connection stays in the backlog, and accept fails at once again."""
        try:
            return super().get_request()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                _log.warning("can't accept connections: %s", error.strerror)
                self._paused.wait(ACCEPT_PAUSE_S)
            raise

    def process_request(self, request: Any, client_address: Any) -> None:
        """Gives a connection a slot and a thread, or an answer that there is none."""
        if not self._slots.acquire(blocking=False):
            self._refuse(request)
            return
        thread = threading.Thread(
            target=self._serve, args=(request, client_address), name="http-connection", daemon=True
        )
        with self._guard:
            self._open[request] = thread
        try:
            thread.start()
        except RuntimeError:  # the system gives no more threads
            self._forget(request)
            self._refuse(request)

    def _serve(self, request: socket.socket, client_address: Any) -> None:
        try:
            Connection(request, client_address, self)
        except Exception:
            _log.exception("a connection failed")
        finally:
            self.shutdown_request(request)
            self._forget(request)

    def _forget(self, request: socket.socket) -> None:
        with self._guard:
            del self._open[request]
        self._slots.release()

    def _refuse(self, request: socket.socket) -> None:
        """Answers 503 without a thread, and closes later: a close with unread bytes would overtake the answer."""
        self._refusals += 1
        answer = error_answer(503, f"{self.limits.connections} connections are open already: try again later.")
        assert isinstance(answer.body, bytes)
        with contextlib.suppress(OSError):
            request.setblocking(False)
            request.send(
                b"%bRetry-After: 1\r\nConnection: close\r\n%bContent-Length: %d\r\n\r\n%b"
                % (STATUS_LINES[503], answer.headers, len(answer.body), answer.body)
            )
            request.shutdown(socket.SHUT_WR)
        self._refused.append((time.monotonic(), request))
        self._close_refused(REFUSED_LINGERING_MAX)

    def service_actions(self) -> None:
        """Between two accepts, and every POLL_S: closes what was refused and has had time to read why."""
        while self._refused and self._refused[0][0] + self.limits.linger_s < time.monotonic():
            self._refused.popleft()[1].close()

    def _close_refused(self, keep: int) -> None:
        while len(self._refused) > keep:
            self._refused.popleft()[1].close()
