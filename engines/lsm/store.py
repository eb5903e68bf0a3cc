"""The LSM store: LevelDB's log-structured merge tree behind the contract.

    put ──► log ──► memtable ──flush──► level 0 ──compaction──► level 1 ──► ... ──► level 6
    get ◄── memtable, frozen memtables, level 0 newest first, one table of each level; the first one that knows decides

How the contract is kept:

1. Atomic: a batch is one record of the log, and readers see it when the store raises its last sequence, after all of
   the batch is in the memtable.
2. Durable: sync=True returns after the log's fsync. Writers who wait meanwhile are taken together: the first one
   that gets the lock writes one record for all of them, and one fsync (group commit).
3. One writer at a time, under the writer lock; readers take no lock (core.py says why that is right).
4. A failed write or fsync poisons the store.

| call              | cost                                                                                  |
|-------------------|---------------------------------------------------------------------------------------|
| get               | a dict lookup for each memtable, then a filter for each table that may have the key    |
| put, delete       | a log record and a place in the memtable; later a flush and some compactions          |
| scan              | one block for each level to begin with; then blocks as they come                      |
| snapshot          | O(1); it keeps versions from being dropped                                             |
| load              | writes the pairs once, as tables of the last level                                     |

Files: engines/lsm/FORMAT.md. Where we differ from LevelDB: engines/lsm/LEVELDB.md. Left out: column families, merge
operators, range deletions, transactions with conflicts, comparators: none has a place in LevelDB's files.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any, ClassVar, Unpack

from engines.env import Env, StorePath, real_env
from engines.errors import InvalidOption, ReadOnly
from engines.group_commit import GroupCommit, Waiter
from engines.keywords import LsmKeywords
from engines.kvstore import (
    MAX_KEY_BYTES,
    KVStore,
    Pair,
    Stats,
    WriteBatch,
    check_key,
    check_key_type,
    check_value,
    scan_bounds,
)
from engines.lifetime import holding
from engines.lsm import bulk, inspect, verify
from engines.lsm.background import Background
from engines.lsm.checkpoint import checkpoint
from engines.lsm.dump import dump
from engines.lsm.fast import FAST
from engines.lsm.foreign import is_leveldbs
from engines.lsm.keys import ABSENT
from engines.lsm.options import Options
from engines.lsm.parts import PLAIN, Parts
from engines.lsm.recovery import open_store
from engines.lsm.repair import repair
from engines.lsm.snapshot import LsmSnapshot
from engines.lsm.state import Scan
from engines.lsm.wal import encode_batch, encode_put

__all__ = ["LsmStore"]

GROUP_BYTES = 1 << 20  # most that one record of the log has from several writers
SMALL_BATCH_BYTES = 1 << 17  # a small batch waits for 128 KiB of others at most, as in LevelDB


def _weak(method: Callable[[BaseException], None]) -> Callable[[BaseException], None]:
    """Calls `method` while its object lives. Without the cycle, a store that is dropped goes at once, and its workers."""
    reference = weakref.WeakMethod(method)

    def call(failure: BaseException) -> None:
        if (still := reference()) is not None:
            still(failure)

    return call


class LsmStore(KVStore):
    """A store in LevelDB's files. `options` are those of engines.lsm.options.Options.

    Raises StoreLocked, NoSuchStore, ForeignFormat, CorruptionError, InvalidOption, OSError.
    """

    name = "lsm"
    option_class = Options
    parts: ClassVar[Parts | None] = None  # a subclass that is to run without some part says which it has

    @classmethod
    def recognises(cls, path: StorePath, env: Env) -> bool:
        """By CURRENT and the manifest's first record; RocksDB's, and another order of keys, aren't ours."""
        return is_leveldbs(env, env.absolute(path))

    @classmethod
    def dump(cls, path: StorePath, env: Env) -> Iterator[str]:
        """As the contract says; a file that is no log, manifest or table is shown as nothing."""
        return dump(env.absolute(path), env)

    @classmethod
    def repair(cls, path: StorePath, env: Env) -> list[str]:
        """As the contract says; engines.lsm.repair says what is kept, and what is refused."""
        path = env.absolute(path)
        return repair(path, env=env).sentences(path)

    def __init__(self, path: StorePath, *, env: Env | None = None, **options: Unpack[LsmKeywords]) -> None:
        # on the class, too; but of an instance's own attributes Python remembers where they are: a fourth off each pair
        self.closed = False
        self.failure: BaseException | None = None
        env = env or real_env()
        self.path: str = env.absolute(path)
        self.options = Options.of(options)
        if self.options.compaction_process and env is not real_env():
            raise InvalidOption("compaction_process needs the real Env: another process can't see a simulated disk")
        self._sync = self.options.sync
        self._stats = Stats()
        self.group_commit = GroupCommit(GROUP_BYTES, SMALL_BATCH_BYTES)
        self.writer_lock = self.group_commit.lock
        self._write_buffer_bytes = self.options.write_buffer_bytes
        parts = self.parts or (FAST if self.options.fast else PLAIN)
        self.core, self._lock = open_store(env, self.path, self.options, self._stats, parts)
        self.core.on_failure = _weak(self.poison)
        self.background = Background(self.core)
        self._slow = False
        if not self.options.read_only:
            try:
                self.opened(env)
                self.background.kick()
            except BaseException as failure:
                self.poison(failure)
                self.close()
                raise
        else:
            self.opened(env)

    # ---- reading ----------------------------------------------------------------------------------------------------

    def get(self, key: bytes, default: bytes | None = None) -> bytes | None:
        """As the contract says; see the module for the cost."""
        if type(key) is not bytes:
            check_key_type(key)
        if self.closed or self.failure is not None:
            self.refuse()
        self._stats.gets += 1
        core = self.core
        state = core.state
        found = core.lookup(state, core.tables, key, core.sequence)
        return default if found is None or found is ABSENT else found

    def scan(
        self,
        start: bytes = b"",
        stop: bytes | None = None,
        *,
        prefix: bytes | None = None,
        reverse: bool = False,
    ) -> Iterator[Pair]:
        """As the contract says. Pins the memtables and tables of the moment until it is exhausted or collected."""
        start, stop = scan_bounds(start, stop, prefix)
        self.check_usable()
        state = self.core.state
        return self.core.pairs(state, Scan(start, stop, self.core.sequence, reverse), self)

    def snapshot(self) -> LsmSnapshot:
        """O(1). Until it is closed or forgotten, compaction keeps what it can see."""
        self.check_usable()
        return LsmSnapshot(self.core, self)

    # ---- writing ----------------------------------------------------------------------------------------------------

    def put(self, key: bytes, value: bytes, *, sync: bool | None = None) -> None:
        """As `write` of a batch of one, without making one: the most frequent call deserves a path of its own."""
        if type(key) is not bytes or not 0 < len(key) <= MAX_KEY_BYTES:
            check_key(key)
        if type(value) is not bytes:
            check_value(value)
        if sync is None:
            sync = self._sync
        lock = self.writer_lock
        if self.group_commit.waiting or lock.locked():  # another thread is writing: join the queue
            super().put(key, value, sync=sync)
        else:
            with lock: self._put(key, value, sync)  # fmt: skip  # noqa: E701

    def _put(self, key: bytes, value: bytes, sync: bool) -> None:
        """Requires: the writer lock."""
        self._prepare()
        core, stats = self.core, self._stats
        sequence = core.sequence + 1
        try:
            core.log.append(encode_put(sequence, key, value), sequence, sync)  # type: ignore[union-attr]
            if sync:
                core.log.sync("lsm.wal.append")  # type: ignore[union-attr]
            core.state.memtable.add(sequence, key, value)
            core.sequence = sequence
        except BaseException as failure:
            self.poison(failure)
            raise
        stats.puts += 1
        stats.user_bytes += len(key) + len(value)

    def write(self, batch: WriteBatch, *, sync: bool | None = None) -> None:
        """As the contract says. O(log memtable) an operation with the skiplist, O(1) with the sorted one."""
        if batch.operations:
            self.group_commit.submit(batch, self._sync if sync is None else sync, self._write_group)
        else:
            self._check_writable()

    def _write_group(self, group: list[Waiter]) -> None:
        """One record, one fsync, and then visible. Requires: the writer lock."""
        self._prepare()
        core, stats = self.core, self._stats
        operations = group[0].batch.operations
        if len(group) > 1:
            operations = [operation for waiter in group for operation in waiter.batch.operations]
        sync = any(waiter.sync for waiter in group)
        sequence = core.sequence + 1
        try:
            core.log.append(encode_batch(sequence, operations), sequence, sync)  # type: ignore[union-attr]
            if sync:
                core.log.sync("lsm.wal.append")  # type: ignore[union-attr]
            core.state.memtable.add_all(sequence, operations)
            core.sequence += len(operations)
        except BaseException as failure:
            self.poison(failure)
            raise
        deletes = sum([value is None for _, value in operations])
        stats.deletes += deletes
        stats.puts += len(operations) - deletes
        stats.user_bytes += sum([waiter.batch.size_bytes for waiter in group])
        stats.engine["write_groups"] = stats.engine.get("write_groups", 0) + 1

    def _prepare(self) -> None:
        """Before a write: refuses it, or makes room for it. Requires: the writer lock."""
        if self.closed or self.failure is not None:
            self.refuse()
        background = self.background
        if background.damage is not None:
            background.refuse_writes()
        core = self.core
        if core.state.memtable.size_bytes >= self._write_buffer_bytes:
            self._rotate()
        elif self._slow:
            background.slow_down()
            self._slow = background.too_full
        if core.log is None:
            raise ReadOnly("the store was opened with read_only=True: open it without to write")

    def _rotate(self) -> None:
        """Makes room; a failure is the store's. Requires: the writer lock."""
        try:
            self.background.make_room()
        except BaseException as failure:
            self.poison(failure)
            raise
        self.check_usable()
        self._slow = self.background.too_full

    # ---- maintenance ------------------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Writes the memtable to level 0 and waits for it: afterwards the log is empty."""
        holding(self.writer_lock, self._freeze)
        self._settle()

    def _freeze(self) -> None:
        self._check_writable()
        if len(self.core.state.memtable):
            self._rotate()

    def _settle(self) -> None:
        """Waits until no memtable is frozen."""
        try:
            self.background.wait_for_flush()
        except BaseException as failure:
            self.poison_if_final(failure)
            raise
        if self.background.failure is not None and self.failure is self.background.failure:
            raise self.background.failure
        self.check_usable()

    def compact(self) -> None:
        """Compacts everything into the deepest level that has any of it, and rewrites there what holds garbage."""
        self.compact_range()

    def compact_range(self, start: bytes | None = None, stop: bytes | None = None) -> None:
        """As `compact`, for the user keys in [start, stop]; None is no bound. O(bytes of the range)."""
        self.flush()
        try:
            self.background.compact_range(start, stop)
            self.core.delete_obsolete()
            self.background.kick()
        except BaseException as failure:
            self.poison_if_final(failure)
            raise

    def poison_if_final(self, failure: BaseException) -> None:
        """A failure of the disk is, and an interrupt in the middle of a change; damage that was found is not."""
        if isinstance(failure, OSError) or not isinstance(failure, Exception):
            self.poison(failure)

    def load(self, pairs: Iterable[Pair]) -> None:
        """As the contract says: the pairs become tables of the last level; one edit puts them in everything's place."""
        self._check_writable()
        bulk.load(self, self.core, self.background, self.writer_lock, self.while_usable(pairs))

    def checkpoint(self, path: StorePath) -> None:
        """A store of its own at `path` with what is written now: hard links to the tables. O(memtable + tables).

        Raises InvalidOption if something is at `path`, OSError (EXDEV: another file system).
        """
        self.flush()
        checkpoint(self.core, self.core.env.absolute(path))

    def approximate_size(self, start: bytes, stop: bytes) -> int:
        """About how many bytes of files the keys in [start, stop) take; what is in memory doesn't count. O(files)."""
        self.check_usable()
        return inspect.approximate_size(self.core, start, stop)

    def leveldb_property(self, name: str) -> str | None:
        """LevelDB's properties by their names, such as "leveldb.num-files-at-level0"; None for an unknown one."""
        self.check_usable()
        return inspect.leveldb_property(self.core, self.background, name)

    def _check_writable(self) -> None:
        self.check_usable()
        if self.core.log is None:
            raise ReadOnly("the store was opened with read_only=True: open it without to write")

    def check(self) -> list[str]:
        """Reads every block of every table, and compares what the files say about each other."""
        self.check_usable()
        return verify.check(self.core)

    def stats(self) -> Stats:
        """The counters; `engine` has levels, flushes, compactions, stalls, filters and the cache."""
        self.check_usable()
        return inspect.stats(self.core, self.background)

    def describe(self) -> dict[str, Any]:
        """Levels with their files and key ranges, memtables, log, manifest, snapshots, the running compaction."""
        self.check_usable()
        return inspect.describe(self.core, self.background)

    def leave_to_parent(self) -> None:
        super().leave_to_parent()
        self.core.state_lock = threading.Lock()
        self.background.leave_to_parent()

    def end_threads(self) -> None:
        self.background.end_threads()

    def close(self) -> None:
        """Syncs and seals the log, which the next open replays. What a lane is doing is finished first.

        After an interrupt, another call does what is left.
        """
        background = self.background
        if self.stuck(self.writer_lock, background.flush_lock, background.compaction_lock):
            return
        holding(self.writer_lock, setattr, self, "closed", True)
        background.end()
        holding(self.writer_lock, self._release)

    def _release(self) -> None:
        core = self.core
        try:
            if core.log is not None and self.failure is None and not core.log.sealed:
                core.log.seal(core.sequence + 1, "lsm.wal.close")
        except BaseException as failure:
            self.poison(failure)
            raise
        finally:
            if core.log is not None:
                core.log.close()
            core.versions.close()
            core.tables.clear()
            self._lock.close()
