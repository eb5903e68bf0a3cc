"""What the server answers: a table of routes, and a function for each.

    GET     /key       ?consistency=linearizable|lease|stale            200 and the value's bytes, or 404
    PUT     /key       ?wait=true|false                                 204 with X-Metcd-Index, when applied
    DELETE  /key       ?wait=true|false                                 204 with X-Metcd-Index, when applied
    GET     /_/scan    ?start= &stop= &prefix= &limit= &reverse= &consistency=     200, a line for each pair
    POST    /_/batch   a line for each operation                        200 {"index": 17, "count": 3}, all or nothing
    POST    /_/digest, GET /_/digest?index=                             hashes of a state (server/routes_digest.py)
    POST    /_/sessions                                                 200 {"session": 17} (server/routes_sessions.py)
    GET     /_/snapshot   ?consistency=                                 200 and a snapshot file (server/routes_snapshot.py)
    GET     /_/members, POST, PUT, DELETE /_/members/<id>               who takes part (server/routes_members.py)
    POST    /_/leader/<id>                                              200 once that node leads (server/routes_leader.py)
    GET     /_/page, /_/feed, /_/describe, /_/explain, /_/bytes         the live page (server/routes_page.py)
    GET     /_/status, /_/health, /_/metrics                            200; health: 503 if the cluster doesn't answer
    GET     /health, /version, /metrics                                 as etcd answers them (server/v3/monitoring.py)

HEAD is answered wherever GET is. A line of a scan, and a line of a batch (both NDJSON, bytes in base64):

    {"key":"aGVsbG8=","value":"d29ybGQ="}
    {"op":"put","key":"aGVsbG8=","value":"d29ybGQ="}        {"op":"delete","key":"aGVsbG8="}

    POST    /v3/…, /v3beta/…                                            etcd's JSON gateway (server/v3/routes.py)

A path is the key, percent-decoded, without its first "/". Keys that begin with "_/", "v3/" or "v3beta/" are reserved, however
they are written, and so are the keys that etcd has pages for (RESERVED_KEYS): a batch or the gateway can write those, and a
scan or the gateway can read them. In a query "+" is a plus, as it is in a path. Unknown parameters are refused, because
`?consistancy=stale` would otherwise get what it didn't ask for.

Two steps, because what is wrong with a request is to be said before its body is read: `find_call` looks at the head
alone and raises BadRequest, `perform` has the body and always answers. Neither knows sockets. What an error means:

    400 404 405 411 413   the request is wrong: nothing was done
    401 403               who asks may not do that: nothing was done (server/access.py)
    409 410               this sending of a session's request did nothing; an earlier one may have (server/sessions.py)
    409                   also a change of the members that must not be made: nothing was done (server/changes.py)
    503, Retry-After      no leader, too much waiting, stopping: nothing was done; ask again, or another node
    504                   the outcome is unknown: the write may be applied, now or later
    500                   a failed store, or a bug of ours; it is logged. Or the alarm CORRUPT is raised: nothing was done
    507                   the alarm NOSPACE is raised, and this puts something: nothing was done

Their body is {"error": "one sentence"}. For `server.client`, X-Metcd-Error names the class in server/errors.py, and
tells a path that doesn't exist (NoSuchPath) from a key that doesn't.
"""

from __future__ import annotations

import json
from binascii import a2b_base64
from collections.abc import Callable
from itertools import islice

