"""The map of a file: a letter for each page, told from page headers, without a walk through the trees.

    MMBLLooL.F.ww     Meta, Branch, Leaf, overflow, Freelist; what the newest trees don't reach is free, ., or waits, w

A page that is in use says in its header what it is, and how many overflow pages follow. Which pages are not in use, no
header says: those have whatever was in them last. So the caller tells them: the freelist, and what waits for readers.

1. What lies in an overflow page looks like anything, a header included: so the runs are followed in order, and the pages
   within one are not asked.
2. Nothing is verified here; `check` does that. A damaged header gives a wrong letter, and no exception.

Ten thousand pages take 2 ms, where the walk of check.py takes 150: the headers are fetched by five slices of the mapping.
bbolt's command `pages` lists the same by walking its file run by run.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from engines.btree.check import BRANCH_PAGE, FREE_PAGE, FREELIST_PAGE, LEAF_PAGE, LOST_PAGE, META_PAGE, OVERFLOW_PAGE
from engines.btree.meta import Meta
from engines.btree.page import BRANCH, FREELIST, LEAF, META
from engines.env import View

__all__ = ["KINDS", "coarse", "page_map"]

WAITING_PAGE: Final = "w"  # for a reader of an older tree, or for the next durable commit (freelist.py)
KINDS: Final = {
    META_PAGE: "meta",
    BRANCH_PAGE: "branch",
    LEAF_PAGE: "leaf",
    OVERFLOW_PAGE: "overflow",
    FREELIST_PAGE: "freelist",
    FREE_PAGE: "free",
    WAITING_PAGE: "waiting",
    LOST_PAGE: "unknown",
}
FLAGS_AT: Final = 8  # bytes from the page's start: page.py has the header
OVERFLOW_AT: Final = 12
_UNUSED: Final = f"{FREE_PAGE}{WAITING_PAGE}".encode()
_LETTERS: Final = bytes(
    ord({BRANCH: BRANCH_PAGE, LEAF: LEAF_PAGE, META: META_PAGE, FREELIST: FREELIST_PAGE}.get(flags, LOST_PAGE))
    for flags in range(256)
)


def page_map(view: View, meta: Meta, free: Iterable[int], waiting: Iterable[int] = ()) -> str:
    """A letter for each page below the meta's high-water mark. free, waiting: the ids that its trees don't reach. O(pages)."""
    end, step = meta.high_water * meta.page_bytes, meta.page_bytes
    letters = bytearray(view[FLAGS_AT:end:step].translate(_LETTERS).ljust(meta.high_water, LOST_PAGE.encode()))
    letters[:2] = META_PAGE.encode() * 2
    for letter, unused in ((FREE_PAGE, free), (WAITING_PAGE, waiting)):
        for pgid in unused:
            if pgid < meta.high_water:
                letters[pgid] = ord(letter)
    sizes = [view[OVERFLOW_AT + byte : end : step] for byte in range(4)]
    run_end = 2
    for pgid in sorted({pgid for size in sizes if size.count(0) < len(size) for pgid, byte in enumerate(size) if byte}):
        if pgid >= run_end and letters[pgid] not in _UNUSED:
            run_end = min(pgid + 1 + sum(size[pgid] << 8 * byte for byte, size in enumerate(sizes)), len(letters))
            letters[pgid + 1 : run_end] = OVERFLOW_PAGE.encode() * (run_end - pgid - 1)
    return letters.decode()


def coarse(letters: str, most: int) -> tuple[int, str]:
    """(pages that a letter stands for, the map in `most` letters at most): each is the most frequent one of its pages."""
    step = max(1, -(-len(letters) // most))
    if step == 1:
        return 1, letters
    parts = (letters[at : at + step] for at in range(0, len(letters), step))
    return step, "".join(max(KINDS, key=part.count) for part in parts)
