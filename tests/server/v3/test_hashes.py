"""server/v3/hashes.py: equal on nodes that have the same, whatever compaction has deleted; different for any other."""

from __future__ import annotations

import random

import pytest

import engines
from engines.memory import MemoryStore
from server.mvcc import Compacted, FutureRevision
from server.statemachine import StateMachine
from server.v3 import rpc
from server.v3.etcd import Etcd
from server.v3.hashes import KeysHash, hash_of_keys, hash_of_rows
from tests.server.v3.applying import applied


class Alone(Etcd):
    def header(self, revision: int) -> rpc.ResponseHeader:
        return rpc.ResponseHeader(revision=revision)


def node(path: str = "", engine: str = "memory") -> StateMachine:
    machine = StateMachine(engines.open(path, engine) if path else MemoryStore())
    machine.evaluate = Alone().evaluate
    return machine


def put(machine: StateMachine, key: bytes, value: bytes) -> None:
    applied(machine, rpc.InternalRaftRequest(put=rpc.PutRequest(key, value)))


def delete(machine: StateMachine, key: bytes) -> None:
    applied(machine, rpc.InternalRaftRequest(delete_range=rpc.DeleteRangeRequest(key)))


def compact(machine: StateMachine, revision: int) -> None:
    applied(machine, rpc.InternalRaftRequest(compaction=rpc.CompactionRequest(revision)))


def of_keys(machine: StateMachine, revision: int = 0) -> KeysHash:
    with machine.view() as view:
        return hash_of_keys(view, revision)


def of_rows(machine: StateMachine) -> int:
    with machine.view() as view:
        return hash_of_rows(view.rows())


def write(machine: StateMachine, rng: random.Random, count: int) -> None:
    for _ in range(count):
        key = bytes([rng.randrange(97, 105)])
        if rng.random() < 0.2:
            delete(machine, key)
        else:
            put(machine, key, rng.randbytes(4))


def test_the_same_entries_have_the_same_hashes_on_any_engine(tmp_path) -> None:
    machines = [node(str(tmp_path / engine), engine) for engine in ("memory", "lsm", "btree", "bitcask")]
    for machine in machines:
        write(machine, random.Random(1), 60)
        compact(machine, 20)
        write(machine, random.Random(2), 60)
    assert len({of_rows(machine) for machine in machines}) == 1
    assert len({of_keys(machine) for machine in machines}) == 1
    for machine in machines:
        machine.close()


def test_every_change_changes_the_hash() -> None:
    seen, rows, machine = set(), set(), node()
    put(machine, b"a", b"1")
    for change in ((b"a", b"1"), (b"a", b"2"), (b"b", b""), (b"", b"b"), (b"a", b"")):
        put(machine, change[0] or b"c", change[1])
        seen.add(of_keys(machine).checksum)
        rows.add(of_rows(machine))
    delete(machine, b"a")
    assert len({*seen, of_keys(machine).checksum}) == 6 == len({*rows, of_rows(machine)})


def test_a_hash_up_to_a_revision_is_the_same_for_who_is_further_and_who_has_deleted_more() -> None:
    """etcd's HashByRev: nodes are compared at a revision and a compacted revision, and at nothing else."""
    early, late = node(), node()
    for machine in (early, late):
        write(machine, random.Random(3), 80)
        compact(machine, 30)
    at = early.revision
    write(late, random.Random(4), 300)  # each entry takes the deleting on
    with early.view() as behind, late.view() as further:
        assert behind.walked < further.walked
    for revision in (30, 31, 50, at):
        assert of_keys(early, revision) == of_keys(late, revision)
    assert of_keys(early) == of_keys(early, at) != of_keys(late)
    assert of_keys(early).compacted == 30
    compact(late, 40)
    assert of_keys(early, at) != of_keys(late, at)


def test_a_revision_that_cannot_be_read() -> None:
    machine = node()
    write(machine, random.Random(5), 40)
    assert of_keys(machine).compacted == -1
    compact(machine, 10)
    with pytest.raises(Compacted):
        of_keys(machine, 9)
    with pytest.raises(FutureRevision):
        of_keys(machine, machine.revision + 1)


def test_an_empty_store_has_a_hash() -> None:
    assert of_keys(node()) == of_keys(node()) == KeysHash(0, -1)
