"""A whole comparison: the workloads at one number of keys or at several, and what has processes of its own.

    metcd bench --growth 1e4,1e5,1e6

    Plan ─┬─ bench.run, for each number of keys   growth: what an operation costs against n
          ├─ recovery                             opening after a kill, for each of them
          └─ durability                           what a write survives, once for each subject

One document comes out of it; rows of one workload differ in `keys`. Each number of keys is measured interleaved, as ever;
the times of all are brought to the one fastest probe.

A subject that would need too long for the next number of keys is left out from there on, and a note says so: what it took
for the last number, times the ratio of the two, is its forecast.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from bench.durability import durability_of_all
from bench.recovery import recovery_of_all
from bench.results import Durability, Measured, Results, Subject
from bench.run import Plan, run

__all__ = ["Whole", "at_one_speed", "in_time", "measure_whole"]


@dataclass(frozen=True, kw_only=True)
class Whole:
    """What is measured. plan: its `keys` is replaced by each of `sizes`, which ascend."""

    plan: Plan
    sizes: tuple[int, ...]
    recover: bool = True
    durability: bool = True

    def __post_init__(self) -> None:
        assert self.sizes and list(self.sizes) == sorted(set(self.sizes)), "numbers of keys, each larger than the last"

    @property
    def rows(self) -> int:
        """How often `progress` will be called, if nothing is left out."""
        subjects = len(self.plan.subjects)
        recoveries = subjects * self.plan.repetitions if self.recover else 0
        return len(self.sizes) * (self.plan.rows + recoveries) + (2 * subjects if self.durability else 0)


def measure_whole(whole: Whole, command: str, progress: Callable[[str], None] = lambda row: None) -> Results:
    """Measures everything. Raises OSError, KeyboardInterrupt."""
    plan = replace(whole.plan, keys=whole.sizes[0])
    parts: list[Results] = []
    recoveries: list[Measured] = []
    notes: list[str] = []
    failed: list[str] = []
    for keys in whole.sizes:
        if parts:
            kept, late = in_time(plan, parts[-1].measured, keys)
            plan, notes = replace(plan, subjects=kept, keys=keys), notes + late
        if not plan.subjects:
            break
        parts.append(run(plan, command, progress))
        notes += parts[-1].notes
        failed += parts[-1].failed
        if whole.recover:
            rows, faults = recovery_of_all(plan, progress)
            recoveries += rows
            counts = Counter(row.subject for row in rows)
            failed += [subject.name for subject in plan.subjects if counts[subject.name] < plan.repetitions]
            notes += faults
    durable: list[Durability] = []
    if whole.durability:
        durable, faults = durability_of_all(whole.plan.subjects, step=progress)
        notes += faults
    return replace(_joined(whole, parts, recoveries, durable, notes), failed=list(dict.fromkeys(failed)))


def in_time(plan: Plan, measured: Sequence[Measured], keys: int) -> tuple[list[Subject], list[str]]:
    """The subjects whose slowest workload would end within the plan's limit with more keys; and a sentence about each other.

    measured: what they took with the plan's keys.
    """
    kept, notes = [], []
    for subject in plan.subjects:
        took = max((row.seconds for row in measured if row.subject == subject.name), default=0.0)
        if took * keys / plan.keys <= plan.limit_s:
            kept.append(subject)
        else:
            notes.append(
                f"{subject.name}: left out from {keys:,} keys on, because a workload took {took:.3g} s with {plan.keys:,}"
            )
    return kept, notes


def _joined(
    whole: Whole, parts: Sequence[Results], recoveries: Sequence[Measured], durable: list[Durability], notes: list[str]
) -> Results:
    """One document, in which all times are at the fastest probe of all."""
    probes = [part.machine.probe_ns for part in parts] + [row.probe_ns for row in recoveries]
    fastest = min((probe for probe in probes if probe), default=0.0)
    rows = [row for part in parts for row in at_one_speed(part.measured, part.machine.probe_ns, fastest)]
    rows += [replace(row, normalised=row.seconds * fastest / row.probe_ns) for row in recoveries]
    return replace(
        parts[0],
        machine=replace(parts[0].machine, probe_ns=fastest),
        settings=parts[0].settings | {"sizes": list(whole.sizes)},
        durability=durable,
        measured=rows,
        notes=list(dict.fromkeys(notes)),
    )


def at_one_speed(rows: Sequence[Measured], own: float, fastest: float) -> list[Measured]:
    """The rows of a run whose fastest probe was `own`, at a faster one. Times that wait for a disk aren't normalised, and stay."""
    if not own:
        return list(rows)
    return [
        row if row.normalised == row.seconds else replace(row, normalised=row.normalised * fastest / own)
        for row in rows
    ]
