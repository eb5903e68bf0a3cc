"""Copy-on-write: a sorted run of changes goes through a tree in one pass, and leaves another tree beside the old one.

            old root                     new root                  put b"k": three nodes are written, two are shared;
           /   |    \\                  /   |    \\                 the old root still shows the old tree
          A    B     C                 A    B'    C
             / | \\                       / | \\
            D  E  F                      D  E' F

`apply` walks down once: each branch deals its share of the changes out to its children, and gets *pieces* back, nodes that
are not written yet. One piece is the usual case; several are a split, none an emptied child. A piece that is too small is
joined with its neighbour. Then the branch writes its children's pieces, learns their page ids, and is a piece itself.

So each node is written once, children before parents, and a tree of n pages costs O(height) for one change, O(n) for very
many. The usual case, one changed element or one changed child, splices the old page's bytes and encodes nothing.

Invariants:

1. No page of an old tree is written; the pages that the new tree no longer reaches are in `dropped`.
2. All leaves of a tree have the same depth; a branch has at least two children, if there are that many leaves; its keys
   are its children's first keys (node.py says why exactly those).
3. Until commit.py publishes the new tree, `rollback` undoes everything: the pages written are free, and stay so.

Follows bbolt's rebalance and spill (node.go), in one pass in place of two.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from typing import NamedTuple

from engines.btree.freelist import Freelist
from engines.btree.node import NO_CHILDREN, Node
from engines.btree.page import (
    BRANCH,
    ELEMENT_BYTES,
    FREELIST,
    HEADER_BYTES,
    LEAF,
    SPLICE_LIMIT,
    TRAILER_BYTES,
    BucketValue,
    patch_child,
    run_pages,
    seal,
    splice_leaf,
)
from engines.btree.pager import MAX_LEVELS, Pager
from engines.errors import InvalidKey

__all__ = ["Changes", "TreeWriter", "bucket_in_the_way"]

APPEND_FILL = 1.0  # of pages that ascending keys leave behind: nothing will be inserted there soon
SMALL = 4  # a piece below a quarter of a page is joined with its neighbour, as bbolt's are


def bucket_in_the_way(key: bytes) -> InvalidKey:
    """The error for a write to a key that names a bucket."""
    return InvalidKey(f"{key[:40]!r} is a bucket of another program in this file: choose another key")


class Changes(NamedTuple):
    """Keys, strictly ascending, and their new values; None deletes."""

    keys: list[bytes]
    values: list[bytes | None]


class TreeWriter:
    """What one transaction writes: pages taken from the freelist, and the ids of those its trees no longer reach."""

    def __init__(self, pager: Pager, freelist: Freelist, txid: int, fill: float) -> None:
        self.pager = pager
        self.freelist = freelist
        self.txid = txid
        self.written: dict[int, int] = {}  # first page id of a run → its checksum
        self.dropped: list[tuple[int, int]] = []  # (page id, born)
        self._page_bytes = pager.page_bytes
        self._fill = fill
        self._high_water = freelist.high_water
        self._runs: list[tuple[int, int]] = []  # (first page id, pages) of what was allocated
        self._changes = Changes([], [])

    # ------------------------------------------------------------------------------------------------------- changes

    def apply(self, root: int, changes: Changes) -> int | None:
        """The root of the tree at `root` after the changes; None if they change nothing. Raises InvalidKey, StoreFull."""
        return self.apply_to_node(root, self.pager.load(root), changes)

    def apply_to_node(self, root: int, node: Node, changes: Changes) -> int | None:
        """`apply` for a root that is in hand; a `root` of 0 is a node without a page (an inline bucket, or none)."""
        self._changes = changes
        pieces = self._update(root, node, 0, len(changes.keys), True)
        return None if pieces is None else self._plant(pieces)

    def _plant(self, pieces: list[Node]) -> int:
        """Makes the pieces one tree, and writes what is left to write: its root."""
        while len(pieces) > 1:
            keys = [piece.keys[0] for piece in pieces]
            children = array("Q", [self.write(piece) for piece in pieces])
            pieces = Node.branch(keys, children).split(self._page_bytes, self._fill)
        root = pieces[0] if pieces else Node.leaf([], [])
        if len(root.children) != 1:
            return self.write(root)
        pgid = root.children[0]  # a branch over one child is superfluous at the top, as may be the one below it
        for _ in range(MAX_LEVELS):
            node = self.pager.load(pgid)
            if len(node.children) != 1:
                return pgid
            self.drop(pgid, node.pages, node.born)
            pgid = node.children[0]
        raise self.pager.endless()

    def _update(self, pgid: int, node: Node, low: int, high: int, rightmost: bool) -> list[Node] | None:
        """The pieces that take the place of `node` after changes[low:high]; None if nothing changes."""
        if node.children:
            pieces = self._update_branch(pgid, node, low, high, rightmost)
        elif high - low == 1:
            pieces = self._change_one(pgid, node, self._changes.keys[low], self._changes.values[low], rightmost)
        else:
            pieces = self._change_many(node, low, high, rightmost)
        if pieces is None:
            return None
        if pgid:
            self.drop(pgid, node.pages, node.born)
        if len(pieces) == 1 and pieces[0].size_bytes < node.size_bytes:
            pieces[0].small = self._is_small(pieces[0])
        return pieces

    # -------------------------------------------------------------------------------------------------------- leaves

    def _change_one(self, pgid: int, node: Node, key: bytes, value: bytes | None, rightmost: bool) -> list[Node] | None:
        keys, values = node.keys, node.values
        count = len(keys)
        index = bisect_left(keys, key)
        found = index < count and keys[index] == key
        has_buckets = node.has_buckets or type(value) is BucketValue
        if found and has_buckets:
            self._refuse_buckets(key, values[index], value)
        size = node.size_bytes
        if value is None:
            if not found:
                return None
            keys, values = keys.copy(), values.copy()
            size -= ELEMENT_BYTES + len(key) + len(values[index])
            del keys[index], values[index]
            if not keys:
                return []
        elif found:
            values = values.copy()
            size += len(value) - len(values[index])
            values[index] = value
        else:
            keys, values = keys.copy(), values.copy()
            size += ELEMENT_BYTES + len(key) + len(value)
            keys.insert(index, key)
            values.insert(index, value)
        piece = Node(keys, values, NO_CHILDREN, size)
        piece.has_buckets = has_buckets
        if size + TRAILER_BYTES > self._page_bytes:
            return piece.split(self._page_bytes, APPEND_FILL if rightmost and index == count else self._fill)
        if pgid and node.packed and node.pages == 1 and count < SPLICE_LIMIT:
            start = pgid * self._page_bytes
            body = self.pager.map[start + HEADER_BYTES : start + node.size_bytes]
            piece.body = splice_leaf(body, count, index, found, key, value)
        return [piece]

    def _change_many(self, node: Node, low: int, high: int, rightmost: bool) -> list[Node] | None:
        """Merges changes[low:high] into a leaf; a run of new keys behind its last one is appended at once."""
        new_keys, new_values = self._changes.keys, self._changes.values
        keys, values = node.keys.copy(), node.values.copy()
        changed = False
        at = low
        index = 0
        while at < high and keys and new_keys[at] <= keys[-1]:
            key, value = new_keys[at], new_values[at]
            at += 1
            index = bisect_left(keys, key, index)
            found = index < len(keys) and keys[index] == key
            if found and node.has_buckets:
                self._refuse_buckets(key, values[index], value)
            if value is not None:
                keys[index : index + found] = [key]
                values[index : index + found] = [value]
            elif found:
                del keys[index], values[index]
            changed = changed or found or value is not None
        appended = [(key, value) for key, value in zip(new_keys[at:high], new_values[at:high]) if value is not None]
        if appended:
            keys += [key for key, _ in appended]
            values += [value for _, value in appended]
        elif not changed:
            return None
        if not keys:
            return []
        only_appended = bool(appended) and at == low
        return Node.leaf(keys, values).split(
            self._page_bytes, APPEND_FILL if rightmost and only_appended else self._fill
        )

    @staticmethod
    def _refuse_buckets(key: bytes, old: bytes, new: bytes | None) -> None:
        """A key that names a nested bucket of another program can't be put or deleted (bbolt: incompatible value)."""
        if type(old) is BucketValue and type(new) is not BucketValue:
            raise bucket_in_the_way(key)

    # ------------------------------------------------------------------------------------------------------ branches

    def _update_branch(self, pgid: int, node: Node, low: int, high: int, rightmost: bool) -> list[Node] | None:
        """Deals changes[low:high] out to the children; one child that remains one is only a patched page id."""
        keys, children = node.keys, node.children
        new_keys = self._changes.keys
        last = len(children) - 1
        replaced: dict[int, list[Node]] = {}
        while low < high:
            index = node.child_index(new_keys[low])
            end = high if index == last or high - low == 1 else bisect_left(new_keys, keys[index + 1], low, high)
            child = children[index]
            updated = self._update(child, self.pager.load(child), low, end, rightmost and index == last)
            if updated is not None:
                replaced[index] = updated
            low = end
        if not replaced:
            return None
        if len(replaced) == 1:
            ((index, pieces),) = replaced.items()
            if len(pieces) == 1 and not pieces[0].small and pieces[0].keys[0] == keys[index]:
                return [self._patched(pgid, node, index, self.write(pieces[0]))]
        return self._rebuild(node, replaced, rightmost)

    def _patched(self, pgid: int, node: Node, index: int, child: int) -> Node:
        """The branch with another child at `index`: the keys stay, and so do the page's bytes but for one id."""
        children = node.children[:]
        children[index] = child
        piece = Node(node.keys, [], children, node.size_bytes)
        if node.packed and node.pages == 1:
            start = pgid * self._page_bytes
            piece.body = patch_child(self.pager.map[start + HEADER_BYTES : start + node.size_bytes], index, child)
        return piece

    def _rebuild(self, node: Node, replaced: dict[int, list[Node]], rightmost: bool) -> list[Node]:
        """The branch with pieces in the place of some children, after the small ones among these were joined."""
        keys, children = node.keys.copy(), node.children[:]
        slots: list[Node | None] = [None] * len(keys)  # a child that stays where it is, or the piece with a page of 0
        for index in reversed(replaced):
            pieces = replaced[index]
            keys[index : index + 1] = [piece.keys[0] for piece in pieces]
            children[index : index + 1] = array("Q", bytes(8 * len(pieces)))
            slots[index : index + 1] = pieces
        if any(piece.small for pieces in replaced.values() for piece in pieces):
            self._join_small(keys, children, slots)
        if not keys:
            return []
        for index, slot in enumerate(slots):
            if slot is not None:
                children[index] = self.write(slot)
        branch = Node.branch(keys, children)
        appended = rightmost and len(replaced) == 1 and len(node.children) - 1 in replaced
        return branch.split(self._page_bytes, APPEND_FILL if appended else self._fill)

    def _join_small(self, keys: list[bytes], children: array[int], slots: list[Node | None]) -> None:
        """Joins each piece that has become small with its left neighbour, the first with its right one.

        Only what shrank is joined: ascending keys leave small pieces behind, which are about to grow.
        """
        at = 0
        while at < len(keys) and len(keys) > 1:
            piece = slots[at]
            if piece is None or not piece.small:
                at += 1
                continue
            left = max(at - 1, 0)
            both = slice(left, left + 2)
            pair = [(pgid, slot or self.pager.load(pgid)) for pgid, slot in zip(children[both], slots[both])]
            if len(piece.children) != 1 and max(node.pages for _, node in pair) > 1:
                at += 1  # to write a long run again for the sake of a few bytes is worse than a small page
                continue
            for pgid, node in pair:
                if pgid:
                    self.drop(pgid, node.pages, node.born)
            joined = pair[0][1].joined(pair[1][1]).split(self._page_bytes, self._fill)
            keys[both] = [node.keys[0] for node in joined]
            children[both] = array("Q", bytes(8 * len(joined)))
            slots[both] = joined
            at = left if len(joined) == 1 else left + len(joined)

    def _is_small(self, piece: Node) -> bool:
        return piece.size_bytes < self._page_bytes // SMALL or len(piece.children) == 1

    # --------------------------------------------------------------------------------------------------------- pages

    def write(self, node: Node, *, cache: bool = True) -> int:
        """Writes a node to pages of its own, and returns the first one's id. Raises StoreFull, OSError."""
        body = node.encode()
        node.born = self.txid
        node.pages = run_pages(HEADER_BYTES + len(body), self._page_bytes)
        pgid = self._allocate(node.pages)
        flags = BRANCH if node.children else LEAF
        run, crc = seal(pgid, flags, len(node.keys), body, node.pages * self._page_bytes, node.pages)
        self.pager.write(pgid, run, node if cache else None)
        self.written[pgid] = crc
        node.settle()
        return pgid

    def write_freelist(self, pgid: int, pages: int, count: int, body: bytes) -> None:
        """Writes the freelist's body to the pages that `allocate_freelist` gave: it may have become shorter since."""
        run, crc = seal(pgid, FREELIST, count, body, pages * self._page_bytes, pages)
        self.pager.write(pgid, run, None)
        self.written[pgid] = crc

    def allocate_freelist(self, ids: int) -> tuple[int, int]:
        """(first page id, pages) of a run for a freelist of so many ids."""
        pages = run_pages(HEADER_BYTES + 8 + 8 * ids, self._page_bytes)
        return self._allocate(pages), pages

    def _allocate(self, pages: int) -> int:
        pgid = self.freelist.allocate(pages)
        self._runs.append((pgid, pages))
        self.pager.grow(self.freelist.high_water)
        return pgid

    def drop(self, pgid: int, pages: int, born: int) -> None:
        """Notes that the new tree doesn't reach the run at `pgid`, which transaction `born` has written."""
        if pages == 1:
            self.dropped.append((pgid, born))
        else:
            self.dropped += [(page, born) for page in range(pgid, pgid + pages)]

    def rollback(self) -> None:
        """Gives back every page; what was written to them is in nobody's tree."""
        for pgid, _ in self._runs:
            self.pager.nodes.pop(pgid, None)
        self.freelist.rollback(self._runs, self._high_water)
