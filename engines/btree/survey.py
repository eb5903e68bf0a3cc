"""What a file is made of: pages by kind, how full they are, how deep the trees; for `stats()` and `describe()`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from engines.btree.commit import Committer
from engines.btree.current import State
from engines.btree.meta import META_AREA_BYTES, NO_FREELIST, Meta, MetaError
from engines.btree.page import BRANCH, ELEMENT_BYTES, HEADER_BYTES
from engines.btree.pagemap import KINDS, coarse, page_map
from engines.btree.pager import MAX_LEVELS, Pager
from engines.btree.provisional import page_sum
from engines.btree.walk import free_ids, pages_of_tree
from engines.kvstore import Stats

__all__ = ["Survey", "add_survey", "depth", "picture", "short", "survey"]

MAP_LETTERS = 2048
LIST_MOST = 20
NAME_CHARS = 60


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


def _unused(state: State, writer: Committer | None) -> tuple[Sequence[int], list[int]]:
    """The ids of the free pages, and of those that wait. Copies: the writer may go on meanwhile."""
    if writer is None:
        return free_ids(state.pager, state.meta), []
    waiting = list(writer.freelist.waits_for.values())
    return writer.freelist.free[:], [pgid for pages in waiting for pgid, _, _ in list(pages)]


def picture(state: State, buckets: list[bytes], readers: int, writer: Committer | None) -> dict[str, Any]:
    """A state's file, ready for JSON. `map` has a letter for each page: Meta, Freelist, Branch, Leaf, overflow, . for free,
    w for what waits; `kinds` counts them. O(pages), 0.2 µs each. Requires: the caller has pinned the state.
    """
    meta, pager = state.meta, state.pager
    free, waiting = _free_and_waiting(state, writer)
    letters = page_map(pager.map, meta, *_unused(state, writer))
    pager.touched(meta.high_water * meta.page_bytes)
    return {
        "path": pager.path,
        "page_size": meta.page_bytes,
        "file_bytes": len(pager.map),
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
        "metas": [_described(pager, page) for page in range(2)],
        "pins": _pins(pager, writer, meta.txid),
        "cached_nodes": len(pager.nodes),
        "kinds": {name: letters.count(letter) for letter, name in KINDS.items()},
        "map": letters,
    }


def _described(pager: Pager, page: int) -> dict[str, Any]:
    """The meta in page 0 or 1."""
    start = page * pager.page_bytes
    try:
        meta = Meta.decode(pager.map[start : start + META_AREA_BYTES])
    except MetaError as error:
        return {"page": page, "damaged": str(error)}
    freelist = None if meta.freelist == NO_FREELIST else meta.freelist
    told = {"txid": meta.txid, "root": meta.root, "freelist": freelist, "high_water": meta.high_water}
    return {"page": page, **told, "provisional": page_sum(meta) is not None}


def _pins(pager: Pager, writer: Committer | None, current: int) -> list[dict[str, Any]]:
    """Who pins which tree: its readers, a power cut that falls back to it, and how many pages wait for it to go."""
    pager.pins.held()  # counts those that came and went
    readers = dict(pager.pins.counts)
    readers[current] = readers.get(current, 0) - 1  # the one that looks on
    waits = {} if writer is None else dict(writer.freelist.waits_for)
    durable = current if writer is None else writer.durable
    txids = {txid for txid, count in readers.items() if count > 0} | {durable} | waits.keys()
    return [
        {
            "txid": txid,
            "readers": max(0, readers.get(txid, 0)),
            "durable": txid == durable,
            "pages": len(waits.get(txid, ())),
        }
        for txid in sorted(txids)
    ]


def short(described: dict[str, Any]) -> dict[str, Any]:
    """A picture in a few KB: of the map MAP_LETTERS at most, `map_step` pages for each; of the lists LIST_MOST."""
    step, letters = coarse(described["map"], MAP_LETTERS)
    buckets = [name[:NAME_CHARS] for name in described["buckets"][:LIST_MOST]]
    return {**described, "buckets": buckets, "pins": described["pins"][:LIST_MOST], "map": letters, "map_step": step}
