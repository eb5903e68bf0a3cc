"""The contract that every engine keeps: a durable, ordered map from bytes to bytes.

    Reader ──┬── KVStore    a store: readers and one writer
             └── Snapshot   a frozen view of one

What a caller may rely on, whichever engine it opened:

1. **Keys and values** are `bytes`. A key has 1 to 32,768 bytes, a value 0 bytes to the engine's `max_value_bytes`.
   `None` means absent, everywhere. Order is the order of `bytes`: byte by byte, unsigned.
   That is what `put` and `load` take. Other programs' files may hold other keys (LevelDB's and Riak's the empty one,
   LevelDB's some of any length), and what a scan shows can be read and deleted: so `get`, `in`, `multi_get` and
   `delete` take any `bytes`, and a key that can't be there is absent like any other.
2. **A write is atomic.** `write(batch)` is the only write there is, `put` and `delete` are batches of one. After a
   crash at any moment, a batch is there as a whole or not at all; of two batches, the later is never there alone.
3. **A write is durable** when it returns, unless `sync=False` was asked for: then it is visible at once and in the
   operating system's hands, so that a killed process loses nothing, and a power cut may take it together with
   everything after it. `flush()` makes up for it. The store's default is `sync=True`.
4. **Readers never wait for the writer**, and never see half of a batch. `scan` and `snapshot` show the moment of
   their call, whatever is written while they are in use.
5. **A failure is final.** After a failed write or fsync every later call raises `StoreFailed`; nothing is retried.
6. **Threads** may share a store. Writers take turns; each engine's docstring says how.
7. **Reading only** (`read_only=True`) changes nothing: no byte, no name, no mode, no time, not even after a crash. What
   recovery would write is replayed in memory. So it works on a read-only medium and without the right to write. It
   takes a shared lock where there is a lock's file to share. NoSuchStore if nothing is there, ReadOnly for a write.
8. **A store belongs to the process that opened it.** In a forked child every call raises `StoreForked`, except `close`,
   which does nothing: a child opens the store itself. An interrupt (Ctrl-C) within a call leaves the store usable, or
   failed as in 5; the disk is then as after a crash at that moment. A store that is dropped without `close` is closed,
   with a ResourceWarning. At the interpreter's end a store goes on working in `atexit` handlers, without threads.

Why an ABC: an engine that lacks a method then fails when it is made, not when the method is first needed. Why not a
`MutableMapping`: `len(store)` and `if store:` would be full scans, and `del` would need a read. For play there is
`MappingView`. The shape follows LevelDB's DB and WriteBatch, and Python's `selectors`: one contract, several engines.
"""

from __future__ import annotations

import sys
import threading
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, NoReturn, Self

from engines import lifetime
from engines.bounds import prefix_end, scan_bounds
from engines.env import Env, RealEnv, StorePath
from engines.errors import InvalidKey, InvalidValue, StoreClosed, StoreError, StoreFailed, StoreForked
from engines.options import EngineOptions
from engines.telling import bounded, counters, explained

__all__ = [
    "MAX_KEY_BYTES",
    "KVStore",
    "MappingView",
    "Operation",
    "Pair",
    "Reader",
    "Snapshot",
    "Stats",
    "Usable",
    "WriteBatch",
    "check_key",
    "check_key_type",
    "check_value",
    "prefix_end",
    "scan_bounds",
]

Pair = tuple[bytes, bytes]
Operation = tuple[bytes, bytes | None]

MAX_KEY_BYTES = 32_768  # bbolt's MaxKeySize, the smallest of the three formats' limits


def check_key_type(key: object) -> None:
    """Raises InvalidKey unless `key` is bytes: all that a read or a deletion asks of it."""
    if type(key) is not bytes:
        raise InvalidKey(f"a key must be bytes, and this is {type(key).__name__}: encode it first")


