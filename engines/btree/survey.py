"""What a file is made of: pages by kind, how full they are, how deep the trees; for `stats()` and `describe()`."""

from __future__ import annotations

from dataclasses import dataclass

from engines.btree.bulk import pages_of_tree
from engines.btree.page import BRANCH, ELEMENT_BYTES, HEADER_BYTES
from engines.btree.pager import Pager

__all__ = ["Survey", "survey"]


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
        node = pager.load(node.children[0])
        levels += 1
    return levels
