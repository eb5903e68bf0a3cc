"""`metcd front`: our HTTP interface over a real etcd cluster, for who has outgrown this project.

    PUT /key, GET, DELETE, /_/scan, /_/batch ──▶ FrontEnd (server/http.py), as in front of a node ──▶ FrontNode ──▶ EtcdClient ──▶ etcd

A FrontNode has the interface of server.node.Node, as far as clients see it, and no state that anybody would miss: as many fronts
as one likes, started and killed at any time. What stands for what:

| ours                          | etcd                                                                                        |
|-------------------------------|---------------------------------------------------------------------------------------------|
| linearizable, lease           | a linearizable range                                                                        |
| stale                         | a serializable range                                                                        |
| X-Metcd-Index                 | the revision of the write                                                                   |
| a batch                       | a transaction; of several operations on a key, the last one; etcd has a limit of 128        |
| a session                     | a key under `_/session/` that holds the number of its last write, with a lease of SESSION_TTL_S |
| a write of a session          | a transaction: if the number is greater than that of the key, the writes and the number     |

1. A write is sent to etcd once, unless it can't have done anything: 504 and 503 mean what they mean in front of a node.
2. A write of a session is carried out once, even if several fronts send it: the key of the session decides. Its mod revision is
   the index of the first time.
3. A scan sees one revision, page by page.
4. Keys that begin with "_/" are nobody's here: a scan leaves them out.

All else (members, snapshots, the page, etcd's own paths) is 501: ask the etcd.
"""

from __future__ import annotations

import secrets
import struct
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, NoReturn

from engines.bounds import scan_bounds
from engines.kvstore import Operation, Pair, Snapshot
from server.answers import Call, Machine
from server.errors import NodeError, NoSpace, NumberPassed, Overloaded, SessionExpired, TooLarge
from server.etcd_client import EtcdClient
from server.etcd_pages import FIRST_PAGE_KEYS, next_page_keys
from server.health import Health
from server.http import FrontEnd
from server.metrics import Metrics, describe, labelled
from server.principal import Principal
from server.request import BadRequest, Request
from server.routes import call_name
from server.sessions import MARK, OPENS, Serial
from server.v3 import rpc, status
from server.v3.etcd import Etcd
from server.v3.status import Code, Status

__all__ = ["Front", "FrontNode"]

SESSION_PREFIX = b"_/session/"
SESSION_TTL_S = 24 * 3600
SESSION_RENEWED_S = 3600.0  # how often this front renews a session's lease at most
SERVED = {"get", "put", "delete", "scan", "batch", "open_session", "status", "health", "metrics"}  # routes' functions
RENEWALS_MAX = 10_000  # that are remembered; then all are forgotten, which costs a renewal each

_NUMBER = struct.Struct(">Q")  # big-endian: etcd compares values as bytes
_OURS = b"_/"

describe({"front_sent_total": "What the front sent to etcd, by the status that came back."})


class Front(FrontEnd):
    """The front end of a FrontNode: that of a node, which answers what SERVED names."""

    def find_call(self, request: Request) -> Call:
        call = super().find_call(request)
        if call_name(call.route.run) not in SERVED:
            _not_here()
        return call


