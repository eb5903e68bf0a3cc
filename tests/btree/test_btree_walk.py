"""Walks: every page of a tree, its buckets' trees included; and so, the free ones."""

from __future__ import annotations

import pytest

from engines import CorruptionError
from engines.btree import BTreeStore
from engines.btree.bulk import build_tree
from engines.btree.meta import NO_FREELIST, Meta
from engines.btree.node import Node
from engines.btree.page import BucketValue
from engines.btree.tree import TreeWriter
from engines.btree.walk import bucket_header, bucket_ids, free_ids, pages_of_tree
from engines.simenv import SimEnv


def with_bucket(writer: TreeWriter) -> int:
    """A leaf with a bucket that has a tree of its own, and one that is inline."""
    nested = build_tree(writer, ((b"%03d" % number, b"v" * 20) for number in range(200)))
    inline = BucketValue(bucket_header.pack(0, 0) + bytes(8) + b"\2" + bytes(7))
    values = [BucketValue(bucket_header.pack(nested, 1)), inline, b"v" * 3000]
    return writer.write(Node.leaf([b"bucket", b"inline", b"large"], values))


def test_every_page_is_walked_once(writer: TreeWriter) -> None:
    """Nested trees and overflow pages; an inline bucket has none."""
    root = with_bucket(writer)
    pages = [page for pgid, count in pages_of_tree(writer.pager, root) for page in range(pgid, pgid + count)]
    assert sorted(pages) == list(range(2, writer.freelist.high_water))
    assert len(bucket_ids(writer.pager.load(root))) == 1


def test_leaves_without_buckets_are_not_decoded(writer: TreeWriter) -> None:
    """Their header says how long they are: what is decoded are branches, and the leaf with buckets."""
    root = with_bucket(writer)
    writer.pager.nodes.clear()
    leaves = len(list(pages_of_tree(writer.pager, root))) - 2
    assert len(writer.pager.nodes) == 2 < leaves


def test_pages_that_no_tree_reaches_are_free(writer: TreeWriter) -> None:
    """Where there is no freelist."""
    root = build_tree(writer, [(b"a", b"1")])
    writer.allocate(3)
    last = writer.write(Node.leaf([], []))
    meta = Meta(1024, root, NO_FREELIST, writer.freelist.high_water, 5)
    assert free_ids(writer.pager, meta).tolist() == [root + 1, root + 2, root + 3, last]


def test_a_page_with_two_parents_is_found_out(writer: TreeWriter) -> None:
    """A walk that went on would count it twice, or for ever."""
    leaf = writer.write(Node.leaf([b"a"], [b"1"]))
    root = writer.write(Node.branch([b"a", b"b"], [leaf, leaf]))
    with pytest.raises(CorruptionError, match="two branches refer to it"):
        list(pages_of_tree(writer.pager, root))


def test_a_freelist_that_cannot_be_is_refused() -> None:
    """A page twice, or one that isn't there: the next commit would write over somebody's data."""
    env = SimEnv(0)
    with BTreeStore("/db", env=env) as store:
        store.put(b"a", b"1")
        state = store._current.state
        place = state.meta.freelist * 4096
        content = env.files()["/db"]
        count = int.from_bytes(content[place + 10 : place + 12], "little")
        assert count >= 2
        twice = content[place + 16 : place + 24] * 2
        beyond = (state.meta.high_water).to_bytes(8, "little")
    for damage in (twice, beyond):
        damaged = bytearray(content)
        damaged[place + 16 : place + 16 + len(damage)] = damage
        damaged[place + 4088 : place + 4096] = bytes(8)
        env.poke("/db", bytes(damaged))
        with pytest.raises(CorruptionError, match="names a page twice, or one that doesn't exist"):
            BTreeStore("/db", env=env)
