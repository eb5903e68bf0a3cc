"""The freelist: runs, pins, and the rule by which pages wait, against a model that asks every tree; its bytes."""

from __future__ import annotations

import random
from array import array

import pytest

from engines.btree.freelist import Freelist, freelist_body, read_freelist
from engines.btree.page import FREELIST, PageError, run_pages, with_trailer

PAGE = 4096
FREELIST_9_10 = "02000000000000001000020000000000 0900000000000000 0a00000000000000"


def test_single_pages_come_from_the_list_and_then_from_the_end() -> None:
    """allocate: the high-water mark moves only when nothing is free."""
    freelist = Freelist([4, 7, 5], 10)
    assert sorted(freelist.allocate(1) for _ in range(3)) == [4, 5, 7]
    assert freelist.allocate(1) == 10
    assert freelist.high_water == 11 and not freelist.free


def test_a_run_is_looked_for_among_the_free_pages() -> None:
    """allocate(n): consecutive ids, and the end of the file if there are none."""
    freelist = Freelist([2, 3, 5, 6, 7, 9], 20)
    assert freelist.allocate(3) == 5
    assert freelist.allocate(2) == 2
    assert freelist.allocate(2) == 20
    assert freelist.free.tolist() == [9] and freelist.high_water == 22
    assert freelist.drop([(8, 0)], 5, [5]) == [8]
    assert freelist.allocate(2) == 8, "a failed search is forgotten when pages become free"


def test_rollback_undoes_allocations() -> None:
    """rollback: free again, or beyond the high-water mark again."""
    freelist = Freelist([2, 3, 5], 10)
    runs = [(freelist.allocate(2), 2), (freelist.allocate(4), 4), (freelist.allocate(1), 1)]
    freelist.rollback(runs, 10)
    assert freelist.free.tolist() == [2, 3, 5] and freelist.high_water == 10


@pytest.mark.parametrize(
    ("born", "dropped", "pins", "free"),
    [
        (3, 8, [8], True),  # only the newest tree is pinned, and can't reach it
        (3, 8, [7], False),
        (3, 8, [3], False),
        (3, 8, [2], True),  # a tree from before its birth
        (3, 8, [2, 9], True),
        (3, 8, [2, 5, 9], False),
        (0, 8, [1], False),  # born nobody knows when
    ],
)
def test_a_page_waits_for_who_can_see_it(born: int, dropped: int, pins: list[int], free: bool) -> None:
    """born <= pin < dropped (bbolt's PR 3: pages between two readers are free)."""
    freelist = Freelist([], 10)
    assert freelist.drop([(4, born)], dropped, pins) == ([4] if free else [])
    assert freelist.waiting() == ([] if free else [4])
    assert freelist.listed([]).tolist() == [4]


def test_waiting_pages_are_placed_again_when_their_pin_goes() -> None:
    """release: one that another pin can see goes on waiting."""
    freelist = Freelist([], 20)
    freelist.drop([(4, 1), (5, 6), (6, 1)], 8, [3, 7])
    freelist.drop([(9, 1)], 9, [3, 7, 8])
    assert freelist.release([3, 7, 8]) == []
    assert freelist.release([3, 8]) == [5]
    assert freelist.waiting_count == 3
    assert sorted(freelist.release([])) == [4, 6, 9]
    assert freelist.free.tolist() == [4, 5, 6, 9]


def test_no_page_is_free_while_a_pinned_tree_reaches_it(rng: random.Random) -> None:
    """Invariant 3, against a model that keeps every tree as a set of pages."""
    for _ in range(60):
        freelist = Freelist([], 2)
        trees: dict[int, set[int]] = {0: set()}
        births: dict[int, int] = {}
        pins: set[int] = set()
        for txid in range(1, 60):
            now = sorted(pins)
            for page in freelist.release(now):
                assert all(page not in trees[pin] for pin in pins)
            tree = set(trees[txid - 1])
            dropped = rng.sample(sorted(tree), min(len(tree), rng.randrange(5)))
            size = rng.randrange(1, 4)
            start = freelist.allocate(size)
            new = set(range(start, start + size))
            assert not new & trees[txid - 1] and all(not new & trees[pin] for pin in pins)
            births.update(dict.fromkeys(new, txid if rng.random() < 0.8 else 0))
            trees[txid] = (tree - set(dropped)) | new
            if rng.random() < 0.3:
                pins.add(txid)
            if pins and rng.random() < 0.3:
                pins.discard(rng.choice(sorted(pins)))
            freed = freelist.drop([(page, births[page]) for page in dropped], txid, sorted(pins))
            assert all(page not in trees[pin] for pin in pins for page in freed)
            used = set(range(2, freelist.high_water)) - trees[txid]
            assert set(freelist.listed([])) == used
            assert len(freelist.listed([])) == len(used)


def test_many_ids_are_listed_in_order() -> None:
    """listed: ascending, whether few or many ids wait."""
    for count in (3, 1_000):
        freelist = Freelist(range(10_000, 10_000 + count), 20_000)
        freelist.drop([(page, 0) for page in range(2, 2 + count)], 5, [4])
        ids = freelist.listed(range(15_000, 15_000 + count)).tolist()
        assert ids == sorted(ids) and len(ids) == 3 * count


def test_a_freelist_is_bbolts_bytes() -> None:
    """Made by bbolt 1.3.6, but for the checksum at the page's end."""
    expected = bytes.fromhex(FREELIST_9_10)
    assert with_trailer(2, FREELIST, *freelist_body(array("Q", [9, 10])), 1, PAGE)[0].startswith(expected)


@pytest.mark.parametrize("count", [0, 1, 509, 65_534, 65_535, 70_000])
def test_a_freelist_of_any_length_comes_back(count: int) -> None:
    """From 0xFFFF ids on, the count moves into the body."""
    ids = array("Q", range(2, 2 + count))
    in_header, body = freelist_body(ids)
    assert in_header == (count if count < 65_535 else 65_535)
    pages = run_pages(16 + len(body), PAGE)
    run, _ = with_trailer(7, FREELIST, in_header, body, pages, PAGE)
    assert read_freelist(run) == (ids, 16 + len(body))
    with pytest.raises(PageError, match="ids end at"):
        read_freelist(run[:10] + b"\xfe\xff" + run[12:PAGE])
