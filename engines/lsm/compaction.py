"""Which compaction comes next: leveled, by LevelDB's rules, and one rule of our own for tombstones.

    level 0   ▒▒▒▒▒▒▒ ▒▒▒▒▒▒ ▒▒▒▒▒      flushed memtables; score = number of files / 4
    level 1   ▓▓▓ ▓▓ ▓▓▓ ▓▓             10 MiB;  score = bytes / 10 MiB
    level 2   ████ ███ ████ ███ ███     100 MiB; score = bytes / 100 MiB; and so on, ten times more each
                   └─┬─┘
          one file of a level, and what it overlaps in the next one, become new files of the next one

1. The level with the highest score from 1 on is next. Level 0 counts files and not bytes: each one costs every read a
   look, and with a large memtable bytes would mean rewriting level 1 too often. Level 6 has no score.
2. In a level, the file after the last compaction's end is next (round robin, persisted as the compact pointer).
3. The inputs are closed under overlap: all of level 0 that overlaps transitively, all of the next level that overlaps,
   and every file that begins with the user key that another one ends with. Otherwise an older version would be left
   above a newer one (google/leveldb#320, #339).
4. More files of the upper level join in, if that adds none of the lower level, and all together stay below 25 files'
   size.
5. One file that overlaps nothing below is moved by an edit, without reading it, unless it would then overlap more than
   10 files' size in the level after the next: its own compaction would become too large.
6. Ours: when no level has a score of 1, a file of which more than half is tombstones is next. A queue whose consumed
   head is deleted grows for ever in LevelDB, because no level is ever full (google/leveldb#603, #164). Only a file that
   no snapshot holds back: so that each such compaction makes its tombstones fewer, or sinks them by a level.

Left out: compaction because of many seeks (LevelDB rewrites files because they are *read*, which surprised its users:
google/leveldb#1145), universal and tiered compaction. Follows LevelDB's db/version_set.cc. job.py does the work.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Final

from engines.lsm.keys import order
from engines.lsm.options import LEVELS, Options
from engines.lsm.statistics import TableStatistics
from engines.lsm.version import FileMeta, Version

__all__ = ["Compaction", "in_place", "manual", "pick", "scores", "total_bytes"]

LAST: Final = LEVELS - 1
GRANDPARENT_FILES: Final = 10  # rule 5, and where job.py cuts a table: 20 MiB
EXPANSION_FILES: Final = 25  # rule 4: 50 MiB


@dataclass(frozen=True, slots=True)
class Compaction:
    """Inputs from `level` (upper) and from the level that the output goes to (lower).

    `grandparents` are the files of the level after the output's that overlap: they decide where tables are cut.
    `trivial` says that the one input is only moved. `reason` is "size", "tombstones" or "manual".
    """

    level: int
    output_level: int
    upper: list[FileMeta]
    lower: list[FileMeta]
    grandparents: list[FileMeta]
    trivial: bool
    reason: str

    def inputs(self) -> list[tuple[int, FileMeta]]:
        """(level, file) of all inputs."""
        return [(self.level, file) for file in self.upper] + [(self.output_level, file) for file in self.lower]

    @property
    def pointer(self) -> bytes:
        """The level's next compact pointer: the largest internal key of the upper inputs."""
        return max((file.largest for file in self.upper), key=order)


def total_bytes(files: Sequence[FileMeta]) -> int:
    """The size of the files together."""
    return sum([file.size_bytes for file in files])


def scores(version: Version, options: Options) -> list[float]:
    """Rule 1, for levels 0 to 5."""
    return [len(version.levels[0]) / options.level0_files] + [
        version.level_bytes(level) / options.level_bytes(level) for level in range(1, LAST)
    ]


def pick(
    version: Version,
    options: Options,
    pointers: dict[int, bytes],
    smallest_snapshot: int,
    statistics: Callable[[FileMeta], TableStatistics | None] = attrgetter("statistics"),
) -> Compaction | None:
    """The next compaction, None if nothing is to be done. Pure. O(files).

    pointers: level → compact pointer. smallest_snapshot: the oldest sequence that is still read (rule 6).
    statistics: what a table says about itself, None if it isn't known.
    """
    all_scores = scores(version, options)
    level = max(range(LAST), key=lambda level: all_scores[level])
    if all_scores[level] >= 1:
        return _with_lower(version, options, level, [_next_file(version, level, pointers)], "size")
    return _pick_tombstones(version, options, smallest_snapshot, statistics)


