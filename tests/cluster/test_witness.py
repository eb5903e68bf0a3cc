"""The two checkers of whole histories: what is linearizable has a witness, what isn't has none, and both checkers agree."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest

from tests.chapters.linearizable import Done, violation
from tests.cluster.history import UNKNOWN, Op, applied_by, load, save
from tests.cluster.search import APPEND, CELL, REGISTER, Event, Undecided, linearizable, partition
from tests.cluster.verdict import judge
from tests.cluster.witness import NoWitness, flaw, patched, witness


def put(value: bytes, called: float, answered: float = UNKNOWN, index: int = 0, key: bytes = b"x") -> Op:
    return Op(1, "put", key, value, called, answered, index)


def delete(called: float, answered: float = UNKNOWN, index: int = 0, key: bytes = b"x") -> Op:
    return Op(2, "delete", key, None, called, answered, index)


def get(value: bytes | None, called: float, answered: float, key: bytes = b"x") -> Op:
    return Op(3, "get", key, value, called, answered)


def scan(called: float, answered: float, **pairs: bytes) -> Op:
    return Op(4, "scan", b"", None, called, answered, pairs=tuple((key.encode(), each) for key, each in pairs.items()))


GOOD = {
    "nothing": [],
    "one after the other": [put(b"1", 0, 1, 5), get(b"1", 2, 3), delete(4, 5, 6), get(None, 6, 7)],
    "two at once, in the order of the log": [put(b"1", 0, 9, 6), put(b"2", 0, 9, 5), get(b"1", 10, 11)],
    "a read while it is written sees either": [put(b"1", 0, 9, 5), get(None, 1, 2), get(b"1", 3, 4)],
    "unknown, and it happened": [put(b"1", 0, index=5), get(None, 1, 2), get(b"1", 3, 4)],
    "unknown, and it never happened": [put(b"1", 0), put(b"2", 1, 2, 5), get(b"2", 3, 4)],
    "unknown, and it happened late": [put(b"1", 0, index=6), put(b"2", 1, 2, 5), get(b"2", 3, 4), get(b"1", 5, 6)],
    "unknown, before one that was read while it was written": [
        put(b"1", 0, index=4), put(b"2", 1, 9, 5), get(b"1", 2, 3), get(b"2", 4, 5),
    ],
    "an unknown delete": [put(b"1", 0, 1, 5), delete(2, index=7), get(b"1", 3, 4), get(None, 5, 6)],
    "two unknown deletes": [
        put(b"1", 0, 1, 5), delete(2, index=6), delete(2.5, index=8), get(None, 3, 4), put(b"2", 5, 6, 7), get(b"2", 7, 8),
        get(None, 9, 10),
    ],
    "a scan is of one moment": [
        put(b"1", 0, 1, 5), put(b"2", 2, 9, 6, b"y"), scan(3, 4, x=b"1"), scan(5, 6, x=b"1", y=b"2"),
    ],
    "an absent key, though its delete is late in the log": [put(b"1", 0, 1, 5), delete(2, 9, 8), get(None, 3, 4)],
}  # fmt: skip
BAD = {
    "a stale read": [put(b"1", 0, 1, 5), put(b"2", 2, 3, 6), get(b"1", 4, 5)],
    "a lost write": [put(b"1", 0, 1, 5), get(None, 2, 3)],
    "a write that was refused": [get(b"1", 0, 1)],
    "a read before the write": [get(b"1", 0, 1), put(b"1", 2, 3, 5)],
    "an unknown write that happens and then has not": [put(b"1", 0, index=5), get(b"1", 1, 2), get(None, 3, 4)],
    "a write that happens twice": [
        put(b"1", 0, 9, 5), get(b"1", 1, 2), put(b"2", 3, 4, 6), get(b"2", 5, 6), get(b"1", 7, 8),
    ],
    "a retried write that is applied twice": [
        put(b"1", 0, 9, 8), get(b"1", 1, 2), put(b"2", 3, 4, 6), get(b"2", 5, 6), get(b"1", 7, 8),
    ],
    "one unknown delete, twice gone": [
        put(b"1", 0, 1, 5), delete(2, index=6), get(None, 3, 4), put(b"2", 5, 6, 7), get(b"2", 7, 8), get(None, 9, 10),
    ],
    "a log that is against time": [put(b"1", 0, 1, 6), put(b"2", 2, 3, 5), get(b"1", 4, 5)],
    "two readers that disagree": [
        put(b"1", 0, 9, 5), put(b"2", 0, 9, 6), get(b"2", 1, 2), get(b"1", 3, 4),
        get(b"2", 5, 6),
    ],
}  # fmt: skip
BAD_SCANS = {
    "a scan of two moments": [
        put(b"1", 0, 1, 5), put(b"2", 2, 3, 6, b"y"), put(b"3", 4, 9, 7), put(b"4", 4, 9, 8, b"y"),
        scan(5, 6, x=b"3", y=b"2"), scan(5, 6, x=b"1", y=b"4"),
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_what_is_linearizable_has_a_witness(name: str) -> None:
    history = GOOD[name]
    order = witness(history)
    assert not flaw(order, history)
    assert judge(history).linearizable


@pytest.mark.parametrize("name", BAD)
def test_what_is_not_has_none_and_the_search_finds_the_key(name: str) -> None:
    with pytest.raises(NoWitness):
        witness(BAD[name])
    verdict = judge(BAD[name])
    assert not verdict.linearizable
    assert verdict.wrong_keys == (b"x",), verdict.why
    assert "client" in verdict.why


@pytest.mark.parametrize("name", BAD_SCANS)
def test_a_scan_that_no_key_shows_to_be_wrong_is_no_pass(name: str) -> None:
    verdict = judge(BAD_SCANS[name])
    assert not verdict.linearizable and not verdict.witnessed and not verdict.wrong_keys
    assert "wrong in a scan only" in verdict.why


def test_one_index_for_two_writes_is_no_order() -> None:
    with pytest.raises(NoWitness, match="index 5 was given to two writes"):
        witness([put(b"1", 0, 9, 5), put(b"2", 0, 9, 5)])


@pytest.mark.parametrize(
    ("break_it", "says"),
    [
        (lambda order: order[1:], "not in the order"),
        (lambda order: [*order, order[0]], "twice"),
        (lambda order: [*order, put(b"9", 0)], "not of the history"),
        (lambda order: order[::-1], "had ended before"),
        (lambda order: [order[1], order[0], *order[2:]], "had ended before|this was seen"),
    ],
)
def test_an_order_is_not_believed(break_it, says: str) -> None:  # type: ignore[no-untyped-def]
    history = GOOD["one after the other"]
    order = witness(history)
    assert re.search(says, flaw(break_it(order), history))


def simulated(rng: random.Random, operations: int, bug: str = "") -> list[Op]:
    """A run of a store whose every operation has one moment, between its call and its end: or of one with a bug.

    An unknown write that was done has an index, as nodes record it.
    """
    store: dict[bytes, bytes | None] = {}
    before: dict[bytes, bytes | None] = {}
    free = [0.0] * 8
    history = []
    moments = sorted((rng.random() * operations, number) for number in range(operations))
    for index, (moment, number) in enumerate(moments, 1):
        client = min(range(8), key=lambda each: free[each])
        called = max(free[client], moment - rng.random() * 4)
        if called > moment:
            continue
        answered = free[client] = moment + rng.random() * 4
        key = rng.choice((b"x", b"y"))
        choice = rng.random()
        unknown = rng.random() < 0.05
        if choice < 0.45:
            kind, value = ("put", b"%d" % number) if choice < 0.35 else ("delete", None)
            done = not (unknown and rng.random() < 0.5)
            if done and not (bug == "lost write" and rng.random() < 0.05):
                before[key], store[key] = store.get(key), value
            history.append(Op(client, kind, key, value, called, UNKNOWN if unknown else answered, index if done else 0))
        elif choice < 0.9:
            stale = bug == "stale read" and rng.random() < 0.05
            value = before.get(key) if stale else store.get(key)
            history.append(Op(client, "get", key, value, called, answered))
        else:
            pairs = tuple((each, found) for each, found in sorted(store.items()) if found is not None)
            history.append(Op(client, "scan", b"", None, called, answered, pairs=pairs))
    return history


def test_runs_of_a_right_store_have_a_witness_and_pass_the_search(rng: random.Random) -> None:
    for _ in range(200):
        history = simulated(rng, rng.randint(5, 60))
        verdict = judge(history)
        assert verdict.linearizable, verdict.why + "\n" + "\n".join(map(str, sorted(history, key=lambda op: op.called)))


@pytest.mark.parametrize("bug", ["stale read", "lost write"])
def test_the_checkers_agree_on_runs_of_a_wrong_one(bug: str, rng: random.Random) -> None:
    """Where the search knows a key to be wrong there is no witness, and without a witness there is no pass."""
    found = 0
    for _ in range(100):
        verdict = judge(simulated(rng, 60, bug))
        assert not (verdict.witnessed and verdict.wrong_keys), verdict.why
        found += bool(verdict.wrong_keys)
    assert found > 1  # 7 to some 40 of them, by the seed


def test_a_long_history_is_judged_quickly(rng: random.Random) -> None:
    """20,000 operations on two keys, too many for any search."""
    history = simulated(rng, 20_000)
    assert not flaw(witness(history), history)


def test_the_search_agrees_with_the_one_of_the_tutorial(rng: random.Random) -> None:
    verdicts = set()
    for _ in range(300):
        events = [
            Event((rng.choice(("write", "read")), rng.choice((b"1", b"2", None))), called := rng.randint(0, 8),
                  called + rng.randint(1, 6)) for _ in range(rng.randint(1, 7))
        ]  # fmt: skip
        kinds = {"write": "put", "read": "get"}
        done = [Done(1, kinds[each.what[0]], b"x", each.what[1], each.called, each.answered) for each in events]
        expected = violation(done) is None
        assert linearizable(events, CELL) == expected
        verdicts.add(expected)
    assert verdicts == {True, False}


def test_who_runs_out_of_steps_has_decided_nothing() -> None:
    events = [Event(("write", b"%d" % n), 0, 10) for n in range(12)] + [Event(("read", b"x"), 11, 12)]
    with pytest.raises(Undecided):
        linearizable(events, CELL, steps_max=1_000)
    assert not judge([put(b"%d" % n, 0, 10, n) for n in range(101)]).linearizable, "too many on one key"


def test_a_history_in_a_file_is_the_same_history(tmp_path: Path, rng: random.Random) -> None:
    history = simulated(rng, 60)
    save(tmp_path / "h", history)
    assert load(tmp_path / "h") == history
    assert partition(load(tmp_path / "h")) == partition(history)


def test_unknown_writes_get_their_index_from_what_nodes_have_recorded(tmp_path: Path) -> None:
    (tmp_path / "1").write_bytes(b"5 78 31\n6 78 -\n7 78 32\n8 78 -\n9 7")
    (tmp_path / "2").write_bytes(b"5 78 31\n")
    applied = applied_by([tmp_path / "1", tmp_path / "2", tmp_path / "absent"])
    assert applied == {5: (b"x", b"1"), 6: (b"x", None), 7: (b"x", b"2"), 8: (b"x", None)}
    history = [put(b"1", 0), delete(1), delete(2, 3, 8), put(b"2", 4), put(b"3", 5), delete(6)]
    assert [op.index for op in patched(history, applied)] == [5, 6, 8, 7, 0, 0]
    (tmp_path / "2").write_bytes(b"5 78 32\n")
    with pytest.raises(ValueError, match="entry 5 was applied as"):
        applied_by([tmp_path / "1", tmp_path / "2"])


# ---- porcupine's models, on histories of our own (reference: its register and key-value tests) -----------------------


def register(*events: tuple[str, object, float, float]) -> list[Event]:
    return [Event((kind, what), called, answered) for kind, what, called, answered in events]


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        (register(("read", None, 0, 1), ("write", 3, 2, 3), ("read", 3, 4, 5)), True),
        (register(("write", 3, 0, 9), ("read", None, 1, 2), ("read", 3, 3, 4), ("read", None, 5, 6)), False),
        (register(("write", 1, 0, 1), ("cas", (1, 2, True), 2, 3), ("read", 2, 4, 5)), True),
        (register(("write", 1, 0, 1), ("cas", (1, 2, False), 2, 3)), False),
        (register(("write", 1, 0, 1), ("cas", (4, 2, False), 2, 3), ("read", 1, 4, 5)), True),
        (register(("write", 1, 0, 1), ("cas", (4, 2, True), 2, 3)), False),
        (register(("write", 1, 0, 1), ("cas", (1, 2, None), 2, UNKNOWN), ("read", 1, 3, 4), ("read", 2, 5, 6)), True),
        (register(("write", 1, 0, 1), ("cas", (1, 2, None), 2, UNKNOWN), ("read", 2, 3, 4), ("read", 1, 5, 6)), False),
        (register(("cas", (1, 2, True), 0, 9), ("write", 1, 1, 2), ("cas", (1, 3, True), 3, 8)), False),
    ],
)
def test_a_register_that_compares_and_sets(events: list[Event], expected: bool) -> None:
    assert linearizable(events, REGISTER) is expected


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        (register(("get", "", 0, 1), ("put", "a", 2, 3), ("append", "b", 4, 5), ("get", "ab", 6, 7)), True),
        (register(("append", "a", 0, 9), ("append", "b", 0, 9), ("get", "ba", 10, 11)), True),
        (register(("append", "a", 0, 9), ("append", "b", 0, 9), ("get", "ba", 1, 2), ("get", "ab", 10, 11)), False),
        (register(("append", "a", 0, 1), ("append", "b", 2, 3), ("get", "ba", 4, 5)), False),
        (register(("append", "a", 0, 1), ("get", "", 2, 3)), False),
    ],
)
def test_a_store_that_appends(events: list[Event], expected: bool) -> None:
    assert linearizable(events, APPEND) is expected
