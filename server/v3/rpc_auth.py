"""The messages of authentication: users, roles, tokens.

Facts of etcd 3.5's rpc.proto; what a declaration means stands in server/v3/messages.py.
"""

from __future__ import annotations

from dataclasses import dataclass

from server.v3.messages import Kind, Message, bool_, bytes_, message, repeated, string, uint64
from server.v3.rpc_kv import ResponseHeader
from server.v3.rpc_roles import Permission, UserAddOptions

__all__ = [
    "AuthDisableRequest",
    "AuthDisableResponse",
    "AuthEnableRequest",
    "AuthEnableResponse",
    "AuthRoleAddRequest",
    "AuthRoleAddResponse",
    "AuthRoleDeleteRequest",
    "AuthRoleDeleteResponse",
    "AuthRoleGetRequest",
    "AuthRoleGetResponse",
    "AuthRoleGrantPermissionRequest",
    "AuthRoleGrantPermissionResponse",
    "AuthRoleListRequest",
    "AuthRoleListResponse",
    "AuthRoleRevokePermissionRequest",
    "AuthRoleRevokePermissionResponse",
    "AuthStatusRequest",
    "AuthStatusResponse",
    "AuthUserAddRequest",
    "AuthUserAddResponse",
    "AuthUserChangePasswordRequest",
    "AuthUserChangePasswordResponse",
    "AuthUserDeleteRequest",
    "AuthUserDeleteResponse",
    "AuthUserGetRequest",
    "AuthUserGetResponse",
    "AuthUserGrantRoleRequest",
    "AuthUserGrantRoleResponse",
    "AuthUserListRequest",
    "AuthUserListResponse",
    "AuthUserRevokeRoleRequest",
    "AuthUserRevokeRoleResponse",
    "AuthenticateRequest",
    "AuthenticateResponse",
]

PACKAGE = "etcdserverpb"


@dataclass(slots=True)
class AuthEnableRequest(Message):
    """From now on every call needs a token."""


@dataclass(slots=True)
class AuthEnableResponse(Message):
    """It does."""

    header: ResponseHeader | None = message(1)


@dataclass(slots=True)
class AuthDisableRequest(Message):
    """No call needs one any more."""


@dataclass(slots=True)
class AuthDisableResponse(Message):
    """None does."""

    header: ResponseHeader | None = message(1)


@dataclass(slots=True)
class AuthStatusRequest(Message):
    """Asks whether calls need a token."""


@dataclass(slots=True)
class AuthStatusResponse(Message):
    """Whether they do, and how often users and roles have changed."""

    header: ResponseHeader | None = message(1)
    enabled: bool = bool_(2)
    authRevision: int = uint64(3)


@dataclass(slots=True)
class AuthenticateRequest(Message):
    """Asks for a token."""

    name: str = string(1)
    password: str = string(2)


@dataclass(slots=True)
class AuthenticateResponse(Message):
    """The token."""

    header: ResponseHeader | None = message(1)
    token: str = string(2)


@dataclass(slots=True)
class AuthUserAddRequest(Message):
    """Adds a user."""

    name: str = string(1)
    password: str = string(2)
    options: UserAddOptions | None = message(3)
    hashedPassword: str = string(4)


@dataclass(slots=True)
class AuthUserAddResponse(Message):
    """It is added."""

    header: ResponseHeader | None = message(1)


@dataclass(slots=True)
class AuthUserGetRequest(Message):
    """Asks for a user's roles."""

    name: str = string(1)


@dataclass(slots=True)
class AuthUserGetResponse(Message):
    """They are these."""

    header: ResponseHeader | None = message(1)
    roles: list[str] = repeated(2, Kind.STRING)


@dataclass(slots=True)
class AuthUserListRequest(Message):
    """Asks for all users."""


@dataclass(slots=True)
class AuthUserListResponse(Message):
    """They are these."""

    header: ResponseHeader | None = message(1)
    users: list[str] = repeated(2, Kind.STRING)


@dataclass(slots=True)
class AuthUserDeleteRequest(Message):
    """Deletes a user."""

    name: str = string(1)


@dataclass(slots=True)
class AuthUserDeleteResponse(Message):
    """It is deleted."""

    header: ResponseHeader | None = message(1)


@dataclass(slots=True)
class AuthUserChangePasswordRequest(Message):
    """Gives a user another password."""

    name: str = string(1)
    password: str = string(2)
    hashedPassword: str = string(3)


@dataclass(slots=True)
class AuthUserChangePasswordResponse(Message):
    """It has it."""

    header: ResponseHeader | None = message(1)


@dataclass(slots=True)
class AuthUserGrantRoleRequest(Message):
    """Gives a user a role."""

    user: str = string(1)
    role: str = string(2)


@dataclass(slots=True)
class AuthUserGrantRoleResponse(Message):
    """It has it."""

    header: ResponseHeader | None = message(1)


@dataclass(slots=True)
class AuthUserRevokeRoleRequest(Message):
    """Takes a role from a user."""

    name: str = string(1)
    role: str = string(2)


@dataclass(slots=True)
class AuthUserRevokeRoleResponse(Message):
    """It has it no longer."""

    header: ResponseHeader | None = message(1)


@dataclass(slots=True)
class AuthRoleAddRequest(Message):
    """Adds a role."""

    name: str = string(1)


@dataclass(slots=True)
class AuthRoleAddResponse(Message):
    """It is added."""

    header: ResponseHeader | None = message(1)


@dataclass(slots=True)
class AuthRoleGetRequest(Message):
    """Asks what a role may do."""

    role: str = string(1)


@dataclass(slots=True)
class AuthRoleGetResponse(Message):
    """It may do this."""

    header: ResponseHeader | None = message(1)
    perm: list[Permission] = repeated(2)


@dataclass(slots=True)
class AuthRoleListRequest(Message):
    """Asks for all roles."""


@dataclass(slots=True)
class AuthRoleListResponse(Message):
    """They are these."""

    header: ResponseHeader | None = message(1)
    roles: list[str] = repeated(2, Kind.STRING)


@dataclass(slots=True)
class AuthRoleDeleteRequest(Message):
    """Deletes a role."""

    role: str = string(1)


@dataclass(slots=True)
class AuthRoleDeleteResponse(Message):
    """It is deleted."""

    header: ResponseHeader | None = message(1)


@dataclass(slots=True)
class AuthRoleGrantPermissionRequest(Message):
    """Allows a role something."""

    name: str = string(1)
    perm: Permission | None = message(2)


@dataclass(slots=True)
class AuthRoleGrantPermissionResponse(Message):
    """It is allowed."""

    header: ResponseHeader | None = message(1)


@dataclass(slots=True)
class AuthRoleRevokePermissionRequest(Message):
    """Allows it no longer."""

    role: str = string(1)
    key: bytes = bytes_(2)
    range_end: bytes = bytes_(3)


@dataclass(slots=True)
class AuthRoleRevokePermissionResponse(Message):
    """It is allowed no longer."""

    header: ResponseHeader | None = message(1)
