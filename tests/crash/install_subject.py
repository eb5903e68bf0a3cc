"""A leader's snapshot is installed, for the power-cut machine: received, marked in the log, loaded into the engine.

                    receive            mark             load              applied
    on the disk     snap/….snap        wal: RESTORE     engine            …
    a cut after     ──── the old state ────┤├──────── the new state ────────────

One history: the entry at an index writes what follows from the index, so that a state is what its index says, on any engine.
The snapshots were taken on other engines, in turn.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Callable
from typing import Any

import engines
from engines.env import Env
from engines.simenv import SimEnv
from raft import Ready
from raft.raftpb import ConfState, Entry, HardState, Snapshot, SnapshotMetadata
from server.config import NodeConfig
from server.directory import open_directory
from server.identity import cluster_id
from server.snapshot import write_snapshot
from server.statemachine import StateMachine, encode_proposal
from server.storage import NodeStorage
from tests.conformance.engine_table import TINY
from tests.crash.machine import KILL, REOPEN, ROOT, Step, Subject

__all__ = ["SOURCES", "InstallSubject", "snapshot_bytes"]

PEERS = {node: ("127.0.0.1", 3380 + node) for node in (1, 2, 3)}
MEMBERS = ConfState((1, 2, 3))
SOURCES = ("memory", "lsm", "btree", "bitcask")

InstallModel = tuple[int, tuple[tuple[bytes, bytes], ...]]  # applied index, the users' pairs


def term_of(index: int) -> int:
    return 1 + index // 20


def entry_at(index: int) -> Entry:
    value = b"%d " % index + b"." * (index * 37 % 300)
    operations: list[tuple[bytes, bytes | None]] = [(b"key%02d" % (index * 7 % 24), value)]
    if index % 5 == 0:
        operations.append((b"key%02d" % (index * 3 % 24), None))
    return Entry(term_of(index), index, data=encode_proposal(1, index, operations))


@functools.cache
def state_at(index: int) -> InstallModel:
    pairs: dict[bytes, bytes] = {}
    for each in range(1, index + 1):
        value = b"%d " % each + b"." * (each * 37 % 300)
        pairs[b"key%02d" % (each * 7 % 24)] = value
        if each % 5 == 0:
            pairs.pop(b"key%02d" % (each * 3 % 24), None)
    return index, tuple(sorted(pairs.items()))


def metadata_at(index: int) -> SnapshotMetadata:
    return SnapshotMetadata(index, term_of(index), MEMBERS)


@functools.cache
def snapshot_bytes(engine: str, index: int) -> bytes:
    """The snapshot file of a node on this engine that has applied `index` entries."""
    env = SimEnv()
    env.makedirs("/leader", "test")
    store = engines.open("/leader/engine", engine, env=env, sync=False, **TINY.get(engine, {}))
    machine = StateMachine(store, cluster_id(PEERS))
    for first in range(1, index + 1, 7):
        machine.apply(
            [entry_at(each) for each in range(first, min(first + 7, index + 1))], MEMBERS if first == 1 else None
        )
    metadata, view = machine.snapshot()
    with view:
        path = write_snapshot("/leader", metadata, view.scan(), env)
    machine.close()
    return env.files()[path]


class _Node:
    """A node's directory, log, snapshots and engine, without Raft: what is committed is applied at once."""

    def __init__(self, env: Env, engine: str) -> None:
        self.calls: list[Callable[[], object]] = []
        config = NodeConfig(1, PEERS, ROOT, engine, env=env, snapshot_entries=1, catch_up_entries=3)
        self.config = config
        directory = open_directory(config)
        store = engines.open(f"{ROOT}/engine", engine, env=env, sync=False, **TINY.get(engine, {}))
        self.machine = StateMachine(store, directory.identity.cluster_id)
        self.storage = NodeStorage(directory, self.machine, lambda job: job())
        self.storage.recovered(self.machine.conf_state or MEMBERS)
        self._apply(self.storage.memory.initial_state()[0].commit)

    def _apply(self, commit: int) -> None:
        first = self.machine.applied_index + 1
        if first <= commit:
            entries = self.storage.memory.entries(first, commit + 1, 1 << 40)
            self.machine.apply(entries, MEMBERS if first == 1 else None)

    def append(self, count: int) -> None:
        first = self.machine.applied_index + 1
        entries = [entry_at(index) for index in range(first, first + count)]
        last = entries[-1]
        self._persist(HardState(last.term, 1, last.index), entries)
        self._apply(last.index)

    def receive(self, index: int, source: str) -> None:
        data = snapshot_bytes(source, index)
        pieces = (data[at : at + 900] for at in range(0, len(data), 900))
        self.storage.receive_snapshot(metadata_at(index), pieces)

    def install(self, index: int, source: str) -> None:
        self.receive(index, source)
        self.mark(index)
        self.load()

    def mark(self, index: int) -> None:
        self._persist(HardState(term_of(index), 1, index), [], Snapshot(metadata_at(index)))

    def load(self) -> None:
        self.storage.begin_install(self.calls.append, lambda: None)
        self._run_calls()

    @staticmethod
    def path(index: int) -> str:
        return f"{ROOT}/snap/{term_of(index):016x}-{index:016x}.snap"

    def cut(self) -> None:
        self.storage.begin_cut(self.config, self.calls.append)
        self._run_calls()

    def _run_calls(self) -> None:
        while self.calls:
            self.calls.pop(0)()

    def _persist(self, hard_state: HardState, entries: list[Entry], snapshot: Snapshot | None = None) -> None:
        self.storage.persist(
            Ready(
                soft_state=None,
                hard_state=hard_state,
                read_states=[],
                entries=entries,
                snapshot=snapshot,
                committed_entries=[],
                messages=[],
                must_sync=True,
            )
        )

    def close(self) -> None:
        self.storage.close()
        self.machine.close()


