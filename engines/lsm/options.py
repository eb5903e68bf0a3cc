"""What a store of this engine can be told, with LevelDB's names and numbers where LevelDB has them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Final, Literal

from engines.errors import InvalidOption
from engines.lsm import snappy

__all__ = ["LEVELS", "Options"]

LEVELS: Final = 7  # 0 to 6; the manifest of LevelDB knows no more

KIB: Final = 1 << 10
MIB: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """All options but `sync`, `env` and the path. Raises InvalidOption for what makes no sense.

    memtable                 "skiplist", or "sorted" (on demand): engines/lsm/memtable.py compares them
    write_buffer_bytes       a memtable of this size is flushed: more is faster, and longer to recover
    max_frozen               full memtables that may wait for their flush; for more, writes wait
    block_bytes              of a data block before compression
    block_restart_interval   entries between two keys in full
    max_file_bytes           a table is cut at this size
    filter                   "bloom" (ours), "leveldb" (LevelDB's own, in its format), or None
    bloom_bits_per_key       10 is 1 % false positives; each 5 more is a tenth of them
    compression              None, or "snappy" (needs cramjam; reading it doesn't)
    table_statistics         tables carry counts; without them LevelDB's bytes, and no scores for tombstones
    cache_bytes              for decoded blocks
    max_manifest_bytes       a manifest of this size is followed by a new one
    max_open_files           tables that are kept open
    level0_files             level 0 is compacted at so many files
    level0_slowdown_files    each write waits a millisecond from so many on
    level0_stop_files        writes wait for a compaction from so many on
    level_base_bytes         what level 1 may hold; each deeper level ten times more
    tombstone_ratio          a table with a larger part of tombstones is compacted for its own sake; None: never
    background               True: a thread flushes and another one compacts; False: the writer does, in write()
    compaction_process       flush and compaction run in two processes of their own (with the real Env only)
    create                   make a store if none is there
    read_only                open without writing anything: logs are replayed into memory. LOCK is shared if it is there:
                             a writer of either kind of lock is seen, and a later one kept out. Without LOCK, no writer
                             is seen, and beside one that works without it (who deleted it?) nothing is promised
    """

    memtable: Literal["skiplist", "sorted"] = "skiplist"
    write_buffer_bytes: int = 4 * MIB
    max_frozen: int = 4
    block_bytes: int = 4 * KIB
    block_restart_interval: int = 16
    max_file_bytes: int = 2 * MIB
    filter: Literal["bloom", "leveldb"] | None = "bloom"
    bloom_bits_per_key: int = 10
    compression: Literal["snappy"] | None = None
    table_statistics: bool = True
    cache_bytes: int = 64 * MIB
    max_manifest_bytes: int = 4 * MIB
    max_open_files: int = 500
    level0_files: int = 4
    level0_slowdown_files: int = 20
    level0_stop_files: int = 36
    level_base_bytes: int = 10 * MIB
    tombstone_ratio: float | None = 0.5
    background: bool = True
    compaction_process: bool = False
    create: bool = True
    read_only: bool = False

    def __post_init__(self) -> None:
        for name, least in _LEAST.items():
            if getattr(self, name) < least:
                raise InvalidOption(f"{name} must be at least {least}, and is {getattr(self, name)}")
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise InvalidOption(f"{name} must be one of {choices}, and is {getattr(self, name)!r}")
        if not self.level0_files <= self.level0_slowdown_files <= self.level0_stop_files:
            raise InvalidOption("level0_files <= level0_slowdown_files <= level0_stop_files must hold")
        if self.compression == "snappy" and not snappy.can_compress():
            raise InvalidOption("compression='snappy' needs the package cramjam: pip install cramjam")
        if self.tombstone_ratio is not None and not 0 < self.tombstone_ratio <= 1:
            raise InvalidOption(f"tombstone_ratio must be above 0 and at most 1, and is {self.tombstone_ratio}")

    @classmethod
    def of(cls, options: dict[str, Any]) -> Options:
        """Checks the names, too."""
        known = {field.name for field in fields(cls)}
        if unknown := sorted(options.keys() - known):
            raise InvalidOption(f"the engine 'lsm' has no option {unknown[0]!r}; it has {', '.join(sorted(known))}")
        return cls(**options)

    def level_bytes(self, level: int) -> int:
        """What a level from 1 on may hold before it is compacted into the next."""
        return self.level_base_bytes * int(10 ** (level - 1))


_LEAST: Final = {
    "write_buffer_bytes": 1,
    "max_frozen": 1,
    "block_bytes": 1,
    "block_restart_interval": 1,
    "max_file_bytes": 1,
    "bloom_bits_per_key": 1,
    "cache_bytes": 0,
    "max_manifest_bytes": 1,
    "max_open_files": 1,
    "level0_files": 1,
    "level_base_bytes": 1,
}
_CHOICES: Final = {
    "memtable": ("skiplist", "sorted"),
    "filter": ("bloom", "leveldb", None),
    "compression": ("snappy", None),
}
