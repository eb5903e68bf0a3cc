"""Transactions: update() and its own writes, cursors that survive deletes, buckets."""

from __future__ import annotations

import pytest

from engines import StoreClosed
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


def test_a_closed_view_holds_nothing(store: BTreeStore) -> None:
    """Even if somebody still has the object: its pages may be used again."""
    keys = [b"%04d" % number for number in range(2_000)]
    store.load((key, b"v" * 50) for key in keys)
    view = store.view()
    store.put(keys[0], b"changed")
    for closed in (False, True):
        if closed:
            view.close()
        for _ in range(3):
            with store.batch(sync=True) as batch:
                for key in keys:
                    batch.put(key, b"w" * 50)
        assert (store.stats().engine["pending_pages"] < 10) is closed
        assert store.check() == []
