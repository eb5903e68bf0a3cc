"""What the entries of the Auth service do: each of them is one change of the table (server/v3/users.py), or one new token.

    auth_user_add, … ──▶ table.add_user(…) ──▶ auth.table, and its rows in the entry's batch      (users.py)
    authenticate     ──▶ a token in the memory of every node that has run since before it         (tokens.py)

Who may ask for it was checked before (`Auth.check_entry`), and passwords come as records, tokens as digests: what stands in
the log helps nobody who reads it.

Follows etcd's server/etcdserver/apply.go.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from server.v3 import rpc, status
from server.v3.auth import Auth, Who
from server.v3.messages import Message
from server.v3.passwords import record_of
from server.v3.permissions import Grant
from server.v3.status import Status
from server.v3.tokens import Held
from server.v3.users import Table

__all__ = ["BRANCHES"]


class Tables(Protocol):
    """The part of server.v3.etcd.Etcd that is asked here."""

    @property
    def auth(self) -> Auth: ...
    def header(self, revision: int, /) -> rpc.ResponseHeader: ...


class Proposed(Who, Protocol):
    """The part of server.v3.apply.Proposed that is asked here."""

    @property
    def index(self) -> int: ...


class Revision(Protocol):
    """The part of server.mvcc.Writes that is asked here: changes of users are none of keys."""

    @property
    def revision(self) -> int: ...


Change = Callable[[Table, Any], Table]
Branch = Callable[[Any, Any, Any, Any], Message]


def _changes(change: Change, response: type[Any]) -> Branch:
    """The branch of a request that changes the table as `change` says."""

    def branch(tables: Tables, proposed: Proposed, request: Any, writes: Revision) -> Message:
        auth = tables.auth
        auth.table = change(auth.table, request)
        if not auth.table.enabled:
            auth.tokens.clear()
        answer: Message = response(header=tables.header(writes.revision))
        return answer

    return branch


def _authenticate(
    tables: Tables, proposed: Proposed, request: rpc.InternalAuthenticateRequest, writes: Revision
) -> Message:
    """A token, if the user is still the one whose password was checked. The answer has the digest, where the caller's answer
    will have the letters."""
    auth = tables.auth
    table = auth.table
    if not table.enabled:
        raise Status(*status.AUTH_NOT_ENABLED)
    user = table.users.get(request.name)
    if user is None or user.no_password:
        raise Status(*status.AUTH_FAILED)
    if proposed.auth_revision != table.revision:
        raise Status(*status.AUTH_OLD_REVISION)
    auth.tokens.assign(request.simple_token, proposed.index, Held(request.name, user.password))
    return rpc.AuthenticateResponse(tables.header(writes.revision), f"{request.simple_token}.{proposed.index}")


def _add_user(table: Table, request: rpc.AuthUserAddRequest) -> Table:
    no_password = request.options is not None and request.options.no_password
    return table.add_user(request.name, b"" if no_password else record_of(request.hashedPassword), no_password)


def _grant(table: Table, request: rpc.AuthRoleGrantPermissionRequest) -> Table:
    if request.perm is None:
        raise Status(*status.PERMISSION_NOT_GIVEN)
    return table.grant(request.name, Grant(request.perm.permType, request.perm.key, request.perm.range_end))


BRANCHES: Mapping[str, Branch] = {
    "authenticate": _authenticate,
    "auth_enable": _changes(lambda table, request: table.enable(), rpc.AuthEnableResponse),
    "auth_disable": _changes(lambda table, request: table.disable(), rpc.AuthDisableResponse),
    "auth_user_add": _changes(_add_user, rpc.AuthUserAddResponse),
    "auth_user_delete": _changes(lambda table, request: table.delete_user(request.name), rpc.AuthUserDeleteResponse),
    "auth_user_change_password": _changes(
        lambda table, request: table.change_password(request.name, record_of(request.hashedPassword)),
        rpc.AuthUserChangePasswordResponse,
    ),
    "auth_user_grant_role": _changes(
        lambda table, request: table.grant_role(request.user, request.role), rpc.AuthUserGrantRoleResponse
    ),
    "auth_user_revoke_role": _changes(
        lambda table, request: table.revoke_role(request.name, request.role), rpc.AuthUserRevokeRoleResponse
    ),
    "auth_role_add": _changes(lambda table, request: table.add_role(request.name), rpc.AuthRoleAddResponse),
    "auth_role_delete": _changes(lambda table, request: table.delete_role(request.role), rpc.AuthRoleDeleteResponse),
    "auth_role_grant_permission": _changes(_grant, rpc.AuthRoleGrantPermissionResponse),
    "auth_role_revoke_permission": _changes(
        lambda table, request: table.revoke(request.role, request.key, request.range_end),
        rpc.AuthRoleRevokePermissionResponse,
    ),
}
