"""What applying a request asks first, and what is left of one that is refused."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import pytest

from engines.coding import DecodeError
from engines.errors import StoreError
from engines.kvstore import Reader, WriteBatch
from engines.memory import MemoryStore
from raft.raftpb import Entry
from server.errors import NodeError, UndecodableEntry
from server.statemachine import StateMachine
from server.v3 import status, wire
from server.v3.apply import OWN, Proposed
from server.v3.rpc import InternalRaftRequest, PutRequest, RequestHeader, ResponseHeader
from server.v3.status import Status
from tests.server.v3.applying import Alone, applied


class Guarded:
    """Notes what it is asked, and refuses whoever is not root."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, int]] = []

    def check_entry(self, field: str, proposed: Proposed, request: Any) -> None:
        self.asked.append((field, proposed.username, proposed.auth_revision))
        if proposed.username != "root":
            raise Status(*status.PERMISSION_DENIED)


class Noting:
    """A table that notes when an entry begins and when it is taken back."""

    def __init__(self) -> None:
        self.noted: list[str] = []

    def begin(self) -> None:
        self.noted.append("begin")

    def undo(self) -> None:
        self.noted.append("undo")

    def read(self, store: Reader) -> None: ...
    def put(self, batch: WriteBatch, entries: Sequence[Entry], machine: StateMachine) -> None: ...
    def written(self) -> None: ...


@pytest.fixture
def machine() -> StateMachine:
    return StateMachine(MemoryStore())


def test_permission_is_asked_with_the_name_that_the_entry_has(machine: StateMachine) -> None:
    etcd = Alone()
    etcd.auth = guard = Guarded()
    machine.evaluate = etcd.evaluate
    put = InternalRaftRequest(header=RequestHeader(username="root", auth_revision=7), put=PutRequest(key=b"a"))
    assert applied(machine, put).header == ResponseHeader(revision=2)
    refused = applied(machine, InternalRaftRequest(put=PutRequest(key=b"b")))
    assert isinstance(refused, Status) and (refused.code, refused.sentence) == status.PERMISSION_DENIED
    assert guard.asked == [("put", "root", 7), ("put", "", 0)]
    assert dict(machine.scan()) == {b"a": b""} and machine.revision == 2
    assert "put" not in OWN


def test_tables_are_told_when_an_entry_is_taken_back(machine: StateMachine) -> None:
    etcd = Alone()
    table = Noting()
    etcd.tables.append(table)
    machine.evaluate = etcd.evaluate
    applied(machine, InternalRaftRequest(put=PutRequest(key=b"a")))
    assert isinstance(applied(machine, InternalRaftRequest(put=PutRequest(key=b"a", lease=9))), Status)
    assert table.noted == ["begin", "begin", "undo"]


@pytest.mark.parametrize("data", [wire.encode(InternalRaftRequest(ID=7)), b"\xff", b"\x08"])
def test_what_no_program_of_this_version_proposes_stops_the_node_or_is_passed_over(data: bytes) -> None:
    """A later version may know it, and its nodes do what it says: a node that went on without would differ from them."""
    store = MemoryStore()
    machine = StateMachine(store)
    machine.evaluate = Alone().evaluate
    with pytest.raises(UndecodableEntry, match="--skip-entry 1"):
        applied(machine, data)
    assert machine.applied_index == 0 and not list(store.scan())
    machine = StateMachine(store, skip_entries={1})
    machine.evaluate = Alone().evaluate
    assert isinstance(applied(machine, data), UndecodableEntry)
    assert (machine.applied_index, machine.revision) == (1, 1)
    assert isinstance(applied(machine, InternalRaftRequest(put=PutRequest(key=b"a"))).header, ResponseHeader)


@pytest.mark.parametrize(
    "bug",
    [
        AssertionError("a"),
        KeyError("a"),
        TypeError("a"),
        IndexError("a"),
        AttributeError("a"),
        ValueError("a"),
        struct.error("a"),
        NodeError("a"),
        OSError("a"),
        DecodeError("a"),
        StoreError("a"),
        MemoryError("a"),
        RecursionError("a"),
    ],
    ids=lambda bug: type(bug).__name__,
)
def test_what_is_no_requests_own_outcome_is_never_one(machine: StateMachine, bug: Exception, lines: list[str]) -> None:
    """Whatever a branch raises that is no Status: nothing of the batch is in the engine, and the node is to stop."""
    etcd = Alone()
    machine.evaluate = etcd.evaluate
    applied(machine, InternalRaftRequest(put=PutRequest(key=b"a")))
    rows = list(machine.store.scan())

    class Failing(Guarded):
        def check_entry(self, field: str, proposed: Proposed, request: Any) -> None:
            raise bug

    etcd.auth = Failing()
    with pytest.raises(type(bug)) as raised:
        applied(machine, InternalRaftRequest(put=PutRequest(key=b"b")))
    assert raised.value is bug
    assert list(machine.store.scan()) == rows and machine.applied_index == 1
    assert any("the request of entry 2 can't be evaluated, so the node stops" in line for line in lines)
