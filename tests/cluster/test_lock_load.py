"""The judgement of locks (tests/cluster/lock_load.py): what is wrong is found, and what is right passes."""

from __future__ import annotations

from tests.cluster.lock_load import LOCKS, Claim, Fenced, Step, judge

LOCK = LOCKS[0]
ONE, TWO = LOCK + b"/1", LOCK + b"/2"


HISTORY = [
    Step(2, ONE, 2), Step(3, TWO, 3), Step(4, ONE, 2), Step(6, ONE, 0),
    Step(8, ONE, 8), Step(9, ONE, 0), Step(9, TWO, 0),
]  # fmt: skip


def test_a_lock_goes_from_one_holder_to_the_next() -> None:
    claims = [Claim(LOCK, ONE, 2), Claim(LOCK, ONE, 5), Claim(LOCK, TWO, 6)]
    fenced = [Fenced(LOCK, ONE, 2, 4), Fenced(LOCK, TWO, 3, 7), Fenced(LOCK, TWO, 3, 8)]
    assert judge(HISTORY, claims, fenced) == ""


def test_who_is_told_too_early_or_too_late_is_found() -> None:
    assert "'lock/a/2' was told at revision 5" in judge(HISTORY, [Claim(LOCK, TWO, 5)], [])
    assert "'lock/a/1' was told at revision 6" in judge(HISTORY, [Claim(LOCK, ONE, 6)], [])
    assert "'lock/a/2' was told at revision 9 that it holds, and None does" in judge(HISTORY, [Claim(LOCK, TWO, 9)], [])


def test_a_write_of_one_who_has_lost_the_lock_is_found() -> None:
    assert "has written at revision 7" in judge(HISTORY, [], [Fenced(LOCK, ONE, 2, 7)])
    assert "has written at revision 8" in judge(HISTORY, [], [Fenced(LOCK, ONE, 2, 8)]), "another key of the same name"
