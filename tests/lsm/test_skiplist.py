"""engines/lsm/skiplist.py: order, searches in both directions, heights, cost, and readers beside the writer."""

from __future__ import annotations

import itertools
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.lsm.keys import Row
from engines.lsm.skiplist import BRANCHING, MAX_HEIGHT, Node, SkipList

KEYS = st.binary(max_size=3)  # short, so that some are equal


def filled(keys: list[bytes]) -> tuple[SkipList, list[Row]]:
    """A skiplist with a row for each key, and the same rows sorted."""
    rows = [Row.of(key, sequence, b"%d" % sequence) for sequence, key in enumerate(keys, 1)]
    skiplist = SkipList(random.Random(1))
    for row in rows:
        skiplist.insert(row)
    return skiplist, sorted(rows)


def bounds(keys: list[bytes]) -> list[Row]:
    """Before, between and after the versions of each key."""
    return [
        bound for key in [*keys, b"", b"\xff" * 4] for bound in (Row.first_of(key), Row.of(key, len(keys) // 2, b""))
    ]


@given(keys=st.lists(KEYS, max_size=60))
def test_rows_ascend_and_of_equal_keys_the_newest_is_first(keys: list[bytes]) -> None:
    """skiplist_test.cc, InsertAndLookup; from each bound on, forwards."""
    skiplist, rows = filled(keys)
    assert list(skiplist.ascend(Row.first_of(b""))) == rows
    assert len(skiplist) == len(rows)
    for bound in bounds(keys):
        assert list(skiplist.ascend(bound)) == [row for row in rows if row >= bound]


@given(keys=st.lists(KEYS, max_size=60))
def test_rows_descend_from_any_bound(keys: list[bytes]) -> None:
    """skiplist_test.cc, InsertAndLookup, its part with Prev."""
    skiplist, rows = filled(keys)
    assert list(skiplist.descend(None)) == rows[::-1]
    for bound in bounds(keys):
        assert list(skiplist.descend(bound)) == [row for row in rows if row < bound][::-1]


def test_a_search_ends_at_the_first_node_that_is_not_smaller() -> None:
    """And the one before it is FindLessThan's; None where there is none."""
    skiplist, rows = filled([b"b", b"d"])

    def row_of(node: Node | None) -> Row | None:
        return None if node is None else node.row

    b, d = rows
    for bound, before, found in ((b"a", None, b), (b"b", None, b), (b"c", b, d), (b"d", b, d), (b"e", d, None)):
        assert row_of(skiplist.seek(Row.first_of(bound))) == found
        assert row_of(skiplist.before(Row.first_of(bound))) == before
    assert row_of(skiplist.before(None)) == d
    assert SkipList(random.Random(1)).before(None) is None


def test_a_search_gives_the_node_that_it_compared() -> None:
    """Not the one that is linked there by then: a newer version of the key, which this reader must not see."""

    class Low(random.Random):
        """Every node is on level 0 only, so that the last comparison of a search is known."""

        def randrange(self, *_: object) -> int:  # type: ignore[override]
            return 1

    skiplist = SkipList(Low())
    skiplist.insert(Row.of(b"a", 1, b"1"))
    skiplist.insert(Row.of(b"k", 2, b"2"))

    class Interrupted(Row):
        """A bound: while it is compared with the row that is not smaller, a writer comes in between."""

        def __gt__(self, other: object) -> bool:
            smaller = isinstance(other, tuple) and other < tuple(self)
            if not smaller and len(skiplist) == 2:
                skiplist.insert(Row.of(b"k", 9, b"newer"))
            return smaller

    found = skiplist.seek(Interrupted.of(b"k", 2, b""))
    assert found is not None and found.row == Row.of(b"k", 2, b"2")
    assert len(skiplist) == 3


def test_a_reader_goes_on_while_rows_are_inserted(rng: random.Random) -> None:
    """Invariant 4: whatever comes in between, a reader meets all rows that were there before, in order; and those that are
    inserted ahead of it."""
    numbers = list(range(0, 2_000, 2))
    rng.shuffle(numbers)
    skiplist, before = filled([b"%04d" % number for number in numbers])
    late = list(range(1, 2_000, 2))
    rng.shuffle(late)
    seen = []
    ahead = []
    for row in skiplist.ascend(Row.first_of(b"")):
        seen.append(row)
        if late:
            new = Row.of(b"%04d" % late.pop(), 5_000 - len(late), b"")
            skiplist.insert(new)
            if new > row:
                ahead.append(new)
    assert seen == sorted(seen)
    assert set(before) <= set(seen)
    assert set(seen) - set(before) == set(ahead)


def test_a_reader_on_any_level_finds_complete_nodes(rng: random.Random) -> None:
    """Invariant 4, between any two steps of an insertion: a reader who walks along any level finds rows in order to the end."""
    skiplist = SkipList(rng)

    class Watched(list):  # type: ignore[type-arg]
        """The links of a node, and a reader who walks along all levels whenever one of them is set."""

        def __setitem__(self, level, node) -> None:  # type: ignore[no-untyped-def]
            super().__setitem__(level, node)
            for each in range(MAX_HEIGHT):
                rows, at = [], skiplist._head.next[each]
                while at is not None:
                    rows.append(at.row)
                    at = at.next[each]
                assert rows == sorted(rows)
                assert len(rows) >= len(before[each]), "nothing that was there is missed"
                before[each] = rows

    before: list[list[Row]] = [[] for _ in range(MAX_HEIGHT)]
    skiplist._head.next = Watched(skiplist._head.next)
    for number in range(100):
        skiplist.insert(Row.of(b"%03d" % rng.randrange(1_000), number, b""))
        node = skiplist._head.next[0]
        while node is not None:
            node.next = node.next if isinstance(node.next, Watched) else Watched(node.next)
            node = node.next[0]
    assert len(before[0]) == 100


class CountingKey(bytes):
    """A key that counts how often it is compared."""

    compared = 0

    def __lt__(self, other: bytes) -> bool:
        CountingKey.compared += 1
        return bytes.__lt__(self, other)

    def __ge__(self, other: bytes) -> bool:
        CountingKey.compared += 1
        return bytes.__ge__(self, other)


@pytest.mark.parametrize("count", [1_000, 8_000])
def test_an_insertion_compares_log_n_keys(count: int, rng: random.Random) -> None:
    """Pugh, section 2: with p = 1/4, L(n)/p = 4 log4(n) comparisons on average, and a few at the top."""
    skiplist = SkipList(rng)
    keys = [CountingKey(b"%08d" % number) for number in range(count)]
    rng.shuffle(keys)
    CountingKey.compared = 0
    for sequence, key in enumerate(keys):
        skiplist.insert(Row.of(key, sequence, b""))
    assert CountingKey.compared / count <= 4 * math.log(count, 4) + 2


def test_heights_fall_by_four(rng: random.Random) -> None:
    """Each level has about a quarter of the nodes of the one below; they are on the level below, too (invariant 2)."""
    skiplist = SkipList(rng)
    for number in range(8_000):
        skiplist.insert(Row.of(b"%05d" % rng.randrange(100_000), number, b""))
    levels: list[list[Row]] = []
    for level in range(MAX_HEIGHT):
        rows = []
        node = skiplist._head.next[level]
        while node is not None:
            rows.append(node.row)
            node = node.next[level]
        levels.append(rows)
    assert len(levels[0]) == 8_000
    for below, above in itertools.pairwise(levels):
        assert set(above) <= set(below)
        assert above == sorted(above)
        if len(below) >= 100:
            assert 0.6 / BRANCHING < len(above) / len(below) < 1.6 / BRANCHING
