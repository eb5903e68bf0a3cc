"""The messages of who may do what, as they are stored and sent.

Facts of etcd 3.5's auth.proto; what a declaration means stands in server/v3/messages.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from server.v3.messages import Kind, Message, bool_, bytes_, enum, message, repeated

__all__ = ["Permission", "Role", "User", "UserAddOptions"]

PACKAGE = "authpb"


@dataclass(slots=True)
class UserAddOptions(Message):
    """How a user may come in."""

    no_password: bool = bool_(1)


@dataclass(slots=True)
class Permission(Message):
    """What a role may do with a range of keys."""

    class Type(IntEnum):
        READ = 0
        WRITE = 1
        READWRITE = 2

    permType: int = enum(1, Type)
    key: bytes = bytes_(2)
    range_end: bytes = bytes_(3)


@dataclass(slots=True)
class User(Message):
    """A user as it is stored."""

    name: bytes = bytes_(1)
    password: bytes = bytes_(2)
    roles: list[str] = repeated(3, Kind.STRING)
    options: UserAddOptions | None = message(4)


@dataclass(slots=True)
class Role(Message):
    """A role as it is stored."""

    name: bytes = bytes_(1)
    keyPermission: list[Permission] = repeated(2)
