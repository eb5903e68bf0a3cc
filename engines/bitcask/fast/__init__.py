"""The accelerations of the Bitcask engine, each in place of a plain one of the same signature.

| module   | in place of       | what it saves                                                     |
|----------|-------------------|-------------------------------------------------------------------|
| writing  | Writer            | a put and a delete without a batch                                |
| batches  | Log               | the records of a batch in one loop                                |
| sealing  | Log               | a hint without a table of the segment's keys                      |
| reading  | Core              | a read of a value: a record is taken apart in two steps of C       |
| scanning | BitcaskSnapshot   | scans that read a record without a call for each                  |

Read this last: nothing here is needed to understand the engine, and `plain=True` runs it without.
tests/bitcask/test_bitcask_fast.py holds both forms to the same files, byte for byte, and the same answers.

Tried, and left out because it saves less than a third of the plain form: the next keys of a scan with fewer calls (16 of
them 1.1 µs -> 1.0 µs).
"""

from __future__ import annotations

from typing import Final

from engines.bitcask.fast.batches import FastLog
from engines.bitcask.fast.reading import FastCore
from engines.bitcask.fast.scanning import FastSnapshot
from engines.bitcask.fast.writing import FastWriter
from engines.bitcask.parts import Parts

__all__ = ["FAST"]

FAST: Final = Parts(core=FastCore, writer=FastWriter, log=FastLog, snapshot=FastSnapshot)
