"""Copy-on-write: a sorted run of changes goes through a tree in one pass, and leaves another tree beside the old one.

            old root                     new root                  put b"k": three nodes are written, two are shared;
           /   |    \\                  /   |    \\                 the old root still shows the old tree
          A    B     C                 A    B'    C
             / | \\                       / | \\
            D  E  F                      D  E' F

`apply` walks down once: each branch deals its share of the changes out to its children, and gets *pieces* back, nodes that
are not written yet. One piece is the usual case; several are a split, none an emptied child. A piece that has become too
small is joined with its neighbour. Then the branch writes its children's pieces, learns their page ids, and is a piece
itself. So each node is written once, children before parents: O(height) nodes for one change, O(n) for very many.

Invariants:

1. No page of an old tree is written; the pages that the new tree no longer reaches are in `dropped`.
2. All leaves of a tree have the same depth; a branch has at least two children, if there are that many leaves; its keys
   are its children's first keys (node.py says why exactly those).
3. Until the new tree is published, `rollback` undoes everything: the pages written are free, and stay so.

Follows bbolt's rebalance and spill (node.go), in one pass in place of two.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import NamedTuple

from engines.btree.freelist import Freelist
from engines.btree.meta import NO_FREELIST
from engines.btree.node import Node
from engines.btree.page import FREELIST, HEADER_BYTES, BucketValue, run_pages, with_trailer
from engines.btree.pager import MAX_LEVELS, Pager, StoreFull
from engines.errors import InvalidKey
from engines.kvstore import Operation

__all__ = ["SMALL", "Changes", "TreeWriter", "bucket_in_the_way"]

APPEND_FILL = 1.0  # of pages that ascending keys leave behind: nothing will be inserted there soon
SMALL = 4  # a piece below a quarter of a page is joined with its neighbour, as bbolt's are
UNWRITTEN = 0  # in a list of page ids: the place of a piece that has no page yet


def bucket_in_the_way(key: bytes) -> InvalidKey:
    """The error for a write to a key that names a bucket."""
    return InvalidKey(f"{key[:40]!r} is a bucket of another program in this file: choose another key")


class Changes(NamedTuple):
    """Keys, strictly ascending, and their new values; None deletes."""

    keys: list[bytes]
    values: list[bytes | None]

    @classmethod
    def of(cls, operations: Sequence[Operation]) -> Changes:
        """What operations, (key, value or None) in any order, come to; of two on the same key the later counts. O(n log n)."""
        merged = dict(operations)
        keys = sorted(merged)
        return cls(keys, [merged[key] for key in keys])


class TreeWriter:
    """What one transaction writes: pages taken from the freelist, and the ids of those its trees no longer reach."""

    def __init__(self, pager: Pager, freelist: Freelist, txid: int, fill: float) -> None:
        self.pager = pager
        self.freelist = freelist
        self.txid = txid
        self.written: dict[int, int] = {}  # first page id of a run → its checksum
        self.dropped: list[tuple[int, int]] = []  # (page id, born)
        self.page_bytes = pager.page_bytes
        self.changes = Changes([], [])
        self.fill = fill
        self._high_water = freelist.high_water
        self._runs: list[tuple[int, int]] = []  # (first page id, pages) of what was allocated

    # ------------------------------------------------------------------------------------------------------- changes

    def apply(self, root: int, changes: Changes) -> int | None:
        """The root of the tree at `root` after the changes; None if they change nothing. Raises InvalidKey, StoreFull."""
        return self.apply_to_node(root, self.pager.load(root), changes)

    def apply_to_node(self, root: int, node: Node, changes: Changes) -> int | None:
        """`apply` for a root that is in hand; a `root` of 0 is a node without a page (an inline bucket, or none)."""
        self.changes = changes
        pieces = self.update(root, node, 0, len(changes.keys), rightmost=True)
        return None if pieces is None else self.plant(pieces)

    def update(self, pgid: int, node: Node, low: int, high: int, *, rightmost: bool) -> list[Node] | None:
        """The pieces that take the place of `node` after changes[low:high]; None if nothing changes.

        `pgid` is the node's page, 0 if it has none. `rightmost` is true on the path to the tree's last key, where ascending
        keys arrive. Pages that are replaced are dropped here, and nowhere below but for neighbours that were joined.
        """
        update = self.update_branch if node.children else self.update_leaf
        pieces = update(pgid, node, low, high, rightmost)
        if pieces is None:
            return None
        if pgid:
            self.drop(pgid, node.pages, node.born)
        if len(pieces) == 1 and pieces[0].size_bytes < node.size_bytes:
            # Only what shrank is ever joined: the small pieces that ascending keys leave behind are about to grow.
            pieces[0].shrunk = self._is_small(pieces[0])
        return pieces

    def update_leaf(self, pgid: int, node: Node, low: int, high: int, rightmost: bool) -> list[Node] | None:
        """Merges `self.changes[low:high]`, at least one, into a leaf: the pieces of the leaf that results, by `split`.

        `node` is not touched; the pieces have lists of their own. [] if no key is left; None if nothing changes, that is, if
        all changes delete keys that aren't there. Setting a key to the value that it has is a change. The fill of a split is
        APPEND_FILL if the leaf is `rightmost`, and is empty or has only keys below the first change; else `self.fill`.
        Raises `bucket_in_the_way` for a change of a key whose value is a BucketValue, unless the new value is one as well.
        O(keys).
        """
        keys, values = node.keys.copy(), node.values.copy()
        changed = False
        index = 0
        for key, value in zip(self.changes.keys[low:high], self.changes.values[low:high]):
            index = bisect_left(keys, key, index)  # from the last place on, because the changes ascend
            found = index < len(keys) and keys[index] == key
            if found and type(values[index]) is BucketValue and type(value) is not BucketValue:
                raise bucket_in_the_way(key)  # bbolt: incompatible value
            if value is not None:
                keys[index : index + found] = [key]
                values[index : index + found] = [value]
            elif found:
                del keys[index], values[index]
            changed = changed or found or value is not None
        if not changed:
            return None
        if not keys:
            return []
        appended = rightmost and (not node.keys or self.changes.keys[low] > node.keys[-1])
        return Node.leaf(keys, values).split(self.page_bytes, APPEND_FILL if appended else self.fill)

    def update_branch(self, pgid: int, node: Node, low: int, high: int, rightmost: bool) -> list[Node] | None:
        """Deals `self.changes[low:high]` out to the children, and puts what becomes of them into the branch.

        Child i gets the changes whose keys lie in [key i, key i + 1): the first one those below its key as well, the last
        one all above. Each child that gets some is loaded and `update`d, once; what that returns, unless it is None, is what
        `rebuild` needs. A child is on the way to the last key if this branch is, and it is the last child. None if no child
        has changed. O(children that get changes): others are not loaded.
        """
        new_keys = self.changes.keys
        last = len(node.children) - 1
        replaced: dict[int, list[Node]] = {}
        while low < high:
            index = node.child_index(new_keys[low])
            end = high if index == last else bisect_left(new_keys, node.keys[index + 1], low, high)
            child = node.children[index]
            pieces = self.update(child, self.pager.load(child), low, end, rightmost=rightmost and index == last)
            if pieces is not None:
                replaced[index] = pieces
            low = end
        return self.rebuild(pgid, node, replaced, rightmost) if replaced else None

    def rebuild(self, pgid: int, node: Node, replaced: dict[int, list[Node]], rightmost: bool) -> list[Node]:
        """The branch with pieces in the place of some children, as pieces itself, by `split`; [] if no child is left.

        `replaced` has the index of each child that changed, with the pieces that take its place: none, one or several. Of
        all others, the key and the page id stay. A piece's key is its first one. `join_small` is called with all of them,
        before a page is written; then each piece that there still is is written, left to right, and its page id stands in
        the branch. The fill of a split is APPEND_FILL if the branch is `rightmost` and the last child alone was replaced.
        """
        keys, children = node.keys.copy(), list(node.children)
        slots: list[Node | None] = [None] * len(keys)  # beside each child: its piece, or None for one that stays
        for index in reversed(replaced):  # from the right, so that the places to the left stay where they are
            pieces = replaced[index]
            keys[index : index + 1] = [piece.keys[0] for piece in pieces]
            children[index : index + 1] = [UNWRITTEN] * len(pieces)
            slots[index : index + 1] = pieces
        self.join_small(keys, children, slots)
        if not keys:
            return []
        for index, slot in enumerate(slots):
            if slot is not None:
                children[index] = self.write(slot)
        appended = rightmost and list(replaced) == [len(node.children) - 1]
        return Node.branch(keys, children).split(self.page_bytes, APPEND_FILL if appended else self.fill)

    def join_small(self, keys: list[bytes], children: list[int], slots: list[Node | None]) -> None:
        """Joins each piece that has become small (`shrunk`) with its left neighbour, the first with its right one.

        The three lists, of one length, are a branch's children from left to right, and are changed in place: first key, page
        id, piece. A piece has UNWRITTEN for a page id; a child that stays as it is has None for a piece, is loaded if it is
        the neighbour of a small one, and is then dropped. Both together (`joined`) are split with `self.fill`; what comes out
        takes the place of the two, and the walk goes on to the right of it.

        A small piece stays as it is if it has no neighbour; or if its neighbour stays on disk and has several `pages`,
        unless the piece is a branch with one child, which may not stay. (A neighbour that is a piece has to be written in
        any case.) O(children), and one page read for each small piece at most.
        """
        at = 0
        while at < len(keys) and len(keys) > 1:
            piece = slots[at]
            if piece is None or not piece.shrunk:
                at += 1
                continue
            left = max(at - 1, 0)
            both = slice(left, left + 2)
            pair = [(pgid, slot or self.pager.load(pgid)) for pgid, slot in zip(children[both], slots[both])]
            if len(piece.children) != 1 and max(node.pages for _, node in pair) > 1:
                at += 1  # to write a long run again for the sake of a few bytes is worse than a small page
                continue
            for pgid, node in pair:
                if pgid != UNWRITTEN:
                    self.drop(pgid, node.pages, node.born)
            joined = pair[0][1].joined(pair[1][1]).split(self.page_bytes, self.fill)
            keys[both] = [node.keys[0] for node in joined]
            children[both] = [UNWRITTEN] * len(joined)
            slots[both] = joined
            at = left + len(joined)

    def _is_small(self, piece: Node) -> bool:
        return piece.size_bytes < self.page_bytes // SMALL or len(piece.children) == 1

    def plant(self, pieces: list[Node]) -> int:
        """Makes the pieces of the root one tree, writes what is left to write, and returns the root's page.

        Several pieces are written and get a branch above them, which is split with `self.fill`, and so on until there is
        one. No pieces are an empty leaf. A branch over one child is superfluous as a root: it is not written, and the tree
        begins where `sink` says.
        """
        while len(pieces) > 1:  # the tree grows by a level
            keys = [piece.keys[0] for piece in pieces]
            children = [self.write(piece) for piece in pieces]
            pieces = Node.branch(keys, children).split(self.page_bytes, self.fill)
        root = pieces[0] if pieces else Node.leaf([], [])
        return self.sink(root.children[0]) if len(root.children) == 1 else self.write(root)

    def sink(self, pgid: int) -> int:
        """The root of a tree at `pgid`: the first node on the way down that isn't a branch over one child.

        Those above it are dropped. Raises CorruptionError (`pager.too_deep`) after MAX_LEVELS of them.
        """
        for _ in range(MAX_LEVELS):
            node = self.pager.load(pgid)
            if len(node.children) != 1:
                return pgid
            self.drop(pgid, node.pages, node.born)
            pgid = node.children[0]
        raise self.pager.too_deep()

    # --------------------------------------------------------------------------------------------------------- pages

    def encode(self, node: Node) -> bytes:
        """The node's elements and data."""
        return node.body()

    def write(self, node: Node, *, cache: bool = True) -> int:
        """Writes a node to pages of its own, and returns the first one's id.

        It takes as many pages as `run_pages` says, from `allocate`; `encode` has its body, `with_trailer` makes the run of
        it, `pager.write` puts that into the file, with the node for the cache, or None if it isn't to be cached. The node
        then knows its `pages`, and this transaction as `born`; `written` has the run's checksum. Raises StoreFull, OSError.
        """
        node.born = self.txid
        node.pages = run_pages(node.size_bytes, self.page_bytes)
        pgid = self.allocate(node.pages)
        run, crc = with_trailer(pgid, node.flags, len(node.keys), self.encode(node), node.pages, self.page_bytes)
        self.pager.write(pgid, run, node if cache else None)
        self.written[pgid] = crc
        return pgid

    def write_freelist(self, pgid: int, pages: int, count: int, body: bytes) -> None:
        """Writes the freelist's body to the pages that `allocate_freelist` gave: it may have become shorter since."""
        if not pages:
            return
        run, crc = with_trailer(pgid, FREELIST, count, body, pages, self.page_bytes)
        self.pager.write(pgid, run, None)
        self.written[pgid] = crc

    def allocate_freelist(self, ids: int) -> tuple[int, int]:
        """(first page id, pages) of a run for a freelist of so many ids; (NO_FREELIST, 0) if `max_size` leaves no room for it.

        So what was acknowledged can be made durable in a full file as well. The next opening finds the free pages by a
        walk, as with bbolt's NoFreelistSync. (bbolt and LMDB write their list in every commit, and refuse that commit.)
        """
        pages = run_pages(HEADER_BYTES + 8 + 8 * ids, self.page_bytes)
        high_water = self.freelist.high_water
        try:
            return self.allocate(pages), pages
        except StoreFull:
            self.freelist.rollback([self._runs.pop()], high_water)
            return NO_FREELIST, 0

    def allocate(self, pages: int) -> int:
        """The first id of a run of pages that the file has room for. Raises StoreFull, OSError."""
        pgid = self.freelist.allocate(pages)
        self._runs.append((pgid, pages))
        self.pager.grow(self.freelist.high_water)
        return pgid

    def drop(self, pgid: int, pages: int, born: int) -> None:
        """Notes that the new tree doesn't reach the run at `pgid`, which transaction `born` has written."""
        self.dropped += [(page, born) for page in range(pgid, pgid + pages)]

    def rollback(self) -> None:
        """Gives back every page; what was written to them is in nobody's tree."""
        self.pager.forget(pgid for pgid, _ in self._runs)
        self.freelist.rollback(self._runs, self._high_water)