def check_key(key: object) -> None:
    """Raises InvalidKey unless `key` is bytes of 1 to MAX_KEY_BYTES: what a write asks of it."""
    if type(key) is not bytes:
        check_key_type(key)
    elif not 1 <= len(key) <= MAX_KEY_BYTES:
        raise InvalidKey(f"a key must have 1 to {MAX_KEY_BYTES:,} bytes, and this one has {len(key):,}")


def check_value(value: object, max_bytes: int | None = None) -> None:
    """Raises InvalidValue unless `value` is bytes, of at most `max_bytes` if that is given."""
    if type(value) is not bytes:
        raise InvalidValue(f"a value must be bytes, and this is {type(value).__name__}: None means absent, use delete")
    if max_bytes is not None and len(value) > max_bytes:
        raise InvalidValue(f"a value must have at most {max_bytes:,} bytes, and this one has {len(value):,}")


class WriteBatch:
    """A list of puts and deletes that a store applies as one.

    Operations on the same key are applied in order, so that the last one stands. A batch can be written more than
    once, and to several stores: writing doesn't change it. Not for use by several threads at once.
    """

    __slots__ = ("operations", "size_bytes")

    def __init__(self) -> None:
        self.operations: list[Operation] = []  # (key, value), or (key, None) for a delete
        self.size_bytes = 0  # of all keys and values

    def put(self, key: bytes, value: bytes) -> None:
        """Adds the operation (key, value) to `operations`, at the end, and the bytes of both to `size_bytes`.

        Raises InvalidKey or InvalidValue, as `check_key` and `check_value` do, and then adds nothing. O(1).
        """
        check_key(key)
        check_value(value)
        self.operations.append((key, value))
        self.size_bytes += len(key) + len(value)

    def delete(self, key: bytes) -> None:
        """Adds the operation (key, None), which removes the key, at the end, and the key's bytes to `size_bytes`.

        Raises InvalidKey unless the key is bytes, as `check_key_type` does, and then adds nothing: a key that no store
        can hold is absent, and may be deleted like any other. O(1).
        """
        check_key_type(key)
        self.operations.append((key, None))
        self.size_bytes += len(key)

    def clear(self) -> None:
        """Forgets all operations."""
        self.operations.clear()
        self.size_bytes = 0

    def __len__(self) -> int:
        return len(self.operations)

    def __repr__(self) -> str:
        return f"<WriteBatch of {len(self.operations)} operations, {self.size_bytes} bytes>"


@dataclass(slots=True)
class Stats:
    """Counters of one store since it was opened; sizes are current ones. Tests assert them, tools draw them.

    An engine keeps one of these and adds to it; `stats()` hands out a copy.
    """

    puts: int = 0
    deletes: int = 0
    gets: int = 0
    user_bytes: int = 0  # keys and values that callers asked to write
    bytes_written: int = 0  # to files: logs, tables, pages, merges
    bytes_read: int = 0  # from files, caches not counted
    reads: int = 0  # blocks, pages or records fetched from files
    fsyncs: int = 0  # of files and of directories
    disk_bytes: int = 0  # all of the store's files, now
    live_bytes: int = 0  # of those, what a current reader can reach
    dead_bytes: int = 0  # of those, what compaction, merge or reuse will get back
    engine: dict[str, int] = field(default_factory=dict)  # what only this engine counts

    @property
    def write_amplification(self) -> float:
        """Bytes written to files for each byte that callers wrote; 0.0 before the first write."""
        return self.bytes_written / self.user_bytes if self.user_bytes else 0.0

    @property
    def space_amplification(self) -> float:
        """Bytes on disk for each live byte; 0.0 while nothing is live."""
        return self.disk_bytes / self.live_bytes if self.live_bytes else 0.0

    def copy(self) -> Stats:
        return replace(self, engine=dict(self.engine))


