"""The Bitcask engine: a log of records, and in memory where each key's last value lies.

    engines.open("data", engine="bitcask", max_file_size=64 << 20)

    put     append a record to the active segment, turn the key's place to it         one copy through a mapping
    get     look the place up, read the record, verify it                             one read, exactly
    delete  append a tombstone, forget the key
    batch   append a mark and the records behind it                                   engines.bitcask.record

| module   | its one thought                                                             |
|----------|-----------------------------------------------------------------------------|
| record   | what a file consists of: values, tombstones, marks                          |
| hint     | a file's keys without its values                                            |
| segment  | the files: the active one, the sealed ones, when they go away               |
| log      | the writing end: what a put and a batch append                              |
| keydir   | key → place; the keys in order; what an open view remembers                 |
| scan     | a file from end to end: what belongs together is whole, or not there        |
| torn     | where a file stops being whole: a torn end, or damage                       |
| survey   | which files of a directory count                                            |
| leftovers| what Riak's merges have marked: theirs, or a copy from a file system        |
| recovery | opening, for writing and for reading only                                   |
| repair   | files without their damage                                                  |
| merge    | getting space back, without getting deleted keys back                       |
| load     | replacing everything at one moment                                          |
| snapshot | reads of one moment                                                         |
| locks    | one store, or one Riak                                                      |
| check    | reading everything, and comparing                                           |
| dump     | files as text                                                               |

Best at point reads and writes whose keys fit in memory: a key of 16 bytes takes 170 there, whatever its value. Worst
at ordered scans of what isn't cached. The paper: Sheehy and Smith, "Bitcask: A Log-Structured Hash Table for Fast
Key/Value Data" (2010); the format and the rules of merging are those of basho/bitcask 2, whose Erlang opens our
directories, and we its. FORMAT.md has the bytes.

Threads. Three locks, taken in this order:

    _merging   one merge, load or check at a time
    _writer    whoever appends, or changes which files there are; held during syncs
    _mutex     keydir, undo maps and retirement; held for microseconds, never during I/O

A get takes none of them, a scan the last one, so no reader waits for a writer. A get may find that the file of its
place went away in between: then it looks the place up again. Counters of gets may miss some when several threads read.

Left out: expiry of values by age, secondary indexes, keydirs shared between processes.
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Collection, Iterable, Iterator
from typing import Any, Unpack
from zlib import crc32

from engines.bitcask.check import check, counters, describe
from engines.bitcask.dump import dump
from engines.bitcask.keydir import OFFSET_MASK, SEGMENT_SHIFT, SIZE_BITS, SIZE_MASK, Changes, Keydir, Undo
from engines.bitcask.load import finish_load, load
from engines.bitcask.locks import OWN_LOCK, DirectoryLock, shared_lock
from engines.bitcask.log import Log
from engines.bitcask.merge import Merge, choose, is_compact
from engines.bitcask.options import Options
from engines.bitcask.record import HEADER_BYTES, TOMBSTONE, refuse_tombstone
from engines.bitcask.recovery import look, recover
from engines.bitcask.repair import log_repair, repair
from engines.bitcask.segment import SegmentTable, data_path
from engines.bitcask.snapshot import BitcaskSnapshot
from engines.bitcask.survey import directory_has_segments
from engines.bitcask.torn import repair_advice
from engines.env import Env, StorePath, real_env
from engines.errors import CorruptionError, InvalidOption, NoSuchStore, ReadOnly, StoreChanged, StoreError
from engines.keywords import BitcaskKeywords
from engines.kvstore import MAX_KEY_BYTES, KVStore, Pair, Stats, WriteBatch, check_key, check_key_type, check_value
from engines.lifetime import holding

__all__ = ["BitcaskStore"]

NEVER = 1 << 62


class BitcaskStore(KVStore):
    """A store in a directory of Riak's Bitcask files. `options` are those of engines.bitcask.options.Options.

    Raises StoreLocked, CorruptionError, ForeignFormat, InvalidOption, NoSuchStore, OSError. Opening costs 1 µs for each key
    if all hints are there. With read_only=True a get costs a system call, since another program may cut what is mapped.
    """

    name = "bitcask"
    option_class = Options

    def __init__(self, path: StorePath, *, env: Env | None = None, **options: Unpack[BitcaskKeywords]) -> None:
        env = env or real_env()
        self.path: str = env.absolute(path)
        told = Options.of(options)
        if (told.read_only or not told.create) and not self.recognises(self.path, env):
            raise NoSuchStore.at(self.path)
        self._sync = told.sync
        self._max_file_size = told.max_file_size
        self._merge_when = told.merge
        self._garbage_share = told.garbage_share
        self._dead_bytes = told.dead_bytes
        self._merging = threading.Lock()
        self._writer = threading.Lock()
        self._mutex = threading.Lock()
        self._merge_thread: threading.Thread | None = None
        self._stats = Stats()
        self._hits = self._misses = self._hits_of_scans = self._bytes_of_reads = self._merges = 0
        self._snapshots: dict[int, weakref.ref[BitcaskSnapshot]] = {}
        self._snapshot_number = 0
        self._keydir = Keydir()
        self._read_only = told.read_only
        self._table = SegmentTable(env, self.path, self._stats, told.max_open_files, read_only=told.read_only)
        self._log = Log(env, self._table, told.max_file_size)
        if not told.read_only:
            env.makedirs(self.path, "bitcask.open.mkdir")
        if told.repair and self.recognises(self.path, env):
            log_repair(self.path, repair(self.path, env))
        self._lock = shared_lock(env, self.path) if told.read_only else DirectoryLock(env, self.path)
        try:
            if told.read_only:
                look(self._table, self._keydir)
            else:
                recover(self._table, self._keydir)
                self._log.not_before(self._table.last_timestamp)
        except BaseException:
            self._lock.close()
            raise
        self.opened(env)

    @classmethod
    def recognises(cls, path: StorePath, env: Env) -> bool:
        path = env.absolute(path)
        return env.is_dir(path) and (env.exists(f"{path}/{OWN_LOCK}") or directory_has_segments(env, path))

    @classmethod
    def dump(cls, path: StorePath, env: Env) -> Iterator[str]:
        """As the contract says; engines.bitcask.dump has an example."""
        return dump(env.absolute(path), env)

    @classmethod
    def repair(cls, path: StorePath, env: Env) -> list[str]:
        """As the contract says; engines.bitcask.repair says what is kept."""
        path = env.absolute(path)
        if not cls.recognises(path, env):
            raise NoSuchStore.at(path)
        return repair(path, env)

    # ---- reading ------------------------------------------------------------------------------------------------

    def get(self, key: bytes, default: bytes | None = None) -> bytes | None:
        """As the contract says. One lookup and one read, whose checksum is verified: O(1)."""
        if type(key) is not bytes:
            check_key_type(key)
        if self.closed or self.failure is not None:
            self.refuse()
        place = self._keydir.places.get(key)
        if place is None:
            self._misses += 1
            return default
        view = self._table.views.get(place >> SEGMENT_SHIFT)
        if view is not None:
            size = place & SIZE_MASK
            offset = place >> SIZE_BITS & OFFSET_MASK
            record = view[offset : offset + size]
            if crc32(record[4:]) == int.from_bytes(record[:4]) and record.startswith(key, HEADER_BYTES):
                self._hits += 1
                self._bytes_of_reads += size
                return record[HEADER_BYTES + len(key) :]
        return self._get_again(key, default)

    def _get_again(self, key: bytes, default: bytes | None) -> bytes | None:
        """`get` where the file is not mapped, or is gone, or damaged."""
        while True:
            place = self._keydir.places.get(key)
            if place is None:
                self._misses += 1
                return default
            with contextlib.suppress(KeyError):  # a merge has moved the value, and removed the file
                return self._read(key, place)
            self.check_usable()

    def _read(self, key: bytes, place: int) -> bytes:
        """The value at a place. Raises KeyError if its file is gone, CorruptionError, OSError."""
        file_id, offset, size = place >> SEGMENT_SHIFT, place >> SIZE_BITS & OFFSET_MASK, place & SIZE_MASK
        record = self._table.view(file_id)[offset : offset + size]
        self._hits += 1
        self._bytes_of_reads += size
        if len(record) == size and crc32(record[4:]) == int.from_bytes(record[:4]):
            if record.startswith(key, HEADER_BYTES):
                return record[HEADER_BYTES + len(key) :]
            why = f"the keydir says that the record of {key[:40]!r} is here, and it is another key's"
        elif len(record) == size:
            why = f"the record of {key[:40]!r} fails its checksum"
        elif self._read_only:
            raise StoreChanged(data_path(self._table.directory, file_id), "is shorter than it was")
        else:
            why = f"the record of {key[:40]!r} has {size:,} bytes, and the file ends after {len(record):,} of them"
        raise CorruptionError(
            data_path(self._table.directory, file_id), offset, f"{why}; {repair_advice(self._table.directory)}"
        )

    def scan(
        self,
        start: bytes = b"",
        stop: bytes | None = None,
        *,
        prefix: bytes | None = None,
        reverse: bool = False,
    ) -> Iterator[Pair]:
        """As the contract says; the moment of the call is held by a snapshot that ends with the iteration.

        The first scan sorts all keys, O(n log n); from then on they are kept in order.
        """
        return self.snapshot().scan(start, stop, prefix=prefix, reverse=reverse)

    def snapshot(self) -> BitcaskSnapshot:
        """O(1). Each later write of a key costs each open snapshot one note; files wait for it to be closed."""
        self.check_usable()
        return holding(self._mutex, self._new_snapshot)

    def _new_snapshot(self) -> BitcaskSnapshot:
        self._snapshot_number = number = self._snapshot_number + 1
        snapshot = BitcaskSnapshot(self, self._keydir, self._table.epoch, number)
        snapshots = self._snapshots
        snapshots[number] = weakref.ref(snapshot, lambda _: snapshots.pop(number, None) and None)
        return snapshot

    def _close_snapshot(self, number: int) -> None:
        self._snapshots.pop(number, None)
        if self._table.retired and not self._writer.locked():  # else whoever has it does this soon enough
            holding(self._writer, self._remove_retired_if_usable)

    def _undo_maps(self) -> list[Undo]:
        """The undo maps of the open snapshots of the present keydir. Requires: the mutex."""
        snapshots = [ref() for ref in list(self._snapshots.values())]
        keydir = self._keydir
        return [snapshot.undo for snapshot in snapshots if snapshot is not None and snapshot._keydir is keydir]

    # ---- writing ------------------------------------------------------------------------------------------------

    def put(self, key: bytes, value: bytes, *, sync: bool | None = None) -> None:
        """As the contract says: `write` for one key, without the detour. O(1), one copy of the record."""
        if type(key) is not bytes or not 0 < len(key) <= MAX_KEY_BYTES:
            check_key(key)
        if type(value) is not bytes or value[:17] == TOMBSTONE or len(value) > self.max_value_bytes:
            self._check_value(value)
        with self._writer: self._put(key, value, self._sync if sync is None else sync)  # fmt: skip  # noqa: E701
        if self._log.rotations:
            self._merge_if_due()

    def _put(self, key: bytes, value: bytes, sync: bool) -> None:
        """Requires: the writer's lock."""
        if self.closed or self.failure is not None or self._read_only:
            self._check_writable()
        try:
            keydir = self._keydir
            places = keydir.places
            old = places.get(key)
            place = self._log.put(places, key, value, sync)
            with self._mutex: places[key] = self._noted(key, old, place) if self._snapshots or keydir.order.made else place  # fmt: skip  # noqa: E701
        except BaseException as failure:
            self.poison(failure)
            raise
        stats = self._stats
        stats.puts += 1
        stats.user_bytes += len(key) + len(value)

    def _noted(self, key: bytes, old: int | None, place: int) -> int:
        """Notes where a key was, for the open snapshots, and that it has come, for the order; the new place."""
        if self._snapshots:
            for undo in self._undo_maps():
                undo.note(key, old)
        if old is None and self._keydir.order.made:
            self._keydir.order.note(key)
        return place

    def write(self, batch: WriteBatch, *, sync: bool | None = None) -> None:
        """As the contract says. O(operations); the records are built in memory and copied at once.

        Raises InvalidValue, and ReservedValue (which is one) for a value that begins with `bitcask_tombstone`.
        """
        puts = 0
        for _, value in batch.operations:
            if value is not None:
                puts += 1
                if value[:17] == TOMBSTONE or len(value) > self.max_value_bytes:
                    self._check_value(value)
        holding(self._writer, self._write, batch, puts, self._sync if sync is None else sync)
        if self._log.rotations:
            self._merge_if_due()

    def _write(self, batch: WriteBatch, puts: int, sync: bool) -> None:
        """Requires: the writer's lock."""
        self._check_writable()
        if not batch.operations:
            return
        keydir, operations = self._keydir, dict(batch.operations)
        if b"" in keydir.places and len(operations) > 1:
            with contextlib.suppress(CorruptionError):  # what can't be read can't be kept
                operations.setdefault(b"", self._read(b"", keydir.places[b""]))  # engines.bitcask.log says why
        try:
            changes = self._log.batch(keydir.places, operations, sync)
            holding(self._mutex, self._apply, changes)
        except BaseException as failure:
            self.poison(failure)
            raise
        self._stats.puts += puts
        self._stats.deletes += len(batch.operations) - puts
        self._stats.user_bytes += batch.size_bytes

    def _apply(self, changes: Changes) -> None:
        self._keydir.apply(changes, self._undo_maps())

    def _check_writable(self) -> None:
        self.check_usable()
        if self._read_only:
            raise ReadOnly("the store was opened with read_only=True: open it without to write")

    def _check_value(self, value: bytes) -> None:
        check_value(value, self.max_value_bytes)
        refuse_tombstone(value)

    def load(self, pairs: Iterable[Pair]) -> None:
        """As the contract says; see engines.bitcask.load. O(pairs); on disk for a moment beside the old content."""
        self._check_writable()
        holding(self._merging, self._load, self.while_usable(pairs))

    def _load(self, pairs: Iterable[Pair]) -> None:
        with self._poisoning():
            load(self, pairs)

    def flush(self) -> None:
        """One sync, if anything was written without one."""
        holding(self._writer, self._flush)

    def _flush(self) -> None:
        self._check_writable()
        with self._poisoning():
            self._log.sync()
            self._remove_retired()

    # ---- merging ------------------------------------------------------------------------------------------------

    def compact(self) -> None:
        """Merges all segments, if there is any garbage in them or they are more than they need be. O(live bytes)."""
        self._check_writable()
        holding(self._merging, self._merge, None)

    def merge(self, file_ids: Collection[int] | None = None) -> list[int]:
        """Merges the segments with these ids; or those that are worth while, until none is. Returns the merged ids.

        Raises InvalidOption for an id that no sealed segment has.
        """
        self._check_writable()
        return holding(self._merging, self._merge_some, file_ids)

    def _merge_some(self, file_ids: Collection[int] | None) -> list[int]:
        merged: list[int] = []
        if file_ids is None:
            while chosen := holding(self._writer, self._choose):
                self._merge(chosen)
                merged += chosen
        elif file_ids:
            merged = sorted(set(file_ids))
            unknown = [file_id for file_id in merged if file_id not in self._table.sealed()]
            if unknown:
                raise InvalidOption(f"no sealed segment has the id {unknown[0]}: describe() lists them")
            self._merge(merged)
        return merged

    def _merge(self, chosen: list[int] | None) -> None:
        """Merges the chosen segments, or all. Requires: the merging lock."""
        with self._poisoning():
            merge = holding(self._writer, self._begin_merge, chosen)
            if merge is not None:
                merge.run()
                self._merges += 1
                holding(self._writer, self._remove_retired)

    def _begin_merge(self, chosen: list[int] | None) -> Merge | None:
        """None if there is nothing to merge. Requires: both locks."""
        self.check_usable()
        self._remove_retired()
        if chosen is None and is_compact(self._table.live.values(), self._max_file_size):
            return None
        self._log.seal()
        inputs = self._table.live if chosen is None else {i: self._table.live[i] for i in chosen}
        if not inputs:
            return None
        input_bytes = sum(segment.end for segment in inputs.values())
        first_id = self._table.take_id(Merge.outputs_at_most(input_bytes, self._max_file_size))
        return Merge(self, inputs, first_id)

    def _choose(self) -> list[int]:
        """What a merge is worth while for. Nothing, while files wait for a snapshot: a merge would keep tombstones for
        their sake, and find them again and again (basho/bitcask#205). Requires: the writer's lock."""
        self._remove_retired()
        waiting = bool(self._table.retired)
        return [] if waiting else choose(self._table.sealed().values(), self._garbage_share, self._dead_bytes)

    def _merge_if_due(self) -> None:
        """After a segment was filled: merges here, or has a thread do it."""
        self._log.rotations = 0
        if self._merge_when == "manual" or self._merging.locked():
            return
        if self._merge_when == "inline":
            self.merge()
        elif self._merge_thread is None or not self._merge_thread.is_alive():
            thread = threading.Thread(target=self._merge_quietly, name="bitcask-merge")
            try:
                thread.start()
                self._merge_thread = thread
            except RuntimeError:  # the interpreter is ending, or the system has no more threads
                self._merge_when = "inline"
                self.merge()

    def _merge_quietly(self) -> None:
        """What the thread does: a failure has poisoned the store, or comes back to whoever reads the damaged record."""
        with contextlib.suppress(StoreError, OSError):
            self.merge()

    def _remove_retired_if_usable(self) -> None:
        if not self.closed and self.failure is None:
            with self._poisoning():
                self._remove_retired()

    def _remove_retired(self) -> None:
        """Removes files that no open snapshot needs. Requires: the writer's lock."""
        if self._table.retired or self._table.intent_bytes:
            epochs = [snapshot.epoch for ref in list(self._snapshots.values()) if (snapshot := ref()) is not None]
            self._table.remove_retired(min(epochs, default=NEVER))
            finish_load(self._table)

    @contextlib.contextmanager
    def _poisoning(self) -> Iterator[None]:
        """Makes a failure of the disk final, and an interrupt."""
        try:
            yield
        except BaseException as failure:
            if isinstance(failure, OSError) or not isinstance(failure, Exception):
                self.poison(failure)
            raise

    # ---- looking ------------------------------------------------------------------------------------------------

    def check(self) -> list[str]:
        """Reads and verifies every record and every hint, and compares what they say with the keydir. O(bytes)."""
        self.check_usable()
        return holding(self._merging, holding, self._writer, self._check)

    def _check(self) -> list[str]:
        self.check_usable()
        return check(self)

    def stats(self) -> Stats:
        """O(segments)."""
        self.check_usable()
        return counters(self)

    def describe(self) -> dict[str, Any]:
        """The segments with their garbage, oldest first. O(segments)."""
        self.check_usable()
        return describe(self)

    def end_threads(self) -> None:
        if self._merge_when == "thread":
            self._merge_when = "inline"
        if self._merge_thread is not None:
            self._merge_thread.join()

    def leave_to_parent(self) -> None:
        super().leave_to_parent()
        for snapshot in [reference() for reference in list(self._snapshots.values())]:
            if snapshot is not None:
                snapshot._open = False

    def close(self) -> None:
        """Waits for a merge, seals the active segment, and lets go of everything. Raises OSError if that fails."""
        if self.stuck(self._merging, self._writer, self._mutex):
            return
        if self._merge_thread is not None and self._merge_thread is not threading.current_thread():
            self._merge_thread.join()
        holding(self._merging, holding, self._writer, self._close)

    def _close(self) -> None:
        """Once more after an interrupt, it does what is left. Requires: both locks."""
        holding(self._mutex, setattr, self, "closed", True)
        try:
            if self.failure is None:
                with self._poisoning():
                    self._log.seal()
                    self._table.remove_retired(NEVER)
                    finish_load(self._table)
        finally:
            self._log.drop()
            self._table.views.clear()
            self._lock.close()
