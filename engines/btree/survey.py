"""What a file is made of: pages by kind, how full they are, how deep the trees; for `stats()` and `describe()`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from engines.btree.check import Checker
from engines.btree.commit import Committer
from engines.btree.current import State
from engines.btree.page import BRANCH, ELEMENT_BYTES, HEADER_BYTES
from engines.btree.pager import MAX_LEVELS, Pager
from engines.btree.walk import free_ids, pages_of_tree
from engines.kvstore import Stats

__all__ = ["Survey", "add_survey", "depth", "picture", "survey"]


@dataclass(frozen=True, slots=True)
class Survey:
    """Counts over all trees below one meta. `live_bytes` are keys and values in leaves, buckets' headers included."""

    leaf_pages: int
    branch_pages: int
    overflow_pages: int
    keys: int
    live_bytes: int
    used_bytes: int  # of branches and leaves: headers, elements, keys and values

    def fill_percent(self, page_bytes: int) -> int:
        """How much of the branches' and leaves' pages is used."""
        pages = self.leaf_pages + self.branch_pages + self.overflow_pages
        return 100 * self.used_bytes // (pages * page_bytes) if pages else 0


def survey(pager: Pager, root: int) -> Survey:
    """Walks everything below page `root`: branches are decoded, of leaves only the elements are read. O(pages)."""
    leaves = branches = overflow = keys = live = used = 0
    for pgid, pages in pages_of_tree(pager, root):
        flags, count, size = pager.measure(pgid)
        overflow += pages - 1
        used += size
        if flags == BRANCH:
            branches += 1
        else:
            leaves += 1
            keys += count
            live += size - HEADER_BYTES - ELEMENT_BYTES * count
    return Survey(leaves, branches, overflow, keys, live, used)


def depth(pager: Pager, root: int) -> int:
    """Levels of the tree at page `root`, a leaf alone being one."""
    levels = 1
    node = pager.load(root)
    while node.children:
        if levels > MAX_LEVELS:
            raise pager.too_deep()
        node = pager.load(node.children[0])
        levels += 1
    return levels


def _depth_of(state: State) -> int:
    return depth(state.pager, state.root_id) if state.root_id else 1


def _free_and_waiting(state: State, writer: Committer | None) -> tuple[int, int]:
    """How many pages are free, and how many wait for readers; a file that is only read has none that wait."""
    if writer is None:
        return len(free_ids(state.pager, state.meta)), 0
    return len(writer.freelist.free), writer.freelist.waiting_count


def add_survey(stats: Stats, found: Survey, state: State, bucket: bytes | None, writer: Committer | None) -> None:
    """Completes the counters by what a survey of the state's file has found."""
    free, waiting = _free_and_waiting(state, writer)
    page_bytes = state.meta.page_bytes
    stats.disk_bytes = len(state.pager.map)
    # the bucket's entry is nobody's data
    stats.live_bytes = found.live_bytes - (len(bucket) + 16 if bucket is not None and state.root_id else 0)
    stats.dead_bytes = (free + waiting) * page_bytes
    stats.engine = {
        "pages": state.meta.high_water,
        "leaf_pages": found.leaf_pages,
        "branch_pages": found.branch_pages,
        "overflow_pages": found.overflow_pages,
        "free_pages": free,
        "pending_pages": waiting,
        "depth": _depth_of(state),
        "fill_percent": found.fill_percent(page_bytes),
        "keys": found.keys,
        "txid": state.meta.txid,
    }


def picture(state: State, buckets: list[bytes], readers: int, writer: Committer | None) -> dict[str, Any]:
    """A state's file, ready for JSON. `map` has a letter for each page: Meta, Freelist, Branch, Leaf, overflow, . for free
    (? where there is no freelist on disk to tell)."""
    checker = Checker(state.pager.map, state.meta)
    checker.run()
    meta = state.meta
    free, waiting = _free_and_waiting(state, writer)
    return {
        "path": state.pager.path,
        "page_size": meta.page_bytes,
        "txid": meta.txid,
        "durable_txid": meta.txid if writer is None else writer.durable,
        "root": meta.root,
        "bucket_root": state.root_id,
        "depth": _depth_of(state),
        "buckets": [name.decode("utf-8", "backslashreplace") for name in buckets],
        "pages": meta.high_water,
        "free": free,
        "pending": waiting,
        "readers": readers,
        "map": "".join(checker.page_map),
    }