class Usable:
    """Whether a store can be used: it is closed, or has failed, for ever.

    The store is one of these. So may be what its parts share (an engine's core), which then knows without the store.
    """

    closed = False
    failure: BaseException | None = None

    def poison(self, failure: BaseException) -> None:
        """Marks the store as failed, for ever; the first failure is the one that is told."""
        if self.failure is None:
            # of an interrupt without its traceback, whose frames may hold a file or a lock that is to go with them
            self.failure = failure if isinstance(failure, Exception) else type(failure)(*failure.args)

    def check_usable(self) -> None:
        """Raises StoreClosed or StoreFailed if the store is either; every public call begins with it."""
        if self.closed or self.failure is not None:
            self.refuse()

    def refuse(self) -> NoReturn:
        if self.closed:
            raise StoreClosed("the store is closed: open it again to use it")
        failure = self.failure
        if isinstance(failure, StoreForked):
            raise StoreForked(f"{failure}, and is the parent's: open it here, when the parent has closed it")
        why = str(failure) if isinstance(failure, Exception) and str(failure) else type(failure).__name__
        raise StoreFailed(
            f"an earlier write failed ({why}), so the store takes no more calls: reopen it to see what is on disk"
        ) from failure


class Reader(ABC):
    """What a store and a snapshot have in common: reads, all of one moment."""

    @abstractmethod
    def get(self, key: bytes, default: bytes | None = None) -> bytes | None:
        """The value of `key`, or `default` if it is absent; any bytes may be asked for.

        Raises InvalidKey for what is not bytes, StoreClosed, StoreFailed; CorruptionError if the value on disk fails its checksum.
        """

    def multi_get(self, keys: Iterable[bytes]) -> list[bytes | None]:
        """The values of `keys`, in their order, None for each absent one; each is read on its own."""
        return [self.get(key) for key in keys]

    @abstractmethod
    def scan(
        self,
        start: bytes = b"",
        stop: bytes | None = None,
        *,
        prefix: bytes | None = None,
        reverse: bool = False,
    ) -> Iterator[Pair]:
        """Iterates over the pairs with start <= key < stop that begin with `prefix`, in key order or against it.

        Lazy: what isn't asked for isn't read. Consistent: it shows the moment of the call, and pins what it needs of
        that moment until it is exhausted, closed or collected. Raises InvalidKey at the call, StoreClosed from the
        call and from the iteration after `close()`.
        """

    def __contains__(self, key: bytes) -> bool:
        return self.get(key) is not None


