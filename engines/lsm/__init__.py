"""The LSM engine, in LevelDB's own format: FORMAT.md has the bytes, LEVELDB.md the differences, store.py the contract.

To read it, begin at the bottom:

    keys  skiplist  memtable  wal           what a write becomes: a row, in memory and in the log
    block  bloom  table_builder  sstable    what a flush makes of it: a table
    cache  merge  state                     how it is read: one stream of rows, and what of it is visible
    version  manifest  table_cache          which tables there are, and how that changes
    compaction  job  core                   what keeps them few, and how the state changes
    flusher  compactor  background          who does that, and when
    writer  recovery  snapshot  store       the store
    fast                                    what makes it fast, each beside its plain form; nothing needs it

The others (bulk, checkpoint, dump, foreign, inspect, repair, verify) are tools, in any order.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engines.lsm.store import LsmStore

__all__ = ["LsmStore"]


def __getattr__(name: str) -> object:
    """The store, when it is asked for: a worker process (worker.py) needs none, and starts in 69 ms in place of 80."""
    if name == "LsmStore":
        return importlib.import_module("engines.lsm.store").LsmStore
    raise AttributeError(f"the module {__name__} has no {name}")
