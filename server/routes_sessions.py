"""The routes of sessions: a client opens one, and numbers its writes in it (server/sessions.py).

    POST    /_/sessions                     200 {"session": 17}
    PUT     /key       X-Metcd-Request: 17/1    204 with X-Metcd-Index: that of the first time
    DELETE  /key       X-Metcd-Request: 17/2
    POST    /_/batch   X-Metcd-Request: 17/3

Two answers are only for requests with that header: 409 if a later request of the session was applied before, 410 if the
session has been forgotten. Neither has done anything.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from engines.kvstore import Operation
from server.answers import JSON, Answer, Options, Serving, Writer
from server.principal import Principal
from server.request import BadRequest
from server.sessions import OPENS, Serial

__all__ = ["open_session", "serial_of", "writer"]

_SERIAL = re.compile(rb"([1-9][0-9]{0,17})/([1-9][0-9]{0,17})")


def open_session(server: Serving, key: bytes, options: Options, body: bytes) -> Answer:
    """POST /_/sessions: the new session's number. Opening one twice does no harm: the table is bounded."""
    return Answer(200, b'{"session":%d}\n' % server.node.propose([OPENS]), JSON)


def serial_of(text: bytes) -> Serial:
    """What X-Metcd-Request says. Raises BadRequest (400)."""
    found = _SERIAL.fullmatch(text)
    if found is None:
        raise BadRequest(400, "X-Metcd-Request must be a session and a request's number in it, from 1 on, as in 17/1.")
    return Serial(int(found[1]), int(found[2]))


def writer(node: Writer, options: Options) -> Writer:
    """Who is asked to write: the node, or what puts first which request of which session it is, and who asks for it."""
    serial, who = options.get("serial"), options.get("who")
    first: list[Serial | Principal] = [] if serial is None else [serial]
    if who is not None:  # authentication is on (server/access.py)
        first.append(Principal(who.username, who.auth_revision))
    return Prefixing(node, first) if first else node


class Prefixing:
    """A node's two ways to write, with something before the operations."""

    def __init__(self, node: Writer, first: Sequence[Serial | Principal]) -> None:
        self._node = node
        self._first = first

    def propose(self, operations: Sequence[Operation | Serial | Principal]) -> int:
        return self._node.propose([*self._first, *operations])

    def propose_nowait(self, operations: Sequence[Operation | Serial | Principal]) -> None:
        self._node.propose_nowait([*self._first, *operations])
