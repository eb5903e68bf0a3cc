"""The judge of transactions: what one store did, it passes, whatever was unknown; what no store does, both of its checkers find."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from tests.cluster.history import UNKNOWN
from tests.cluster.txn_history import PATH, TxnOp, flaw, group_of, judge, log_of, request_of, values_of
from tests.cluster.txn_load import change
from tests.gateway.kv_model import Model, coded, decoded

GROUP = group_of(1)
A, B, C = GROUP + b"a", GROUP + b"b", GROUP + b"c"
Values = Mapping[bytes, bytes | None]


class World:
    """One store, and operations that are done in it at once, each between its call and its end."""

    def __init__(self) -> None:
        self.model = Model()
        self.marks: dict[bytes, int] = {}

    def done(self, op: TxnOp, answered: float = UNKNOWN, do: bool = True) -> TxnOp:
        """The operation, done now (if it is); with its answer, if there is one."""
        if not do:
            return op
        _, answer = self.model.ask(PATH[op.kind], request_of(op))
        if answer.get("succeeded"):
            self.marks[op.mark] = int(answer["header"]["revision"])
        return op if answered == UNKNOWN else replace(op, answered=answered, answer=answer)

    def read(self, called: float, answered: float) -> TxnOp:
        return self.done(TxnOp(1, 1, "read", GROUP, called), answered)

    def txn(
        self, mark: str, called: float, answered: float, expects: Values | None = None, puts: Values | None = None,
        do: bool = True,
    ) -> TxnOp:  # fmt: skip
        values = puts if puts is not None else {A: mark.encode()}
        op = TxnOp(2, 1, "txn", GROUP, called, expects=expects or {}, puts=values, mark=mark.encode())
        return self.done(op, answered, do)

    def foreign(self) -> None:
        """Somebody else's write, elsewhere."""
        self.model.ask("kv/put", {"key": coded(b"other"), "value": ""})


def test_what_one_store_did_passes(seed: int) -> None:
    """Operations overlap at random; each is done at a moment between call and end, or never if nobody knows."""
    unknown_done = 0
    for number in range(60):
        rng = random.Random(f"{seed} {number}")
        world, history = World(), []
        seen: dict[bytes, bytes] = {}
        for at in range(40):
            called, answered = at - 5 * rng.random(), at + 5 * rng.random()
            if rng.random() < 0.3:
                world.foreign()
            if rng.random() < 0.4:
                history.append(world.read(called, answered))
                seen = values_of(history[-1])
                continue
            expects, puts = change(rng, GROUP, seen, b"%d" % at)
            op = TxnOp(2, 1, "txn", GROUP, called, expects=expects, puts=puts, mark=b"%d" % at)
            unknown = rng.random() < 0.15
            history.append(world.done(op, UNKNOWN if unknown else answered, do=not unknown or rng.random() < 0.5))
        assert judge(history, world.marks) == "", f"seed {seed}, history {number}"
        unknown_done += sum(not op.known and op.mark in world.marks for op in history)
    assert unknown_done > 20


def _stale_read() -> tuple[list[TxnOp], dict[bytes, int]]:
    world = World()
    first = world.txn("1", 0, 1)
    old = world.read(2, 3)
    return [first, world.txn("2", 4, 5), replace(old, called=6, answered=7)], world.marks


def _lost() -> tuple[list[TxnOp], dict[bytes, int]]:
    world = World()
    lost = world.txn("1", 0, 1)
    other = World()
    other.foreign()
    return [lost, other.read(2, 3)], world.marks


def _half() -> tuple[list[TxnOp], dict[bytes, int]]:
    world = World()
    moved = world.txn("1", 0, 1, puts={A: b"90 1", B: b"110 1"})
    read = world.read(2, 3)
    kvs = [each for each in read.answer["kvs"] if decoded(each["key"]) != B]
    return [moved, _told(read, kvs=kvs, count="2")], world.marks


