"""Merging: many sorted sources, one sorted stream; and what of it a reader may see.

    memtable   a@9 = new    c@8 deleted
    table      a@3 = old    c@2 = old     d@1 = 1
    merge      a@9   a@3    c@8   c@2     d@1            in the order of internal keys
    visible    a = new      c deleted     d = 1          each key once, as of sequence 9
               a = old      c = old       d = 1          as of sequence 5

A scan and a compaction both read this one stream, and differ in what they keep of it: a scan the newest version that it
may see (`visible`), a compaction what anybody may still ask for (job.py).

1. A source is an iterator of rows in their order (keys.py), or against it for a reverse scan. A row is in the order of
   internal keys by itself, so that comparing rows is all that a merge does.
2. What is newer is said by the sequences, not by the place of a source.

Follows LevelDB's table/merger.cc and db/db_iter.cc. Where these turn round in the middle of a walk (prev after next), we
don't: a scan has one direction.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from itertools import groupby
from operator import attrgetter

from engines.lsm.keys import Row

__all__ = ["merge", "versions_by_key", "visible"]


def merge(sources: Iterable[Iterator[Row]], reverse: bool = False) -> Iterator[Row]:
    """All rows of all sources, in order; against it if the sources are. O(log sources) a row.

    Each source is in that order by itself, which is its maker's business; no row is in two. Lazy: of each source, no more
    than one row is taken that has not been given. A heap has the next row of each source, the smallest one on top: take it, and put its source's next row in its
    place. That is what the standard library's `merge` does.
    """
    return heapq.merge(*sources, reverse=reverse)


def versions_by_key(rows: Iterable[Row]) -> Iterator[tuple[bytes, Iterator[Row]]]:
    """Each user key with its rows, which come one after the other."""
    return groupby(rows, key=attrgetter("key"))


def visible(rows: Iterable[Row], sequence: int) -> Iterator[tuple[bytes, bytes | None]]:
    """What a reader as of `sequence` sees of merged rows, in either direction: each key with its newest value that is
    not above the sequence. A value of None says that the key was deleted; a key without such a version isn't there.

    rows: as `merge` gives them, so the versions of a key come one after the other (`versions_by_key`), the newest first,
    or last in reverse. Lazy: no more is taken than one row after the key that is given. O(1) a row.
    """
    for key, versions in versions_by_key(rows):
        newest = min((row for row in versions if row.sequence <= sequence), default=None)  # the newest sorts first
        if newest is not None:
            yield key, None if newest.is_deletion else newest.value
