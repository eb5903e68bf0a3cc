"""A get without a pin, and scans whose first leaf is found without a generator for each level."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from typing import NoReturn

from engines.btree import current as plain
from engines.btree.current import Current
from engines.btree.cursor import leaves_forward, without_buckets
from engines.btree.cursor import scan_tree as plain_scan_tree
from engines.btree.node import Node
from engines.btree.pager import MAX_LEVELS, Pager
from engines.btree.pins import Pin
from engines.kvstore import Pair

__all__ = ["read_one", "scan_tree"]

_STEPS_DOWN = range(MAX_LEVELS)


def read_one(current: Current, key: bytes) -> bytes | None:
    """current.read_one, without a pin, as long as every node on the way is cached: 1.8 µs -> 0.8 µs for a get.

    Costs: a second look at the current state. Without a pin a page may be written again meanwhile, and lead astray; but
    not without a newer state being there at the end. Then, and when a node isn't cached, the plain form reads again.
    """
    state = current.state
    nodes = state.pager.nodes
    node = state.root
    try:
        for _ in _STEPS_DOWN:
            if not node.children:
                break
            node = nodes[node.children[bisect_right(node.keys, key, 1) - 1]]
    except KeyError:
        return plain.read_one(current, key)
    keys = node.keys
    index = bisect_left(keys, key)
    value = node.values[index] if index < len(keys) and keys[index] == key else None
    if current.state is not state or node.children:
        return plain.read_one(current, key)
    return value


Dead = Callable[[], NoReturn]


def scan_tree(
    pager: Pager, root: Node, start: bytes, stop: bytes | None, reverse: bool, alive: list[object], dead: Dead, pin: Pin
) -> Iterator[Pair]:
    """cursor.scan_tree; forward, no generator for each level leads to the first leaf: ten pairs 3.4 µs -> 3.1 µs.

    Costs: the way down once more, to the second leaf. Less than a third, and kept because short scans had become slower.
    """
    if reverse:
        return plain_scan_tree(pager, root, start, stop, reverse, alive, dead, pin)
    return _ascend(pager, root, start, stop, alive, dead, pin)


def _ascend(
    pager: Pager, root: Node, start: bytes, stop: bytes | None, alive: list[object], dead: Dead, pin: Pin
) -> Iterator[Pair]:
    node: Node | None
    node = root
    beyond: bytes | None = None  # the first key of the leaf after this one; None if this is the last
    leaves: Iterator[Node] | None = None
    for _ in _STEPS_DOWN:
        if not node.children:
            break
        index = bisect_right(node.keys, start, 1)
        if index < len(node.keys):
            beyond = node.keys[index]
        node = pager.load(node.children[index - 1])
    else:
        raise pager.too_deep()
    while node is not None:
        keys, values = node.keys, node.values
        low = bisect_left(keys, start) if keys and keys[0] < start else 0
        high = bisect_left(keys, stop) if stop is not None and keys and keys[-1] >= stop else len(keys)
        if low > 0 or high < len(keys):
            keys, values = keys[low:high], values[low:high]
        pairs = zip(keys, values)
        for pair in without_buckets(pairs) if node.has_buckets else pairs:
            if not alive:
                dead()
            yield pair
        if high < len(node.keys):
            return
        if leaves is None:
            leaves = iter(()) if beyond is None else leaves_forward(pager, root, beyond)
        node = next(leaves, None)
    if not alive:
        dead()
