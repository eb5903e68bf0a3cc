"""The Bitcask for the power-cut machine: single puts, which go another way than batches, and merges of every kind.

A step "merge" merges some of the closed segments, chosen by chance, so that others stay between them; a "written merge"
writes a batch after the copies are made and before the keydir is turned to them, which is the moment at which a copy is
dead before it has a name; a "watched merge" has a snapshot open, so that files go late. Power is cut after every call
in them, as everywhere.
"""

from __future__ import annotations

import random

from engines.bitcask.store import BitcaskStore
from engines.env import File
from engines.kvstore import KVStore
from tests.crash.machine import Step
from tests.crash.store_subject import Pairs, StoreSubject

__all__ = ["BitcaskSubject"]

FILE_BYTES = 1500
MERGES = ("merge", "written merge", "watched merge")


class BitcaskSubject(StoreSubject):
    """The engine with segments of 1,500 bytes."""

    second_cut_share = 0.01  # a recovery takes and leaves locks and writes hints: 20 calls, each cut in 20 ways

    def __init__(self) -> None:
        super().__init__("bitcask", max_file_size=FILE_BYTES)

    def _step(self, rng: random.Random, number: int) -> Step:
        if rng.random() >= 0.08:
            return super()._step(rng, number)
        kind = rng.choice(MERGES)
        operations = [self._operation(rng, b"%d.%d" % (number, i)) for i in range(rng.randint(1, 4))]
        return Step(kind, (rng.random(), tuple(operations) if kind == "written merge" else ()))

    def small_steps(self, rng: random.Random) -> list[Step]:
        steps = super().small_steps(rng)
        return [*steps[:15], Step("merge", (0.5, ())), *steps[15:]]

    def apply(self, handle: KVStore, step: Step) -> None:
        assert isinstance(handle, BitcaskStore)
        if step.kind == "write" and len(step.arguments) == 1:
            [(key, value)] = step.arguments
            if value is None:
                handle.delete(key, sync=step.durable)
            else:
                handle.put(key, value, sync=step.durable)
        elif step.kind in MERGES:
            self._merge(handle, step)
        else:
            super().apply(handle, step)

    def _merge(self, store: BitcaskStore, step: Step) -> None:
        chance, operations = step.arguments
        closed = [segment["id"] for segment in store.describe()["segments"] if segment["state"] == "sealed"]
        chosen = [file_id for file_id in closed if random.Random(f"{chance} {file_id}").random() < 0.6]
        if step.kind == "watched merge":
            with store.snapshot() as snapshot:
                before = list(snapshot.scan())
                store.merge(chosen)
                assert list(snapshot.scan()) == before, "a merge has changed what a snapshot shows"
        elif not operations:
            store.merge(chosen)
        else:
            self._merge_and_write(store, chosen, Step("write", operations))

    def _merge_and_write(self, store: BitcaskStore, chosen: list[int], write: Step) -> None:
        """Writes as soon as the first output is on the disk; or after the merge, if it has none."""
        written = False
        table, sync = store.core.table, store.core.table.sync

        def sync_and_write(file: File, site: str) -> None:
            nonlocal written
            sync(file, site)
            if site == "bitcask.merge.output" and not written:
                written = True
                self.apply(store, write)

        table.sync = sync_and_write  # type: ignore[method-assign]
        try:
            store.merge(chosen)
        finally:
            table.sync = sync  # type: ignore[method-assign]
        if not written:
            self.apply(store, write)

    def after(self, state: Pairs, step: Step) -> list[Pairs]:
        if step.kind in MERGES:
            operations = step.arguments[1]
            return super().after(state, Step("write", operations)) if operations else []
        return super().after(state, step)

    def may_lose(self, path: str, offset: int, size: int, damage: str) -> int:
        """The active segment of a killed store has no hint, and is still as long as it was allocated. What was synced
        after its last mark can't be told from what was being written; other files are closed, and may lose nothing."""
        return 1_000_000 if path.endswith(".bitcask.data") and size == FILE_BYTES else 0
