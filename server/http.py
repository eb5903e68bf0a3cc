"""The front end: `http.server`, tamed, around a request loop of our own.

    accept ──▶ a place (slots.py) ──▶ a thread for each connection (connection.py), or the node's loop (loop_clients.py)
                    │ none                      ▲
                    ▼                           │ one has become free
              it waits (newcomers.py) ──────────┘
                    │ too long
                    ▼
              503 and close

What `http.server` does of its own accord, and what is done about it here (listener.py has more of that):

| http.server                                                  | here                                             |
|--------------------------------------------------------------|--------------------------------------------------|
| two small writes for an answer, Nagle on: 44 ms each         | one send, TCP_NODELAY                            |
| email.parser for the head: lenient, and half of the CPU time | `server.request`                                 |
| a timeout for each recv: a byte a second holds a thread      | absolute deadlines for head, body and answer     |
| as many threads as somebody opens connections                | 256 places, taken before the thread is made      |
| HTTP/1.0                                                     | HTTP/1.1 with keep-alive, and 1.0 without        |

In the plain form each request is one straight line of code that blocks in the node, and reads like it. In the fast form
the node has a loop, and connections begin there: simple requests stay in it, and the others get their thread.

Left out: TLS, HTTP/2, compression.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from server.addresses import url_of
from server.answers import Answer, Call, Run, error_answer
from server.connection import STATUS_LINES, Connection, Limits, encode_answer
from server.feed import Feed
from server.feed_taps import Taps
from server.limits import CONNECTIONS_WAITING_MAX
from server.listener import Life, Listener
from server.logs import Minutely, logger
from server.loop import Loop
from server.loop_calls import Begins, LoopNode
from server.loop_clients import LoopClients, LoopConnection
from server.metrics import Histogram, Metrics, describe, labelled
from server.newcomers import ORDINARY, Newcomers
from server.request import BadRequest, Request
from server.routes import call_name, find_call
from server.slots import Place, Slots
from server.strangers import NOBODY, Strangers
from server.v3 import unary
from server.v3.status import Status

__all__ = ["FrontEnd", "Limits"]

REFUSED_DRAINED_BYTES = 256 << 10
REFUSED_LINGERING_MAX = 32
EVERYWHERE = ("0.0.0.0", "::")  # addresses to listen on, and none that a page could name
SPARE_IDLE_S = 0.1  # a spare connection has one question, and asks it at once

describe(
    {
        "http_connections": "Clients' connections that are open.",
        "http_connections_waiting": "Clients' connections that wait for a place.",
        "http_connections_waited_total": "Clients' connections that had to wait for a place.",
        "http_connections_reclaimed_total": "Idle connections that were closed because others needed their place.",
        "http_connections_refused_total": "Connections for which there was no place.",
        "http_garbage_total": "What came to the clients' port and is no request.",
        "http_answers_total": "Answers by status.",
        "http_request_duration_seconds": "From a whole request to its answer, by what was asked for.",
    }
)

_log = logger("http")


class FrontEnd(Listener):
    """Serves a node over HTTP.

    `FrontEnd(node, ("127.0.0.1", 3379))` binds and listens (OSError if the port is taken), `start` serves in threads,
    `stop` ends them. Port 0 takes any free one; `address` says which.
    """

    # What the system holds until it is accepted. Beyond that it drops a client's SYN, which comes again after 1 s, 3 s, 7 s.
    request_queue_size = CONNECTIONS_WAITING_MAX

    def __init__(
        self,
        node: LoopNode,
        address: tuple[str, int],
        limits: Limits | None = None,
        pages: Sequence[str] = (),
        lab: str = "",
        strangers: Strangers = NOBODY,
    ) -> None:
        """pages: URLs of other nodes, whose pages may watch this one, and which this one's page may watch. lab: that of
        the lab, if there is one, which this one's page may call. strangers: which other pages and names are let in."""
        self.node = node
        self.lab = lab
        self.strangers = strangers
        self.taps: Taps | None = None
        self.limits = limits or Limits()
        self.stopping = False
        most = self.limits
        self._slots = Slots(most.connections, most.spare_connections, most.reclaimed_idle_s, SPARE_IDLE_S)
        self._newcomers = Newcomers(self, most.waiting_connections, most.place_s)
        self._guard = threading.Lock()
        self._places: dict[socket.socket, Place] = {}
        self._answers: Counter[int] = Counter()  # of connections that have ended
        self._latencies: dict[Run, Histogram] = {}
        self._connections: set[Connection] = set()
        self._refused: deque[tuple[float, socket.socket]] = deque()  # when it was answered, and what is to be closed
        self._refusals = 0
        self._garbage = Minutely(_log)
        self._received: dict[socket.socket, bytes] = {}  # before its thread began
        loop = node.loop
        self._clients = None if loop is None else LoopClients(loop, self)
        super().__init__(address, Connection, "http", _log)
        self._port = self.address[1]
        own = [] if self.address[0] in EVERYWHERE else [url_of(*self.address)]
        self.feed = Feed(node, self, [*own, *pages])
        self.local_only = self.address[0].startswith("127.") or self.address[0] == "::1"

    def stop(self, grace_s: float = 0.25) -> None:
        """Accepts no more, answers what was read, and closes all connections. Takes 3 * `grace_s` and POLL_S at most.

        What the node has not done within `grace_s` is answered as unknown (504); a client that doesn't take its answer
        within the same time again is cut off.
        """
        self.stopping = True
        self.stop_accepting()
        for connection in self._newcomers.close():
            self.turn_away(connection)
        self.feed.close()
        self.node.etcd.streams.stop()
        self._close_refused(0)
        if self.end_connections(socket.SHUT_RD, grace_s):
            self.node.stop_waiting()
            if self.end_connections(socket.SHUT_RD, grace_s):
                self.end_connections(socket.SHUT_RDWR, grace_s)

    def metrics(self) -> Metrics:
        """Connections that are open and that were refused, answers by status, and how long they took."""
        with self._guard:
            answers = sum((connection.answers.copy() for connection in self._connections), self._answers.copy())
            if self._clients is not None:
                answers += self._clients.answers.copy()
        return {
            "http_connections": len(self.threads),
            "http_connections_waiting": len(self._newcomers),
            "http_connections_waited_total": self._newcomers.waited,
            **self.feed.metrics(),
            "http_garbage_total": self._garbage.count,
            "http_connections_reclaimed_total": self._slots.taken_over,
            "http_connections_refused_total": self._refusals,
            **{labelled("http_answers_total", status=status): count for status, count in answers.items()},
            **{labelled("http_request_duration_seconds", call=call): h for call, h in self.latencies().items()},
        }

    def latencies(self) -> dict[str, Histogram]:
        """How long requests took so far, by what was asked for: "get", "put", "delete", "scan", …"""
        with self._guard:
            parts = [self._latencies, *(connection.latencies for connection in self._connections)]
            if self._clients is not None:
                parts.append(self._clients.latencies)
            return {call_name(run): histogram for run, histogram in _sum_of(parts).items()}

    @property
    def begins(self) -> Begins:
        """Where calls in the node's loop begin."""
        return self.node.begins

    # ---- what connections call --------------------------------------------------------------------------------------

    def opened(self, connection: Connection) -> None:
        """Has the connection's answers counted in `metrics`."""
        with self._guard:
            self._connections.add(connection)

    def closed(self, connection: Connection) -> None:
        """Keeps the connection's counts beyond its life."""
        with self._guard:
            self._latencies = _sum_of([self._latencies, connection.latencies])
            self._connections.discard(connection)
            self._answers += connection.answers

    def place_of(self, request: socket.socket) -> Place:
        """The place that a connection was given."""
        return self._places[request]

    def leave_place(self, place: Place) -> None:
        """A connection goes on without its place: others may have it. Whoever calls sees to it that such are bounded."""
        self._slots.give_back(place)
        self._newcomers.admit()

    def waits(self, connection: socket.socket, address: Any, received: bytes) -> bool:
        """A connection that has a spare place waits for an ordinary one, with what was received of its request; False if too
        many wait. The socket object that was given is empty afterwards."""
        return self._newcomers.arrive(connection, address, received)

    def received(self, connection: socket.socket) -> bytes:
        """What a connection had sent before it was given its thread."""
        return self._received.pop(connection, b"")

    def give_thread(self, connection: socket.socket, address: Any, received: bytes) -> Life | None:
        """Has a thread go on with a connection that was in the node's loop; None if there is none for it."""
        self._received[connection] = received
        super().serve(connection, address)
        with self.threads_guard:
            return self.threads.get(connection)

    def left_loop(self, connection: socket.socket) -> None:
        """A connection that was in the node's loop has ended there."""
        self.shutdown_request(connection)
        self.forget(connection)

    def stream_head(self, request: Request, status: int, grpc: bool, keep_alive: bool) -> bytes:
        """The head of a stream's answer. grpc: it has messages."""
        answer = Answer(status, iter(()), unary.GRPC_JSON if grpc else unary.ERROR_JSON)
        return encode_answer(request, self.strangers.dressed(answer, request.fields.origin), keep_alive)

    def error_answer(self, request: Request, status: Status, keep_alive: bool) -> bytes:
        """The whole answer to a stream's request that is none."""
        answer = self.strangers.dressed(unary.error_answer(status), request.fields.origin)
        return encode_answer(request, answer, keep_alive)

    def back(self, connection: socket.socket, received: bytes) -> None:
        """A stream has ended in order: its connection is served again, as soon as there is a place for it."""
        with contextlib.suppress(OSError):
            address = connection.getpeername()
            if not self.stopping and self._serve_when_there_is_a_place(connection, address, received):
                return
        connection.close()

    def find_call(self, request: Request) -> Call:
        """What a request asks for (server/routes.py); in a front to an etcd, fewer are answered. Raises BadRequest."""
        return find_call(request)

    def tell_of_garbage(self, host: str, why: str) -> None:
        """Counts what is no request, and says so once a minute: a scanner, or a program that took this port for its own."""
        self._garbage.say(f"what {host} sends to client port {self._port} is no request: {why}")

    def crowded(self) -> BadRequest:
        """What a request is answered for which there is no place."""
        self._refusals += 1
        return BadRequest(
            503,
            f"{self.limits.connections} connections are open already: try again later.",
            b"Retry-After: 1\r\nX-Metcd-Error: Overloaded\r\n",
        )

    def cut_off(self) -> BadRequest:
        """What a request is answered that isn't whole when its connection has to end: nothing was done."""
        if self.stopping:
            return BadRequest(503, "The node stops.", b"Retry-After: 1\r\nX-Metcd-Error: NodeStopped\r\n")
        why = "The request was so slow that its connection was given to another one: try again later."
        return BadRequest(503, why, b"Retry-After: 1\r\nX-Metcd-Error: Overloaded\r\n")

    # ---- what the listener asks -------------------------------------------------------------------------------------

    def serve(self, request: socket.socket, client_address: Any) -> None:
        """Gives a connection to the node's loop; a spare one, whose question isn't for it, and in the plain form a thread."""
        clients = self._clients
        if clients is not None and not self._places[request].spare and not clients.loop.stalled():
            connection = LoopConnection(clients, request, client_address)
            with self.threads_guard:
                self.threads[request] = connection
            if clients.loop.call(connection.enter):
                return
        super().serve(request, client_address)

    def welcome(self, connection: socket.socket) -> bool:
        """True if there is an ordinary place for the connection."""
        return self.take(connection, ORDINARY)

    def take(self, connection: socket.socket, kinds: tuple[bool, ...]) -> bool:
        """True if there is a place of one of these kinds for the connection: server/slots.py. For any thread."""
        place = self._slots.take(connection, kinds)
        if place is None:
            return False
        with self._guard:
            self._places[connection] = place
        return True

    def process_request(self, request: Any, client_address: Any) -> None:
        """Has a connection served that was just accepted, at once or when it is its turn."""
        if not self._serve_when_there_is_a_place(request, client_address, None):
            self.turn_away(request)

    def _serve_when_there_is_a_place(self, connection: socket.socket, address: Any, received: bytes | None) -> bool:
        if self._newcomers or not self.welcome(connection):
            return self._newcomers.arrive(connection, address, received)
        self.serve_newcomer(connection, address, received or b"")
        return True

    def serve_newcomer(self, connection: socket.socket, address: Any, received: bytes) -> None:
        """Serves a connection that has got its place: in a thread, if something was received of it already."""
        connection.setblocking(True)  # for a thread; one that has waited, or was a stream's, isn't
        if received:
            self._received[connection] = received
            super().serve(connection, address)
        else:
            self.serve(connection, address)

    def gone(self, connection: socket.socket) -> None:
        """Gives its place back."""
        with self._guard:
            place = self._places.pop(connection)
        self._slots.give_back(place)
        self._newcomers.admit()

    def turn_away(self, connection: socket.socket) -> None:
        """Answers 503 without a thread, and closes later: a close with unread bytes would overtake the answer."""
        refused = self.cut_off() if self.stopping else self.crowded()
        answer = error_answer(503, refused.sentence, refused.headers)
        assert isinstance(answer.body, bytes)
        with contextlib.suppress(OSError):
            connection.setblocking(False)
            connection.send(
                b"%bConnection: close\r\n%bContent-Length: %d\r\n\r\n%b"
                % (STATUS_LINES[503], answer.headers, len(answer.body), answer.body)
            )
            connection.shutdown(socket.SHUT_WR)
        self._refused.append((time.monotonic(), connection))
        self._close_refused(REFUSED_LINGERING_MAX)

    def service_actions(self) -> None:
        """Between two accepts, and every POLL_S: turns away who has waited too long for a place, closes what was refused and
        has had time to read why; and sees to it that a node whose disk hangs can be asked how it is."""
        if self._clients is not None and self._clients.loop.stalled():
            self._take_back(self._clients.loop)
        for connection in self._newcomers.sweep():
            self.turn_away(connection)
        while self._refused and self._refused[0][0] + self.limits.linger_s < time.monotonic():
            _drain_and_close(self._refused.popleft()[1])

    def _take_back(self, loop: Loop) -> None:
        """Gives threads to the connections that the loop has not got to: its thread is away."""
        with self.threads_guard:
            waiting = [life for life in self.threads.values() if isinstance(life, LoopConnection)]
        for connection in waiting:
            if loop.take_back(connection.enter):
                connection.hand_over()

    def _close_refused(self, keep: int) -> None:
        while len(self._refused) > keep:
            _drain_and_close(self._refused.popleft()[1])


def _sum_of(parts: Iterable[Mapping[Run, Histogram]]) -> dict[Run, Histogram]:
    """All samples of the parts, in histograms of their own."""
    together: dict[Run, Histogram] = {}
    for part in parts:
        for run, histogram in list(part.items()):
            together.setdefault(run, Histogram()).add(histogram)
    return together


def _drain_and_close(refused: socket.socket) -> None:
    """Closes a connection that was answered without being read; unread bytes would make a reset of the close."""
    with contextlib.suppress(OSError):
        refused.recv(REFUSED_DRAINED_BYTES)
    refused.close()
