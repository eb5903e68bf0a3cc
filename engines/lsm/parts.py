"""The parts of a store that can be replaced: by a faster one, or by nothing.

Each field is a class or a function, and its default is the plain one, as the chapters have it. `engines/lsm/fast` has
another one for most of them, with the same signature and the same answers. The store chooses (store.py):

    parts = FAST if options.fast else PLAIN

A store works without some parts altogether: `replace(PLAIN, block_cache=NoBlockCache)` reads each block from the file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from engines.lsm.cache import BlockCache

__all__ = ["PLAIN", "Parts"]


@dataclass(frozen=True)
class Parts:
    """What a store is made of.

    block_cache    keeps blocks that were read; called with its capacity in bytes
    """

    block_cache: type[BlockCache] = BlockCache


PLAIN: Final = Parts()
