"""What a get of one key touches: the pages on the way from the meta to the leaf.

    meta page 0      txid 44: the root bucket is at page 9
    page 9, leaf     names the bucket 'metcd', whose root is page 12
    page 12, branch  child 3 of 41
    page 7, leaf     key 17 of 30: a value

A put of the same key copies every page of this way and writes nothing else of the tree. So the explanation before a put
and the one after it have other page ids along the whole path, and the pages off the path keep theirs: copy-on-write,
as one can see it.

Requires, of everything here: the caller has pinned the state, so that no page of its tree is written meanwhile.
bbolt's `bbolt page` shows one page at a time, and leaves the way to its reader.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Any

from engines.btree.current import State
from engines.btree.node import Node
from engines.btree.page import BucketValue
from engines.btree.pager import MAX_LEVELS, Pager
from engines.telling import explained, shown

__all__ = ["explain"]

Step = dict[str, Any]


def explain(state: State, bucket: bytes | None, key: bytes) -> dict[str, Any]:
    """The explanation of a get of `key` in a pinned state. O(height): the pages that a get reads.

    bucket: the one that the store lives in, None for the root bucket. Raises CorruptionError.
    """
    meta, pager = state.meta, state.pager
    steps: list[Step] = [{"place": "meta", "page": meta.page, "txid": meta.txid, "result": f"the root is {meta.root}"}]
    if bucket is not None:
        leaf, _ = _walk(pager, meta.root, pager.load(meta.root), bucket, steps)
        where = f"the root is page {state.root_id}" if state.root_id else "it lies inline, in this page"
        steps[-1]["result"] = f"names the bucket {shown(bucket)}: {where}" if leaf.has_buckets else "there is no bucket"
    leaf, index = _walk(pager, state.root_id, state.root, key, steps)
    value = leaf.values[index] if index < len(leaf.keys) and leaf.keys[index] == key else None
    if isinstance(value, BucketValue):
        steps[-1]["result"], value = "another bucket has this name", None
    else:
        steps[-1]["result"] = "not here" if value is None else f"a value, key {index + 1} of {len(leaf.keys)}"
    return explained("btree", key, value, steps)


def _walk(pager: Pager, pgid: int, node: Node, key: bytes, steps: list[Step]) -> tuple[Node, int]:
    """Down the tree at page `pgid` to the leaf of `key`, a step for each page: the leaf, and where in it the key stands."""
    _note(pager, pgid, node, steps)
    for _ in range(MAX_LEVELS):
        if not node.children:
            return node, bisect_left(node.keys, key)
        child = node.child_index(key)
        steps[-1]["result"] = f"child {child + 1} of {len(node.children)}"
        pgid = node.children[child]
        cached = pgid in pager.nodes
        node = pager.load(pgid)
        _note(pager, pgid, node, steps)
        steps[-1]["cached"] = cached
    raise pager.too_deep()


def _note(pager: Pager, pgid: int, node: Node, steps: list[Step]) -> None:
    kind = "branch" if node.children else "leaf"
    step: Step = {"place": kind if pgid else "inline leaf", "page": pgid, "pages": node.pages, "keys": len(node.keys)}
    step |= {"used_bytes": node.size_bytes, "born": node.born, "cached": True, "offset": pgid * pager.page_bytes}
    steps.append(step)
