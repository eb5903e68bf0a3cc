"""Where etcd's paths lead: the table of all methods, and what is answered without one.

    POST    /v3/kv/put, /v3beta/kv/put, …       the method (server/v3/unary.py; streams: server/v3/streams.py)
    OPTIONS /v3…                                200, for browsers that ask beforehand
    any     /v3                                 301 to /v3/, and a path with "//", "/./" or "/../" in it to one without
    any     another path under /v3/             404, in plain text
    any     a method's path, but not POST       405, in plain text

1. A query is ignored, and so are Content-Type and Accept: what a body is follows from the path alone.
2. Each answer has the fields for browsers (server/strangers.py), and a known request body is read whatever is answered, so that
   the connection can be used again.
3. What a head says of the call (`Caller`) is read here. A Grpc-Timeout that is none is an error of the call, and one of 0 is
   none. A form's POST may say that it is another method.

Follows grpc-gateway 1.16's runtime/mux.go and context.go, and Go's net/http ServeMux.
"""

from __future__ import annotations

import math
import posixpath
import re
import time
from collections.abc import Callable, Sequence
from urllib.parse import quote_from_bytes

from server.answers import PLAIN_TEXT, Answer, Call, Options, Right, Route, Run, Serving
from server.request import Fields, Request
from server.strangers import CORS_FIELDS
from server.v3.method import Caller, Method, Stream
from server.v3.status import Code, Status
from server.v3.unary import answer, error_answer

__all__ = ["ROOTS", "V3Call", "call_of", "constant", "find", "is_ours", "table_of"]

ROOTS = (b"/v3/", b"/v3beta/")
PREFIX = b"/v3/"

_TEXT = CORS_FIELDS + PLAIN_TEXT
_TIMEOUT = re.compile(rb"([+-]?[0-9]{1,18})([HMSmun])")
_UNITS_NS = {b"H": 3600 * 10**9, b"M": 60 * 10**9, b"S": 10**9, b"m": 10**6, b"u": 10**3, b"n": 1}
_NOBODY = Caller()


class V3Call:
    """A method of the table, with what its requests are answered by."""

    __slots__ = ("anonymous", "method", "route")

    def __init__(self, method: Method) -> None:
        self.method = method
        self.route = Route(_runner(method))
        self.anonymous = self.for_caller(_NOBODY)

    def for_caller(self, caller: Caller) -> Call:
        """The call that somebody makes."""
        return Call(self.route, b"", {"method": self.method, "caller": caller})


def _runner(method: Method) -> Run:
    """The function of a route, named for metrics: v3_kv_put."""

    def run(server: Serving, key: bytes, options: Options, body: bytes) -> Answer:
        assert not isinstance(method, Stream), "a stream is not answered by a function"
        return answer(server.node.etcd, method, options["caller"], body)

    run.__name__ = "v3_" + method.path.replace("/", "_").replace("-", "_")
    return run


def table_of(services: Sequence[Sequence[Method]]) -> dict[bytes, V3Call]:
    """The methods of these services by their whole path."""
    return {PREFIX + method.path.encode(): V3Call(method) for methods in services for method in methods}


def _answer_v3_other(server: Serving, key: bytes, options: Options, body: bytes) -> Answer:
    answered: Answer = options["answer"]
    return answered


_OTHER = Route(_answer_v3_other, right=Right.OPEN)


def constant(answered: Answer) -> Call:
    """What is answered already. One route for all of these: it is what metrics count by."""
    return Call(_OTHER, b"", {"answer": answered})


_NOT_FOUND = constant(Answer(404, b"Not Found\n", _TEXT))
_NOT_ALLOWED = constant(Answer(405, b"Method Not Allowed\n", _TEXT))
_OPTIONS = constant(Answer(200, b"", CORS_FIELDS))


def is_ours(path: bytes) -> bool:
    """Whether a decoded path is one of etcd's."""
    return path == b"/v3" or path.startswith(ROOTS)


def find(table: dict[bytes, V3Call], request: Request, path: bytes, query: bytes) -> Call:
    """What a request for one of etcd's paths asks for. path: decoded. O(1)."""
    if request.method == b"OPTIONS":
        return _OPTIONS
    if path.startswith(b"/v3beta/"):
        path = PREFIX + path[8:]
    found = table.get(path) or (table.get(path[:-1]) if path.endswith(b":") else None)  # an empty verb, to its router
    if found is None:
        clean = _clean(path)
        return _NOT_FOUND if clean == path else _moved(request, clean, query)
    if request.method != b"POST" or request.fields.override not in (None, b"POST"):
        return _NOT_ALLOWED
    fields = request.fields
    if fields.token is None and fields.timeout is None and not fields.wants_leader:
        return found.anonymous
    try:
        return found.for_caller(_caller(fields))
    except Status as status:
        return constant(error_answer(status))


def call_of(call: Call, gone: Callable[[], bool]) -> Call:
    """The call of a client of whom one can ask whether it has gone."""
    caller: Caller = call.options["caller"]
    return call._replace(options={**call.options, "caller": caller._replace(gone=gone)})


def _caller(fields: Fields) -> Caller:
    token = None if fields.token is None else fields.token.decode("latin-1")
    caller = Caller(token, wants_leader=fields.wants_leader)
    return caller if fields.timeout is None else caller._replace(until=time.monotonic() + _seconds(fields.timeout))


def _seconds(text: bytes) -> float:
    if not text:
        return math.inf
    found = _TIMEOUT.fullmatch(text)
    if found is None:
        raise Status(Code.INVALID_ARGUMENT, f"invalid grpc-timeout: {text.decode('utf-8', 'replace')}")
    wrapped = (int(found[1]) * _UNITS_NS[found[2]] + (1 << 63)) % (1 << 64) - (1 << 63)  # as Go's 64 bits do
    return wrapped / 1e9 or math.inf  # 0 is none


def _clean(path: bytes) -> bytes:
    """The path without empty parts and dots; a slash at its end stays. "/v3" alone is "/v3/"."""
    if path == b"/v3":
        return PREFIX
    clean = posixpath.normpath(b"/" + path.lstrip(b"/"))
    return clean + b"/" if path.endswith(b"/") and clean != b"/" else clean


def _moved(request: Request, path: bytes, query: bytes) -> Call:
    location = quote_from_bytes(path, "/:@!$&'()*+,;=~-._").encode() + (b"?" + query if query else b"")
    headers = CORS_FIELDS + b"Location: %b\r\n" % location
    body = b""
    if request.method in (b"GET", b"HEAD"):
        headers += b"Content-Type: text/html; charset=utf-8\r\n"
        escaped = location.replace(b"&", b"&amp;").replace(b"'", b"&#39;")
        body = b'<a href="%b">Moved Permanently</a>.\n\n' % escaped
    return constant(Answer(301, body, headers))
