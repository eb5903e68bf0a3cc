"""The LSM store: LevelDB's log-structured merge tree behind the contract.

    put ──► log ──► memtable ──flush──► level 0 ──compaction──► level 1 ──► ... ──► level 6
    get ◄── memtable, frozen memtables, level 0 newest first, one table of each level; the first one that knows decides

How the contract is kept:

1. Atomic: a batch is one record of the log, and readers see it when the store raises its last sequence, after all of
   the batch is in the memtable (writer.py).
2. Durable: sync=True returns after the log's fsync, which writers who wait share (group commit).
3. One writer at a time, under the writer lock; readers take no lock (state.py says why that is right).
4. A failed write or fsync poisons the store.

| call              | cost                                                                                  |
|-------------------|---------------------------------------------------------------------------------------|
| get               | a search in each memtable, then a filter for each table that may have the key          |
| put, delete       | a log record and a place in the memtable; later a flush and some compactions          |
| scan              | one block for each level to begin with; then blocks as they come                      |
| snapshot          | O(1); it keeps versions from being dropped                                             |
| load              | writes the pairs once, as tables of the last level                                     |

Files: engines/lsm/FORMAT.md. Where we differ from LevelDB: engines/lsm/LEVELDB.md. Left out: column families, merge
operators, range deletions, transactions with conflicts, comparators: none has a place in LevelDB's files.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar, Unpack

from engines.env import Env, StorePath, real_env
from engines.errors import InvalidOption
from engines.keywords import LsmKeywords
from engines.kvstore import (
    KVStore,
    Pair,
    Stats,
    WriteBatch,
    check_key_type,
    scan_bounds,
)
from engines.lifetime import holding
from engines.lsm import bulk, inspect, verify
from engines.lsm.background import Background
from engines.lsm.checkpoint import checkpoint
from engines.lsm.dump import dump
from engines.lsm.explain import explain
from engines.lsm.fast import FAST
from engines.lsm.fast.writer import FastWriter
from engines.lsm.foreign import is_leveldbs
from engines.lsm.keys import ABSENT
from engines.lsm.options import Options
from engines.lsm.parts import PLAIN, Parts
from engines.lsm.recovery import open_store
from engines.lsm.repair import repair
from engines.lsm.snapshot import LsmSnapshot
from engines.lsm.state import Scan
from engines.lsm.writer import Writer

__all__ = ["LsmStore"]


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
        env = env or real_env()
        self.path: str = env.absolute(path)
        self.options = Options.of(options)
        if self.options.compaction_process and env is not real_env():
            raise InvalidOption("compaction_process needs the real Env: another process can't see a simulated disk")
        self._sync = self.options.sync
        parts = self.parts or (FAST if self.options.fast else PLAIN)
        self.core, self._lock = open_store(env, self.path, self.options, Stats(), parts)
        self.background = Background(self.core)
        self.writer = (FastWriter if parts.fast_put else Writer)(self.core, self.background)
        if not self.options.read_only:
            try:
                self.opened(env)
                self.background.prepare()
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
        core = self.core
        if core.closed or core.failure is not None:
            core.refuse()
        core.stats.gets += 1
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
        core = self.core
        core.check_usable()
        state = core.state
        return core.pairs(state, Scan(start, stop, core.sequence, reverse), self)

    def snapshot(self) -> LsmSnapshot:
        """O(1). Until it is closed or forgotten, compaction keeps what it can see."""
        self.check_usable()
        return LsmSnapshot(self.core, self)

    # ---- writing ----------------------------------------------------------------------------------------------------

    def write(self, batch: WriteBatch, *, sync: bool | None = None) -> None:
        """As the contract says. O(log memtable) for each operation."""
        self.writer.write(batch, self._sync if sync is None else sync)

    def put(self, key: bytes, value: bytes, *, sync: bool | None = None) -> None:
        """As the contract says: a batch of one."""
        self.writer.put(key, value, self._sync if sync is None else sync)

    def delete(self, key: bytes, *, sync: bool | None = None) -> None:
        """As the contract says: a batch of one."""
        self.writer.delete(key, self._sync if sync is None else sync)

    # ---- maintenance ------------------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Writes the memtable to level 0 and waits for it: afterwards the log is empty."""
        self.writer.flush()

    def compact(self) -> None:
        """Compacts everything into the deepest level that has any of it, and rewrites there what holds garbage."""
        self.compact_range()

    def compact_range(self, start: bytes | None = None, stop: bytes | None = None) -> None:
        """As `compact`, for the user keys in [start, stop]; None is no bound. O(bytes of the range)."""
        self.flush()
        try:
            self.background.compactor.compact_range(start, stop)
            self.core.delete_obsolete()
            self.background.kick()
        except BaseException as failure:
            self.core.poison_if_final(failure)
            raise

    def load(self, pairs: Iterable[Pair]) -> None:
        """As the contract says: the pairs become tables of the last level; one edit puts them in everything's place."""
        self.writer.check_writable()
        bulk.load(self.core, self.background, self.writer, self.while_usable(pairs))

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

    def check(self) -> list[str]:
        """Reads every block of every table, and compares what the files say about each other."""
        self.check_usable()
        return verify.check(self.core)

    def stats(self) -> Stats:
        """The counters; `engine` has levels, flushes, compactions, stalls, filters and the cache."""
        self.check_usable()
        return inspect.stats(self.core, self.background)

    def size_bytes(self) -> int:
        """As the contract says: the current version's tables, the logs and the manifest. O(tables)."""
        self.check_usable()
        return inspect.size_bytes(self.core)

    def describe(self) -> dict[str, Any]:
        """Levels with their files and key ranges, memtables, log, manifest, snapshots, the running compaction."""
        self.check_usable()
        return inspect.describe(self.core, self.background)

    def sketch(self) -> dict[str, Any]:
        """As the contract says. O(tables), 0.8 µs each, and no read."""
        self.check_usable()
        return inspect.sketch(self.core, self.background)

    def explain(self, key: bytes) -> dict[str, Any]:
        """As the contract says: memtables, filters, blocks. O(levels); reads what a get reads."""
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

    def leave_to_parent(self) -> None:
        super().leave_to_parent()
        self.core.state_lock = threading.Lock()
        self.writer.leave_to_parent()
        self.background.leave_to_parent()

    def end_threads(self) -> None:
        self.background.end_threads()

    def close(self) -> None:
        """Syncs the log and closes it for good, which the next open replays. What a lane is doing is finished first, and full
        memtables are flushed. So is one compaction finished that another thread has asked for: its tables must not come after
        the next open.

        After an interrupt, another call does what is left.
        """
        core, background, writer = self.core, self.background, self.writer
        if self.stuck(writer.lock, background.flusher.lock, background.compactor.lock):
            return
        holding(writer.lock, setattr, core, "closed", True)
        background.end()
        if background.in_lane():  # the collector drops the store in a lane, which holds the lane's lock
            holding(writer.lock, self._release)
        else:
            flusher, compactor = background.flusher, background.compactor
            holding(writer.lock, lambda: holding(flusher.lock, lambda: holding(compactor.lock, self._release)))

    def _release(self) -> None:
        try:
            self.writer.close_log()
        finally:
            self.core.versions.close()
            self.core.tables.clear()
            self._lock.close()
