"""Engines with one part cut out, as a chapter runs them before that part is written. See test_half_built.py.

Each engine hands its parts down as one value (`engines/<engine>/parts.py`), so that a part can be replaced by the least
that works: a filter that says "maybe", a cache that keeps nothing. What is fast is cut piece by piece, too: an
acceleration must not need another one.

    pytest tests/conformance --engine tests/conformance/half_built.py:LsmWithoutFilter
"""

from __future__ import annotations

import dataclasses
from typing import Any

import engines.bitcask.fast
import engines.bitcask.parts
import engines.btree.fast
import engines.btree.parts
import engines.lsm.fast
import engines.lsm.parts
from engines.bitcask import BitcaskStore
from engines.btree import BTreeStore
from engines.btree.node import Node
from engines.btree.provisional import Provisional
from engines.lsm import LsmStore
from engines.lsm.cache import NoBlockCache
from engines.lsm.sstable import Table
from tests.bitcask.half_built import WithoutHints, WithoutMerges, WithoutSnapshots

__all__ = ["ACCELERATIONS", "HALF_BUILT"]


class _NoFilter(Table):
    """Each table may have any key."""

    def may_contain(self, key: bytes) -> bool:
        return True


class _NoCache(dict[int, Node]):
    """Each node is decoded when it is needed."""

    def __setitem__(self, pgid: int, node: Node) -> None:
        return


class _NeverProvisional(Provisional):
    """Each commit is a durable one."""

    @property
    def possible(self) -> bool:
        return False


class LsmWithoutFilter(LsmStore):
    """Each table that may have a key by its bounds is read."""

    parts = dataclasses.replace(engines.lsm.parts.PLAIN, table=_NoFilter)


class LsmWithoutBlockCache(LsmStore):
    """Each block is read from its file."""

    parts = dataclasses.replace(engines.lsm.parts.PLAIN, block_cache=NoBlockCache)


class BTreeWithoutCache(BTreeStore):
    """Each node is read from its page."""

    parts = engines.btree.parts.PLAIN._replace(cache=_NoCache)


class BTreeWithoutProvisionalCommits(BTreeStore):
    """As bbolt: sync=False makes no difference."""

    parts = engines.btree.parts.PLAIN._replace(provisional=_NeverProvisional)


class BitcaskWithoutHints(WithoutHints):
    """The data is read at each opening."""


class BitcaskWithoutMerges(WithoutMerges):
    """No space is given back."""


class BitcaskWithoutSnapshots(WithoutSnapshots):
    """A snapshot copies everything."""


# without → the cases that are about the part itself
HALF_BUILT: dict[str, set[str]] = {
    "LsmWithoutFilter": set(),
    "LsmWithoutBlockCache": set(),
    "BTreeWithoutCache": set(),
    "BTreeWithoutProvisionalCommits": {
        "test_a_store_syncs_each_write_unless_told_otherwise",
        "test_stats_count_bytes_and_syncs",
    },
    "BitcaskWithoutHints": set(),
    "BitcaskWithoutMerges": {"test_compact_gives_space_back"},
    "BitcaskWithoutSnapshots": {"test_a_scan_reads_no_more_than_is_asked_for"},
}


ACCELERATIONS: list[str] = []  # classes for the fast form with one acceleration cut


def _without_acceleration(store: type[Any], fast: Any, plain: Any, name: str) -> None:
    """A class for the store in its fast form with one part plain."""
    change = fast._replace if hasattr(fast, "_replace") else lambda **part: dataclasses.replace(fast, **part)
    title = f"{store.__name__.removesuffix('Store')}WithoutFast{name.title().replace('_', '')}"
    globals()[title] = type(title, (store,), {"parts": change(**{name: getattr(plain, name)}), "__module__": __name__})
    ACCELERATIONS.append(title)


for _store, _fast, _plain in (
    (LsmStore, engines.lsm.fast.FAST, engines.lsm.parts.PLAIN),
    (BTreeStore, engines.btree.fast.FAST, engines.btree.parts.PLAIN),
    (BitcaskStore, engines.bitcask.fast.FAST, engines.bitcask.parts.PLAIN),
):
    for _name in _plain._fields if hasattr(_plain, "_fields") else [field.name for field in dataclasses.fields(_plain)]:
        if getattr(_fast, _name) is not getattr(_plain, _name):
            _without_acceleration(_store, _fast, _plain, _name)
