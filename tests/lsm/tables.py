"""Tables on a simulated disk, for the tests of the modules that write and read them."""

from __future__ import annotations

from typing import Any

from engines.lsm.cache import BlockCache
from engines.lsm.keys import Row
from engines.lsm.options import Options
from engines.lsm.sstable import Table
from engines.lsm.statistics import Counters, TableInfo
from engines.lsm.table_builder import TableBuilder
from engines.simenv import SimEnv

__all__ = ["History", "build", "opened", "rows_of", "visible_at"]

History = list[tuple[bytes, int, bytes | None]]  # user key, sequence, value or None


def rows_of(history: History) -> list[Row]:
    """The rows of a table, in order."""
    return sorted(Row.of(*version) for version in history)


def build(env: SimEnv, history: History, path: str = "/t", **options: Any) -> TableInfo:
    """Writes a table."""
    file = env.open(path, "w")
    builder = TableBuilder(file, Options(**options), None, compression=options.get("compression"))
    for row in rows_of(history):
        builder.add(row)
    info = builder.finish("test")
    file.close()
    return info


def opened(env: SimEnv, path: str = "/t", cache_bytes: int = 1 << 20, table: type[Table] = Table) -> Table:
    """Opens it, with counters of its own."""
    file = env.open(path, "r")
    try:
        return table(file, file.size(), BlockCache(cache_bytes), Counters())
    except BaseException:
        file.close()
        raise


def visible_at(history: History, moment: int) -> dict[bytes, bytes | None]:
    """Of each key the newest version not above `moment`."""
    return {key: value for key, at, value in sorted(history, key=lambda row: row[1]) if at <= moment}
