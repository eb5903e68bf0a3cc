"""Our LSM store behind plyvel's API, so that plyvel's own tests can be run on it. Not a product: only for the tests.

    DB ─── LsmStore         Snapshot ─── LsmSnapshot         Iterator, RawIterator ─── scans of a snapshot of their own

An iterator of plyvel stands between two keys, and goes either way. Here its place is one bound: everything on its left
is below the bound, everything on its right is not. Going right is the first pair of a scan from there on; going left
is the first pair of a reverse scan up to there. A run of steps in one direction uses one scan.

Where LevelDB and we have different words: a store that another comparator ordered can't be had (engines.kvstore: bytes are
ordered as bytes), and keys have 1 to 32,768 bytes.
"""

from __future__ import annotations

import builtins
import os
import shutil
from collections.abc import Callable
from collections.abc import Iterator as AnyIterator
from contextlib import contextmanager
from typing import Any

import engines
from engines import StoreClosed, StoreError
from engines.kvstore import WriteBatch as Batch
from engines.kvstore import prefix_end
from engines.lsm.repair import repair
from engines.lsm.store import LsmStore

__all__ = [
    "DB",
    "CorruptionError",
    "Error",
    "IOError",
    "IteratorInvalidError",
    "destroy_db",
    "repair_db",
]

__leveldb_version__ = "1.23"  # the version whose format ours is
__version__ = "1.5.1"  # of plyvel, whose API this is


class Error(Exception):
    """Whatever goes wrong in a store."""


class IOError(Error, builtins.IOError):
    """The disk's errors."""


class CorruptionError(Error):
    """Damage."""


class IteratorInvalidError(Error):
    """A raw iterator that stands on no pair was asked for it."""


@contextmanager
def translated() -> AnyIterator[None]:
    """Our errors as plyvel's: what is closed is a RuntimeError there, what is no bytes a TypeError."""
    try:
        yield
    except StoreClosed as error:
        raise RuntimeError(str(error)) from error
    except engines.CorruptionError as error:
        raise CorruptionError(str(error)) from error
    except (engines.NoSuchStore, StoreError) as error:
        raise Error(str(error)) from error
    except OSError as error:
        raise IOError(str(error)) from error


def _bytes(thing: object) -> bytes:
    """Keys, prefixes and names are bytes and nothing else."""
    if type(thing) is not bytes:
        raise TypeError(f"bytes are needed, and this is {type(thing).__name__}")
    return thing


def _options(given: dict[str, Any]) -> dict[str, Any]:
    """plyvel's options by our names."""
    names = {
        "write_buffer_size": "write_buffer_bytes",
        "max_open_files": "max_open_files",
        "lru_cache_size": "cache_bytes",
        "block_size": "block_bytes",
        "block_restart_interval": "block_restart_interval",
        "max_file_size": "max_file_bytes",
    }
    comparator, comparator_name = given.pop("comparator", None), given.pop("comparator_name", None)
    if (comparator is None) != (comparator_name is None):
        raise ValueError("comparator and comparator_name go together")
    if comparator is not None:
        if not callable(comparator) or type(comparator_name) is not bytes:
            raise TypeError("a comparator is callable, and its name is bytes")
        raise Error("keys are ordered as bytes, and in no other way")
    compression = given.pop("compression", "snappy")
    if compression not in (None, "snappy"):
        raise ValueError("compression is None or 'snappy'")
    options: dict[str, Any] = {"filter": "leveldb" if given.pop("bloom_filter_bits", 0) else None, "sync": False}
    given.pop("paranoid_checks", None)  # always
    for name, value in given.items():
        if value is not None:
            if type(value) is not int:
                raise TypeError(f"{name} must be an int")
            options[names[name]] = value
    return options


