"""The judgement of a whole history: the witness first, then the search on each key, and both have to agree.

| witness (witness.py) | search (search.py), key by key | verdict                                                  |
|----------------------|--------------------------------|----------------------------------------------------------|
| found                | every key is linearizable      | linearizable                                             |
| found                | a key isn't, or is undecided   | failure: one of the two checkers is wrong, or can't tell |
| none                 | a key isn't                    | failure: that key's operations are told                  |
| none                 | every key is linearizable      | failure: undecided, unless a scan shows what no key does  |

The search sees at most KEY_OPERATIONS_MAX operations of each key: clients change keys before (keys.py), so that nothing is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tests.cluster.history import Op
from tests.cluster.search import CELL, Undecided, linearizable, partition
from tests.cluster.witness import NoWitness, witness

__all__ = ["KEY_OPERATIONS_MAX", "Verdict", "judge"]

KEY_OPERATIONS_MAX = 100
TOLD_MAX = 40  # operations of a failing key that are told


@dataclass(frozen=True)
class Verdict:
    """linearizable: proved, and agreed upon. why: what is wrong, in some lines; "" if nothing is."""

    linearizable: bool
    why: str
    operations: int
    keys: int
    witnessed: bool
    wrong_keys: tuple[bytes, ...] = ()


def judge(history: Sequence[Op]) -> Verdict:
    """What both checkers say of a history whose keys have at most KEY_OPERATIONS_MAX operations each."""
    complaints = []
    try:
        witness(history)
        witnessed = True
    except NoWitness as error:
        witnessed = False
        complaints.append(f"no order by index explains the history: {error}")
    wrong = []
    parts = partition(history)
    for key, events in sorted(parts.items()):
        if len(events) > KEY_OPERATIONS_MAX:
            complaints.append(f"{key!r} has {len(events)} operations, more than {KEY_OPERATIONS_MAX}: not searched")
            continue
        try:
            if linearizable(events, CELL):
                continue
            wrong.append(key)
            complaints.append(f"the operations on {key!r} have no order that explains them:\n{_told(history, key)}")
        except Undecided as error:
            complaints.append(f"{key!r}: {error}")
    if not witnessed and not wrong:
        complaints.append("the search finds no key that is wrong by itself: undecided, or wrong in a scan only")
    why = "\n".join(complaints)
    return Verdict(not complaints, why, len(history), len(parts), witnessed, tuple(wrong))


def _told(history: Sequence[Op], key: bytes) -> str:
    """The operations on a key, one a line."""
    about = [str(op) for op in history if op.key == key or (op.kind == "scan" and key.startswith(op.key))]
    left = [f"  … and {len(about) - TOLD_MAX} before these"] if len(about) > TOLD_MAX else []
    return "\n".join([*left, *(f"  {line}" for line in about[-TOLD_MAX:])])
