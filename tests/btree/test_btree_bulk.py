"""Bulk loading: sorted streams become full trees, bottom-up, and what fails half-way is rolled back."""

from __future__ import annotations

import pytest

from engines import InvalidKey
from engines.btree import BTreeStore
from engines.btree.bulk import StreamFailed, build_tree, copy_tree, replace_tree
from engines.btree.cursor import leaves_forward
from engines.btree.node import Node
from engines.btree.page import BucketValue
from engines.btree.tree import TreeWriter
from engines.btree.walk import bucket_header, pages_of_tree
from engines.kvstore import Pair

PAGE = 1024


def pairs_of(writer: TreeWriter, root: int) -> list[Pair]:
    leaves = leaves_forward(writer.pager, writer.pager.load(root), b"")
    return [pair for leaf in leaves for pair in zip(leaf.keys, leaf.values)]


@pytest.mark.parametrize("count", [0, 1, 2, 4, 5, 100, 5_000])
def test_a_stream_becomes_a_tree(writer: TreeWriter, count: int) -> None:
    """Of any length, none included."""
    pairs = [(b"%05d" % number, b"v" * (number % 50)) for number in range(count)]
    root = build_tree(writer, iter(pairs))
    assert pairs_of(writer, root) == pairs
    assert sorted(writer.written) == sorted(pgid for pgid, _ in pages_of_tree(writer.pager, root)), "each once"


def test_pages_are_full(writer: TreeWriter) -> None:
    """All but the last ones of each level."""
    root = build_tree(writer, ((b"%05d" % number, b"v" * 30) for number in range(3_000)))
    leaves = list(leaves_forward(writer.pager, writer.pager.load(root), b""))
    assert all(leaf.size_bytes > 0.9 * PAGE for leaf in leaves[:-2])


def test_what_a_stream_raises_comes_out_with_its_cause(writer: TreeWriter) -> None:
    """And keys out of order, and a bucket's name."""
    old = writer.write(Node.leaf([b"bucket"], [BucketValue(bucket_header.pack(0, 0) + bytes(8) + b"\2" + bytes(7))]))

    def stream(*keys: bytes) -> list[Pair]:
        return [(key, b"") for key in keys]

    for pairs in (stream(b"a", b"c", b"b"), stream(b"a", b"a"), stream(b"a", b"bucket")):
        with pytest.raises(StreamFailed) as failure:
            replace_tree(writer, old, pairs)
        assert isinstance(failure.value.__cause__, InvalidKey)
    with pytest.raises(StreamFailed) as failure:
        replace_tree(writer, old, (1 // 0 for _ in range(1)))  # type: ignore[arg-type,misc]
    assert isinstance(failure.value.__cause__, ZeroDivisionError)


def test_other_programs_buckets_are_taken_over(writer: TreeWriter) -> None:
    """A load replaces the pairs, and leaves the buckets among them alone."""
    bucket = BucketValue(bucket_header.pack(0, 5) + bytes(8) + b"\2" + bytes(7))
    old = writer.write(Node.leaf([b"b", b"m", b"z"], [bucket, b"old", bucket]))
    root = replace_tree(writer, old, [(b"a", b"1"), (b"c", b"2")])
    assert pairs_of(writer, root) == [(b"a", b"1"), (b"b", bucket), (b"c", b"2"), (b"z", bucket)]
    assert [page for page, _ in writer.dropped] == [old]


def test_a_copy_has_the_buckets_below_it(writer: TreeWriter) -> None:
    """A bucket's value has another page id in the copy, and the same sequence."""
    nested = build_tree(writer, ((b"%03d" % number, b"nested") for number in range(300)))
    top = writer.write(Node.leaf([b"bucket"], [BucketValue(bucket_header.pack(nested, 7))]))
    root, sequence = bucket_header.unpack(pairs_of(writer, copy_tree(writer.pager, top, writer))[0][1])
    assert root != nested and sequence == 7
    assert pairs_of(writer, root) == pairs_of(writer, nested)


def test_a_load_that_fails_leaves_the_store_as_it_was(store: BTreeStore) -> None:
    """Its pages are free again."""
    store.load((b"%04d" % number, b"v") for number in range(1_000))
    before = store.stats().engine
    with pytest.raises(ZeroDivisionError):
        store.load((b"%04d" % number, b"w" * (100 // (5_000 - number))) for number in range(9_000))
    assert {value for _, value in store.scan()} == {b"v"}
    after = store.stats().engine
    assert after["pages"] - after["free_pages"] == before["pages"] - before["free_pages"]
