"""Transactions: update() and its own writes, cursors that survive deletes, buckets."""

from __future__ import annotations

import random

import pytest

from engines import ReadOnly, StoreClosed
from engines.btree import BTreeStore


def test_an_update_sees_its_own_writes_and_commits_as_one(store: BTreeStore) -> None:
    """update(): get, scan in both directions, delete; nobody else sees any of it before the end."""
    store.load((b"%02d" % number, b"old") for number in range(0, 20, 2))
    with store.update() as tx:
        tx.put(b"03", b"new")
        tx.put(b"04", b"new")
        tx.delete(b"06")
        tx.delete(b"nothing")
        tx.delete(b"03")
        tx.put(b"05", b"new")
        expected = {b"%02d" % number: b"old" for number in range(0, 20, 2)} | {b"04": b"new", b"05": b"new"}
        del expected[b"06"]
        assert dict(tx.scan()) == expected
        assert list(tx.scan(reverse=True)) == sorted(expected.items(), reverse=True)
        assert list(tx.scan(b"03", b"08")) == [(b"04", b"new"), (b"05", b"new")]
        assert next(tx.scan(prefix=b"0", reverse=True)) == (b"08", b"old")
        assert (tx.get(b"03"), tx.get(b"05"), tx.get(b"06"), tx.get(b"06", b"gone")) == (None, b"new", None, b"gone")
        assert store.get(b"05") is None
    assert dict(store.scan()) == expected
    assert store.stats().puts == 3 and store.stats().deletes == 3
    with pytest.raises(StoreClosed):
        tx.get(b"05")
    with pytest.raises(StoreClosed):
        tx.put(b"05", b"late")


def test_an_update_that_raises_leaves_nothing(store: BTreeStore) -> None:
    """update(): an exception discards all of it, and the store goes on."""
    store.put(b"a", b"1")
    with pytest.raises(ZeroDivisionError), store.update() as tx:
        tx.put(b"a", b"2")
        tx.put(b"b", b"2")
        raise ZeroDivisionError
    assert dict(store.scan()) == {b"a": b"1"}
    with store.update() as tx:
        pass
    store.put(b"c", b"3")


def test_writing_past_an_open_update_is_refused(store: BTreeStore) -> None:
    """The same thread would wait for itself (bbolt's deadlock, boltdb issue 378): it is told instead."""
    with store.update() as tx:
        tx.put(b"a", b"1")
        for call in (lambda: store.put(b"b", b"2"), store.flush, store.compact, store.check, store.close):
            with pytest.raises(RuntimeError, match="in use by this thread"):
                call()
        with pytest.raises(RuntimeError), store.batch(sync=True) as batch:
            batch.put(b"b", b"2")
        assert store.get(b"a") is None
    assert dict(store.scan()) == {b"a": b"1"}


def test_a_cursor_deletes_everything_it_passes(store: BTreeStore) -> None:
    """bbolt's issue 146: after Delete, Next skipped a key. Here none is skipped, across all pages."""
    keys = [b"%04d" % number for number in range(2_000)]
    store.load((key, b"v" * 30) for key in keys)
    seen = []
    with store.update() as tx:
        cursor = tx.cursor()
        pair = cursor.first()
        while pair is not None:
            seen.append(pair[0])
            cursor.delete()
            pair = cursor.next()
    assert seen == keys
    assert list(store.scan()) == []


def test_a_cursor_survives_deletes_in_both_directions(store: BTreeStore, rng: random.Random) -> None:
    """Random moves, puts and deletes, against a sorted list: next and prev are always the neighbours of where it stood."""
    store.load((b"%03d" % number, b"") for number in range(0, 1_000, 2))
    with store.update() as tx:
        model = {b"%03d" % number for number in range(0, 1_000, 2)}
        cursor = tx.cursor()
        place: bytes | None = None
        for _ in range(3_000):
            choice = rng.randrange(6)
            if choice == 0:
                key = b"%03d" % rng.randrange(1_000)
                tx.put(key, b"")
                model.add(key)
                continue
            if choice == 1 and place is not None:
                cursor.delete()
                model.discard(place)
                continue
            if choice == 2 or place is None:
                key = b"%03d" % rng.randrange(1_000)
                pair, expected = cursor.seek(key), min((k for k in model if k >= key), default=None)
            elif choice in (3, 4):
                pair, expected = cursor.next(), min((k for k in model if k > place), default=None)
            else:
                pair, expected = cursor.prev(), max((k for k in model if k < place), default=None)
            assert (pair and pair[0]) == expected
            place = expected
        assert [key for key, _ in tx.scan()] == sorted(model)


def test_a_cursor_knows_both_ends(store: BTreeStore) -> None:
    """first, last, and what lies beyond them."""
    with store.update() as tx:
        assert tx.cursor().first() is None and tx.cursor().last() is None and tx.cursor().next() is None
    store.load([(b"a", b"1"), (b"b", b"2")])
    with store.view() as view:
        cursor = view.cursor()
        assert cursor.last() == (b"b", b"2") and cursor.next() is None and cursor.next() is None
        assert cursor.prev() == (b"b", b"2") and cursor.prev() == (b"a", b"1") and cursor.prev() is None
        assert cursor.prev() is None and cursor.next() == (b"a", b"1") and cursor.seek(b"aa") == (b"b", b"2")
        assert cursor.seek(b"z") is None
        with pytest.raises(ReadOnly):
            view.cursor().first() and cursor.seek(b"a") and cursor.delete()
