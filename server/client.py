"""The client: the HTTP interface as Python calls, over connections that are kept open.

    with Client(["http://127.0.0.1:3379", "http://127.0.0.1:13379"]) as client:
        client.put(b"hello", b"world")
        client.get(b"hello")

Which node is asked, and when another one is:

1. A node that can't be connected to, or says that nothing was done (503), costs nothing but time: the next node is asked,
   round and round, until `timeout_s` has passed. Then NoLeader is raised.
2. A write whose answer doesn't come, or that is answered "unknown" (504), may have been done. It is not sent again:
   OutcomeUnknown is raised. Whoever knows that a second time does no harm may send it again.
3. A read does no harm, and is sent again wherever 1 or 2 would apply.

Threads may share a client; each has its own connection to each node. Left out: HTTPS, and pools that shrink.
"""

from __future__ import annotations

import base64
import http.client
import json
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import quote_from_bytes, urlsplit

from engines.kvstore import Operation, Pair
from server import errors
from server.errors import NodeError, NoLeader, OutcomeUnknown

__all__ = ["Client", "RequestRefused"]

PAUSE_S = 0.05  # after every node was asked in vain


class RequestRefused(NodeError):
    """The node says that the request is wrong (4xx), or that it has failed (500); `status` says which."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


class _NotSent(Exception):
    """The request did not reach the node: it can't have done anything."""


