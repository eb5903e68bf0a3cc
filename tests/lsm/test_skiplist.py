"""engines/lsm/skiplist.py: the order of its nodes, how many keys it compares, and its heights."""

from __future__ import annotations

import itertools
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.lsm.skiplist import HEAD, LEVELS, LINKS, SkipList

KEYS = st.binary(max_size=12)


@given(st.lists(KEYS, max_size=60))
def test_a_skiplist_is_sorted_and_equal_keys_are_newest_first(keys: list[bytes]) -> None:
    """skiplist_test.cc, InsertAndLookup."""
    skiplist = SkipList(random.Random(1))
    for sequence, key in enumerate(keys, 1):
        skiplist.insert(key, sequence, b"%d" % sequence)
    expected = sorted(((key, sequence) for sequence, key in enumerate(keys, 1)), key=lambda pair: (pair[0], -pair[1]))
    assert [(key, sequence) for key, sequence, _ in skiplist] == expected
    assert len(skiplist) == len(keys)
    for key in [*keys, b"", b"\xff" * 13]:
        node = skiplist.seek(key)
        at_or_after = [pair for pair in expected if pair[0] >= key]
        assert (node == HEAD) == (not at_or_after)
        if node != HEAD:
            assert (skiplist.cells[node], skiplist.cells[node + 1]) == at_or_after[0]


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
def test_a_skiplist_compares_log_n_keys(count: int, rng: random.Random) -> None:
    """Pugh, section 2: with p = 1/4, L(n)/p = 4 log4(n) comparisons on average; sequential keys need one."""
    skiplist = SkipList(rng)
    keys = [CountingKey(b"%08d" % number) for number in range(count)]
    rng.shuffle(keys)
    CountingKey.compared = 0
    for sequence, key in enumerate(keys):
        skiplist.insert(key, sequence, b"")
    assert CountingKey.compared / count <= 4 * math.log(count, 4)
    skiplist, ascending = SkipList(rng), sorted(keys)
    CountingKey.compared = 0
    for sequence, key in enumerate(ascending):
        skiplist.insert(key, sequence, b"")
    assert CountingKey.compared <= count + count // 32  # one, and for each node of the lane another one


def test_a_skiplists_heights_fall_by_four(rng: random.Random) -> None:
    """Each level has about a quarter of the nodes of the one below; the lane stands for all levels above the links."""
    skiplist = SkipList(rng)
    for number in range(8_000):
        skiplist.insert(b"%05d" % rng.randrange(100_000), number, b"")
    counts = []
    for link in range(LINKS, LINKS + LEVELS):
        node, count = skiplist.cells[HEAD + link], 0
        while node != HEAD:
            node, count = skiplist.cells[node + link], count + 1
        counts.append(count)
    counts.append(len(skiplist._lane_nodes))
    assert counts[0] == 8_000
    assert [skiplist.cells[node] for node in skiplist._lane_nodes] == skiplist._lane_keys == sorted(skiplist._lane_keys)
    for below, above in itertools.pairwise(counts):
        assert 0.15 < above / below < 0.4, counts
