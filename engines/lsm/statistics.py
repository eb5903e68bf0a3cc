"""What a table says about itself, and what all tables of a store count.

    metcd.statistics   varint64 each: entries │ deletions │ versions │ max_sequence │ key bytes │ value bytes
                       │ min_sequence, which tables of the first versions lack

No row has a sequence above `max_sequence` or below `min_sequence`; they are bounds, and 0 is a bound that says nothing.
The block is ours: LevelDB ignores meta blocks that it doesn't know, and its compactions drop them. So everything works
without it, only more slowly (trailers are looked at in every scan), and tombstones have no score.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from engines.coding import get_varint64, put_varint
from engines.kvstore import Stats

__all__ = ["Counters", "TableInfo", "TableStatistics"]


@dataclass(slots=True)
class TableStatistics:
    """What a table says about itself; the module's docstring explains the fields, in the order on disk."""

    entries: int = 0
    deletions: int = 0
    versions: int = 0
    max_sequence: int = 0
    key_bytes: int = 0
    value_bytes: int = 0
    min_sequence: int = 0

    def encode(self) -> bytes:
        """The meta block's bytes."""
        values = [getattr(self, field.name) for field in fields(self)]
        return b"".join(map(put_varint, values if self.min_sequence else values[:-1]))

    @classmethod
    def decode(cls, raw: bytes) -> TableStatistics:
        """From the meta block's bytes; further fields of later versions are ignored. Raises DecodeError."""
        values, at = [], 0
        for field in fields(cls):
            if field.name == "min_sequence" and at == len(raw):
                break
            value, at = get_varint64(raw, at)
            values.append(value)
        return cls(*values)

    @property
    def simple(self) -> bool:
        """True if no two rows have the same user key, and none is a tombstone."""
        return not self.deletions and not self.versions


@dataclass(frozen=True, slots=True)
class TableInfo:
    """What a finished table is to the manifest: size of the file in bytes, first and last internal key."""

    size_bytes: int
    smallest: bytes
    largest: bytes
    statistics: TableStatistics


class Counters:
    """What tables count, over all tables of a store."""

    __slots__ = ("block_lookups", "blocks_read", "bytes_read", "cache_misses", "filter_hits", "tombstones")

    def __init__(self) -> None:
        self.block_lookups = 0  # blocks that were needed, in the cache or not
        self.blocks_read = 0
        self.bytes_read = 0
        self.cache_misses = 0  # of the lookups, those that had to read the file
        self.filter_hits = 0  # times that a filter said "certainly not here"
        self.tombstones = 0  # that scans have stepped over

    def add_to(self, stats: Stats) -> None:
        """Puts the counters where the contract has them."""
        stats.reads += self.blocks_read
        stats.bytes_read += self.bytes_read
        stats.engine |= {
            "block_lookups": self.block_lookups,
            "block_cache_hits": self.block_lookups - self.cache_misses,
            "block_cache_misses": self.cache_misses,
            "filter_hits": self.filter_hits,
            "tombstones_stepped_over": self.tombstones,
        }
