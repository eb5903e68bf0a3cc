"""Users, roles and tokens on three nodes with three engines, through their real log."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from server.node import Node
from server.v3 import lease_service, rpc, status
from server.v3.auth_service import METHODS
from server.v3.method import Call, Caller, Read, Write
from server.v3.passwords import Passwords
from server.v3.status import Status
from tests.server.local_nodes import LocalCluster, cuts_over, eventually

ENGINES = ("lsm", "btree", "bitcask")
PASSWORDS = {"root": "correct-horse-battery", "alice": "staple-of-alice"}


@pytest.fixture(autouse=True)
def _cheap_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Passwords.__init__, "__defaults__", (2,))


def call(node: Node, path: str, token: str | None = None, **fields: Any) -> Any:
    """A method of the Auth service, as the gateway asks for it. Raises Status."""
    (method,) = (each for each in METHODS if each.path == path)
    request, caller, etcd = method.request(**fields), Caller(token), node.etcd
    if isinstance(method, Call):
        return method.run(etcd, caller, request)
    caller = etcd.identify(caller)
    if isinstance(method, Read):
        etcd.barrier()
        with etcd.view() as view:
            return method.evaluate(etcd, view, caller, request)
    assert isinstance(method, Write)
    return ask(node, caller, **{method.field: request})


def ask(node: Node, caller: Caller, **field: Any) -> Any:
    header = rpc.RequestHeader(username=caller.username, auth_revision=caller.auth_revision)
    return node.etcd.request(rpc.InternalRaftRequest(header, **field))


def login(node: Node, name: str) -> str:
    return str(call(node, "auth/authenticate", name=name, password=PASSWORDS[name]).token)


def begin(node: Node) -> str:
    """Turns authentication on; alice may read and write [a, b). Root's token."""
    for name, password in PASSWORDS.items():
        call(node, "auth/user/add", name=name, password=password)
    call(node, "auth/user/grant", user="root", role="root")
    call(node, "auth/role/add", name="a")
    call(node, "auth/role/grant", name="a", perm=rpc.Permission(2, b"a", b"b"))
    call(node, "auth/user/grant", user="alice", role="a")
    call(node, "auth/enable")
    return login(node, "root")


def sentence(act: Callable[[], object]) -> tuple[object, ...] | None:
    try:
        act()
    except Status as error:
        return error.args
    return None


def put(node: Node, token: str | None, key: bytes) -> Callable[[], object]:
    return lambda: ask(node, node.etcd.identify(Caller(token)), put=rpc.PutRequest(key, b"1"))


def test_three_engines_have_the_same_users_and_the_same_answer_everywhere(tmp_path: Path) -> None:
    with LocalCluster(tmp_path, ENGINES) as cluster:
        follower = cluster.follower()
        begin(follower)
        alice = login(follower, "alice")
        for node in cluster.nodes.values():
            assert sentence(put(node, alice, b"a1")) is None
            assert sentence(put(node, alice, b"b")) == status.PERMISSION_DENIED
            assert sentence(put(node, None, b"a1")) == status.USER_EMPTY
        rows = [key for key, _ in cluster.converged() if key.startswith(b"mu")]
        assert rows == [b"mua", b"mura", b"muualice", b"muuroot"]
        tables = [node.etcd.auth.table for node in cluster.nodes.values()]
        assert tables[0] == tables[1] == tables[2]
        assert tables[0].enabled and set(tables[0].users) == {"alice", "root"}


def test_what_was_permitted_before_a_change_isnt_applied_after_it(tmp_path: Path) -> None:
    """The entry carries the revision against which its node has looked at the caller, and every node looks at that."""
    with LocalCluster(tmp_path, ENGINES) as cluster:
        leader, follower = cluster.leader(), cluster.follower()
        root = begin(leader)
        alice = follower.etcd.identify(Caller(login(follower, "alice")))
        call(leader, "auth/role/revoke", root, role="a", key=b"a", range_end=b"b")
        assert sentence(lambda: ask(follower, alice, put=rpc.PutRequest(b"a1"))) == status.AUTH_OLD_REVISION
        with leader.etcd.view() as view:
            assert view.get(b"a1") is None
        cluster.converged()


