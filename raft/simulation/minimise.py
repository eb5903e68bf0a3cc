"""From a failing run to a small one: fewer steps, a calmer network, and still the same property violated.

Delta debugging (Zeller, Hildebrandt: "Simplifying and Isolating Failure-Inducing Input", 2002) on the steps of the plan:
leave out one of n parts, as long as the run still fails; when no part can be left out, cut into smaller parts. Before
that, whatever of the weather can be calmed is calmed, so that what is left is what matters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from raft.simulation.plan import TICK, Plan, Weather

__all__ = ["CALM", "kept", "minimise"]


def _weather(plan: Plan, **changes: Any) -> Plan:
    return replace(plan, weather=replace(plan.weather, **changes))


CALM: dict[str, Callable[[Plan], Plan]] = {
    "drift": lambda plan: replace(plan, periods=(TICK,) * len(plan.periods)),
    "loss": lambda plan: _weather(plan, lost=0),
    "repeats": lambda plan: _weather(plan, repeated=0),
    "overtaking": lambda plan: _weather(plan, late=0),
    "waits": lambda plan: _weather(plan, driver=0),
    "slowness": lambda plan: _weather(plan, disk=Weather().disk),
}
"""What `--without` takes away from a plan, by name."""


def kept(plan: Plan, steps: Iterable[int], without: Iterable[str] = ()) -> Plan:
    """The plan with only these steps (their positions), and without these kinds of weather."""
    for name in without:
        plan = CALM[name](plan)
    return plan.with_steps(tuple(plan.steps[position] for position in steps if position < len(plan.steps)))


def minimise(plan: Plan, fails: Callable[[Plan], bool], runs: int = 400) -> tuple[list[int], list[str]]:
    """The positions of steps that are enough to make the plan fail, and the kinds of weather that it doesn't need.

    Requires: fails(plan). At most `runs` runs; the result fails in any case.
    """
    without: list[str] = []
    everything = range(len(plan.steps))
    for name in CALM:
        if fails(kept(plan, everything, [*without, name])):
            without.append(name)
    steps = _fewer(list(everything), lambda some: fails(kept(plan, some, without)), runs)
    return steps, without


def _fewer(positions: list[int], fails: Callable[[Sequence[int]], bool], runs: int) -> list[int]:
    """ddmin: drops parts of ever smaller size."""
    parts = 2
    while positions and runs > 0:
        size = max(1, len(positions) // parts)
        for start in range(0, len(positions), size):
            rest = positions[:start] + positions[start + size :]
            runs -= 1
            if fails(rest):
                positions, parts = rest, max(2, parts - 1)
                break
            if runs <= 0:
                break
        else:
            if size == 1:
                break
            parts = min(len(positions), 2 * parts)
    return positions
