"""The parts of a store that others can stand in for: the plain ones, unless the store is told otherwise.

    PLAIN                    every part as its own module has it
    fast.FAST                some of them accelerated, with the same bytes on disk and the same answers
    PLAIN._replace(...)      a store with a part left out, to see what it is good for

Each field is a function or a class. What stands in has the same signature: a subclass, or a function of the same
arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from engines.btree.current import Current, read_one
from engines.btree.cursor import scan_tree
from engines.btree.freelist import Freelist
from engines.btree.node import Node
from engines.btree.provisional import Provisional
from engines.btree.tree import TreeWriter
from engines.kvstore import Pair

__all__ = ["PLAIN", "Parts"]


class Parts(NamedTuple):
    """What a store is put together from, where there is a choice."""

    read_one: Callable[[Current, bytes], bytes | None] = read_one
    scan_tree: Callable[..., Iterator[Pair]] = scan_tree
    tree_writer: type[TreeWriter] = TreeWriter
    provisional: type[Provisional] = Provisional  # `possible` may be False for ever: each commit is then a durable one
    freelist: type[Freelist] = Freelist  # may give out new pages only: the file then grows
    cache: type[dict[int, Node]] = dict  # of decoded nodes; may keep none
    decode: Callable[[bytes, int], Node] = Node.decode


PLAIN = Parts()
