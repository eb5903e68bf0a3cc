"""What flushes and compactions have done since the store was opened: counters for `stats` and LevelDB's properties."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

from engines.lsm.options import LEVELS
from engines.lsm.version import FileMeta

__all__ = ["LevelWork", "Work"]


@dataclass(slots=True)
class LevelWork:
    """What making the tables of one level has cost, as in LevelDB's property "leveldb.stats"."""

    seconds: float = 0.0
    bytes_read: int = 0
    bytes_written: int = 0

    def add(self, seconds: float, inputs: Sequence[FileMeta], outputs: Sequence[FileMeta]) -> None:
        """One flush or compaction more."""
        self.seconds += seconds
        self.bytes_read += sum([file.size_bytes for file in inputs])
        self.bytes_written += sum([file.size_bytes for file in outputs])


@dataclass(slots=True)
class Work:
    """Each field is a counter of `stats().engine`; the flush lane, the compaction lane and the writer have some each."""

    flushes: int = 0
    flushed_bytes: int = 0
    compactions: int = 0
    compacted_bytes_read: int = 0
    compacted_bytes: int = 0
    trivial_moves: int = 0
    tombstone_compactions: int = 0
    write_groups: int = 0  # commits that several writers have shared
    write_slowdowns: int = 0  # writer.py, rule 4
    write_stops: int = 0
    levels: list[LevelWork] = field(default_factory=lambda: [LevelWork() for _ in range(LEVELS)])  # by output level

    def counts(self) -> dict[str, int]:
        """The counters by name."""
        counts = asdict(self)
        del counts["levels"]
        return counts
