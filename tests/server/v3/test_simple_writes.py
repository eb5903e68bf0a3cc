"""Simple writes while an alarm is raised or authentication is on: what their entries come to, on every node."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import engines
from engines.memory import MemoryStore
from raft.raftpb import ConfState, Entry
from server.errors import Corrupt, NodeError, NoSpace, NumberPassed, PermissionDenied, RightsChanged
from server.evaluation import Evaluated, Request
from server.http import FrontEnd
from server.mvcc_rows import HISTORY
from server.principal import Principal
from server.proposal_bytes import encode_proposal
from server.routes import answer_error
from server.sessions import OPENS, Serial
from server.statemachine import StateMachine
from server.statemachine_fast import FastMachine
from server.v3 import rpc, wire
from server.v3.messages import Message
from server.v3.passwords import Passwords, text_of
from server.v3.status import Status
from tests.server.gateways import asked
from tests.server.local_nodes import LocalCluster, insist
from tests.server.v3.applying import machine_of

NOSPACE, CORRUPT = rpc.AlarmType.NOSPACE, rpc.AlarmType.CORRUPT
ACTIVATE, DEACTIVATE = rpc.AlarmRequest.AlarmAction.ACTIVATE, rpc.AlarmRequest.AlarmAction.DEACTIVATE
ENGINES = ("memory", "lsm", "btree", "bitcask")


def ask(who: Principal | None = None, **field: Any) -> list[Any]:
    """An entry with a request."""
    header = None if who is None else rpc.RequestHeader(username=who.username, auth_revision=who.auth_revision)
    return [Request(wire.encode(rpc.InternalRaftRequest(header, **field)))]


def alarm(action: int, kind: int, member: int = 2) -> list[Any]:
    return ask(alarm=rpc.AlarmRequest(action, member, kind))


def apply(machine: StateMachine, proposals: Sequence[Sequence[Any]], batches: Sequence[int] = ()) -> list[Any]:
    """What these proposals come to as the next entries, all in one batch, or divided: the index, a NodeError, or a response."""
    first = machine.applied_index + 1
    entries = [Entry(1, at, data=encode_proposal(7, at, each)) for at, each in enumerate(proposals, first)]
    conf_state = ConfState(voters=(1, 2, 3)) if first == 1 else None
    applied = []
    for size in batches or [len(entries)]:
        applied += machine.apply(entries[:size], conf_state)
        del entries[:size]
    return [each.outcome.answer if isinstance(each.outcome, Evaluated) else each.outcome for each in applied]


def kinds(outcomes: Sequence[Any]) -> list[Any]:
    """The same, with classes in the place of errors and of responses."""
    return [
        each if isinstance(each, int) else Message if isinstance(each, Message) else type(each) for each in outcomes
    ]


AN_ALARM = [
    [(b"a", b"1")],
    [(b"b", b"1")],
    alarm(ACTIVATE, NOSPACE),
    [(b"a", b"2")],
    [(b"a", None)],
    [(b"c", b"2"), (b"b", None)],
    [(b"b", None), (b"none", None)],
    alarm(ACTIVATE, CORRUPT),
    [(b"a", b"3")],
    [(b"b", None)],
    alarm(DEACTIVATE, CORRUPT),
    alarm(DEACTIVATE, NOSPACE),
    [(b"d", b"4")],
]
AN_ALARM_COMES_TO = [
    3, 4, Message, NoSpace, 7, NoSpace, 9, Message, Corrupt, Corrupt, Message, Message, 15,
]  # fmt: skip


@pytest.mark.parametrize("engine", ENGINES)
def test_an_alarm_counts_from_its_entry_on_however_the_entries_are_divided(engine: str, tmp_path: Path) -> None:
    """The write may have been proposed before the alarm; it is its entry that comes after it. In both forms of `apply`."""
    contents = []
    for kind in (StateMachine, FastMachine):
        for batches in ([], [1] * 13, [2, 2, 5, 4]):
            with engines.open(f"{tmp_path}/{len(contents)}", engine, sync=False) as store:
                _etcd, machine = machine_of(store, kind)
                assert kinds(apply(machine, [[(b"a", b"0")], [Request(b"")]])) == [1, type(None)]
                assert kinds(apply(machine, AN_ALARM, batches)) == AN_ALARM_COMES_TO
                assert dict(machine.scan()) == {b"d": b"4"}
                assert machine.guard is None
                contents.append(list(store.scan()))
    assert all(content == contents[0] for content in contents)


def test_who_is_refused_for_an_alarm_is_told_which_and_how_it_ends() -> None:
    _etcd, machine = machine_of(MemoryStore())
    *_, no_space, _, corrupt = apply(
        machine, [alarm(ACTIVATE, NOSPACE, 3), [(b"a", b"1")], alarm(ACTIVATE, CORRUPT), [(b"a", None)]]
    )
    assert str(no_space) == (
        "The alarm NOSPACE is raised, so nothing can be put, while deletes go on, until it is disarmed by POST "
        '/v3/maintenance/alarm with the body {"action": "DEACTIVATE", "memberID": "3", "alarm": "NOSPACE"}.'
    )
    assert "CORRUPT" in str(corrupt) and '"memberID": "2"' in str(corrupt)
    assert [answer_error(error).status for error in (no_space, corrupt)] == [507, 500]
    assert [answer_error(error).headers.count(b"Retry-After") for error in (no_space, corrupt)] == [0, 0]
    assert answer_error(PermissionDenied("no")).status == 403
    assert answer_error(RightsChanged("again")).status == 503


def test_an_alarm_that_is_none_of_the_two_forbids_nothing() -> None:
    _etcd, machine = machine_of(MemoryStore())
    assert kinds(apply(machine, [alarm(ACTIVATE, 9), [(b"a", b"1")], [(b"a", None)]])) == [Message, 2, 3]


def test_what_is_refused_leaves_no_row_and_no_revision() -> None:
    _etcd, machine = machine_of(MemoryStore())
    apply(machine, [[(b"a", b"1")], alarm(ACTIVATE, NOSPACE)])
    before = {key: row for key, row in machine.store.scan() if key[:1] in b"kh"}
    revision = machine.revision
    apply(machine, [[(b"a", b"2"), (b"b", b"2")]])
    assert {key: row for key, row in machine.store.scan() if key[:1] in b"kh"} == before
    assert machine.revision == revision
    assert kinds(apply(machine, [[(b"a", None)]])) == [4]
    assert sum(key.startswith(HISTORY) for key, _ in machine.store.scan()) == 1


def test_the_guard_is_there_after_a_restart_and_after_a_snapshot() -> None:
    store = MemoryStore()
    _etcd, machine = machine_of(store)
    apply(machine, [[(b"a", b"1")], alarm(ACTIVATE, NOSPACE)])
    _etcd, opened = machine_of(store)
    assert kinds(apply(opened, [[(b"a", b"2")], [(b"a", None)]])) == [NoSpace, 4]
    _other_etcd, other = machine_of(MemoryStore())
    apply(other, [[(b"z", b"1")]])
    assert other.guard is None
    snapshot = opened.snapshot()
    with snapshot.view:
        other.recover_from_snapshot(snapshot.metadata, snapshot.pairs())
    assert kinds(apply(other, [[(b"a", b"2")], alarm(DEACTIVATE, NOSPACE), [(b"a", b"3")]])) == [NoSpace, Message, 7]


# ---- authentication -------------------------------------------------------------------------------------------------


def begin(machine: StateMachine) -> None:
    """Users are there, and authentication is on. alice may write [a, b)."""
    perm = rpc.Permission(1, b"a", b"b")
    apply(
        machine,
        [
            ask(auth_user_add=rpc.AuthUserAddRequest("root", options=rpc.UserAddOptions(no_password=True))),
            ask(auth_user_grant_role=rpc.AuthUserGrantRoleRequest("root", "root")),
            ask(auth_user_add=rpc.AuthUserAddRequest("alice", options=rpc.UserAddOptions(no_password=True))),
            ask(auth_role_add=rpc.AuthRoleAddRequest("writer")),
            ask(auth_role_grant_permission=rpc.AuthRoleGrantPermissionRequest("writer", perm)),
            ask(auth_user_grant_role=rpc.AuthUserGrantRoleRequest("alice", "writer")),
            ask(auth_enable=rpc.AuthEnableRequest()),
        ],
    )


def test_a_right_that_is_taken_away_between_permission_and_entry_counts_no_more() -> None:
    """All in one batch: the write was permitted and proposed before the right went, and comes after it in the log."""
    etcd, machine = machine_of(MemoryStore())
    begin(machine)
    revision = etcd.auth.table.revision
    root, alice = Principal("root", revision), Principal("alice", revision)
    outcomes = apply(
        machine,
        [
            [alice, (b"a1", b"1")],
            [alice, (b"b", b"1")],
            [alice, (b"a2", b"1"), (b"b", None)],
            [root, (b"b", b"1")],
            ask(root, auth_role_revoke_permission=rpc.AuthRoleRevokePermissionRequest("writer", b"a", b"b")),
            [alice, (b"a1", b"2")],
            [Principal("alice", revision + 1), (b"a1", b"3")],
            [root, (b"b", b"2")],
            [Principal("root", revision + 1), (b"b", b"3")],
        ],
    )
    assert kinds(outcomes) == [
        8, PermissionDenied, PermissionDenied, 11, Message, RightsChanged, PermissionDenied, RightsChanged, 16,
    ]  # fmt: skip
    assert dict(machine.scan()) == {b"a1": b"1", b"b": b"3"}


def test_a_write_that_says_nobody_is_refused_from_the_entry_on_that_turns_authentication_on() -> None:
    """And one that says somebody is done when it is off again, and nobody asks."""
    etcd, machine = machine_of(MemoryStore())
    assert kinds(apply(machine, [[(b"x", b"1")]])) == [1]
    begin(machine)
    root = Principal("root", etcd.auth.table.revision)
    outcomes = apply(
        machine,
        [
            [(b"x", b"2")],
            [Principal("", 0), (b"x", b"2")],
            [Principal("nobody", root.auth_revision), (b"x", b"2")],
            [OPENS],
            ask(root, auth_disable=rpc.AuthDisableRequest()),
            [(b"x", b"3")],
            [root, (b"y", b"3")],
        ],
    )
    assert kinds(outcomes) == [RightsChanged, RightsChanged, PermissionDenied, 12, Message, 14, 15]
    assert dict(machine.scan()) == {b"x": b"3", b"y": b"3"}


def test_who_may_not_write_is_told_so_and_learns_of_no_alarm() -> None:
    etcd, machine = machine_of(MemoryStore())
    begin(machine)
    root = Principal("root", etcd.auth.table.revision)
    apply(machine, [ask(root, alarm=rpc.AlarmRequest(ACTIVATE, 1, NOSPACE))])
    alice = Principal("alice", root.auth_revision)
    outcomes = apply(machine, [[alice, (b"b", b"1")], [alice, (b"a", b"1")], [alice, (b"a", None)]])
    assert kinds(outcomes) == [PermissionDenied, NoSpace, 11]


# ---- sessions -------------------------------------------------------------------------------------------------------


def test_a_number_that_an_alarm_has_refused_does_nothing_for_good() -> None:
    """Its client was told so: a copy that is still on its way must not be applied once the alarm has ended."""
    _etcd, machine = machine_of(MemoryStore())
    outcomes = apply(
        machine,
        [
            [OPENS],
            [Serial(1, 1), (b"a", b"1")],
            alarm(ACTIVATE, NOSPACE),
            [Serial(1, 2), (b"a", b"2")],
            [Serial(1, 1), (b"a", b"1")],
            alarm(DEACTIVATE, NOSPACE),
            [Serial(1, 2), (b"a", b"2")],
            [Serial(1, 3), (b"a", b"3")],
            [Serial(1, 3), (b"a", b"3")],
        ],
    )
    assert kinds(outcomes) == [1, 2, Message, NoSpace, NumberPassed, Message, NumberPassed, 8, 8]
    assert dict(machine.scan()) == {b"a": b"3"}
    _, again = machine_of(machine.store)
    assert kinds(apply(again, [[Serial(1, 3), (b"a", b"4")]])) == [8]


def test_a_repetition_of_what_was_done_before_an_alarm_is_answered_as_before() -> None:
    _etcd, machine = machine_of(MemoryStore())
    outcomes = apply(
        machine,
        [[OPENS], [Serial(1, 1), (b"a", b"1")], alarm(ACTIVATE, NOSPACE), [Serial(1, 1), (b"a", b"1")]],
    )
    assert kinds(outcomes) == [1, 2, Message, 2]


@pytest.mark.parametrize("batches", [[], [1] * 4])
def test_a_number_that_came_while_rights_changed_may_come_again(batches: list[int]) -> None:
    etcd, machine = machine_of(MemoryStore())
    begin(machine)
    old, new = (Principal("root", etcd.auth.table.revision + more) for more in (0, 1))
    opened = apply(machine, [[OPENS]])[0]
    outcomes = apply(
        machine,
        [
            ask(old, auth_user_add=rpc.AuthUserAddRequest("eve", options=rpc.UserAddOptions(no_password=True))),
            [Serial(opened, 1), old, (b"a", b"1")],
            [Serial(opened, 1), new, (b"a", b"2")],
            [Serial(opened, 1), new, (b"a", b"3")],
        ],
        batches,
    )
    assert kinds(outcomes) == [Message, RightsChanged, 11, 11]
    assert dict(machine.scan()) == {b"a": b"2"}


# ---- nodes ----------------------------------------------------------------------------------------------------------


def test_an_alarm_stops_simple_puts_on_every_node(tmp_path: Path) -> None:
    def refusal(node: Any, operations: list[Any]) -> type[NodeError] | None:
        try:
            insist(lambda: node.propose(operations))
        except NoSpace as error:
            return type(error)
        return None

    def change(action: int) -> None:
        request = rpc.InternalRaftRequest(alarm=rpc.AlarmRequest(action, 1, NOSPACE))
        insist(lambda: cluster.follower().etcd.request(request))

    with LocalCluster(tmp_path, ("lsm", "btree", "bitcask")) as cluster:
        cluster.put(cluster.leader(), b"a", b"1")
        cluster.put(cluster.leader(), b"b", b"1")
        nodes = list(cluster.nodes.values())
        change(ACTIVATE)
        assert [refusal(node, [(b"a", b"2")]) for node in nodes] == [NoSpace] * 3
        assert [refusal(node, [(b"a", b"2"), (b"b", None)]) for node in nodes] == [NoSpace] * 3
        assert refusal(nodes[0], [(b"a", None)]) is None
        assert cluster.values() == {b"b": b"1"}
        change(DEACTIVATE)
        assert [refusal(node, [(b"a", b"3")]) for node in nodes] == [None] * 3
        assert cluster.values() == {b"a": b"3", b"b": b"1"}


def test_over_http_a_right_that_goes_while_the_put_is_on_its_way_counts_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Permitted by its node, then the role goes, then the put is proposed: as slow a node or as quick an admin does it."""
    monkeypatch.setattr(Passwords.__init__, "__defaults__", (2,))
    with LocalCluster(tmp_path, ["memory"]) as cluster:
        node = cluster.leader()
        node.etcd.barrier()
        auth = node.etcd.auth

        def change(**field: Any) -> None:
            who = rpc.RequestHeader(username="root", auth_revision=auth.table.revision)
            node.etcd.request(rpc.InternalRaftRequest(who, **field))

        record = text_of(auth.passwords.record("secret"))
        for name, role in {"root": "root", "alice": "writer"}.items():
            change(auth_user_add=rpc.AuthUserAddRequest(name, hashedPassword=record))
            change(auth_role_add=rpc.AuthRoleAddRequest(role))
            change(auth_user_grant_role=rpc.AuthUserGrantRoleRequest(name, role))
        perm = rpc.Permission(1, b"a", b"b")
        change(auth_role_grant_permission=rpc.AuthRoleGrantPermissionRequest("writer", perm))
        change(auth_enable=rpc.AuthEnableRequest())
        front_end = FrontEnd(node, ("127.0.0.1", 0))
        front_end.start()
        url = "http://{}:{}".format(*front_end.address)

        def write(name: str, method: str, path: str, body: bytes = b"1", **fields: str) -> int:
            basic = base64.b64encode(f"{name}:secret".encode()).decode()
            return asked(url, method, path, body, Authorization=f"Basic {basic}", **fields)[0]

        def race(method: str, path: str, body: bytes = b"1") -> int:
            """alice has the role; it is taken away after her request was permitted."""
            with contextlib.suppress(Status):
                change(auth_user_grant_role=rpc.AuthUserGrantRoleRequest("alice", "writer"))
            with monkeypatch.context() as delayed:
                for way in ("propose", "propose_nowait"):
                    propose = getattr(node, way)

                    def late(*arguments: Any, propose: Any = propose) -> Any:
                        change(auth_user_revoke_role=rpc.AuthUserRevokeRoleRequest("alice", "writer"))
                        return propose(*arguments)

                    delayed.setattr(node, way, late)
                return write("alice", method, path, body)

        batch = b'{"op":"put","key":"YTk=","value":"MQ=="}\n'
        try:
            assert [write("alice", "PUT", "/a1"), write("alice", "PUT", "/b"), write("root", "PUT", "/b")] == [
                204,
                403,
                204,
            ]
            assert [write("alice", "DELETE", "/a1"), write("alice", "POST", "/_/batch", batch)] == [204, 200]
            assert write("alice", "PUT", "/a1", X_Metcd_Request="1/1") == 410  # no such session; it came to its entry
            assert [race("PUT", "/a2"), race("DELETE", "/a9"), race("POST", "/_/batch", batch)] == [503, 503, 503]
            assert race("PUT", "/a3?wait=false") == 204  # which promises nothing
            node.etcd.barrier()
            assert dict(node.machine.scan()) == {b"a9": b"1", b"b": b"1"}
        finally:
            front_end.stop()