class Client:
    """The key-value store of a cluster, by its nodes' URLs."""

    def __init__(self, urls: Iterable[str], timeout_s: float = 10.0) -> None:
        """`urls`: "http://host:port" of one node or more; the first is asked first. `timeout_s`: for each call."""
        self._addresses = [_address(url) for url in urls]
        if not self._addresses:
            raise ValueError("a client needs the URL of at least one node")
        self._timeout_s = timeout_s
        self._first = 0  # the node that answered last
        self._local = threading.local()
        self._guard = threading.Lock()
        self._connections: list[http.client.HTTPConnection] = []

    def get(self, key: bytes, *, consistency: str = "linearizable") -> bytes | None:
        """The value of `key`, or None. Raises NoLeader, RequestRefused."""
        status, body = self._ask("GET", _path(key, consistency))
        return body if status == 200 else None

    def put(self, key: bytes, value: bytes) -> None:
        """Sets `key`; applied when it returns. Raises NoLeader, Overloaded, OutcomeUnknown, RequestRefused."""
        self._ask("PUT", _path(key), value)

    def delete(self, key: bytes) -> None:
        """Removes `key`, which need not be there; raises as `put` does."""
        self._ask("DELETE", _path(key))

    def batch(self, operations: Iterable[Operation]) -> int:
        """Applies puts (key, value) and deletes (key, None) as one; returns its log index. Raises as `put` does."""
        lines = []
        for key, value in operations:
            line = {"op": "delete", "key": _encode(key)}
            if value is not None:
                line = {"op": "put", "key": _encode(key), "value": _encode(value)}
            lines.append(json.dumps(line))
        _, body = self._ask("POST", "/_/batch", "\n".join(lines).encode())
        index: int = json.loads(body)["index"]
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
        """The pairs with start <= key < stop that begin with `prefix`; all of one moment. Reads them all, then yields."""
        bounds = {"start": start, "stop": stop, "prefix": prefix}
        query = [f"{name}={quote_from_bytes(bound, safe='')}" for name, bound in bounds.items() if bound]
        query += [f"limit={limit}"] if limit is not None else []
        query += ["reverse=true"] if reverse else []
        _, body = self._ask("GET", "?".join(["/_/scan", "&".join([*query, f"consistency={consistency}"])]))
        for line in body.splitlines():
            pair = json.loads(line)
            yield base64.b64decode(pair["key"]), base64.b64decode(pair["value"])

    def status(self) -> dict[str, Any]:
        """The status of the node that answers first."""
        _, body = self._ask("GET", "/_/status")
        status: dict[str, Any] = json.loads(body)
        return status

    def health(self) -> bool:
        """True if the first node answers, and knows a leader. Never raises NoLeader."""
        try:
            status, _ = self._send(0, "GET", "/_/health", None, time.monotonic() + self._timeout_s)
        except (_NotSent, OSError, http.client.HTTPException):
            return False
        return status == 200

    def close(self) -> None:
        """Closes the connections of all threads."""
        with self._guard:
            for connection in self._connections:
                connection.close()
            self._connections.clear()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        """Asks one node after the other until one has done it (status 200, 204 or 404 with its body), or refuses it."""
        deadline = time.monotonic() + self._timeout_s
        reads = method == "GET"
        why: object = "none was asked"
        for attempt in range(1 << 30):
            at = (self._first + attempt) % len(self._addresses)
            if attempt and at == self._first:
                threading.Event().wait(min(PAUSE_S, max(0.0, deadline - time.monotonic())))
            if time.monotonic() >= deadline:
                break
            try:
                status, answer = self._send(at, method, path, body, deadline)
            except _NotSent as error:
                why = error
                continue
            except (OSError, http.client.HTTPException) as error:
                if not reads:
                    raise OutcomeUnknown(f"the answer did not come ({error!r}): the write may be applied") from error
                why = error
                continue
            if status in (200, 204) or (status == 404 and path.startswith("/") and not path.startswith("/_/")):
                self._first = at
                return status, answer
            failure = _failure(status, answer)
            if status != 503 and not (reads and status == 504):
                raise failure
            why = failure
        if isinstance(why, NodeError):
            raise why
        raise NoLeader(f"no node answered within {self._timeout_s:g} s; the last one: {why}")

    def _send(self, at: int, method: str, path: str, body: bytes | None, deadline: float) -> tuple[int, bytes]:
        """One request to one node. Raises _NotSent if it can't have been received; OSError, HTTPException otherwise."""
        connection, reused = self._connection(at)
        connection.timeout = max(0.01, deadline - time.monotonic())
        try:
            if connection.sock is None:
                connection.connect()
            connection.sock.settimeout(connection.timeout)
        except OSError as error:
            connection.close()
            raise _NotSent(f"http://{connection.host}:{connection.port} can't be reached: {error}") from error
        try:
            connection.request(method, path, body)
            response = connection.getresponse()
            return response.status, response.read()
        except (BrokenPipeError, ConnectionResetError, http.client.RemoteDisconnected) as error:
            connection.close()
            if reused and method == "GET":
                raise _NotSent("the connection had been closed") from error
            raise
        except BaseException:
            connection.close()
            raise

    def _connection(self, at: int) -> tuple[http.client.HTTPConnection, bool]:
        """This thread's connection to a node, and whether it has been used before."""
        mine: dict[int, http.client.HTTPConnection] = self._local.__dict__.setdefault("connections", {})
        connection = mine.get(at)
        if connection is None:
            connection = mine[at] = http.client.HTTPConnection(*self._addresses[at])
            with self._guard:
                self._connections.append(connection)
        return connection, connection.sock is not None


def _failure(status: int, answer: bytes) -> NodeError:
    """The error that an answer stands for."""
    try:
        sentence = str(json.loads(answer)["error"])
    except (ValueError, KeyError, TypeError):
        sentence = f"the node answered {status}: {answer[:100]!r}"
    if status == 504:
        return OutcomeUnknown(sentence)
    if status == 503:
        return NoLeader(sentence)
    if status == 413:
        return errors.TooLarge(sentence)
    return RequestRefused(status, sentence)


def _address(url: str) -> tuple[str, int]:
    parts = urlsplit(url if "//" in url else f"//{url}")
    if parts.scheme not in ("http", "") or not parts.hostname or parts.port is None:
        raise ValueError(f"a node's URL is http://host:port, and this is {url!r}")
    return parts.hostname, parts.port


def _path(key: bytes, consistency: str | None = None) -> str:
    return f"/{quote_from_bytes(key, safe='/')}" + (f"?consistency={consistency}" if consistency else "")


def _encode(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
