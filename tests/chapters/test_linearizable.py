"""The checker of histories, on histories whose verdict is known, and against all orders of small ones."""

from __future__ import annotations

import random
from itertools import permutations

import pytest

from tests.chapters.linearizable import UNKNOWN, Done, violation


def put(value: bytes | None, called: float, answered: float = UNKNOWN, client: int = 1) -> Done:
    return Done(client, "put", b"x", value, called, answered)


def get(value: bytes | None, called: float, answered: float, client: int = 2) -> Done:
    return Done(client, "get", b"x", value, called, answered)


GOOD = {
    "nothing happened": [],
    "an absent key": [get(None, 0, 1)],
    "one after the other": [put(b"1", 0, 1), get(b"1", 2, 3), put(None, 4, 5), get(None, 6, 7)],
    "a read while it is written may see either": [put(b"1", 0, 9), get(None, 1, 2), get(b"1", 3, 4)],
    "a write that is unknown may happen late": [put(b"1", 0), get(None, 1, 2), get(None, 3, 4), get(b"1", 5, 6)],
    "or never": [put(b"1", 0), get(None, 1, 2), get(None, 3, 4)],
    "two writes at once, in the order that the reads say": [put(b"1", 0, 9), put(b"2", 0, 9, 3), get(b"2", 10, 11)],
}
BAD = {
    "a stale read": [put(b"1", 0, 1), put(b"2", 2, 3), get(b"1", 4, 5)],
    "a lost write": [put(b"1", 0, 1), get(None, 2, 3)],
    "a value that nobody wrote": [get(b"1", 0, 1)],
    "an acknowledged delete that comes back": [put(b"1", 0, 1), put(None, 2, 3), get(b"1", 4, 5)],
    "an unknown write that happens and then has not": [put(b"1", 0), get(b"1", 1, 2), get(None, 3, 4)],
    "two readers that disagree on the order": [
        put(b"1", 0, 9), put(b"2", 0, 9, 3), get(b"1", 1, 2, 4), get(b"2", 3, 4, 5), get(b"1", 5, 6, 4),
    ],
    "a read that goes back while it is written": [put(b"1", 0, 9), get(b"1", 1, 2), get(None, 3, 4)],
}  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_a_linearizable_history_passes(name: str) -> None:
    assert violation(GOOD[name]) is None


@pytest.mark.parametrize("name", BAD)
def test_a_planted_violation_is_found(name: str) -> None:
    assert violation(BAD[name]) == sorted(BAD[name], key=lambda done: done.called)


def test_keys_are_judged_alone() -> None:
    other = [Done(1, "put", b"y", b"1", 0, 1), Done(1, "get", b"y", None, 2, 3)]
    assert violation([*GOOD["one after the other"], *other]) == other


def test_small_histories_are_judged_as_by_all_their_orders(rng: random.Random) -> None:
    verdicts = set()
    for _ in range(300):
        history = [_any(rng, client) for client in range(rng.randint(1, 5))]
        expected = any(_explains(order) for order in permutations(history))
        assert (violation(history) is None) == expected, "\n".join(map(str, history))
        verdicts.add(expected)
    assert verdicts == {True, False}


def _any(rng: random.Random, client: int) -> Done:
    called = rng.randint(0, 8)
    kind = rng.choice(("put", "get"))
    answered = UNKNOWN if kind == "put" and rng.random() < 0.3 else called + rng.randint(1, 6)
    return Done(client, kind, b"x", rng.choice((b"1", b"2", None)), called, answered)


def _explains(order: tuple[Done, ...]) -> bool:
    """Whether the operations may have happened in this order, the unknown ones of its end perhaps never."""
    while order and order[-1].answered == UNKNOWN:
        order = order[:-1]
    value = None
    for at, done in enumerate(order):
        if any(later.answered < done.called for later in order[at + 1 :]):
            return False
        if done.kind == "get" and done.value != value:
            return False
        value = done.value if done.kind == "put" else value
    return True
