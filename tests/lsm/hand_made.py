"""Hand-made directories: tables, logs and a manifest that no store of ours would write, on a simulated disk."""

from __future__ import annotations

from typing import Any

import engines
from engines.env import File
from engines.log import LogWriter
from engines.lsm.keys import Row
from engines.lsm.options import Options
from engines.lsm.store import LsmStore
from engines.lsm.table_builder import TableBuilder
from engines.lsm.version import COMPARATOR, FileMeta, VersionEdit
from engines.lsm.wal import encode_batch
from engines.simenv import SimEnv

__all__ = ["Directory", "good"]

Rows = list[tuple[bytes, int, bytes | None]]  # user key, sequence, value


class Directory:
    """A store's directory in the making, on a simulated disk."""

    def __init__(self) -> None:
        self.env = SimEnv()
        self.env.makedirs("/db", "test")
        self.edit = VersionEdit(COMPARATOR, log_number=0, next_file_number=20, last_sequence=100)

    def write(self, name: str, content: bytes) -> None:
        file = self._file(name)
        file.append(content)
        file.close()

    def _file(self, name: str) -> File:
        return self.env.open(f"/db/{name}", "w")

    def table(
        self,
        level: int,
        number: int,
        rows: Rows,
        *,
        sort: bool = True,
        forget: bool = False,
        lies: dict[str, int] | None = None,
        compression: str | None = None,
        **options: Any,
    ) -> FileMeta:
        """A table that the edit knows. sort=False: its rows come as they are given. forget: its filter knows none of its keys.
        lies: of its statistics. compression: any that engines.lsm.compression knows."""
        encoded = [Row.of(*row) for row in rows]
        if sort:
            encoded.sort()
        file = self._file(f"{number:06d}.ldb")
        builder = TableBuilder(file, Options(**options), None, compression=compression)
        if forget:
            assert builder.filter is not None
            add_all = builder.filter.add_all
            builder.filter.add_all = lambda keys: add_all([b"another key"])  # type: ignore[method-assign]
        for row in encoded:
            builder.add(row)
        for name, lie in (lies or {}).items():
            setattr(builder.statistics, name, lie)
        meta = FileMeta.of(number, builder.finish("test"))
        file.close()
        self.edit.added.append((level, meta))
        return meta

    def log(self, number: int, *records: bytes) -> None:
        file = self._file(f"{number:06d}.log")
        LogWriter(file).append_many(records)
        file.close()

    def manifest(self, *records: bytes) -> None:
        """MANIFEST-000001 of the given records, or of the edit; and CURRENT."""
        file = self._file("MANIFEST-000001")
        LogWriter(file).append_many(records or [self.edit.encode()])
        file.close()
        self.write("CURRENT", b"MANIFEST-000001\n")

    def open(self) -> LsmStore:
        store = engines.open("/db", "lsm", env=self.env, background=False)
        assert isinstance(store, LsmStore)
        return store

    def content(self) -> dict[str, bytes]:
        """Name → bytes of every file but LOCK, which is made before anything is looked at."""
        return {path: content for path, content in self.env.files().items() if not path.endswith("LOCK")}


def good() -> Directory:
    """Two tables and a log, as they ought to be."""
    made = Directory()
    made.table(1, 4, [(b"a", 1, b"old"), (b"b", 2, b"2"), (b"c", 3, b"3")])
    made.table(0, 5, [(b"a", 10, b"new"), (b"x", 11, b"11")])
    made.edit.log_number, made.edit.last_sequence = 6, 11
    made.log(6, encode_batch(12, [(b"l", b"12"), (b"b", None)]))
    return made
