"""Where the answer flips: arithmetic on straight lines."""

from __future__ import annotations

import random

import pytest

from bench.flips import Stretch, cheapest, mix_cost, stretches, with_share
from bench.workload import Kind, Mix


def prices(get: float = 0.0, put: float = 0.0, scan: float = 0.0) -> dict[Kind, float]:
    return {Kind.GET: get, Kind.PUT: put, Kind.SCAN: scan, Kind.INSERT: 0.0, Kind.DELETE: 0.0}


def test_a_mix_costs_its_kinds_by_their_shares() -> None:
    assert mix_cost(prices(get=2, scan=20), Mix(get=0.75, scan=0.25)) == 6.5
    assert mix_cost({Kind.GET: 2.0}, Mix(get=1.0)) == 2.0, "what has no share needs no price"


def test_the_others_give_way_in_proportion() -> None:
    assert with_share(Mix(get=0.6, put=0.2, scan=0.2), Kind.SCAN, 0.6) == Mix(get=0.3, put=0.1, scan=0.6)
    assert with_share(Mix(get=1.0), Kind.PUT, 0.25) == Mix(get=0.75, put=0.25)
    with pytest.raises(ValueError, match="nothing but scan"):
        with_share(Mix(scan=1.0), Kind.SCAN, 0.5)


def test_the_answer_flips_where_two_lines_cross() -> None:
    """1 + 19x and 3 + x meet at x = 1/9."""
    two = {"bitcask": prices(get=1, scan=20), "btree": prices(get=3, scan=4)}
    assert stretches(two, Mix(get=1.0), Kind.SCAN) == [Stretch(0.0, "bitcask"), Stretch(pytest.approx(1 / 9), "btree")]


def test_an_engine_that_is_never_the_cheapest_is_not_named() -> None:
    three = {"a": prices(get=1, scan=20), "b": prices(get=3, scan=4), "c": prices(get=4, scan=9)}
    assert [each.engine for each in stretches(three, Mix(get=1.0), Kind.SCAN)] == ["a", "b"]


def test_of_two_that_cost_the_same_the_first_of_the_alphabet_wins() -> None:
    same = {"b": prices(get=1, scan=1), "a": prices(get=1, scan=1)}
    assert stretches(same, Mix(get=1.0), Kind.SCAN) == [Stretch(0.0, "a")]
    assert cheapest(same, Mix(get=1.0)) == ["a", "b"]


def test_of_two_that_begin_alike_the_one_that_stays_cheaper_is_named() -> None:
    two = {"a": prices(get=1, scan=9), "b": prices(get=1, scan=5)}
    assert stretches(two, Mix(get=1.0), Kind.SCAN) == [Stretch(0.0, "b")]


def test_stretches_are_what_trying_every_share_finds(rng: random.Random) -> None:
    """Against the plain way: the cheapest engine at each of 500 shares, apart from those next to a crossing."""
    for _ in range(50):
        drawn = {name: prices(rng.uniform(1, 9), rng.uniform(1, 9), rng.uniform(1, 9)) for name in "abcd"}
        mix = Mix(get=0.5, put=0.3, scan=0.2)
        found = stretches(drawn, mix, Kind.SCAN)
        for step in range(500):
            share = step / 500
            if any(abs(each.begins - share) < 1e-9 for each in found[1:]):
                continue
            named = [each.engine for each in found if each.begins <= share][-1]
            assert named == cheapest(drawn, with_share(mix, Kind.SCAN, share))[0], (share, found, drawn)
