"""Copy-on-write: another tree comes out, the old one stays, and both have the shape that bbolt wants."""

from __future__ import annotations

import random
from collections.abc import Iterable

import pytest

from engines import InvalidKey
from engines.btree import BTreeStore
from engines.btree.bulk import build_tree
from engines.btree.cursor import leaves_forward
from engines.btree.node import Node
from engines.btree.page import BucketValue
from engines.btree.pager import Pager
from engines.btree.tree import Changes, TreeWriter
from engines.btree.walk import pages_of_tree

PAGE = 1024


def changes_of(items: Iterable[tuple[bytes, bytes | None]]) -> Changes:
    changes = dict(items)
    return Changes(sorted(changes), [changes[key] for key in sorted(changes)])


def content(pager: Pager, root: int) -> dict[bytes, bytes]:
    return {
        key: value
        for leaf in leaves_forward(pager, pager.load(root), b"")
        for key, value in zip(leaf.keys, leaf.values)
    }


def require_shape(pager: Pager, pgid: int, first: bytes | None = None) -> int:
    """Invariant 2; the depth of the tree."""
    node = pager.load(pgid)
    assert first is None or node.keys[0] == first, "a branch's key is its child's first one"
    assert node.size_bytes + 8 <= PAGE * node.pages
    if not node.children:
        return 1
    assert len(node.children) >= 2
    depths = {require_shape(pager, child, key) for key, child in zip(node.keys, node.children)}
    assert len(depths) == 1, "all leaves have the same depth"
    return depths.pop() + 1


def next_writer(writer: TreeWriter) -> TreeWriter:
    return TreeWriter(writer.pager, writer.freelist, writer.txid + 1, 0.5)


def test_any_changes_make_the_tree_that_they_should(writer: TreeWriter, rng: random.Random) -> None:
    """Against a dict: puts, overwrites and deletes, one or many at once; the old tree still shows the old content."""
    pager = writer.pager
    root, model = writer.write(Node.leaf([], [])), dict[bytes, bytes]()
    for _ in range(150):
        count = rng.choice((1, 1, 2, 30, 300))
        puts = rng.random()
        items = [
            (b"%03d" % rng.randrange(500), b"v" * rng.randrange(60) if rng.random() < puts else None)
            for _ in range(count)
        ]
        writer = next_writer(writer)
        changes = changes_of(items)
        found = writer.apply(root, changes)
        assert content(pager, root) == model
        changed = {key: value for key, value in zip(*changes) if value is not None or key in model}
        if found is None:
            assert not changed
            continue
        model = {key: value for key, value in (model | changed).items() if value is not None}
        assert content(pager, found) == model
        require_shape(pager, found)
        root = found


def test_written_and_dropped_are_what_differs_between_the_trees(writer: TreeWriter, rng: random.Random) -> None:
    """Invariant 1: nothing else is written, and nothing is dropped twice."""
    pager = writer.pager
    root = build_tree(writer, ((b"%04d" % number, b"v" * 40) for number in range(1_000)))
    for _ in range(20):
        before = {page for pgid, pages in pages_of_tree(pager, root) for page in range(pgid, pgid + pages)}
        writer = next_writer(writer)
        root = writer.apply(root, changes_of((b"%04d" % rng.randrange(1_000), b"new" * 9) for _ in range(9))) or root
        after = {page for pgid, pages in pages_of_tree(pager, root) for page in range(pgid, pgid + pages)}
        assert set(writer.written) == after - before
        assert sorted(page for page, _ in writer.dropped) == sorted(before - after)


def test_one_change_writes_one_node_for_each_level(writer: TreeWriter) -> None:
    """O(height), in a tree of any size."""
    root = build_tree(writer, ((b"%04d" % number, b"v" * 40) for number in range(1_000)))
    depth = require_shape(writer.pager, root)
    writer = next_writer(writer)
    writer.apply(root, Changes([b"0500"], [b"another"]))
    assert len(writer.written) == depth == 3


