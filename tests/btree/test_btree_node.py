"""Nodes: sizes, splits and joins."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.btree.node import EMPTY, MIN_KEYS, Node, inline_leaf
from engines.btree.page import LEAF, BucketValue, PageError, header, leaf_body

PAGE = 1024

nodes = st.dictionaries(st.binary(min_size=1, max_size=60), st.binary(max_size=400), min_size=1, max_size=60).map(
    lambda items: Node.leaf(sorted(items), [items[key] for key in sorted(items)])
)
branches = st.dictionaries(st.binary(min_size=1, max_size=300), st.integers(2, 2**40), min_size=2, max_size=60).map(
    lambda items: Node.branch(sorted(items), [items[key] for key in sorted(items)])
)


@given(nodes | branches)
def test_size_bytes_is_the_node_on_disk(node: Node) -> None:
    """Without the trailer: a 16-byte header, 16 bytes for each element, keys and values."""
    assert node.size_bytes == 16 + len(node.body())


@given(nodes | branches, st.floats(0.1, 1.0))
def test_the_pieces_of_a_split_are_the_node(node: Node, fill: float) -> None:
    """In order; each fits into a page with its trailer, or has too few keys to be split; each has two keys at least."""
    pieces = node.split(PAGE, fill)
    assert [key for piece in pieces for key in piece.keys] == node.keys
    assert [value for piece in pieces for value in piece.values] == node.values
    assert [child for piece in pieces for child in piece.children] == list(node.children)
    for piece in pieces:
        assert piece.size_bytes + 8 <= PAGE or len(piece.keys) <= 2 * MIN_KEYS
        assert len(pieces) == 1 or len(piece.keys) >= MIN_KEYS


@pytest.mark.parametrize("fill", [0.25, 0.5, 1.0])
def test_a_split_fills_pages_to_fill(fill: float) -> None:
    """All but the last two: what is over goes there."""
    node = Node.leaf([b"%04d" % number for number in range(300)], [b"v" * 12] * 300)
    sizes = [piece.size_bytes for piece in node.split(PAGE, fill)]
    assert all(PAGE * fill - 40 <= size <= PAGE * fill for size in sizes[:-2])


@pytest.mark.parametrize(("keys", "pieces"), [(2, 1), (4, 1), (5, 2)])
def test_four_keys_share_an_overflow_run(keys: int, pieces: int) -> None:
    """bbolt's rule: two keys at least on each side of a split."""
    node = Node.leaf([b"%d" % number for number in range(keys)], [b"v" * 3000] * keys)
    assert len(node.split(PAGE, 0.5)) == pieces


@given(nodes, st.data())
def test_joining_undoes_a_split(node: Node, data: st.DataObject) -> None:
    """Of two neighbours."""
    at = data.draw(st.integers(0, len(node.keys)))
    left, right = Node.leaf(node.keys[:at], node.values[:at]), Node.leaf(node.keys[at:], node.values[at:])
    joined = left.joined(right)
    assert (joined.keys, joined.values, joined.size_bytes) == (node.keys, node.values, node.size_bytes)


def test_a_key_belongs_to_the_last_child_that_does_not_begin_above_it() -> None:
    """And what lies below all of them to the first one."""
    branch = Node.branch([b"b", b"f", b"m"], [5, 9, 6])
    assert [branch.child_index(key) for key in (b"a", b"b", b"e", b"f", b"z")] == [0, 0, 0, 1, 2]


def test_a_leaf_knows_that_it_has_buckets() -> None:
    """has_buckets: so that nobody has to look at each value."""
    assert Node.leaf([b"a"], [BucketValue(bytes(16))]).has_buckets
    assert not Node.leaf([b"a"], [bytes(16)]).has_buckets and not EMPTY.has_buckets


def test_an_inline_bucket_has_a_leaf_in_it() -> None:
    """A page header, elements and data, in a value; anything else is refused."""
    page = header.pack(0, LEAF, 1, 0) + leaf_body([b"k"], [b"v"])
    assert (inline_leaf(page).keys, inline_leaf(page).values) == ([b"k"], [b"v"])
    for damaged in (b"", page[:15], page[:20], header.pack(0, 1, 1, 0) + page[16:]):
        with pytest.raises(PageError):
            inline_leaf(damaged)
