"""The judgement of locks (tests/cluster/lock_load.py): what is wrong is found, and what is right passes."""

from __future__ import annotations

from server.mvcc import Change, Record
from tests.cluster.lock_load import LOCKS, Claim, Fenced, judge

LOCK = LOCKS[0]
ONE, TWO = LOCK + b"/1", LOCK + b"/2"


def put(revision: int, key: bytes, created: int = 0) -> Change:
    record = Record(key, b"", created or revision, revision, 1, 7, 0)
    return Change(revision, 0, False, record, None)


def delete(revision: int, key: bytes, sub: int = 0) -> Change:
    return Change(revision, sub, True, Record(key, b"", 0, revision, 0, 0, sub), None)


HISTORY = [put(2, ONE), put(3, TWO), put(4, ONE, 2), delete(6, ONE), put(8, ONE), delete(9, ONE), delete(9, TWO, 1)]


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
