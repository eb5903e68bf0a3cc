"""Every call of the Auth service, with the sentences that etcd 3.5.1 was seen to give, and what goes through Raft."""

from __future__ import annotations

import pytest

from server.v3 import rpc, status
from server.v3.auth_service import METHODS, TRIES
from server.v3.status import Status
from tests.server.v3.auth_nodes import Nodes, login, ready


def _answer(nodes: Nodes, path: str, token: str | None = None, **fields: object) -> object:
    """The answer, or the code and sentence in its place."""
    try:
        return nodes.call(path, token, **fields)
    except Status as error:
        return error.args


def test_all_calls_of_the_service_are_there():
    """Those of rpc.proto's service Auth."""
    assert sorted(method.path for method in METHODS) == sorted(
        ["auth/enable", "auth/disable", "auth/status", "auth/authenticate"]
        + [f"auth/user/{call}" for call in ("add", "get", "list", "delete", "changepw", "grant", "revoke")]
        + [f"auth/role/{call}" for call in ("add", "get", "list", "delete", "grant", "revoke")]
    )


def test_a_token_has_etcds_form():
    nodes, root = ready()
    letters, dot, index = root.partition(".")
    assert (len(letters), dot, int(index)) == (16, ".", len(nodes.log))
    assert letters.isascii() and letters.isalpha()


def test_authenticate_and_its_sentences():
    nodes, root = ready()
    nodes.call("auth/user/add", root, name="nopw", options=rpc.UserAddOptions(no_password=True))
    assert _answer(nodes, "auth/authenticate", name="root", password="x") == status.AUTH_FAILED
    assert _answer(nodes, "auth/authenticate", name="root") == status.AUTH_FAILED
    assert _answer(nodes, "auth/authenticate", name="eve", password="p") == status.AUTH_FAILED
    assert _answer(nodes, "auth/authenticate") == status.AUTH_FAILED
    without = (2, "auth: authentication failed, password was given for no password user")
    assert _answer(nodes, "auth/authenticate", name="nopw") == without
    assert _answer(Nodes(), "auth/authenticate", name="root", password="p") == status.AUTH_NOT_ENABLED


def test_a_changed_password_is_the_one_that_counts_and_an_empty_one_is_none():
    nodes, root = ready()
    nodes.call("auth/user/changepw", root, name="alice", password="new")
    assert _answer(nodes, "auth/authenticate", name="alice", password="q") == status.AUTH_FAILED
    assert login(nodes, "alice", "new")
    nodes.call("auth/user/changepw", root, name="alice")
    assert _answer(nodes, "auth/authenticate", name="alice") == status.AUTH_FAILED


def test_a_user_may_have_the_empty_password():
    nodes, root = ready()
    nodes.call("auth/user/add", root, name="open", hashedPassword="what a client sends here isn't looked at")
    assert login(nodes, "open", "")


def test_users_that_change_while_a_password_is_checked_have_it_checked_again(monkeypatch):
    nodes, root = ready()
    auth = nodes.auths[0]
    meanwhile = iter(["bob", "carl"])
    checks: list[str] = []
    match = auth.passwords.match

    def slow(record: bytes | None, password: str) -> bool:
        matched = match(record, password)
        checks.append(password)
        if (name := next(meanwhile, None)) is not None:
            nodes.call("auth/user/add", root, name=name, options=rpc.UserAddOptions(no_password=True))
        return matched

    monkeypatch.setattr(auth.passwords, "match", slow)
    assert login(nodes, "alice", "q")
    assert checks == ["q", "q", "q"]


def test_a_password_that_changes_while_it_is_checked_gives_no_token(monkeypatch):
    nodes, root = ready()
    auth = nodes.auths[0]
    match = auth.passwords.match

    def slow(record: bytes | None, password: str) -> bool:
        matched = match(record, password)
        if matched:
            nodes.call("auth/user/changepw", root, name="alice", password="new")
        return matched

    monkeypatch.setattr(auth.passwords, "match", slow)
    assert _answer(nodes, "auth/authenticate", name="alice", password="q") == status.AUTH_FAILED


