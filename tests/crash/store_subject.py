"""The subject of the power-cut machine that fits every engine: writes, and what the contract has besides."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from fnmatch import fnmatch
from typing import Any

import engines
from engines import KVStore, WriteBatch
from engines.env import Env
from tests.conformance.engine_table import TINY
from tests.crash.machine import KILL, REOPEN, ROOT, Step, Subject

__all__ = ["Pairs", "StoreSubject"]

Pairs = tuple[tuple[bytes, bytes], ...]


class StoreSubject(Subject):
    """Any engine: a workload over a few keys, and scans as states.

    `logs` are patterns of names (`fnmatch`) of the files whose end may be torn: cutting one anywhere may shorten
    history, and a flipped bit may cost what is in its last record. `steps` is the length of the workload, of whose writes
    `durable_share` say sync=True. `losses(path, offset, size, damage)` replaces `may_lose` where patterns don't say it
    (a damaged meta page that can't be told from a torn one). Further options go to the engine, on top of its line in
    TINY.
    """

    initial: Pairs = ()

    def __init__(
        self,
        engine: str,
        *,
        logs: Sequence[str] = (),
        losses: Callable[[str, int, int, str], int] | None = None,
        steps: int = 150,
        durable_share: float = 0.8,
        **options: Any,
    ) -> None:
        self.name = engines.engine_class(engine).name
        self.engine = engine
        self.logs = logs
        self.losses = losses
        self.step_count = steps
        self.durable_share = durable_share
        self.options = {**TINY.get(engine, {}), **options}

    def open(self, env: Env) -> KVStore:
        return engines.open(ROOT, self.engine, env=env, **self.options)

    def state(self, handle: KVStore) -> Pairs:
        pairs = tuple(handle.scan())
        assert handle.multi_get(key for key, _ in pairs) == [value for _, value in pairs], "get and scan disagree"
        return pairs

    def steps(self, rng: random.Random) -> list[Step]:
        """Mostly small writes over 24 keys, so that there is much to overwrite, to delete and to compact."""
        steps = []
        for number in range(self.step_count):
            steps.append(self._step(rng, number))
        return [*steps, Step("flush", durable=True), Step(REOPEN, durable=True)]

    def _step(self, rng: random.Random, number: int) -> Step:
        choice = rng.random()
        if choice < 0.90:
            size = 1 if rng.random() < 0.8 else rng.randint(2, 6)
            operations = tuple(self._operation(rng, f"{number}.{i}".encode()) for i in range(size))
            return Step("write", operations, durable=rng.random() < self.durable_share)
        if choice < 0.92:
            return Step("flush", durable=True)
        if choice < 0.955:
            return Step("compact")
        if choice < 0.97:
            return Step(REOPEN, durable=True)
        if choice < 0.99:
            return Step(KILL)
        keys = sorted(rng.sample(range(24), rng.randint(0, 8)))
        return Step("load", tuple((b"key%02d" % key, b"loaded %d" % number) for key in keys), durable=True)

    @staticmethod
    def _operation(rng: random.Random, tag: bytes) -> tuple[bytes, bytes | None]:
        """Values tell when they were written; now and then, one is longer than a sector."""
        key = b"key%02d" % rng.randrange(24)
        if rng.random() < 0.25:
            return key, None
        return key, tag + b"." * rng.choice((0, 0, 7, 40, 40, 600 if rng.random() < 0.3 else 0))

    def apply(self, handle: KVStore, step: Step) -> None:
        if step.kind == "write":
            batch = WriteBatch()
            for key, value in step.arguments:
                batch.delete(key) if value is None else batch.put(key, value)
            handle.write(batch, sync=step.durable)
        elif step.kind == "load":
            handle.load(step.arguments)
        elif step.kind == "flush":
            handle.flush()
        else:
            assert step.kind == "compact"
            handle.compact()

    def after(self, state: Pairs, step: Step) -> list[Pairs]:
        if step.kind == "load":
            return [step.arguments]
        if step.kind != "write":
            return []
        items = dict(state)
        for key, value in step.arguments:
            if value is None:
                items.pop(key, None)
            else:
                items[key] = value
        return [tuple(sorted(items.items()))]

    def lost(self, found: Pairs, allowed: Sequence[Pairs]) -> str:
        """Pair by pair, against the state that comes nearest."""
        due = min(allowed, key=lambda state: len(set(state) ^ set(found)))
        has, had = dict(found), dict(due)
        sorts = {
            "lost": [f"{key!r} = {had[key]!r}" for key in had if key not in has],
            "changed": [
                f"{key!r} = {has[key]!r}, not {had[key]!r}" for key in had if has.get(key, had[key]) != had[key]
            ],
            "there, and should not be": [f"{key!r} = {has[key]!r}" for key in has if key not in had],
        }
        told = [f"{sort}: {', '.join(pairs)}" for sort, pairs in sorts.items() if pairs]
        return "; ".join(told) or super().lost(found, allowed)

    def probe(self, state: Pairs) -> Step:
        return Step("write", ((b"probe", b"%d" % len(state)), (b"key00", None)), durable=True)

    def small_steps(self, rng: random.Random) -> list[Step]:
        steps = [step for step in self.steps(rng) if step.kind not in (REOPEN, KILL)][:40]
        return [*steps[:25], Step("compact"), *steps[25:]]

    def may_lose(self, path: str, offset: int, size: int, damage: str) -> int:
        if self.losses is not None:
            return self.losses(path, offset, size, damage)
        if not any(fnmatch(path.rpartition("/")[2], pattern) for pattern in self.logs):
            return 0
        return 1_000_000 if damage == "cut" else 1
