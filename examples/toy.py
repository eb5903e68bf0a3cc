"""A small engine that is complete: a map in memory, a log, a checkpoint. engines/WRITE_AN_ENGINE.md walks through it.

    store/LOCK
    store/toy-checkpoint    one record: number of the first log that counts, u32 │ operations      replaced by rename
    store/toy-000007.log    records, one for each batch: crc u32 │ size u32 │ durable u32 │ payload: operations
    operation               put or delete u8 │ key size u32 │ value size u32 │ key │ value

`durable` is how many bytes of the log were known to be on disk when the record was written. It tells a torn tail from
bit rot: a damaged record at 100 with a valid one at 150 is a power cut, which has kept the later of two unsynced
writes; unless the valid one says that 120 bytes were durable before it.

Invariants:

1. The content is the checkpoint plus the logs from its first log on, in order.
2. A log is written to only when its name is durable, and when the logs before it are durable as a whole, or replaced
   by a checkpoint: so a torn tail can only be in the last log that isn't empty.
3. Logs before the first one that counts are unlinked only when the checkpoint that says so is durable under its name.
4. The dict in memory is never changed: a write makes another one and puts it in its place with one assignment. So a
   snapshot is a reference, a reader never sees half of a batch, and nobody waits for the writer.

    pytest tests/conformance --engine examples/toy.py:ToyStore
    python -m tests.crash examples/toy.py:ToyStore

Left out: speed. A write copies the dict, a scan sorts its keys, and all content is in memory.
"""

from __future__ import annotations

import struct
import threading
import zlib
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from engines.env import Env, File, StorePath, real_env
from engines.errors import CorruptionError, StoreClosed
from engines.files import read_whole
from engines.kvstore import KVStore, Operation, Pair, Snapshot, Stats, WriteBatch, check_key_type, scan_bounds
from engines.lifetime import holding
from engines.pairs import ascending

__all__ = ["ToySnapshot", "ToyStore"]

HEADER = struct.Struct("<III")
OPERATION = struct.Struct("<?II")  # True: a put
Items = dict[bytes, bytes]


def encode(operations: Iterable[Operation]) -> bytes:
    """A record's payload."""
    parts = []
    for key, value in operations:
        parts += [OPERATION.pack(value is not None, len(key), len(value or b"")), key, value or b""]
    return b"".join(parts)


def decode(payload: bytes) -> Iterator[Operation]:
    """The operations of a payload whose checksum was right."""
    at = 0
    while at < len(payload):
        is_put, key_size, value_size = OPERATION.unpack_from(payload, at)
        at += OPERATION.size
        key = payload[at : at + key_size]
        at += key_size
        yield key, payload[at : at + value_size] if is_put else None
        at += value_size


def frame(payload: bytes, durable: int = 0) -> bytes:
    """The record of a payload."""
    body = struct.pack("<II", len(payload), durable) + payload
    return struct.pack("<I", zlib.crc32(body)) + body


def changed(items: Items, operations: Iterable[Operation]) -> Items:
    """Another dict, with the operations applied. O(n): the price of invariant 4."""
    items = dict(items)
    for key, value in operations:
        if value is None:
            items.pop(key, None)
        else:
            items[key] = value
    return items


