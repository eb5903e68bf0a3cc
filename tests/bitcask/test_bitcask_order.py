"""The order of a hash's keys: what it hands out, how it is brought up to date, and when it is given up."""

from __future__ import annotations

import random

import pytest

from engines.bitcask.order import LIST_KEYS, KeyOrder


def take(order: KeyOrder, places: dict[bytes, int], start: bytes = b"", stop: bytes | None = None) -> list[bytes]:
    return order.take(places, start, stop, len(places) + 1, after=False, reverse=False)


@pytest.mark.parametrize("most", [300, 5 * LIST_KEYS])
def test_the_order_follows_what_comes_and_goes(rng: random.Random, most: int) -> None:
    """Few changes are sorted in, many make it be sorted anew; every range is that of the sorted keys, both ways."""
    places: dict[bytes, int] = {}
    order = KeyOrder()
    made = 0
    for changes in [0, most, 1, 3, 0, most // 10, 5, 2, most // 9, most // 9, 1]:
        for _ in range(changes):
            key = b"%05d" % rng.randrange(most * 3 // 2)
            if rng.random() < 0.4:
                places.pop(key, None)
            else:
                places[key] = 1
            if order.made:
                order.note(key)
        made += order.made
        assert take(order, places) == sorted(places) and order.check(places)
        for _ in range(50):
            start, stop = sorted(b"%05d" % rng.randrange(most * 3 // 2) for _ in range(2))
            count, after, end = rng.choice((1, 16, LIST_KEYS, most)), rng.random() < 0.5, rng.choice((stop, None))
            inside = sorted(key for key in places if start <= key and (end is None or key < end))
            got = order.take(places, start, end, count, after=False, reverse=True)
            assert got == inside[::-1][:count]
            got = order.take(places, start, end, count, after=after, reverse=False)
            assert got == [key for key in inside if not after or key != start][:count]
    assert made >= 5, "most changes were to be sorted in"


def test_lists_split_and_go(rng: random.Random) -> None:
    """All keys of one list go; and so many come between two others that the list splits. 16 keys are taken of a list."""
    places = dict.fromkeys((b"%06d" % number for number in range(0, 100 * LIST_KEYS, 10)), 1)
    order = KeyOrder()
    take(order, places)
    for number in range(0, 10 * LIST_KEYS, 10):
        del places[b"%06d" % number]
        order.note(b"%06d" % number)
    assert order.check(places)
    for number in range(50 * LIST_KEYS, 52 * LIST_KEYS):
        places[b"%06d" % number] = 1
        order.note(b"%06d" % number)
        if number % 50 == 0:
            take(order, places, b"%06d" % number)
    assert order.made and order.check(places)


def test_an_order_that_missed_a_change_is_found() -> None:
    places = {b"%d" % number: 1 for number in range(100)}
    order = KeyOrder()
    assert order.check(places)
    del places[b"7"]
    assert not order.check(places)


def test_an_order_that_nobody_asks_for_again_remembers_no_more_than_it_orders() -> None:
    """One scan, and then a queue: the notes of keys that have come and gone don't pile up."""
    order, places = KeyOrder(), dict.fromkeys((b"%03d" % number for number in range(800)), 1)
    take(order, places)
    most = 0
    for number in range(10_000):
        if order.made:
            order.note(b"job%d" % number)
        most = max(most, len(order.changed))
    assert most <= 100 and order.check(places)