from engines.errors import InvalidKey, InvalidValue, StoreClosed
from server.access import readmit, require_writes, settle
from server.answers import (
    JSON,
    NDJSON,
    NO_OPTIONS,
    OCTETS,
    PROMETHEUS,
    Answer,
    Call,
    Node,
    Options,
    Parameters,
    Right,
    Route,
    Run,
    Serving,
    Writer,
    error_answer,
)
from server.errors import (
    ChangeRefused,
    Corrupt,
    NodeError,
    NodeStopped,
    NoLeader,
    NoSpace,
    NumberPassed,
    OutcomeUnknown,
    Overloaded,
    PermissionDenied,
    SessionExpired,
    TooLarge,
)
from server.limits import KEY_BYTES_MAX
from server.logs import logger
from server.metrics import render
from server.ndjson import BLOCK_BYTES, chained, lines_of
from server.request import CHUNKED_SENTENCE, BadRequest, Request, percent_decode
from server.routes_digest import answer_digest, mark
from server.routes_leader import hand_over
from server.routes_members import MEMBER_ROUTES, answer_members
from server.routes_page import PAGE, PAGE_FILES, PAGE_ROUTES
from server.routes_sessions import open_session, serial_of, writer
from server.routes_snapshot import answer_snapshot
from server.strangers import CORS_FIELDS
from server.v3 import monitoring
from server.v3 import routes as v3
from server.v3.services import TABLE

__all__ = [
    "Answer",
    "Call",
    "Node",
    "Serving",
    "about_the_node",
    "call_name",
    "error_answer",
    "find_call",
    "perform",
]

RESERVED = (b"_/", *(root[1:] for root in v3.ROOTS))
RESERVED_KEYS = frozenset((b"v3", b"version", b"health", b"metrics"))  # whose paths are etcd's
_RESERVED_SENTENCE = "Paths that begin with /_/ are reserved, and there is nothing under this one."
RETRY_AFTER_S = 1  # an election takes that long

_log = logger("http")

_ABSENT = error_answer(404, "There is no such key.")


# ---- keys -----------------------------------------------------------------------------------------------------------


def answer_get(server: Serving, key: bytes, options: Options, body: bytes) -> Answer:
    """GET: the key's value (`answer_found`), once it may be read.

    It is looked up after the node's `read_barrier` has returned, for the consistency that `options` asks for
    ("consistency"; "linearizable" if it isn't there). What the barrier raises passes through: `perform` makes an answer of
    it.
    """
    server.node.read_barrier(options.get("consistency", "linearizable"))
    return answer_found(server, key)


def answer_found(server: Serving, key: bytes) -> Answer:
    """What the engine here has now: 200 with the value's bytes, or 404. Whether that is recent enough was asked before."""
    value = server.node.machine.lookup(key)
    return _ABSENT if value is None else Answer(200, value, OCTETS)


def _put(server: Serving, key: bytes, options: Options, body: bytes) -> Answer:
    return answer_write(writer(server.node, options), key, body, options)


def _delete(server: Serving, key: bytes, options: Options, body: bytes) -> Answer:
    return answer_write(writer(server.node, options), key, None, options)


def answer_write(node: Writer, key: bytes, value: bytes | None, options: Options) -> Answer:
    """PUT and DELETE (value None): 204 without a body, once the write is applied.

    The one operation goes to `node.propose`, and the header line `X-Metcd-Index: N` with its CR LF says at which index it
    was applied. If `options` has "wait" as False: `node.propose_nowait`, and no header, because there is no index yet.
    What these raise passes through.
    """
    if options.get("wait", True):
        return Answer(204, b"", b"X-Metcd-Index: %d\r\n" % node.propose([(key, value)]))
    node.propose_nowait([(key, value)])
    return Answer(204)


# ---- scan and batch -------------------------------------------------------------------------------------------------


def _scan(server: Serving, key: bytes, options: Options, body: bytes) -> Answer:
    server.node.read_barrier(options.get("consistency", "linearizable"))
    pairs = server.node.machine.scan(
        options.get("start", b""),
        options.get("stop"),
        prefix=options.get("prefix"),
        reverse=options.get("reverse", False),
    )
    blocks = lines_of(islice(pairs, options.get("limit")))
    first = next(blocks, b"")  # what fails at once fails here, and can still be said
    if len(first) < BLOCK_BYTES:
        return Answer(200, first, NDJSON)
    return Answer(200, chained(first, blocks), NDJSON)


