"""Is a history linearizable? Wing and Gong's search with Lowe's memory, for a map of registers (as porcupine does it).

    client 1   ├── put x=1 ──┤
    client 2         ├──── get x → 1 ────┤            each operation must seem to happen at one moment between its call
    client 3                      ├─ get x → None ─┤  and its answer: so this one is wrong if 2's came before it began

An operation whose outcome is unknown has no end: it may happen at any time after its call, or never.

Keys don't depend on each other, so each is judged alone (P-compositionality). For one key: which operations have happened
so far, and what the register holds then, is a state of the search; each operation that was called before the first
unanswered one's end may be the next. A state is looked at once. The search may take exponential time, and takes little
for histories of a few clients.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

__all__ = ["UNKNOWN", "Done", "violation"]

UNKNOWN = math.inf


@dataclass(frozen=True, slots=True)
class Done:
    """One operation: a put of `value` (None deletes) or a get that answered it; when it was called, and answered."""

    client: int
    kind: str  # "put" or "get"
    key: bytes
    value: bytes | None
    called: float
    answered: float = UNKNOWN

    def __str__(self) -> str:
        told = f"put {self.key!r} = {self.value!r}" if self.kind == "put" else f"get {self.key!r} → {self.value!r}"
        end = "unknown" if self.answered == UNKNOWN else f"{self.answered:g}"
        return f"{self.called:>6g} … {end:>7}  client {self.client}  {told}"


def violation(history: Iterable[Done]) -> list[Done] | None:
    """The operations on a key that can't have happened in any order, by their calls; None if the history is linearizable."""
    keys: dict[bytes, list[Done]] = {}
    for done in history:
        if done.kind == "put" or done.answered != UNKNOWN:  # a get without an answer says nothing
            keys.setdefault(done.key, []).append(done)
    for key in sorted(keys):
        operations = sorted(keys[key], key=lambda done: done.called)
        if not _register(operations):
            return operations
    return None


def _register(operations: Sequence[Done]) -> bool:
    """Whether the operations on one key, by their calls, have an order that explains them."""
    must = sum(1 << at for at, done in enumerate(operations) if done.answered != UNKNOWN)
    seen: set[tuple[int, bytes | None]] = set()
    stack: list[tuple[int, bytes | None]] = [(0, None)]
    while stack:
        happened, value = stack.pop()
        if happened & must == must:
            return True
        if (happened, value) in seen:
            continue
        seen.add((happened, value))
        left = [(at, done) for at, done in enumerate(operations) if not happened >> at & 1]
        first_end = min(done.answered for _, done in left)
        for at, done in left:
            if done.called > first_end:
                break
            if done.kind == "put":
                stack.append((happened | 1 << at, done.value))
            elif done.value == value:
                stack.append((happened | 1 << at, value))
    return False
