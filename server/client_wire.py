"""One request of the client and its answer, on one connection.

A kept-alive connection that the node has closed in the meantime is noticed before a request is sent on it: without that
look, the first write after a pause would end as "unknown" (RFC 9112 section 9.3.1 has every client face it). An answer
counts whenever it comes: a body that is refused is answered while it is being sent; then no more of it is sent, and a
connection that the server ends meanwhile doesn't make the outcome unknown.
"""

from __future__ import annotations

import base64
import http.client
import json
import select
import socket
import time
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from server.addresses import url_of
from server.errors import (
    NodeError,
    NodeStopped,
    NoLeader,
    NumberPassed,
    OutcomeUnknown,
    Overloaded,
    SessionExpired,
    TooLarge,
)

__all__ = ["Exchange", "NotSent", "RequestRefused", "Told", "credentials_of", "failure_of", "send"]

PIECE_BYTES = 64 << 10  # of a body that are sent before the next look for an answer
STREAMED_BYTES = 1 << 20  # an answer that may be streamed, and is announced to be smaller, is read at once

# X-Metcd-Error says which of these it was; the status says whether anything was done
_ERRORS: dict[str, type[NodeError]] = {
    each.__name__: each
    for each in (NoLeader, Overloaded, NodeStopped, OutcomeUnknown, TooLarge, NumberPassed, SessionExpired)
}
_BY_STATUS: dict[int, type[NodeError]] = {413: TooLarge, 503: NoLeader, 504: OutcomeUnknown}


class RequestRefused(NodeError):
    """The node says that the request is wrong or not permitted (4xx), that it has failed (500), or that an alarm is raised (500,
    507); `status` says which."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


class NotSent(Exception):
    """The request did not reach the node: it can't have done anything."""


class Exchange(NamedTuple):
    """A request. fields: further header fields. streamed: a long answer's body is left to be read."""

    method: str
    target: str
    body: bytes | None = None
    fields: Mapping[str, str] = {}
    streamed: bool = False


class Told(NamedTuple):
    """What a node answered: the status, the index of a write (0: none), the name of an error (""), the body.

    rest, connection: of a streamed answer, the response whose body has not been read, and where it comes from.
    """

    status: int
    log_index: int
    error: str
    body: bytes
    rest: http.client.HTTPResponse | None = None
    connection: http.client.HTTPConnection | None = None


def credentials_of(user: str) -> dict[str, str]:
    """The header field that says who asks; user: "name:password". Raises ValueError if there is no colon."""
    if ":" not in user:
        raise ValueError("a user is given as name:password, and this has no colon")
    return {"Authorization": f"Basic {base64.b64encode(user.encode('utf-8', 'surrogateescape')).decode()}"}


def send(connection: http.client.HTTPConnection, asked: Exchange, deadline: float) -> Told:
    """One request on a connection, which is opened if need be; `deadline` by time.monotonic().

    Raises NotSent if it can't have been received; OSError, HTTPException otherwise, and the connection is closed.
    """
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
        raise NotSent(f"{url_of(connection.host, connection.port)} can't be reached: {error}") from error
    try:
        return _exchange(connection, asked)
    except (BrokenPipeError, ConnectionResetError, http.client.RemoteDisconnected) as error:
        connection.close()
        if reused and asked.method == "GET":
            raise NotSent("the connection had been closed") from error
        raise
    except BaseException:
        connection.close()
        raise


def _exchange(connection: http.client.HTTPConnection, asked: Exchange) -> Told:
    """Sends a request and returns its answer, which may come before the body has been sent: it was refused.

    A server that refuses a body closes the connection, and what is still sent then ends in a reset. The answer that came
    before it says what happened, so it is looked for in every case (RFC 9112 section 9.5). Raises OSError if there is
    none, HTTPException.
    """
    assert connection.sock is not None
    body, fields = asked.body, dict(asked.fields)
    pieces = None if body is None or len(body) <= PIECE_BYTES else _Pieces(body, connection.sock)
    if pieces is not None:
        fields["Content-Length"] = str(len(pieces.body))
    whole = True
    try:
        connection.request(asked.method, asked.target, body if pieces is None else pieces, fields)
    except (BrokenPipeError, ConnectionResetError):
        whole = False
    response = connection.getresponse()
    index, error_name = response.getheader("X-Metcd-Index", "0"), response.getheader("X-Metcd-Error", "")
    if response.status == 404 and response.getheader("Content-Type", "").startswith("text/plain"):
        error_name = (
            "NoSuchPath"  # below /v3/ it is said in etcd's way, without our field: that is no key that is absent
        )
    if asked.streamed and response.status == 200 and (response.length is None or response.length > STREAMED_BYTES):
        return Told(response.status, int(index), error_name, b"", response, connection)
    told = Told(response.status, int(index), error_name, response.read())
    if not whole or (pieces is not None and pieces.cut_short):
        connection.close()  # whatever the server says: the next request can't begin in the middle of this one
    return told


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


def failure_of(told: Told) -> NodeError:
    """The error that an answer stands for."""
    try:
        sentence = str(json.loads(told.body)["error"])
    except (ValueError, KeyError, TypeError):
        sentence = f"the node answered {told.status}: {told.body[:100]!r}"
    kind = _ERRORS.get(told.error) or _BY_STATUS.get(told.status)
    return kind(sentence) if kind is not None else RequestRefused(told.status, sentence)
