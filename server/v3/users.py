"""The tables of users and roles: a part of what Raft replicates. Values in, a new table out; nothing is changed in place.

In the engine, beside the keys:

    mua           → 1 byte: whether authentication is on; 8 bytes, little-endian: the auth revision
    muu<name>     → etcd's own authpb.User: the password's record (server/v3/passwords.py), the roles, the options
    mur<name>     → etcd's own authpb.Role: its permissions, in the order of their keys

The auth revision is 1 in a new store and counts changes of users and roles, and turning authentication off; turning it on
changes no right of anybody, and isn't counted. It is what tells a request that was checked before such a change: it carries
the revision that it was checked against.

Invariants:

1. A `Table` never changes. So a thread that looks at one sees users, roles and revision of the same moment, without a lock.
2. The table follows from the entries alone. What an entry changed that then fails is taken back (`begin`, `undo`).
3. While authentication is on, there is a user "root" with the role "root": nothing takes either away.
4. Users, roles and permissions are bounded in number, names in bytes (server/limits.py).

A permission that a role has already is replaced, whatever order the role's permissions are in. etcd looks at the first one
with the same key only, and adds a second one beside it if their ends differ: what was to be taken away then stays.

Follows etcd's server/auth/store.go.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import NamedTuple

from engines.coding import DecodeError
from engines.kvstore import Reader, WriteBatch
from raft.raftpb import Entry
from server.limits import GRANTS_MAX, NAME_BYTES_MAX, ROLES_MAX, USERS_MAX
from server.v3 import rpc, status, wire
from server.v3.permissions import Grant, Permissions, permissions_of
from server.v3.status import Status

__all__ = ["ROOT", "Table", "User", "Users"]

ROOT = "root"  # a user's name, and a role's

AUTH, USER, ROLE = b"mua", b"muu", b"mur"

_AUTH = struct.Struct("<BQ")


class User(NamedTuple):
    """A user. password: the record; roles: in order. no_password: there is none, and nobody can authenticate as this user."""

    password: bytes
    roles: tuple[str, ...] = ()
    no_password: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """All of it at one moment. Methods that change something return another table, or raise Status."""

    enabled: bool = False
    revision: int = 1
    users: Mapping[str, User] = field(default_factory=dict)
    roles: Mapping[str, tuple[Grant, ...]] = field(default_factory=dict)
    _merged: dict[str, Permissions] = field(default_factory=dict, compare=False, repr=False)

    def user(self, name: str) -> User:
        """The user of this name. Raises Status."""
        user = self.users.get(name)
        if user is None:
            raise Status(*status.USER_NOT_FOUND)
        return user

    def grants(self, role: str) -> tuple[Grant, ...]:
        """The permissions of this role. Raises Status."""
        grants = self.roles.get(role)
        if grants is None:
            raise Status(*status.ROLE_NOT_FOUND)
        return grants

    def is_root(self, name: str) -> bool:
        """Whether a user has the role "root", which may do everything."""
        user = self.users.get(name)
        return user is not None and ROOT in user.roles

    def permissions(self, name: str) -> Permissions:
        """What a user may touch; merged once for each table and user. O(n log n) in the permissions of its roles, then O(1)."""
        merged = self._merged.get(name)
        if merged is None:
            user = self.users.get(name)
            roles = () if user is None else user.roles
            merged = permissions_of(chain.from_iterable(self.roles.get(role, ()) for role in roles))
            self._merged[name] = merged
        return merged

    # ---- on and off -------------------------------------------------------------------------------------------------

    def enable(self) -> Table:
        """Authentication is on."""
        if self.enabled:
            return self
        if ROOT not in self.users:
            raise Status(*status.ROOT_USER_NOT_EXIST)
        if not self.is_root(ROOT):
            raise Status(*status.ROOT_ROLE_NOT_EXIST)
        return replace(self, enabled=True)

    def disable(self) -> Table:
        """Authentication is off."""
        return replace(self, enabled=False, revision=self.revision + 1) if self.enabled else self

    # ---- users ------------------------------------------------------------------------------------------------------

    def add_user(self, name: str, password: bytes, no_password: bool) -> Table:
        """One more user."""
        if not name:
            raise Status(*status.USER_EMPTY)
        if name in self.users:
            raise Status(*status.USER_ALREADY_EXIST)
        _require_room(name, len(self.users), USERS_MAX, "users")
        return self._with_user(name, User(password, (), no_password))

    def delete_user(self, name: str) -> Table:
        """One user less."""
        if self.enabled and name == ROOT:
            raise Status(*status.INVALID_AUTH_MGMT)
        self.user(name)
        return self._changed(users={each: user for each, user in self.users.items() if each != name})

    def change_password(self, name: str, password: bytes) -> Table:
        """Another password; for a user that has none, still none."""
        user = self.user(name)
        return self._with_user(name, user._replace(password=b"" if user.no_password else password))

    def grant_role(self, name: str, role: str) -> Table:
        """A user has one more role; the role "root" needn't be there."""
        user = self.user(name)
        if role != ROOT:
            self.grants(role)
        if role in user.roles:
            return self
        return self._with_user(name, user._replace(roles=tuple(sorted((*user.roles, role), key=_bytes_of))))

    def revoke_role(self, name: str, role: str) -> Table:
        """A user has one role less."""
        if self.enabled and name == role == ROOT:
            raise Status(*status.INVALID_AUTH_MGMT)
        user = self.user(name)
        if role not in user.roles:
            raise Status(*status.ROLE_NOT_GRANTED)
        return self._with_user(name, _without(user, role))

    # ---- roles ------------------------------------------------------------------------------------------------------

    def add_role(self, role: str) -> Table:
        """One more role, which permits nothing."""
        if not role:
            raise Status(*status.ROLE_EMPTY)
        if role in self.roles:
            raise Status(*status.ROLE_ALREADY_EXIST)
        _require_room(role, len(self.roles), ROLES_MAX, "roles")
        return self._with_role(role, ())

    def delete_role(self, role: str) -> Table:
        """One role less, for all users that had it."""
        if self.enabled and role == ROOT:
            raise Status(*status.INVALID_AUTH_MGMT)
        self.grants(role)
        users = {name: _without(user, role) if role in user.roles else user for name, user in self.users.items()}
        return self._changed(users=users, roles={each: has for each, has in self.roles.items() if each != role})

    def grant(self, role: str, grant: Grant) -> Table:
        """A role permits one range more, or the same range in another way."""
        grants = self.grants(role)
        others = [each for each in grants if each[1:] != grant[1:]]
        if len(others) == len(grants):
            _require_room("", len(grants), GRANTS_MAX, "permissions of a role")
        return self._with_role(role, tuple(sorted((*others, grant), key=lambda each: each.key)))

    def revoke(self, role: str, key: bytes, range_end: bytes) -> Table:
        """A role permits one range less: one that was granted, as it was granted."""
        grants = self.grants(role)
        others = tuple(each for each in grants if each[1:] != (key, range_end))
        if len(others) == len(grants):
            raise Status(*status.PERMISSION_NOT_GRANTED)
        return self._with_role(role, others)

    def _with_user(self, name: str, user: User) -> Table:
        return self._changed(users={**self.users, name: user})

    def _with_role(self, role: str, grants: tuple[Grant, ...]) -> Table:
        return self._changed(roles={**self.roles, role: grants})

    def _changed(
        self, users: Mapping[str, User] | None = None, roles: Mapping[str, tuple[Grant, ...]] | None = None
    ) -> Table:
        users = self.users if users is None else users
        roles = self.roles if roles is None else roles
        return Table(self.enabled, self.revision + 1, users, roles)


