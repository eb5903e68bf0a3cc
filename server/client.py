"""The client: the HTTP interface as Python calls, over connections that are kept open.

    with Client(["http://127.0.0.1:3379", "http://127.0.0.1:13379"]) as client:
        client.put(b"hello", b"world")
        client.get(b"hello")

Which node is asked, and when another one is:

1. A node that can't be connected to, or says that nothing was done (503), costs nothing but time: the next node is asked,
   round and round, until `timeout_s` has passed. Then NoLeader is raised.
2. A write whose answer doesn't come, or that is answered "unknown" (504), may have been done. It is not sent again:
   OutcomeUnknown is raised. A caller who knows that a second time does no harm may send it again.
3. A read does no harm, and is sent again wherever 1 or 2 would apply.
4. An answer counts whenever it comes. A body that is refused is answered while it is being sent; then no more of it is
   sent, and a connection that the server ends meanwhile doesn't make the outcome unknown.
5. A kept-alive connection that the node has closed in the meantime is noticed before a request is sent on it. Without
   that look, the first write after a pause would end as "unknown" (RFC 9112 section 9.3.1 has every client face it).

Threads may share a client; each has its own connection to each node. Left out: HTTPS, and pools that shrink.
"""

from __future__ import annotations

import base64
import http.client
import json
import select
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple
from urllib.parse import quote_from_bytes

from engines.errors import InvalidKey
from engines.kvstore import Operation, Pair, check_value, scan_bounds
from server.addresses import parse_url, url_of
from server.errors import NodeError, NodeStopped, NoLeader, OutcomeUnknown, Overloaded, TooLarge

__all__ = ["Client", "RequestRefused"]

TIMEOUT_S_MAX = 86_400  # a day; poll and sockets take no infinity
PAUSE_S = 0.05  # after every node was asked in vain
PIECE_BYTES = 64 << 10  # of a body that are sent before the next look for an answer

# X-Metcd-Error says which of these it was; the status says whether anything was done
_ERRORS: dict[str, type[NodeError]] = {
    each.__name__: each for each in (NoLeader, Overloaded, NodeStopped, OutcomeUnknown, TooLarge)
}
_BY_STATUS: dict[int, type[NodeError]] = {413: TooLarge, 503: NoLeader, 504: OutcomeUnknown}


class RequestRefused(NodeError):
    """The node says that the request is wrong (4xx), or that it has failed (500); `status` says which."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


class _Answer(NamedTuple):
    """What a node answered: the status, the index of a write (0: none), the name of an error (""), the body."""

    status: int
    log_index: int
    error: str
    body: bytes


class _NotSent(Exception):
    """The request did not reach the node: it can't have done anything."""


