"""Nodes: a page's content as Python lists, and the rules by which nodes are split and joined.

    leaf     keys    [b"a", b"b", b"f"]        values    [b"1", b"2", b"3"]
    branch   keys    [b"a", b"g", b"p"]        children  [  5,    9,    6 ]     child i has the keys of [key i, key i+1)

Invariants:

1. **A node is never changed** once it belongs to a tree: a change makes another node, which may share the lists that stay
   the same. So nodes can be cached and read by any thread without a lock, and what a commit wrote is the cache.
2. keys ascend strictly. A branch's key is the first key of its child, exactly. For reading a lower bound would do, and
   after a delete the old one still is; but bbolt, when it writes, looks its nodes up in their parents by their first key,
   and inserts a second entry if it isn't there. Its own files have exact keys for the same reason.
3. `size_bytes` is the node on disk without its trailer: 16 + 16 for each element + keys + values.

Splits follow bbolt's: a node that doesn't fit into one page, and has more than four keys, gives its first keys to a page
until that is filled to `fill`, at least two, and so on with the rest. Four or fewer keys share an overflow run.

Follows bbolt's node.go. Left out: its mutable nodes with parent pointers; here a write makes new nodes bottom-up.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable
from itertools import accumulate

from engines.btree.page import (
    BRANCH,
    ELEMENT_BYTES,
    HEADER_BYTES,
    LEAF,
    MAX_COUNT,
    TRAILER_BYTES,
    BucketValue,
    PageError,
    branch_body,
    check_unchecked,
    header,
    kind,
    leaf_body,
    read_branch,
    read_leaf,
    verify_trailer,
)

__all__ = ["EMPTY", "MIN_KEYS", "NO_CHILDREN", "Node", "inline_leaf", "memory_bytes"]

MIN_KEYS = 2  # keys that each side of a split has
NODE_MEMORY_BYTES = 416  # of a Node, its lists' heads, and an entry in a dict of nodes by page id
OBJECT_MEMORY_BYTES = (
    49  # that a bytes object takes beside its bytes: 33, 8 for rounding to 16, 8 for its place in a list
)
NO_CHILDREN = array("Q")


class Node:
    """A branch (with children) or a leaf (with values). `children` is empty for a leaf, and for a leaf only.

    A class with slots and not a dataclass, because every page that is read or written makes one. Page ids are an array:
    a list would be a hundred objects, each to be touched when a branch is copied.
    """

    __slots__ = ("born", "children", "has_buckets", "keys", "packed", "pages", "shrunk", "size_bytes", "values")

    def __init__(self, keys: list[bytes], values: list[bytes], children: array[int], size_bytes: int) -> None:
        self.keys = keys
        self.values = values
        self.children = children
        self.size_bytes = size_bytes
        self.born = 0  # the transaction that wrote it; 0: one before the file was opened, or it isn't known
        self.pages = 1  # of its run on disk
        self.packed = True  # the run's bytes are as page.py would lay them out
        self.has_buckets = False  # some value is a BucketValue
        self.shrunk = False  # tree.py: so far that it should be joined with a neighbour

    @classmethod
    def leaf(cls, keys: list[bytes], values: list[bytes]) -> Node:
        size = HEADER_BYTES + ELEMENT_BYTES * len(keys) + sum(map(len, keys)) + sum(map(len, values))
        node = cls(keys, values, NO_CHILDREN, size)
        node.has_buckets = BucketValue in map(type, values)
        return node

    @classmethod
    def branch(cls, keys: list[bytes], children: Iterable[int]) -> Node:
        size = HEADER_BYTES + ELEMENT_BYTES * len(keys) + sum(map(len, keys))
        return cls(keys, [], array("Q", children), size)

    @classmethod
    def decode(cls, run: bytes, page_bytes: int) -> Node:
        """The node that a run's bytes are, page header included; `packed` and `pages` are set as well.

        Raises PageError if the header's flags are neither LEAF nor BRANCH, if a leaf's first key has no bytes, if
        `read_leaf` or `read_branch` finds something, if the checksum is wrong; or if there is none, and `check_unchecked`
        finds something. Who calls it knows the page's id, and adds it. O(bytes).
        """
        _, flags, count, _ = header.unpack_from(run)
        if flags == LEAF:
            keys, values, used, packed = read_leaf(run, count)
            if keys and not keys[0]:
                raise PageError("it has a key of no bytes")
            node = cls.leaf(keys, values)
        elif flags == BRANCH:
            keys, children, used, packed = read_branch(run, count)
            node = cls.branch(keys, children)
        else:
            raise PageError(f"a branch or a leaf should be here, and it is a {kind(flags)}")
        node.packed = packed
        node.pages = len(run) // page_bytes
        if verify_trailer(run, used) is None:
            check_unchecked(run, used, page_bytes)
        return node

    @property
    def flags(self) -> int:
        """The page header's flags."""
        return BRANCH if self.children else LEAF

    def body(self) -> bytes:
        """Elements and data, as they follow the page header."""
        return branch_body(self.keys, self.children) if self.children else leaf_body(self.keys, self.values)

    def child_index(self, key: bytes) -> int:
        """Which child of a branch `key` belongs to: the last whose key is not above it, else the first.

        A branch has one child at least, and its keys ascend. O(log n) comparisons.
        """
        return bisect_right(self.keys, key, 1) - 1

    def fits(self, page_bytes: int) -> bool:
        """True if the node may stay whole: it fits into one page, or has too few keys to be split."""
        count = len(self.keys)
        if count <= 2 * MIN_KEYS:
            return True
        return self.size_bytes + TRAILER_BYTES <= page_bytes and count <= MAX_COUNT

    def joined(self, right: Node) -> Node:
        """This node and its right neighbour as one, which may be too large."""
        keys = self.keys + right.keys
        if self.children:
            return Node.branch(keys, self.children + right.children)
        return Node.leaf(keys, self.values + right.values)

    def split(self, page_bytes: int, fill: float) -> list[Node]:
        """The node in pieces, each but the last filled to `fill` of a page; [self] if it `fits` as it is.

        A piece takes elements from the left as long as its size stays within `fill` of a page's room, which is the page
        without the trailer; but 2 at least (MIN_KEYS), MAX_COUNT at most, and never so many that fewer than 2 are left.
        What is left is cut in the same way, until it fits. The pieces are nodes of the same kind (`part`), and together
        they have the same elements in the same order. `fill` is above 0, and at most 1. O(n).
        """
        if self.fits(page_bytes):
            return [self]
        ends = list(accumulate(self.element_sizes(), initial=HEADER_BYTES))  # of the node, if it ended before element i
        room = int((page_bytes - TRAILER_BYTES) * fill)
        count = len(self.keys)
        pieces: list[Node] = []
        start = 0
        while count - start > 2 * MIN_KEYS and (
            HEADER_BYTES + ends[count] - ends[start] + TRAILER_BYTES > page_bytes or count - start > MAX_COUNT
        ):
            end = bisect_right(ends, ends[start] - HEADER_BYTES + room) - 1
            end = min(max(end, start + MIN_KEYS), count - MIN_KEYS, start + MAX_COUNT)
            pieces.append(self.part(start, end))
            start = end
        pieces.append(self.part(start, count))
        return pieces

    def element_sizes(self) -> list[int]:
        """The bytes of each element with its key and value."""
        if self.children:
            return [ELEMENT_BYTES + len(key) for key in self.keys]
        return [ELEMENT_BYTES + len(key) + len(value) for key, value in zip(self.keys, self.values)]

    def part(self, start: int, end: int) -> Node:
        """A node of the elements start <= i < end."""
        keys = self.keys[start:end]
        if self.children:
            return Node.branch(keys, self.children[start:end])
        return Node.leaf(keys, self.values[start:end])


