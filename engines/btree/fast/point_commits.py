"""One changed key, unsynced, as a commit of its own."""

from __future__ import annotations

import struct
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import NamedTuple

from crc32c import crc32c

from engines.btree.commit import Build, Committer
from engines.btree.current import State
from engines.btree.fast.even import Parts, change_even, looks_even
from engines.btree.fast.meta import encode_meta, encode_provisional
from engines.btree.fast.splicing import (
    CHILD,
    SPLICE_LIMIT,
    change_leaf,
    cut_leaf,
    join_leaves,
    splice_branch,
)
from engines.btree.meta import MASK_64, NO_FREELIST, Meta
from engines.btree.node import Node, memory_bytes
from engines.btree.page import (
    BRANCH,
    ELEMENT_BYTES,
    HEADER_BYTES,
    LEAF,
    TRAILER_BYTES,
    TRAILER_MAGIC,
    header,
)
from engines.btree.pager import MAX_LEVELS, READ_AROUND_BYTES
from engines.btree.provisional import SUMMAND_FACTOR, Provisional
from engines.btree.tree import APPEND_FILL, SMALL
from engines.kvstore import Operation

__all__ = ["PointCommits"]

_u32 = struct.Struct("<I").pack
_u64 = struct.Struct("<Q").pack

Path = list[tuple[int, Node, int]]  # (page id, branch, index of the child that comes next), from the root down
OldLeaf = tuple[int, Node | None, bool]  # its page id, itself if it is decoded, and whether it was in the cache
Leaves = list[tuple[Node, bytes]]  # leaves to be written, each with its body


class Reshaped(NamedTuple):
    """What takes the place of the children low <= i < high of a branch."""

    low: int
    high: int
    keys: list[bytes]
    size_bytes: int  # of the branch after that
    dropped: list[tuple[int, int]]  # (page id, born) of the leaf that was joined with the changed one


