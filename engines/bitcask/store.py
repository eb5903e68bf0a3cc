"""The Bitcask engine: a log of records, and in memory where each key's last value lies.

    engines.open("data", engine="bitcask", max_file_size=64 << 20)

    put     append a record to the active segment, turn the key's place to it         one copy through a mapping
    get     look the place up, read the record, verify it                             one read, exactly
    delete  append a tombstone, forget the key
    batch   append a mark and the records that belong to it                           engines.bitcask.record

Here is the contract, and reading. Writing is engines.bitcask.writer; what both share, with the locks and their order, is
engines.bitcask.core. The files of the engine are listed in reading order in `engines/bitcask/__init__.py`.

Best at point reads and writes whose keys fit in memory: a key of 16 bytes takes some 140 there, whatever its value. Worst
at ordered scans of what isn't cached. The paper: Sheehy and Smith, "Bitcask: A Log-Structured Hash Table for Fast
Key/Value Data" (2010); the format and the rules of merging are those of basho/bitcask 2, whose Erlang opens our
directories, and we its. FORMAT.md has the bytes.

Left out: expiry of values by age, secondary indexes, keydirs shared between processes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Any, ClassVar, Unpack

from engines.bitcask.check import check, counters, describe, sketch
from engines.bitcask.core import NEVER
from engines.bitcask.dump import dump
from engines.bitcask.explain import explain
from engines.bitcask.fast import FAST
from engines.bitcask.intent import finish_load
from engines.bitcask.load import load
from engines.bitcask.locks import OWN_LOCK, DirectoryLock, shared_lock
from engines.bitcask.options import Options
from engines.bitcask.parts import PLAIN, Parts
from engines.bitcask.recovery import look, recover
from engines.bitcask.repair import log_repair, repair
from engines.bitcask.snapshot import BitcaskSnapshot
from engines.bitcask.survey import directory_has_segments
from engines.env import Env, StorePath, real_env
from engines.errors import NoSuchStore
from engines.keywords import BitcaskKeywords
from engines.kvstore import KVStore, Pair, Stats, WriteBatch, check_key_type
from engines.lifetime import holding
from engines.pairs import ascending

__all__ = ["BitcaskStore"]


class BitcaskStore(KVStore):
    """A store in a directory of Riak's Bitcask files. `options` are those of engines.bitcask.options.Options.

    Raises StoreLocked, CorruptionError, ForeignFormat, InvalidOption, NoSuchStore, OSError. Opening costs 1 µs for each key
    if all hints are there. With read_only=True a get costs a system call, since another program may cut what is mapped.
    """

    name = "bitcask"
    option_class = Options
    parts: ClassVar[Parts | None] = None  # a subclass that is to run without some part says which it has

    def __init__(self, path: StorePath, *, env: Env | None = None, **options: Unpack[BitcaskKeywords]) -> None:
        env = env or real_env()
        self.path: str = env.absolute(path)
        told = Options.of(options)
        if (told.read_only or not told.create) and not self.recognises(self.path, env):
            raise NoSuchStore.at(self.path)
        parts = self.parts or (FAST if told.fast else PLAIN)
        table = parts.table(env, self.path, Stats(), told.max_open_files, read_only=told.read_only)
        self.core = core = parts.core(env, told, table, parts.log)
        if not told.read_only:
            env.makedirs(self.path, "bitcask.open.mkdir")
        if told.repair and self.recognises(self.path, env):
            log_repair(self.path, repair(self.path, env))
        self._lock = shared_lock(env, self.path) if told.read_only else DirectoryLock(env, self.path)
        try:
            if told.read_only:
                look(table, core.keydir)
            else:
                recover(table, core.keydir)
                core.log.last_timestamp = table.last_timestamp
        except BaseException:
            self._lock.close()
            raise
        self._snapshot = parts.snapshot
        self._merging = parts.merging(core)
        self._writer = parts.writer(core, self._merging, self.max_value_bytes)
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

    # ---- reading ----------------------------------------------------------------------------------------------------

    def get(self, key: bytes, default: bytes | None = None) -> bytes | None:
        """As the contract says. One lookup and one read, whose checksum is verified: O(1).

        `check_key_type(key)`, then `core.check_usable()`; `core` is `self.core`. The key's place is in
        `core.keydir.places`, a dict; absent keys aren't in it (or have None there, for a moment), and are answered
        without a read, with `default`. `core.read(key, place)` is the one read, and raises KeyError if a merge has just
        moved the value and removed the file: then the keydir has its new place, and is asked again, after another
        `check_usable`. Each found value adds one to `core.hits`, each other answer to `core.misses`. Takes no lock.
        """
        if type(key) is not bytes:
            check_key_type(key)
        core = self.core
        if core.closed or core.failure is not None:
            core.refuse()
        while (place := core.keydir.places.get(key)) is not None:
            try:
                value = core.read(key, place)
            except KeyError:  # a merge has moved the value and removed the file: the keydir has its new place
                core.check_usable()
                continue
            core.hits += 1
            return value
        core.misses += 1
        return default

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
        core = self.core
        if core.closed or core.failure is not None:
            core.refuse()
        return self._snapshot.scan_now(core, self, start, stop, prefix, reverse)

    def snapshot(self) -> BitcaskSnapshot:
        """O(1). Each later write of a key costs each open snapshot one note; files wait for it to be closed."""
        self.check_usable()
        return self._snapshot(self.core, self)

    # ---- writing ----------------------------------------------------------------------------------------------------

    def put(self, key: bytes, value: bytes, *, sync: bool | None = None) -> None:
        """As the contract says: `write` with a batch of one, or what does the same faster. O(1)."""
        self._writer.put(key, value, sync)

    def delete(self, key: bytes, *, sync: bool | None = None) -> None:
        """As the contract says, in the same way. O(1)."""
        self._writer.delete(key, sync)

    def write(self, batch: WriteBatch, *, sync: bool | None = None) -> None:
        """As the contract says. O(operations); the records are built in memory and copied at once.

        Raises InvalidValue, and ReservedValue (which is one) for a value that begins with `bitcask_tombstone`.
        """
        self._writer.write(batch, sync)

    def load(self, pairs: Iterable[Pair]) -> None:
        """As the contract says; see engines.bitcask.load. O(pairs); on disk for a moment beside the old content."""
        self._writer.check_writable()
        holding(self.core.merging_lock, self._load, ascending(self.while_usable(pairs), self._writer.check_value))

    def _load(self, pairs: Iterable[Pair]) -> None:
        with self.core.poisoning():
            load(self.core, pairs)

    def flush(self) -> None:
        """One sync, if anything was written without one."""
        self._writer.flush()

    def compact(self) -> None:
        """Merges all segments, if there is any garbage in them or they are more than they need be. O(live bytes)."""
        self._writer.check_writable()
        self._merging.compact()

    def merge(self, file_ids: Collection[int] | None = None) -> list[int]:
        """Merges the segments with these ids; or those that are worth while, until none is. Returns the merged ids.

        Raises InvalidOption for an id that no sealed segment has.
        """
        self._writer.check_writable()
        return self._merging.merge(file_ids)

    # ---- looking ----------------------------------------------------------------------------------------------------

    def check(self) -> list[str]:
        """Reads and verifies every record and every hint, and compares what they say with the keydir. O(bytes)."""
        self.check_usable()
        return holding(self.core.merging_lock, self.core.writing, check, self.core)

    def stats(self) -> Stats:
        """O(segments)."""
        self.check_usable()
        return counters(self.core)

    def size_bytes(self) -> int:
        """As the contract says: records and hints of all segments. O(segments)."""
        self.check_usable()
        return self.core.table.written_bytes()

    def describe(self) -> dict[str, Any]:
        """The segments with their garbage, oldest first; the keydir, and the merge that is running. O(segments)."""
        self.check_usable()
        return describe(self.core, self._merging.running)

    def sketch(self) -> dict[str, Any]:
        """As the contract says. O(segments)."""
        self.check_usable()
        return sketch(self.core, self._merging.running)

    def explain(self, key: bytes) -> dict[str, Any]:
        """As the contract says: the key's place, and the record that lies there. O(1)."""
        check_key_type(key)
        self.check_usable()
        return explain(self.core, key)

    # ---- the store's life -------------------------------------------------------------------------------------------

    @property
    def closed(self) -> bool:
        """The core's, as `failure` is: its parts have to know without the store."""
        return self.core.closed

    @closed.setter
    def closed(self, closed: bool) -> None:
        self.core.closed = closed

    @property
    def failure(self) -> BaseException | None:
        return self.core.failure

    @failure.setter
    def failure(self, failure: BaseException | None) -> None:
        self.core.failure = failure

    def end_threads(self) -> None:
        self._merging.end_thread()

    def leave_to_parent(self) -> None:
        super().leave_to_parent()
        self.core.leave_to_parent()

    def close(self) -> None:
        """Waits for a merge, seals the active segment, and lets go of everything. Raises OSError if that fails."""
        core = self.core
        if self.stuck(core.merging_lock, core.writer_lock, core.mutex):
            return
        self._merging.join()
        holding(core.merging_lock, core.writing, self._close)

    def _close(self) -> None:
        """After an interrupt it may be called once more, and does what is left. Requires: both locks."""
        core = self.core
        holding(core.mutex, setattr, core, "closed", True)
        core.end_moments()
        try:
            if core.failure is None:
                with core.poisoning():
                    core.log.seal()
                    core.table.remove_retired(NEVER)
                    finish_load(core.table)
        finally:
            core.log.drop()
            core.table.views.clear()
            self._lock.close()
