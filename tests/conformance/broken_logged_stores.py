"""Engines with one bug each that shows on a disk only: LoggedStore, gone wrong. See broken_stores.py."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from engines.env import File
from engines.errors import StoreLocked
from engines.kvstore import Operation, Pair, WriteBatch
from engines.memory import MemoryStore
from tests.conformance.logged_store import LoggedStore, _encode_record


class NeverSyncs(LoggedStore):
    """Fast."""

    caught_by: ClassVar = "test_a_store_syncs_each_write_unless_told_otherwise"

    def write(self, batch: WriteBatch, *, sync: bool | None = None) -> None:
        super().write(batch, sync=False)


class DeletesAreNotLogged(LoggedStore):
    """What isn't there needn't be written down."""

    caught_by: ClassVar = "test_reopening_keeps_everything"

    def _append(self, record: bytes, sync: bool) -> None:
        super()._append(b"" if record[8:9] == b"\x00" else record, sync)


class KeepsItInTheProcess(LoggedStore):
    """Records wait in a buffer of the process until somebody wants them on disk."""

    caught_by: ClassVar = "test_a_killed_process_loses_nothing"
    waiting = b""

    def _append(self, record: bytes, sync: bool) -> None:
        self.waiting += record
        if sync or len(self.waiting) > 100_000:
            super()._append(self.waiting, sync)
            self.waiting = b""

    def close(self) -> None:
        if not self.closed and self.failure is None:
            self.flush()
        super().close()


class LocksNobodyOut(LoggedStore):
    """The lock is given up as soon as the store is open."""

    caught_by: ClassVar = "test_a_second_open_is_refused"

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        assert self._lock is not None
        self._lock.close()


class RetriesItsSync(LoggedStore):
    """A failed sync is reported, and forgotten."""

    caught_by: ClassVar = "test_a_failed_sync_is_final"

    def poison(self, failure: BaseException) -> None:
        return


class ReadersWait(LoggedStore):
    """One lock for everything; whoever doesn't get it soon is told that the store is busy."""

    caught_by: ClassVar = "test_readers_do_not_wait_for_the_writer"

    def get(self, key: bytes, default: bytes | None = None) -> bytes | None:
        if not self._writer.acquire(timeout=0.2):
            raise StoreLocked(self._path, "a writer")
        try:
            return super().get(key, default)
        finally:
            self._writer.release()


class NeverShrinks(LoggedStore):
    """Compaction that does nothing."""

    caught_by: ClassVar = "test_compact_gives_space_back"

    def compact(self) -> None:
        self.check_usable()


class ScanReadsAhead(LoggedStore):
    """Fetches the whole range from its file when the first pair is asked for."""

    caught_by: ClassVar = "test_a_scan_reads_no_more_than_is_asked_for"

    def scan(self, *bounds: Any, **rest: Any) -> Iterator[Pair]:
        self._stats.bytes_read += self._log.size()
        return super().scan(*bounds, **rest)


# in a power cut


class SyncsEverySecondWrite(LoggedStore):
    """A sync is put off to go with the next one."""

    caught_by: ClassVar = "machine"
    due = True

    def _append(self, record: bytes, sync: bool) -> None:
        self.due = not self.due
        super()._append(record, sync and self.due)


class FlushDoesNothing(LoggedStore):
    """The writes with sync=False stay where they are."""

    caught_by: ClassVar = "machine"

    def flush(self) -> None:
        self.check_usable()


class LogsOperations(LoggedStore):
    """A record for each operation: half of a batch is whole, in the eyes of recovery."""

    caught_by: ClassVar = "machine"

    def write(self, batch: WriteBatch, *, sync: bool | None = None) -> None:
        if len(batch) < 2:
            super().write(batch, sync=sync)
            return
        with self._writer:
            self.check_usable()
            for operation in batch.operations:
                self._append(_encode_record([operation]), False)
            self._append(b"", self._sync_by_default if sync is None else sync)
            MemoryStore.write(self, batch)


class CompactionSyncsNoData(LoggedStore):
    """The new file gets the old one's name before it has its content."""

    caught_by: ClassVar = "machine"

    def _replace_log(self, operations: list[Operation]) -> File:
        new = self._env.open(f"{self._path}/LOG.new", "w")
        new.append(_encode_record(operations) if operations else b"")
        self._env.rename(f"{self._path}/LOG.new", f"{self._path}/LOG")
        self._env.sync_dir(self._path, "logged.rename")
        return new


class CompactionSyncsNoName(LoggedStore):
    """Nobody syncs the directory: after the cut the old log may be back, without what was written since."""

    caught_by: ClassVar = "machine"

    def _replace_log(self, operations: list[Operation]) -> File:
        new = self._env.open(f"{self._path}/LOG.new", "w")
        new.append(_encode_record(operations) if operations else b"")
        new.sync("logged.replace")
        self._env.rename(f"{self._path}/LOG.new", f"{self._path}/LOG")
        return new


class ForgetsItsTail(LoggedStore):
    """Recovery leaves a torn record where it is, and appends behind it what nobody will ever read."""

    caught_by: ClassVar = "machine"

    def _recover(self) -> File:
        log = super()._recover()
        if self._env.exists(f"{self._path}/TAIL"):
            log.append(b"a torn record")
        else:
            self._env.open(f"{self._path}/TAIL", "w").close()
        return log
