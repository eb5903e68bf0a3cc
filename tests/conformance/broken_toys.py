"""Engines with one bug each that shows on a disk only: the toy engine, gone wrong. See broken_stores.py."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from engines.env import Env, StorePath
from engines.errors import StoreLocked
from engines.kvstore import Pair, WriteBatch
from examples.toy import HEADER, Items, ToyStore, encode, frame


class NeverSyncs(ToyStore):
    """Fast."""

    caught_by: ClassVar = "test_a_store_syncs_each_write_unless_told_otherwise"

    def write(self, batch: WriteBatch, *, sync: bool | None = None) -> None:
        super().write(batch, sync=False)


class GoesPastItsEnv(ToyStore):
    """Opens its files itself, as if there were no Env."""

    caught_by: ClassVar = "test_every_file_is_reached_through_the_env"

    def __init__(self, path: StorePath, *, env: Env | None = None, sync: bool = True) -> None:
        super().__init__(path, sync=sync)


class DeletesAreNotLogged(ToyStore):
    """What isn't there needn't be written down."""

    caught_by: ClassVar = "test_reopening_keeps_everything"

    def _append(self, record: bytes) -> None:
        super()._append(b"" if record[HEADER.size] == 0 else record)


class KeepsItInTheProcess(ToyStore):
    """Records wait in a buffer of the process until somebody wants them on disk."""

    caught_by: ClassVar = "test_a_killed_process_loses_nothing"
    waiting = b""

    def _append(self, record: bytes) -> None:
        self.waiting += record

    def _sync(self, site: str) -> None:
        super()._append(self.waiting)
        self.waiting = b""
        super()._sync(site)


class LocksNobodyOut(ToyStore):
    """The lock is given up as soon as the store is open."""

    caught_by: ClassVar = "test_a_second_open_is_refused"

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._lock.close()


class RetriesItsSync(ToyStore):
    """A failed sync is reported, and forgotten."""

    caught_by: ClassVar = "test_a_failed_sync_is_final"

    def poison(self, failure: BaseException) -> None:
        return


class ReadersWait(ToyStore):
    """One lock for everything; a caller who doesn't get it soon is told that the store is busy."""

    caught_by: ClassVar = "test_readers_do_not_wait_for_the_writer"

    def get(self, key: bytes, default: bytes | None = None) -> bytes | None:
        if not self._writer.acquire(timeout=0.2):
            raise StoreLocked(self._directory, "a writer")
        try:
            return super().get(key, default)
        finally:
            self._writer.release()


class NeverShrinks(ToyStore):
    """Compaction that does nothing."""

    caught_by: ClassVar = "test_compact_gives_space_back"

    def compact(self) -> None:
        self.check_usable()


class ScanReadsAhead(ToyStore):
    """Fetches the whole range from its file when the first pair is asked for."""

    caught_by: ClassVar = "test_a_scan_reads_no_more_than_is_asked_for"

    def scan(self, *bounds: Any, **rest: Any) -> Iterator[Pair]:
        self._stats.bytes_read += self._stats.disk_bytes
        return super().scan(*bounds, **rest)


# in a power cut


class SyncsEverySecondWrite(ToyStore):
    """A sync is put off to go with the next one."""

    caught_by: ClassVar = "machine"
    due = True

    def _sync(self, site: str) -> None:
        self.due = not self.due
        if self.due or site != "toy.append":
            super()._sync(site)


class FlushDoesNothing(ToyStore):
    """The writes with sync=False stay where they are."""

    caught_by: ClassVar = "machine"

    def flush(self) -> None:
        self.check_usable()


class LogsOperations(ToyStore):
    """A record for each operation: half of a batch is whole, in the eyes of recovery."""

    caught_by: ClassVar = "machine"

    def _write(self, batch: WriteBatch, sync: bool) -> None:
        for operation in batch.operations[:-1]:
            self._append(frame(encode([operation]), self._durable))
        super()._write(batch, sync)


class CheckpointsWithoutItsData(ToyStore):
    """The new checkpoint gets the old one's name before it has its content."""

    caught_by: ClassVar = "machine"

    def _write_checkpoint(self, items: Items) -> None:
        path = f"{self._directory}/toy-checkpoint"
        file = self._env.open(f"{path}.tmp", "w")
        file.append(frame(self._number.to_bytes(4, "little") + encode(sorted(items.items()))))
        file.close()
        self._env.rename(f"{path}.tmp", path)
        self._env.sync_dir(self._directory, "toy.checkpoint.name")


class BeginsLogsWithoutTheirName(ToyStore):
    """Nobody syncs the directory: after the cut the new log may be gone, with what was written to it."""

    caught_by: ClassVar = "machine"

    def _begin_log(self) -> None:
        assert self._log is None or self._log.close() is None
        self._number += 1
        self._log = self._env.open(self._log_path(self._number), "x")
        self._durable = 0


class ForgetsItsTail(ToyStore):
    """Recovery leaves a torn record where it is, and appends after it what nobody will ever read."""

    caught_by: ClassVar = "machine"

    def _cut(self, path: str, end: int, size: int) -> None:
        super()._cut(path, size, size)

    def _begin_log(self) -> None:
        if self._log is None and self._env.exists(self._log_path(self._number)):
            self._log = self._env.open(self._log_path(self._number), "r+")
            self._durable = self._log.size()
        else:
            super()._begin_log()
