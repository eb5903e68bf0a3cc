"""The pager: one database file, mapped, and its pages decoded on first use.

    file     [meta 0][meta 1][page 2][page 3] ... [page high-water - 1][room to grow ............]
    map      the whole file, for reading and for writing in place

Pages are written through the mapping: 0.4 µs for each, where a `pwrite` takes 7. What makes that safe:

1. The file is `allocate`d before it is mapped, so that a full disk is an error of that call and never a SIGBUS; and it is
   refused when it is shorter than its high-water mark says.
2. Only pages that no tree on disk reaches are written (freelist.py), so that it doesn't matter when the kernel writes
   them back; commit.py says when they are synced.
3. A process can be killed half-way through copying bytes into the mapping. Pages and durable metas that are half copied
   were announced to nobody; provisional.py has the rule for the metas that were.

`nodes` holds decoded pages by page id. A node enters it when it is written, or when somebody who has pinned its tree
reads it, so an id always means the page's present content; a reader without a pin who looks there can be misled by a page
that was written again meanwhile, and has to check that its tree is still the newest.

Memory is bounded in two places. `cached_bytes` counts what the nodes take, by `memory_bytes`, and what `leaves` do; past
`cache_bytes` all `leaves` go, and the oldest nodes until an eighth is free: first in, first out, so that a hit costs no
bookkeeping. And what is touched of the mapping counts as this process's memory as well, although it is the system's cache: after MAPPED_BYTES it is given back to the system (MADV_DONTNEED),
and comes again, without a read from the disk, when it is touched next. That costs a get of an uncached leaf half of its
time again, and a commit little: so a commit of one key counts the 64 KiB that Linux maps around a page that is read, and a
read only what it reads. A file of some 100 MB that is only read stays mapped.

Each page is verified whenever it is read from the file: its own id, its flags, its data's bounds, the order of its keys,
and its checksum if it has one. A node in the cache was verified when it entered; what is read from it is a copy, which no
later damage to the file can reach. Of `leaves`, fast/even.py keeps the keys; their values are taken from the mapping, which
was verified when the leaf entered, and is not verified again for each value.

Left out: bbolt's mlock and its remapping under a lock; here old mappings live as long as somebody uses them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from engines.btree.meta import META_ROOM_BYTES, Meta
from engines.btree.node import Node, memory_bytes
from engines.btree.page import (
    BRANCH,
    ELEMENT_BYTES,
    HEADER_BYTES,
    LEAF,
    PageError,
    check_table,
    header,
    kind,
    leaf_element,
)
from engines.btree.pins import Pins
from engines.env import Env, File, Lock, MutableView, View
from engines.errors import CorruptionError, StoreClosed, StoreError
from engines.kvstore import Stats
from engines.lifetime import holding

__all__ = ["LEAF_MEMORY_BYTES", "MAX_LEVELS", "Pager", "StoreFull", "file_bytes"]

MIN_FILE_BYTES = 1 << 15  # bbolt's: its first mapping
STEP_BYTES = 1 << 24  # bbolt's AllocSize: beyond it, files grow by as much
MAX_CACHED_RUN = 16  # pages; nodes that are larger than that are read again each time
MAX_LEVELS = 64  # more than a tree can have: 2 children for each branch would be 2**63 leaves
LEAF_MEMORY_BYTES = 200  # of an entry in `leaves`, beside its bytes
TRIM = 8  # one eighth of the cache goes when it is full
MAPPED_BYTES = 48 << 20  # of the mapping that stay in this process's memory, roughly
READ_AROUND_BYTES = 1 << 16  # that Linux maps when one page is touched for reading


class StoreFull(StoreError):
    """The file would outgrow the `max_size` it was opened with; nothing was written, and the store goes on."""


def file_bytes(high_water: int, page_bytes: int) -> int:
    """How long a file is made that needs `high_water` pages: a power of two up to 16 MiB, then in steps of that."""
    needed = high_water * page_bytes
    if needed > STEP_BYTES:
        return -(-needed // STEP_BYTES) * STEP_BYTES
    return max(MIN_FILE_BYTES, 1 << (needed - 1).bit_length())


class Pager:
    """One open file. Reading is for any thread; `grow`, `write` and `write_meta` are for the writer."""

    def __init__(
        self,
        env: Env,
        path: str,
        lock: Lock,
        page_bytes: int,
        stats: Stats,
        cache_bytes: int,
        max_bytes: int | None,
        cache: type[dict[int, Node]] = dict,
        decode: Callable[[bytes, int], Node] = Node.decode,
    ) -> None:
        self.env = env
        self.path = path
        self.lock = lock
        self.page_bytes = page_bytes
        self.nodes = cache()
        self.leaves: dict[int, Any] = {}  # by page id, what fast/even.py keeps of leaves that it hasn't decoded
        self.cached_bytes = 0  # of both
        self.decode = decode
        self.pins = Pins()
        self.stats = stats
        self.cache_bytes = cache_bytes
        self._max_bytes = max_bytes
        self._touched_bytes = 0  # of the mapping, since it was given back
        self._met = bytearray()  # by page id: 1 after the page was met, until the cache is trimmed
        self._trimming = threading.Lock()
        self.file: File | None = None
        self.map: MutableView | View = b""
        self.writable: MutableView  # the same, for the writer; not there if the file was opened for reading

    def attach(self, file: File, *, writable: bool) -> None:
        """Maps an open file. Requires: nobody else changes its size from now on (the lock is held)."""
        self.file = file
        if writable:
            file.allocate(file.size())  # fills holes: writing to one through a mapping could find the disk full
            self.map = self.writable = file.map()
        else:
            self.map = file.view()

    def close(self) -> None:
        """Closes the file and gives up the lock. Readers who still have a tree keep the mapping."""
        if self.file is not None:
            self.file.close()
        self.lock.close()

    def unmap(self) -> None:
        """Gives the mapping back, when the store is closed. A reader who is just in the middle is told so by `run`."""
        self.map = self.writable = b""  # type: ignore[assignment]

    # ------------------------------------------------------------------------------------------------------- reading

    def corrupt(self, pgid: int, why: str) -> CorruptionError:
        return CorruptionError(self.path, pgid * self.page_bytes, f"page {pgid}: {why}")

    def too_deep(self) -> CorruptionError:
        """The error of a caller that has gone down MAX_LEVELS branches and found no leaf."""
        why = f"the tree is deeper than {MAX_LEVELS} levels; a branch probably points to its own ancestor: run check"
        return CorruptionError(self.path, None, why)

    def run(self, pgid: int) -> tuple[bytes, int, int]:
        """The bytes of the run that begins at page `pgid`, its flags, its count. Raises CorruptionError."""
        page_bytes = self.page_bytes
        start = pgid * page_bytes
        view = self.map  # `unmap` may come in between
        limit = len(view)
        if pgid < 2 or start + page_bytes > limit:
            if not limit:
                raise StoreClosed("the store is closed: open it again to use it")
            raise CorruptionError(
                self.path, None, f"page {pgid} is referred to, and the file has {limit // page_bytes}"
            )
        found, flags, count, overflow = header.unpack_from(view[start : start + HEADER_BYTES])
        if found != pgid:
            raise self.corrupt(pgid, f"it says that it is page {found}")
        stop = start + (overflow + 1) * page_bytes
        if stop > limit:
            raise self.corrupt(pgid, f"its {overflow} overflow pages reach beyond the end of the file")
        self.count_read(overflow + 1)
        return view[start:stop], flags, count

    def count_read(self, pages: int) -> None:
        """Counts a run that was read from the mapping."""
        self.stats.reads += 1
        self.stats.bytes_read += pages * self.page_bytes
        self.touched(pages * self.page_bytes)

    def outline(self, pgid: int) -> tuple[int, int, bool]:
        """(flags, pages of the run, whether a leaf has buckets) of the node at page `pgid`, without decoding it."""
        node = self.nodes.get(pgid)
        if node is not None:
            return node.flags, node.pages, node.has_buckets
        found, flags, count, overflow = self._header(pgid)
        if found != pgid or flags not in (BRANCH, LEAF) or (pgid + overflow + 1) * self.page_bytes > len(self.map):
            self.run(pgid)
            raise self.corrupt(pgid, f"a branch or a leaf should be here, and it is a {kind(flags)}")
        if flags == BRANCH:
            return flags, overflow + 1, False
        return flags, overflow + 1, any(element[0] for element in self._leaf_elements(pgid, count))

    def measure(self, pgid: int) -> tuple[int, int, int]:
        """(flags, count, bytes of header, elements and data) of a node that `outline` has found to be one."""
        node = self.nodes.get(pgid)
        if node is None and self._header(pgid)[1] == BRANCH:
            node = self.load(pgid)
        if node is not None:
            return node.flags, len(node.keys), node.size_bytes
        _, flags, count, _ = self._header(pgid)
        data = sum(key_size + value_size for _, _, key_size, value_size in self._leaf_elements(pgid, count))
        return flags, count, HEADER_BYTES + ELEMENT_BYTES * count + data

    def _header(self, pgid: int) -> tuple[int, int, int, int]:
        """The page header at page `pgid`: id, flags, count, overflow; zeros beyond the end of the file."""
        start = pgid * self.page_bytes
        return header.unpack(self.map[start : start + HEADER_BYTES].ljust(HEADER_BYTES))

    def _leaf_elements(self, pgid: int, count: int) -> Iterator[tuple[int, int, int, int]]:
        """The elements of the leaf at page `pgid`, without its keys and values."""
        start = pgid * self.page_bytes
        try:
            end = check_table(self.map[start : start + HEADER_BYTES + ELEMENT_BYTES * count], count)
        except PageError as error:
            raise self.corrupt(pgid, str(error)) from None
        return leaf_element.iter_unpack(self.map[start + HEADER_BYTES : start + end])

    def load(self, pgid: int) -> Node:
        """The node at page `pgid`, from the cache or decoded. Requires: the caller has pinned a tree that it is in."""
        node = self.nodes.get(pgid)
        if node is None:
            node = self._decode(pgid)
            if node.pages <= MAX_CACHED_RUN:
                self.remember(pgid, node)
        return node

    def _decode(self, pgid: int) -> Node:
        run, _, _ = self.run(pgid)
        try:
            return self.decode(run, self.page_bytes)
        except PageError as error:
            raise self.corrupt(pgid, str(error)) from None

    # -------------------------------------------------------------------------------------------------------- memory

    def remember(self, pgid: int, node: Node) -> None:
        """Puts a node into the cache. Requires: the caller has pinned its tree, or is the writer. O(1), amortised."""
        size_bytes = memory_bytes(node)  # before the addition: a thread that came in between would be overwritten
        self.nodes[pgid] = node
        self.cached_bytes += size_bytes
        if self.cached_bytes > self.cache_bytes and not self._trimming.locked():
            holding(self._trimming, self._trim)

    def keep(self, pgid: int, leaf: tuple[bytes, object]) -> None:
        """Puts what is known of a leaf into `leaves`: some bytes, and what it shares with others. Requires: as `remember`."""
        self.leaves[pgid] = leaf
        self.cached_bytes += LEAF_MEMORY_BYTES + len(leaf[0])
        if self.cached_bytes > self.cache_bytes and not self._trimming.locked():
            holding(self._trimming, self._trim)

    def forget(self, pgids: Iterable[int]) -> None:
        """Takes from the cache what it has of pages that are in no tree any more."""
        leaves = self.leaves
        for pgid in pgids:
            node = self.nodes.pop(pgid, None)
            if node is not None:
                size_bytes = memory_bytes(node)
                self.cached_bytes -= size_bytes
            if leaves and (leaf := leaves.pop(pgid, None)) is not None:
                self.cached_bytes -= LEAF_MEMORY_BYTES + len(leaf[0])

    def forget_all(self) -> None:
        """Empties the cache."""
        self.nodes.clear()
        self.leaves.clear()
        self.cached_bytes = 0

    def _trim(self) -> None:
        """Counts again, because threads that count at the same time lose some, and gives up the oldest nodes."""
        nodes = self.nodes
        self.leaves.clear()  # a few microseconds each to make again
        target = self.cache_bytes - self.cache_bytes // TRIM
        counted, cached = self.cached_bytes, list(nodes.values())
        total = sum(map(memory_bytes, cached))
        for pgid in list(nodes):
            if total <= target:
                break
            node = nodes.pop(pgid, None)
            if node is not None:
                total -= memory_bytes(node)
        self.cached_bytes += total - counted  # so that what others remember meanwhile counts
        self._met = bytearray()

    def met(self, pgid: int) -> bool:
        """True if the page was met before, since the cache was last full: it is then worth a place there. One byte a page."""
        met = self._met
        if pgid >= len(met):
            if pgid * self.page_bytes >= len(self.map):
                return True
            self._met = met = met.ljust(len(self.map) // self.page_bytes, b"\0")
        if met[pgid]:
            return True
        met[pgid] = 1
        return False

    def touched(self, size_bytes: int) -> None:
        """Notes that up to `size_bytes` more of the mapping are in memory, and gives it back if that is too much."""
        self._touched_bytes += size_bytes
        if self._touched_bytes > MAPPED_BYTES:
            self._touched_bytes = 0
            if len(self.map) > MAPPED_BYTES and self.file is not None:
                self.file.give_back(self.map)

    # ------------------------------------------------------------------------------------------------------- writing

    def grow(self, high_water: int) -> None:
        """Makes the file long enough for `high_water` pages. Raises StoreFull, OSError."""
        needed = high_water * self.page_bytes
        if needed <= len(self.map):
            return
        size = file_bytes(high_water, self.page_bytes)
        if self._max_bytes is not None and size > self._max_bytes:
            size = self._max_bytes // self.page_bytes * self.page_bytes
            if needed > size:
                raise StoreFull(
                    f"{self.path} needs {needed:,} bytes, and max_size is {self._max_bytes:,}: "
                    "delete something, compact, or open it with a larger one"
                )
        assert self.file is not None
        self.file.allocate(size)
        self.map = self.writable = self.file.map()

    def write(self, pgid: int, run: bytes, node: Node | None) -> None:
        """Writes a run at page `pgid`, and caches the node that it holds. Requires: `grow`n, and the pages are free."""
        self.write_bytes(pgid * self.page_bytes, run)
        if node is None or node.pages > MAX_CACHED_RUN:
            self.forget([pgid])
        else:
            self.remember(pgid, node)

    def write_meta(self, meta: Meta) -> None:
        """Writes a durable meta to its page, and zeros over what a provisional one may have left there."""
        self.write_bytes(meta.page * self.page_bytes, meta.encode_page()[:META_ROOM_BYTES])

    def write_bytes(self, start: int, data: bytes) -> None:
        """Copies bytes into the file at byte `start`."""
        self.writable[start : start + len(data)] = data
        self.stats.bytes_written += len(data)
        self.touched(len(data))

    def sync(self, site: str) -> None:
        """Brings all that was written to the disk."""
        assert self.file is not None
        self.stats.fsyncs += 1
        self.file.sync(site)
