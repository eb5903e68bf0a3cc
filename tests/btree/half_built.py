"""Stores that lack a part, as a chapter runs them before the part is written (engines/btree/parts.py)."""

from __future__ import annotations

from engines.btree import BTreeStore
from engines.btree.freelist import Freelist
from engines.btree.node import Node
from engines.btree.parts import PLAIN
from engines.btree.provisional import Provisional

__all__ = ["HALF_BUILT", "WithoutCache", "WithoutProvisional", "WithoutReuse"]


class NoCache(dict[int, Node]):
    """Each node is read from the file."""

    def __setitem__(self, pgid: int, node: Node) -> None:
        pass


class DurableOnly(Provisional):
    """Each commit takes two fsyncs, asked for or not."""

    possible = False


class NoReuse(Freelist):
    """Free pages are listed, and never given out: the file only grows."""

    def allocate(self, count: int) -> int:
        pgid = self.high_water
        self.high_water += count
        return pgid


class WithoutCache(BTreeStore):
    parts = PLAIN._replace(cache=NoCache)


class WithoutProvisional(BTreeStore):
    parts = PLAIN._replace(provisional=DurableOnly)


class WithoutReuse(BTreeStore):
    parts = PLAIN._replace(freelist=NoReuse)


HALF_BUILT: list[type[BTreeStore]] = [WithoutCache, WithoutProvisional, WithoutReuse]
