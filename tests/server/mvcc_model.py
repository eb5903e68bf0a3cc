"""What etcd's keys would have, in plain Python: the content at every revision, and every change. Tests compare with it.

Store    a StateMachine on some engine, its entries, and requests whose bytes are a list of what is to be done
Model    the same, as dictionaries
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import engines
from engines.kvstore import KVStore
from engines.simenv import SimEnv
from raft.raftpb import ConfState, Entry
from server.evaluation import Request
from server.mvcc import Compacted, FutureRevision, Record, Writes
from server.statemachine import StateMachine, encode_proposal
from server.statemachine_fast import FastMachine
from tests.conformance.engine_table import TINY

__all__ = ["Model", "Refused", "Store", "evaluate", "machine_on", "request"]

Step = tuple[Any, ...]  # ("put", key, value, lease), ("delete", key), ("compact", revision), ("fail",)
ALONE = ConfState(voters=(1,))


class Refused(Exception):
    """A request that the test wants to be refused, after what it has done so far."""


def request(steps: Sequence[Step]) -> Request:
    """A request that does these steps. Keys and values are text."""
    return Request(json.dumps(steps).encode())


def evaluate(index: int, term: int, data: bytes, writes: Writes) -> object:
    """What requests of these tests come to: of each step, what it gave."""
    came_to: list[object] = []
    try:
        for word, *arguments in json.loads(data):
            if word == "put":
                key, value, lease = arguments
                came_to.append(writes.put(key.encode(), value.encode(), lease))
            elif word == "delete":
                came_to.append(writes.delete(arguments[0].encode()))
            elif word == "compact":
                writes.compact(*arguments)
            elif word == "read":
                came_to.append(list(writes.range(b"", None)))
            else:
                raise Refused
    except (Compacted, FutureRevision, Refused) as error:
        return error
    return came_to


def machine_on(
    engine: str, store: KVStore | None = None, disk: SimEnv | None = None, form: type[StateMachine] = FastMachine
) -> StateMachine:
    """A state machine on a simulated disk, that evaluates the requests of these tests."""
    found = store or engines.open("/disk/store", engine, env=disk or SimEnv(), sync=False, **TINY.get(engine, {}))
    machine = form(found)
    machine.evaluate = evaluate
    return machine


class Store:
    """A state machine to which entries come one after the other, in batches of any size."""

    def __init__(self, machine: StateMachine) -> None:
        self.machine = machine
        self.entries: list[Entry] = []

    def add(self, operations: Sequence[Any]) -> None:
        """One more entry, which isn't applied yet."""
        index = self.machine.applied_index + len(self.entries) + 1
        self.entries.append(Entry(1, index, data=encode_proposal(7, index, operations)))

    def apply(self) -> list[object]:
        """Applies all that were added, as one batch: what they came to."""
        entries, self.entries = self.entries, []
        changed = ALONE if self.machine.conf_state is None else None
        return [applied.outcome for applied in self.machine.apply(entries, changed)] if entries else []


class Model:
    """Every revision's content, as etcd would have it."""

    def __init__(self) -> None:
        self.begun = False
        self.revision, self.compacted = 1, -1
        self.contents: dict[int, dict[bytes, Record]] = {1: {}}
        self.changes: list[tuple[int, int, bytes, Record | None, Record | None]] = []  # main, sub, key, record, before
        self._sub = -1

    @property
    def now(self) -> dict[bytes, Record]:
        """The newest content."""
        return self.contents[self.revision]

    def simple(self, operations: Sequence[tuple[bytes, bytes | None]]) -> None:
        """An entry of puts and deletes."""
        self._sub = -1
        for key, value in operations:
            if not self.begun:
                self.now.pop(key, None)
                if value is not None:
                    self.now[key] = Record(key, value, 1, 1, 1, 0, 0)
            elif value is None:
                self._delete(key)
            else:
                self._put(key, value, 0)

    def request(self, steps: Sequence[Step]) -> None:
        """An entry with a request; all of it or nothing is done."""
        self.begun = True
        self._sub = -1
        before = self.revision, self.compacted, len(self.changes)
        for word, *arguments in steps:
            if word == "put":
                self._put(arguments[0].encode(), arguments[1].encode(), arguments[2])
            elif word == "delete":
                self._delete(arguments[0].encode())
            elif word == "compact" and self.compacted < arguments[0] <= self.revision:
                self.compacted = arguments[0]
            elif word != "read":
                if self.revision != before[0]:
                    del self.contents[self.revision]
                self.revision, self.compacted = before[:2]
                del self.changes[before[2] :]
                return

    def _next(self) -> tuple[int, int]:
        if self._sub < 0:
            self.revision += 1
            self.contents[self.revision] = dict(self.contents[self.revision - 1])
        self._sub += 1
        return self.revision, self._sub

    def _put(self, key: bytes, value: bytes, lease: int) -> None:
        before = self.now.get(key)
        main, sub = self._next()
        create, version = (before.create, before.version + 1) if before else (main, 1)
        self.now[key] = record = Record(key, value, create, main, version, lease, sub)
        self.changes.append((main, sub, key, record, None if create == main else self.contents[main - 1][key]))

    def _delete(self, key: bytes) -> None:
        before = self.now.get(key)
        if before is not None:
            main, sub = self._next()
            del self.now[key]
            self.changes.append((main, sub, key, None, self.contents[main - 1].get(key)))
