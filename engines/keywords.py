"""The options of the registry's engines as types, for editors and mypy: what `engines.open(path, "lsm", ...)` takes.

Each class repeats the fields of its engine's Options, which can't be imported here without importing the engine; a test
holds the two equal. Nothing looks at these when a program runs: engines/options.py checks what is given.
"""

from __future__ import annotations

from typing import Literal, TypedDict

__all__ = ["BTreeKeywords", "BitcaskKeywords", "EngineKeywords", "LsmKeywords", "MemoryKeywords"]


class EngineKeywords(TypedDict, total=False):
    """What every engine takes: engines.options.EngineOptions."""

    sync: bool
    create: bool
    read_only: bool
    plain: bool


class MemoryKeywords(EngineKeywords, total=False):
    """engines.memory.Options."""


class LsmKeywords(EngineKeywords, total=False):
    """engines.lsm.options.Options."""

    memtable: Literal["skiplist", "sorted"]
    write_buffer_bytes: int
    max_frozen: int
    block_bytes: int
    block_restart_interval: int
    max_file_bytes: int
    filter: Literal["bloom", "leveldb"] | None
    bloom_bits_per_key: int
    compression: Literal["keep", "snappy"] | None
    table_statistics: bool
    cache_bytes: int
    max_manifest_bytes: int
    max_open_files: int
    level0_files: int
    level0_slowdown_files: int
    level0_stop_files: int
    level_base_bytes: int
    tombstone_ratio: float | None
    background: bool
    compaction_process: bool | None


class BTreeKeywords(EngineKeywords, total=False):
    """engines.btree.options.Options."""

    bucket: bytes | None
    page_size: int
    fill_percent: float
    max_size: int | None
    cache_bytes: int


class BitcaskKeywords(EngineKeywords, total=False):
    """engines.bitcask.options.Options."""

    max_file_size: int
    max_open_files: int
    merge: Literal["inline", "thread", "manual"]
    garbage_share: float
    dead_bytes: int
    repair: bool