def _next_file(version: Version, level: int, pointers: dict[int, bytes]) -> FileMeta:
    """Rule 2. LevelDB keeps level 0 in the order of keys for this."""
    files = sorted(version.levels[level], key=lambda file: (order(file.smallest), file.number))
    pointer = pointers.get(level)
    if pointer is not None:
        for file in files:
            if order(file.largest) > order(pointer):
                return file
    return files[0]


def _pick_tombstones(
    version: Version,
    options: Options,
    smallest_snapshot: int,
    statistics: Callable[[FileMeta], TableStatistics | None],
) -> Compaction | None:
    """Rule 6."""
    worst: tuple[float, int, FileMeta] | None = None
    for level, file in version.files():
        known = statistics(file)
        if options.tombstone_ratio is None or known is None or known.max_sequence > smallest_snapshot:
            continue
        ratio = known.deletions / max(1, known.entries)
        if ratio > options.tombstone_ratio and (worst is None or ratio > worst[0]):
            worst = ratio, level, file
    if worst is None:
        return None
    _, level, file = worst
    if level == LAST:
        return in_place(version, level, file, "tombstones")
    return _with_lower(version, options, level, [file], "tombstones")


def manual(
    version: Version, options: Options, level: int, first: bytes | None, last: bytes | None
) -> Compaction | None:
    """The first compaction of what a level has between two user keys; None if it has nothing there. Pure.

    From level 1 on it takes files only up to one table's size, so that a compaction of everything is many small ones.
    """
    upper = version.overlapping(level, first, last)
    if level > 0:
        size = 0
        for count, file in enumerate(upper, 1):
            size += file.size_bytes
            if size >= options.max_file_bytes:
                upper = upper[:count]
                break
    return _with_lower(version, options, level, upper, "manual") if upper else None


def in_place(version: Version, level: int, file: FileMeta, reason: str) -> Compaction:
    """Rewrites a file in its own level: for what has become garbage there."""
    return Compaction(level, level, _with_boundary(version.levels[level], [file]), [], [], False, reason)


def _with_lower(version: Version, options: Options, level: int, upper: list[FileMeta], reason: str) -> Compaction:
    """Rules 3 to 5: the whole compaction that the given files of `level` entail."""
    below = level + 1
    if level == 0:
        upper = version.overlapping(0, *_range(upper))
    upper = _with_boundary(version.levels[level], upper)
    lower = _with_boundary(version.levels[below], version.overlapping(below, *_range(upper)))
    if lower:
        more = _with_boundary(version.levels[level], version.overlapping(level, *_range(upper + lower)))
        limit = EXPANSION_FILES * options.max_file_bytes
        if len(more) > len(upper) and total_bytes(lower) + total_bytes(more) < limit:
            same = _with_boundary(version.levels[below], version.overlapping(below, *_range(more)))
            if len(same) == len(lower):
                upper = more
    first, last = _range(upper + lower)
    grandparents = version.overlapping(below + 1, first, last) if below < LAST else []
    trivial = (
        reason != "manual"
        and len(upper) == 1
        and not lower
        and total_bytes(grandparents) <= GRANDPARENT_FILES * options.max_file_bytes
    )
    if reason == "tombstones" and trivial:  # moving it is enough while something below needs the tombstones
        trivial = any(version.overlapping(deeper, first, last) for deeper in range(below + 1, LEVELS))
    return Compaction(level, below, upper, lower, grandparents, trivial, reason)


def _range(files: Sequence[FileMeta]) -> tuple[bytes, bytes]:
    """The first and last user key of the files."""
    return min(file.first for file in files), max(file.last for file in files)


def _with_boundary(level: Sequence[FileMeta], files: list[FileMeta]) -> list[FileMeta]:
    """The files, and each one of the level that begins with the user key that they end with (rule 3)."""
    files = list(files)
    while files:
        largest = max((file.largest for file in files), key=order)
        following = [file for file in level if order(file.smallest) > order(largest) and file.first == largest[:-8]]
        if not following:
            break
        files.append(min(following, key=lambda file: order(file.smallest)))
    return files