class PointCommits(Provisional):
    """Provisional, but one changed key is committed on a fast path.

        key -> path [(root, 3), (branch, 17)] and the leaf
               leaf     spliced                 -> another page; two after a split
               branch   8 bytes are different   -> another page           each copied from the old page's bytes,
               root     8 bytes are different   -> another page           with a new id and a new checksum
               the bucket's entry in the root bucket's leaf: 8 bytes are different

    An even leaf that isn't in the cache is changed as bytes (even.py), and isn't decoded for it: that is a tenth of the time at
    most, and a quarter of the memory that 200,000 puts take.

    A split, a leaf joined with its neighbour and another first key change a few elements of the leaf's parent, which is
    spliced then. What goes further is the plain form's, and `_apply_one` finds it out before it has changed anything: a
    change of shape above the parent, a page from elsewhere that is laid out in another way, readers with a pin.
    """

    def __init__(self, committer: Committer) -> None:
        super().__init__(committer)
        self._room = self.pager.page_bytes - TRAILER_BYTES
        self._small = self.pager.page_bytes // SMALL
        self._swept = False  # True: no page waits for readers that are gone
        self._top_of = -1  # the txid whose root bucket's page `_top` has,
        self._top = b"", b""  # from byte 8 on to the checksum, without our bucket's root id
        self._place_of_root: int | None = None  # of our bucket's root id in the root bucket's page, once it is known

    def apply(self, operations: Sequence[Operation]) -> bool:
        if len(operations) == 1:
            done = self._apply_one(*operations[0])
            if done is not None:
                return done
        return super().apply(operations)

    def commit(self, build: Build) -> bool:
        self._swept = False
        return super().commit(build)

    def encode_meta(self, meta: Meta) -> bytes:
        return encode_meta(meta)

    def _apply_one(self, key: bytes, value: bytes | None) -> bool | None:
        """True if it is committed, False if it changes nothing; None if it is a case for the plain form."""
        pager = self.pager
        pins = pager.pins
        if pins.arrived or pins.gone:
            pins.held()
        place = self._place_of_root or self._find_place_of_root()
        if pins.counts or not place:
            return None
        state = self.committer.current.state
        nodes, room, view, page_bytes = pager.nodes, self._room, pager.writable, pager.page_bytes
        path: Path = []
        pgid, node = state.root_id, state.root
        cached = True
        while node.children:
            if not node.packed or node.size_bytes > room or len(path) > MAX_LEVELS:
                return None
            index = bisect_right(node.keys, key, 1) - 1
            path.append((pgid, node, index))
            pgid = node.children[index]
            below = nodes.get(pgid)
            if below is None:
                parts = change_even(view[pgid * page_bytes : (pgid + 1) * page_bytes], pgid, self._small, key, value)
                if parts:
                    self._write(state, path, (pgid, None, False), [], None, place, parts)
                    return True
                if parts is not None:
                    return False
                below = pager.load(pgid)
                cached = False
            node = below
        keys = node.keys
        index = bisect_left(keys, key)
        found = index < len(keys) and keys[index] == key
        if value is None and not found:
            return False
        changed = change_leaf(pager, pgid, node, index, found, key, value)
        if changed is None:
            return None
        size = changed[0].size_bytes
        leaves = [changed]
        shape: Reshaped | None = None
        shrunk = size < node.size_bytes and size < self._small and bool(path)
        if size > room or shrunk or not (index or (found and value is not None)):
            if size > room:
                leaves = self._split(path, node, key, *changed)
            if path:
                shape = self._reshape(path, leaves, shrunk)
            if shape is None and (path or size > room):
                return None
        self._write(state, path, (pgid, node, cached), leaves, shape, place)
        return True

    # --------------------------------------------------------------------------------- splits, joins, other first keys

    def _split(self, path: Path, old: Node, key: bytes, leaf: Node, body: bytes) -> Leaves:
        """The pieces of a leaf that has become too large."""
        appended = key > old.keys[-1] and all(index == len(node.children) - 1 for _, node, index in path)
        pieces = leaf.split(self.pager.page_bytes, APPEND_FILL if appended else self.committer.fill)
        return list(zip(pieces, cut_leaf(body, pieces)))

    def _reshape(self, path: Path, leaves: Leaves, shrunk: bool) -> Reshaped | None:
        """How the branch at the end of the path changes; None if more than that would have to.

        If the leaf is `shrunk`, it is joined with its neighbour first: `leaves` has the result.
        """
        _, parent, index = path[-1]
        low, high = index, index + 1
        dropped: list[tuple[int, int]] = []
        if shrunk:
            left = max(index - 1, 0)
            beside = left if index else 1
            if beside == len(parent.keys):
                return None
            neighbour = self.pager.load(parent.children[beside])
            if neighbour.pages == 1:
                if not neighbour.packed or neighbour.has_buckets or neighbour.size_bytes > self._room:
                    return None
                if len(neighbour.keys) + len(leaves[0][0].keys) > SPLICE_LIMIT:
                    return None
                low, high = left, left + 2
                dropped.append((parent.children[beside], neighbour.born))
                self._join(leaves, parent.children[beside], neighbour, before=beside < index)
        keys = [leaf.keys[0] for leaf, _ in leaves]
        old_keys = parent.keys[low:high]
        size = parent.size_bytes + ELEMENT_BYTES * (len(keys) - len(old_keys))
        size += sum(map(len, keys)) - sum(map(len, old_keys))
        count = len(parent.keys) + len(keys) - len(old_keys)
        if size > self._room or not 2 <= count < SPLICE_LIMIT or (low == 0 and keys[0] != old_keys[0]):
            return None
        if size < parent.size_bytes and size < self._small and len(path) > 1:
            return None
        if any(leaf.size_bytes > self._room for leaf, _ in leaves):
            return None
        return Reshaped(low, high, keys, size, dropped)

    def _join(self, leaves: Leaves, pgid: int, neighbour: Node, *, before: bool) -> None:
        """Puts what `neighbour`, the leaf at page `pgid`, and the only one of `leaves` come to into `leaves`."""
        pager = self.pager
        start = pgid * pager.page_bytes
        pair = [(neighbour, pager.map[start + HEADER_BYTES : start + neighbour.size_bytes]), leaves[0]]
        (left, left_body), (right, right_body) = pair if before else reversed(pair)
        body = join_leaves(left_body, len(left.keys), right_body, len(right.keys))
        pieces = left.joined(right).split(pager.page_bytes, self.committer.fill)
        leaves[:] = zip(pieces, [body] if len(pieces) == 1 else cut_leaf(body, pieces))

    # ---------------------------------------------------------------------------------------------------- the commit

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

    def _begin(self) -> None:
        """The sum begins anew after a durable commit; pages that waited for readers, and not for that commit, are free."""
        committer = self.committer
        if self.base != committer.durable:
            self.restart_sum()
        committer.free(committer.freelist.release([self.base]))
        self._swept = True

    def _write(
        self,
        state: State,
        path: Path,
        old: OldLeaf,
        leaves: Leaves,
        shape: Reshaped | None,
        place: int,
        parts: Parts = (),
    ) -> None:
        """Writes the leaves, the branches above, the root bucket's leaf and the meta, each to a page of its own.

        Without a `shape` the branches above differ in one page id each. In one piece, because every call counts.
        """
        committer, pager = self.committer, self.pager
        if not self._swept or self.base != committer.durable:
            self._begin()
        pages = self._allocate((len(leaves) or 1) + len(path) + 1)
        newest = state.meta.txid
        txid = newest + (3 if newest == self.base else 2)  # next_txid, without the call
        nodes, view, page_bytes, room = pager.nodes, pager.writable, pager.page_bytes, self._room
        pgid, root, cached = old
        dropped = [(pgid, root.born if root else 0)]
        if root is not None and nodes.pop(pgid, None) is not None:
            size_bytes = memory_bytes(root)
            pager.cached_bytes -= size_bytes
        if parts:
            new = pages.pop()
            self._write_page(new, b"".join((_u64(new), *parts)))
        elif shape is None:
            root = leaves[0][0]
            new = self._write_leaf(*leaves[0], pages.pop(), txid, cached=cached)
        else:
            dropped += [*shape.dropped, (path[-1][0], path[-1][1].born)]
            new, root = self._write_reshaped(path.pop(), leaves, shape, pages, txid, cached=cached)
        for pgid, branch, index in reversed(path):
            start = pgid * page_bytes
            at = start + CHILD + ELEMENT_BYTES * index
            page = pages.pop()
            image = b"".join((_u64(page), view[start + 8 : at], _u64(new), view[at + 8 : start + room], TRAILER_MAGIC))
            self._write_page(page, image)
            children = branch.children[:]
            children[index] = new
            nodes[page] = root = Node(branch.keys, branch.values, children, branch.size_bytes)
            root.born = txid
            if nodes.pop(pgid, None) is None:  # else the two take the same memory
                size_bytes = memory_bytes(root)
                pager.cached_bytes += size_bytes
            dropped.append((pgid, branch.born))
            new = page
        meta = state.meta
        page = pages.pop()
        self._write_top(meta, page, new, place, txid)
        dropped.append((meta.root, 0))
        pager.stats.bytes_written += page_bytes * (len(dropped) + (len(leaves) or 1) - 1)
        high_water = committer.freelist.high_water
        meta = Meta(page_bytes, page, NO_FREELIST, high_water, txid, meta.sequence, meta.flags)
        assert root is not None
        self._announce(State(pager, meta, new, root, state.sequence), dropped)

    def _write_top(self, old: Meta, page: int, root: int, place: int, txid: int) -> None:
        """Writes the root bucket's leaf, which is different in 8 bytes only."""
        if self._top_of == old.txid:
            before, after = self._top
        else:
            view, start = self.pager.writable, old.root * self.pager.page_bytes
            before = view[start + 8 : start + place]
            after = view[start + place + 8 : start + self._room] + TRAILER_MAGIC
            self._top = before, after
        self._top_of = txid
        self._write_page(page, b"".join((_u64(page), before, _u64(root), after)))

    def _write_leaf(self, leaf: Node, body: bytes, page: int, txid: int, *, cached: bool) -> int:
        """Writes a leaf, and returns the page. It is in the cache then if the old one was, or if only nodes can be changed."""
        leaf.born = txid
        padding = bytes(self._room - HEADER_BYTES - len(body))
        image = b"".join((header.pack(page, LEAF, len(leaf.keys), 0), body, padding, TRAILER_MAGIC))
        self._write_page(page, image)
        if cached or looks_even(image, page) is None:
            self.pager.remember(page, leaf)
        return page

    def _write_reshaped(
        self,
        parent: tuple[int, Node, int],
        leaves: Leaves,
        shape: Reshaped,
        pages: list[int],
        txid: int,
        *,
        cached: bool,
    ) -> tuple[int, Node]:
        """Writes the leaves, and the branch above them with other children: its page, and itself."""
        pgid, branch, _ = parent
        low, high, keys = shape.low, shape.high, shape.keys
        new = [self._write_leaf(leaf, body, pages.pop(), txid, cached=cached) for leaf, body in leaves]
        start = pgid * self.pager.page_bytes
        old = self.pager.writable[start + HEADER_BYTES : start + branch.size_bytes]
        body = splice_branch(old, len(branch.keys), low, high, keys, new)
        children = branch.children[:low]
        children.extend(new)
        children.extend(branch.children[high:])
        root = Node([*branch.keys[:low], *keys, *branch.keys[high:]], [], children, shape.size_bytes)
        root.born = txid
        page = pages.pop()
        padding = bytes(self._room - HEADER_BYTES - len(body))
        self._write_page(page, b"".join((header.pack(page, BRANCH, len(root.keys), 0), body, padding, TRAILER_MAGIC)))
        self.pager.remember(page, root)
        return page, root

    def _write_page(self, page: int, image: bytes) -> None:
        """Writes a page that lacks only its checksum, and adds it to the sum."""
        crc = crc32c(image)
        start = page * self.pager.page_bytes
        self.pager.writable[start : start + self.pager.page_bytes] = image + _u32(crc)
        self.summands[page] = added = crc * (page * SUMMAND_FACTOR | 1)
        self.total += added

    def _announce(self, new: State, dropped: list[tuple[int, int]]) -> None:
        """Writes the meta, in its two places, and shows the new state to readers; then lets go of what it doesn't reach."""
        committer, pager, base = self.committer, self.pager, self.base
        if committer.freelist_run:
            dropped += [(pgid, 0) for pgid in committer.freelist_run]
            committer.freelist_run = range(0)
        take = self.summands.pop
        total = self.total
        young: list[int] = []  # written since the base: free as soon as nobody reads
        aged: list[tuple[int, int]] = []  # the base's tree reaches them
        for each in dropped:
            added = take(each[0], -1)
            if added < 0:
                aged.append(each)
            else:
                total -= added
                young.append(each[0])
        self.total = total = total & MASK_64
        data = encode_provisional(new.meta, base, total)
        size, view = len(data), pager.writable
        start = new.meta.txid % 2 * pager.page_bytes
        spare = start + self.spare_place
        view[spare : spare + size] = data
        view[start : start + size] = data
        pager.stats.bytes_written += 2 * size
        pager.touched(READ_AROUND_BYTES)
        committer.current.state = new
        freelist = committer.freelist
        pins = pager.pins
        if pins.arrived or pins.counts:  # a reader of the old tree since `_apply_one` has looked, perhaps counted
            aged += [(pgid, base + 1) for pgid in young]
            committer.free(freelist.drop(aged, new.meta.txid, committer.pins()))
            self._swept = False
            return
        freelist.add(young)  # nobody reads, and the durable tree doesn't reach them
        committer.free(young)
        if aged:
            committer.free(freelist.drop(aged, new.meta.txid, [base]))

    def _allocate(self, count: int) -> list[int]:
        """Ids of so many single pages, which the file has room for; the first one to be used is the last.

        Raises StoreFull, OSError.
        """
        freelist = self.committer.freelist
        high_water = freelist.high_water
        free = freelist.free
        if len(free) >= count:
            pages = free[-count:].tolist()
            del free[-count:]
            return pages
        pages = [freelist.allocate(1) for _ in range(count)]
        if freelist.high_water > high_water:
            try:
                self.pager.grow(freelist.high_water)
            except BaseException:
                freelist.rollback([(pgid, 1) for pgid in pages], high_water)
                raise
        pages.reverse()
        return pages
