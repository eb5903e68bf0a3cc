"""The keydir: keys in order, and what views remember."""

from __future__ import annotations

import random

from engines.bitcask.keydir import Keydir, KeyOrder, Undo


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
    keydir.places.update({b"a": 1, b"b": 2})
    keydir.apply({b"a": 10, b"c": 30}, [first])
    keydir.apply({b"a": None, b"b": 20}, [first, second])
    assert dict(first) == {b"a": 1, b"c": None, b"b": 2}
    assert dict(second) == {b"a": 10, b"b": 2}
    assert keydir.places == {b"b": 20, b"c": 30}
