"""The keydir: keys in order, and what views remember."""

from __future__ import annotations

import random
from typing import Any

from engines.bitcask.keydir import Keydir, KeyOrder, Undo
from engines.simenv import SimEnv
from tests.bitcask.riak_files import open_sim


def test_the_order_follows_what_comes_and_goes(rng: random.Random) -> None:
    """Few changes are sorted in, many make it be sorted anew; either way it is that of the keys."""
    places: dict[bytes, int] = {}
    order = KeyOrder()
    for changes in [200, 1, 3, 0, 150, 5, 2]:
        for _ in range(changes):
            key = b"%03d" % rng.randrange(300)
            if rng.random() < 0.5:
                places.pop(key, None)
            else:
                places[key] = 1
            if order.made:
                order.note(key)
        keys = list(order.range(places, b"", None, (True, True), False))
        assert keys == sorted(places)
        backwards = list(order.range(places, b"100", b"200", (True, False), True))
        assert backwards == sorted((key for key in places if b"100" <= key < b"200"), reverse=True)
    assert order.check(places)


def test_an_order_that_missed_a_change_is_found() -> None:
    places = {b"%d" % number: 1 for number in range(100)}
    order = KeyOrder()
    assert order.check(places)
    del places[b"7"]
    assert not order.check(places)


def test_a_view_remembers_the_first_place_of_each_key() -> None:
    keydir, first, second = Keydir(), Undo(), Undo()
    keydir.places.update({b"a": (1, 0, 16), b"b": (1, 16, 16)})
    keydir.apply({b"a": (2, 0, 16), b"c": (2, 16, 16)}, [first])
    keydir.apply({b"a": None, b"b": (2, 32, 16)}, [first, second])
    assert dict(first) == {b"a": (1, 0, 16), b"c": None, b"b": (1, 16, 16)}
    assert dict(second) == {b"a": (2, 0, 16), b"b": (1, 16, 16)}
    assert keydir.places == {b"b": (2, 32, 16), b"c": (2, 16, 16)}


def test_a_queue_that_runs_through_leaves_an_open_view_no_notes() -> None:
    """Each key is absent again, as it was when the view was opened; what the view had, it keeps."""
    with open_sim(SimEnv(), max_file_size=1 << 20) as store:
        store.put(b"kept", b"1")
        with store.snapshot() as snapshot:
            list(snapshot.scan())
            for number in range(500):
                store.put(b"job%d" % number, b"")
                assert snapshot.get(b"job%d" % number) is None
                store.delete(b"job%d" % number)
            assert len(snapshot.moment.undo) == 0
            store.delete(b"kept")
            store.put(b"kept", b"2")
            store.delete(b"kept")
            assert list(snapshot.moment.undo) == [b"kept"]
            assert list(snapshot.scan()) == [(b"kept", b"1")] == list(snapshot.scan(reverse=True))
            assert store.check() == []


def test_a_view_sees_no_later_value_while_its_note_is_dropped() -> None:
    """A reader without the lock has looked into the places, where a later value is, when that is deleted again."""
    with open_sim(SimEnv()) as store, store.snapshot() as snapshot:
        store.put(b"k", b"later")

        class Places(dict[bytes, Any]):
            def get(self, key: bytes, default: Any = None) -> Any:
                found = super().get(key, default)
                if key in self and not deleting:
                    deleting.append(key)
                    store.delete(key)
                return found

        deleting: list[bytes] = []
        store.core.keydir.places = Places(store.core.keydir.places)
        assert snapshot.get(b"k") is None
        assert deleting == [b"k"] and len(snapshot.moment.undo) == 0


def test_an_order_that_nobody_asks_for_again_remembers_no_more_than_it_orders() -> None:
    """One scan, and then a queue: the notes of keys that have come and gone don't pile up."""
    order, places = KeyOrder(), dict.fromkeys((b"%03d" % number for number in range(800)), 1)
    order.range(places, b"", None, (True, True), False)
    most = 0
    for number in range(10_000):
        if order.made:
            order.note(b"job%d" % number)
        most = max(most, len(order.changed))
    assert most <= 100 and order.check(places)