def _batch(server: Serving, key: bytes, options: Options, body: bytes) -> Answer:
    operations = []
    for number, line in enumerate(body.split(b"\n"), 1):
        if line.strip():
            try:
                operations.append(_operation(line))
            except (ValueError, RecursionError) as error:
                raise BadRequest(400, f"Line {number} of the batch is refused, so nothing was done: {error}") from None
    if not operations:
        raise BadRequest(400, "A batch has one operation a line, and this one has none.")
    if "who" in options:
        require_writes(server.node.etcd.auth, options["who"], (key for key, _ in operations))
    index = writer(server.node, options).propose(operations)
    return Answer(200, b'{"index":%d,"count":%d}\n' % (index, len(operations)), JSON)


_MEMBERS = {"put": {"op", "key", "value"}, "delete": {"op", "key"}}


def _operation(line: bytes) -> tuple[bytes, bytes | None]:
    """One line of a batch. Raises ValueError with a sentence, RecursionError for JSON that is too deep."""
    try:
        operation = json.loads(line.decode())
    except ValueError:
        raise ValueError("it is not one JSON object on one line (curl needs --data-binary)") from None
    op = operation.get("op") if isinstance(operation, dict) else None
    if not isinstance(op, str) or op not in _MEMBERS or operation.keys() != _MEMBERS[op]:
        raise ValueError('it must be {"op": "put", "key": …, "value": …} or {"op": "delete", "key": …}')
    key = _from_base64(operation["key"])
    fault = _key_fault(key)
    if fault is not None:
        raise ValueError(fault)
    return key, _from_base64(operation["value"]) if op == "put" else None


def _from_base64(text: object) -> bytes:
    if isinstance(text, str):
        try:
            return a2b_base64(text, strict_mode=True)
        except ValueError:
            pass
    raise ValueError("keys and values must be strings in base64, padded with '='")


# ---- the node -------------------------------------------------------------------------------------------------------


def _status(server: Serving, key: bytes, options: Options, body: bytes) -> Answer:
    return Answer(200, json.dumps(server.node.status(), indent=2).encode() + b"\n", JSON)


def _health(server: Serving, key: bytes, options: Options, body: bytes) -> Answer:
    if not server.node.alive():
        return error_answer(503, "The node has stopped, or has not started yet.")
    if options.get("serializable", False):
        return Answer(200, b'{"alive": true}\n', JSON)
    healthy, report = server.node.health()
    return Answer(200 if healthy else 503, json.dumps(report, indent=2).encode() + b"\n", JSON)


def _metrics(server: Serving, key: bytes, options: Options, body: bytes) -> Answer:
    """Prometheus's text format (server/metrics.py)."""
    return Answer(200, render([server.node.metrics(), server.metrics()]), PROMETHEUS)


def _etcd_page(server: Serving, key: bytes, options: Options, body: bytes) -> Answer:
    """/health, /version and /metrics as etcd has them (server/v3/monitoring.py)."""
    answer = monitoring.about_the_node(server, options["verb"], key, options["query"])
    return answer._replace(headers=CORS_FIELDS + answer.headers)


# ---- the table ------------------------------------------------------------------------------------------------------


def _word(*allowed: str) -> Callable[[bytes], str]:
    def read(text: bytes) -> str:
        word = text.decode("ascii", "replace")
        if word not in allowed:
            raise ValueError(f"must be {' or '.join(allowed)}")
        return word

    return read


def _truth(text: bytes) -> bool:
    return _word("true", "false")(text) == "true"


def _count(text: bytes) -> int:
    if not text.isdigit() or len(text) > 15 or int(text) == 0:
        raise ValueError("must be a number from 1")
    return int(text)


_WAIT: Parameters = {b"wait": _truth}
_READ: Parameters = {b"consistency": _word("linearizable", "lease", "stale")}
_RANGE: Parameters = {b"start": bytes, b"stop": bytes, b"prefix": bytes, b"limit": _count, b"reverse": _truth}

