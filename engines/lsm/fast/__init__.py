"""The accelerations of the LSM engine, each in place of a plain part (engines/lsm/parts.py).

Read this last: nothing here is needed to understand the engine, and `plain=True` runs it without.
"""

from typing import Final

from engines.lsm.fast.batch import encode_batch
from engines.lsm.fast.job import FastTableWriter, compact, flush
from engines.lsm.fast.memtable import new_memtable
from engines.lsm.fast.reading import lookup, pairs
from engines.lsm.fast.sstable import FastTable
from engines.lsm.parts import Parts

__all__ = ["FAST"]

FAST: Final = Parts(
    new_memtable=new_memtable,
    encode_batch=encode_batch,
    fast_put=True,
    table=FastTable,
    lookup=lookup,
    pairs=pairs,
    table_writer=FastTableWriter,
    flush=flush,
    compact=compact,
)
