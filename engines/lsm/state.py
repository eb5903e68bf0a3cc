"""What a reader reads: the memtables and the tables of one moment.

A reader takes the state and the last sequence, and works on these two. Nothing that happens afterwards changes them:
a write makes rows with higher sequences, a flush or a compaction makes another state.
"""

from __future__ import annotations

from typing import NamedTuple

from engines.lsm.memtable import MemTable
from engines.lsm.version import Version

__all__ = ["State"]


class State(NamedTuple):
    """One state of a store: `frozen` are the memtables that wait for their flush, newest first."""

    memtable: MemTable
    frozen: tuple[MemTable, ...]
    version: Version
