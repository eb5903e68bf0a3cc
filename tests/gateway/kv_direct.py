"""The service KV without a node: requests are parsed, checked, evaluated on a state machine, and the answers rendered."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

from engines.kvstore import KVStore
from server.statemachine import StateMachine
from server.v3 import kv, status, txn
from server.v3.etcd import Etcd
from server.v3.jsonpb import parse, render
from server.v3.messages import Message
from server.v3.rpc import (
    CompactionRequest,
    DeleteRangeRequest,
    InternalRaftRequest,
    PutRequest,
    RangeRequest,
    ResponseHeader,
    TxnRequest,
)
from server.v3.status import Status
from tests.server.v3.applying import applied

__all__ = ["Direct"]

FIELDS = {
    "kv/put": (PutRequest, kv.check_put, "put"),
    "kv/deleterange": (DeleteRangeRequest, kv.check_delete, "delete_range"),
    "kv/txn": (TxnRequest, txn.check, "txn"),
    "kv/compaction": (CompactionRequest, lambda request: None, "compaction"),
    "kv/range": (RangeRequest, kv.check_range, ""),
}


class _Leases:
    def __init__(self, leases: Collection[int]) -> None:
        self._leases = leases

    def require(self, lease: int) -> None:
        if lease not in self._leases:
            raise Status(*status.LEASE_NOT_FOUND)


class _Alone(Etcd):
    """The tables of no node: headers have the revision only."""

    def __init__(self, leases: Collection[int]) -> None:
        super().__init__()
        self.leases = _Leases(leases)

    def header(self, revision: int) -> ResponseHeader:
        return ResponseHeader(revision=revision)


class Direct:
    """A store, and the log of one member. machine: for a closer look."""

    def __init__(self, store: KVStore, leases: Collection[int] = ()) -> None:
        self.machine = StateMachine(store)
        self.machine.evaluate = _Alone(leases).evaluate
        applied(self.machine, b"")  # as a leader does before anything else

    def ask(self, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Status and answer of a request: path without "/v3/"."""
        try:
            return 200, json.loads(render(self._answer(path, json.dumps(body).encode())))
        except Status as refused:
            answer = json.loads(refused.body())
            del answer["error"]
            return refused.http_status, answer

    def _answer(self, path: str, body: bytes) -> Any:
        of, check, field = FIELDS[path]
        request: Any = parse(of, body)
        check(request)  # type: ignore[operator]
        if not field or (field == "txn" and txn.only_reads(request)):
            with self.machine.view() as view:
                return txn.read(view, request) if field else kv.range_of(view, request)
        return self.do(field, request)

    def do(self, field: str, request: Message) -> Any:
        """The response to a request that goes through the log. Raises Status."""
        answer = applied(self.machine, InternalRaftRequest(**{field: request}))  # type: ignore[arg-type]
        if isinstance(answer, Exception):
            raise answer
        return answer