class FrontNode:
    """What FrontEnd serves in place of a node. For any thread."""

    loop = None  # each connection has a thread of its own
    begins: Any = None

    def __init__(self, client: EtcdClient) -> None:
        self._client = client
        self._asked = threading.local()  # the consistency that this thread's read_barrier asked for
        self._renewed: dict[int, float] = {}
        self.etcd = Etcd()  # of no node: nobody is asked who they are, because it has no users
        self.machine: Machine = _FrontMachine(client, self._asked)

    # ---- reads ------------------------------------------------------------------------------------------------------

    def read_barrier(self, consistency: str = "linearizable") -> int:
        """Nothing is asked yet: the range that follows in this thread is as consistent as this says. Returns 0."""
        self._asked.stale = consistency == "stale"
        return 0

    # ---- writes -----------------------------------------------------------------------------------------------------

    def propose(self, operations: Sequence[Operation | Serial | Principal]) -> int:
        """Writes all or nothing, and returns the revision. Raises NodeError, BadRequest for what etcd refuses."""
        if operations[0] == OPENS:
            return self._open_session()
        if operations[0] == MARK:
            _not_here()
        serial = operations[0] if isinstance(operations[0], Serial) else None
        last = dict(
            operation for operation in operations if not isinstance(operation, Serial | Principal)
        )  # of each key
        changes = [_change(key, value) for key, value in last.items()]
        try:
            return self._write(changes) if serial is None else self._write_once(serial, changes)
        except Status as refused:
            raise _translated(refused) from None

    def propose_nowait(self, operations: Sequence[Operation | Serial | Principal]) -> None:
        """The same, and waits all the same: nothing else would keep the number of writes on their way in bounds."""
        self.propose(operations)

    def _write(self, changes: list[rpc.RequestOp]) -> int:
        first = changes[0]
        answer: rpc.PutResponse | rpc.DeleteRangeResponse | rpc.TxnResponse
        if len(changes) > 1:
            answer = self._client.tell("kv/txn", rpc.TxnRequest(success=changes), rpc.TxnResponse)
        elif first.request_put is not None:
            answer = self._client.tell("kv/put", first.request_put, rpc.PutResponse)
        else:
            assert first.request_delete_range is not None
            answer = self._client.tell("kv/deleterange", first.request_delete_range, rpc.DeleteRangeResponse)
        return answer.header.revision if answer.header else 0

    def _write_once(self, serial: Serial, changes: list[rpc.RequestOp]) -> int:
        """A write of a session. Raises SessionExpired, NumberPassed, and what `_write` raises."""
        key, number = _session_key(serial.session), _NUMBER.pack(serial.number)
        equal, less = rpc.Compare.CompareTarget.VALUE, rpc.Compare.CompareResult.LESS
        noted = rpc.PutRequest(key=key, value=number, ignore_lease=True)
        asked = rpc.TxnRequest(
            compare=[rpc.Compare(target=equal, result=less, key=key, value=number)],
            success=[*changes, rpc.RequestOp(request_put=noted)],
            failure=[rpc.RequestOp(request_range=rpc.RangeRequest(key=key))],
        )
        answer = self._client.tell("kv/txn", asked, rpc.TxnResponse)
        if answer.succeeded:
            self._renew(serial.session)
            return answer.header.revision if answer.header else 0
        found = answer.responses[0].response_range
        if found is None or not found.kvs:
            raise SessionExpired(f"session {serial.session} is forgotten: this request did nothing")
        if found.kvs[0].value != number:
            raise NumberPassed(f"a later request of session {serial.session} was carried out: this one did nothing")
        return found.kvs[0].mod_revision

    def _open_session(self) -> int:
        """A key that holds 0, with a lease of the session's number."""
        session = secrets.randbelow(10**17) + 1  # 18 digits at most, as X-Metcd-Request has them
        try:
            self._client.tell(
                "lease/grant", rpc.LeaseGrantRequest(ID=session, TTL=SESSION_TTL_S), rpc.LeaseGrantResponse
            )
            self._write([_change(_session_key(session), _NUMBER.pack(0), session)])
        except Status as refused:
            raise _translated(refused) from None
        return session

    def _renew(self, session: int) -> None:
        """Gives a session its whole time again, once in a while. That it fails does no harm: the next write renews it."""
        now = time.monotonic()
        if now - self._renewed.get(session, -SESSION_RENEWED_S) < SESSION_RENEWED_S:
            return
        if len(self._renewed) >= RENEWALS_MAX:
            self._renewed.clear()
        self._renewed[session] = now
        try:
            self._client.ask("lease/keepalive", rpc.LeaseKeepAliveRequest(ID=session), rpc.LeaseKeepAliveResponse)
        except (Status, NodeError):
            self._renewed.pop(session, None)

    # ---- how it is --------------------------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """What each etcd says of itself."""
        return {"front": True, "etcd": [self._status_of(at) for at in range(len(self._client.urls))]}

    def _status_of(self, at: int) -> dict[str, Any]:
        url = self._client.urls[at]
        try:
            said = self._client.ask_at(at, "maintenance/status", rpc.StatusRequest(), rpc.StatusResponse)
        except (NodeError, Status) as error:
            return {"url": url, "error": str(error)}
        header = said.header or rpc.ResponseHeader()
        return {
            "url": url,
            "member_id": header.member_id,
            "version": said.version,
            "leads": said.leader == header.member_id,
            "leader": said.leader or None,
            "term": said.raftTerm,
            "revision": header.revision,
        }

    def alive(self) -> bool:
        """True: it has no state that could fail."""
        return True

    def health(self) -> Health:
        """Healthy if a linearizable range is answered."""
        try:
            self._client.ask("kv/range", rpc.RangeRequest(key=b"health"), rpc.RangeResponse)
        except (NodeError, Status) as error:
            return Health(False, {"front": True, "healthy": False, "reason": str(error)})
        return Health(True, {"front": True, "healthy": True})

    def metrics(self) -> Metrics:
        """How often etcd was asked, by what came back."""
        return {labelled("front_sent_total", status=status): n for status, n in self._client.outcomes().items()}

    def stop_waiting(self) -> None:
        """Calls of etcd end by their own timeout."""

    # ---- what only a node has ---------------------------------------------------------------------------------------

    @property
    def watched(self) -> NoReturn:
        """501."""
        _not_here()

    def change_members(self, wish: object) -> NoReturn:
        """501."""
        _not_here()

    def describe_members(self) -> NoReturn:
        """501."""
        _not_here()

    def snapshot_stream(self) -> NoReturn:
        """501."""
        _not_here()

    def transfer(self, node_id: int) -> NoReturn:
        """501."""
        _not_here()


