"""Raft's durable parts for the power-cut machine: the write-ahead log, and the snapshot files.

The model of the log is written here once more, from the rules in words and not from the code: what was saved with
must_sync is there, what is there is a prefix of what was saved, entries overwrite, a mark drops what lies before it.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from engines.env import Env
from engines.errors import CorruptionError
from engines.log import LogWriter
from raft.raftpb import ConfState, Entry, HardState, SnapshotMetadata
from server.snapshot import (
    SnapshotReceiver,
    newest_snapshot,
    purge,
    read_snapshot,
    remove_leftovers,
    write_records,
    write_snapshot,
)
from server.wal import Wal, WalState
from tests.crash.machine import KILL, REOPEN, ROOT, Step, Subject

__all__ = ["SnapshotSubject", "WalSubject"]

Log = tuple[tuple[int, int, bytes], ...]  # term, index, data of each entry
WalModel = tuple[tuple[int, int, int], tuple[int, int], Log]  # hard state, mark (index, term), entries after it


def _of(recovered: WalState) -> WalModel:
    hard_state, snapshot = recovered.hard_state, recovered.snapshot
    return (
        (hard_state.term, hard_state.vote, hard_state.commit),
        (snapshot.index, snapshot.term),
        tuple((entry.term, entry.index, entry.data) for entry in recovered.entries),
    )


def _last_index(state: WalModel) -> int:
    return state[2][-1][1] if state[2] else state[1][0]


class _LiveWal:
    """An open log, and what its user has in memory: what was recovered, and what was saved since."""

    def __init__(self, env: Env, segment_bytes: int) -> None:
        self.wal, recovered = Wal.open(ROOT, env, node_id=7, cluster_id=9, segment_bytes=segment_bytes)
        self.state = _of(recovered)
        self.env = env


class WalSubject(Subject):
    """The log. Steps: save (hard state or None, entries, must_sync), mark (index, term), release (index), sync."""

    name = "wal"
    initial: WalModel = ((0, 0, 0), (0, 0), ())

    def __init__(self, steps: int = 150, segment_bytes: int = 1500) -> None:
        self.step_count = steps
        self.segment_bytes = segment_bytes

    def open(self, env: Env) -> _LiveWal:
        return _LiveWal(env, self.segment_bytes)

    def close(self, handle: _LiveWal) -> None:
        handle.wal.close()

    def state(self, handle: _LiveWal) -> WalModel:
        handle.wal.save(None, [], must_sync=False)  # nothing to do, but a poisoned log refuses even that
        return handle.state

    def apply(self, handle: _LiveWal, step: Step) -> None:
        wal = handle.wal
        if step.kind == "save":
            hard_state, entries, must_sync = step.arguments
            wal.save(
                None if hard_state is None else HardState(*hard_state),
                [Entry(term, index, 0, data) for term, index, data in entries],
                must_sync=must_sync,
            )
        elif step.kind == "mark":
            index, term = step.arguments
            wal.save_snapshot(SnapshotMetadata(index, term, ConfState((1, 2, 3))))
        elif step.kind == "release":
            wal.release(*step.arguments)
        else:
            assert step.kind == "sync"
            wal.sync()
        handle.state = [handle.state, *self.after(handle.state, step)][-1]

    def after(self, state: WalModel, step: Step) -> list[WalModel]:
        hard_state, mark, entries = state
        if step.kind == "save":
            new_hard_state, new, _ = step.arguments
            if new:
                entries = (*(entry for entry in entries if entry[1] < new[0][1]), *new)
            return [(new_hard_state or hard_state, mark, entries)]
        if step.kind == "mark":
            index, term = step.arguments
            matches = any(entry[:2] == (term, index) for entry in entries) or step.arguments == mark
            return [(hard_state, step.arguments, tuple(entry for entry in entries if matches and entry[1] > index))]
        return []

    def probe(self, state: WalModel) -> Step:
        (term, _, commit), _, _ = state
        index = _last_index(state) + 1
        return Step("save", ((term + 1, 3, commit), ((term + 1, index, b"probe"),), True), durable=True)

    def steps(self, rng: random.Random) -> list[Step]:
        """What a node does to its log: appends, conflicts, elections, cuts after a snapshot, snapshots of a leader."""
        steps: list[Step] = []
        state = self.initial
        while len(steps) < self.step_count:
            for step in self._next(rng, state, len(steps)):
                steps.append(step)
                state = [state, *self.after(state, step)][-1]
        return [*steps, Step("sync", durable=True), self._unsynced(state), Step(REOPEN, durable=True)]

    @staticmethod
    def _unsynced(state: WalModel) -> Step:
        """Something for a sync or a close to bring to the disk."""
        return Step("save", (None, ((state[0][0], _last_index(state) + 1, b"unsynced"),), False))

    def _next(self, rng: random.Random, state: WalModel, number: int) -> Iterator[Step]:
        (_, _, commit), _, entries = state
        choice = rng.random()
        committed = [entry for entry in entries if entry[1] <= commit]
        if choice < 0.08 and committed:
            marked_term, index, _ = rng.choice(committed)
            yield Step("mark", (index, marked_term), durable=True)
            if rng.random() < 0.8:
                yield Step("release", (index,))
        elif choice < 0.11:
            yield from self._install(rng, state)
        elif choice < 0.14:
            yield self._unsynced(state)
            yield Step("sync", durable=True)
        elif choice < 0.18:
            yield self._unsynced(state)
            yield Step(REOPEN, durable=True)
        elif choice < 0.21:
            yield Step(KILL)
        elif choice < 0.24:
            yield Step("release", (rng.randint(0, _last_index(state) + 5),))
        else:
            yield self._save(rng, state, number)

    def _install(self, rng: random.Random, state: WalModel) -> Iterator[Step]:
        """A snapshot from the leader: past the log's end, or in the place of entries that conflict with it."""
        (term, vote, commit), mark, _ = state
        lowest = max(commit, mark[0]) + 1
        index = rng.randint(lowest, max(lowest, _last_index(state)) + 4)
        yield Step("mark", (index, term + 1), durable=True)
        yield Step("release", (index,))
        yield Step("save", ((term + 1, vote, index), (), True), durable=True)

    def _save(self, rng: random.Random, state: WalModel, number: int) -> Step:
        (term, vote, commit), mark, _ = state
        last, must_sync = _last_index(state), rng.random() < 0.75
        first = last + 1
        if rng.random() < 0.15:  # another leader, whose entries replace ours
            term += 1
            vote = rng.randint(0, 3)
            first = rng.randint(max(commit, mark[0]) + 1, last + 1)
        new = tuple((term, first + i, self._data(rng, number)) for i in range(rng.choice((0, 1, 1, 1, 2, 5))))
        if first <= last and not new:
            first = last + 1  # nothing to replace them with
        last = new[-1][1] if new else last
        hard_state = None
        if term != state[0][0] or not new or rng.random() < 0.6:
            hard_state = (term, vote, rng.randint(commit, max(commit, last)))
        return Step("save", (hard_state, new, must_sync), durable=must_sync)

    @staticmethod
    def _data(rng: random.Random, number: int) -> bytes:
        """Some bytes that tell where they come from: mostly few, sometimes sectors, rarely more than a block."""
        size = rng.choice((0, 0, 5, 30, 30, 0))
        if number % 7 == 6 and rng.random() < 0.2:
            size = rng.choice((600, 1500, 33_000 if number > 30 else 0))
        return b"%d " % number + b"." * size

    def small_steps(self, rng: random.Random) -> list[Step]:
        """A few segments, which end with synced saves: so each but the last of them has a witness."""
        state = self.initial
        steps: list[Step] = []
        for number in range(1, 30):
            for step in [self._save(rng, state, number)] if number != 20 else self._install(rng, state):
                if step.kind == "save" and number > 25:
                    step = Step("save", (*step.arguments[:2], True), durable=True)
                steps.append(step)
                state = [state, *self.after(state, step)][-1]
        return steps

    def may_lose(self, path: str, offset: int, size: int, damage: str) -> int:
        if not path.endswith(".wal"):
            return 0
        return 1_000_000 if damage == "cut" else 1