def test_users_that_never_stop_changing_end_in_an_error():
    nodes, root = ready()
    names = (f"user-{number}" for number in range(100))

    def before() -> None:
        nodes.before_entry = lambda: None
        nodes.call("auth/user/add", root, name=next(names), options=rpc.UserAddOptions(no_password=True))
        nodes.before_entry = before

    nodes.before_entry = before
    assert _answer(nodes, "auth/authenticate", name="alice", password="q") == status.AUTH_OLD_REVISION
    assert next(names) == f"user-{TRIES}"


def test_nobody_and_users_have_nothing_hashed(monkeypatch):
    nodes, _ = ready()
    alice = login(nodes, "alice", "q")
    monkeypatch.setattr(nodes.auths[0].passwords, "record", lambda password: pytest.fail("hashed"))
    for path in ("auth/user/add", "auth/user/changepw"):
        assert _answer(nodes, path, name="alice", password="x") == status.USER_EMPTY
        assert _answer(nodes, path, alice, name="alice", password="x") == status.PERMISSION_DENIED
        assert _answer(nodes, path, "bad.1", name="alice", password="x") == status.INVALID_AUTH_TOKEN


def test_the_log_has_neither_passwords_nor_tokens():
    nodes, root = ready()
    nodes.call("auth/user/add", root, name="bob", password="correct horse")
    nodes.call("auth/user/changepw", root, name="bob", password="battery staple")
    token = login(nodes, "bob", "battery staple")
    log = b"".join(nodes.log)
    for secret in ("correct horse", "battery staple", token, token.partition(".")[0], root.partition(".")[0]):
        assert secret.encode() not in log


def test_what_is_read():
    nodes, root = ready()
    assert nodes.call("auth/user/list", root).users == ["alice", "dora", "root"]
    assert nodes.call("auth/user/get", root, name="alice").roles == ["reader"]
    assert nodes.call("auth/role/list", root).roles == ["reader", "root"]
    assert [(each.permType, each.key) for each in nodes.call("auth/role/get", root, role="reader").perm] == [
        (0, b"a"), (2, b"b"), (1, b"w")
    ]  # fmt: skip
    found = nodes.call("auth/status", root)
    assert (found.enabled, found.authRevision) == (True, nodes.auths[0].table.revision)
    off = Nodes().call("auth/status")
    assert (off.enabled, off.authRevision) == (False, 1)
    assert _answer(nodes, "auth/user/get", root, name="eve") == status.USER_NOT_FOUND
    assert _answer(nodes, "auth/role/get", root, role="nope") == status.ROLE_NOT_FOUND


def test_a_permission_must_be_given():
    nodes = Nodes()
    assert _answer(nodes, "auth/role/grant", name="q") == status.PERMISSION_NOT_GIVEN
    assert _answer(nodes, "auth/role/grant", name="q", perm=rpc.Permission()) == status.ROLE_NOT_FOUND


ANSWERS = {  # of nobody, and of alice; root gets an answer of the call itself
    method.path: (status.USER_EMPTY, status.PERMISSION_DENIED)
    for method in METHODS
    if method.path not in ("auth/authenticate", "auth/user/get", "auth/role/get")
}


@pytest.mark.parametrize("path", sorted(ANSWERS))
def test_administration_is_roots(path):
    nodes, root = ready(2)
    nobody, denied = ANSWERS[path]
    before = nodes.auths[0].table
    assert _answer(nodes, path) == nobody
    assert _answer(nodes, path, login(nodes, "alice", "q")) == denied
    assert _answer(nodes, path, "bad.1") == status.INVALID_AUTH_TOKEN
    assert nodes.auths[0].table == nodes.auths[1].table == before
    assert _answer(nodes, path, root, **({"name": "new"} if path == "auth/user/add" else {})) not in (nobody, denied)


def test_all_nodes_have_the_same_table():
    nodes, _ = ready(3)
    assert nodes.auths[0].table == nodes.auths[1].table == nodes.auths[2].table
