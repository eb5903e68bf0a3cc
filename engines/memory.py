"""A sorted map in memory: the engine by which the others are judged, and the lesson's "map".

It keeps the whole contract but durability: nothing outlives the object. Under Raft that is enough, because the
Raft log and its snapshots are the durable part, and a restart replays them.

Snapshots cost nothing to take. Each one has an *undo map*: before the writer changes a key for the first time after
the snapshot, it notes there what the key was. A snapshot's read asks its undo map first, and the store second.

    store      a=1 b=2 c=3            snapshot            put b=9, delete c
    store      a=1 b=9                snapshot's undo     b=2 c=3             the snapshot reads  a=1 b=2 c=3

Invariants:

1. For an open snapshot S and any key k: k's value at the time of S is S.undo[k] if k is in S.undo, else store[k].
2. An undo map holds only keys that were written since its snapshot; None says that the key was absent.
3. Everything is changed and looked at under one lock, never held while a caller's code runs: a scan fetches
   a chunk of pairs at a time, a small one first, because most scans want few.

Costs: get O(1) on average; put and delete O(log n) + one look at each open snapshot; snapshot O(1); scan O(log n) for
each chunk. Left out: files, so `flush`, `compact` and `sync` have nothing to do.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterable, Iterator
from itertools import islice, pairwise
from typing import Any, ClassVar, Unpack

from sortedcontainers import SortedDict

from engines.env import Env, Lock, StorePath, real_env
from engines.errors import NoSuchStore, StoreClosed
from engines.keywords import MemoryKeywords
from engines.kvstore import (
    KVStore,
    Pair,
    Snapshot,
    Stats,
    WriteBatch,
    check_key_type,
    scan_bounds,
)
from engines.lifetime import holding
from engines.options import EngineOptions
from engines.pairs import ascending
from engines.telling import explained, result_of

__all__ = ["MemoryStore"]

CHUNKS = (16, 512)  # pairs that a scan fetches under one hold of the lock, at first and at most: 512 take some 100 µs


class Options(EngineOptions):
    """Those of every engine. `create=False` and `read_only=True` find no store, because none outlives its object."""

    engine: ClassVar[str] = "memory"


class MemoryStore(KVStore):
    """The contract on a `SortedDict`. With a `path`, its directory is locked like any other store's, and stays empty.

    Writers take turns on one lock; a reader holds it for one lookup or one chunk of a scan.
    """

    name = "memory"
    option_class = Options
    persistent = False

    def __init__(
        self,
        path: StorePath | None = None,
        *,
        env: Env | None = None,
        **options: Unpack[MemoryKeywords],
    ) -> None:
        env = env or real_env()
        self.path = None if path is None else env.absolute(path)
        told = Options.of(options)
        if told.read_only or not told.create:
            raise NoSuchStore.at(self.path or "no path")
        self._values: SortedDict[bytes, bytes] = SortedDict()
        self._mutex = threading.Lock()
        self._snapshots: weakref.WeakSet[MemorySnapshot] = weakref.WeakSet()
        self._stats = Stats()
        self._lock: Lock | None = None
        if self.path is not None:
            env.makedirs(self.path, "memory.open.mkdir")
            self._lock = env.lock(f"{self.path}/LOCK")
        self.opened(env)

    def get(self, key: bytes, default: bytes | None = None) -> bytes | None:
        """The value that `_values` has for `key`, or `default`. O(1) on average.

        Each public call begins with checks: `check_key_type` raises InvalidKey for what is not bytes, `check_usable`
        raises if the store is closed or has failed. A get that passes them adds one to `_stats.gets`. The map is only
        looked at while `_mutex` is held (invariant 3).
        """
        check_key_type(key)
        self.check_usable()
        self._stats.gets += 1
        with self._mutex: return self._values.get(key, default)  # fmt: skip  # noqa: E701

    def write(self, batch: WriteBatch, *, sync: bool | None = None) -> None:
        self.check_usable()
        with self._mutex: self._write(batch)  # fmt: skip  # noqa: E701

    def _write(self, batch: WriteBatch) -> None:
        """Requires: the mutex."""
        try:
            for key, value in batch.operations:
                self._count(key, value)
                self._change(key, value)
            self._stats.user_bytes += batch.size_bytes
        except BaseException as failure:  # an interrupt: nobody may see half of a batch
            self.poison(failure)
            raise

    def _change(self, key: bytes, value: bytes | None) -> None:
        """Sets `key` to `value` in `_values`; if `value` is None, removes the key, which need not be there.

        Before that, it tells each snapshot in `_snapshots` what the key's value is now, None if it has none, by
        `MemorySnapshot.note`. Requires: `key` is bytes, `value` bytes or None (WriteBatch has checked them), and the
        mutex is held (`write`). O(log n), and one note for each open snapshot.
        """
        old = self._values.get(key)
        for snapshot in self._snapshots:
            snapshot.note(key, old)
        if value is not None:
            self._values[key] = value
        else:
            self._values.pop(key, None)

    def _count(self, key: bytes, value: bytes | None) -> None:
        """Keeps the counters right: a key is about to be set to `value`. Requires: the mutex."""
        stats = self._stats
        old = self._values.get(key)
        if old is not None:
            stats.live_bytes -= len(key) + len(old)
        if value is not None:
            stats.puts += 1
            stats.live_bytes += len(key) + len(value)
        else:
            stats.deletes += 1

    def scan(
        self,
        start: bytes = b"",
        stop: bytes | None = None,
        *,
        prefix: bytes | None = None,
        reverse: bool = False,
    ) -> Iterator[Pair]:
        """As the contract says; the moment of the call is held by a snapshot that ends with the iteration."""
        return self.snapshot().scan(start, stop, prefix=prefix, reverse=reverse)

    def snapshot(self) -> MemorySnapshot:
        """O(1); each later write of a key costs each open snapshot one entry in its undo map."""
        self.check_usable()
        return holding(self._mutex, self._new_snapshot)

    def _new_snapshot(self) -> MemorySnapshot:
        snapshot = MemorySnapshot(self)
        self._snapshots.add(snapshot)
        return snapshot

    def load(self, pairs: Iterable[Pair]) -> None:
        self.check_usable()
        loaded = SortedDict(ascending(self.while_usable(pairs)))
        holding(self._mutex, self._replace, loaded)

    def _replace(self, loaded: SortedDict[bytes, bytes]) -> None:
        live_bytes = sum(len(key) + len(value) for key, value in loaded.items())
        for snapshot in self._snapshots:  # an interrupt among these changes nothing that a snapshot shows
            for key in self._values.keys() | loaded.keys():
                snapshot.note(key, self._values.get(key))
        self._values = loaded
        self._stats.live_bytes = live_bytes

    def flush(self) -> None:
        self.check_usable()

    def compact(self) -> None:
        self.check_usable()

    def check(self) -> list[str]:
        """Compares the map's order, and what it holds with the counter of it. O(n)."""
        self.check_usable()
        return holding(self._mutex, self._check)

    def _check(self) -> list[str]:
        problems = []
        if any(second <= first for first, second in pairwise(self._values)):
            problems.append("the map's keys don't ascend")
        live_bytes = sum(len(key) + len(value) for key, value in self._values.items())
        if live_bytes != self._stats.live_bytes:
            problems.append(f"the map holds {live_bytes:,} bytes, and the counter says {self._stats.live_bytes:,}")
        return problems

    def stats(self) -> Stats:
        self.check_usable()
        return holding(self._mutex, self._stats.copy)

    def describe(self) -> dict[str, Any]:
        self.check_usable()
        return {"engine": self.name, "keys": len(self._values), "snapshots": len(self._snapshots)}

    def explain(self, key: bytes) -> dict[str, Any]:
        """As the contract says: one lookup in the map. O(1) on average."""
        value = self.get(key)
        result = "not here" if value is None else result_of(value)
        return explained(self.name, key, value, [{"place": "map", "keys": len(self._values), "result": result}])

    def leave_to_parent(self) -> None:
        for snapshot in list(self._snapshots):
            snapshot._open = False
        super().leave_to_parent()

    def close(self) -> None:
        if self.stuck(self._mutex):
            return
        holding(self._mutex, self._close)

    def _close(self) -> None:
        self.closed = True
        if self._lock is not None:
            self._lock.close()