class DB:
    """plyvel.DB."""

    def __init__(
        self, name: Any, *, create_if_missing: bool = False, error_if_exists: bool = False, **options: Any
    ) -> None:
        if not isinstance(name, (str, bytes)):
            raise TypeError("a name is str or bytes")
        self._name = name
        self._path = os.fsdecode(name)
        chosen = _options(options)
        with translated():
            if error_if_exists and os.path.exists(f"{self._path}/CURRENT"):
                raise Error(f"{name!r} exists (error_if_exists is true)")
            store = engines.open(self._path, "lsm", create=create_if_missing, **chosen)
        assert isinstance(store, LsmStore)
        self._store = store
        self.closed = False

    @property
    def name(self) -> Any:
        return self._name

    @property
    def closed(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True
        self._store.close()

    def __del__(self) -> None:
        if hasattr(self, "_store"):
            self.close()

    def __enter__(self) -> DB:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def get(
        self, key: bytes, default: Any = None, *, verify_checksums: bool | None = False, fill_cache: bool = True
    ) -> Any:
        with translated():
            return self._store.get(_bytes(key), default)

    def put(self, key: bytes, value: Any, *, sync: bool = False) -> None:
        with translated():
            self._store.put(_bytes(key), bytes(memoryview(value)), sync=sync)

    def delete(self, key: bytes, *, sync: bool = False) -> None:
        with translated():
            self._store.delete(_bytes(key), sync=sync)

    def write_batch(self, *, transaction: bool = False, sync: bool = False) -> WriteBatch:
        return WriteBatch(self, b"", transaction, sync)

    def snapshot(self) -> Snapshot:
        return Snapshot(self, b"")

    def iterator(self, **options: Any) -> Iterator:
        return Iterator(self, None, b"", **options)

    def raw_iterator(self, **options: Any) -> RawIterator:
        return RawIterator(self, None)

    def __iter__(self) -> Iterator:
        return self.iterator()

    def prefixed_db(self, prefix: bytes) -> PrefixedDB:
        return PrefixedDB(self, _bytes(prefix))

    def get_property(self, name: bytes) -> bytes | None:
        with translated():
            found = self._store.leveldb_property(_bytes(name).decode())
        return None if found is None else found.encode()

    def compact_range(self, *, start: bytes | None = None, stop: bytes | None = None) -> None:
        with translated():
            self._store.compact_range(start, stop)

    def approximate_size(self, start: bytes, stop: bytes) -> int:
        return self.approximate_sizes((start, stop))[0]

    def approximate_sizes(self, *ranges: tuple[bytes, bytes]) -> list[int]:
        with translated():
            return [self._store.approximate_size(_bytes(start), _bytes(stop)) for start, stop in ranges]


class PrefixedDB:
    """plyvel.PrefixedDB: the keys of a DB that begin with a prefix, without it."""

    def __init__(self, db: DB, prefix: bytes) -> None:
        self.db = db
        self.prefix = prefix

    def get(self, key: bytes, default: Any = None, **options: Any) -> Any:
        return self.db.get(self.prefix + _bytes(key), default, **options)

    def put(self, key: bytes, value: Any, *, sync: bool = False) -> None:
        self.db.put(self.prefix + _bytes(key), value, sync=sync)

    def delete(self, key: bytes, *, sync: bool = False) -> None:
        self.db.delete(self.prefix + _bytes(key), sync=sync)

    def write_batch(self, *, transaction: bool = False, sync: bool = False) -> WriteBatch:
        return WriteBatch(self.db, self.prefix, transaction, sync)

    def snapshot(self) -> Snapshot:
        return Snapshot(self.db, self.prefix)

    def iterator(self, **options: Any) -> Iterator:
        return Iterator(self.db, None, self.prefix, **options)

    def __iter__(self) -> Iterator:
        return self.iterator()

    def prefixed_db(self, prefix: bytes) -> PrefixedDB:
        return PrefixedDB(self.db, self.prefix + _bytes(prefix))


class WriteBatch:
    """plyvel.WriteBatch. As a context manager it writes even when the block raises, unless it is a transaction."""

    def __init__(self, db: DB, prefix: bytes, transaction: bool, sync: bool) -> None:
        self._db = db
        self._prefix = prefix
        self._transaction = transaction
        self._sync = sync
        self._batch = Batch()

    def _open(self) -> Batch:
        if self._db.closed:
            raise RuntimeError("the database is closed")
        return self._batch

    def put(self, key: bytes, value: Any) -> None:
        with translated():
            self._open().put(self._prefix + _bytes(key), bytes(memoryview(value)))

    def delete(self, key: bytes) -> None:
        with translated():
            self._open().delete(self._prefix + _bytes(key))

    def clear(self) -> None:
        self._open().clear()

    def write(self) -> None:
        with translated():
            self._db._store.write(self._open(), sync=self._sync)

    def approximate_size(self) -> int:
        return self._open().size_bytes + 12 + len(self._batch)

    def append(self, source: WriteBatch) -> None:
        self._open().operations.extend(source._batch.operations)

    def __enter__(self) -> WriteBatch:
        self._open()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None or not self._transaction:
            self.write()
        self.clear()


class Snapshot:
    """plyvel.Snapshot."""

    def __init__(self, db: DB, prefix: bytes) -> None:
        self._db = db
        self._prefix = prefix
        with translated():
            self._snapshot = db._store.snapshot()

    def get(self, key: bytes, default: Any = None, **options: Any) -> Any:
        with translated():
            return self._snapshot.get(self._prefix + _bytes(key), default)

    def iterator(self, **options: Any) -> Iterator:
        return Iterator(self._db, self, self._prefix, **options)

    def raw_iterator(self, **options: Any) -> RawIterator:
        return RawIterator(self._db, self)

    def __iter__(self) -> Iterator:
        return self.iterator()

    def close(self) -> None:
        self._snapshot.close()

    release = close

    def __enter__(self) -> Snapshot:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Cursor:
    """A place between two keys of [low, high), from which to go either way. The module's docstring explains it."""

    def __init__(self, db: DB, snapshot: Snapshot | None, low: bytes, high: bytes | None, at: bytes | None) -> None:
        with translated():
            self._reader = snapshot._snapshot if snapshot is not None else db._store.snapshot()
            self._reader.scan()  # raises if it is closed
        self._own = snapshot is None
        self._low, self._high = low, high
        self.closed = False
        self.place(at)

    def place(self, at: bytes | None) -> None:
        """Goes to the bound `at`, or to the end of the range that is nearest; None is behind everything."""
        self.check()
        if self._high is not None:
            at = self._high if at is None else min(at, self._high)
        self._at = at if at is None else max(at, self._low)
        self._scan: AnyIterator[tuple[bytes, bytes]] | None = None

    def check(self) -> None:
        if self.closed:
            raise RuntimeError("the iterator is closed")

    def step(self, right: bool) -> tuple[bytes, bytes] | None:
        """The pair that is passed on the way; None at the end of the range, and then nothing moves."""
        self.check()
        with translated():
            if self._scan is None or self._right is not right:
                start, stop = (self._at, self._high) if right else (self._low, self._at)
                self._right = right
                self._scan = iter(()) if start is None else self._reader.scan(start, stop, reverse=not right)
            pair = next(self._scan, None)
            if pair is not None:
                self._at = pair[0] + b"\x00" if right else pair[0]
            return pair

    def close(self) -> None:
        self.closed = True
        self._scan = None
        if self._own:
            self._reader.close()


class Iterator:
    """plyvel.Iterator."""

    def __init__(
        self,
        db: DB,
        snapshot: Snapshot | None,
        db_prefix: bytes,
        *,
        reverse: bool = False,
        start: bytes | None = None,
        stop: bytes | None = None,
        include_start: bool = True,
        include_stop: bool = False,
        prefix: bytes | None = None,
        include_key: bool = True,
        include_value: bool = True,
        verify_checksums: bool = False,
        fill_cache: bool = True,
    ) -> None:
        if prefix is not None and (start is not None or stop is not None):
            raise TypeError("a prefix excludes start and stop")
        whole = db_prefix + _bytes(prefix or b"")
        low = whole if start is None else db_prefix + start + (b"" if include_start else b"\x00")
        high = prefix_end(whole) if stop is None else db_prefix + stop + (b"\x00" if include_stop else b"")
        self._cut = len(db_prefix)
        self._db_prefix = db_prefix
        self._forward = not reverse
        self._show: Callable[[bytes, bytes], Any] = {
            (True, True): lambda key, value: (key, value),
            (True, False): lambda key, value: key,
            (False, True): lambda key, value: value,
            (False, False): lambda key, value: None,
        }[bool(include_key), bool(include_value)]
        self._cursor = _Cursor(db, snapshot, low, high, None if reverse else low)

    def __iter__(self) -> Iterator:
        return self

    def _step(self, right: bool) -> Any:
        pair = self._cursor.step(right)
        if pair is None:
            raise StopIteration
        return self._show(pair[0][self._cut :], pair[1])

    def __next__(self) -> Any:
        return self._step(self._forward)

    def prev(self) -> Any:
        return self._step(not self._forward)

    def seek(self, target: bytes) -> None:
        self._cursor.place(self._db_prefix + _bytes(target))

    def seek_to_start(self) -> None:
        self._cursor.place(b"")

    def seek_to_stop(self) -> None:
        self._cursor.place(None)

    def close(self) -> None:
        self._cursor.close()

    def __enter__(self) -> Iterator:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class RawIterator:
    """plyvel.RawIterator: stands on a pair, or on none. The cursor stands behind that pair."""

    def __init__(self, db: DB, snapshot: Snapshot | None) -> None:
        self._cursor = _Cursor(db, snapshot, b"", None, b"")
        self._pair: tuple[bytes, bytes] | None = None

    def valid(self) -> bool:
        self._cursor.check()
        return self._pair is not None

    def item(self) -> tuple[bytes, bytes]:
        if not self.valid():
            raise IteratorInvalidError
        assert self._pair is not None
        return self._pair

    def key(self) -> bytes:
        return self.item()[0]

    def value(self) -> bytes:
        return self.item()[1]

    def seek(self, target: bytes) -> None:
        self._cursor.place(_bytes(target))
        self._pair = self._cursor.step(True)

    def seek_to_first(self) -> None:
        self.seek(b"")

    def seek_to_last(self) -> None:
        self._cursor.place(None)
        if (pair := self._cursor.step(False)) is not None:
            self.seek(pair[0])
        else:
            self._pair = None

    def next(self) -> None:
        self.item()
        self._pair = self._cursor.step(True)

    def prev(self) -> None:
        key = self.key()
        self._cursor.place(key)
        if (pair := self._cursor.step(False)) is not None:
            self.seek(pair[0])
        else:
            self._pair = None

    def close(self) -> None:
        self._cursor.close()

    def __enter__(self) -> RawIterator:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def repair_db(name: Any, **options: Any) -> None:
    """plyvel.repair_db."""
    with translated():
        repair(os.fsdecode(name))


def destroy_db(name: Any) -> None:
    """plyvel.destroy_db, without LevelDB's care for foreign files: it is only given a store of its own here."""
    with translated():
        shutil.rmtree(os.fsdecode(name))
