"""The lab's own port: who may call, and one call of a connection.

    accept ──▶ head ──▶ Host? Origin? ──▶ preflight? ──▶ token ──▶ path, method ──▶ body ──▶ the call ──▶ close
                          403               204          401        404, 405        413        400, 409, …

Whoever calls can kill processes, so who may is looked at before anything else of a request is:

1. It listens on loopback only. NotLoopback is raised for any other address, and there is no option for one.
2. A Host is an address or localhost: a stranger can make a name of his point here (DNS rebinding).
3. A page is one of the nodes' own: its Origin is one of their client URLs, and it alone is told by CORS that it may read
   the answer. What a browser sends for a page without naming its origin is refused.
4. The token is drawn anew at each start, compared in constant time, printed once, and stands in no command line, no log
   and no address that is sent: a fragment stays in the browser. It comes as `Authorization: Bearer TOKEN`, which no page
   can send without a preflight.
5. Heads, bodies, connections and their lives are bounded, and no byte that arrives moves a deadline.

The parser, the threads and the answers are the nodes' (request.py, listener.py, connection.py). Left out: connections
for several calls, because people click seldom.
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
import secrets
import socket
import socketserver
import threading
import time
from collections.abc import Collection

from server.addresses import url_of
from server.answers import JSON, Answer, error_answer
from server.connection import encode_answer
from server.lab import Lab
from server.lab_routes import find, perform
from server.listener import Listener, drain, hang_up
from server.logs import logger
from server.request import BadRequest, Request, is_local_name, read_head
from server.secret import same

__all__ = ["LabPort", "NotLoopback"]

TOKEN_BYTES = 32
CALLS_MAX = 16
CALL_BYTES_MAX = 4096
ASK_S = 10.0  # from accept to the last byte of a request
LINGER_S = 0.5  # how long what follows an answer is dropped, so that the answer can be read
LINGER_BYTES = 1 << 20
STOP_S = 6.0  # for the call that is under way, a transfer at most
_AUTHORIZATION = re.compile(rb"\r\nauthorization:[\t ]*([^\r\n]*?)[\t ]*(?=\r\n)", re.IGNORECASE)
_PREFLIGHT = (
    b"Access-Control-Allow-Methods: GET, POST\r\n"
    b"Access-Control-Allow-Headers: authorization, content-type\r\n"
    b"Access-Control-Max-Age: 600\r\n"
)

_log = logger("lab")


class NotLoopback(ValueError):
    """A lab would be reachable beyond this machine."""


class LabPort(Listener):
    """Listens for the lab's calls. It binds in the constructor (OSError if the port is taken); `start` accepts."""

    def __init__(self, lab: Lab, address: tuple[str, int], origins: Collection[str]) -> None:
        """origins: of the pages that may call, as browsers write them. Raises NotLoopback."""
        try:
            loopback = ipaddress.ip_address(address[0]).is_loopback
        except ValueError:  # a name leads where somebody else says
            loopback = False
        if not loopback:
            raise NotLoopback(f"a lab listens on this machine only, and {address[0]} is beyond it")
        self.lab = lab
        self.origins = frozenset(origin.encode() for origin in origins)
        self.token = secrets.token_urlsafe(TOKEN_BYTES)
        self._deadlines: dict[socket.socket, float] = {}
        self._guard = threading.Lock()
        super().__init__(address, _Connection, "lab", _log)

    @property
    def url(self) -> str:
        """Where it is called."""
        return url_of(*self.address)

    def stop(self) -> None:
        """Accepts no more, and waits for the calls that are under way. Takes POLL_S and STOP_S at most."""
        self.stop_accepting()
        self.end_connections(socket.SHUT_RD, STOP_S)

    def asked(self, connection: socket.socket) -> None:
        """A request is whole: its connection has no deadline any more, for what is asked has its own."""
        with self._guard:
            self._deadlines[connection] = float("inf")

    # ---- what the listener asks -------------------------------------------------------------------------------------

    def welcome(self, connection: socket.socket) -> bool:
        """True if there is a place."""
        with self._guard:
            if len(self._deadlines) >= CALLS_MAX:
                return False
            self._deadlines[connection] = time.monotonic() + ASK_S
        return True

    def gone(self, connection: socket.socket) -> None:
        """Gives its place back."""
        with self._guard:
            del self._deadlines[connection]

    def service_actions(self) -> None:
        """Called several times a second: reads no more of the connections that have had their time."""
        now = time.monotonic()
        with self._guard:
            for connection, deadline in self._deadlines.items():
                if deadline < now:
                    hang_up(connection, socket.SHUT_RD)


class _Connection(socketserver.StreamRequestHandler):
    """One connection, one call."""

    server: LabPort
    disable_nagle_algorithm = True

    def handle(self) -> None:
        with contextlib.suppress(OSError):
            request = None
            cors = b""
            try:
                found = read_head(self.rfile.readline)
                if found is None:
                    return
                request, head = found
                cors = self._check_page(request)
                answer = self._answer(request, head)
            except BadRequest as error:
                answer = error_answer(error.status, error.sentence, error.headers)
            except Exception:
                _log.exception("a call of the lab failed")
                answer = error_answer(500, "The lab failed to answer; its log says more.")
            answer = answer._replace(headers=answer.headers + cors + b"Cache-Control: no-store\r\n")
            self.connection.sendall(encode_answer(request, answer, False))
            drain(self.connection, LINGER_S, LINGER_BYTES)

    def finish(self) -> None:
        with contextlib.suppress(OSError):
            super().finish()

    def _check_page(self, request: Request) -> bytes:
        """The lines that let one of the nodes' pages read the answer; none for what isn't a browser's. Raises BadRequest."""
        fields = request.fields
        if fields.host is None or not is_local_name(fields.host):
            raise BadRequest(403, "Only localhost or an IP address is accepted as Host: a lab is for its own machine.")
        if not fields.from_page:
            return b""
        if fields.origin is None or fields.origin not in self.server.origins:
            raise BadRequest(
                403, "Only the pages of this cluster's nodes, at the addresses it printed, may use the lab."
            )
        return b"Access-Control-Allow-Origin: %b\r\nVary: Origin\r\n" % fields.origin

    def _answer(self, request: Request, head: bytes) -> Answer:
        if request.method == b"OPTIONS" and request.fields.origin is not None:
            return Answer(204, b"", _PREFLIGHT)
        given = _AUTHORIZATION.findall(head)
        if len(given) != 1 or not same(f"Bearer {self.server.token}", given[0].decode("latin-1")):
            challenge = b"WWW-Authenticate: Bearer\r\n"
            raise BadRequest(401, "The lab wants the token that `metcd cluster --lab` has printed.", challenge)
        call = find(request.method, request.target)
        body = self._read_body(request.fields.content_length or 0)
        self.server.asked(self.connection)
        return Answer(200, perform(self.server.lab, call, body), JSON)

    def _read_body(self, size: int) -> bytes:
        if size > CALL_BYTES_MAX:
            raise BadRequest(413, f"A body has at most {CALL_BYTES_MAX:,} bytes, and this one has {size:,}.")
        body = self.rfile.read(size)
        if len(body) < size:
            raise BadRequest(408, f"A request must be whole within {ASK_S:g} seconds.")
        return body
