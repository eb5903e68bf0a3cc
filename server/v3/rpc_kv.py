"""The messages of keys: ranges, writes, transactions, compactions.

Facts of etcd 3.5's rpc.proto and kv.proto; what a declaration means stands in server/v3/messages.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from server.v3.messages import Message, bool_, bytes_, enum, int64, message, repeated, uint64

__all__ = [
    "CompactionRequest",
    "CompactionResponse",
    "Compare",
    "DeleteRangeRequest",
    "DeleteRangeResponse",
    "Event",
    "KeyValue",
    "PutRequest",
    "PutResponse",
    "RangeRequest",
    "RangeResponse",
    "RequestOp",
    "ResponseHeader",
    "ResponseOp",
    "TxnRequest",
    "TxnResponse",
]

PACKAGE = "etcdserverpb"


@dataclass(slots=True)
class ResponseHeader(Message):
    """What every answer begins with: who answers, and at which revision and term."""

    cluster_id: int = uint64(1)
    member_id: int = uint64(2)
    revision: int = int64(3)
    raft_term: int = uint64(4)


@dataclass(slots=True)
class KeyValue(Message):
    """A version of a key."""

    key: bytes = bytes_(1)
    create_revision: int = int64(2)
    mod_revision: int = int64(3)
    version: int = int64(4)
    value: bytes = bytes_(5)
    lease: int = int64(6)


@dataclass(slots=True)
class Event(Message):
    """A change of a key; of a delete, kv has the key and the revision alone."""

    class EventType(IntEnum):
        PUT = 0
        DELETE = 1

    type: int = enum(1, EventType)
    kv: KeyValue | None = message(2)
    prev_kv: KeyValue | None = message(3)


@dataclass(slots=True)
class RangeRequest(Message):
    """Reads keys from `key` to `range_end`, which isn't one of them; without it, `key` alone; b"\\0" has no end."""

    class SortOrder(IntEnum):
        NONE = 0
        ASCEND = 1
        DESCEND = 2

    class SortTarget(IntEnum):
        KEY = 0
        VERSION = 1
        CREATE = 2
        MOD = 3
        VALUE = 4

    key: bytes = bytes_(1)
    range_end: bytes = bytes_(2)
    limit: int = int64(3)
    revision: int = int64(4)
    sort_order: int = enum(5, SortOrder)
    sort_target: int = enum(6, SortTarget)
    serializable: bool = bool_(7)
    keys_only: bool = bool_(8)
    count_only: bool = bool_(9)
    min_mod_revision: int = int64(10)
    max_mod_revision: int = int64(11)
    min_create_revision: int = int64(12)
    max_create_revision: int = int64(13)


@dataclass(slots=True)
class RangeResponse(Message):
    """What was found; `count` is of the whole range, whatever the limit."""

    header: ResponseHeader | None = message(1)
    kvs: list[KeyValue] = repeated(2)
    more: bool = bool_(3)
    count: int = int64(4)


@dataclass(slots=True)
class PutRequest(Message):
    """Writes a key."""

    key: bytes = bytes_(1)
    value: bytes = bytes_(2)
    lease: int = int64(3)
    prev_kv: bool = bool_(4)
    ignore_value: bool = bool_(5)
    ignore_lease: bool = bool_(6)


@dataclass(slots=True)
class PutResponse(Message):
    """The key was written."""

    header: ResponseHeader | None = message(1)
    prev_kv: KeyValue | None = message(2)


@dataclass(slots=True)
class DeleteRangeRequest(Message):
    """Deletes keys; the range is a RangeRequest's."""

    key: bytes = bytes_(1)
    range_end: bytes = bytes_(2)
    prev_kv: bool = bool_(3)


@dataclass(slots=True)
class DeleteRangeResponse(Message):
    """So many keys were deleted."""

    header: ResponseHeader | None = message(1)
    deleted: int = int64(2)
    prev_kvs: list[KeyValue] = repeated(3)


@dataclass(slots=True)
class RequestOp(Message):
    """An operation of a transaction: one of four."""

    request_range: RangeRequest | None = message(1, oneof="request")
    request_put: PutRequest | None = message(2, oneof="request")
    request_delete_range: DeleteRangeRequest | None = message(3, oneof="request")
    request_txn: TxnRequest | None = message(4, oneof="request")


@dataclass(slots=True)
class ResponseOp(Message):
    """What an operation of a transaction gave."""

    response_range: RangeResponse | None = message(1, oneof="response")
    response_put: PutResponse | None = message(2, oneof="response")
    response_delete_range: DeleteRangeResponse | None = message(3, oneof="response")
    response_txn: TxnResponse | None = message(4, oneof="response")


@dataclass(slots=True)
class Compare(Message):
    """A condition on a key, or on each key of a range."""

    class CompareResult(IntEnum):
        EQUAL = 0
        GREATER = 1
        LESS = 2
        NOT_EQUAL = 3

    class CompareTarget(IntEnum):
        VERSION = 0
        CREATE = 1
        MOD = 2
        VALUE = 3
        LEASE = 4

    result: int = enum(1, CompareResult)
    target: int = enum(2, CompareTarget)
    key: bytes = bytes_(3)
    version: int | None = int64(4, oneof="target_union")
    create_revision: int | None = int64(5, oneof="target_union")
    mod_revision: int | None = int64(6, oneof="target_union")
    value: bytes | None = bytes_(7, oneof="target_union")
    lease: int | None = int64(8, oneof="target_union")
    range_end: bytes = bytes_(64)


@dataclass(slots=True)
class TxnRequest(Message):
    """If all conditions hold, the operations of `success`, else those of `failure`; all or nothing."""

    compare: list[Compare] = repeated(1)
    success: list[RequestOp] = repeated(2)
    failure: list[RequestOp] = repeated(3)


@dataclass(slots=True)
class TxnResponse(Message):
    """Which of the two, and what each operation gave."""

    header: ResponseHeader | None = message(1)
    succeeded: bool = bool_(2)
    responses: list[ResponseOp] = repeated(3)


@dataclass(slots=True)
class CompactionRequest(Message):
    """Forgets the history before a revision."""

    revision: int = int64(1)
    physical: bool = bool_(2)


@dataclass(slots=True)
class CompactionResponse(Message):
    """It is forgotten, or will be."""

    header: ResponseHeader | None = message(1)