class Snapshot(Reader):
    """The store as it was when `KVStore.snapshot()` was called, until `close()`.

    A context manager. An open snapshot keeps what it needs on disk: old segments, pages, tables. Closing it twice is
    fine; every other call after `close()` raises StoreClosed. Closing the store closes its snapshots.
    """

    @abstractmethod
    def close(self) -> None:
        """Lets go of the view; what only it needed can be reclaimed."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class KVStore(Usable, Reader):
    """A durable ordered map; the module's docstring lists its promises.

    An engine is made as `Engine(path, *, env=None, sync=True, create=True, read_only=False, ...)`, takes its lock,
    recovers, and is ready. `path` is a str or an os.PathLike, made absolute (`Env.absolute`) before anything else, so
    that a later chdir doesn't move the store. `create=False` raises NoSuchStore where no store is; `read_only=True` is
    the contract's seventh point. Further options are in the engine's `option_class`; an engine of one's own may do
    without it, and declare them as keywords of its constructor. The last call of a constructor is `opened`
    (`engines.open` makes up for it).
    """

    name: ClassVar[str]  # the engine's name in the registry
    option_class: ClassVar[type[EngineOptions] | None] = None
    persistent: ClassVar[bool] = True  # False: nothing outlives the object
    # besides read_only, for `metcd check`: to open another program's files
    look_options: ClassVar[Mapping[str, Any]] = {}
    max_value_bytes: ClassVar[int] = (1 << 31) - 2

    path: str | None = None  # absolute; None for a store that is nowhere
    was_opened = False  # `opened` has been called
    _holds_files = False

    @classmethod
    def recognises(cls, path: StorePath, env: Env) -> bool:
        """True if the files at `path` are this engine's; reads names and first bytes only, and changes nothing."""
        return False

    @classmethod
    def dump(cls, path: StorePath, env: Env) -> Iterator[str]:
        """The files at `path`, a store or one file of it, as lines for people; none if this engine shows nothing.

        Opens no store, takes no lock, and shows damage where it is. Raises OSError, and never for what the bytes are.
        """
        return iter(())

    @classmethod
    def repair(cls, path: StorePath, env: Env) -> list[str]:
        """Makes the store at `path` one that opens, from what is whole; returns what was done, in sentences.

        Nothing is deleted for good: what can't be used is set aside. Raises StoreError before anything is changed if it
        can't be done, for the reason that the sentence says; StoreLocked, NoSuchStore, OSError.
        """
        raise StoreError(f"{env.absolute(path)}: the engine {cls.name!r} has no repair: restore a copy")

    @abstractmethod
    def write(self, batch: WriteBatch, *, sync: bool | None = None) -> None:
        """Applies all of `batch`, or nothing of it; an empty batch does nothing.

        sync=True returns when it is on disk, sync=False when the operating system has it (for the memory engine:
        when it is visible), sync=None does what the store was opened for. Raises InvalidValue for a value that this
        engine can't hold (nothing is written then), StoreClosed, StoreFailed, and OSError for the failure that
        poisons the store.
        """

    def put(self, key: bytes, value: bytes, *, sync: bool | None = None) -> None:
        """Sets `key` to `value`: a batch of one, with what `write` promises."""
        batch = WriteBatch()
        batch.put(key, value)
        self.write(batch, sync=sync)

    def delete(self, key: bytes, *, sync: bool | None = None) -> None:
        """Removes `key`, which need not be there: a batch of one, with what `write` promises."""
        batch = WriteBatch()
        batch.delete(key)
        self.write(batch, sync=sync)

    @contextmanager
    def batch(self, *, sync: bool | None = None) -> Iterator[WriteBatch]:
        """`with store.batch() as b:` gives an empty WriteBatch, and writes it with `sync` at the end of the block.

        If the block raises, nothing is written, and the exception goes on to the caller.
        """
        batch = WriteBatch()
        yield batch
        self.write(batch, sync=sync)

    @abstractmethod
    def snapshot(self) -> Snapshot:
        """A frozen view of the current content. Its cost is the engine's, and is documented there."""

    @abstractmethod
    def load(self, pairs: Iterable[Pair]) -> None:
        """Replaces the whole content by `pairs`, whose keys ascend strictly; durable when it returns.

        After a crash, the content is the old one or the new one, never a mixture. If `pairs` raises, or isn't sorted
        (InvalidKey), the old content stays. Streams: the pairs need not fit in memory unless the store must.
        """

    @abstractmethod
    def flush(self) -> None:
        """Makes every write so far durable, those with sync=False too."""

    @abstractmethod
    def compact(self) -> None:
        """Gives back the space of what was deleted and overwritten, as far as open snapshots allow."""

    @abstractmethod
    def check(self) -> list[str]:
        """Reads everything, and returns each violation of the format or of an invariant as a sentence; [] is OK."""

    @abstractmethod
    def stats(self) -> Stats:
        """A copy of the store's counters."""

    def size_bytes(self) -> int:
        """About how many bytes the store takes now, for who asks many times a second: of its files, as far as they are
        written; without files, of its keys and values.

        What only differs from `stats().disk_bytes` is left out: room that is allocated ahead, and files that only a
        snapshot or a scan still needs. An engine whose `stats` walks anything overrides this. O(files).
        """
        stats = self.stats()
        return stats.disk_bytes or stats.live_bytes

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """The store's structure for people and pictures, ready for JSON: levels, pages or segments."""

    def sketch(self) -> dict[str, Any]:
        """`describe` in a few KB and "counters", for a picture that is drawn twice a second; engines/telling.py has the form."""
        return {**bounded(self.describe()), "counters": counters(self.stats())}

    def explain(self, key: bytes) -> dict[str, Any]:
        """What a get of `key` touches now, step by step, in the form of engines/telling.py; no steps if it isn't told."""
        return explained(self.name, key, self.get(key))

    @abstractmethod
    def close(self) -> None:
        """Makes everything durable, gives up the lock, and ends snapshots and scans. Closing twice is fine."""

    def __repr__(self) -> str:
        where = "nowhere" if self.path is None else f"at {self.path}"
        return f"<{self.name} store {where}{', closed' if self.closed else ''}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- the store's life -------------------------------------------------------------------------------------------

    def opened(self, env: Env) -> None:
        """The end of a constructor: from now on the store is left alone after a fork, and closed when it is dropped.

        Dropped on a simulated disk, it is not: that is how a test kills a process.
        """
        self.was_opened = True
        self._holds_files = isinstance(env, RealEnv) and (self.persistent or self.path is not None)
        lifetime.watch(self)

    def __del__(self) -> None:
        if self._holds_files and not self.closed and not isinstance(self.failure, StoreForked):
            what = f"{self!r} was dropped without close(), and is closed now: use `with`, or call close()"
            try:
                self.close()
            finally:
                warnings.warn(what, ResourceWarning, stacklevel=2, source=self)

    def leave_to_parent(self) -> None:
        """What a fork does to the store in the child: every call is refused, and `close` does nothing.

        Threads that held a lock at the fork are not in the child, and never release it there: so the store gets other
        locks. An engine whose iterators and snapshots don't look at `failure` ends them here.
        """
        for name, value in list(vars(self).items()):
            if (lock := lifetime.new_lock(value)) is not None:
                setattr(self, name, lock)
        self.failure = StoreForked("the store was opened before this process was forked")
        self.close = lifetime.nothing_to_close  # type: ignore[method-assign]

    def while_usable(self, pairs: Iterable[Pair]) -> Iterator[Pair]:
        """The pairs of a `load`, for as long as the store is usable: what they come from may fork, or close it."""
        for pair in pairs:
            if self.closed or self.failure is not None:
                self.refuse()
            yield pair

    def end_threads(self) -> None:
        """The interpreter is about to end, which stops threads wherever they are: an engine ends its own here.

        It works on without: `atexit` handlers that run after this may still write.
        """

    def stuck(self, *locks: threading.Lock) -> bool:
        """For `close`: True at the interpreter's end if a thread that it has stopped holds one of the locks.

        The store is then left as by a kill, which loses nothing that was acknowledged.
        """
        return sys.is_finalizing() and any(lock.locked() for lock in locks)