class Client:
    """The key-value store of a cluster, by its nodes' URLs."""

    def __init__(self, urls: Iterable[str], timeout_s: float = 10.0) -> None:
        """`urls`: "http://host:port" of one node or more; the first is asked first. `timeout_s`: for each call.

        Raises TypeError, ValueError for what is no list of URLs, or no number of seconds.
        """
        if isinstance(urls, (str, bytes)):
            raise TypeError(f"a client takes a list of URLs, and this is one: Client([{urls!r}])")
        self._addresses = [parse_url(url) for url in urls]
        if not self._addresses:
            raise ValueError("a client needs the URL of at least one node")
        if type(timeout_s) not in (int, float):
            raise TypeError(f"timeout_s is a number of seconds, and this is {timeout_s!r}")
        if not 0 < timeout_s <= TIMEOUT_S_MAX:  # false for NaN, too
            raise ValueError(
                f"timeout_s lies above 0 and goes up to {TIMEOUT_S_MAX:,} seconds, and this is {timeout_s!r}"
            )
        self._timeout_s = timeout_s
        self._first = 0  # the node that answered last
        self._local = threading.local()
        self._guard = threading.Lock()
        self._connections: list[http.client.HTTPConnection] = []
        self._closed = False

    def get(self, key: bytes, *, consistency: str = "linearizable") -> bytes | None:
        """The value of `key`, or None. Raises NoLeader, RequestRefused."""
        answer = self._ask("GET", _path(key, consistency))
        return answer.body if answer.status == 200 else None

    def put(self, key: bytes, value: bytes) -> int:
        """Sets `key`; applied when it returns its log index.

        Raises InvalidKey, InvalidValue for what is not bytes, NoLeader, Overloaded, NodeStopped (nothing was written, whichever node was asked until the timeout),
        OutcomeUnknown (it may have been), TooLarge, RequestRefused.
        """
        check_value(value)
        return self._ask("PUT", _path(key), value).log_index

    def delete(self, key: bytes) -> int:
        """Removes `key`, which need not be there; returns and raises as `put` does."""
        return self._ask("DELETE", _path(key)).log_index

    def batch(self, operations: Iterable[Operation]) -> int:
        """Applies puts (key, value) and deletes (key, None) as one; returns its log index. Raises as `put` does, and TypeError."""
        lines = []
        for operation in operations:
            if type(operation) not in (tuple, list) or len(operation) != 2:
                raise TypeError(f"an operation is (key, value) or (key, None), and this is {operation!r:.100}")
            key, value = operation
            _check_key(key)
            line = {"op": "delete", "key": _encode(key)}
            if value is not None:
                check_value(value)
                line = {"op": "put", "key": _encode(key), "value": _encode(value)}
            lines.append(json.dumps(line))
        index: int = json.loads(self._ask("POST", "/_/batch", "\n".join(lines).encode()).body)["index"]
        return index

    def scan(
        self,
        start: bytes = b"",
        stop: bytes | None = None,
        *,
        prefix: bytes | None = None,
        limit: int | None = None,
        reverse: bool = False,
        consistency: str = "linearizable",
    ) -> Iterator[Pair]:
        """The pairs with start <= key < stop that begin with `prefix`; all of one moment, and all in memory.

        Raises InvalidKey for a bound that is not bytes, NoLeader, RequestRefused.
        """
        scan_bounds(start, stop, prefix)  # raises InvalidKey for what is not bytes
        bounds = {"start": start, "stop": stop, "prefix": prefix}
        query = [f"{name}={quote_from_bytes(bound, safe='')}" for name, bound in bounds.items() if bound is not None]
        query += [f"limit={limit}"] if limit is not None else []
        query += ["reverse=true"] if reverse else []
        target = "?".join(["/_/scan", "&".join([*query, f"consistency={consistency}"])])
        pairs = map(json.loads, self._ask("GET", target).body.splitlines())
        return ((base64.b64decode(pair["key"]), base64.b64decode(pair["value"])) for pair in pairs)

    def status(self) -> dict[str, Any]:
        """The status of the node that answers first."""
        status: dict[str, Any] = json.loads(self._ask("GET", "/_/status").body)
        return status

    def health(self) -> bool:
        """True if the first node answers, and knows a leader. Never raises NoLeader."""
        self._check_open()
        try:
            return self._send(0, "GET", "/_/health", None, time.monotonic() + self._timeout_s).status == 200
        except (_NotSent, OSError, http.client.HTTPException):
            return False

    def close(self) -> None:
        """Closes the connections of all threads; every later call but this one raises RuntimeError."""
        with self._guard:
            self._closed = True
            for connection in self._connections:
                connection.close()
            self._connections.clear()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, method: str, target: str, body: bytes | None = None) -> _Answer:
        """Asks one node after the other until one has done it (or says that a key is absent), or refuses it."""
        self._check_open()
        deadline = time.monotonic() + self._timeout_s
        reads = method == "GET"
        why: object = "none was asked"
        first = self._first
        pause = threading.Event()
        for attempt in range(1 << 30):
            at = (first + attempt) % len(self._addresses)
            if attempt and at == first:
                pause.wait(min(PAUSE_S, max(0.0, deadline - time.monotonic())))
            if time.monotonic() >= deadline:
                break
            try:
                answer = self._send(at, method, target, body, deadline)
            except _NotSent as error:
                why = error
                continue
            except (OSError, http.client.HTTPException) as error:
                if not reads:
                    raise OutcomeUnknown(f"the answer did not come ({error!r}): the write may be applied") from error
                why = error
                continue
            if answer.status in (200, 204) or (answer.status == 404 and not answer.error):
                self._first = at
                return answer
            why = failure = _failure(answer)
            if answer.status != 503 and not (reads and answer.status == 504):
                raise failure
        if isinstance(why, NodeError):
            raise why
        raise NoLeader(f"no node answered within {self._timeout_s:g} s; the last one: {why}")

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeError("the client is closed: make another one")

    def _send(self, at: int, method: str, target: str, body: bytes | None, deadline: float) -> _Answer:
        """One request to one node. Raises _NotSent if it can't have been received; OSError, HTTPException otherwise."""
        connection = self._connection(at)
        if connection.sock is not None and _has_been_closed(connection.sock):
            connection.close()
        reused = connection.sock is not None
        connection.timeout = max(0.01, deadline - time.monotonic())
        try:
            if connection.sock is None:
                connection.connect()
            connection.sock.settimeout(connection.timeout)
        except OSError as error:
            connection.close()
            raise _NotSent(f"{url_of(connection.host, connection.port)} can't be reached: {error}") from error
        try:
            return _exchange(connection, method, target, body)
        except (BrokenPipeError, ConnectionResetError, http.client.RemoteDisconnected) as error:
            connection.close()
            if reused and method == "GET":
                raise _NotSent("the connection had been closed") from error
            raise
        except BaseException:
            connection.close()
            raise

    def _connection(self, at: int) -> http.client.HTTPConnection:
        """This thread's connection to a node."""
        mine: dict[int, http.client.HTTPConnection] = self._local.__dict__.setdefault("connections", {})
        connection = mine.get(at)
        if connection is None:
            connection = mine[at] = http.client.HTTPConnection(*self._addresses[at])
            with self._guard:
                self._connections.append(connection)
        return connection


