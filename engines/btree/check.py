"""The checker: reads every page that a meta refers to, and tells each violation in a sentence.

It shares no code with the paths that it judges but the checksum and the meta's decoder, and it goes on after a finding, as
far as bytes can still be made sense of. So it works on files that could not be opened.

What is told; FORMAT.md has the same in detail, and which version of bbolt's own check tells it:

- a page is reachable twice, or beyond the high-water mark; or neither reachable nor free, or both, or free twice
- flags, or a page's own id, are wrong; an element's data leaves the page
- keys out of order; a key outside of its branch's bounds
- a separator of no bytes (bbolt's next write there panics), or below its child's first key (bbolt's next write there adds
  a second entry for the child)
- a meta is damaged, or has no checksum
- the newest meta lies in the wrong page, and the other one has another state: the next commit overwrites the only one
- leaves of one tree at several depths; a branch with fewer than two children
- the file is shorter than its high-water mark (bbolt dies of SIGBUS)
- a byte of a page that has our checksum

Legal, and not told: an unsorted freelist, an empty leaf below a branch, a file without a freelist, free pages of any
content, pages without our checksum.

Follows bbolt's tx_check.go. Cost: O(pages) reads, O(pages) memory for the page map.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

from engines.btree.freelist import read_freelist
from engines.btree.meta import NO_FREELIST, Meta, MetaError
from engines.btree.page import (
    BRANCH,
    ELEMENT_BYTES,
    FREELIST,
    HEADER_BYTES,
    LEAF,
    META,
    PageError,
    branch_element,
    header,
    kind,
    leaf_element,
    verify_trailer,
)
from engines.btree.provisional import is_provisional, page_sum, restore_torn
from engines.btree.recovery import read_metas
from engines.env import Env, View
from engines.errors import CorruptionError
from engines.kvstore import MAX_KEY_BYTES

__all__ = ["Checker", "check_file"]

_bucket = struct.Struct("<QQ")

# one letter for each page, for pictures
META_PAGE, FREELIST_PAGE, BRANCH_PAGE, LEAF_PAGE, OVERFLOW_PAGE, FREE_PAGE, LOST_PAGE = "MFBLo.?"


def check_file(env: Env, path: str) -> list[str]:
    """Every violation in the database file at `path`, open or not; [] is OK. Changes nothing.

    Raises ForeignFormat, OSError.
    """
    file = env.open(path, "r")
    try:
        page_bytes, metas = read_metas(file, path)
        valid = [meta for meta in restore_torn(file, page_bytes, metas) if isinstance(meta, Meta)]
        oldest, newest = min(valid, key=lambda meta: meta.txid), max(valid, key=lambda meta: meta.txid)
        if is_provisional(newest, oldest) and page_sum(newest) is None:
            newest = oldest  # as the next opening will find
        checker = Checker(file.view(), newest)
        checker.check_metas(metas)
        return checker.run()
    except CorruptionError as error:
        return [str(error)]
    finally:
        file.close()


class Checker:
    """One walk over one meta's trees. `run` returns the problems; `page_map` then has a letter for each page.

    `free` are the free pages as somebody knows them who has the file open: it counts if the meta has no freelist.
    """

    def __init__(self, view: View, meta: Meta, free: Sequence[int] | None = None) -> None:
        self._free = free
        self._view = view
        self._meta = meta
        self._page_bytes = meta.page_bytes
        self._owners: dict[int, int] = {}  # page → first page of the run that it belongs to
        self._problems: list[str] = []
        self._todo: list[tuple[int, bytes, bytes | None, int, int]] = []  # page, bounds, depth, root of its tree
        self._leaf_depth: dict[int, int] = {}  # root → depth of its first leaf
        self.page_map = [LOST_PAGE] * meta.high_water if meta.high_water * meta.page_bytes <= len(view) else []

    def _tell(self, problem: str) -> None:
        self._problems.append(problem)

    def run(self) -> list[str]:
        """Walks everything, and returns the problems found."""
        meta = self._meta
        if not self.page_map:
            self._tell(
                f"the file should have {meta.high_water} pages of {meta.page_bytes} bytes, and has {len(self._view)} bytes"
            )
            return self._problems
        self.page_map[0:2] = [META_PAGE] * 2
        self._todo.append((meta.root, b"", None, 0, meta.root))
        while self._todo:
            self._check_node(*self._todo.pop())
        if meta.freelist != NO_FREELIST:
            self._check_freelist(meta.freelist)
        elif self._free is not None:
            self._check_free_pages(self._free)
        return self._problems

    # ---------------------------------------------------------------------------------------------------------- metas

    def check_metas(self, metas: list[Meta | MetaError]) -> None:
        """Both meta pages, decoded before; and that the next commit won't overwrite the only one of the newest state.

        It writes to the page that the newest meta doesn't belong to. bbolt's backups have the newest one in page 0
        whatever its txid, and in page 1 the same state under the txid before: whichever is overwritten, one is left.
        """
        for page, meta in enumerate(metas):
            if isinstance(meta, MetaError):
                self._tell(f"meta page {page}: {meta}")
                continue
            start = page * self._page_bytes
            pgid, flags, _, _ = header.unpack(self._view[start : start + HEADER_BYTES])
            if pgid != page or flags != META:
                self._tell(f"meta page {page}: its header says that it is page {pgid}, a {kind(flags)}")
        states = [(meta.txid, page, _state(meta)) for page, meta in enumerate(metas) if isinstance(meta, Meta)]
        txid, page, newest = max(states)
        if txid % 2 != page and [state for _, _, state in states].count(newest) == 1:
            self._tell(
                f"meta page {page}: the newest meta, txid {txid}, belongs to page {txid % 2}: "
                "bbolt's next commit would overwrite the only meta of this state"
            )

    # ----------------------------------------------------------------------------------------------------------- runs

    def _claim(self, pgid: int, letter: str) -> bytes | None:
        """The bytes of the run at `pgid`, whose pages are now owned by it; None if nothing can be read there."""
        meta = self._meta
        if not 2 <= pgid < meta.high_water:
            self._tell(f"page {pgid} is referred to, and the high-water mark is {meta.high_water}")
            return None
        if pgid in self._owners:
            self._tell(f"page {pgid} is referred to twice")
            return None
        start = pgid * self._page_bytes
        found, _, _, overflow = header.unpack(self._view[start : start + HEADER_BYTES])
        if found != pgid:
            self._tell(f"page {pgid} says that it is page {found}")
        if pgid + overflow >= meta.high_water:
            self._tell(f"page {pgid}: its {overflow} overflow pages reach beyond the high-water mark {meta.high_water}")
            overflow = 0
        for page in range(pgid, pgid + overflow + 1):
            if page in self._owners:
                self._tell(f"page {page} is part of the runs at pages {self._owners[page]} and {pgid}")
                continue
            self._owners[page] = pgid
            self.page_map[page] = letter if page == pgid else OVERFLOW_PAGE
        return self._view[start : start + (overflow + 1) * self._page_bytes]

    def _check_trailer(self, pgid: int, run: bytes, used: int) -> None:
        try:
            has_trailer = verify_trailer(run, used) is not None
        except PageError as error:
            self._tell(f"page {pgid}: {error}")
            return
        pages, needed = len(run) // self._page_bytes, -(-used // self._page_bytes)
        if not has_trailer and not needed <= pages <= needed + 1:
            self._tell(f"page {pgid}: its data fits into {needed} pages, and it has {pages}")

    # ---------------------------------------------------------------------------------------------------------- nodes

    def _check_node(self, pgid: int, low: bytes, high: bytes | None, depth: int, root: int) -> None:
        run = self._claim(pgid, LEAF_PAGE)
        if run is None:
            return
        _, flags, count, _ = header.unpack_from(run)
        if flags not in (BRANCH, LEAF):
            self._tell(f"page {pgid} should be a branch or a leaf, and is {kind(flags)}")
            flags &= BRANCH | LEAF
        if flags == BRANCH:
            self.page_map[pgid] = BRANCH_PAGE
            used = self._check_branch(pgid, run, count, low, high, depth, root)
        elif flags == LEAF:
            used = self._check_leaf(f"page {pgid}", run, count, low, high)
            if depth != self._leaf_depth.setdefault(root, depth):
                self._tell(f"page {pgid} is a leaf at depth {depth}, and others are at {self._leaf_depth[root]}")
        else:
            return
        self._check_trailer(pgid, run, used)

    def _spans(self, where: str, run: bytes, count: int, branch: bool) -> Iterator[tuple[int, int, int, int]]:
        """(start of the key, end of the key, end of the value, flags or child) of each element that lies in its run."""
        table_end = HEADER_BYTES + ELEMENT_BYTES * count
        if table_end > len(run):
            self._tell(f"{where}: its {count} elements don't fit into its {len(run)} bytes")
            return
        for at in range(HEADER_BYTES, table_end, ELEMENT_BYTES):
            if branch:
                pos, key_size, what = branch_element.unpack_from(run, at)
                value_size = 0
            else:
                what, pos, key_size, value_size = leaf_element.unpack_from(run, at)
            start = at + pos
            if start < table_end or start + key_size + value_size > len(run):
                self._tell(f"{where}: element {(at - HEADER_BYTES) // ELEMENT_BYTES} has its data outside of the page")
                continue
            yield start, start + key_size, start + key_size + value_size, what

    def _check_key(self, where: str, key: bytes, previous: bytes | None, low: bytes, high: bytes | None) -> None:
        if previous is not None and key <= previous:
            self._tell(f"{where}: key {key[:40]!r} comes after {previous[:40]!r}")
        if key < low:
            self._tell(f"{where}: key {key[:40]!r} lies below its branch's separator {low[:40]!r}")
        if high is not None and key >= high:
            self._tell(f"{where}: key {key[:40]!r} belongs after the next separator {high[:40]!r}")
        if not 1 <= len(key) <= MAX_KEY_BYTES:
            self._tell(f"{where}: a key has {len(key)} bytes, and 1 to {MAX_KEY_BYTES} are allowed")

    def _check_branch(
        self, pgid: int, run: bytes, count: int, low: bytes, high: bytes | None, depth: int, root: int
    ) -> int:
        """Checks a branch's keys, and notes its children; the end of its data."""
        where = f"page {pgid}"
        if count < 2:
            self._tell(f"{where}: a branch has {count} children, and should have two at least")
        used = HEADER_BYTES
        previous: bytes | None = None
        children: list[tuple[bytes, int]] = []
        for start, end, _, child in self._spans(where, run, count, branch=True):
            key = run[start:end]
            self._check_key(where, key, previous, low, high)
            if previous is None and low and key > low:
                self._tell(f"{where}: its first key is {key[:40]!r}, and its branch's separator {low[:40]!r}")
            children.append((key, child))
            previous, used = key, max(used, end)
        bounds = [key for key, _ in children[1:]] + [high]
        for (key, child), upper in zip(children, bounds):
            self._todo.append((child, key, upper, depth + 1, root))
        return used

    def _check_leaf(self, where: str, run: bytes, count: int, low: bytes, high: bytes | None) -> int:
        """Checks a leaf's keys and buckets; the end of its data."""
        used = HEADER_BYTES
        previous: bytes | None = None
        for start, middle, end, flags in self._spans(where, run, count, branch=False):
            key = run[start:middle]
            self._check_key(where, key, previous, low, high)
            if previous is None and low and key > low:
                self._tell(f"{where}: its first key is {key[:40]!r}, and its branch's separator {low[:40]!r}")
            previous, used = key, max(used, end)
            if flags & 1:
                self._check_bucket(f"{where}, bucket {key[:40]!r}", run[middle:end])
            if flags & ~1:
                self._tell(f"{where}: key {key[:40]!r} has the flags {flags:#x}")
        return used

    def _check_bucket(self, where: str, value: bytes) -> None:
        if len(value) < _bucket.size:
            self._tell(f"{where}: its value has {len(value)} bytes, and a bucket has 16 at least")
            return
        root, _ = _bucket.unpack_from(value)
        if root:
            self._todo.append((root, b"", None, 0, root))
            return
        page = value[_bucket.size :]
        if len(page) < HEADER_BYTES:
            self._tell(f"{where}: an inline bucket has {len(page)} bytes, and its header alone has 16")
            return
        _, flags, count, overflow = header.unpack_from(page)
        if flags != LEAF or overflow:
            self._tell(
                f"{where}: an inline bucket should be a leaf, and is a {kind(flags)} with {overflow} overflow pages"
            )
            return
        self._check_leaf(where, page, count, b"", None)

    # ------------------------------------------------------------------------------------------------------- freelist

    def _check_freelist(self, pgid: int) -> None:
        run = self._claim(pgid, FREELIST_PAGE)
        if run is None:
            return
        if header.unpack_from(run)[1] != FREELIST:
            self._tell(f"page {pgid} should be the freelist, and is a {kind(header.unpack_from(run)[1])}")
            return
        try:
            ids, used = read_freelist(run)
        except PageError as error:
            self._tell(f"page {pgid}: {error}")
            return
        self._check_trailer_of_freelist(pgid, run, used)
        self._check_free_pages(ids)

    def _check_free_pages(self, ids: Sequence[int]) -> None:
        """Each page is either reachable or in the list, and in the list once."""
        free: set[int] = set()
        for page in ids:
            if page in free:
                self._tell(f"page {page} is in the freelist twice")
            elif not 2 <= page < self._meta.high_water:
                self._tell(f"page {page} is in the freelist, and the high-water mark is {self._meta.high_water}")
            elif page in self._owners:
                self._tell(f"page {page} is in the freelist, and part of the run at page {self._owners[page]}")
            else:
                self.page_map[page] = FREE_PAGE
            free.add(page)
        for page in range(2, self._meta.high_water):
            if page not in self._owners and page not in free:
                self._tell(f"page {page} is neither reachable nor free")

    def _check_trailer_of_freelist(self, pgid: int, run: bytes, used: int) -> None:
        """Only the checksum: a freelist may have more pages than its ids need, because taking them makes it shorter."""
        try:
            verify_trailer(run, used)
        except PageError as error:
            self._tell(f"page {pgid}: {error}")


def _state(meta: Meta) -> tuple[int, ...]:
    """What a meta says but for its txid: two of the same state are as good as each other."""
    return meta.page_bytes, meta.root, meta.sequence, meta.freelist, meta.high_water, meta.flags