def _bytes_of(name: str) -> bytes:
    """By what names are sorted, as etcd sorts them."""
    return name.encode("utf-8", "surrogatepass")


def _without(user: User, role: str) -> User:
    return user._replace(roles=tuple(each for each in user.roles if each != role))


def _require_room(name: str, there: int, most: int, what: str) -> None:
    """Raises Status if there are as many as there may be, or the name is too long for a row's key."""
    if there >= most:
        raise Status(
            status.Code.RESOURCE_EXHAUSTED, f"metcd: there are {most:,} {what} already, and more can't be kept"
        )
    if len(_bytes_of(name)) > NAME_BYTES_MAX:
        raise Status(status.Code.INVALID_ARGUMENT, f"metcd: a name has at most {NAME_BYTES_MAX:,} bytes")


class Users:
    """The table of one node: an own table of the state machine (server/statemachine.py, OwnKeys).

    `table` may be looked at by any thread; everything else is for the thread that applies.
    """

    def __init__(self) -> None:
        self.table = Table()
        self._stored = self.table  # as the engine has it
        self._before = self.table  # the entry that is being evaluated

    def begin(self) -> None:
        """An entry is going to be evaluated."""
        self._before = self.table

    def undo(self) -> None:
        """It has failed: what it changed is taken back."""
        self.table = self._before

    def read(self, store: Reader) -> None:
        """Reads the table that a store has, which was opened or loaded. Raises DecodeError. O(users and roles)."""
        users: dict[str, User] = {}
        roles: dict[str, tuple[Grant, ...]] = {}
        for key, value in store.scan(prefix=USER):
            users[_name(key)] = _user(value)
        for key, value in store.scan(prefix=ROLE):
            roles[_name(key)] = _grants(value)
        enabled, revision = _auth(store.get(AUTH))
        self.table = self._stored = self._before = Table(enabled, revision, users, roles)

    def put(self, batch: WriteBatch, entries: Sequence[Entry], machine: object) -> None:
        """Adds to the batch what has changed since the last one. O(users and roles) if anything has, else O(1)."""
        old, new = self._stored, self.table
        if new is old:
            return
        if (new.enabled, new.revision) != (old.enabled, old.revision):
            batch.put(AUTH, _AUTH.pack(new.enabled, new.revision))
        for name in _differing(old.users, new.users):
            _put_row(batch, USER, name, _user_row(name, new.users[name]) if name in new.users else None)
        for role in _differing(old.roles, new.roles):
            _put_row(batch, ROLE, role, _role_row(role, new.roles[role]) if role in new.roles else None)

    def written(self) -> None:
        """The batch is in the engine."""
        self._stored = self.table


