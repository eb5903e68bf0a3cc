"""What applying a request asks first, and what is left of one that is refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from engines.kvstore import Reader, WriteBatch
from engines.memory import MemoryStore
from raft.raftpb import Entry
from server.statemachine import StateMachine
from server.v3 import status, wire
from server.v3.apply import OWN, Proposed
from server.v3.etcd import Etcd
from server.v3.rpc import InternalRaftRequest, PutRequest, RequestHeader, ResponseHeader
from server.v3.status import Status
from tests.server.v3.applying import applied


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


class Alone(Etcd):
    def header(self, revision: int) -> ResponseHeader:
        return ResponseHeader(revision=revision)


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
def test_what_no_program_of_ours_proposes_does_nothing(machine: StateMachine, data: bytes) -> None:
    etcd = Alone()
    machine.evaluate = etcd.evaluate
    assert isinstance(applied(machine, data), Status)
    assert (machine.applied_index, machine.revision) == (1, 1)
