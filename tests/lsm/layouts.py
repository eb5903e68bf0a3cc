"""Layouts of levels as text, for the tests of what compaction picks.

    0: 7:a-c 8:b-f       level 0 has table 7 with user keys a to c, and table 8
    1: 3:a#9-m#5*200     table 3 from a@9 to m@5, 200 bytes (10 if not said, sequence 100)
    1: 4:n-z!6/10@50     of its 10 entries 6 are tombstones, and no sequence is above 50

A compaction in words: `size 0>1: 7 8 + 3 | 9` takes 7 and 8 of level 0 and 3 of level 1; 9 is a grandparent.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from engines.lsm.compaction import Compaction
from engines.lsm.keys import VALUE, internal_key
from engines.lsm.options import LEVELS, Options
from engines.lsm.statistics import TableStatistics
from engines.lsm.version import FileMeta, Version

__all__ = ["NOW", "OPTIONS", "told", "version_of"]

# a table of 100 bytes: so 1,000 are the grandparents' limit, and 2,500 that of joining in
OPTIONS = Options(max_file_bytes=100, level_base_bytes=100, level0_files=4, tombstone_ratio=0.5)
NOW = 1_000  # a sequence: no snapshot is older
FILE = re.compile(r"(\d+):([a-z]+)(?:#(\d+))?-([a-z]+)(?:#(\d+))?(?:\*(\d+))?(?:!(\d+)/(\d+)@(\d+))?")


def version_of(text: str) -> Version:
    """The version that a layout's text says."""
    levels: list[list[FileMeta]] = [[] for _ in range(LEVELS)]
    for line in filter(None, map(str.strip, text.splitlines())):
        level, _, files = line.partition(": ")
        for word in files.split():
            match = FILE.fullmatch(word)
            assert match is not None, word
            number, first, first_at, last, last_at, size, deletions, entries, newest = match.groups()
            known = TableStatistics(int(entries), int(deletions), 0, int(newest)) if entries else None
            smallest = internal_key(first.encode(), int(first_at or 100), VALUE)
            largest = internal_key(last.encode(), int(last_at or 100), VALUE)
            levels[int(level)].append(FileMeta(int(number), int(size or 10), smallest, largest, known))
    return Version(levels)


def told(compaction: Compaction | None) -> str:
    """A compaction in words."""
    if compaction is None:
        return "nothing"

    def numbers(files: Sequence[FileMeta]) -> str:
        return " ".join(str(file.number) for file in sorted(files, key=lambda file: file.number))

    text = f"{compaction.reason} {compaction.level}>{compaction.output_level}: {numbers(compaction.upper)}"
    text += f" + {numbers(compaction.lower)}" if compaction.lower else ""
    text += f" | {numbers(compaction.grandparents)}" if compaction.grandparents else ""
    return text + (" moved" if compaction.trivial else "")
