"""The smallest engine that keeps files: the memory engine with a log. What the suite's persistent half is tried on.

    directory     LOCK, LOG, and LOG.new while one is being written
    LOG           records, one for each batch
    record        crc32 u32 │ size of payload u32 │ payload: operations
    operation     1 byte: 1 put, 0 delete │ slice key │ slice value (empty for a delete)

Recovery replays the records up to the first that isn't whole, and cuts the rest off. `load` and `compact` write a
log of one record beside the old one, sync it, and rename it: before the rename all is old, after it all is new.

    pytest tests/conformance --engine tests/conformance/logged_store.py:LoggedStore

Left out: everything that makes a storage engine worth its name. All content is in memory.
"""

from __future__ import annotations

import threading
import zlib
from collections.abc import Iterable
from typing import Any

from engines.coding import get_slice, put_slice, u32
from engines.env import Env, File, real_env
from engines.kvstore import Operation, Pair, Stats, WriteBatch
from engines.lifetime import holding
from engines.memory import MemoryStore
from engines.pairs import ascending

__all__ = ["LoggedStore"]


class LoggedStore(MemoryStore):
    """MemoryStore, and on disk a log of its batches. Writers take turns on `_writer`, which no reader wants."""

    name = "logged"
    persistent = True

    @classmethod
    def recognises(cls, path: str, env: Env) -> bool:
        return env.exists(f"{path}/LOG")

    def __init__(self, path: str, *, env: Env | None = None, sync: bool = True) -> None:
        self._env = env or real_env()
        self._path = path
        self._sync_by_default = sync
        self._writer = threading.Lock()
        super().__init__(path, env=self._env)
        try:
            self._log = self._recover()
        except BaseException:
            super().close()
            raise

    def _recover(self) -> File:
        if not self._env.exists(f"{self._path}/LOG"):
            return self._replace_log([])
        log = self._env.open(f"{self._path}/LOG", "r+")
        content, end = log.pread(log.size(), 0), 0
        batch = WriteBatch()
        while (found := _decode_record(content, end)) is not None:
            operations, end = found
            batch.operations.extend(operations)
        super().write(batch)
        self._stats = Stats(live_bytes=self._stats.live_bytes)
        if end < len(content):
            log.truncate(end)
        # a record that a killed process left in the page cache is told to readers from now on, so it has to stay
        self._sync(log)
        return log

    def write(self, batch: WriteBatch, *, sync: bool | None = None) -> None:
        holding(self._writer, self._log_and_write, batch, self._sync_by_default if sync is None else sync)

    def _log_and_write(self, batch: WriteBatch, sync: bool) -> None:
        self.check_usable()
        if batch.operations:
            self._append(_encode_record(batch.operations), sync)
            super().write(batch)

    def _append(self, record: bytes, sync: bool) -> None:
        try:
            self._log.append(record)
            self._stats.bytes_written += len(record)
            if sync:
                self._sync(self._log)
        except BaseException as failure:  # the disk's, or an interrupt in the middle
            self.poison(failure)
            raise

    def _sync(self, file: File) -> None:
        file.sync("logged.append")
        self._stats.fsyncs += 1

    def load(self, pairs: Iterable[Pair]) -> None:
        self.check_usable()
        loaded = list(ascending(pairs))
        holding(self._writer, self._load, loaded)

    def _load(self, loaded: list[Pair]) -> None:
        self.check_usable()  # the pairs' own code may have closed the store, or forked
        self._rewrite(list(loaded))
        super().load(loaded)

    def compact(self) -> None:
        holding(self._writer, self._compact)

    def _compact(self) -> None:
        self.check_usable()
        self._rewrite(list(self._values.items()))

    def _rewrite(self, operations: list[Operation]) -> None:
        try:
            new = self._replace_log(operations)
            self._log.close()
            self._log = new
        except BaseException as failure:
            self.poison(failure)
            raise

    def _replace_log(self, operations: list[Operation]) -> File:
        record = _encode_record(operations) if operations else b""
        new = self._env.open(f"{self._path}/LOG.new", "w")
        try:
            new.append(record)
            self._stats.bytes_written += len(record)
            new.sync("logged.replace")
            self._env.rename(f"{self._path}/LOG.new", f"{self._path}/LOG")
            self._env.sync_dir(self._path, "logged.rename")
        except BaseException:
            new.close()
            raise
        self._stats.fsyncs += 2
        return new

    def flush(self) -> None:
        holding(self._writer, self._flush)

    def _flush(self) -> None:
        self.check_usable()
        self._append(b"", sync=True)

    def stats(self) -> Stats:
        stats = super().stats()
        stats.disk_bytes = self._log.size()
        stats.dead_bytes = max(0, stats.disk_bytes - stats.live_bytes)
        return stats

    def describe(self) -> dict[str, Any]:
        return super().describe() | {"log_bytes": self._log.size()}

    def close(self) -> None:
        holding(self._writer, self._close_log)

    def _close_log(self) -> None:
        try:
            if self.failure is None and not self.closed:
                self._log.sync("logged.close")
        finally:
            super().close()
            self._log.close()


def _encode_record(operations: list[Operation]) -> bytes:
    payload = b"".join(
        (b"\x00" if value is None else b"\x01") + put_slice(key) + put_slice(value or b"") for key, value in operations
    )
    return u32.pack(zlib.crc32(payload)) + u32.pack(len(payload)) + payload


def _decode_record(content: bytes, start: int) -> tuple[list[Operation], int] | None:
    """The record at `start` and the offset behind it; None if no whole record is there."""
    if start + 8 > len(content):
        return None
    (crc,), (size,) = u32.unpack_from(content, start), u32.unpack_from(content, start + 4)
    payload = content[start + 8 : start + 8 + size]
    if len(payload) != size or zlib.crc32(payload) != crc or not payload:
        return None
    operations: list[Operation] = []
    at = 0
    while at < size:
        key, after_key = get_slice(payload, at + 1)
        value, after_value = get_slice(payload, after_key)
        operations.append((key, value if payload[at] else None))
        at = after_value
    return operations, start + 8 + size