GET, PUT = Route(answer_get, _READ, right=Right.READ), Route(_put, _WAIT, True, True, Right.WRITE)
DELETE = Route(_delete, _WAIT, writes=True, right=Right.WRITE)
KEY_ROUTES = {b"GET": GET, b"PUT": PUT, b"DELETE": DELETE}
ETCD_PAGE = Route(_etcd_page, right=Right.OPEN)
ROUTES = {
    b"/_/scan": {b"GET": Route(_scan, {**_RANGE, **_READ}, right=Right.READ)},
    b"/_/batch": {b"POST": Route(_batch, {}, True, True, Right.WRITE)},
    b"/_/digest": {b"POST": Route(mark), b"GET": Route(answer_digest, {b"index": _count, b"after": bytes})},
    b"/_/sessions": {b"POST": Route(open_session, right=Right.KNOWN)},
    b"/_/members": {b"GET": Route(answer_members, _READ, right=Right.KNOWN)},
    b"/_/snapshot": {b"GET": Route(answer_snapshot, _READ)},
    b"/_/status": {b"GET": Route(_status, right=Right.OPEN)},
    b"/_/health": {b"GET": Route(_health, {b"serializable": _truth}, right=Right.OPEN)},
    b"/_/metrics": {b"GET": Route(_metrics, right=Right.OPEN)},
    **PAGE_ROUTES,
}
NUMBERED = {  # what follows is given to the function in the place of a key
    b"/_/leader/": {b"POST": Route(hand_over)},
    b"/_/members/": MEMBER_ROUTES,
    b"/_/page/": PAGE_FILES,
}


def call_name(run: Run) -> str:
    """A route's function in one word, for lines and labels: "get" is answer_get."""
    return run.__name__.strip("_").removeprefix("answer_")


def about_the_node(call: Call) -> bool:
    """True for what tells of the node itself, and is answered when there is room for nothing else."""
    return call.route.run in (_status, _health, _metrics, _etcd_page)


def find_call(request: Request) -> Call:
    """What a request's head asks for. Raises BadRequest: 400, 404, 405, or 411 for a body without a length."""
    path, _, query = request.target.partition(b"?")
    if path.startswith(b"/v3") and v3.is_ours(path):
        return v3.find(TABLE, request, percent_decode(path), query)
    routes = ROUTES.get(path)
    key = b""
    if routes is None and path.startswith(b"/_/"):
        subject, slash, key = path.rpartition(b"/")
        routes = NUMBERED.get(subject + slash)
    if routes is None:
        routes = KEY_ROUTES
        key = percent_decode(path[1:])
        if key.startswith(b"v3") and v3.is_ours(b"/" + key):
            return v3.find(TABLE, request, b"/" + key, query)
        if key.startswith(RESERVED):
            raise BadRequest(404, _RESERVED_SENTENCE, b"X-Metcd-Error: NoSuchPath\r\n")
        if b"/" + key in monitoring.PATHS and not (key == b"metrics" and request.method in (b"PUT", b"DELETE")):
            return Call(ETCD_PAGE, b"/" + key, {"verb": request.method, "query": query})
        fault = _key_fault(key) or ("there is etcd's own page at this one" if key in RESERVED_KEYS else None)
        if fault is not None and path == b"/" and request.fields.html:
            routes, fault = PAGE_FILES, None
        if fault is not None:
            raise BadRequest(400, f"The path is the key, and {fault}.")
    route = routes.get(b"GET" if request.method == b"HEAD" else request.method)
    if route is None:
        allowed = b", ".join([*routes, b"HEAD"] if b"GET" in routes else routes)
        raise BadRequest(405, f"The methods of this path are {allowed.decode()}.", b"Allow: %b\r\n" % allowed)
    options = _options(query, route) if query else NO_OPTIONS
    if request.fields.serial is not None:
        if not route.writes:
            raise BadRequest(400, "X-Metcd-Request is for what writes keys: PUT, DELETE and POST /_/batch.")
        options = {**options, "serial": serial_of(request.fields.serial)}
    if route is PAGE:
        options = {**options, "host": request.fields.host, "known": request.fields.known}
    if request.fields.chunked:
        raise BadRequest(411, CHUNKED_SENTENCE)
    if route.needs_length and request.fields.content_length is None:
        raise BadRequest(411, "This request must come with a Content-Length (curl sends one with -d, even with -d '').")
    return Call(route, key, options)