EMPTY = Node([], [], NO_CHILDREN, HEADER_BYTES)  # the tree of a bucket that has nothing, or isn't there


def memory_bytes(node: Node) -> int:
    """What a node takes in memory, in bytes: 416 + 49 for each key and each value + their own bytes, + 8 for each child.

    An estimate, held by a test against `tracemalloc`, which doesn't see the rounding to 16 bytes: 1.0 to 1.2 times as much
    for decoded pages. Too much where objects are shared: empty values, and a branch's keys that are its leaves' as well. O(1).
    """
    count = len(node.keys)
    elements = node.size_bytes - HEADER_BYTES - ELEMENT_BYTES * count
    if node.children:
        return NODE_MEMORY_BYTES + elements + (OBJECT_MEMORY_BYTES + 8) * count
    return NODE_MEMORY_BYTES + elements + 2 * OBJECT_MEMORY_BYTES * count


def inline_leaf(page: bytes) -> Node:
    """The leaf that an inline bucket's value has after its 16 bytes. Raises PageError."""
    if len(page) < HEADER_BYTES or header.unpack_from(page)[1] != LEAF:
        raise PageError("an inline bucket's value holds no leaf")
    keys, values, _, _ = read_leaf(page, header.unpack_from(page)[2])
    return Node.leaf(keys, values)
