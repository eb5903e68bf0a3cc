"""What clients of /v3/kv have asked and been told: transactions on groups of keys, and whether one order explains them.

    t00001/a t00001/b      accounts: amounts go from one to the other, both or none
    t00001/c               made, changed, removed; each only as it was last seen
    t00001/log             who wrote: every transaction that succeeds leaves its own mark here

An operation is a transaction "if these keys have these values, put and delete those, else read the group", or a read of the
group; the JSON of the request follows from it. Its answer has a revision, and that says where it stands: a write at its own,
a read after the write at that revision. So there is one order to try, and nothing to guess:

1. `replay` does all operations in that order on a model of etcd (tests/gateway/kv_model.py); each answer must be the model's,
   to the last number: revisions, versions, what was seen, whether it succeeded.
2. Nothing stands before an operation that had ended before it was called.

An operation without an answer may have been done: then its mark is in the group's log, with the revision at which it was
done; `marks` are those logs, all versions of them, read at the end. It must have succeeded where it stands. One
without a mark has done nothing.

An order that passes is a proof. Besides, `search.py` judges each group by values alone, and is told no revision: the two
must agree (`judge`).
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.cluster.history import UNKNOWN
from tests.cluster.search import Event, Model, Undecided, linearizable
from tests.gateway import kv_model
from tests.gateway.kv_model import coded, decoded

__all__ = ["GROUP_OPERATIONS_MAX", "PATH", "TxnOp", "flaw", "group_of", "judge", "log_of", "request_of", "values_of"]

GROUP_OPERATIONS_MAX = 60
PATH = {"read": "kv/range", "txn": "kv/txn"}
Values = Mapping[bytes, bytes | None]
NONE: Values = {}


@dataclass(frozen=True, slots=True)
class TxnOp:
    """One operation on a group. expects: what each key must have, None for none; puts: None for a delete; mark: what a
    write leaves in the log. answer: of status 200, as the node gave it, {} if none came. Times are seconds since the round began."""

    client: int
    node: int
    kind: str  # "read", "txn"
    group: bytes
    called: float
    answered: float = UNKNOWN
    expects: Values = field(default_factory=dict)
    puts: Values = field(default_factory=dict)
    mark: bytes = b""
    answer: Mapping[str, Any] = field(default_factory=dict)

    @property
    def known(self) -> bool:
        return self.answered != UNKNOWN

    @property
    def writes(self) -> bool:
        """Whether it is known to have changed something."""
        return self.kind == "txn" and bool(self.answer.get("succeeded"))

    @property
    def revision(self) -> int:
        return int(self.answer["header"]["revision"])

    def __str__(self) -> str:
        what = f"if {dict(self.expects)} then {dict(self.puts)}" if self.kind == "txn" else "read"
        end = f"{self.answered:.4f}" if self.known else "unknown"
        told = json.dumps(self.answer)[:400]
        return (
            f"{self.called:>9.4f} … {end:>9}  client {self.client} at node {self.node}  {self.group!r} {what} → {told}"
        )


def group_of(number: int) -> bytes:
    return b"t%05d/" % number


def log_of(group: bytes) -> bytes:
    return group + b"log"


def request_of(op: TxnOp) -> dict[str, Any]:
    """The body of the request."""
    everything = {"key": coded(op.group), "range_end": coded(op.group[:-1] + b"0")}
    if op.kind == "read":
        return everything
    puts: list[dict[str, Any]] = []
    for key, value in op.puts.items():
        change = {"key": coded(key), "prev_kv": True}
        puts.append(
            {"request_delete_range": change} if value is None else {"request_put": change | {"value": coded(value)}}
        )
    puts.append({"request_put": {"key": coded(log_of(op.group)), "value": coded(op.mark)}})
    return {
        "compare": [_compare(key, value) for key, value in op.expects.items()],
        "success": puts,
        "failure": [{"request_range": everything}],
    }


def _compare(key: bytes, value: bytes | None) -> dict[str, Any]:
    if value is None:
        return {"key": coded(key), "target": "CREATE", "result": "EQUAL", "create_revision": "0"}
    return {"key": coded(key), "target": "VALUE", "result": "EQUAL", "value": coded(value)}


def values_of(op: TxnOp) -> dict[bytes, bytes]:
    """What an answered operation saw of its group: a read, or a transaction that did not succeed."""
    answer = op.answer if op.kind == "read" else op.answer["responses"][0]["response_range"]
    return {decoded(each["key"]): decoded(each.get("value")) for each in answer.get("kvs", ())}


# ---- the order of the revisions -------------------------------------------------------------------------------------


def flaw(history: Sequence[TxnOp], marks: Mapping[bytes, int]) -> str:
    """Why the order of the revisions does not explain the history; "" if it does. O(n log n).

    marks: each mark in a log → the revision at which it was put there.
    """
    placed: list[tuple[int, bool, float, TxnOp]] = []
    for op in history:
        if op.known:
            placed.append((op.revision, not op.writes, op.called, op))
            if op.writes and marks.get(op.mark) != op.revision:
                return f"it was done at {op.revision}, and its mark says {marks.get(op.mark)}:\n  {op}"
        elif op.mark in marks:
            placed.append((marks[op.mark], False, op.called, op))
    foreign = set(marks) - {op.mark for op in history}
    if foreign:
        return f"nobody has written {sorted(foreign)[:3]}"
    placed.sort(key=lambda each: each[:3])
    order = [(revision, op) for revision, _, _, op in placed]
    return _against_time([op for _, op in order]) or replay(order)


def _against_time(order: Iterable[TxnOp]) -> str:
    latest: TxnOp | None = None
    for op in order:
        if latest is not None and op.answered < latest.called:
            return f"the second had ended before the first was called:\n  {latest}\n  {op}"
        if latest is None or op.called > latest.called:
            latest = op
    return ""


def replay(order: Iterable[tuple[int, TxnOp]]) -> str:
    """Why the model answers otherwise; "" if it doesn't. order: with the revision at which, or after which, each one stands."""
    model = kv_model.Model(kept=1)
    for revision, op in order:
        changes = op.writes or not op.known
        if changes and revision <= model.revision:
            return f"two writes have revision {revision}, one of them this:\n  {op}"
        model.revision = revision - changes
        _, answer = model.ask(PATH[op.kind], request_of(op))
        if not op.known and not answer.get("succeeded"):
            return f"its mark is in the log at {revision}, and it can't have succeeded there:\n  {op}"
        if op.known and kv_model.without_names(dict(op.answer)) != answer:
            return f"at {revision} the answer is {json.dumps(answer)}, and this was told:\n  {op}"
    return ""


