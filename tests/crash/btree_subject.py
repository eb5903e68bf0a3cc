"""The B+tree for the power-cut machine.

What a damaged byte may cost depends on what the newest commit was. An unsynced one is told from a power cut's remains by
the sum over its pages, and so any flipped bit in them looks like a power cut, and the last durable commit counts. So the
damaged stores get synced commits only: then nothing may be lost, but for the newest meta of a store that was not closed.
"""

from __future__ import annotations

import random
from dataclasses import replace

from tests.crash.machine import KILL, Step
from tests.crash.store_subject import StoreSubject

__all__ = ["BTreeSubject"]

META_PAGES = 2


class BTreeSubject(StoreSubject):
    """The engine with small pages, so that 24 keys make a tree of three levels."""

    def __init__(self, *, page_size: int = 1024, durable_share: float = 0.6) -> None:
        super().__init__("btree", durable_share=durable_share, page_size=page_size)
        self.page_size = page_size

    def steps(self, rng: random.Random) -> list[Step]:
        """Three times more: a process is killed after unsynced commits, and the next one writes on at once."""
        steps = super().steps(rng)
        for number in range(3):
            unsynced = [replace(self._step_of_writes(rng, number), durable=False) for _ in range(2)]
            at = rng.randrange(len(steps) - 1)
            steps[at:at] = [*unsynced, Step(KILL), replace(self._step_of_writes(rng, number), durable=True)]
        return steps

    def _step_of_writes(self, rng: random.Random, number: int) -> Step:
        return Step("write", tuple(self._operation(rng, b"kill %d.%d" % (number, i)) for i in range(3)))

    def small_steps(self, rng: random.Random) -> list[Step]:
        return [replace(step, durable=step.durable or step.kind == "write") for step in super().small_steps(rng)]

    def may_lose(self, path: str, offset: int, size: int, damage: str) -> int:
        """A damaged newest meta can't be told from one that was torn by a power cut: the one before it counts."""
        return 1 if offset < META_PAGES * self.page_size else 0
