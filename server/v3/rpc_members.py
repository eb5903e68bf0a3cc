"""The messages by which nodes publish what they are.

Facts of etcd 3.5's membership.proto; what a declaration means stands in server/v3/messages.py.
"""

from __future__ import annotations

from dataclasses import dataclass

from server.v3.messages import Kind, Message, bool_, message, repeated, string, uint64

__all__ = ["Attributes", "ClusterMemberAttrSetRequest", "ClusterVersionSetRequest", "DowngradeInfoSetRequest"]

PACKAGE = "membershippb"


@dataclass(slots=True)
class Attributes(Message):
    """What a node says of itself."""

    name: str = string(1)
    client_urls: list[str] = repeated(2, Kind.STRING)


@dataclass(slots=True)
class ClusterVersionSetRequest(Message):
    """The version that all nodes can speak."""

    ver: str = string(1)


@dataclass(slots=True)
class ClusterMemberAttrSetRequest(Message):
    """A node publishes its name and its clients' addresses."""

    member_ID: int = uint64(1)
    member_attributes: Attributes | None = message(2)


@dataclass(slots=True)
class DowngradeInfoSetRequest(Message):
    """A downgrade begins or ends."""

    enabled: bool = bool_(1)
    ver: str = string(2)