# ---- values only ----------------------------------------------------------------------------------------------------

State = tuple[tuple[bytes, bytes], ...]


def _step(state: State, op: TxnOp) -> tuple[bool, State]:
    """The search's model of a group: whether the answer may be so, and what the keys have then."""
    now = dict(state)
    if op.kind == "read":
        return values_of(op) == now, state
    holds = all(now.get(key) == value for key, value in op.expects.items())
    if op.known and bool(op.answer.get("succeeded")) != holds:
        return False, state
    if not holds:
        return not op.known or values_of(op) == now, state
    for key, value in (*op.puts.items(), (log_of(op.group), op.mark)):
        if value is None:
            now.pop(key, None)
        else:
            now[key] = value
    return True, tuple(sorted(now.items()))


GROUP = Model((), _step)


def judge(history: Sequence[TxnOp], marks: Mapping[bytes, int]) -> str:
    """What is wrong with a history, in some lines; "" if nothing is, and both checkers say so."""
    complaints = []
    why = flaw(history, marks)
    if why:
        complaints.append(f"transactions: the order of the revisions does not explain the history: {why}")
    groups: defaultdict[bytes, list[TxnOp]] = defaultdict(list)
    for op in history:
        if op.known or op.kind == "txn":
            groups[op.group].append(op)
    for group, ops in sorted(groups.items()):
        try:
            if not linearizable([Event(op, op.called, op.answered) for op in ops], GROUP):
                told = "\n".join(f"  {op}" for op in ops)
                complaints.append(f"transactions: no order explains what was seen of {group!r}:\n{told}")
        except Undecided as error:
            complaints.append(f"transactions: {group!r}: {error}")
    return "\n".join(complaints)
