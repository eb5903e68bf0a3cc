"""One changed key, unsynced, as a commit of its own."""

from __future__ import annotations

import struct
from bisect import bisect_left, bisect_right
from collections.abc import Sequence

from crc32c import crc32c

from engines.btree.commit import Committer
from engines.btree.current import State
from engines.btree.fast.meta import encode_meta
from engines.btree.fast.splicing import CHILD, change_leaf
from engines.btree.meta import MASK_64, NO_FREELIST, Meta
from engines.btree.node import Node
from engines.btree.page import (
    ELEMENT_BYTES,
    HEADER_BYTES,
    LEAF,
    TRAILER_BYTES,
    TRAILER_MAGIC,
    header,
)
from engines.btree.pager import MAX_LEVELS, READ_AROUND_BYTES
from engines.btree.provisional import SUMMAND_FACTOR, Provisional, add_sum, next_txid
from engines.btree.tree import SMALL
from engines.kvstore import Operation

__all__ = ["PointCommits"]

_u32 = struct.Struct("<I").pack
_u64 = struct.Struct("<Q").pack


Path = list[tuple[int, Node, int]]  # (page id, branch, index of the child that comes next), from the root down


class PointCommits(Provisional):
    """Provisional, but one changed key is committed on a fast path, where nothing else is to be done: 51 µs -> 22 µs.

        key -> path [(root, 3), (branch, 17)] and the leaf
               leaf     spliced                 -> another page
               branch   8 bytes are different   -> another page           each copied from the old page's bytes,
               root     8 bytes are different   -> another page           with a new id and a new checksum
               the bucket's entry in the root bucket's leaf: 8 bytes are different

    Where something else is to be done, `apply` finds that out before it has changed anything, and the plain form does it:
    a split, a joining, another first key, a page from elsewhere that is laid out in another way, readers with a pin.
    """

    def __init__(self, committer: Committer) -> None:
        super().__init__(committer)
        self._place_of_root: int | None = None  # of our bucket's root id in the root bucket's page, once it is known

    def apply(self, operations: Sequence[Operation]) -> bool:
        if len(operations) == 1:
            done = self._apply_one(*operations[0])
            if done is not None:
                return done
        return super().apply(operations)

    def encode_meta(self, meta: Meta) -> bytes:
        return encode_meta(meta)

    def _apply_one(self, key: bytes, value: bytes | None) -> bool | None:
        """True if it is committed, False if it changes nothing; None if it is a case for the plain form."""
        committer, pager = self.committer, self.pager
        pins = pager.pins
        place = self._place_of_root or self._find_place_of_root()
        if not place or pins.arrived or pins.gone or pins.held():
            return None
        state = committer.current.state
        nodes = pager.nodes
        room = pager.page_bytes - TRAILER_BYTES
        path: Path = []
        pgid, node = state.root_id, state.root
        while node.children:
            if not node.packed or node.size_bytes > room or len(path) > MAX_LEVELS:
                return None
            index = bisect_right(node.keys, key, 1) - 1
            path.append((pgid, node, index))
            pgid = node.children[index]
            node = nodes.get(pgid) or pager.load(pgid)
        index = bisect_left(node.keys, key)
        found = index < len(node.keys) and node.keys[index] == key
        if value is None and not found:
            return False
        if path and not index and not (found and value is not None):
            return None  # the leaf gets another first key, and so does the branch above it
        changed = change_leaf(pager, pgid, node, index, found, key, value)
        if changed is None:
            return None
        if path and changed[0].size_bytes < node.size_bytes and changed[0].size_bytes < pager.page_bytes // SMALL:
            return None
        self._write(state, path, pgid, node.born, *changed, place)
        return True

    def _find_place_of_root(self) -> int:
        """Where in the root bucket's page the page id of our bucket's root is; 0 if it isn't there, or in no simple leaf.

        It stays where it is, because our commits change nothing else in the root bucket.
        """
        state = self.committer.current.state
        if not state.root_id or not self.possible:
            return 0
        top = self.pager.load(state.meta.root)
        index = bisect_left(top.keys, self.committer.bucket)
        place = HEADER_BYTES + ELEMENT_BYTES * len(top.keys)
        place += sum(map(len, top.keys[: index + 1])) + sum(map(len, top.values[:index]))
        simple = not top.children and top.packed and top.size_bytes + TRAILER_BYTES <= self.pager.page_bytes
        self._place_of_root = place if simple else 0
        return self._place_of_root

    def _write(self, state: State, path: Path, old: int, born: int, leaf: Node, body: bytes, place: int) -> None:
        """Writes the leaf, the branches above it, the root bucket's leaf and the meta, each to a page of its own."""
        committer, pager, meta = self.committer, self.pager, state.meta
        if self.base != committer.durable:
            self.restart_sum()
        if released := committer.freelist.release([committer.durable]):
            committer.free(released)
        page_bytes = pager.page_bytes
        txid = leaf.born = next_txid(meta.txid, self.base)
        pages = self._allocate(len(path) + 2)
        view = pager.writable
        new = pages[0]
        padding = bytes(page_bytes - HEADER_BYTES - len(body) - TRAILER_BYTES)
        self._write_page(new, b"".join((header.pack(new, LEAF, len(leaf.keys), 0), body, padding, TRAILER_MAGIC)))
        root = leaf
        pager.remember(new, leaf)
        dropped = [(old, born)]
        for (old, branch, index), page in zip(reversed(path), pages[1:]):
            start = old * page_bytes
            at = start + CHILD + ELEMENT_BYTES * index
            rest = view[at + 8 : start + page_bytes - TRAILER_BYTES]
            self._write_page(page, b"".join((_u64(page), view[start + 8 : at], _u64(new), rest, TRAILER_MAGIC)))
            children = branch.children[:]
            children[index] = new
            new = page
            root = Node(branch.keys, [], children, branch.size_bytes)
            root.born = txid
            pager.remember(new, root)
            dropped.append((old, branch.born))
        top = pages[-1]
        start = meta.root * page_bytes
        at = start + place
        rest = view[at + 8 : start + page_bytes - TRAILER_BYTES]
        self._write_page(top, b"".join((_u64(top), view[start + 8 : at], _u64(new), rest, TRAILER_MAGIC)))
        dropped.append((meta.root, 0))
        if committer.freelist_run:
            dropped += [(pgid, 0) for pgid in committer.freelist_run]
        young, aged = self._take_from_sum(dropped)
        high_water = committer.freelist.high_water
        meta = Meta(page_bytes, top, NO_FREELIST, high_water, txid, meta.sequence, meta.flags)
        data = add_sum(encode_meta(meta), self.base, self.total)
        start = txid % 2 * page_bytes
        view[start + self.spare_place : start + self.spare_place + len(data)] = data
        view[start : start + len(data)] = data
        pager.stats.bytes_written += page_bytes * len(pages) + 2 * len(data)
        pager.touched(READ_AROUND_BYTES)
        committer.freelist_run = range(0)
        committer.current.state = State(pager, meta, new, root, state.sequence)
        if pager.pins.arrived:  # a reader of the old tree, since `_apply_one` has looked
            aged += [(pgid, self.base + 1) for pgid in young]
            committer.free(committer.freelist.drop(aged, txid, committer.pins()))
            return
        committer.freelist.add(young)  # nobody reads, and the durable tree doesn't reach them
        committer.free(young)
        if aged:
            committer.free(committer.freelist.drop(aged, txid, [committer.durable]))

    def _write_page(self, pgid: int, image: bytes) -> None:
        """Writes a page that lacks only its checksum, and adds it to the sum."""
        crc = crc32c(image)
        start = pgid * self.pager.page_bytes
        self.pager.writable[start : start + self.pager.page_bytes] = image + _u32(crc)
        self.summands[pgid] = added = crc * (pgid * SUMMAND_FACTOR | 1) & MASK_64  # summand, without the call
        self.total += added

    def _take_from_sum(self, dropped: list[tuple[int, int]]) -> tuple[list[int], list[tuple[int, int]]]:
        """Takes dropped pages out of the sum: (those written since the base, the others, which the base's tree reaches)."""
        summands, total = self.summands, self.total
        young: list[int] = []
        aged: list[tuple[int, int]] = []
        for page in dropped:
            pgid = page[0]
            if pgid in summands:
                total -= summands.pop(pgid)
                young.append(pgid)
            else:
                aged.append(page)
        self.total = total & MASK_64
        return young, aged

    def _allocate(self, count: int) -> list[int]:
        """Ids of so many single pages, which the file has room for. Raises StoreFull, OSError."""
        freelist = self.committer.freelist
        high_water = freelist.high_water
        free = freelist.free
        if len(free) >= count:
            pages = free[: -count - 1 : -1].tolist()  # in the order in which `allocate` would give them
            del free[-count:]
            return pages
        pages = [freelist.allocate(1) for _ in range(count)]
        if freelist.high_water > high_water:
            try:
                self.pager.grow(freelist.high_water)
            except BaseException:
                freelist.rollback([(pgid, 1) for pgid in pages], high_water)
                raise
        return pages
