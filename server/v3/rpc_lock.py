"""The messages of locks and elections.

Facts of etcd 3.5's v3lock.proto and v3election.proto; what a declaration means stands in server/v3/messages.py.
"""

from __future__ import annotations

from dataclasses import dataclass

from server.v3.messages import Message, bytes_, int64, message
from server.v3.rpc_kv import KeyValue, ResponseHeader

__all__ = [
    "CampaignRequest",
    "CampaignResponse",
    "LeaderKey",
    "LeaderRequest",
    "LeaderResponse",
    "LockRequest",
    "LockResponse",
    "ProclaimRequest",
    "ProclaimResponse",
    "ResignRequest",
    "ResignResponse",
    "UnlockRequest",
    "UnlockResponse",
]

PACKAGE = "v3lockpb"


@dataclass(slots=True)
class LockRequest(Message):
    """Waits for a lock, and holds it as long as the lease lives."""

    name: bytes = bytes_(1)
    lease: int = int64(2)


@dataclass(slots=True)
class LockResponse(Message):
    """The lock is held; `key` exists as long."""

    header: ResponseHeader | None = message(1)
    key: bytes = bytes_(2)


@dataclass(slots=True)
class UnlockRequest(Message):
    """Gives it back."""

    key: bytes = bytes_(1)


@dataclass(slots=True)
class UnlockResponse(Message):
    """It is given back."""

    header: ResponseHeader | None = message(1)


@dataclass(slots=True)
class LeaderKey(Message):
    """What a leader holds: an election, the key in it, its revision and lease."""

    name: bytes = bytes_(1)
    key: bytes = bytes_(2)
    rev: int = int64(3)
    lease: int = int64(4)


@dataclass(slots=True)
class CampaignRequest(Message):
    """Waits until this candidate leads."""

    name: bytes = bytes_(1)
    lease: int = int64(2)
    value: bytes = bytes_(3)


@dataclass(slots=True)
class CampaignResponse(Message):
    """It leads."""

    header: ResponseHeader | None = message(1)
    leader: LeaderKey | None = message(2)


@dataclass(slots=True)
class ProclaimRequest(Message):
    """The leader says something else."""

    leader: LeaderKey | None = message(1)
    value: bytes = bytes_(2)


@dataclass(slots=True)
class ProclaimResponse(Message):
    """It is said."""

    header: ResponseHeader | None = message(1)


@dataclass(slots=True)
class LeaderRequest(Message):
    """Asks who leads; `observe` has it, too."""

    name: bytes = bytes_(1)


@dataclass(slots=True)
class LeaderResponse(Message):
    """The leader's key and what it says."""

    header: ResponseHeader | None = message(1)
    kv: KeyValue | None = message(2)


@dataclass(slots=True)
class ResignRequest(Message):
    """The leader leads no longer."""

    leader: LeaderKey | None = message(1)


@dataclass(slots=True)
class ResignResponse(Message):
    """The next one may lead."""

    header: ResponseHeader | None = message(1)