def _exchange(connection: http.client.HTTPConnection, method: str, target: str, body: bytes | None) -> _Answer:
    """Sends a request and returns its answer, which may come before the body has been sent: it was refused.

    A server that refuses a body closes the connection, and what is still sent then ends in a reset. The answer that came
    before it says what happened, so it is looked for in every case (RFC 9112 section 9.5). Raises OSError if there is
    none, HTTPException.
    """
    assert connection.sock is not None
    pieces = None if body is None or len(body) <= PIECE_BYTES else _Pieces(body, connection.sock)
    headers = {} if pieces is None else {"Content-Length": str(len(pieces.body))}
    whole = True
    try:
        connection.request(method, target, body if pieces is None else pieces, headers)
    except (BrokenPipeError, ConnectionResetError):
        whole = False
    response = connection.getresponse()
    index, error_name = response.getheader("X-Metcd-Index", "0"), response.getheader("X-Metcd-Error", "")
    answer = _Answer(response.status, int(index), error_name, response.read())
    if not whole or (pieces is not None and pieces.cut_short):
        connection.close()  # whatever the server says: the next request can't begin in the middle of this one
    return answer


class _Pieces:
    """A body in pieces, which end as soon as there is something to read: the server has answered already."""

    def __init__(self, body: bytes, connection: socket.socket) -> None:
        self.body = body
        self.cut_short = False
        self._connection = connection

    def __iter__(self) -> Iterator[memoryview]:
        view = memoryview(self.body)
        for at in range(0, len(view), PIECE_BYTES):
            if at and _has_been_closed(self._connection):
                self.cut_short = True
                return
            yield view[at : at + PIECE_BYTES]


def _has_been_closed(idle: socket.socket) -> bool:
    """True if there is something to read where nothing was asked: the end of the connection, or a farewell (408)."""
    poll = select.poll()
    poll.register(idle, select.POLLIN)
    return bool(poll.poll(0))


def _failure(answer: _Answer) -> NodeError:
    """The error that an answer stands for."""
    try:
        sentence = str(json.loads(answer.body)["error"])
    except (ValueError, KeyError, TypeError):
        sentence = f"the node answered {answer.status}: {answer.body[:100]!r}"
    kind = _ERRORS.get(answer.error) or _BY_STATUS.get(answer.status)
    return kind(sentence) if kind is not None else RequestRefused(answer.status, sentence)


def _check_key(key: object) -> None:
    """Raises InvalidKey for what is not bytes; which bytes are a key is the node's to say."""
    if type(key) is not bytes:
        raise InvalidKey(f"a key must be bytes, and this is {type(key).__name__}: encode it first")


def _path(key: bytes, consistency: str | None = None) -> str:
    _check_key(key)
    return f"/{quote_from_bytes(key, safe='/')}" + (f"?consistency={consistency}" if consistency else "")


def _encode(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
