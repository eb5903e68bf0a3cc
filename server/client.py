"""The client: the HTTP interface as Python calls, over connections that are kept open.

    with Client(["http://127.0.0.1:3379", "http://127.0.0.1:13379"]) as client:
        client.put(b"hello", b"world")
        client.get(b"hello")

Which node is asked, and when another one is:

1. A node that can't be connected to, or says that nothing was done (503), costs nothing but time: the next node is asked,
   round and round, until `timeout_s` has passed. Then NoLeader is raised.
2. A write is a request of a session (server/sessions.py), which is applied once however often it is sent. So if its answer
   doesn't come, or is "unknown" (504), it is sent again, to the next node, until `timeout_s` has passed; only then
   OutcomeUnknown is raised. With `sessions=False` it is raised at once: nothing that may have been done is sent again.
3. A read does no harm, and is sent again wherever 1 or 2 would apply.
4. What may be sent again isn't waited for as long as the call may take: a node that is silent for a quarter of `timeout_s`
   (and 2 s) is left for the next one.
5. The leader is asked first, because every other node asks it. Who leads, the nodes' status says; it is looked at after
   some calls, then every ten seconds, and after another node had to answer. It is a hint: any node answers everything.

Threads may share a client; each has its own connection to each node, and writes at the same time have a session each.
Left out: HTTPS, and pools that shrink. server/client_wire.py has one request, server/client_scan.py the pairs of a scan.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import quote_from_bytes

from engines.errors import InvalidKey
from engines.kvstore import Operation, Pair, check_value, scan_bounds
from server.addresses import parse_url
from server.client_scan import PairStream, ScanBroken, pair_of
from server.client_sessions import SessionPool
from server.client_wire import Exchange, NotSent, RequestRefused, Told, credentials_of, failure_of, send
from server.errors import NodeError, NoLeader, OutcomeUnknown, SessionExpired

__all__ = ["LOOK_AFTER_CALLS", "Client", "RequestRefused", "ScanBroken"]

TIMEOUT_S_MAX = 86_400  # a day; poll and sockets take no infinity
PAUSE_S = 0.05  # after every node was asked in vain
ATTEMPT_S_MIN = 2.0  # how long a node may be silent, at least, before another one is asked
ATTEMPTS = 4  # at least, that a call's time is enough for
LOOK_AFTER_CALLS = 16  # before the leader is looked for: a client of a few calls has no use for it
LOOK_EVERY_S = 10.0
LOOK_TIMEOUT_S = 1.0  # for each node that is asked who leads


class Client:
    """The key-value store of a cluster, by its nodes' URLs."""

    def __init__(
        self, urls: Iterable[str], timeout_s: float = 10.0, *, sessions: bool = True, user: str | None = None
    ) -> None:
        """`urls`: "http://host:port" of one node or more; the first is asked first. `timeout_s`: for each call.

        sessions: writes are sent again until they are answered, and applied once. A client's first write opens a session,
        so it takes two rounds of the log instead of one. user: "name:password", sent with every request, for nodes whose
        authentication is on.

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
        self._credentials = credentials_of(user) if user is not None else {}
        self._first = 0  # the node that is asked first: it leads, as far as is known, or has answered last
        self._ids: dict[int, int] = {}  # of nodes whose status was seen: place in the list → id
        self._calls = 0
        self._look_at = 0.0  # when the leader is looked for again
        self._looking = threading.Lock()
        self._sessions = SessionPool() if sessions else None
        self._local = threading.local()
        self._guard = threading.Lock()
        self._connections: set[http.client.HTTPConnection] = set()
        self._closed = False

    def get(self, key: bytes, *, consistency: str = "linearizable") -> bytes | None:
        """The value of `key`, or None. Raises NoLeader, RequestRefused."""
        answer = self._read(_path(key, consistency))
        return answer.body if answer.status == 200 else None

    def put(self, key: bytes, value: bytes) -> int:
        """Sets `key`; applied when it returns its log index.

        Raises InvalidKey, InvalidValue for what is not bytes, NoLeader, Overloaded, NodeStopped (nothing was written, whichever node was asked until the timeout),
        OutcomeUnknown (it may have been), TooLarge, RequestRefused.
        """
        check_value(value)
        return self._write(Exchange("PUT", _path(key), value)).log_index

    def delete(self, key: bytes) -> int:
        """Removes `key`, which need not be there; returns and raises as `put` does."""
        return self._write(Exchange("DELETE", _path(key))).log_index

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
        index: int = json.loads(self._write(Exchange("POST", "/_/batch", "\n".join(lines).encode())).body)["index"]
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
        """The pairs with start <= key < stop that begin with `prefix`, all of one moment; they come as they arrive.

        A long scan has a connection of its own until its iterator ends, is closed, or is forgotten; the node keeps a view
        of its store for it, and ends one whose pairs are taken too slowly. Raises InvalidKey for a bound that is not
        bytes, NoLeader, RequestRefused; while it is iterated, ScanBroken: it can't be gone on with, only begun again.
        """
        scan_bounds(start, stop, prefix)  # raises InvalidKey for what is not bytes
        bounds = {"start": start, "stop": stop, "prefix": prefix}
        query = [f"{name}={quote_from_bytes(bound, safe='')}" for name, bound in bounds.items() if bound is not None]
        query += [f"limit={limit}"] if limit is not None else []
        query += ["reverse=true"] if reverse else []
        target = "?".join(["/_/scan", "&".join([*query, f"consistency={consistency}"])])
        return self._pairs(target)

    def mark(self) -> int:
        """Has every node keep a view of its state at one entry; the index of that (server/marked_views.py). Raises NodeError."""
        self._check_open()
        deadline = time.monotonic() + self._timeout_s
        index: int = json.loads(self._ask(Exchange("POST", "/_/digest"), deadline, again=True).body)["index"]
        return index

    def digest(self, index: int, after: bytes | None = None) -> Iterator[Pair]:
        """The hashes of a node's view of a mark: of its blocks, or of the keys behind `after` (server/routes_digest.py).

        Waits for a node that is not there yet. Raises as `scan` does; RequestRefused with the status 410 if it has no view.
        """
        behind = "" if after is None else f"&after={quote_from_bytes(after, safe='')}"
        return self._pairs(f"/_/digest?index={index}{behind}")

    def _pairs(self, target: str) -> Iterator[Pair]:
        """The pairs of a target that is answered in lines."""
        answer = self._read(target, streamed=True)
        if answer.rest is None or answer.connection is None:
            return map(pair_of, answer.body.splitlines())
        mine = self._mine()
        at = next(at for at, connection in mine.items() if connection is answer.connection)
        del mine[at]  # this thread's next call to that node takes another one
        return PairStream(answer.rest, answer.connection, lambda ended, whole: self._take_back(at, ended, whole))

    def status(self) -> dict[str, Any]:
        """The status of the node that answers first."""
        status: dict[str, Any] = json.loads(self._read("/_/status").body)
        return status

    def members(self) -> Any:
        """The cluster and its members, as GET /_/members has them. Raises NoLeader, RequestRefused."""
        return json.loads(self._read("/_/members").body)

    def change_member(self, method: str, node_id: int, query: str = "", url: str = "") -> int:
        """Changes the membership (server/routes_members.py); returns the entry's index.

        Raises RequestRefused with the leader's reason, NoLeader, OutcomeUnknown.
        """
        asked = Exchange(method, f"/_/members/{node_id}{query}", url.encode())
        index: int = json.loads(self._ask(asked, time.monotonic() + self._timeout_s, again=False).body)["index"]
        return index

    def transfer(self, node_id: int) -> int:
        """Has the leader hand over to this node; returns the term in which it leads. Raises NoLeader, RequestRefused."""
        asked = Exchange("POST", f"/_/leader/{node_id}")
        term: int = json.loads(self._ask(asked, time.monotonic() + self._timeout_s, again=True).body)["term"]
        return term

    def health(self) -> bool:
        """True if the first node answers, and knows a leader. Never raises NoLeader."""
        self._check_open()
        try:
            deadline = time.monotonic() + self._timeout_s
            return self._send(0, Exchange("GET", "/_/health"), deadline).status == 200
        except (NotSent, OSError, http.client.HTTPException):
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

    # ---- which node, and how often ----------------------------------------------------------------------------------

    def _read(self, target: str, *, streamed: bool = False) -> Told:
        self._check_open()
        return self._ask(Exchange("GET", target, streamed=streamed), time.monotonic() + self._timeout_s, again=True)

    def _write(self, asked: Exchange) -> Told:
        """Writes, in a session if the client has them; a session that expired while nobody used it is replaced."""
        self._check_open()
        deadline = time.monotonic() + self._timeout_s
        if self._sessions is None:
            return self._ask(asked, deadline, again=False)
        while True:
            try:
                with self._sessions.request(lambda: self._open_session(deadline)) as name:
                    fields = {"X-Metcd-Request": name}
                    return self._ask(asked._replace(fields=fields), deadline, again=True)
            except SessionExpired:  # and this was the first sending, so that nothing was done
                continue

    def _open_session(self, deadline: float) -> int:
        told = self._ask(Exchange("POST", "/_/sessions"), deadline, again=True)
        session: int = json.loads(told.body)["session"]
        return session

    def _ask(self, asked: Exchange, deadline: float, *, again: bool) -> Told:
        """Asks one node after the other until one has done it (or says that a key is absent), or refuses it.

        again: sending it twice does no harm. Raises what it was refused with, or at the deadline, for a write that may
        have been done, OutcomeUnknown; else the last node's reason, or NoLeader.
        """
        self._look_for_the_leader()
        why: object = "none was asked"
        unknown = ""
        first = self._first
        pause = threading.Event()
        for attempt in range(1 << 30):
            at = (first + attempt) % len(self._addresses)
            if attempt and at == first:
                pause.wait(min(PAUSE_S, max(0.0, deadline - time.monotonic())))
            now = time.monotonic()
            if now >= deadline:
                break
            patience_s = max(ATTEMPT_S_MIN, self._timeout_s / ATTEMPTS) if again else self._timeout_s
            try:
                told = self._send(at, asked, min(deadline, now + patience_s))
            except NotSent as error:
                why = error
                continue
            except (OSError, http.client.HTTPException) as error:
                why, unknown = error, f"the answer did not come ({error!r})"
            else:
                if told.status in (200, 204) or (told.status == 404 and not told.error):
                    self._answered(at)
                    return told
                why = failure = failure_of(told)
                if isinstance(failure, OutcomeUnknown):
                    unknown = str(failure)
                elif isinstance(failure, SessionExpired) and unknown:
                    raise OutcomeUnknown(f"{unknown}, and sent again: {failure}") from failure
                elif told.status != 503:
                    raise failure
            if unknown and not again:
                raise OutcomeUnknown(f"{unknown}: the write may be applied")
        if unknown and asked.method != "GET":
            raise OutcomeUnknown(
                f"{unknown}, and no other node knew within {self._timeout_s:g} s: the write may be applied"
            )
        if isinstance(why, NodeError):
            raise why
        raise NoLeader(f"no node answered within {self._timeout_s:g} s; the last one: {why}")

    def _answered(self, at: int) -> None:
        if at != self._first:
            self._first = at
            self._look_at = 0.0

    def _look_for_the_leader(self) -> None:
        """Once in a while, asks the nodes who leads, so that it is the one that is asked first."""
        self._calls += 1
        if len(self._addresses) == 1 or self._calls < LOOK_AFTER_CALLS or time.monotonic() < self._look_at:
            return
        if not self._looking.acquire(blocking=False):
            return
        try:
            self._look_at = time.monotonic() + LOOK_EVERY_S
            leader = self._status_of(self._first)
            for at in range(len(self._addresses)):
                if leader and leader not in self._ids.values() and at not in self._ids:
                    self._status_of(at)
            self._first = next((at for at, node_id in self._ids.items() if node_id == leader), self._first)
        finally:
            self._looking.release()

    def _status_of(self, at: int) -> int:
        """Notes the id of a node, and returns that of the leader as it knows it, 0 if it doesn't or can't be asked."""
        with contextlib.suppress(NotSent, OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
            told = self._send(at, Exchange("GET", "/_/status"), time.monotonic() + LOOK_TIMEOUT_S)
            status = json.loads(told.body)
            self._ids[at] = int(status["id"])
            return int(status["leader"])
        self._ids.pop(at, None)
        return 0

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeError("the client is closed: make another one")

    # ---- connections ------------------------------------------------------------------------------------------------

    def _send(self, at: int, asked: Exchange, deadline: float) -> Told:
        if self._credentials:
            asked = asked._replace(fields={**asked.fields, **self._credentials})
        return send(self._connection(at), asked, deadline)

    def _mine(self) -> dict[int, http.client.HTTPConnection]:
        """This thread's connections."""
        mine: dict[int, http.client.HTTPConnection] = self._local.__dict__.setdefault("connections", {})
        return mine

    def _take_back(self, at: int, connection: http.client.HTTPConnection, whole: bool) -> None:
        """A scan has ended. Its connection is this thread's again if the whole answer was read and there is no other."""
        if not (whole and self._mine().setdefault(at, connection) is connection):
            with self._guard:
                connection.close()
                self._connections.discard(connection)

    def _connection(self, at: int) -> http.client.HTTPConnection:
        """This thread's connection to a node."""
        mine = self._mine()
        connection = mine.get(at)
        if connection is None:
            connection = mine[at] = http.client.HTTPConnection(*self._addresses[at])
            with self._guard:
                self._connections.add(connection)
        return connection


def _check_key(key: object) -> None:
    """Raises InvalidKey for what is not bytes; which bytes are a key is the node's to say."""
    if type(key) is not bytes:
        raise InvalidKey(f"a key must be bytes, and this is {type(key).__name__}: encode it first")


def _path(key: bytes, consistency: str | None = None) -> str:
    _check_key(key)
    return f"/{quote_from_bytes(key, safe='/')}" + (f"?consistency={consistency}" if consistency else "")


def _encode(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