def _key_fault(key: bytes) -> str | None:
    """Why a key is refused, or None. What GET can't reach, a batch must not write."""
    if not key:
        return "a key has at least one byte"
    if len(key) > KEY_BYTES_MAX:
        return f"a key has at most {KEY_BYTES_MAX:,} bytes, and this one has {len(key):,}"
    if key.startswith(RESERVED):
        return "keys that begin with '_/', 'v3/' or 'v3beta/' are reserved"
    return None


def _options(query: bytes, route: Route) -> Options:
    options: Options = {}
    for part in query.split(b"&"):
        name, _, text = part.partition(b"=")
        word = name.decode("ascii", "replace")
        reader = route.parameters.get(name)
        if reader is None:
            known = ", ".join(parameter.decode() for parameter in route.parameters) or "none"
            raise BadRequest(400, f"The query has a parameter that this path doesn't take; it takes: {known}.")
        if word in options:
            raise BadRequest(400, f"The query has the parameter {word} twice.")
        try:
            options[word] = reader(percent_decode(text))
        except ValueError as error:
            raise BadRequest(400, f"The parameter {word} {error}.") from None
    return options


_STATUS_OF: dict[type[NodeError], int] = {
    NoLeader: 503, Overloaded: 503, NodeStopped: 503, OutcomeUnknown: 504, TooLarge: 413,
    ChangeRefused: 409, NumberPassed: 409, SessionExpired: 410, PermissionDenied: 403, NoSpace: 507, Corrupt: 500,
}  # fmt: skip


def perform(server: Serving, call: Call, body: bytes) -> Answer:
    """Runs a call. Whatever goes wrong becomes an answer; nothing is raised."""
    try:
        auth = server.node.etcd.auth
        if auth.enabled:
            readmit(auth, call)
        answer = call.route.run(server, call.key, call.options, body)
        if auth.enabled:
            settle(auth, call)
        return answer
    except Exception as error:
        return failure_answer(error, call_name(call.route.run))


def failure_answer(error: Exception, what: str) -> Answer:
    """The answer in place of a result, whatever was raised. what: failed, for the log, if that is a fault of ours."""
    if isinstance(error, BadRequest):
        return error_answer(error.status, error.sentence, error.headers)
    if isinstance(error, NodeError):
        return answer_error(error)
    if isinstance(error, StoreClosed):
        return answer_error(NodeStopped("the node has stopped"))
    if isinstance(error, InvalidKey | InvalidValue):
        return error_answer(400, str(error))
    _log.error("a request failed: %s", what, exc_info=error)
    return error_answer(500, f"The server failed to answer ({type(error).__name__}); its log says more.")


def answer_error(error: NodeError) -> Answer:
    """What a client is told in place of a result: an `error_answer` with the error's sentence.

    The status says what the client may do: it is the one that `_STATUS_OF` has for the error's class, and 503 for every
    other class. 503: nothing was done, and it may be sent again; the others are explained on top of this file. The header
    line `X-Metcd-Error` names the class; 503 has `Retry-After: 1` as well. Header lines end in CR LF.
    """
    status = _STATUS_OF.get(type(error), 503)
    headers = b"X-Metcd-Error: %b\r\n" % type(error).__name__.encode()
    if status == 503:
        headers += b"Retry-After: %d\r\n" % RETRY_AFTER_S
    return error_answer(status, str(error), headers)