class MappingView(MutableMapping[bytes, bytes]):
    """A store dressed as a dict, for play: `d = MappingView(store); d[b"k"] = b"v"; list(d)`.

    `len()` is a full scan and `del` reads before it deletes, which is why the store itself is no mapping. `clear()` is
    one `load` of nothing: at once, for every reader and for every crash. `popitem()` takes the smallest key after the
    one that it took last, and begins again with the smallest of all when there is none.
    """

    def __init__(self, store: KVStore) -> None:
        self._store = store
        self._popped = b""  # a scan from the first key on would step over the marks of all that was popped before

    def __getitem__(self, key: bytes) -> bytes:
        value = self._store.get(key)
        if value is None:
            raise KeyError(key)
        return value

    def __setitem__(self, key: bytes, value: bytes) -> None:
        self._store.put(key, value)

    def __delitem__(self, key: bytes) -> None:
        if key not in self._store:
            raise KeyError(key)
        self._store.delete(key)

    def __iter__(self) -> Iterator[bytes]:
        return (key for key, _ in self._store.scan())

    def __len__(self) -> int:
        return sum(1 for _ in self._store.scan())

    def __bool__(self) -> bool:
        return next(self._store.scan(), None) is not None

    def clear(self) -> None:
        self._store.load([])

    def popitem(self) -> Pair:
        pair = next(self._store.scan(self._popped), None) or next(self._store.scan(), None)
        if pair is None:
            raise KeyError("popitem(): the store is empty")
        self._popped = pair[0]
        self._store.delete(pair[0])
        return pair
