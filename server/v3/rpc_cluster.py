"""The messages of members and of maintenance.

Facts of etcd 3.5's rpc.proto; what a declaration means stands in server/v3/messages.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from server.v3.messages import Kind, Message, bool_, bytes_, enum, int64, message, repeated, string, uint32, uint64
from server.v3.rpc_kv import ResponseHeader

__all__ = [
    "AlarmMember",
    "AlarmRequest",
    "AlarmResponse",
    "AlarmType",
    "DefragmentRequest",
    "DefragmentResponse",
    "DowngradeRequest",
    "DowngradeResponse",
    "HashKVRequest",
    "HashKVResponse",
    "HashRequest",
    "HashResponse",
    "Member",
    "MemberAddRequest",
    "MemberAddResponse",
    "MemberListRequest",
    "MemberListResponse",
    "MemberPromoteRequest",
    "MemberPromoteResponse",
    "MemberRemoveRequest",
    "MemberRemoveResponse",
    "MemberUpdateRequest",
    "MemberUpdateResponse",
    "MoveLeaderRequest",
    "MoveLeaderResponse",
    "SnapshotRequest",
    "SnapshotResponse",
    "StatusRequest",
    "StatusResponse",
]

PACKAGE = "etcdserverpb"


@dataclass(slots=True)
class Member(Message):
    """A node of the cluster."""

    ID: int = uint64(1)
    name: str = string(2)
    peerURLs: list[str] = repeated(3, Kind.STRING)
    clientURLs: list[str] = repeated(4, Kind.STRING)
    isLearner: bool = bool_(5)


@dataclass(slots=True)
class MemberAddRequest(Message):
    """Adds a node."""

    peerURLs: list[str] = repeated(1, Kind.STRING)
    isLearner: bool = bool_(2)


@dataclass(slots=True)
class MemberAddResponse(Message):
    """The node, and all with it."""

    header: ResponseHeader | None = message(1)
    member: Member | None = message(2)
    members: list[Member] = repeated(3)


@dataclass(slots=True)
class MemberRemoveRequest(Message):
    """Removes a node."""

    ID: int = uint64(1)


@dataclass(slots=True)
class MemberRemoveResponse(Message):
    """Those that are left."""

    header: ResponseHeader | None = message(1)
    members: list[Member] = repeated(2)


@dataclass(slots=True)
class MemberUpdateRequest(Message):
    """Changes a node's addresses."""

    ID: int = uint64(1)
    peerURLs: list[str] = repeated(2, Kind.STRING)


@dataclass(slots=True)
class MemberUpdateResponse(Message):
    """All with the new addresses."""

    header: ResponseHeader | None = message(1)
    members: list[Member] = repeated(2)


@dataclass(slots=True)
class MemberListRequest(Message):
    """Asks who the nodes are."""

    linearizable: bool = bool_(1)


@dataclass(slots=True)
class MemberListResponse(Message):
    """The nodes."""

    header: ResponseHeader | None = message(1)
    members: list[Member] = repeated(2)


@dataclass(slots=True)
class MemberPromoteRequest(Message):
    """Makes a learner a voter."""

    ID: int = uint64(1)


@dataclass(slots=True)
class MemberPromoteResponse(Message):
    """All nodes after it."""

    header: ResponseHeader | None = message(1)
    members: list[Member] = repeated(2)


@dataclass(slots=True)
class DefragmentRequest(Message):
    """Gives room back to the file system."""


@dataclass(slots=True)
class DefragmentResponse(Message):
    """It is given back."""

    header: ResponseHeader | None = message(1)


@dataclass(slots=True)
class MoveLeaderRequest(Message):
    """Hands leadership to another node."""

    targetID: int = uint64(1)


@dataclass(slots=True)
class MoveLeaderResponse(Message):
    """It leads."""

    header: ResponseHeader | None = message(1)


class AlarmType(IntEnum):
    """What can be wrong with a node."""

    NONE = 0
    NOSPACE = 1
    CORRUPT = 2


@dataclass(slots=True)
class AlarmRequest(Message):
    """Asks for alarms, raises one, or ends one."""

    class AlarmAction(IntEnum):
        GET = 0
        ACTIVATE = 1
        DEACTIVATE = 2

    action: int = enum(1, AlarmAction)
    memberID: int = uint64(2)
    alarm: int = enum(3, AlarmType)


@dataclass(slots=True)
class AlarmMember(Message):
    """An alarm of a node."""

    memberID: int = uint64(1)
    alarm: int = enum(2, AlarmType)


@dataclass(slots=True)
class AlarmResponse(Message):
    """The alarms that were asked for, raised or ended."""

    header: ResponseHeader | None = message(1)
    alarms: list[AlarmMember] = repeated(2)


@dataclass(slots=True)
class DowngradeRequest(Message):
    """Asks whether an older version could go on with this cluster, or begins that."""

    class DowngradeAction(IntEnum):
        VALIDATE = 0
        ENABLE = 1
        CANCEL = 2

    action: int = enum(1, DowngradeAction)
    version: str = string(2)


@dataclass(slots=True)
class DowngradeResponse(Message):
    """The cluster's version."""

    header: ResponseHeader | None = message(1)
    version: str = string(2)


@dataclass(slots=True)
class StatusRequest(Message):
    """Asks how a node is."""


@dataclass(slots=True)
class StatusResponse(Message):
    """How it is."""

    header: ResponseHeader | None = message(1)
    version: str = string(2)
    dbSize: int = int64(3)
    leader: int = uint64(4)
    raftIndex: int = uint64(5)
    raftTerm: int = uint64(6)
    raftAppliedIndex: int = uint64(7)
    errors: list[str] = repeated(8, Kind.STRING)
    dbSizeInUse: int = int64(9)
    isLearner: bool = bool_(10)


@dataclass(slots=True)
class HashRequest(Message):
    """Asks for a checksum of all that a node stores."""


@dataclass(slots=True)
class HashResponse(Message):
    """That checksum."""

    header: ResponseHeader | None = message(1)
    hash: int = uint32(2)


@dataclass(slots=True)
class HashKVRequest(Message):
    """Asks for a checksum of the keys' history to a revision."""

    revision: int = int64(1)


@dataclass(slots=True)
class HashKVResponse(Message):
    """That checksum."""

    header: ResponseHeader | None = message(1)
    hash: int = uint32(2)
    compact_revision: int = int64(3)


@dataclass(slots=True)
class SnapshotRequest(Message):
    """Asks for all that a node stores, as a stream."""


@dataclass(slots=True)
class SnapshotResponse(Message):
    """A part of it."""

    header: ResponseHeader | None = message(1)
    remaining_bytes: int = uint64(2)
    blob: bytes = bytes_(3)