class InstallSubject(Subject):
    """Steps: append (count), install and receive (index, engine of the source), cut."""

    initial: InstallModel = (0, ())

    def __init__(self, engine: str, steps: int = 24, sources: tuple[str, ...] = SOURCES) -> None:
        self.name = f"install on {engine}"
        self.engine = engine
        self.step_count = steps
        self.sources = sources

    def open(self, env: Env) -> _Node:
        return _Node(env, self.engine)

    def state(self, handle: _Node) -> InstallModel:
        return handle.machine.applied_index, tuple(handle.machine.scan())

    def apply(self, handle: _Node, step: Step) -> None:
        getattr(handle, step.kind)(*step.arguments)

    def after(self, state: InstallModel, step: Step) -> list[InstallModel]:
        if step.kind == "append":
            return [state_at(state[0] + step.arguments[0])]
        return [state_at(step.arguments[0])] if step.kind == "install" else []

    def probe(self, state: InstallModel) -> Step:
        return Step("append", (2,), durable=True)

    def lost(self, found: Any, allowed: Any) -> str:
        indexes = [state[0] for state in allowed]
        return f"the state of index {found[0]} was found, {'as' if found == state_at(found[0]) else 'NOT as'} entries make it; due: {indexes}"

    def steps(self, rng: random.Random) -> list[Step]:
        steps, index = [], 0
        kinds = ("append", "append", "append", "install", "install", "receive", "cut", REOPEN, KILL)
        for number in range(self.step_count):
            kind = "install" if number % 8 == 5 else rng.choice(kinds) if number else "append"
            source = self.sources[number % len(self.sources)]
            if kind == "append":
                count = rng.randint(1, 4)
                index += count
                steps.append(Step(kind, (count,), durable=True))
            elif kind in ("install", "receive"):
                ahead = index + rng.randint(1, 9)
                index = ahead if kind == "install" else index
                steps.append(Step(kind, (ahead, source), durable=True))
            else:
                steps.append(Step(kind, durable=kind != KILL))
        return steps
