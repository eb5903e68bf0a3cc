"""The state machine: Hypothesis makes up a history, and store and model have to agree at every step of it.

Each rule does one thing to both. What a rule finds out is compared at once, the whole content after every step, and
snapshots and scans that were opened earlier go on showing their moment. A failing history is cut down by Hypothesis to
the few steps that matter, and printed as a program.

A persistent engine runs on the simulated disk, where two more things happen to it:

- *kill*: the process is gone, its writes are in the operating system's hands. The next open finds everything.
- *power cut*: of what wasn't synced, any part is gone. The next open finds a prefix of history: every batch whole, none
  missing before another, and nothing lost that was acknowledged with sync=True, flushed, loaded or closed.

Power is cut here between two calls of the store; between any two calls of the disk it is cut in tests/crash.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from engines import InvalidKey, InvalidValue, KVStore, Snapshot, StoreClosed
from engines.kvstore import Operation, Pair
from engines.simenv import Policy, SimEnv
from tests.conformance.engine_table import Engine
from tests.conformance.model import Model, expected_scan
from tests.conformance.operations import BOUNDS, KEYS, OPERATIONS, SYNCS, VALUES, batch_of
from tests.conformance.past_env import only_through_env

__all__ = ["StoreMachine", "run_machine"]

PATH = "/disk/store"
OPEN_AT_ONCE_MAX = 4  # snapshots, and scans

WHICH = st.integers(0, OPEN_AT_ONCE_MAX - 1)
RANGES = st.fixed_dictionaries(
    {"start": BOUNDS, "stop": st.none() | BOUNDS, "prefix": st.none() | BOUNDS, "reverse": st.booleans()}
)
CONTENTS = st.dictionaries(KEYS, VALUES, max_size=12)


class StoreMachine(RuleBasedStateMachine):
    """Store and model side by side; `run_machine` makes a subclass for each engine."""

    engine: ClassVar[Engine]
    store: KVStore

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.snapshots: list[tuple[Snapshot, dict[bytes, bytes]]] = []
        self.scans: list[tuple[Iterator[Pair], list[Pair]]] = []  # with what each has still to show, last pair first
        self.env = SimEnv()
        self.default_sync = True

    @initialize(default_sync=st.booleans())
    def open_store(self, default_sync: bool) -> None:
        self.default_sync = default_sync
        self._open()

    def _open(self) -> None:
        self.store = self.engine.open(PATH, env=self.env, sync=self.default_sync)

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()

    @invariant()
    def they_hold_the_same(self) -> None:
        if hasattr(self, "store"):
            assert list(self.store.scan()) == sorted(self.model.items.items())

    # writes

    def _durable(self, sync: bool | None) -> bool:
        return self.default_sync if sync is None else sync

    @rule(key=KEYS, value=VALUES, sync=SYNCS)
    def put(self, key: bytes, value: bytes, sync: bool | None) -> None:
        self.store.put(key, value, sync=sync)
        self.model.write([(key, value)], durable=self._durable(sync))

    @rule(key=KEYS, sync=SYNCS)
    def delete(self, key: bytes, sync: bool | None) -> None:
        self.store.delete(key, sync=sync)
        self.model.write([(key, None)], durable=self._durable(sync))

    @rule(operations=OPERATIONS, sync=SYNCS)
    def write_batch(self, operations: list[Operation], sync: bool | None) -> None:
        self.store.write(batch_of(operations), sync=sync)
        # an empty batch does nothing, not even for the writes before it
        self.model.write(operations, durable=bool(operations) and self._durable(sync))

    @rule(operations=OPERATIONS, key=KEYS, fault=st.sampled_from(["key", "value", "other"]))
    def discard_batch(self, operations: list[Operation], key: bytes, fault: str) -> None:
        with pytest.raises((InvalidKey, InvalidValue, ZeroDivisionError)), self.store.batch() as batch:
            batch.operations.extend(batch_of(operations).operations)
            if fault == "key":
                batch.delete(b"")
            elif fault == "value":
                batch.put(key, None)  # type: ignore[arg-type]
            raise ZeroDivisionError

    @rule(content=CONTENTS)
    def load(self, content: dict[bytes, bytes]) -> None:
        self.store.load(iter(sorted(content.items())))
        self.model.load(content)

    @rule(content=CONTENTS, key=KEYS)
    def refused_load(self, content: dict[bytes, bytes], key: bytes) -> None:
        with pytest.raises(InvalidKey):
            self.store.load([*sorted(content.items()), (b"\xff\xff\xff\xff", b""), (key, b"out of order")])

    # reads

    @rule(key=KEYS)
    def get(self, key: bytes) -> None:
        assert self.store.get(key) == self.model.items.get(key)
        assert self.store.get(key, b"default") == self.model.items.get(key, b"default")

    @rule(keys=st.lists(KEYS, max_size=6))
    def multi_get(self, keys: list[bytes]) -> None:
        assert self.store.multi_get(keys) == [self.model.items.get(key) for key in keys]

    @rule(asked=RANGES)
    def scan(self, asked: dict[str, Any]) -> None:
        assert list(self.store.scan(**asked)) == expected_scan(self.model.items, **asked)

    @precondition(lambda self: len(self.scans) < OPEN_AT_ONCE_MAX)
    @rule(asked=RANGES)
    def begin_scan(self, asked: dict[str, Any]) -> None:
        self.scans.append((self.store.scan(**asked), expected_scan(self.model.items, **asked)[::-1]))

    @precondition(lambda self: self.scans)
    @rule(which=WHICH, count=st.integers(1, 12))
    def continue_scan(self, which: int, count: int) -> None:
        scan, rest = self.scans[which % len(self.scans)]
        for _ in range(count):
            assert next(scan, None) == (rest.pop() if rest else None)

    @precondition(lambda self: self.scans)
    @rule(which=WHICH)
    def abandon_scan(self, which: int) -> None:
        del self.scans[which % len(self.scans)]

    # snapshots

    @precondition(lambda self: len(self.snapshots) < OPEN_AT_ONCE_MAX)
    @rule()
    def take_snapshot(self) -> None:
        self.snapshots.append((self.store.snapshot(), dict(self.model.items)))

    @precondition(lambda self: self.snapshots)
    @rule(which=WHICH, keys=st.lists(KEYS, max_size=4), asked=RANGES)
    def read_snapshot(self, which: int, keys: list[bytes], asked: dict[str, Any]) -> None:
        snapshot, items = self.snapshots[which % len(self.snapshots)]
        assert snapshot.multi_get(keys) == [items.get(key) for key in keys]
        assert list(snapshot.scan(**asked)) == expected_scan(items, **asked)
        assert list(snapshot.scan()) == sorted(items.items())

    @precondition(lambda self: self.snapshots)
    @rule(which=WHICH)
    def close_snapshot(self, which: int) -> None:
        snapshot, _ = self.snapshots.pop(which % len(self.snapshots))
        snapshot.close()
        with pytest.raises(StoreClosed):
            snapshot.scan()

    # maintenance

    @rule()
    def flush(self) -> None:
        self.store.flush()
        self.model.harden()

    @rule()
    def compact(self) -> None:
        self.store.compact()

    @rule()
    def check(self) -> None:
        assert self.store.check() == []

    # what ends a store

    @precondition(lambda self: self.engine.persistent)
    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.model.harden()
        for scan, _ in self.scans:
            with pytest.raises((StoreClosed, StopIteration)):
                next(scan)
        for snapshot, _ in self.snapshots:
            with pytest.raises(StoreClosed):
                snapshot.get(b"a")
        self._start_again()

    @precondition(lambda self: self.engine.persistent)
    @rule(seed=st.integers(0, 1 << 16))
    def kill(self, seed: int) -> None:
        self.env = self.env.crash(Policy.EVERYTHING, random.Random(seed))
        self._start_again()

    @precondition(lambda self: self.engine.persistent)
    @rule(
        last=st.sampled_from(["whatever came before", "batch", "flush", "compact", "load"]),
        content=st.dictionaries(KEYS, VALUES, min_size=2, max_size=8),
        sync=SYNCS,
        policy=st.sampled_from([policy for policy in Policy if policy is not Policy.EVERYTHING]),
        seed=st.integers(0, 1 << 16),
    )
    def power_cut(self, last: str, content: dict[bytes, bytes], sync: bool | None, policy: Policy, seed: int) -> None:
        """`last` is what happens right before the cut, because what a cut endangers most is what came last."""
        match last:
            case "batch":
                self.write_batch(list(content.items()), sync)
            case "flush":
                self.write_batch(list(content.items()), False)
                self.flush()
            case "compact":
                self.compact()
            case "load":
                self.load(content)
        self.env = self.env.crash(policy, random.Random(seed))
        self._start_again(after_power_cut=True)

    def _start_again(self, *, after_power_cut: bool = False) -> None:
        self.scans.clear()
        self.snapshots.clear()
        self._open()
        if after_power_cut:
            self.model.fall_back_to(dict(self.store.scan()))
        assert self.store.check() == []


def run_machine(engine: Engine, machine_settings: settings) -> None:
    """Runs the machine on one engine; raises what the store did wrong, with the history that led there as a note."""
    machine = type("StoreMachine", (StoreMachine,), {"engine": engine})
    with only_through_env(PATH):
        run_state_machine_as_test(machine, settings=machine_settings)
