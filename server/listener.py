"""A listener whose threads are bounded: what the client port (http.py) and the peer port (peer_port.py) have in common.

    accept ──▶ welcome(connection)? ──yes──▶ a thread, in which its handler serves it ──▶ closed, gone(connection)
                  │ no
                  ▼
               turn_away(connection)

`http.server` accepts, and makes a thread for each connection. What it does otherwise than a server should that anybody
can reach, and what is done about it here:

| http.server                                          | here                                                     |
|------------------------------------------------------|----------------------------------------------------------|
| as many threads as somebody opens connections        | `welcome` decides before the thread is made              |
| a backlog of 5                                       | 128                                                      |
| when accept fails (EMFILE), it is tried again at once | a pause                                                  |
| a look-up of its own name when it binds              | none: it takes seconds on a machine without DNS          |
| shares its port with others (some versions of 3.12+) | never: a taken port is an error                          |

Invariants:

1. Every connection that is open has an entry in `threads`, from before its thread begins until after it is closed.
2. `welcome` is called by the one thread that accepts, `gone` by any; each connection that was welcome is gone once.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import socket
import socketserver
import threading
import time
from http.server import ThreadingHTTPServer
from typing import Any, Protocol

from server.addresses import family
from server.logs import Minutely

__all__ = ["Life", "Listener", "drain", "hang_up"]

ACCEPT_PAUSE_S = 0.1
POLL_S = 0.1  # how soon `stop_accepting` is noticed
_SHORTAGES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Life(Protocol):
    """What serves a connection: its thread, or what stands for one (server/loop_clients.py)."""

    def join(self, timeout: float | None = None) -> None: ...
    def is_alive(self) -> bool: ...


class Listener(ThreadingHTTPServer):
    """Accepts connections, and gives a thread to each that is welcome.

    It binds in the constructor (OSError if the port is taken); `start` accepts. A subclass says who is welcome, and
    has to end the connections after `stop_accepting`.
    """

    request_queue_size = 128
    daemon_threads = True
    block_on_close = False  # who stops has a deadline
    allow_reuse_port = False

    def __init__(
        self, address: tuple[str, int], handler: type[socketserver.BaseRequestHandler], name: str, log: logging.Logger
    ) -> None:
        """name: of the thread that accepts, and, with "-connection" after it, of the others."""
        self.threads: dict[socket.socket, Life] = {}
        self.threads_guard = threading.Lock()
        self._log = log
        self._shortages = Minutely(log)
        self._stopping = threading.Event()
        self.address_family = family(address[0])
        super().__init__(address, handler)
        self._acceptor = threading.Thread(target=self.serve_forever, args=(POLL_S,), name=name, daemon=True)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port that it listens on."""
        host, port = self.socket.getsockname()[:2]
        return host, port

    def start(self) -> None:
        """Begins to accept."""
        self._acceptor.start()

    def stop_accepting(self) -> None:
        """Accepts no more, and gives up the port. Takes POLL_S at most. Connections go on."""
        self._stopping.set()
        if self._acceptor.ident is not None:
            self.shutdown()
            self._acceptor.join()
        self.server_close()

    def end_connections(self, how: int, patience_s: float) -> bool:
        """Shuts all connections down in this way, and waits for their threads; True if one is still there."""
        with self.threads_guard:
            connections = list(self.threads.items())
        for connection, _ in connections:
            hang_up(connection, how)
        deadline = time.monotonic() + patience_s
        for _, thread in connections:
            thread.join(max(0.0, deadline - time.monotonic()))
        return any(thread.is_alive() for _, thread in connections)

    # ---- what a subclass decides ------------------------------------------------------------------------------------

    def welcome(self, connection: socket.socket) -> bool:
        """True if the connection gets a thread. For the thread that accepts."""
        raise NotImplementedError

    def turn_away(self, connection: socket.socket) -> None:
        """Ends a connection that was not welcome, or for which the system has no thread."""
        self.shutdown_request(connection)

    def gone(self, connection: socket.socket) -> None:
        """A connection that was welcome is closed."""

    # ---- what socketserver calls ------------------------------------------------------------------------------------

    def server_bind(self) -> None:
        """Binds; http.server's own would also look its name up."""
        socketserver.TCPServer.server_bind(self)

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accepts. Without descriptors or memory the connection stays in the backlog, and accept would fail at once
        again, so it pauses."""
        try:
            return super().get_request()
        except OSError as error:
            if error.errno in _SHORTAGES:
                self._shortages.say(f"can't accept connections: {error.strerror}")
                self._stopping.wait(ACCEPT_PAUSE_S)
            raise

    def process_request(self, request: Any, client_address: Any) -> None:
        """Has a welcome connection served."""
        if self.welcome(request):
            self.serve(request, client_address)
        else:
            self.turn_away(request)

    def serve(self, request: socket.socket, client_address: Any) -> None:
        """Gives a connection its thread."""
        name = f"{self._acceptor.name}-connection"
        target = self.process_request_thread
        thread = threading.Thread(target=target, args=(request, client_address), name=name, daemon=True)
        try:
            with self.threads_guard:  # a thread that is in the table has begun: who stops joins it
                self.threads[request] = thread
                thread.start()
        except RuntimeError:  # the system gives no more threads
            self.forget(request)
            self.turn_away(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """The life of a connection: socketserver's own, and then it is gone."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.forget(request)

    def forget(self, connection: socket.socket) -> None:
        """The connection has ended: it has no entry any more. For any thread."""
        with self.threads_guard:
            del self.threads[connection]
        self.gone(connection)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A failure of ours, in one connection: it is logged, and the others go on."""
        self._log.exception("a connection failed")


def hang_up(connection: socket.socket, how: int = socket.SHUT_RDWR) -> None:
    """Wakes the thread that reads from the connection or writes to it; that thread closes it."""
    with contextlib.suppress(OSError):
        connection.shutdown(how)


def drain(connection: socket.socket, patience_s: float, size_max: int) -> None:
    """Sends no more, and drops what still comes for a moment: a reset could overtake the answer. Raises OSError."""
    connection.shutdown(socket.SHUT_WR)
    deadline = time.monotonic() + patience_s
    dropped = 0
    while dropped < size_max and (remaining_s := deadline - time.monotonic()) > 0:
        connection.settimeout(remaining_s)
        data = connection.recv(1 << 16)
        if not data:
            return
        dropped += len(data)
