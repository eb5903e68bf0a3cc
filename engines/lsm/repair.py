"""repair(): a store that can't be opened any more, from whatever is whole in its directory.

    logs     every record that is whole  ─┐
    tables   every block that is whole   ─┴─► one merge, the newest version of each key ─► new tables, a new manifest

0. A store that this engine can't read is none that it can repair: RocksDB's, one with another comparator (if every
   manifest is lost, keys that are not in the order of their bytes show it), goleveldb's deeper levels, and a block whose
   checksum is right and whose compression is unknown here, or needs a package that isn't installed. Each is refused with
   ForeignFormat before a byte is written: setting the tables of such a store aside would lose it for its own program.
1. Nothing is deleted: everything that was there goes to `lost/`, after the new manifest is on disk. Until then a crash
   leaves the old files where they were, and repair can be called again.
2. The sequences decide which version is newest, and nothing else. (LevelDB's repair puts all tables into level 0, where
   the file's number decides: after it, a get may return an older value.) That costs reading and writing everything once.
3. If the manifest can be read, only what it lists counts. If not, all tables do, among them perhaps some that a
   compaction had already replaced: then a deleted key may come back, because its tombstone is gone.

What damage has taken is counted in the report, not guessed. Follows the idea of LevelDB's db/repair.cc.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import Final

from engines.coding import DecodeError
from engines.env import Env, real_env
from engines.errors import CorruptionError, ForeignFormat, NoSuchStore
from engines.kvstore import Stats
from engines.log_tools import LenientReader
from engines.lsm import manifest
from engines.lsm.cache import BlockCache
from engines.lsm.files import LOCK, listed, repair_advice
from engines.lsm.foreign import decode_edit, refuse_rocksdb
from engines.lsm.job import TableWriter, kept
from engines.lsm.keys import VALUE, Row
from engines.lsm.merge import merge, versions_by_key
from engines.lsm.options import LEVELS, Options
from engines.lsm.sstable import BLOCK_TRAILER_BYTES, Table, add_trailer
from engines.lsm.statistics import Counters
from engines.lsm.version import VersionEdit
from engines.lsm.wal import decode_batch

__all__ = ["LOST", "RepairReport", "repair"]

LOST: Final = "lost"


@dataclass(slots=True)
class RepairReport:
    """What repair has found. `losses` says in sentences what could not be read."""

    tables: int = 0
    logs: int = 0
    entries: int = 0  # of the repaired store
    last_sequence: int = 0
    losses: list[str] = field(default_factory=list)

    def sentences(self, path: str) -> list[str]:
        """For people: what was done to the store at `path`."""
        return [
            f"{path}: a store of {self.entries} pairs was made from {self.tables} tables and {self.logs} logs",
            *[f"lost: {loss}" for loss in self.losses],
            f"what was there before is in {path}/{LOST}: remove it when nothing is missed",
        ]


def repair(path: str, *, env: Env | None = None, **options: object) -> RepairReport:
    """Makes the store at `path` one that opens, from what is whole. options: as the store's, for the new tables.

    Raises NoSuchStore if nothing of a store is there, ForeignFormat (rule 0), StoreLocked, OSError. O(bytes of the
    store).
    """
    env = env or real_env()
    path = env.absolute(path)
    if not env.is_dir(path):
        raise NoSuchStore(f"there is no directory {path}")
    refuse_rocksdb(env, path)
    if not listed(env, path):
        raise NoSuchStore(f"nothing in {path} is a file of a store")
    lock = env.lock(f"{path}/{LOCK}", "both")
    try:
        return _Repair(env, path, Options.of(dict(options))).run()
    finally:
        lock.close()


class _BareTable(Table):
    """A table without its filter and statistics, which may be damaged and aren't needed."""

    def read_meta(self, offset: int, size: int) -> None:
        pass

    def contents(self, stored: bytes, offset: int, size: int) -> bytes:
        """As a table's; but a block that is whole and can't be decompressed is foreign, not damaged (rule 0)."""
        try:
            return super().contents(stored, offset, size)
        except CorruptionError as error:
            if len(stored) != size + BLOCK_TRAILER_BYTES or stored != add_trailer(
                stored[:size], stored[-BLOCK_TRAILER_BYTES]
            ):
                raise
            raise ForeignFormat(
                self.path,
                f"the block at byte {offset} is whole, but can't be read here ({error.why}), so nothing was repaired: open "
                "the store with the program that made it",
            ) from error


