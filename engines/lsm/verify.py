"""check(): reads everything, and says in sentences what is wrong.

    manifest   says which tables there are, their ranges and their sizes
    tables     every block's checksum, order, index, filter, statistics, and that they are what the manifest says
    levels     disjoint from level 1 on; a version above is newer than every version of its key below
    names      every live table has its file; nothing claims a number that is still to be given out

What LevelDB itself would not notice: a range that is too narrow (a get misses what a scan shows), a last sequence that
is too low (newer versions are invisible), older data above newer data, a filter that denies a key that is there,
overlapping levels, keys out of order.

The levels are compared by one merge of everything, a row at a time: O(rows) time, O(1) memory. It looks at the state
of its beginning; writers may go on.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator

from engines.errors import CorruptionError
from engines.lsm.core import Core
from engines.lsm.keys import DELETION, MAX_SEQUENCE, VALUE, Row
from engines.lsm.sstable import Table
from engines.lsm.version import FileMeta

__all__ = ["check"]

MAX_FINDINGS = 100  # a table in the wrong order would have one for each row
Place = tuple[bytes, int, int, int]  # user key, rank of the source (newest first), inverted trailer, file number


def check(core: Core) -> list[str]:
    """Every violation that was found, as a sentence; [] if there is none. Raises OSError."""
    findings: list[str] = []
    version = core.state.version
    sequence = core.sequence
    findings += version.violations()
    sources: list[Iterator[Place]] = []
    for level, files in enumerate(version.levels):
        for rank, file in enumerate(files):
            if file.number >= core.versions.next_file_number:
                findings.append(f"table {file.number} has a number that will be given out again")
            if len(findings) < MAX_FINDINGS:
                # level 0: each table is a source of its own, newest first; deeper, a level is one
                sources.append(
                    _rows(core, file, rank if level == 0 else len(version.levels[0]) + level, sequence, findings)
                )
    findings += _recency(sources)
    return findings[:MAX_FINDINGS]


def _rows(core: Core, file: FileMeta, rank: int, sequence: int, findings: list[str]) -> Iterator[Place]:
    """The rows of a table, checked on the way; what is wrong is added to `findings`."""
    try:
        table = core.tables.get(file)
    except CorruptionError as error:
        findings.append(str(error))
        return
    entries = deletions = highest = 0
    lowest = MAX_SEQUENCE
    previous: Row | None = None
    try:
        for number in range(table.blocks):
            rows = list(table.block_rows(number))
            findings += table.index_violations(number, rows[0].internal_key, rows[-1].internal_key)
            for row in rows:
                if previous is not None and previous[:2] >= row[:2]:
                    findings.append(f"{table.path}: {row.internal_key!r} is not above the key before it")
                previous = row
                entries += 1
                deletions += row.is_deletion
                highest = max(highest, row.sequence)
                lowest = min(lowest, row.sequence)
                if row.trailer & 255 not in (DELETION, VALUE):
                    findings.append(f"{table.path}: {row.internal_key!r} is neither a value nor a deletion")
                if len(findings) > MAX_FINDINGS:
                    return
                yield row.key, rank, row.inverted, file.number
            findings += _denied(table, rows)
            if number == 0 and rows[0].internal_key != file.smallest:
                findings.append(
                    f"{table.path} begins with {rows[0].internal_key!r}, but the manifest says {file.smallest!r}"
                )
    except CorruptionError as error:
        findings.append(str(error))
        return
    last = previous.internal_key if previous is not None else None
    findings += _summary(table, file, last, entries, deletions, (lowest, highest), sequence)


def _denied(table: Table, rows: list[Row]) -> list[str]:
    """The filter denies a key that is there: get() would miss it."""
    return [
        f"{table.path}: the filter denies {row.key!r}, which is there" for row in rows if not table.may_contain(row.key)
    ]


def _summary(
    table: Table,
    file: FileMeta,
    last: bytes | None,
    entries: int,
    deletions: int,
    bounds: tuple[int, int],
    sequence: int,
) -> list[str]:
    """What can be said of a table when all of its rows have been seen; `bounds` of their sequences."""
    findings = []
    lowest, highest = bounds
    if last != file.largest:
        findings.append(f"{table.path} ends with {last!r}, but the manifest says {file.largest!r}")
    if highest > min(sequence, MAX_SEQUENCE):
        findings.append(
            f"{table.path} has sequence {highest}, but {sequence} is the store's last one: newer versions are invisible"
        )
    known = table.statistics
    if known is not None:
        if (known.entries, known.deletions) != (entries, deletions):
            findings.append(
                f"{table.path} says that it has {known.entries} entries and {known.deletions} deletions, but there are "
                f"{entries} and {deletions}"
            )
        if highest > known.max_sequence:
            findings.append(f"{table.path} says that its sequences end at {known.max_sequence}, but it has {highest}")
        if lowest < known.min_sequence:
            findings.append(f"{table.path} says that its sequences begin at {known.min_sequence}, but it has {lowest}")
    return findings


def _recency(sources: list[Iterator[Place]]) -> list[str]:
    """A version in an older place must be older: get() believes the newest place that knows a key."""
    findings: list[str] = []
    current: bytes | None = None
    oldest_trailer, place = 0, (0, 0)
    for key, rank, inverted, number in heapq.merge(*sources):
        if key != current:
            current = key
        elif inverted <= oldest_trailer and place != (rank, number):
            findings.append(
                f"{key!r}: table {number} has a version that is newer than the one in table {place[1]}, which is read first"
            )
        oldest_trailer, place = inverted, (rank, number)
        if len(findings) >= MAX_FINDINGS:
            break
    return findings
