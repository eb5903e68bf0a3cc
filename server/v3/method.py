"""What a method of the gateway is: four kinds, by what it has to wait for.

    POST /v3/kv/put, a JSON object ──▶ a Method by its path ──▶ the request, parsed ──▶ …

    Write    check, then through Raft              the answer is what applying it gives           kv/put, lease/revoke
    Read     check, a read barrier, then evaluate  the answer is made of one view of the store    kv/range
    Call     run, in the connection's thread       it may block: it asks, waits, and asks again   lock/lock, member/add
    Stream   open, then messages in both directions                                              watch, lease/keepalive

Each service has a list METHODS of these; one table is made of all.

Invariants:

1. A Write's `check` and a Read's are pure: they see the request alone, and raise Status for what etcd refuses before it
   looks at its store. Whatever depends on the store is decided while applying, or on the view.
2. A Write and a Read wait for nothing but the node. In the fast form they run in the node's own thread, so they are short:
   a Read that isn't `light` is given a thread.
3. A Call that waits asks `Caller.check` at least every CHECK_S: that is how it ends when the client has gone, or when the time
   that the client gave it is over.
4. `open`, and what it returns, are called by one thread, that of the streams; `Out` may be called by any.

Left out: streams of requests with one answer, which no service of etcd has.
Follows etcd's rpc.proto and google.api.http's annotations in it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

__all__ = ["CHECK_S", "Call", "Caller", "Incoming", "Method", "Out", "Read", "Stream", "Write"]

CHECK_S = 0.05  # how often a Call that waits asks whether anybody still waits for it


def _never() -> bool:
    return False


class Caller(NamedTuple):
    """Who asks, and what the head of the request says of the call: etcd's metadata.

    token: Grpc-Metadata-Token, else Authorization, as it stands there; None if there is neither. username, auth_revision:
    whose it is, once authentication has looked at it; "" and 0 before, and while it is off. wants_leader: the call is refused
    where no leader is known (Grpc-Metadata-hasleader: true). until: by time.monotonic, when it is too late for an answer
    (Grpc-Timeout). gone: whether the client has closed its connection; may be asked by the thread that serves the call. Raises
    NodeStopped if the node stops.
    """

    token: str | None = None
    username: str = ""
    auth_revision: int = 0
    wants_leader: bool = False
    until: float = math.inf
    gone: Callable[[], bool] = _never

    def left_s(self, most_s: float) -> float:
        """Seconds that a call may still take, `most_s` at most; 0 if its time is over."""
        return most_s if self.until == math.inf else max(0.0, min(most_s, self.until - time.monotonic()))


class Out(Protocol):
    """The answers of a stream: server.v3.stream.StreamConnection. The head of the answer is sent with the first of them.

    `send`, `send_line`, `fail`, `end` and `job` are for any thread and don't wait; `room` is for any but the streams', the
    rest for the streams' alone. on_room: called when it was full and isn't any more.
    """

    on_room: Callable[[], object] | None

    def send(self, message: Any) -> bool:
        """One message: a line {"result": …}. False if the stream is over."""

    def send_line(self, line: bytes) -> bool:
        """The same, for a line that is made already."""

    def send_chunk(self, chunk: bytes) -> bool:
        """The same, for a line that is a chunk already (server.v3.chunks.chunk_of)."""

    @property
    def full(self) -> bool:
        """Whether so much waits for the client that no more should be sent before `on_room`."""

    def room(self, timeout_s: float) -> bool:
        """Waits until it isn't full; False if it still is, or the stream is over."""

    def job(self, function: Callable[[], object]) -> None:
        """Has a function run by a worker, after those that were given before. What it raises fails the stream."""

    def fail(self, status: Exception) -> None:
        """What ends the stream, in place of the next message: a Status, or what becomes one (server.v3.failures.status_of)."""

    def end(self) -> None:
        """The stream is complete: the answer ends in order."""


class Incoming(Protocol):
    """The requests of a stream; called by the streams' thread, which must not wait."""

    def received(self, message: Any) -> None:
        """One message of the client, in the order of the body."""

    def ended(self) -> None:
        """The body has ended, or goes on with what is not JSON: the client asks for nothing more. It still listens."""

    def closed(self) -> None:
        """The client has gone, or was cut off: nobody takes what is sent. Called once, whatever came before."""


def _is_serializable(request: Any) -> bool:
    return bool(getattr(request, "serializable", False))


def _is_light(request: Any) -> bool:
    return True


def _never_reads(request: Any) -> bool:
    return False


class Write(NamedTuple):
    """A request that goes through Raft as member `field` of an InternalRaftRequest.

    path: after "/v3/", as "kv/put". check: raises Status for a request that is wrong in itself, and may complete it (it isn't
    shared). The answer is what applying it on this node returns. reads, read: a request for which `reads` holds, asked
    after `check`, changes nothing, and is answered as `read` says.
    """

    path: str
    request: type[Any]
    check: Callable[[Any], None]
    field: str
    reads: Callable[[Any], bool] = _never_reads
    read: Read | None = None


class Read(NamedTuple):
    """A request that is answered of one view of the store: evaluate(etcd, view, caller, request).

    serializable: whether what this node has now is good enough, whatever the others know; then there is no read barrier.
    light: whether evaluating it may take the node's thread: one key, or few. as_write: etcd sends it through Raft, so that it
    fails as a write does without a majority. heedless: a wrong token doesn't matter while authentication is off. These two
    aren't heeded where the node's thread answers: such a method is never light.
    """

    path: str
    request: type[Any]
    check: Callable[[Any], None]
    evaluate: Callable[[Any, Any, Caller, Any], Any]
    serializable: Callable[[Any], bool] = _is_serializable
    light: Callable[[Any], bool] = _is_light
    as_write: bool = False
    heedless: bool = False


class Call(NamedTuple):
    """A request for which a function runs, in the thread of its connection: run(etcd, caller, request), which may block."""

    path: str
    request: type[Any]
    run: Callable[[Any, Caller, Any], Any]


class Stream(NamedTuple):
    """A request that many messages answer: open(etcd, caller, out) returns who takes the client's messages, or raises Status.

    many: the client sends a stream, too, one JSON object after the other; else its body is one message, which is all that
    `received` gets before `ended`. `open` is called when the first message is there, or the body has ended without one.
    """

    path: str
    request: type[Any]
    open: Callable[[Any, Caller, Out], Incoming]
    many: bool = True


Method = Write | Read | Call | Stream
