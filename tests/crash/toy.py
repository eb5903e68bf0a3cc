"""A small correct store, and what goes wrong when one line of it is missing: the proof that the machine works.

    db/LOCK
    db/checkpoint    one such record: first log u32, operations                            replaced by rename
    db/000007.log    records: crc u32 | length u32 | durable u32 | payload: operations     a batch is one record
    operation        key length u16 | value length u16 (0xffff: delete) | key | value

`durable` is how many bytes of the log were known to be on disk when the record was written. It tells a torn tail from
bit rot: a damaged record at 100 with a valid one at 150 is a power cut, which has kept the later of two unsynced
writes; unless the valid one says that 120 bytes were durable before it.

Invariants:

1. The content is the checkpoint plus the logs from its `first log` on, in order.
2. A log is written to only when its name is durable, and when the logs before it are durable as a whole, or replaced
   by a checkpoint: so a torn tail can only be in the last log that isn't empty.
3. Logs before `first log` are unlinked only when the checkpoint that says so is durable under its name.
4. After a failed call the store refuses everything.

`flaw` removes one line: see FLAWS. The flaws that are a forgotten fsync are not among them, because leaving out the
site in SimEnv is the same.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from engines.env import Env, File, real_env
from engines.errors import CorruptionError
from engines.kvstore import KVStore, Operation, Pair, Snapshot, Stats, WriteBatch, scan_bounds

__all__ = ["FLAWS", "ToyStore"]

HEADER = struct.Struct("<III")
LENGTHS = struct.Struct("<HH")
DELETED = 0xFFFF

FLAWS = {
    "no_crc": "records are believed without their checksum",
    "ack_on_eio": "a failed fsync of the log is ignored",
    "retry_fsync": "a failed fsync of the log is tried again, and believed",
    "swallow": "a failed append to the log is ignored",
    "not_poisoned": "after a failure the store goes on",
    "truncate_without_sync": "recovery cuts a torn tail, and doesn't sync the file",
    "unlink_first": "old logs are unlinked before the checkpoint is renamed",
    "checkpoint_in_place": "the checkpoint is written over the old one",
    "buffered": "unsynced writes stay in the process until the next sync",
    "leaks_lock": "a failure in open leaves the lock held",
    "syncs_twice": "recovery syncs its directory once more, for nothing",
    "hangs": "a damaged record is read again and again",
}


def encode(operations: Iterable[Operation]) -> bytes:
    parts = []
    for key, value in operations:
        parts += [LENGTHS.pack(len(key), DELETED if value is None else len(value)), key, value or b""]
    return b"".join(parts)


def decode(payload: bytes) -> Iterator[Operation]:
    position = 0
    while position < len(payload):
        key_size, value_size = LENGTHS.unpack_from(payload, position)
        position += LENGTHS.size
        key = payload[position : position + key_size]
        position += key_size
        if value_size == DELETED:
            yield key, None
            continue
        yield key, payload[position : position + value_size]
        position += value_size


def frame(payload: bytes, durable: int = 0) -> bytes:
    record = HEADER.pack(0, len(payload), durable) + payload
    return zlib.crc32(record[4:]).to_bytes(4, "little") + record[4:]


class ToyStore(KVStore):
    """A dict, a log and a checkpoint."""

    name = "toy"

    def __init__(self, path: str, *, env: Env | None = None, sync: bool = True, flaw: str = "") -> None:
        assert not flaw or flaw in FLAWS
        env = env or real_env()
        self.path = path
        self.env = env
        self.default_sync = sync
        self.flaw = flaw
        self.items: dict[bytes, bytes] = {}
        self.buffer = b""
        self.log: File | None = None
        env.makedirs(path, "toy.mkdir")
        self.lock = env.lock(f"{path}/LOCK")
        try:
            self._recover()
        except BaseException:
            if flaw != "leaks_lock":
                self.lock.close()
            raise

    # ---- recovery -----------------------------------------------------------------------------------------------

    def _recover(self) -> None:
        first = self._read_checkpoint()
        # The checkpoint was perhaps read under a name that is only in the cache, after kill -9 before its sync.
        self.env.sync_dir(self.path, "toy.recover.name")
        if self.flaw == "syncs_twice":
            self.env.sync_dir(self.path, "toy.twice")
        logs = [int(name[:-4]) for name in self.env.list(self.path) if name.endswith(".log")]
        torn: str | None = None
        for number in sorted(logs):
            if number < first:
                self.env.unlink(self._log_name(number))
                continue
            name = self._log_name(number)
            if self._replay(name, torn):
                torn = name
        self.number = max([first - 1, *logs])
        self._new_log()

    def _read_checkpoint(self) -> int:
        name = f"{self.path}/checkpoint"
        if not self.env.exists(name):
            return 1
        payload, _ = self._record(self._read(name), 0)
        if payload is None or len(payload) < 4:
            raise CorruptionError(name, 0, "the checkpoint's checksum doesn't match: restore it from a copy")
        self.items = {key: value for key, value in decode(payload[4:]) if value is not None}
        return int.from_bytes(payload[:4], "little")

    def _replay(self, name: str, torn: str | None) -> bool:
        """Applies a log, cuts its torn tail and makes it durable; True if there was one.

        It is synced even if it seems whole: after kill -9, its end may be in the cache only, and what is written to
        the next log must not survive it.
        """
        data = self._read(name)
        if data and torn is not None:
            raise CorruptionError(
                torn, None, f"the log ends in the middle of a record, and yet {name} goes on after it"
            )
        end = 0
        while end < len(data):
            payload, after = self._record(data, end)
            if payload is None and self.flaw == "hangs":
                data = self._read(name)
                continue
            if payload is None:
                break
            self._take(decode(payload))
            end = after
        if self._durable_after(data, end) > end:
            raise CorruptionError(name, end, "a record that was on disk is damaged: restore the file from a copy")
        file = self.env.open(name, "r+")
        try:
            if end < len(data):
                file.truncate(end)
            if self.flaw != "truncate_without_sync":
                file.sync("toy.recover")
        finally:
            file.close()
        return end < len(data)

    def _durable_after(self, data: bytes, end: int) -> int:
        """What the valid records behind the damage at `end` say of how much had been on disk before them."""
        durable = 0
        for offset in range(end + 1, len(data) - HEADER.size):
            if self._record(data, offset)[0] is not None:
                durable = max(durable, HEADER.unpack_from(data, offset)[2])
        return 0 if self.flaw == "no_crc" else durable

    def _record(self, data: bytes, offset: int) -> tuple[bytes | None, int]:
        """The payload at `offset` and the offset after it; None if no whole record is there."""
        if offset + HEADER.size > len(data):
            return None, offset
        crc, size, _ = HEADER.unpack_from(data, offset)
        after = offset + HEADER.size + size
        whole = after <= len(data) and (self.flaw == "no_crc" or zlib.crc32(data[offset + 4 : after]) == crc)
        return (data[offset + HEADER.size : after] if whole else None), after

    def _read(self, name: str) -> bytes:
        file = self.env.open(name, "r")
        try:
            return file.pread(file.size(), 0)
        finally:
            file.close()

    def _log_name(self, number: int) -> str:
        return f"{self.path}/{number:06d}.log"

    def _new_log(self) -> None:
        """Begins the next log; its name is durable before anything is in it."""
        if self.log is not None:
            self.log.close()
        self.number += 1
        self.log = self.env.open(self._log_name(self.number), "x")
        self.durable = 0
        self.env.sync_dir(self.path, "toy.log.name")

    # ---- calls --------------------------------------------------------------------------------------------------

    def write(self, batch: WriteBatch, *, sync: bool | None = None) -> None:
        sync = self.default_sync if sync is None else sync
        with self._failing():
            self._append(frame(encode(batch.operations), self.durable), sync)
            if sync:
                self._sync("toy.append")
        self._take(batch.operations)

    def flush(self) -> None:
        with self._failing():
            if self.buffer:
                self._append(b"", True)
            self._sync("toy.flush")

    def compact(self) -> None:
        """Writes everything to a new checkpoint, and drops the logs before it."""
        self._checkpoint(self.items)

    def load(self, pairs: Iterable[Pair]) -> None:
        self._checkpoint(dict(pairs))

    def _checkpoint(self, items: dict[bytes, bytes]) -> None:
        with self._failing():
            old = self.number  # it need not be synced: the checkpoint will have what is in it
            self._new_log()
            if self.flaw == "unlink_first":
                self._drop_logs(old)
            self._write_checkpoint(items)
            if self.flaw != "unlink_first":
                self._drop_logs(old)
        self.items = items

    def _write_checkpoint(self, items: dict[bytes, bytes]) -> None:
        name = f"{self.path}/checkpoint"
        temporary = name if self.flaw == "checkpoint_in_place" else name + ".tmp"
        file = self.env.open(temporary, "w")
        try:
            file.append(frame(self.number.to_bytes(4, "little") + encode(sorted(items.items()))))
            file.sync("toy.checkpoint")
        finally:
            file.close()
        if temporary != name:
            self.env.rename(temporary, name)
        self.env.sync_dir(self.path, "toy.checkpoint.name")

    def _drop_logs(self, last: int) -> None:
        for name in self.env.list(self.path):
            if name.endswith(".log") and int(name[:-4]) <= last:
                self.env.unlink(f"{self.path}/{name}")

    def get(self, key: bytes, default: bytes | None = None) -> bytes | None:
        self.check_usable()
        return self.items.get(key, default)

    def scan(
        self,
        start: bytes = b"",
        stop: bytes | None = None,
        *,
        prefix: bytes | None = None,
        reverse: bool = False,
    ) -> Iterator[Pair]:
        self.check_usable()
        start, stop = scan_bounds(start, stop, prefix)
        keys = [key for key in self.items if start <= key and (stop is None or key < stop)]
        return iter([(key, self.items[key]) for key in sorted(keys, reverse=reverse)])

    def snapshot(self) -> Snapshot:
        raise NotImplementedError("the toy has no snapshots: a power cut ends them anyway")

    def check(self) -> list[str]:
        return []

    def stats(self) -> Stats:
        return Stats()

    def describe(self) -> dict[str, Any]:
        return {"log": self.number}

    def close(self) -> None:
        """Gives up the lock whatever happens."""
        if self.closed:
            return
        try:
            if self.failure is None:
                self.flush()
        finally:
            self.closed = True
            if self.log is not None:
                self.log.close()
                self.log = None
            self.lock.close()

    # ---- the log, and failures ----------------------------------------------------------------------------------

    def _take(self, operations: Iterable[Operation]) -> None:
        for key, value in operations:
            if value is None:
                self.items.pop(key, None)
            else:
                self.items[key] = value

    def _append(self, data: bytes, sync: bool) -> None:
        assert self.log is not None
        if self.flaw == "buffered":
            self.buffer += data
            if not sync:
                return
            data, self.buffer = self.buffer, b""
        try:
            self.log.append(data)
        except OSError:
            if self.flaw != "swallow":
                raise

    def _sync(self, site: str) -> None:
        assert self.log is not None
        try:
            self.log.sync(site)
        except OSError:
            if self.flaw == "retry_fsync":
                self.log.sync(site)
            elif self.flaw != "ack_on_eio":
                raise
        self.durable = self.log.size()

    @contextmanager
    def _failing(self) -> Iterator[None]:
        """Remembers the first OSError of a block, for good."""
        self.check_usable()
        try:
            yield
        except OSError as error:
            if self.flaw != "not_poisoned":
                self.poison(error)
            raise
