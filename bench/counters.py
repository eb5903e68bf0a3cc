"""What a run of operations read, wrote and synced, for each of them: from the engines' own counters.

    before = store.stats() ──── operations ────► after = store.stats()          costs = (after - before) / operations

Counters are bytes and calls at the Env, caches not counted, so a get that a cache answers costs 0 reads. What an engine
puts off (a memtable that isn't flushed, garbage that isn't merged) is not in the counters yet: `measure` flushes at the
end, and counts that too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields

from bench.workload import Operation, apply
from engines import KVStore, Stats

__all__ = ["Costs", "Run", "difference", "measure", "ranked", "table"]


@dataclass(frozen=True)
class Run:
    """What happened between two looks at a store's counters, as sums. `pairs` were read by gets and scans."""

    operations: int
    pairs: int
    user_bytes: int
    bytes_written: int
    bytes_read: int
    reads: int
    fsyncs: int


@dataclass(frozen=True)
class Costs:
    """What one operation costs on average. `write_amplification`: bytes written for each byte that callers wrote."""

    reads: float
    bytes_read: float
    bytes_written: float
    fsyncs: float
    write_amplification: float

    @classmethod
    def of(cls, run: Run) -> Costs:
        """The averages of a run. A run without operations costs nothing, and one that wrote no byte amplifies none: 0.0."""
        count = run.operations or 1
        return cls(
            reads=run.reads / count,
            bytes_read=run.bytes_read / count,
            bytes_written=run.bytes_written / count,
            fsyncs=run.fsyncs / count,
            write_amplification=run.bytes_written / run.user_bytes if run.user_bytes else 0.0,
        )


def difference(before: Stats, after: Stats, operations: int, pairs: int) -> Run:
    """What was counted between two looks at one store. Counters only grow, and begin anew when a store is opened.

    Requires: both are of one opening, so that no difference is negative. `operations` and `pairs` are the caller's, who
    did them.
    """
    return Run(
        operations=operations,
        pairs=pairs,
        user_bytes=after.user_bytes - before.user_bytes,
        bytes_written=after.bytes_written - before.bytes_written,
        bytes_read=after.bytes_read - before.bytes_read,
        reads=after.reads - before.reads,
        fsyncs=after.fsyncs - before.fsyncs,
    )


def measure(store: KVStore, work: Iterable[Operation]) -> Run:
    """Does the work, flushes, and says what it took."""
    before = store.stats()
    done = pairs = 0
    for operation in work:
        pairs += apply(store, operation)
        done += 1
    store.flush()
    return difference(before, store.stats(), done, pairs)


def ranked(costs: Mapping[str, Costs], counter: str) -> list[str]:
    """The names of the engines, the cheapest by that counter first; of two with the same cost, in the order of the alphabet.

    counter: the name of a field of `Costs`. Raises ValueError for a name that is none.
    """
    if counter not in {field.name for field in fields(Costs)}:
        raise ValueError(f"{counter!r} is not counted: {', '.join(field.name for field in fields(Costs))} are")
    return sorted(costs, key=lambda name: (getattr(costs[name], counter), name))


def table(costs: Mapping[str, Costs]) -> str:
    """The costs of several engines, a line for each."""
    names = [field.name for field in fields(Costs)]
    lines = [f"{'':8}" + "".join(f"{name.replace('_', ' ').removeprefix('write '):>16}" for name in names)]
    for engine, cost in costs.items():
        lines.append(f"{engine:8}" + "".join(f"{getattr(cost, name):>16,.2f}" for name in names))
    return "\n".join(lines)