def test_nothing_changes_nothing(writer: TreeWriter) -> None:
    """None: absent keys are deleted, or there are no changes."""
    root = build_tree(writer, [(b"a", b"1")])
    writer = next_writer(writer)
    assert writer.apply(root, Changes([b"b", b"c"], [None, None])) is None
    assert writer.apply(root, Changes([], [])) is None
    assert not writer.written and not writer.dropped


def test_rollback_gives_every_page_back(writer: TreeWriter) -> None:
    """Invariant 3: and no node of them stays in the cache."""
    root = build_tree(writer, ((b"%04d" % number, b"v" * 40) for number in range(200)))
    freelist = writer.freelist
    freelist.drop([(page, 0) for page in (freelist.high_water, freelist.high_water + 1)], 1, [])
    freelist.high_water += 2
    before = freelist.free.tolist(), freelist.high_water
    writer = next_writer(writer)
    writer.apply(root, changes_of((b"%04d" % number, b"w" * 50) for number in range(100)))
    written = list(writer.written)
    writer.rollback()
    assert (freelist.free.tolist(), freelist.high_water) == before
    assert not any(pgid in writer.pager.nodes for pgid in written)


@pytest.mark.parametrize("value", [b"1", None])
def test_a_bucket_is_in_the_way(writer: TreeWriter, value: bytes | None) -> None:
    """bbolt: incompatible value. Another bucket may take its place."""
    root = writer.write(Node.leaf([b"a", b"b"], [BucketValue(bytes(16)), b"2"]))
    with pytest.raises(InvalidKey, match="is a bucket"):
        next_writer(writer).apply(root, Changes([b"a"], [value]))
    found = next_writer(writer).apply(root, Changes([b"a"], [BucketValue(b"\1" * 16)]))
    assert found is not None and type(content(writer.pager, found)[b"a"]) is BucketValue


def test_ascending_keys_fill_their_pages(store: BTreeStore) -> None:
    """The append fast path: full pages stay behind; random order leaves two thirds."""
    for number in range(3_000):
        store.put(b"%06d" % number, b"v" * 60)
    ascending = store.stats().engine["fill_percent"]
    assert ascending >= 90
    store.load([])
    for number in random.Random(1).sample(range(3_000), 3_000):
        store.put(b"%06d" % number, b"v" * 60)
    assert 55 <= store.stats().engine["fill_percent"] <= 80
    store.compact()
    assert store.stats().engine["fill_percent"] >= 90


@pytest.mark.parametrize("fill_percent", [0.3, 0.5, 0.9])
def test_splits_leave_pages_filled_to_fill_percent(path: str, fill_percent: float) -> None:
    """bbolt's FillPercent: of pages that are split in the middle of the keys."""
    with BTreeStore(path, sync=False, fill_percent=fill_percent) as store:
        store.put(b"a", b"first")
        store.put(b"z", b"last")
        with store.batch() as batch:
            for number in range(5_000):
                batch.put(b"%05d" % number, b"v" * 40)
        assert abs(store.stats().engine["fill_percent"] - 100 * fill_percent) <= 4
        assert store.check() == []


def test_deletes_make_the_tree_shrink(store: BTreeStore, rng: random.Random) -> None:
    """Small pages are joined, the root collapses; an emptied tree is one leaf."""
    keys = [b"%05d" % number for number in range(12_000)]
    store.load((key, b"v" * 80) for key in keys)
    assert store.stats().engine["depth"] == 3
    full = store.stats().engine["leaf_pages"]
    rng.shuffle(keys)
    for key in keys[:11_000]:
        store.delete(key)
    stats = store.stats().engine
    assert stats["leaf_pages"] < full / 3
    for key in keys[11_000:]:
        store.delete(key)
    stats = store.stats().engine
    assert (stats["depth"], stats["leaf_pages"], stats["branch_pages"]) == (1, 2, 0)
    assert store.stats().live_bytes == 0
