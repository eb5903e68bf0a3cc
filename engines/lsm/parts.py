"""The parts of a store that can be replaced: by a faster one, or by nothing.

Each field is a class or a function, and its default is the plain one, as the chapters have it. `engines/lsm/fast` has
another one for most of them, with the same signature and the same answers. The store chooses (store.py):

    parts = FAST if options.fast else PLAIN

A store works without some things altogether, so that each can be built after the others:

    the cache       replace(PLAIN, block_cache=NoBlockCache): each block is read from the file
    filters         the option filter=None: no table has one, and `may_contain` says True
    snapshots       the core then knows no view, and a compaction keeps only the newest versions
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from engines.kvstore import Operation, Pair, Usable
from engines.lsm.cache import BlockCache, SharedBlockCache
from engines.lsm.job import Job, TableWriter, compact, flush
from engines.lsm.keys import Found
from engines.lsm.memtable import MemTable, new_memtable
from engines.lsm.sstable import Table
from engines.lsm.state import Scan, State, View, lookup, pairs
from engines.lsm.table_cache import TableCache
from engines.lsm.version import FileMeta
from engines.lsm.wal import encode_batch

__all__ = ["PLAIN", "Parts"]


@dataclass(frozen=True)
class Parts:
    """What a store is made of.

    new_memtable    makes a memtable of the given representation
    encode_batch    makes the log's record of a batch
    fast_put        True: a put takes the fast path of fast/writer.py
    block_cache     keeps blocks that were read; without it: NoBlockCache
    table           reads a table
    lookup          finds the newest value of a key
    pairs           goes through the pairs of a range
    table_writer    writes rows to tables
    flush           writes a memtable to tables
    compact         writes the rows of some tables to new ones
    """

    new_memtable: Callable[[str, random.Random, int], MemTable] = new_memtable
    encode_batch: Callable[[int, Sequence[Operation]], bytes] = encode_batch
    fast_put: bool = False
    block_cache: type[BlockCache] = SharedBlockCache
    table: type[Table] = Table
    lookup: Callable[[State, TableCache, bytes, int], Found] = lookup
    pairs: Callable[[State, TableCache, Scan, Usable, View | None, object], Iterator[Pair]] = pairs
    table_writer: type[TableWriter] = TableWriter
    flush: Callable[[MemTable, int, TableWriter], list[FileMeta]] = flush
    compact: Callable[[Job, TableWriter, TableCache], list[FileMeta]] = compact


PLAIN: Final = Parts()