def _differing(old: Mapping[str, object], new: Mapping[str, object]) -> list[str]:
    """The names whose values differ, in order."""
    if old is new:
        return []
    return sorted((name for name in {**old, **new} if old.get(name) != new.get(name)), key=_bytes_of)


def _put_row(batch: WriteBatch, kind: bytes, name: str, value: bytes | None) -> None:
    key = kind + _bytes_of(name)
    if value is None:
        batch.delete(key)
    else:
        batch.put(key, value)


def _user_row(name: str, user: User) -> bytes:
    options = rpc.UserAddOptions(no_password=user.no_password)
    return wire.encode(rpc.User(_bytes_of(name), user.password, list(user.roles), options))


def _role_row(role: str, grants: tuple[Grant, ...]) -> bytes:
    return wire.encode(rpc.Role(_bytes_of(role), [rpc.Permission(*grant) for grant in grants]))


def _name(key: bytes) -> str:
    try:
        return key[len(USER) :].decode()
    except UnicodeDecodeError as error:
        raise DecodeError(f"the key {key!r} is not a user's or a role's: {error}") from None


def _user(value: bytes) -> User:
    user = wire.decode(rpc.User, value)
    return User(user.password, tuple(user.roles), user.options is not None and user.options.no_password)


def _grants(value: bytes) -> tuple[Grant, ...]:
    role = wire.decode(rpc.Role, value)
    return tuple(Grant(each.permType, each.key, each.range_end) for each in role.keyPermission)


def _auth(value: bytes | None) -> tuple[bool, int]:
    if value is None:
        return False, 1
    if len(value) != _AUTH.size:
        raise DecodeError(f"the value of {AUTH!r} has {_AUTH.size} bytes, and this one has {len(value)}")
    enabled, revision = _AUTH.unpack(value)
    return bool(enabled), revision
