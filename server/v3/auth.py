"""Who asks, and whether he may: the one place where a request of the v3 interface is permitted or not.

    head of a request ── token ──▶ identify ──▶ Caller with a name and an auth revision
                                                   │
            a read: check_range …, evaluate, settled         a write: its entry carries both ──▶ check_entry, on every node

What each call needs while authentication is on ("nobody" is a request without a token):

| call                                                      | needs                                                        |
|-----------------------------------------------------------|--------------------------------------------------------------|
| auth/authenticate, maintenance/status                     | nothing                                                      |
| kv/range, kv/put, kv/deleterange, kv/txn, watch           | the ranges that it touches (server/v3/permissions.py)        |
| lease/revoke, lease/keepalive                             | to write all keys on the lease                               |
| lease/timetolive with keys                                | to read all keys on the lease                                |
| lease/grant, lease/timetolive, lease/leases, kv/compaction, member/list, maintenance/alarm GET | to be a user            |
| auth/user/get, auth/role/get                              | the role root, or that it is the user's own                  |
| everything else                                           | the role root                                                |

The versions of etcd differ in how many calls need something, each later one in more. Here the default is to deny.

Invariants:

1. What isn't in the table of needs is root's (`check_entry`).
2. A write is checked when its entry is applied, on every node with the same outcome, by the name and the auth revision that
   the entry carries. If users or roles have changed since they were looked at, the request is refused: revision of auth store
   is old. What root alone may do is checked against what is in force there.
3. A read is checked before it is evaluated, and `settled` after: if anything changed meanwhile, nothing is answered.
4. The wrong token is an error even while authentication is off, and an absent one is nobody; both as in etcd 3.5.1. So are the
   calls that don't mind then: lease/timetolive, leases and keepalive, member/list, downgrade, transfer-leadership.

Left out: a watch is permitted when it is created, and goes on when the right is taken away, as in etcd.
Follows etcd's server/auth/store.go, server/etcdserver/apply_auth.go and v3_server.go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, Protocol

from server.v3 import status
from server.v3.method import Caller
from server.v3.passwords import Known, Passwords
from server.v3.permissions import Need, needs_of_delete, needs_of_put, needs_of_txn
from server.v3.rpc import DeleteRangeRequest, PutRequest, TxnRequest
from server.v3.status import Status
from server.v3.tokens import Held, Tokens, index_of
from server.v3.users import Table, Users

__all__ = ["Around", "Auth", "Who"]

ALARM_GET = 0  # AlarmRequest.AlarmAction


class Who(Protocol):
    """An identified caller, or what an entry says of who proposed it."""

    @property
    def username(self) -> str: ...
    @property
    def auth_revision(self) -> int: ...


class Around(NamedTuple):
    """What is asked of the node. now: seconds, by a clock that never goes back. applied_index: of the engine here.
    barrier: returns once what was acknowledged anywhere is applied here; raises NodeError. leased: the keys on a lease, none if
    there is no such lease; for the thread that applies. leased_now: the same, for any thread."""

    now: Callable[[], float]
    applied_index: Callable[[], int]
    barrier: Callable[[], object]
    leased: Callable[[int], Iterable[bytes]]
    leased_now: Callable[[int], Iterable[bytes]]


class _User(NamedTuple):
    username: str
    auth_revision: int


class Auth(Users):
    """Users, roles, tokens of one node, and what they permit. For any thread, unless a method says otherwise."""

    def __init__(self, around: Around, passwords: Passwords | None = None) -> None:
        super().__init__()
        self._around = around
        self.passwords = Passwords() if passwords is None else passwords
        self.tokens = Tokens(around.now)
        self._known = Known()

    @property
    def enabled(self) -> bool:
        """Whether authentication is on."""
        return self.table.enabled

    # ---- who asks ---------------------------------------------------------------------------------------------------

    def ready(self, caller: Caller) -> bool:
        """Whether `identify` would answer at once: it need not wait for the entry of a token that is new."""
        if caller.token is None:
            return True
        index = index_of(caller.token)
        return index is None or index <= self._around.applied_index()

    def identify(self, caller: Caller) -> Caller:
        """The caller with the name that its token stands for; without a token it is nobody, and unchanged.

        Raises Status for a token that isn't valid; NodeError if this node has to wait for a token's entry, and nobody
        confirms that it has all entries. Requires: not in the node's thread, unless it is `ready`.
        """
        if caller.token is None:
            return caller
        if not self.ready(caller):
            self._around.barrier()
        table = self.table
        username = self._username(table, caller.token)
        if username is None:
            raise Status(*status.INVALID_AUTH_TOKEN)
        return caller._replace(username=username, auth_revision=table.revision)

    def identify_if_on(self, caller: Caller) -> Caller:
        """As `identify`, for calls of which etcd 3.5.1 never looks at the token: here it counts while authentication is on."""
        return self.identify(caller) if self.enabled else caller

    def reidentify(self, caller: Caller) -> Caller:
        """A caller that was identified before, for a call that lasts: anew if users or roles have changed since then, so that
        a change which is nothing to it doesn't end it. Raises Status if its token isn't valid any more. Doesn't wait."""
        changed = caller.auth_revision and caller.auth_revision != self.table.revision
        return self.identify(caller) if changed else caller

    def _username(self, table: Table, token: str) -> str | None:
        held = self.tokens.find(token)
        if held is None or not table.enabled:
            return None
        user = table.users.get(held.username)
        return held.username if user is not None and user.password == held.password else None

    def password_of(self, name: str, password: str) -> Held | None:
        """What a token would be given against, if the password is the user's; None if it isn't. One hash, or Status if too
        many are being checked (server/v3/passwords.py)."""
        user = self.table.users.get(name)
        record = None if user is None or user.no_password else user.password
        return Held(name, record) if self.passwords.match(record, password) and record is not None else None

    def basic(self, name: str, password: str) -> Who | None:
        """The user with this password, as the simple routes ask for each request; None if it is another's. Microseconds if
        it was right before, else one hash. If users or roles change meanwhile, the revision that it has is an old one."""
        table = self.table
        user = table.users.get(name)
        if user is None or not self._known.has(name, password, user.password):
            held = self.password_of(name, password)
            if held is None:
                return None
            self._known.add(name, password, held.password)
        return _User(name, table.revision)

    # ---- whether he may ---------------------------------------------------------------------------------------------

    def check_known(self, who: Who) -> None:
        """Raises Status unless it is a user."""
        self.check_needs(who, ())

    def check_range(self, who: Who, key: bytes, range_end: bytes) -> None:
        """Raises Status unless all keys of the range may be read."""
        self.check_needs(who, (Need(False, key, range_end),))

    def check_watch(self, who: Who, key: bytes, range_end: bytes) -> None:
        """Raises Status unless the range may be watched: read. Nobody is denied like everybody else, as in etcd 3.5.1."""
        try:
            self.check_range(who, key, range_end)
        except Status:
            raise Status(*status.PERMISSION_DENIED) from None

    def check_put(self, who: Who, request: PutRequest) -> None:
        """Raises Status unless the put may be done."""
        self.check_needs(who, needs_of_put(request, self._around.leased_now))

    def check_delete(self, who: Who, request: DeleteRangeRequest) -> None:
        """Raises Status unless the delete may be done."""
        self.check_needs(who, needs_of_delete(request))

    def check_txn(self, who: Who, request: TxnRequest) -> None:
        """Raises Status unless all compares and operations of the transaction may be done."""
        self.check_needs(who, needs_of_txn(request, self._around.leased_now))

    def check_lease_write(self, who: Who, lease: int) -> None:
        """Raises Status unless all keys on the lease may be written."""
        self.check_needs(who, (Need(True, key) for key in self._around.leased_now(lease)))

    def check_lease_read(self, who: Who, lease: int) -> None:
        """Raises Status unless all keys on the lease may be read."""
        self.check_keys_read(who, self._around.leased_now(lease))

    def check_keys_read(self, who: Who, keys: Iterable[bytes]) -> None:
        """Raises Status unless all these keys may be read."""
        self.check_needs(who, (Need(False, key) for key in keys))

    def check_root(self, who: Who) -> None:
        """Raises Status unless the user has the role root."""
        table = self.table
        if table.enabled and not table.is_root(who.username):
            raise Status(*(status.PERMISSION_DENIED if who.username else status.USER_EMPTY))

    def check_own_user(self, who: Who, name: str) -> None:
        """Raises Status unless the user asks about himself, or is root."""
        if not who.username or who.username != name:
            self.check_root(who)

    def check_own_role(self, who: Who, role: str) -> None:
        """Raises Status unless the user asks about a role of his, or is root."""
        user = self.table.users.get(who.username)
        if user is None or role not in user.roles:
            self.check_root(who)

    def root_of_maintenance(self, caller: Caller) -> Caller:
        """Identifies a caller who must be root, for the three calls whose refusals etcd 3.5.1 passes on as they are within:
        code 2, and "auth:" in place of "etcdserver:". Raises Status."""
        try:
            caller = self.identify(caller)
            self.check_root(caller)
        except Status as error:
            raise Status(status.Code.UNKNOWN, error.sentence.replace("etcdserver:", "auth:", 1)) from None
        return caller

    def settled(self, who: Who) -> None:
        """After a read: raises Status if users or roles changed since the caller was identified."""
        if who.auth_revision and who.auth_revision != self.table.revision:
            raise Status(*status.AUTH_OLD_REVISION)

    def check_needs(self, who: Who, needs: Iterable[Need]) -> None:
        """Raises Status unless it is a user who may touch all of this."""
        table = self.table
        if not table.enabled:
            return
        if not who.auth_revision:
            raise Status(*status.USER_EMPTY)
        if who.auth_revision < table.revision:
            raise Status(*status.AUTH_OLD_REVISION)
        if who.username not in table.users:
            raise Status(*status.PERMISSION_DENIED)
        if table.is_root(who.username):
            return
        permissions = table.permissions(who.username)
        if not all(map(permissions.allow, needs)):
            raise Status(*status.PERMISSION_DENIED)

    # ---- while applying ---------------------------------------------------------------------------------------------

    def check_entry(self, field: str, who: Who, request: Any) -> None:
        """Raises Status unless the entry may be applied: of every field of InternalRaftRequest. For the thread that applies."""
        if not self.table.enabled:
            return
        _RIGHTS.get(field, _root)(self, who, request)

    def needs_lease(self, who: Who, lease: int) -> None:
        """As `check_lease_write`, for the thread that applies."""
        self.check_needs(who, (Need(True, key) for key in self._around.leased(lease)))

    def needs_put(self, who: Who, request: PutRequest) -> None:
        """As `check_put`, for the thread that applies."""
        self.check_needs(who, needs_of_put(request, self._around.leased))

    def needs_txn(self, who: Who, request: TxnRequest) -> None:
        """As `check_txn`, for the thread that applies."""
        self.check_needs(who, needs_of_txn(request, self._around.leased))


def _root(auth: Auth, who: Who, request: Any) -> None:
    auth.check_root(who)


def _known(auth: Auth, who: Who, request: Any) -> None:
    auth.check_known(who)


def _nothing(auth: Auth, who: Who, request: Any) -> None:
    """The password was checked before the entry was proposed."""


def _alarm(auth: Auth, who: Who, request: Any) -> None:
    if request.action == ALARM_GET:
        auth.check_known(who)
    else:
        auth.check_root(who)


_RIGHTS: Mapping[str, Callable[[Auth, Who, Any], None]] = {
    "put": Auth.needs_put,
    "txn": Auth.needs_txn,
    "delete_range": Auth.check_delete,
    "range": lambda auth, who, request: auth.check_range(who, request.key, request.range_end),
    "compaction": _known,
    "lease_grant": _known,
    "lease_revoke": lambda auth, who, request: auth.needs_lease(who, request.ID),
    "alarm": _alarm,
    "authenticate": _nothing,
    "auth_user_get": lambda auth, who, request: auth.check_own_user(who, request.name),
    "auth_role_get": lambda auth, who, request: auth.check_own_role(who, request.role),
}