SnapshotModel = tuple[int, int, tuple[tuple[bytes, bytes], ...]] | None  # index, term, pairs


class _SnapshotDirectory:
    def __init__(self, env: Env) -> None:
        env.makedirs(ROOT, "subject.mkdir")
        remove_leftovers(ROOT, env)
        self.env = env

    def close(self) -> None:
        pass


class SnapshotSubject(Subject):
    """Snapshot files, of which the newest counts. Steps: write and receive (metadata, pairs), refuse, purge.

    A file that is under a snapshot's name and not whole is an error here, although `newest_snapshot` could do with an
    older one: no crash may leave one.
    """

    name = "snapshot"
    initial: SnapshotModel = None
    poisoned_by = frozenset()  # nothing outlives a call

    def __init__(self, steps: int = 45) -> None:
        self.step_count = steps

    def open(self, env: Env) -> _SnapshotDirectory:
        return _SnapshotDirectory(env)

    def state(self, handle: _SnapshotDirectory) -> SnapshotModel:
        def refuse(sentence: str) -> None:
            raise CorruptionError(ROOT, None, sentence)

        found = newest_snapshot(ROOT, handle.env, refuse)
        if found is None:
            return None
        metadata, pairs = read_snapshot(found.path, handle.env)
        assert metadata == found.metadata
        return metadata.index, metadata.term, tuple(pairs)

    def apply(self, handle: _SnapshotDirectory, step: Step) -> None:
        if step.kind == "purge":
            purge(ROOT, step.arguments[0], handle.env)
            return
        index, term, pairs = step.arguments
        metadata = SnapshotMetadata(index, term, ConfState((1, 2, 3)))
        if step.kind == "write":
            write_snapshot(ROOT, metadata, pairs, handle.env)
            return
        self._receive(handle.env, metadata, pairs, whole=step.kind == "receive")

    def _receive(self, env: Env, metadata: SnapshotMetadata, pairs: Any, whole: bool) -> None:
        """What the leader has in a file of its own comes in pieces; if not `whole`, the last byte is missing."""
        leader = _Bytes()
        write_records(LogWriter(leader), metadata, pairs)  # type: ignore[arg-type]
        data = b"".join(leader.written)
        data = data if whole else data[:-1]
        receiver = SnapshotReceiver(ROOT, metadata, env)
        try:
            for start in range(0, len(data), 700):
                receiver.write(data[start : start + 700])
        except OSError:
            receiver.discard()
            raise
        if whole:
            receiver.finish()
            return
        try:
            receiver.finish()
        except CorruptionError:
            return
        raise AssertionError("half a snapshot was taken for a whole one")

    def after(self, state: SnapshotModel, step: Step) -> list[SnapshotModel]:
        return [step.arguments] if step.kind in ("write", "receive") else []

    def steps(self, rng: random.Random) -> list[Step]:
        steps = []
        index = 0
        for number in range(self.step_count):
            index += rng.randint(1, 9)
            kind = rng.choice(("write", "write", "write", "receive", "receive", "refuse", "purge", REOPEN, KILL))
            if kind in ("write", "receive", "refuse"):
                pairs = self._pairs(rng, number)
                steps.append(Step(kind, (index, 1 + number // 10, pairs), durable=kind != "refuse"))
            elif kind == "purge":
                steps.append(Step("purge", (rng.randint(1, 3),)))
            else:
                steps.append(Step(kind, durable=kind == REOPEN))
        return steps

    @staticmethod
    def _pairs(rng: random.Random, number: int) -> tuple[tuple[bytes, bytes], ...]:
        size = rng.choice((0, 20, 20, 300, 3000 if number % 5 == 0 else 100))
        return tuple(
            (b"key%03d" % key, b"%d " % number + b"." * size)
            for key in sorted(rng.sample(range(99), rng.randint(0, 25)))
        )

    def small_steps(self, rng: random.Random) -> list[Step]:
        pairs = [(b"key%03d" % key, b"v" * (key % 40)) for key in range(60)]
        return [Step("write", (index, 1, tuple(pairs[:-index])), durable=True) for index in (3, 5, 30)]

    def probe(self, state: SnapshotModel) -> Step:
        index, term = state[:2] if state else (0, 0)
        return Step("write", (index + 1, term, ((b"probe", b"%d" % index),)), durable=True)


class _Bytes:
    """A file that is only written to."""

    def __init__(self) -> None:
        self.written: list[bytes] = []

    def append(self, data: bytes) -> None:
        self.written.append(data)
