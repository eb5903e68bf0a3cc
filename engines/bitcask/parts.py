"""The parts of a store that can be replaced: by a faster one, or by nothing.

Each field is a class or a function, and its default is the plain one. `engines/bitcask/fast/` has faster ones for
some, with the same signature and the same answers. The store chooses (store.py):

    parts = FAST if options.fast else PLAIN

A store works without some of them altogether, so that it can be run before they are written: without hints (each
opening reads the data), without merges (garbage stays), without undo maps (a snapshot copies everything). A subclass of
the store says which parts it has; tests/bitcask/half_built.py has these three.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from engines.bitcask.core import Core
from engines.bitcask.log import Log
from engines.bitcask.policy import Merging
from engines.bitcask.segment import SegmentTable
from engines.bitcask.snapshot import BitcaskSnapshot
from engines.bitcask.writer import Writer

__all__ = ["PLAIN", "Parts"]


@dataclass(frozen=True)
class Parts:
    """What a store is made of.

    core        what the others share, and the one read of a value
    writer      writes values, called with the core, the merges and the size of the largest value
    log         the writing end, made by the core
    snapshot    called with the core, and the store that it is to keep open
    merging     the merges, called with the core
    table       reads and writes hints
    """

    core: type[Core] = Core
    writer: type[Writer] = Writer
    log: type[Log] = Log
    snapshot: type[BitcaskSnapshot] = BitcaskSnapshot
    merging: type[Merging] = Merging
    table: type[SegmentTable] = SegmentTable


PLAIN: Final = Parts()