class _FrontMachine:
    """The reads of a front."""

    def __init__(self, client: EtcdClient, asked: threading.local) -> None:
        self._client = client
        self._asked = asked

    def lookup(self, key: bytes) -> bytes | None:
        found = self._range(rpc.RangeRequest(key=key))
        return found.kvs[0].value if found.kvs else None

    def scan(
        self, start: bytes = b"", stop: bytes | None = None, *, prefix: bytes | None = None, reverse: bool = False
    ) -> Iterator[Pair]:
        """The pairs of one revision. In reverse, etcd sorts what is left of the range for each page: O(pairs) a page."""
        first, end = scan_bounds(start, stop, prefix)
        first = first or b"\0"
        revision, more, keys = 0, end is None or first < end, FIRST_PAGE_KEYS
        order = rpc.RangeRequest.SortOrder.DESCEND if reverse else rpc.RangeRequest.SortOrder.NONE
        while more:
            page = self._range(
                rpc.RangeRequest(key=first, range_end=end or b"\0", limit=keys, revision=revision, sort_order=order)
            )
            if not revision and page.header is not None:
                revision = page.header.revision
            yield from ((pair.key, pair.value) for pair in page.kvs if not pair.key.startswith(_OURS))
            more, keys = page.more, next_page_keys(keys, page.kvs)
            if page.kvs and reverse:
                end = page.kvs[-1].key
            elif page.kvs:
                first = page.kvs[-1].key + b"\0"

    def _range(self, asked: rpc.RangeRequest) -> rpc.RangeResponse:
        asked.serializable = getattr(self._asked, "stale", False)
        try:
            return self._client.ask("kv/range", asked, rpc.RangeResponse)
        except Status as refused:
            raise _translated(refused) from None

    def marked(self, index: int) -> AbstractContextManager[Snapshot]:
        _not_here()


def _change(key: bytes, value: bytes | None, lease: int = 0) -> rpc.RequestOp:
    if value is None:
        return rpc.RequestOp(request_delete_range=rpc.DeleteRangeRequest(key=key))
    return rpc.RequestOp(request_put=rpc.PutRequest(key=key, value=value, lease=lease))


def _session_key(session: int) -> bytes:
    return SESSION_PREFIX + b"%018d" % session


def _translated(refused: Status) -> Exception:
    """What etcd refuses, as our clients know it. Nothing was done."""
    said = (refused.code, refused.sentence)
    if said in (status.REQUEST_TOO_LARGE, status.TOO_MANY_OPS):
        return TooLarge(f"etcd refuses it: {refused.sentence}")
    if said == status.NO_SPACE:
        return NoSpace(f"etcd refuses it, because its alarm NOSPACE is raised: {refused.sentence}")
    if refused.code == Code.RESOURCE_EXHAUSTED:
        return Overloaded(f"etcd refuses it: {refused.sentence}")
    http_status = {Code.PERMISSION_DENIED: 403, Code.UNAUTHENTICATED: 403}.get(refused.code, 502)
    return BadRequest(http_status, f"etcd refuses it: {refused.sentence}")


def _not_here() -> NoReturn:
    raise BadRequest(
        501, "This is a front to an etcd cluster, which has no such route: ask the etcd itself, with etcdctl."
    )
