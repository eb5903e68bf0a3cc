"""What a store of this engine can be told, with LevelDB's names and numbers where LevelDB has them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Final, Literal

from engines.errors import InvalidOption
from engines.lsm import snappy
from engines.options import Bounds, EngineOptions

__all__ = ["LEVELS", "Options"]

LEVELS: Final = 7  # 0 to 6; the manifest of LevelDB knows no more

KIB: Final = 1 << 10
MIB: Final = 1 << 20

Positive = Annotated[int, Bounds(least=1)]


@dataclass(frozen=True, kw_only=True)
class Options(EngineOptions):
    """Those of every engine, and:

    memtable                 "skiplist", or "sorted" (on demand), of the plain form: engines/lsm/memtable.py compares them.
                             The fast form has one for both (engines/lsm/fast/memtable.py)
    write_buffer_bytes       a memtable of this size is flushed: more is faster, and longer to recover
    max_frozen               full memtables that may wait for their flush; for more, writes wait
    block_bytes              of a data block before compression
    block_restart_interval   entries between two keys in full
    max_file_bytes           a table is cut at this size
    filter                   "bloom" (ours), "leveldb" (LevelDB's own, in its format), or None
    bloom_bits_per_key       10 is 1 % false positives; each 5 more is a tenth of them
    compression              "keep": tables are written as those they replace (engines/lsm/compression.py); None: as they
                             are; "snappy": new ones too. Writing snappy needs cramjam, reading it doesn't; without
                             it, "keep" writes them uncompressed, and the store grows
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
    compaction_process       who flushes and compacts, with `background`. None: a process of the store's own (with the real
                             Env), started when the first memtable is half full (for a MiB or more), and the threads where it can't be, and in the plain
                             form; True: also for less; False: the threads, which share Python's lock with the users
    read_only                open without writing anything: logs are replayed into memory. LOCK is shared if it is there:
                             a writer of either kind of lock is seen, and a later one kept out. Without LOCK, no writer
                             is seen, and beside one that works without it (who deleted it?) nothing is promised
    """

    engine: ClassVar[str] = "lsm"

    memtable: Literal["skiplist", "sorted"] = "skiplist"
    write_buffer_bytes: Positive = 4 * MIB
    max_frozen: Positive = 4
    block_bytes: Positive = 4 * KIB
    block_restart_interval: Positive = 16
    max_file_bytes: Positive = 2 * MIB
    filter: Literal["bloom", "leveldb"] | None = "bloom"
    bloom_bits_per_key: Positive = 10
    compression: Literal["keep", "snappy"] | None = "keep"
    table_statistics: bool = True
    cache_bytes: Annotated[int, Bounds(least=0)] = 64 * MIB
    max_manifest_bytes: Positive = 4 * MIB
    max_open_files: Positive = 500
    level0_files: Positive = 4
    level0_slowdown_files: int = 20
    level0_stop_files: int = 36
    level_base_bytes: Positive = 10 * MIB
    tombstone_ratio: Annotated[float, Bounds(above=0, most=1)] | None = 0.5
    background: bool = True
    compaction_process: bool | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.level0_files <= self.level0_slowdown_files <= self.level0_stop_files:
            raise InvalidOption(
                "the engine 'lsm' wants level0_files <= level0_slowdown_files <= level0_stop_files, and these are "
                f"{self.level0_files}, {self.level0_slowdown_files} and {self.level0_stop_files}"
            )
        if self.compression == "snappy" and not snappy.can_compress():
            raise InvalidOption("compression='snappy' needs the package cramjam: pip install cramjam")

    def level_bytes(self, level: int) -> int:
        """What a level from 1 on may hold before it is compacted into the next."""
        return self.level_base_bytes * int(10 ** (level - 1))
