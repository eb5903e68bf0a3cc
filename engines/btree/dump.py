"""A database file as lines for people, page by page: what `metcd dump` shows.

    store.db: 32768 bytes, pages of 4096 bytes
    meta page 0: txid 2, root 5, freelist 7, high-water mark 8
    meta page 1: txid 1, root 3, freelist 2, high-water mark 4
    the pages of txid 2: MM...LFL
    page 2: free
    ...
    page 5: leaf, 1 elements, 0 overflow pages
      b'metcd': bucket, root page 7
      checksum 1c2d3e4f

It opens no store and takes no lock; damage is shown where it lies, and what can be made sense of is shown all the same.
The tree is the one of the newest meta, whether its pages are whole or not: recovery.py decides such things, not this.

Resembles bbolt's `pages`, `page` and `dump` in one.
"""

from __future__ import annotations

from collections.abc import Iterator

from engines.btree.check import (
    BRANCH_PAGE,
    FREE_PAGE,
    FREELIST_PAGE,
    LEAF_PAGE,
    LOST_PAGE,
    META_PAGE,
    OVERFLOW_PAGE,
    Checker,
)
from engines.btree.freelist import read_freelist
from engines.btree.meta import NO_FREELIST, Meta, MetaError
from engines.btree.page import FREELIST, HEADER_BYTES, PageError, dump, header
from engines.btree.provisional import page_sum
from engines.btree.recovery import read_metas
from engines.env import Env, View
from engines.errors import CorruptionError, ForeignFormat

__all__ = ["dump_file"]

IDS_SHOWN = 20  # of a freelist
MAP_PAGES = 100  # of a row
NAMES = {
    META_PAGE: "meta",
    BRANCH_PAGE: "branch",
    LEAF_PAGE: "leaf",
    OVERFLOW_PAGE: "overflow",
    FREELIST_PAGE: "freelist",
    FREE_PAGE: "free",
    LOST_PAGE: "unreachable",
}


def dump_file(env: Env, path: str) -> Iterator[str]:
    """The file's metas and pages in words; nothing if it is no bolt database. Raises OSError. O(bytes)."""
    file = env.open(path, "r")
    try:
        size = file.size()
        try:
            page_bytes, metas = read_metas(file, path)
        except ForeignFormat as error:
            yield str(error)
            return
        except CorruptionError:  # no bolt file
            return
        yield f"{path}: {size} bytes, pages of {page_bytes} bytes"
        for page, meta in enumerate(metas):
            yield f"meta page {page}: {_meta(meta)}"
        newest = max((meta for meta in metas if isinstance(meta, Meta)), key=lambda meta: meta.txid)
        yield from _pages(file.view(), newest)
    finally:
        file.close()


def _meta(meta: Meta | MetaError) -> str:
    if isinstance(meta, MetaError):
        return f"damaged: {meta}"
    freelist = "none" if meta.freelist == NO_FREELIST else str(meta.freelist)
    words = f"txid {meta.txid}, root {meta.root}, freelist {freelist}, high-water mark {meta.high_water}"
    told = page_sum(meta)
    return words if told is None else f"{words}; provisional, upon txid {told.base}, sum {told.total:016x}"


def _pages(view: View, meta: Meta) -> Iterator[str]:
    checker = Checker(view, meta)
    problems = checker.run()
    letters = checker.page_map or [META_PAGE] * 2 + [LOST_PAGE] * (len(view) // meta.page_bytes - 2)
    yield from _map(meta.txid, "".join(letters))
    unlisted = FREE_PAGE if meta.freelist == NO_FREELIST and not problems else LOST_PAGE
    for page, letter in enumerate(letters):
        if letter == FREE_PAGE or (letter == LOST_PAGE and unlisted == FREE_PAGE):
            yield f"page {page}: free"
        elif letter not in (META_PAGE, OVERFLOW_PAGE):
            yield from _run(view, page, meta.page_bytes)
    for problem in problems:
        yield f"violation: {problem}"


def _map(txid: int, letters: str) -> Iterator[str]:
    """A letter for each page; of a large file how many there are of each, and then a row for every MAP_PAGES of them."""
    if len(letters) <= MAP_PAGES:
        yield f"the pages of txid {txid}: {letters}"
        return
    counts = ", ".join(
        f"{letters.count(letter):,} {name} ({letter})" for letter, name in NAMES.items() if letter in letters
    )
    yield f"the pages of txid {txid}: {len(letters):,}, of which {counts}"
    for at in range(0, len(letters), MAP_PAGES):
        yield f"pages {at}: {letters[at : at + MAP_PAGES]}"


def _run(view: View, page: int, page_bytes: int) -> Iterator[str]:
    start = page * page_bytes
    pgid, flags, _, overflow = header.unpack(view[start : start + HEADER_BYTES])
    run = view[start : start + (overflow + 1) * page_bytes]
    if pgid != page:
        yield f"page {page} says that it is another one:"
    yield from dump(run)
    if flags == FREELIST:
        try:
            ids, _ = read_freelist(run)
        except PageError as error:
            yield f"  damaged: {error}"
            return
        more = f" ... ({len(ids)} ids)" if len(ids) > IDS_SHOWN else ""
        yield f"  {' '.join(map(str, ids[:IDS_SHOWN]))}{more}"