class MemorySnapshot(Snapshot):
    """A view of one moment: the store, less what has been written since."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self._open = True
        self.undo: SortedDict[bytes, bytes | None] = SortedDict()

    def note(self, key: bytes, old: bytes | None) -> None:
        """Remembers in `undo` that `key` had the value `old` until now; None says that it was absent.

        Called by the writer, before each change of a key, and so more than once for a key that is changed more than
        once. Only the first note of a key is what the key was when the snapshot was taken, so that one stands. O(log n).
        """
        self.undo.setdefault(key, old)

    def get(self, key: bytes, default: bytes | None = None) -> bytes | None:
        check_key_type(key)
        value = holding(self._store._mutex, self._get, key)
        return default if value is None else value

    def _get(self, key: bytes) -> bytes | None:
        self._check_open()
        return self._value(key)

    def _value(self, key: bytes) -> bytes | None:
        """The value of `key` when the snapshot was taken, None if it was absent then: invariant 1.

        That is the note in `undo`, if there is one, even if the note is None; else what `_store._values` has.
        Requires: the mutex (`_get` and `_chunk` are called with it). O(1) on average.
        """
        return self.undo[key] if key in self.undo else self._store._values.get(key)

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
        return self._chunks(start, stop, reverse)

    def _chunks(self, start: bytes, stop: bytes | None, reverse: bool) -> Iterator[Pair]:
        inclusive = (True, False)
        size, size_max = CHUNKS
        while chunk := holding(self._store._mutex, self._chunk, start, stop, inclusive, reverse, size):
            size = min(2 * size, size_max)
            for key, value in chunk:
                if value is not None:
                    if self._store.closed or not self._open:
                        self._check_open()
                    yield key, value
            last = chunk[-1][0]
            if reverse:
                stop = last
            else:
                start, inclusive = last, (False, False)

    def _chunk(
        self, start: bytes, stop: bytes | None, inclusive: tuple[bool, bool], reverse: bool, size: int
    ) -> list[tuple[bytes, bytes | None]]:
        """The next `size` keys of a scan, with their values in this snapshot. Requires: the mutex."""
        if stop is not None and stop <= start:
            return []
        self._check_open()
        return [(key, self._value(key)) for key in self._next_keys(start, stop, inclusive, reverse, size)]

    def _next_keys(
        self, start: bytes, stop: bytes | None, inclusive: tuple[bool, bool], reverse: bool, size: int
    ) -> list[bytes]:
        """The first `size` of all keys that are in `_store._values`, in `undo`, or in both, each once, in one order.

        The keys lie between `start` and `stop`, and ascend; with `reverse` they descend, and the first ones are the
        greatest. `inclusive` says whether each of the two bounds belongs to the range. These four are what
        `SortedDict.irange` takes. Fewer than `size` are returned only if there are no more.

        Requires: the mutex; start < stop, or stop is None (`_chunk`). O(size * log size + log n): neither map is walked
        further than `size` keys.
        """
        live = islice(self._store._values.irange(start, stop, inclusive, reverse), size)
        undone = islice(self.undo.irange(start, stop, inclusive, reverse), size)
        return sorted({*live, *undone}, reverse=reverse)[:size]

    def _check_open(self) -> None:
        self._store.check_usable()
        if not self._open:
            raise StoreClosed("the snapshot is closed: take another one")

    def close(self) -> None:
        holding(self._store._mutex, self._close)

    def _close(self) -> None:
        self._open = False
        self._store._snapshots.discard(self)
        self.undo.clear()