@pytest.mark.parametrize("engine", ["lsm", "memory"])
def test_users_are_there_after_a_restart_and_tokens_are_not(tmp_path: Path, engine: str) -> None:
    """Memory applies all entries of its log again, and with them those that gave tokens, however long ago that was."""
    with LocalCluster(tmp_path, [engine]) as cluster:
        node = cluster.leader()
        token = begin(node)
        before = node.etcd.auth.table
        node.machine.flush()
        cluster.stop(1)
        node = cluster.start(1)
        eventually("it leads", lambda: node.status()["leader"] == 1)
        node.etcd.barrier()
        assert node.etcd.auth.table == before
        assert sentence(lambda: node.etcd.identify(Caller(token))) == status.INVALID_AUTH_TOKEN
        assert sentence(put(node, None, b"a1")) == status.USER_EMPTY
        assert sentence(put(node, login(node, "alice"), b"a1")) is None


def test_a_node_that_gets_a_snapshot_gets_the_users_with_it(tmp_path: Path) -> None:
    with LocalCluster(tmp_path, ENGINES, snapshot_entries=20, catch_up_entries=1) as cluster:
        root = begin(cluster.leader())
        behind = cluster.follower().id
        cluster.stop(behind)
        leader = cluster.leader()
        call(leader, "auth/user/delete", root, name="alice")
        for number in range(50):
            ask(leader, leader.etcd.identify(Caller(root)), put=rpc.PutRequest(b"b%d" % number))
        cuts_over(leader)
        node = cluster.start(behind)
        cluster.converged()
        assert node.etcd.auth.table == leader.etcd.auth.table
        assert sentence(lambda: call(node, "auth/user/get", login(node, "root"), name="alice")) == status.USER_NOT_FOUND


def test_neither_the_data_directories_nor_the_log_lines_have_a_password_or_a_token(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    tokens = []
    with LocalCluster(tmp_path, ENGINES) as cluster:
        root = begin(cluster.leader())
        tokens += [root, login(cluster.follower(), "alice")]
        call(cluster.leader(), "auth/user/changepw", root, name="alice", password="new-for-alice")
        assert sentence(lambda: call(cluster.leader(), "auth/authenticate", name="alice", password="a-wrong-guess"))
        cluster.converged()
        for node in cluster.nodes.values():
            node.machine.store.flush()
    secrets = [*PASSWORDS.values(), "new-for-alice", "a-wrong-guess", *(token.partition(".")[0] for token in tokens)]
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    content = b"".join(file.read_bytes() for file in files)
    assert b"muuroot" in content and b"alice" in content, "the files that were looked at are the ones"
    for secret in secrets:
        assert secret.encode() not in content
        assert secret not in caplog.text


def test_a_key_that_comes_to_a_lease_while_it_is_asked_for_isnt_told_to_who_may_not_read_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with LocalCluster(tmp_path, ["memory"]) as cluster:
        node = cluster.leader()
        root = node.etcd.identify(Caller(begin(node)))
        alice = Caller(login(node, "alice"))
        ask(node, root, lease_grant=rpc.LeaseGrantRequest(TTL=600, ID=77))
        ask(node, root, put=rpc.PutRequest(b"a1", lease=77))
        asked = rpc.LeaseTimeToLiveRequest(ID=77, keys=True)
        assert lease_service.timetolive(node.etcd, alice, asked).keys == [b"a1"]
        look = node.etcd.leasing.calls.look

        def late(*arguments: Any) -> None:
            ask(node, root, put=rpc.PutRequest(b"secret", lease=77))
            look(*arguments)

        monkeypatch.setattr(node.etcd.leasing.calls, "look", late)
        assert sentence(lambda: lease_service.timetolive(node.etcd, alice, asked)) == status.PERMISSION_DENIED
        assert lease_service.timetolive(node.etcd, root, asked).keys == [b"a1", b"secret"]


def test_a_leader_compacts_by_itself_while_authentication_is_on(tmp_path: Path) -> None:
    with LocalCluster(tmp_path, ["memory"], retention=10) as cluster:
        node = cluster.leader()
        root = node.etcd.identify(Caller(begin(node)))
        for _ in range(20):
            ask(node, root, put=rpc.PutRequest(b"b"))
        eventually(
            "it has compacted", lambda: node.machine.revisions is not None and node.machine.revisions.compacted > 5
        )
