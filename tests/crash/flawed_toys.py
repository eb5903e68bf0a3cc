"""The toy engine with one line wrong: what the power-cut machine has to find. See test_machine.py.

A forgotten fsync is not among them, because leaving out its site in SimEnv is the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from engines.kvstore import Pair
from examples.toy import Items, ToyStore, encode, frame


class NoChecksum(ToyStore):
    """Records are believed without their checksum."""

    def _sum_is_right(self, crc: int, body: bytes) -> bool:
        return True

    def _durable_after(self, content: bytes, end: int) -> int:
        return 0


class AcknowledgesAFailedSync(ToyStore):
    """A failed fsync of the log is ignored."""

    def _sync(self, site: str) -> None:
        try:
            super()._sync(site)
        except OSError:
            self._durable = 0


class RetriesASync(ToyStore):
    """A failed fsync of the log is tried again, and believed."""

    def _sync(self, site: str) -> None:
        try:
            super()._sync(site)
        except OSError:
            super()._sync(site)


class SwallowsAFailedAppend(ToyStore):
    """A failed append to the log is ignored."""

    def _append(self, record: bytes) -> None:
        try:
            super()._append(record)
        except OSError:
            return


class GoesOnAfterAFailure(ToyStore):
    """After a failure the store goes on."""

    def poison(self, failure: BaseException) -> None:
        return


class CutsWithoutASync(ToyStore):
    """Recovery cuts a torn tail, and doesn't sync the file."""

    def _cut(self, path: str, end: int, size: int) -> None:
        file = self._env.open(path, "r+")
        if end < size:
            file.truncate(end)
        file.close()


class UnlinksFirst(ToyStore):
    """Old logs are unlinked before the checkpoint is renamed."""

    def _write_checkpoint(self, items: Items) -> None:
        self._drop_logs(self._number)
        super()._write_checkpoint(items)


class OverwritesItsCheckpoint(ToyStore):
    """The checkpoint is written over the old one."""

    def _write_checkpoint(self, items: Items) -> None:
        file = self._env.open(f"{self._directory}/toy-checkpoint", "w")
        file.append(frame(self._number.to_bytes(4, "little") + encode(sorted(items.items()))))
        file.sync("toy.checkpoint")
        file.close()
        self._env.sync_dir(self._directory, "toy.checkpoint.name")


class BuffersInTheProcess(ToyStore):
    """Unsynced writes stay in the process until the next sync."""

    _buffer = b""

    def _append(self, record: bytes) -> None:
        self._buffer += record

    def _sync(self, site: str) -> None:
        super()._append(self._buffer)
        self._buffer = b""
        super()._sync(site)


class _Kept:
    """A lock that isn't given up."""

    def close(self) -> None:
        return


class LeaksItsLock(ToyStore):
    """A failure in open leaves the lock held."""

    def _recover(self) -> None:
        try:
            super()._recover()
        except BaseException:
            self._lock = _Kept()
            raise


class SyncsTwice(ToyStore):
    """Recovery syncs its directory once more, for nothing."""

    def _recover(self) -> None:
        super()._recover()
        self._env.sync_dir(self._directory, "toy.twice")


class CannotScan(ToyStore):
    """Raises with the power on."""

    def scan(self, *bounds: Any, **rest: Any) -> Iterator[Pair]:
        raise KeyError("scan")


class Hangs(ToyStore):
    """A damaged record is read again and again."""

    def _record(self, content: bytes, offset: int) -> tuple[bytes | None, int]:
        found: Any = super()._record(content, offset)
        while found[0] is None and offset < len(content):
            self._env.list(self._directory)
        return found
