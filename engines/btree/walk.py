"""Walks over everything below a root: which pages a tree has, with all the buckets in it; and so, which pages are free.

A bucket is a leaf's value: 16 bytes of root page id and sequence. An id of 0 is an inline bucket, whose only page follows
in the value itself; it has no pages of its own.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator

from engines.btree.freelist import read_freelist
from engines.btree.meta import NO_FREELIST, Meta
from engines.btree.node import Node, inline_leaf
from engines.btree.page import BRANCH, LEAF, BucketValue, PageError, verify_trailer
from engines.btree.pager import Pager

__all__ = ["bucket_header", "bucket_ids", "bucket_root", "free_ids", "pages_of_tree", "runs_of_trees"]

bucket_header = struct.Struct("<QQ")  # root page id (0: inline), sequence


def bucket_ids(node: Node) -> list[int]:
    """The roots of the buckets in a leaf that have pages of their own."""
    roots: list[int] = [bucket_header.unpack_from(value)[0] for value in _buckets_in(node)]
    return [root for root in roots if root]


def bucket_root(pager: Pager, value: BucketValue) -> Node:
    """The root of a bucket's tree, inline or on a page of its own. Raises CorruptionError."""
    root, _ = bucket_header.unpack_from(value)
    if root:
        return pager.load(root)
    try:
        return inline_leaf(value[bucket_header.size :])
    except PageError as error:
        raise pager.corrupt(0, str(error)) from None


def pages_of_tree(pager: Pager, root: int) -> Iterator[tuple[int, int]]:
    """(first page id, pages) of every run of the tree at page `root`, its buckets' trees included."""
    todo = [root]
    for pgid, pages, leaf in runs_of_trees(pager, todo):
        yield pgid, pages
        if leaf is not None:
            todo += bucket_ids(leaf)


def runs_of_trees(pager: Pager, todo: list[int]) -> Iterator[tuple[int, int, Node | None]]:
    """(first page id, pages, the leaf if there are buckets in it) of every run below the page ids in `todo`.

    The caller adds a bucket's root to `todo` to go there, too. Leaves without buckets are not decoded: their header says
    how long they are.
    """
    seen: set[int] = set()
    while todo:
        pgid = todo.pop()
        if pgid in seen:
            raise pager.corrupt(pgid, "two branches refer to it")
        seen.add(pgid)
        flags, pages, has_buckets = pager.outline(pgid)
        if flags == BRANCH:
            todo += pager.load(pgid).children
        yield pgid, pages, pager.load(pgid) if flags == LEAF and has_buckets else None


def _buckets_in(node: Node) -> list[BucketValue]:
    if not node.has_buckets:
        return []
    return [value for value in node.values if type(value) is BucketValue and len(value) >= bucket_header.size]


def free_ids(pager: Pager, meta: Meta) -> array[int]:
    """The ids that a meta's freelist has; found by a walk over all trees if bbolt wrote none. Raises CorruptionError."""
    if meta.freelist == NO_FREELIST:
        used = {page for pgid, pages in pages_of_tree(pager, meta.root) for page in range(pgid, pgid + pages)}
        return array("Q", (pgid for pgid in range(2, meta.high_water) if pgid not in used))
    run, _, _ = pager.run(meta.freelist)
    try:
        ids, used_bytes = read_freelist(run)
        verify_trailer(run, used_bytes)
    except PageError as error:
        raise pager.corrupt(meta.freelist, str(error)) from None
    distinct = sorted(set(ids))
    if len(distinct) < len(ids) or (ids and not 2 <= distinct[0] <= distinct[-1] < meta.high_water):
        raise pager.corrupt(meta.freelist, "the freelist names a page twice, or one that doesn't exist: run check")
    return array("Q", distinct)
