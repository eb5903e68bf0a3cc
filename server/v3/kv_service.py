"""The service KV: which of its methods read, and which go through Raft.

    kv/range         a read
    kv/put           a write
    kv/deleterange   a write
    kv/txn           a write; a read if all its operations are ranges
    kv/compaction    a write; with `physical` it is answered when what was compacted is deleted

A read is evaluated on one view, so its revision and its content are of the same moment. Rights are asked before, and after
it whether they have changed meanwhile, as etcd does: an answer never says more than its rights did at one moment.

A read of one key, or of a few, is light: the thread that serves all connections may do it. A range may be of any size.

Physical compaction is a part of applying here (server/mvcc_compaction.py), some rows with each step. Who asks for it
proposes the steps, so that it takes as long as its rows, and not as long as the leader leaves them for an idle moment.

Follows KV in etcd 3.5's rpc.proto, and server/etcdserver/v3_server.go.
"""

from __future__ import annotations

from typing import Any

from server.mvcc import View
from server.v3 import kv, txn
from server.v3.failures import check, patiently
from server.v3.method import Call, Caller, Method, Read, Write
from server.v3.rpc import (
    CompactionRequest,
    CompactionResponse,
    DeleteRangeRequest,
    PutRequest,
    RangeRequest,
    RangeResponse,
    TxnRequest,
    TxnResponse,
)

__all__ = ["METHODS", "PUT"]

STEP_S = 7.0  # how long one step of a physical compaction may take
LIGHT_OPERATIONS_MAX = 8  # of single keys, in a transaction that only reads


def _range(etcd: Any, view: View, caller: Caller, request: RangeRequest) -> RangeResponse:
    etcd.auth.check_range(caller, request.key, request.range_end)
    response = kv.range_of(view, request)
    response.header = etcd.header(view.revision)
    etcd.auth.settled(caller)
    return response


def _is_light(request: RangeRequest) -> bool:
    return not request.range_end


def _txn(etcd: Any, view: View, caller: Caller, request: TxnRequest) -> TxnResponse:
    etcd.auth.check_txn(caller, request)
    response = txn.read(view, request)
    response.header = etcd.header(view.revision)
    etcd.auth.settled(caller)
    return response


def _is_light_txn(request: TxnRequest) -> bool:
    ranges = [each.request_range for each in (*request.success, *request.failure)]
    if len(request.compare) + len(ranges) > LIGHT_OPERATIONS_MAX:
        return False
    return not any(each.range_end for each in (*request.compare, *ranges) if each is not None)


def _compaction(etcd: Any, caller: Caller, request: CompactionRequest) -> CompactionResponse:
    response: CompactionResponse = etcd.ask(etcd.identify(caller), "compaction", request)
    while request.physical and not etcd.is_deleted(request.revision):
        check(caller)
        patiently(etcd.take_compaction_on, caller, STEP_S)
    return response


READ_TXN = Read("kv/txn", TxnRequest, txn.check, _txn, txn.is_serializable, _is_light_txn)

PUT = Write("kv/put", PutRequest, kv.check_put, "put")

METHODS: tuple[Method, ...] = (
    Read("kv/range", RangeRequest, kv.check_range, _range, light=_is_light),
    PUT,
    Write("kv/deleterange", DeleteRangeRequest, kv.check_delete, "delete_range"),
    Write("kv/txn", TxnRequest, txn.check, "txn", txn.only_reads, READ_TXN),
    Call("kv/compaction", CompactionRequest, _compaction),
)
"""The methods of the service KV."""
