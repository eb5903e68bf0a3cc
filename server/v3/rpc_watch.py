"""The messages of watches and leases.

Facts of etcd 3.5's rpc.proto; what a declaration means stands in server/v3/messages.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from server.v3.messages import Kind, Message, bool_, bytes_, int64, message, repeated, string
from server.v3.rpc_kv import Event, ResponseHeader

__all__ = [
    "LeaseCheckpoint",
    "LeaseCheckpointRequest",
    "LeaseCheckpointResponse",
    "LeaseGrantRequest",
    "LeaseGrantResponse",
    "LeaseKeepAliveRequest",
    "LeaseKeepAliveResponse",
    "LeaseLeasesRequest",
    "LeaseLeasesResponse",
    "LeaseRevokeRequest",
    "LeaseRevokeResponse",
    "LeaseStatus",
    "LeaseTimeToLiveRequest",
    "LeaseTimeToLiveResponse",
    "WatchCancelRequest",
    "WatchCreateRequest",
    "WatchProgressRequest",
    "WatchRequest",
    "WatchResponse",
]

PACKAGE = "etcdserverpb"


@dataclass(slots=True)
class WatchCreateRequest(Message):
    """Asks for the changes of keys; the range is a RangeRequest's."""

    class FilterType(IntEnum):
        NOPUT = 0
        NODELETE = 1

    key: bytes = bytes_(1)
    range_end: bytes = bytes_(2)
    start_revision: int = int64(3)
    progress_notify: bool = bool_(4)
    filters: list[int] = repeated(5, Kind.ENUM, FilterType)
    prev_kv: bool = bool_(6)
    watch_id: int = int64(7)
    fragment: bool = bool_(8)


@dataclass(slots=True)
class WatchCancelRequest(Message):
    """Asks for no more of them."""

    watch_id: int = int64(1)


@dataclass(slots=True)
class WatchProgressRequest(Message):
    """Asks how far this stream is."""


@dataclass(slots=True)
class WatchRequest(Message):
    """A message of the client in a stream of watches: one of three."""

    create_request: WatchCreateRequest | None = message(1, oneof="request_union")
    cancel_request: WatchCancelRequest | None = message(2, oneof="request_union")
    progress_request: WatchProgressRequest | None = message(3, oneof="request_union")


@dataclass(slots=True)
class WatchResponse(Message):
    """A message of the server in such a stream."""

    header: ResponseHeader | None = message(1)
    watch_id: int = int64(2)
    created: bool = bool_(3)
    canceled: bool = bool_(4)
    compact_revision: int = int64(5)
    cancel_reason: str = string(6)
    fragment: bool = bool_(7)
    events: list[Event] = repeated(11)


@dataclass(slots=True)
class LeaseGrantRequest(Message):
    """Asks for a lease of so many seconds; ID 0: the server chooses one."""

    TTL: int = int64(1)
    ID: int = int64(2)


@dataclass(slots=True)
class LeaseGrantResponse(Message):
    """The lease."""

    header: ResponseHeader | None = message(1)
    ID: int = int64(2)
    TTL: int = int64(3)
    error: str = string(4)


@dataclass(slots=True)
class LeaseRevokeRequest(Message):
    """Ends a lease, and deletes its keys."""

    ID: int = int64(1)


@dataclass(slots=True)
class LeaseRevokeResponse(Message):
    """It has ended."""

    header: ResponseHeader | None = message(1)


@dataclass(slots=True)
class LeaseCheckpoint(Message):
    """How much of a lease was left."""

    ID: int = int64(1)
    remaining_TTL: int = int64(2)


@dataclass(slots=True)
class LeaseCheckpointRequest(Message):
    """The leader's word on what is left of leases."""

    checkpoints: list[LeaseCheckpoint] = repeated(1)


@dataclass(slots=True)
class LeaseCheckpointResponse(Message):
    """It is noted."""

    header: ResponseHeader | None = message(1)


@dataclass(slots=True)
class LeaseKeepAliveRequest(Message):
    """The whole time again for a lease; one of a stream."""

    ID: int = int64(1)


@dataclass(slots=True)
class LeaseKeepAliveResponse(Message):
    """The time that it has; 0 seconds if there is no such lease."""

    header: ResponseHeader | None = message(1)
    ID: int = int64(2)
    TTL: int = int64(3)


@dataclass(slots=True)
class LeaseTimeToLiveRequest(Message):
    """Asks what is left of a lease."""

    ID: int = int64(1)
    keys: bool = bool_(2)


@dataclass(slots=True)
class LeaseTimeToLiveResponse(Message):
    """What is left, in seconds; -1 if there is no such lease."""

    header: ResponseHeader | None = message(1)
    ID: int = int64(2)
    TTL: int = int64(3)
    grantedTTL: int = int64(4)
    keys: list[bytes] = repeated(5, Kind.BYTES)


@dataclass(slots=True)
class LeaseLeasesRequest(Message):
    """Asks for all leases."""


@dataclass(slots=True)
class LeaseStatus(Message):
    """A lease."""

    ID: int = int64(1)


@dataclass(slots=True)
class LeaseLeasesResponse(Message):
    """All leases."""

    header: ResponseHeader | None = message(1)
    leases: list[LeaseStatus] = repeated(2)
