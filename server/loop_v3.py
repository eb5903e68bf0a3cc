"""Methods of etcd's gateway in the node's loop: those that wait for nothing but the node begin there, and are answered by it.

    begin ─┬─ a Write ──▶ an InternalRaftRequest into the inbox ──▶ … ──▶ applied here: its response ──▶ answer
           ├─ a light Read ──▶ a read barrier ──▶ … ──▶ confirmed ──▶ evaluated on the newest view ────▶ answer
           ├─ one that is serializable ─────────────────────────────▶ evaluated at once ───────────────▶ answer
           └─ anything else ──▶ a thread goes on with it: a read of many keys, no leader, an unknown token

It is `server.v3.unary.answer` in two halves, with the same parts; tests/server/test_loop_clients.py compares the bytes of the two.
A write for which there was no leader is surely in no log: it is given to a thread, which waits for one.
"""

from __future__ import annotations

from server.answers import Answer, Call
from server.errors import NodeError, NoLeader, OutcomeUnknown
from server.evaluation import Evaluated, Request
from server.limits import BODY_BYTES_MAX
from server.loop_calls import Begun, Serves, Then
from server.reads import Outcome
from server.v3.etcd import REQUEST_S, Etcd
from server.v3.failures import DEADLINE, status_of
from server.v3.fast_put import entry_of_body, render_put
from server.v3.kv_service import PUT
from server.v3.messages import Message
from server.v3.method import Caller, Read, Write
from server.v3.rpc import PutResponse
from server.v3.status import REQUEST_TOO_LARGE, Code, Status
from server.v3.unary import GRPC_JSON, begin, entry_of, error_answer, response_answer

__all__ = ["begin_v3", "is_simple_v3"]


class BegunV3Write(Begun):
    """A request on its way through Raft."""

    __slots__ = ("_etcd",)

    def __init__(self, then: Then, etcd: Etcd) -> None:
        super().__init__(then)
        self._etcd = etcd

    def answer(self, outcome: Outcome) -> Answer | None:
        if isinstance(outcome, Evaluated):
            result = outcome.answer
            if isinstance(result, Message):
                body = render_put(result) if type(result) is PutResponse else None
                return response_answer(result) if body is None else Answer(200, body, GRPC_JSON)
            assert isinstance(result, Exception)
            return error_answer(status_of(result))
        if isinstance(outcome, NoLeader):
            return None
        assert isinstance(outcome, NodeError)
        return error_answer(status_of(outcome))

    def expired(self) -> Answer:
        self.give_up()
        late = OutcomeUnknown("the request was not applied in time and may still be")
        return error_answer(status_of(late) if self._etcd.has_leader() else Status(Code.UNKNOWN, DEADLINE))


class BegunV3Read(Begun):
    """A read that waits until what is applied here is recent enough."""

    __slots__ = ("_caller", "_etcd", "_method", "_request")

    def __init__(self, then: Then, etcd: Etcd, method: Read, caller: Caller, request: Message) -> None:
        super().__init__(then)
        self._etcd = etcd
        self._method = method
        self._caller = caller
        self._request = request

    def answer(self, outcome: Outcome) -> Answer:
        if isinstance(outcome, NodeError):
            return error_answer(status_of(outcome, reads=True))
        return self.evaluated()

    def evaluated(self) -> Answer:
        """The answer of what the engine has now."""
        etcd = self._etcd
        try:
            newest = etcd.node.machine.newest
            return response_answer(self._method.evaluate(etcd, newest, self._caller, self._request))
        except Exception as error:
            return error_answer(status_of(error, reads=True))

    def expired(self) -> Answer:
        self.give_up()
        return error_answer(status_of(NoLeader("no leader confirmed the read in time"), reads=True))


def is_simple_v3(call: Call) -> bool:
    """True if `begin_v3` takes the call, as far as its head says."""
    options = call.options
    return bool(options) and type(options.get("method")) in (Write, Read) and options["caller"].until == float("inf")


def begin_v3(server: Serves, call: Call, body: bytes, then: Then) -> Answer | Begun | None:
    """Begins a simple call of etcd's, as server.loop_calls.begin does; None if it is one for a thread after all."""
    etcd, caller = server.node.etcd, call.options["caller"]
    try:
        method = call.options["method"]
        if method is PUT and caller.token is None and not caller.wants_leader and etcd.has_leader():
            data = entry_of_body(body)  # what came in a recv or two is below all limits of size
            if data is not None:
                write = BegunV3Write(then, etcd)
                server.begins.write([Request(data)], write, REQUEST_S)
                return write
        request, method = begin(etcd, method, caller, body)
        if isinstance(method, Read) and not method.light(request):
            return None
        if caller.token is not None:
            if not etcd.auth.ready(caller):
                return None
            caller = etcd.identify(caller)
        if isinstance(method, Read):
            read = BegunV3Read(then, etcd, method, caller, request)
            if method.serializable(request):
                return read.evaluated()
            server.begins.read(read, timeout_s=REQUEST_S)
            return read
        assert isinstance(method, Write)
        if not etcd.has_leader():
            return None
        data = entry_of(method, caller, request)
        if len(data) > BODY_BYTES_MAX:
            return error_answer(Status(*REQUEST_TOO_LARGE))
        write = BegunV3Write(then, etcd)
        server.begins.write([Request(data)], write, REQUEST_S)
        return write
    except Exception as error:
        return error_answer(status_of(error))
