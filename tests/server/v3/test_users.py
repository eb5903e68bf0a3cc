"""The tables of users and roles: etcd's rules and sentences, and their rows in the engine."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.coding import DecodeError
from engines.kvstore import KVStore, WriteBatch
from engines.memory import MemoryStore
from server.limits import NAME_BYTES_MAX
from server.v3 import status
from server.v3 import users as module
from server.v3.permissions import READ, READWRITE, WRITE, Grant, Need
from server.v3.status import Status
from server.v3.users import ROOT, Table, Users


def _refused(change) -> tuple[object, ...]:
    with pytest.raises(Status) as refused:
        change()
    return refused.value.args


def _with_root() -> Table:
    return Table().add_user(ROOT, b"record", False).grant_role(ROOT, ROOT)


def test_turning_it_on_needs_a_root_user_with_the_root_role():
    assert _refused(Table().enable) == status.ROOT_USER_NOT_EXIST
    assert _refused(Table().add_user(ROOT, b"", False).enable) == status.ROOT_ROLE_NOT_EXIST
    assert _with_root().enable().enabled


def test_the_revision_counts_what_changes_rights():
    """As etcd 3.5.1: turning it on isn't counted, turning it off is, and what changes nothing isn't."""
    table = _with_root()
    assert table.revision == 3
    assert table.enable().revision == 3
    assert table.enable().enable() == table.enable()
    assert table.enable().disable().revision == 4
    assert table.disable() is table
    assert table.grant_role(ROOT, ROOT) is table


def test_what_holds_authentication_up_cant_be_taken_away():
    table = _with_root().add_role(ROOT).enable()
    assert _refused(lambda: table.delete_user(ROOT)) == status.INVALID_AUTH_MGMT
    assert _refused(lambda: table.delete_role(ROOT)) == status.INVALID_AUTH_MGMT
    assert _refused(lambda: table.revoke_role(ROOT, ROOT)) == status.INVALID_AUTH_MGMT
    assert table.add_role("other").delete_role("other").roles == table.roles
    other = table.add_user("other", b"", False).grant_role("other", ROOT)
    assert other.revoke_role("other", ROOT).delete_user("other").users == table.users
    off = table.disable()
    assert off.revoke_role(ROOT, ROOT).users[ROOT].roles == ()
    assert ROOT not in off.delete_user(ROOT).users
    assert off.delete_role(ROOT).users[ROOT].roles == ()


def test_users_and_their_sentences():
    table = Table().add_user("bob", b"1", False).add_role("r")
    assert _refused(lambda: table.add_user("", b"", False)) == status.USER_EMPTY
    assert _refused(lambda: table.add_user("bob", b"", False)) == status.USER_ALREADY_EXIST
    assert _refused(lambda: table.delete_user("eve")) == status.USER_NOT_FOUND
    assert _refused(lambda: table.change_password("eve", b"")) == status.USER_NOT_FOUND
    assert _refused(lambda: table.grant_role("eve", "r")) == status.USER_NOT_FOUND
    assert _refused(lambda: table.grant_role("bob", "q")) == status.ROLE_NOT_FOUND
    assert _refused(lambda: table.revoke_role("eve", "r")) == status.USER_NOT_FOUND
    assert _refused(lambda: table.revoke_role("bob", "r")) == status.ROLE_NOT_GRANTED
    assert table.grant_role("bob", "root").grant_role("bob", "r").users["bob"].roles == ("r", "root")
    assert table.change_password("bob", b"2").users["bob"].password == b"2"
    assert table.users["bob"].password == b"1", "a table never changes"
    without = Table().add_user("nopw", b"", True).change_password("nopw", b"2")
    assert without.users["nopw"].password == b""


def test_roles_and_their_sentences():
    table = Table().add_role("r")
    assert _refused(lambda: table.add_role("")) == status.ROLE_EMPTY
    assert _refused(lambda: table.add_role("r")) == status.ROLE_ALREADY_EXIST
    assert _refused(lambda: table.delete_role("q")) == status.ROLE_NOT_FOUND
    assert _refused(lambda: table.grant("q", Grant(READ, b"k"))) == status.ROLE_NOT_FOUND
    assert _refused(lambda: table.revoke("q", b"k", b"")) == status.ROLE_NOT_FOUND
    granted = table.grant("r", Grant(READ, b"k", b"l")).grant("r", Grant(WRITE, b"a"))
    assert granted.roles["r"] == (Grant(WRITE, b"a"), Grant(READ, b"k", b"l"))
    assert _refused(lambda: granted.revoke("r", b"k", b"")) == status.PERMISSION_NOT_GRANTED
    assert granted.revoke("r", b"k", b"l").roles["r"] == (Grant(WRITE, b"a"),)


def test_granting_the_same_range_again_replaces_it_whatever_else_begins_there():
    """etcd keeps both, so that the first one's right to write stays."""
    table = Table().add_role("r").grant("r", Grant(READ, b"k", b"l")).grant("r", Grant(READWRITE, b"k", b"m"))
    table = table.grant("r", Grant(READ, b"k", b"m")).add_user("u", b"", False).grant_role("u", "r")
    assert table.roles["r"] == (Grant(READ, b"k", b"l"), Grant(READ, b"k", b"m"))
    assert not table.permissions("u").allow(Need(True, b"k"))


