"""A method that answers once: its body becomes a message, and the response, or what went wrong, an answer.

    body ─▶ parse ─▶ size ─▶ a leader, if one is wanted ─▶ check ─▶ whose token ─▶ barrier and view ─▶ evaluate ─┬▶ render ─▶ 200
             │         │              │                      │           │     └─▶ through Raft ───────────────────┘
             └─────────┴──────────────┴──── Status ──────────┴───────────┴─────────────▶ {"error": …, "code": …, "message": …}

The order is etcd's, and it shows: a request that is wrong in itself is told so, no matter who sent it. In a connection's thread
`answer` does all of it. In the node's loop (server/loop_calls.py) the same parts are done in two halves, around the wait.

Follows grpc-gateway 1.16's runtime/handler.go, and etcd's server/etcdserver/api/v3rpc/interceptor.go.
"""

from __future__ import annotations

import math
import threading
import time
from typing import Any

from engines.coding import put_varint
from server.answers import JSON, Answer
from server.strangers import CORS_FIELDS
from server.v3.etcd import REQUEST_S, Etcd
from server.v3.failures import DEADLINE, check, patiently, status_of
from server.v3.jsonpb import parse, render
from server.v3.messages import Message
from server.v3.method import Call, Caller, Read, Write
from server.v3.rpc_raft import entry_head
from server.v3.status import NO_LEADER, Code, Status
from server.v3.wire import encode

__all__ = ["ERROR_JSON", "GRPC_JSON", "Unary", "answer", "begin", "entry_of", "error_answer", "response_answer"]

Unary = Write | Read | Call

MESSAGE_BYTES_MAX = 2 << 20  # what etcd's gRPC server takes: 1.5 MiB and 512 KiB for what is around them
LARGE_BYTES = 256 << 10  # of a body
_one_at_a_time = threading.Lock()  # JSON of nothing but brackets takes a hundred times its bytes, until it is refused
UNCHUNKED_BYTES_MAX = 2048  # up to which Go's server sends a Content-Length by itself

GRPC_JSON = CORS_FIELDS + JSON + b"Grpc-Metadata-Content-Type: application/grpc\r\n"
ERROR_JSON = CORS_FIELDS + JSON


def answer(etcd: Etcd, method: Unary, caller: Caller, body: bytes) -> Answer:
    """The answer to a request. Raises nothing. Waits; for a thread."""
    request = None
    try:
        request, method = begin(etcd, method, caller, body)
        if isinstance(method, Call):
            return response_answer(method.run(etcd, caller, request))
        heedless = isinstance(method, Read) and method.heedless
        caller = etcd.auth.identify_if_on(caller) if heedless else etcd.identify(caller)
        if isinstance(method, Read):
            return response_answer(_read(etcd, method, caller, request))
        return response_answer(etcd.ask(caller, method.field, request))
    except Exception as error:
        status = status_of(error, isinstance(method, Read) and not method.as_write)
        # etcd's gateway looks at the time itself, whatever the server says; but first it reads the body
        if request is not None and caller.until <= time.monotonic():
            status = Status(Code.DEADLINE_EXCEEDED, DEADLINE)
        return error_answer(status)


def begin(etcd: Etcd, method: Unary, caller: Caller, body: bytes) -> tuple[Message, Unary]:
    """The request in a body, looked at as far as it can be by itself, and the method that it is: a Write that changes nothing
    is a Read. Raises Status."""
    if len(body) > LARGE_BYTES:
        with _one_at_a_time:
            request = parse(method.request, body)
    else:
        request = parse(method.request, body)
    if len(body) > MESSAGE_BYTES_MAX and (size := len(encode(request))) > MESSAGE_BYTES_MAX:
        sentence = f"grpc: received message larger than max ({size} vs. {MESSAGE_BYTES_MAX})"
        raise Status(Code.RESOURCE_EXHAUSTED, sentence)
    if caller.until != math.inf:
        check(caller)
    if caller.wants_leader and not etcd.has_leader():
        raise Status(*NO_LEADER)
    if not isinstance(method, Call):
        method.check(request)
        if isinstance(method, Write) and method.read is not None and method.reads(request):
            return request, method.read
    return request, method


def _read(etcd: Etcd, method: Read, caller: Caller, request: Message) -> Any:
    if not method.serializable(request):
        patiently(etcd.barrier, caller, REQUEST_S)
    check(caller)
    with etcd.view() as view:
        return method.evaluate(etcd, view, caller, request)


def entry_of(method: Write, caller: Caller, request: Message) -> bytes:
    """The bytes of the InternalRaftRequest that `Etcd.ask` makes, with who asks, put together here: nearly all of its forty
    fields are absent in every request, and to look at each of them took a tenth of a put's time in the leader's thread."""
    data = encode(request)
    return b"".join((entry_head(method.field, caller.username, caller.auth_revision), put_varint(len(data)), data))


def response_answer(response: Message) -> Answer:
    """200 with a response. O(bytes)."""
    body = render(response)
    return Answer(200, body, GRPC_JSON, one_chunk=len(body) > UNCHUNKED_BYTES_MAX)


def error_answer(status: Status) -> Answer:
    """A call's end without a result."""
    body = status.body()
    return Answer(status.http_status, body, ERROR_JSON, one_chunk=len(body) > UNCHUNKED_BYTES_MAX)
