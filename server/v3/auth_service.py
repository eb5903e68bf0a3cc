"""The Auth service: turning authentication on, users, roles, and tokens.

    enable, disable, user/delete, user/grant, user/revoke, role/…     Write   one entry each (server/v3/auth_entries.py)
    user/add, user/changepw                                           Call    the password is hashed here, then an entry
    authenticate                                                      Call    the password is checked here, then an entry
    status, user/get, user/list, role/get, role/list                  Read    etcd sends these through Raft, too

1. Who may not do it is refused before anything is hashed, so that nobody has this node work for nothing; and once more when
   the entry is applied.
2. Between the check of a password and the entry with the token, users may change: the entry carries the auth revision of the
   check, and if it is old, the password is checked again.
3. A password is forgotten when its call ends: no message that is kept or sent has it, and no line of the log.

Follows etcd's api/v3rpc/auth.go and server/etcdserver/v3_server.go.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from server.errors import NoLeader
from server.v3 import rpc, status
from server.v3.auth import Auth
from server.v3.messages import Message
from server.v3.method import Call, Caller, Method, Read, Write
from server.v3.passwords import text_of
from server.v3.status import Status
from server.v3.tokens import digest_of, new_letters

__all__ = ["METHODS", "Services"]

TRIES = 5  # of a token, while users change


class Services(Protocol):
    """The part of server.v3.etcd.Etcd that is asked here."""

    @property
    def auth(self) -> Auth: ...
    def header(self, revision: int, /) -> rpc.ResponseHeader: ...
    def request(self, request: rpc.InternalRaftRequest, /) -> Message: ...
    def ask(self, caller: Caller, field: str, message: Message, /) -> Message: ...
    def barrier(self) -> object: ...


class Viewed(Protocol):
    """The part of server.mvcc.View that is asked here."""

    @property
    def revision(self) -> int: ...


def _nothing(request: Any) -> None:
    """Everything that may be wrong with it depends on the table, and is said when its entry is applied."""


# ---- passwords and tokens -------------------------------------------------------------------------------------------


def _authenticate(etcd: Services, caller: Caller, request: rpc.AuthenticateRequest) -> Message:
    try:
        etcd.barrier()
    except NoLeader:
        raise Status(*status.TIMEOUT) from None
    auth = etcd.auth
    for _ in range(TRIES):
        table = auth.table
        if not table.enabled:
            raise Status(*status.AUTH_NOT_ENABLED)
        user = table.users.get(request.name)
        if user is not None and user.no_password:
            raise Status(status.Code.UNKNOWN, "auth: authentication failed, password was given for no password user")
        if not auth.passwords.match(None if user is None else user.password, request.password):
            raise Status(*status.AUTH_FAILED)
        letters = new_letters()
        entry = rpc.InternalRaftRequest(
            header=rpc.RequestHeader(auth_revision=table.revision),
            authenticate=rpc.InternalAuthenticateRequest(request.name, simple_token=digest_of(letters)),
        )
        try:
            answer = etcd.request(entry)
        except Status as error:
            if error.args != status.AUTH_OLD_REVISION:
                raise
            continue
        assert isinstance(answer, rpc.AuthenticateResponse)
        return rpc.AuthenticateResponse(answer.header, f"{letters}.{answer.token.rpartition('.')[2]}")
    raise Status(*status.AUTH_OLD_REVISION)


def _add_user(etcd: Services, caller: Caller, request: rpc.AuthUserAddRequest) -> Message:
    caller = etcd.auth.identify(caller)
    etcd.auth.check_root(caller)
    no_password = request.options is not None and request.options.no_password
    record = "" if no_password or not request.name else text_of(etcd.auth.passwords.record(request.password))
    user = rpc.AuthUserAddRequest(request.name, options=request.options, hashedPassword=record)
    return etcd.ask(caller, "auth_user_add", user)


def _change_password(etcd: Services, caller: Caller, request: rpc.AuthUserChangePasswordRequest) -> Message:
    """An empty password becomes none at all, which nothing matches, as in etcd."""
    caller = etcd.auth.identify(caller)
    etcd.auth.check_root(caller)
    record = text_of(etcd.auth.passwords.record(request.password)) if request.password else ""
    user = rpc.AuthUserChangePasswordRequest(request.name, hashedPassword=record)
    return etcd.ask(caller, "auth_user_change_password", user)


# ---- reads ----------------------------------------------------------------------------------------------------------


def _status(etcd: Services, view: Viewed, caller: Caller, request: rpc.AuthStatusRequest) -> Message:
    table = etcd.auth.table
    etcd.auth.check_root(caller)
    return rpc.AuthStatusResponse(etcd.header(view.revision), table.enabled, table.revision)


def _get_user(etcd: Services, view: Viewed, caller: Caller, request: rpc.AuthUserGetRequest) -> Message:
    etcd.auth.check_own_user(caller, request.name)
    return rpc.AuthUserGetResponse(etcd.header(view.revision), list(etcd.auth.table.user(request.name).roles))


def _list_users(etcd: Services, view: Viewed, caller: Caller, request: rpc.AuthUserListRequest) -> Message:
    etcd.auth.check_root(caller)
    return rpc.AuthUserListResponse(etcd.header(view.revision), _in_order(etcd.auth.table.users))


def _get_role(etcd: Services, view: Viewed, caller: Caller, request: rpc.AuthRoleGetRequest) -> Message:
    etcd.auth.check_own_role(caller, request.role)
    grants = etcd.auth.table.grants(request.role)
    return rpc.AuthRoleGetResponse(etcd.header(view.revision), [rpc.Permission(*grant) for grant in grants])


def _list_roles(etcd: Services, view: Viewed, caller: Caller, request: rpc.AuthRoleListRequest) -> Message:
    etcd.auth.check_root(caller)
    return rpc.AuthRoleListResponse(etcd.header(view.revision), _in_order(etcd.auth.table.roles))


def _in_order(names: Any) -> list[str]:
    return sorted(names, key=lambda name: name.encode("utf-8", "surrogatepass"))


def _never(request: Any) -> bool:
    return False


def _read(path: str, request: type[Any], evaluate: Callable[[Any, Any, Caller, Any], Any]) -> Read:
    """A read of the tables, which etcd sends through Raft."""
    return Read(path, request, _nothing, evaluate, light=_never, as_write=True)


METHODS: list[Method] = [
    Write("auth/enable", rpc.AuthEnableRequest, _nothing, "auth_enable"),
    Write("auth/disable", rpc.AuthDisableRequest, _nothing, "auth_disable"),
    _read("auth/status", rpc.AuthStatusRequest, _status),
    Call("auth/authenticate", rpc.AuthenticateRequest, _authenticate),
    Call("auth/user/add", rpc.AuthUserAddRequest, _add_user),
    _read("auth/user/get", rpc.AuthUserGetRequest, _get_user),
    _read("auth/user/list", rpc.AuthUserListRequest, _list_users),
    Write("auth/user/delete", rpc.AuthUserDeleteRequest, _nothing, "auth_user_delete"),
    Call("auth/user/changepw", rpc.AuthUserChangePasswordRequest, _change_password),
    Write("auth/user/grant", rpc.AuthUserGrantRoleRequest, _nothing, "auth_user_grant_role"),
    Write("auth/user/revoke", rpc.AuthUserRevokeRoleRequest, _nothing, "auth_user_revoke_role"),
    Write("auth/role/add", rpc.AuthRoleAddRequest, _nothing, "auth_role_add"),
    _read("auth/role/get", rpc.AuthRoleGetRequest, _get_role),
    _read("auth/role/list", rpc.AuthRoleListRequest, _list_roles),
    Write("auth/role/delete", rpc.AuthRoleDeleteRequest, _nothing, "auth_role_delete"),
    Write("auth/role/grant", rpc.AuthRoleGrantPermissionRequest, _nothing, "auth_role_grant_permission"),
    Write("auth/role/revoke", rpc.AuthRoleRevokePermissionRequest, _nothing, "auth_role_revoke_permission"),
]
