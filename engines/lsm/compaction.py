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
from engines.lsm.version import FileMeta, Version, VersionEdit

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

    @property
    def pointers(self) -> list[tuple[int, bytes]]:
        """(level, compact pointer) to be remembered; none for a manual one, and none for the last level (rule 2)."""
        return [(self.level, self.pointer)] if self.reason != "manual" and self.level < LAST else []

    def edit(self, made: Sequence[FileMeta]) -> VersionEdit:
        """The edit that installs the result: the inputs, each on its level, are deleted, the tables `made` are added on
        the output level.

        It says nothing of any other file: while the compaction ran, a flush may have put a new table on level 0, and
        the edit is applied to the version that has it. `pointers` become the edit's compact pointers. Pure. O(files).
        """
        return VersionEdit(
            deleted=[(level, file.number) for level, file in self.inputs()],
            added=[(self.output_level, file) for file in made],
            compact_pointers=self.pointers,
        )


def total_bytes(files: Sequence[FileMeta]) -> int:
    """The size of the files together."""
    return sum([file.size_bytes for file in files])


def scores(version: Version, options: Options) -> list[float]:
    """Rule 1: how full each level from 0 to 5 is; from 1.0 on it is due. Level 6 has no score.

    Level 0: files / `options.level0_files`. The others: `version.level_bytes(level)` / `options.level_bytes(level)`.
    Pure. O(files).
    """
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

    The level with the highest of the `scores` is next, the upper one of two that are equal, if its score is at least 1:
    its `next_file` and all that belongs to it (`whole`, with the reason "size"). Otherwise `pick_tombstones` decides.

    pointers: level → compact pointer. smallest_snapshot: the oldest sequence that is still read (rule 6).
    statistics: what a table says about itself, None if it isn't known.
    """
    all_scores = scores(version, options)
    level = max(range(LAST), key=lambda level: all_scores[level])
    if all_scores[level] >= 1:
        return whole(version, options, level, [next_file(version, level, pointers)], "size")
    return pick_tombstones(version, options, smallest_snapshot, statistics)


def next_file(version: Version, level: int, pointers: dict[int, bytes]) -> FileMeta:
    """Rule 2: the first file of the level, by smallest internal key, whose largest one is after the level's compact
    pointer.

    Without a pointer, or when no file is after it, the first file of the level: the round begins anew. Level 0 is kept
    newest first, so it has to be sorted for this, and of two files that begin alike the one with the lower number is
    first. Internal keys are compared by `order`, never as bytes. Requires: the level has files (its score is at least
    1). O(files log files).
    """
    files = sorted(version.levels[level], key=lambda file: (order(file.smallest), file.number))
    pointer = pointers.get(level)
    if pointer is not None:
        for file in files:
            if order(file.largest) > order(pointer):
                return file
    return files[0]


def pick_tombstones(
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
    return whole(version, options, level, [file], "tombstones")


def manual(
    version: Version, options: Options, level: int, first: bytes | None, last: bytes | None
) -> Compaction | None:
    """The first compaction of what a level has between two user keys; None if it has nothing there. Pure. O(files).

    All of level 0 that is `overlapping`; from level 1 on only the first files of it that together reach
    `max_file_bytes`, so that a compaction of everything is many small ones. `whole`, with the reason "manual", makes
    the compaction.
    """
    upper = version.overlapping(level, first, last)
    if level > 0:
        size = 0
        for count, file in enumerate(upper, 1):
            size += file.size_bytes
            if size >= options.max_file_bytes:
                upper = upper[:count]
                break
    return whole(version, options, level, upper, "manual") if upper else None


def in_place(version: Version, level: int, file: FileMeta, reason: str) -> Compaction:
    """Rewrites a file in its own level: for what has become garbage there."""
    return Compaction(level, level, with_boundary(version.levels[level], [file]), [], [], False, reason)


def whole(version: Version, options: Options, level: int, upper: list[FileMeta], reason: str) -> Compaction:
    """Rules 3 to 5: the whole compaction that the given files of `level` entail."""
    upper, lower = closed(version, level, upper)
    upper = expanded(version, options, level, upper, lower)
    first, last = key_range(upper + lower)
    grandparents = version.overlapping(level + 2, first, last) if level + 1 < LAST else []
    trivial = reason != "manual" and is_move(options, upper, lower, grandparents)
    if reason == "tombstones" and trivial:  # moving it is enough while something below needs the tombstones
        trivial = any(version.overlapping(deeper, first, last) for deeper in range(level + 2, LEVELS))
    return Compaction(level, level + 1, upper, lower, grandparents, trivial, reason)


def closed(version: Version, level: int, upper: list[FileMeta]) -> tuple[list[FileMeta], list[FileMeta]]:
    """Rule 3: (all of `level` that must go along with `upper`, all of the next level that they overlap).

    On level 0, the files that overlap the range of `upper` come along, and those that overlap them (`overlapping` sees
    to that). `with_boundary` adds, on both levels, the file that begins with the user key that the files end with.
    `key_range` gives the first and last user key of some files. Requires: `upper` has files. Pure. O(files).
    """
    if level == 0:
        upper = version.overlapping(0, *key_range(upper))
    upper = with_boundary(version.levels[level], upper)
    return upper, with_boundary(version.levels[level + 1], version.overlapping(level + 1, *key_range(upper)))


def expanded(
    version: Version, options: Options, level: int, upper: list[FileMeta], lower: list[FileMeta]
) -> list[FileMeta]:
    """Rule 4: the upper inputs, more of them if that is free: the lower files are read and written anyway.

    The candidates are all files of `level` (`with_boundary`, as in `closed`) that overlap the range of both inputs
    together. They take the place of `upper` if they are more files, all inputs together stay below EXPANSION_FILES
    times `max_file_bytes`, and they meet no file of the next level besides `lower`. Without `lower`, nothing is gained.
    Requires: both are `closed`. Pure. O(files).
    """
    if not lower:
        return upper
    more = with_boundary(version.levels[level], version.overlapping(level, *key_range(upper + lower)))
    limit = EXPANSION_FILES * options.max_file_bytes
    if len(more) <= len(upper) or total_bytes(lower) + total_bytes(more) >= limit:
        return upper
    met = with_boundary(version.levels[level + 1], version.overlapping(level + 1, *key_range(more)))
    return more if len(met) == len(lower) else upper


def is_move(
    options: Options, upper: Sequence[FileMeta], lower: Sequence[FileMeta], grandparents: Sequence[FileMeta]
) -> bool:
    """Rule 5: True if an edit is enough, which puts the one upper file on the next level without reading it.

    So there must be one upper input, no lower one, and at most GRANDPARENT_FILES times `max_file_bytes` of
    grandparents. Pure. O(files).
    """
    limit = GRANDPARENT_FILES * options.max_file_bytes
    return len(upper) == 1 and not lower and total_bytes(grandparents) <= limit


def key_range(files: Sequence[FileMeta]) -> tuple[bytes, bytes]:
    """The first and last user key of the files."""
    return min(file.first for file in files), max(file.last for file in files)


def with_boundary(level: Sequence[FileMeta], files: list[FileMeta]) -> list[FileMeta]:
    """The files, and each one of the level that begins with the user key that they end with (rule 3)."""
    files = list(files)
    while files:
        largest = max((file.largest for file in files), key=order)
        following = [file for file in level if order(file.smallest) > order(largest) and file.first == largest[:-8]]
        if not following:
            break
        files.append(min(following, key=lambda file: order(file.smallest)))
    return files