class ToyStore(KVStore):
    """A dict, a log and a checkpoint. Writers take turns on `_writer`, which no reader wants."""

    name = "toy"

    @classmethod
    def recognises(cls, path: StorePath, env: Env) -> bool:
        path = env.absolute(path)
        return env.is_dir(path) and any(name.startswith("toy-") for name in env.list(path))

    def __init__(self, path: StorePath, *, env: Env | None = None, sync: bool = True) -> None:
        self._env = env or real_env()
        self.path = self._directory = self._env.absolute(path)
        self._sync_by_default = sync
        self._writer = threading.Lock()
        self._items: Items = {}
        self._stats = Stats()
        self._log: File | None = None
        self._env.makedirs(self._directory, "toy.mkdir")
        self._lock = self._env.lock(f"{self._directory}/LOCK")
        try:
            self._recover()
            self.opened(self._env)
        except BaseException:
            self._lock.close()
            raise

    # ---- recovery -----------------------------------------------------------------------------------------------

    def _recover(self) -> None:
        """From the files to the content, and a new log for what comes."""
        first, self._items = self._read_checkpoint()
        # The checkpoint was perhaps read under a name that is only in the cache, after kill -9 before its sync.
        self._env.sync_dir(self._directory, "toy.recover.name")
        numbers = self._log_numbers()
        torn: str | None = None
        for number in numbers:
            path = self._log_path(number)
            if number < first:
                self._env.unlink(path)
                continue
            operations, end, size = self._read_log(path)
            if size and torn is not None:
                raise CorruptionError(torn, None, f"the log ends within a record, and yet {path} goes on after it")
            torn = path if end < size else torn
            # It is synced even if it is whole: after kill -9 its end may be in the cache only, and what is written to
            # the next log must not survive it.
            self._cut(path, end, size)
            self._items = changed(self._items, operations)
            self._stats.disk_bytes += end
        self._first, self._number = first, max([first - 1, *numbers])
        self._begin_log()

    def _read_checkpoint(self) -> tuple[int, Items]:
        path = f"{self._directory}/toy-checkpoint"
        if not self._env.exists(path):
            return 1, {}
        content = self._read(path)
        payload, _ = self._record(content, 0)
        if payload is None or len(payload) < 4:
            raise CorruptionError(path, 0, "the checkpoint's checksum doesn't match: restore it from a copy")
        self._stats.disk_bytes = len(content)
        return int.from_bytes(payload[:4], "little"), changed({}, decode(payload[4:]))

    def _read_log(self, path: str) -> tuple[list[Operation], int, int]:
        """The operations of the whole records, where these end, and the file's size."""
        content = self._read(path)
        operations: list[Operation] = []
        end = 0
        while True:
            payload, after = self._record(content, end)
            if payload is None:
                break
            operations += decode(payload)
            end = after
        if self._durable_after(content, end) > end:
            raise CorruptionError(path, end, "a record that was on disk is damaged: restore the file from a copy")
        return operations, end, len(content)

    def _durable_after(self, content: bytes, end: int) -> int:
        """How much of the log had been on disk, as the valid records after the damage at `end` say."""
        offsets = range(end + 1, len(content) - HEADER.size)
        valid = (offset for offset in offsets if self._record(content, offset)[0] is not None)
        return max((HEADER.unpack_from(content, offset)[2] for offset in valid), default=0)

    def _record(self, content: bytes, offset: int) -> tuple[bytes | None, int]:
        """The payload of the record at `offset` and the offset after it; None if no whole record is there."""
        if offset + HEADER.size > len(content):
            return None, offset
        crc, size, _ = HEADER.unpack_from(content, offset)
        after = offset + HEADER.size + size
        whole = after <= len(content) and self._sum_is_right(crc, content[offset + 4 : after])
        return (content[offset + HEADER.size : after] if whole else None), after

    def _sum_is_right(self, crc: int, body: bytes) -> bool:
        return zlib.crc32(body) == crc

    def _cut(self, path: str, end: int, size: int) -> None:
        """Takes a torn tail away, for good."""
        file = self._env.open(path, "r+")
        try:
            if end < size:
                file.truncate(end)
            file.sync("toy.recover")
        finally:
            file.close()

    def _read(self, path: str) -> bytes:
        content = read_whole(self._env, path)
        self._stats.bytes_read += len(content)
        return content

    # ---- reads --------------------------------------------------------------------------------------------------

    def get(self, key: bytes, default: bytes | None = None) -> bytes | None:
        check_key_type(key)
        self.check_usable()
        self._stats.gets += 1
        return self._items.get(key, default)

    def scan(
        self,
        start: bytes = b"",
        stop: bytes | None = None,
        *,
        prefix: bytes | None = None,
        reverse: bool = False,
    ) -> Iterator[Pair]:
        return self.snapshot().scan(start, stop, prefix=prefix, reverse=reverse)

    def snapshot(self) -> ToySnapshot:
        """O(1): the current dict, which nobody changes."""
        self.check_usable()
        return ToySnapshot(self, self._items)

    # ---- writes -------------------------------------------------------------------------------------------------

    def write(self, batch: WriteBatch, *, sync: bool | None = None) -> None:
        holding(self._writer, self._write, batch, self._sync_by_default if sync is None else sync)

    def _write(self, batch: WriteBatch, sync: bool) -> None:
        with self._failing_for_good():
            if batch.operations:
                self._append(frame(encode(batch.operations), self._durable))
                if sync:
                    self._sync("toy.append")
                self._items = changed(self._items, batch.operations)
        self._stats.user_bytes += batch.size_bytes
        self._stats.puts += sum(value is not None for _, value in batch.operations)
        self._stats.deletes += sum(value is None for _, value in batch.operations)

    def flush(self) -> None:
        holding(self._writer, self._flush)

    def _flush(self) -> None:
        with self._failing_for_good():
            self._sync("toy.flush")

    def load(self, pairs: Iterable[Pair]) -> None:
        self.check_usable()
        items = dict(ascending(self.while_usable(pairs)))
        holding(self._writer, self._checkpoint, items)

    def compact(self) -> None:
        holding(self._writer, self._checkpoint, None)

    def _checkpoint(self, items: Items | None) -> None:
        """Writes the items (None: the current ones) to a new checkpoint, and drops the logs before it."""
        with self._failing_for_good():
            items = self._items if items is None else items
            # the last log need not be synced: the checkpoint has what is in it
            self._begin_log()
            self._write_checkpoint(items)
            self._drop_logs(self._number)
            self._items = items

    def _write_checkpoint(self, items: Items) -> None:
        path = f"{self._directory}/toy-checkpoint"
        record = frame(self._number.to_bytes(4, "little") + encode(sorted(items.items())))
        file = self._env.open(f"{path}.tmp", "w")
        try:
            file.append(record)
            file.sync("toy.checkpoint")
        finally:
            file.close()
        self._env.rename(f"{path}.tmp", path)
        self._env.sync_dir(self._directory, "toy.checkpoint.name")
        self._stats.fsyncs += 2
        self._stats.bytes_written += len(record)
        self._stats.disk_bytes = len(record)

    def _drop_logs(self, first: int) -> None:
        for number in self._log_numbers():
            if number < first:
                self._env.unlink(self._log_path(number))
        self._first = first

    # ---- the log, and failures ----------------------------------------------------------------------------------

    def _log_path(self, number: int) -> str:
        return f"{self._directory}/toy-{number:06d}.log"

    def _log_numbers(self) -> list[int]:
        names = self._env.list(self._directory)
        return sorted(int(name[4:-4]) for name in names if name.startswith("toy-") and name.endswith(".log"))

    def _begin_log(self) -> None:
        """The next log; its name is durable before anything is in it."""
        if self._log is not None:
            self._log.close()
        self._number += 1
        self._log = self._env.open(self._log_path(self._number), "x")
        self._durable = 0
        self._env.sync_dir(self._directory, "toy.log.name")
        self._stats.fsyncs += 1

    def _append(self, record: bytes) -> None:
        assert self._log is not None
        self._log.append(record)
        self._stats.bytes_written += len(record)
        self._stats.disk_bytes += len(record)

    def _sync(self, site: str) -> None:
        assert self._log is not None
        self._log.sync(site)
        self._stats.fsyncs += 1
        self._durable = self._log.size()

    @contextmanager
    def _failing_for_good(self) -> Iterator[None]:
        """Refuses what comes after close or a failure; an error or an interrupt within the block is the store's last."""
        self.check_usable()
        try:
            yield
        except BaseException as failure:
            self.poison(failure)
            raise

    # ---- for people, and the end --------------------------------------------------------------------------------

    def check(self) -> list[str]:
        return holding(self._writer, self._check)

    def _check(self) -> list[str]:
        """Reads the files again, and compares them with the content in memory."""
        self.check_usable()
        disk_bytes = self._stats.disk_bytes
        try:
            first, items = self._read_checkpoint()
            for number in range(first, self._number + 1):
                if self._env.exists(self._log_path(number)):
                    items = changed(items, self._read_log(self._log_path(number))[0])
        except CorruptionError as damage:
            return [str(damage)]
        finally:
            self._stats.disk_bytes = disk_bytes
        return [] if items == self._items else [f"{self._directory}: the files don't say what was written"]

    def stats(self) -> Stats:
        self.check_usable()
        stats = self._stats.copy()
        stats.live_bytes = sum(len(key) + len(value) for key, value in self._items.items())
        stats.dead_bytes = max(0, stats.disk_bytes - stats.live_bytes)
        return stats

    def describe(self) -> dict[str, Any]:
        self.check_usable()
        return {"engine": self.name, "keys": len(self._items), "first log": self._first, "last log": self._number}

    def close(self) -> None:
        if not self.stuck(self._writer):
            holding(self._writer, self._close)

    def _close(self) -> None:
        """Gives up the lock whatever happens. Each line may be run twice, after an interrupt."""
        try:
            if not self.closed and self.failure is None:
                self._flush()
        finally:
            self.closed = True
            if self._log is not None:
                self._log.close()
            self._lock.close()


class ToySnapshot(Snapshot):
    """A reference to the dict of one moment."""

    def __init__(self, store: ToyStore, items: Items) -> None:
        self._store = store
        self._items = items
        self._closed = False

    def get(self, key: bytes, default: bytes | None = None) -> bytes | None:
        check_key_type(key)
        self._check_open()
        return self._items.get(key, default)

    def scan(
        self,
        start: bytes = b"",
        stop: bytes | None = None,
        *,
        prefix: bytes | None = None,
        reverse: bool = False,
    ) -> Iterator[Pair]:
        start, stop = scan_bounds(start, stop, prefix)
        self._check_open()
        return self._pairs(start, stop, reverse)

    def _pairs(self, start: bytes, stop: bytes | None, reverse: bool) -> Iterator[Pair]:
        keys = sorted(self._items)
        keys = keys[bisect_left(keys, start) : len(keys) if stop is None else bisect_left(keys, stop)]
        for key in reversed(keys) if reverse else keys:
            self._check_open()
            yield key, self._items[key]

    def _check_open(self) -> None:
        self._store.check_usable()
        if self._closed:
            raise StoreClosed("the snapshot is closed: take another one")

    def close(self) -> None:
        self._closed = True