def _compare_ignored() -> tuple[list[TxnOp], dict[bytes, int]]:
    world = World()
    one = world.txn("1", 0, 1)
    two = world.txn("2", 2, 3, expects={})
    return [one, replace(two, expects={A: b"7"})], world.marks


def _compare_refused() -> tuple[list[TxnOp], dict[bytes, int]]:
    world = World()
    refused = world.txn("2", 0, 1, expects={A: b"7"})
    return [replace(refused, expects={A: None})], world.marks


def _twice_the_same() -> tuple[list[TxnOp], dict[bytes, int]]:
    """Two that expected the same value have both replaced it."""
    one, two = World(), World()
    two.foreign()
    first = one.txn("1", 0, 9, expects={A: None})
    return [first, two.txn("2", 0, 9, expects={A: None})], one.marks | two.marks


def _undone() -> tuple[list[TxnOp], dict[bytes, int]]:
    """Nobody was told that it is done, but it was seen; and later it was not."""
    world = World()
    before = world.read(0, 1)
    unknown = world.txn("1", 2, UNKNOWN)
    return [unknown, world.read(3, 4), replace(before, called=5, answered=6)], world.marks


def _phantom() -> tuple[list[TxnOp], dict[bytes, int]]:
    world = World()
    world.txn("1", 0, 1)
    return [world.read(2, 3)], world.marks


def _never_asked_so() -> tuple[list[TxnOp], dict[bytes, int]]:
    """An unknown one is done, though what it expects isn't there."""
    world = World()
    unknown = world.txn("1", 0, UNKNOWN)
    return [replace(unknown, expects={A: b"7"}), world.read(2, 3)], world.marks


ALL = [
    _stale_read,
    _lost,
    _half,
    _compare_ignored,
    _compare_refused,
    _twice_the_same,
    _undone,
    _phantom,
    _never_asked_so,
]


@pytest.mark.parametrize("make", ALL, ids=lambda make: make.__name__)
def test_what_no_store_does_is_found_by_both_checkers(make: Callable[[], tuple[list[TxnOp], dict[bytes, int]]]) -> None:
    history, marks = make()
    why = judge(history, marks)
    assert "the order of the revisions does not explain the history" in why
    assert f"no order explains what was seen of {GROUP!r}" in why


def test_revisions_count_too() -> None:
    """Values alone would pass: revisions that go back in time, one that two have, and numbers that can't be."""
    world = World()
    one, two = world.txn("1", 0, 1), world.txn("2", 2, 3)
    read = world.read(4, 5)
    swapped = [replace(one, called=2, answered=3), replace(two, called=0, answered=1)]
    assert "had ended before the first was called" in flaw(swapped, world.marks)
    late = [one, two, replace(_told(read, header={"revision": "2"}), called=0)]
    assert "at 2 the answer is" in flaw(late, world.marks)
    twice = replace(two, mark=b"3", answer=one.answer)
    assert "two writes have revision 2" in flaw([one, twice], {b"1": 2, b"3": 2})
    version = [dict(each, version="7") for each in read.answer["kvs"]]
    assert "the answer is" in flaw([one, two, _told(read, kvs=version)], world.marks)
    assert flaw([one, two, read], world.marks) == ""
    assert "its mark says" in flaw([one, two, read], {**world.marks, b"2": 9})


def test_a_request_puts_its_mark_into_the_log() -> None:
    world = World()
    op = world.txn("1", 0, 1, expects={C: None}, puts={C: None})
    body: dict[str, Any] = request_of(op)
    assert body["compare"] == [{"key": coded(C), "target": "CREATE", "result": "EQUAL", "create_revision": "0"}]
    assert body["success"][-1] == {"request_put": {"key": coded(log_of(GROUP)), "value": coded(b"1")}}
    assert values_of(world.read(2, 3)) == {log_of(GROUP): b"1"}


def _told(op: TxnOp, **fields: Any) -> TxnOp:
    """The operation, with an answer that differs in these fields."""
    return replace(op, answer={**op.answer, **fields})
