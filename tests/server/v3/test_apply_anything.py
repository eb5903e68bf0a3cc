"""Requests with anything in their fields, applied: each comes to a response or to a Status, never to what stops the nodes.

A request that passes its method's check and then raises anything else would end every node, and again at each restart.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from engines.memory import MemoryStore
from server.statemachine import StateMachine
from server.v3 import rpc
from server.v3.apply import BRANCHES
from server.v3.etcd import Etcd
from server.v3.messages import Field, Kind, Message, fields_of
from server.v3.method import Write
from server.v3.rpc import InternalRaftRequest, RequestHeader
from server.v3.services import TABLE
from server.v3.status import Status
from tests.conftest import SEED
from tests.server.v3.applying import applied, machine_of

INTS = [0, 1, 2, 3, 7, -1, -5, 60, 2**31, 2**63 - 1, -(2**63)]
NAMES = ["", "root", "alice", "a", "é𝄞", "\0", "n" * 2000]
BYTES = [b"", b"\0", b"a", b"b", b"c", b"a\0", b"\xff", b"k" * 32_767, b"k" * 40_000, b"root"]
CHECKS: dict[str, Callable[[Any], object]] = {
    each.method.field: each.method.check for each in TABLE.values() if isinstance(each.method, Write)
}


def value(rng: random.Random, field: Field, depth: int) -> Any:
    if field.kind is Kind.MESSAGE:
        assert field.of is not None
        return message(rng, field.of, depth + 1)
    if field.kind is Kind.BYTES:
        return rng.choice(BYTES)
    if field.kind is Kind.STRING:
        return rng.choice(NAMES)
    if field.kind is Kind.BOOL:
        return rng.random() < 0.5
    if field.kind is Kind.ENUM:
        return rng.choice([0, 0, 1, 2, 3, 4, 9])
    number = rng.choice(INTS)
    return number if field.kind is Kind.INT64 else abs(number) & 0xFFFFFFFF


def message(rng: random.Random, cls: type[Message], depth: int = 0) -> Message:
    """One with some of its fields set; of a oneof, one member or none."""
    made = cls()
    taken: set[str] = set()
    for field in rng.sample(fields_of(cls), len(fields_of(cls))):
        absent = 0.3 if depth < 4 else 0.95
        if rng.random() < absent or (field.oneof and field.oneof in taken):
            continue
        taken.add(field.oneof)
        count = rng.choice([0, 1, 1, 2, 3]) if field.repeated else 1
        values = [value(rng, field, depth) for _ in range(count)]
        setattr(made, field.name, values if field.repeated else values[0])
    return made


def begun() -> tuple[Etcd, StateMachine, Callable[..., object]]:
    """A state machine with a user root; and what applies a request as root, by the field that it is in."""
    etcd, machine = machine_of(MemoryStore())

    def as_root(**field: Any) -> object:
        header = RequestHeader(username="root", auth_revision=etcd.auth.table.revision)
        return applied(machine, InternalRaftRequest(header, **field))

    as_root(auth_user_add=rpc.AuthUserAddRequest(name="root", hashedPassword="AAAA"))
    as_root(auth_user_grant_role=rpc.AuthUserGrantRoleRequest(user="root", role="root"))
    return etcd, machine, as_root


def play(seed: int, count: int) -> dict[str, set[str]]:
    """What requests of each kind came to. Raises what would stop a node."""
    rng = random.Random(seed)
    etcd, machine, as_root = begun()
    found: dict[str, set[str]] = {field: set() for field in BRANCHES}
    classes = {field.name: field.of for field in fields_of(InternalRaftRequest)}
    while count:
        name = rng.choice(list(BRANCHES))
        cls = classes[name]
        assert cls is not None
        asked = message(rng, cls)
        try:
            CHECKS.get(name, lambda request: None)(asked)
        except Status:
            continue
        count -= 1
        revision = etcd.auth.table.revision
        who = RequestHeader(username=rng.choice(NAMES), auth_revision=rng.choice([0, 1, revision]))
        root = RequestHeader(username="root", auth_revision=revision)
        request = InternalRaftRequest(header=rng.choice([None, who, root, root, root]))
        setattr(request, name, asked)
        answer = applied(machine, request)
        assert isinstance(answer, Message | Status), request
        found[name].add("refused" if isinstance(answer, Status) else "done")
        if rng.random() < 0.2:
            for member, alarm in etcd.alarms.raised:
                as_root(alarm=rpc.AlarmRequest(rpc.AlarmRequest.AlarmAction.DEACTIVATE, member, alarm))
            if etcd.auth.enabled:
                as_root(auth_disable=rpc.AuthDisableRequest())
            as_root(auth_user_add=rpc.AuthUserAddRequest(name="root", hashedPassword="AAAA"))
            as_root(auth_user_grant_role=rpc.AuthUserGrantRoleRequest(user="root", role="root"))
    return found


def test_whatever_is_applied_comes_to_a_response_or_a_status() -> None:
    found = play(SEED, 2500)
    for field in ("put", "txn", "delete_range", "compaction", "lease_grant", "auth_enable", "auth_user_add", "alarm"):
        assert "done" in found[field], found
