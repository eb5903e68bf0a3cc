"""What a get of one key touches: each place that may know it, and what that place says.

    memtable              not here
    table 19 of level 0   denied by its filter
    table 17 of level 0   its keys are others
    table 11 of level 1   block 3 (4,081 bytes at 12,243) was read: a value

1. The places are asked as `state.lookup` asks them, which is the plain get: the fast one gives the same answers, asks all
   filters at once, and looks into a block that it has decoded without asking the filter.
2. It reads what a get reads, past the block cache, so that looking on changes nothing there; `cached` says whether a get
   would have found the block in it. Its reads and its questions to filters are counted in `stats()` as a get's are.
3. Level 0 whose numbers don't say which table is newer (level0.py) is asked as a whole, and the newest row decides.

RocksDB tells the same in counts: get_from_memtable_count, bloom_sst_miss_count, block_read_count of its PerfContext.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from typing import Any

from engines.lsm import level0
from engines.lsm.core import Core
from engines.lsm.keys import ABSENT, VALUE, Found, Row, internal_key
from engines.lsm.sstable import Table
from engines.lsm.version import FileMeta, Version
from engines.telling import explained, result_of, shown

__all__ = ["explain"]

Step = dict[str, Any]
NOT_HERE = "not here"
NOT_ASKED = "not asked: a newer place has decided"


def explain(core: Core, key: bytes) -> dict[str, Any]:
    """The explanation of a get of `key` now. O(levels), one block read for each table that may have the key.

    Raises CorruptionError, OSError.
    """
    state = core.state  # in this order: state.py, rule 2
    sequence = core.sequence
    found: Found = ABSENT
    steps: list[Step] = []
    for place, memtable in [("memtable", state.memtable), *[("frozen memtable", each) for each in state.frozen]]:
        step: Step = {"place": place, "entries": len(memtable), "result": NOT_ASKED}
        if found is ABSENT:
            found = memtable.get(key, sequence)
            step["result"] = NOT_HERE if found is ABSENT else result_of(found)
        steps.append(step)
    found = _ask_level0(core, state.version, key, sequence, found, steps)
    for level, files in enumerate(state.version.levels[1:], start=1):
        candidates = list(_may_have(files, key))
        if files and not candidates:
            result = "no table has such keys" if found is ABSENT else NOT_ASKED
            steps.append({"place": "level", "level": level, "tables": len(files), "result": result})
        for file in candidates:
            found = _ask(core, level, file, key, sequence, found, steps)
    return explained("lsm", key, None if found is ABSENT else found, steps)


def _may_have(files: list[FileMeta], key: bytes) -> Iterator[FileMeta]:
    """The files of a level from 1 on whose range has the key: one, as a rule."""
    at = bisect_left(files, key, key=lambda file: file.last)
    while at < len(files) and files[at].first <= key:
        yield files[at]
        at += 1


def _ask_level0(core: Core, version: Version, key: bytes, sequence: int, found: Found, steps: list[Step]) -> Found:
    """Asks the tables of level 0, the newest first; all of them if their numbers don't tell their age (rule 3)."""
    if level0.is_in_order(version, core.tables):
        for file in version.levels[0]:
            found = _ask(core, 0, file, key, sequence, found, steps)
        return found
    rows = [_look(core, 0, file, key, sequence, steps) for file in version.levels[0] if found is ABSENT]
    newest = min((row for row in rows if row is not None), default=None)
    return found if newest is None else _of(newest)


def _of(row: Row | None) -> Found:
    if row is None:
        return ABSENT
    return None if row.is_deletion else row.value


def _ask(core: Core, level: int, file: FileMeta, key: bytes, sequence: int, found: Found, steps: list[Step]) -> Found:
    """What a table says, if nobody has decided before it."""
    if found is not ABSENT:
        steps.append({**_step(level, file), "result": NOT_ASKED})
        return found
    return _of(_look(core, level, file, key, sequence, steps))


def _step(level: int, file: FileMeta) -> Step:
    return {
        "place": "table",
        "level": level,
        "number": file.number,
        "first": shown(file.first),
        "last": shown(file.last),
    }


def _look(core: Core, level: int, file: FileMeta, key: bytes, sequence: int, steps: list[Step]) -> Row | None:
    """The newest row of the key in a table, as `Table.find` has it, and the step that tells how it was found."""
    step = _step(level, file)
    steps.append(step)
    if not file.overlaps(key, key):
        step["result"] = "its keys are others"
        return None
    table = core.tables.get(file)
    step["filters"] = table.filters
    if not table.may_contain(key):
        step["result"] = "denied by its filter"
        return None
    wanted = internal_key(key, sequence, VALUE)
    number = table.block_of(wanted)
    if number == table.blocks:
        step["result"] = "after its last block"
        return None
    row = _read(table, number, wanted, step)
    if row is None or row.key != key:
        step["result"] = "not in its block" + (": the filter was wrong" if table.filters else "")
        return None
    step["result"] = result_of(None if row.is_deletion else row.value)
    step["sequence"] = row.sequence
    return row


def _read(table: Table, number: int, wanted: bytes, step: Step) -> Row | None:
    """The first row of a block that isn't before the internal key `wanted`; the step gets where the block lies."""
    offset, size = table.handles[number]
    step |= {"block": number, "blocks": table.blocks, "offset": offset, "block_bytes": size}
    step["cached"] = table.cache.find(table.first_key + number) is not None
    return next(table.decoded(number, table.read_block(number).forward(wanted)), None)