def test_a_deleted_role_goes_from_all_its_users():
    table = Table().add_role("r").grant("r", Grant(READ, b"k")).add_user("u", b"", False).grant_role("u", "r")
    assert table.permissions("u").allow(Need(False, b"k"))
    assert not table.delete_role("r").permissions("u").allow(Need(False, b"k"))
    assert table.delete_role("r").add_role("r").users["u"].roles == ()


def test_there_is_room_for_so_many(monkeypatch):
    for limit in ("USERS_MAX", "ROLES_MAX", "GRANTS_MAX"):
        monkeypatch.setattr(module, limit, 1)
    table = Table().add_user("u", b"", False).add_role("r").grant("r", Grant(READ, b"a"))
    for change in (
        lambda: table.add_user("v", b"", False),
        lambda: table.add_role("s"),
        lambda: table.grant("r", Grant(READ, b"b")),
    ):
        assert _refused(change)[0] == status.Code.RESOURCE_EXHAUSTED
    assert table.grant("r", Grant(WRITE, b"a")).roles["r"] == (Grant(WRITE, b"a"),)


def test_a_name_is_bounded():
    longest = "ä" * (NAME_BYTES_MAX // 2)
    table = Table().add_user(longest, b"", False).add_role(longest)
    assert _refused(lambda: table.add_user(longest + "x", b"", False))[0] == status.Code.INVALID_ARGUMENT
    assert _refused(lambda: table.add_role(longest + "x"))[0] == status.Code.INVALID_ARGUMENT


# ---- rows -----------------------------------------------------------------------------------------------------------

NAMES = st.sampled_from(["root", "u", "ä", "u\0", "r"])
CHANGES = st.one_of(
    st.tuples(st.just("add_user"), NAMES, st.binary(max_size=3), st.booleans()),
    st.tuples(st.just("delete_user"), NAMES),
    st.tuples(st.just("change_password"), NAMES, st.binary(max_size=3)),
    st.tuples(st.just("grant_role"), NAMES, NAMES),
    st.tuples(st.just("revoke_role"), NAMES, NAMES),
    st.tuples(st.just("add_role"), NAMES),
    st.tuples(st.just("delete_role"), NAMES),
    st.tuples(
        st.just("grant"), NAMES, st.builds(Grant, st.integers(0, 3), st.binary(max_size=2), st.binary(max_size=2))
    ),
    st.tuples(st.just("enable")),
    st.tuples(st.just("disable")),
    st.tuples(st.just("- batch -")),
)


def _write(users: Users, store: KVStore) -> None:
    batch = WriteBatch()
    users.put(batch, [], None)
    store.write(batch)
    users.written()


@given(st.lists(CHANGES, max_size=20))
def test_what_was_written_is_read_again_and_what_failed_leaves_nothing(changes):
    """However the entries are divided into batches; a quarter of the changes fails after it was made."""
    chance = random.Random(repr(changes))
    store, users = MemoryStore(), Users()
    for name, *arguments in changes:
        if name == "- batch -":
            _write(users, store)
            continue
        users.begin()
        before = users.table
        try:
            users.table = getattr(users.table, name)(*arguments)
            if chance.random() < 0.25:
                raise Status(*status.NO_SPACE)
        except Status:
            users.undo()
            assert users.table is before
    _write(users, store)
    again = Users()
    again.read(store)
    assert again.table == users.table
    empty = WriteBatch()
    users.put(empty, [], None)
    again.put(empty, [], None)
    assert not empty.operations


def test_an_empty_store_has_nobody_and_revision_1():
    users = Users()
    users.read(MemoryStore())
    assert users.table == Table(enabled=False, revision=1)


@pytest.mark.parametrize("row", [(b"mua", b"\1"), (b"muu\xff", b""), (b"muuu", b"\xff"), (b"murr", b"\x0a\x05x")])
def test_rows_that_cant_be_read_are_said_to_be(row):
    store = MemoryStore()
    store.put(*row)
    with pytest.raises(DecodeError):
        Users().read(store)
