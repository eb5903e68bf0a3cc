"""Finding one's way in a tree: one key, a range in either direction, and a cursor that can be moved.

    scan     root, child 2 ->  branch, child 0 -> leaf       the way down to a leaf is kept: what comes next is known
             root, child 2 ->  branch, child 1 -> leaf       without asking the tree again
             root, child 3 ->  branch, child 0 -> leaf

Leaves have no links to their neighbours, because a copy-on-write leaf could not be replaced without its neighbours then;
a scan keeps the way down from the root, a generator for each level that stands at one of its children.

A `Cursor` doesn't remember a place in a page, but the key it stands on. So it survives every delete, its own included:
`next` is the first key after the one it stood on, whatever happened to that. (bbolt's cursor skips the following key
after a delete, its issue 146.)

Costs: a seek O(height), with one bisection for each level; a step of a scan O(1), some 60 ns. A cursor's step is a scan's
unless the cursor was moved or turned round.

Requires, of everything here: the caller has pinned the tree, so that no page of it is written meanwhile.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from typing import NoReturn, Protocol

from engines.btree.node import Node
from engines.btree.page import BucketValue
from engines.btree.pager import MAX_LEVELS, Pager
from engines.btree.pins import Pin
from engines.kvstore import Pair

__all__ = ["Cursor", "Scannable", "leaves_backward", "leaves_forward", "lookup", "scan_tree"]


def lookup(pager: Pager, root: Node, key: bytes) -> bytes | None:
    """The value of `key` in the tree under `root`, a BucketValue if that is what it is; None if it is absent.

    `pager.load` has a child's node by its page id. Raises CorruptionError (`pager.too_deep`) after MAX_LEVELS branches
    without a leaf: a damaged branch may point to its own ancestor. O(height): one page for each level.
    """
    node = root
    for _ in range(MAX_LEVELS):
        if not node.children:
            break
        node = pager.load(node.children[node.child_index(key)])
    else:
        raise pager.too_deep()
    keys = node.keys
    index = bisect_left(keys, key)
    return node.values[index] if index < len(keys) and keys[index] == key else None


def leaves_forward(pager: Pager, node: Node, start: bytes, levels: int = MAX_LEVELS) -> Iterator[Node]:
    """The leaves of the tree under `node` in order, from the one that `start` belongs to.

    Lazily: a page is loaded when it is its turn, and none before the path to `start`. `levels` is how many levels of
    branches may still come; raises CorruptionError (`pager.too_deep`) for a branch where that is 0.
    """
    if not node.children:
        yield node
        return
    if not levels:
        raise pager.too_deep()
    for index in range(node.child_index(start), len(node.children)):
        child = pager.load(node.children[index])
        if child.children:
            yield from leaves_forward(pager, child, start, levels - 1)
        else:
            yield child


def leaves_backward(pager: Pager, node: Node, stop: bytes | None, levels: int = MAX_LEVELS) -> Iterator[Node]:
    """The leaves of the tree under `node` against their order, from the one with the last key below `stop`.

    `stop` None is the last leaf. A child may be left out only if all of its keys are at or above `stop`; the first child
    of a branch is never left out. Otherwise as `leaves_forward`.
    """
    if not node.children:
        yield node
        return
    if not levels:
        raise pager.too_deep()
    last = len(node.children) if stop is None else max(bisect_left(node.keys, stop), 1)
    for index in reversed(range(last)):
        child = pager.load(node.children[index])
        if child.children:
            yield from leaves_backward(pager, child, stop, levels - 1)
        else:
            yield child


def scan_tree(
    pager: Pager,
    root: Node,
    start: bytes,
    stop: bytes | None,
    reverse: bool,
    alive: list[object],
    dead: Callable[[], NoReturn],
    pin: Pin,
) -> Iterator[Pair]:
    """The pairs with start <= key < stop in order, or against it, without those that are buckets.

    `alive` is emptied when the store or the snapshot is closed; `dead` then says so. The generator holds `pin` until it
    is exhausted, closed or collected.
    """
    for node in leaves_backward(pager, root, stop) if reverse else leaves_forward(pager, root, start):
        keys, values = node.keys, node.values
        low = bisect_left(keys, start) if keys and keys[0] < start else 0
        high = bisect_left(keys, stop) if stop is not None and keys and keys[-1] >= stop else len(keys)
        if low > 0 or high < len(keys):
            keys, values = keys[low:high], values[low:high]
        pairs = zip(reversed(keys), reversed(values)) if reverse else zip(keys, values)
        for pair in without_buckets(pairs) if node.has_buckets else pairs:
            if not alive:
                dead()
            yield pair
        if low > 0 if reverse else high < len(node.keys):
            return  # the bound lies in this leaf
    if not alive:
        dead()


def without_buckets(pairs: Iterable[Pair]) -> Iterator[Pair]:
    """The pairs that are no buckets."""
    return (pair for pair in pairs if type(pair[1]) is not BucketValue)


class Scannable(Protocol):
    """What a cursor moves over: a transaction, or a bucket."""

    def scan(self, start: bytes = b"", stop: bytes | None = None, *, reverse: bool = False) -> Iterator[Pair]: ...


class Cursor:
    """A place in a transaction's keys, in bbolt's words: first, last, seek, next, prev, delete.

    Each move returns the pair it arrives at, or None beyond either end. In a transaction that writes, a move sees what was
    written so far. After `delete` the cursor stands between two keys, and `next` and `prev` lead to them.
    """

    def __init__(self, pairs: Scannable, delete: Callable[[bytes], None]) -> None:
        self._pairs = pairs
        self._delete = delete
        self._key: bytes | None = None  # where it stands; None: nowhere yet
        self._beyond = 0  # 1: past the last key; -1: before the first
        self._ahead: Iterator[Pair] | None = None  # a scan that goes on from here, in the direction of the last move
        self._reverse = False

    def first(self) -> Pair | None:
        """The smallest key's pair."""
        return self._start(b"", reverse=False)

    def last(self) -> Pair | None:
        """The greatest key's pair."""
        return self._start(None, reverse=True)

    def seek(self, key: bytes) -> Pair | None:
        """The first pair at or after `key`."""
        return self._start(key, reverse=False)

    def next(self) -> Pair | None:
        """The pair after the one it stands on; the first one, if it stands nowhere or before the first."""
        return self._step(reverse=False)

    def prev(self) -> Pair | None:
        """The pair before the one it stands on; the last one, if it stands nowhere or past the last."""
        return self._step(reverse=True)

    def delete(self) -> None:
        """Deletes the key it stands on; deleting it again does nothing. Raises ReadOnly in a view."""
        if self._key is not None:
            self._delete(self._key)

    def _step(self, *, reverse: bool) -> Pair | None:
        if self._beyond == (-1 if reverse else 1):
            return None
        if self._key is None:
            return self.last() if reverse else self.first()
        if self._ahead is None or self._reverse is not reverse:
            return self._start(self._key if reverse else self._key + b"\0", reverse=reverse)
        return self._arrive(next(self._ahead, None))

    def _start(self, bound: bytes | None, *, reverse: bool) -> Pair | None:
        self._reverse = reverse
        self._ahead = self._pairs.scan(b"", bound, reverse=True) if reverse else self._pairs.scan(bound or b"")
        return self._arrive(next(self._ahead, None))

    def _arrive(self, pair: Pair | None) -> Pair | None:
        if pair is None:
            self._ahead = self._key = None
            self._beyond = -1 if self._reverse else 1
        else:
            self._key = pair[0]
            self._beyond = 0
        return pair