class _Repair:
    """One repair."""

    def __init__(self, env: Env, path: str, options: Options) -> None:
        self._env = env
        self._path = path
        self._options = options
        self._files = listed(env, path)
        self._report = RepairReport()
        self._cache = BlockCache(0)
        self._comparator_known = False

    def run(self) -> RepairReport:
        tables, logs = self._what_counts()
        self._refuse_foreign_blocks(tables)
        versions = manifest.VersionSet(self._env, self._path, Stats())
        versions.next_file_number = 1 + max(number for _, number, _ in self._files)
        numbers = iter(versions.new_number, None)
        sources = [self._rows_of_table(name) for name in tables]
        sources.append(iter(sorted(row for name in logs for row in self._rows_of_log(name))))
        writer = TableWriter(self._env, self._path, self._options, None, numbers, "lsm.repair.table")
        if writer.keeps:
            writer.compression = kept(table.compression() for table in map(self._open, tables) if table is not None)
        files = writer.write_all(self._newest(merge(sources)))
        edit = VersionEdit(log_number=0, previous_log_number=0, last_sequence=self._report.last_sequence)
        edit.added = [(LEVELS - 1, file) for file in files]
        try:
            versions.begin_manifest(edit, versions.new_number())
        finally:
            versions.close()
        self._set_aside()
        return self._report

    def _what_counts(self) -> tuple[list[str], list[str]]:
        """The names of the tables and logs to read (rule 3)."""
        live, oldest_log = None, 0
        self._refuse_foreign_manifests()
        try:
            versions = manifest.read(self._env, self._path, Stats())
            live, oldest_log = versions.live_files().keys(), versions.log_number
        except FileNotFoundError:
            self._report.losses.append("CURRENT, which names the manifest: every table and log that is there counts")
        except (CorruptionError, OSError) as error:
            advice = f"; {repair_advice(self._path)}"
            self._report.losses.append(f"the manifest: {error}".removesuffix(advice))
        tables = [
            name for kind, number, name in self._files if kind in ("ldb", "sst") and (live is None or number in live)
        ]
        if live is not None and len(tables) < len(live):
            self._report.losses.append(f"{len(live) - len(tables)} tables that the manifest lists are missing")
        logs = [name for kind, number, name in self._files if kind == "log" and number >= oldest_log]
        self._report.tables, self._report.logs = len(tables), len(logs)
        return tables, logs

    def _refuse_foreign_manifests(self) -> None:
        """Rule 0, of every manifest that is there: CURRENT may be lost. `_comparator_known` says that one of them has
        told LevelDB's order."""
        for kind, _, name in self._files:
            if kind != "manifest":
                continue
            path = f"{self._path}/{name}"
            with closing(self._env.open(path, "r")) as file:
                for _, record in LenientReader(file):
                    with suppress(DecodeError):
                        self._comparator_known |= decode_edit(path, record).comparator is not None

    def _refuse_foreign_blocks(self, tables: list[str]) -> None:
        """Rule 0, of every block of the tables: reads them all."""
        for name in tables:
            table = self._open(name)
            last: tuple[bytes, int] | None = None
            for number in range(table.blocks if table is not None else 0):
                assert table is not None
                try:
                    rows = list(table.block_rows(number))
                except CorruptionError:
                    continue  # told when its rows are read
                for row in rows if not self._comparator_known else ():
                    if last is not None and row[:2] < last:
                        raise ForeignFormat(
                            table.path,
                            f"the key {row.key!r} comes after {last[0]!r} in a block that is whole, and no manifest is left "
                            "that names the order: another comparator's store, which only its own program can repair",
                        )
                    last = row[:2]

    def _open(self, name: str) -> Table | None:
        """The table, without its filter and statistics; None if it can't be opened, and why is in the report."""
        file = self._env.open(f"{self._path}/{name}", "r")
        try:
            return _BareTable(file, file.size(), self._cache, Counters())
        except CorruptionError as error:
            file.close()
            if str(error) not in self._report.losses:
                self._report.losses.append(str(error))
        except BaseException:
            file.close()
            raise
        return None

    def _rows_of_table(self, name: str) -> Iterator[Row]:
        """The rows of every block that is whole."""
        table = self._open(name)
        if table is None:
            return
        for number in range(table.blocks):
            try:
                rows = list(table.block_rows(number))
            except CorruptionError as error:
                self._report.losses.append(str(error))
                continue
            yield from rows

    def _rows_of_log(self, name: str) -> Iterator[Row]:
        """The rows of every batch that is whole."""
        file = self._env.open(f"{self._path}/{name}", "r")
        try:
            reader = LenientReader(file, keeps_more=True)
            for offset, record in reader:
                try:
                    sequence, operations = decode_batch(record)
                except DecodeError as error:
                    self._report.losses.append(f"{self._path}/{name} at byte {offset}: {error}")
                    continue
                for at, (key, value) in enumerate(operations):
                    yield Row.of(key, sequence + at, value)
            self._report.losses += [
                f"{self._path}/{name} at byte {drop.offset}: {drop.why}; {drop.size_bytes:,} bytes are left out"
                for drop in reader.drops
            ]
        finally:
            file.close()

    def _newest(self, rows: Iterator[Row]) -> Iterator[Row]:
        """The newest version of each key; tombstones go, because nothing is left that they could hide."""
        report = self._report
        for _, versions in versions_by_key(rows):
            newest = next(versions)
            report.last_sequence = max(report.last_sequence, newest.sequence, *(row.sequence for row in versions))
            if newest.trailer & 255 == VALUE:
                report.entries += 1
                yield newest

    def _set_aside(self) -> None:
        """Rule 1. What the new manifest doesn't know goes to lost/."""
        env, lost = self._env, f"{self._path}/{LOST}"
        env.makedirs(lost, "lsm.repair.mkdir")
        for kind, _, name in self._files:
            if kind != "dbtmp":
                env.rename(f"{self._path}/{name}", f"{lost}/{name}")
        env.sync_dir(lost, "lsm.repair.lost")
        env.sync_dir(self._path, "lsm.repair.dir")
