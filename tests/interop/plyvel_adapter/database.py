"""The database, and the part of one whose keys begin with a prefix."""

from __future__ import annotations

import os
from typing import Any

import engines
from engines.lsm.store import LsmStore
from tests.interop.plyvel_adapter.arguments import lsm_options, only_bytes
from tests.interop.plyvel_adapter.batch import WriteBatch
from tests.interop.plyvel_adapter.errors import Error, translated
from tests.interop.plyvel_adapter.iterator import Iterator
from tests.interop.plyvel_adapter.raw_iterator import RawIterator
from tests.interop.plyvel_adapter.snapshot import Snapshot

__all__ = ["DB", "PrefixedDB"]


class DB:
    """plyvel.DB."""

    def __init__(
        self, name: Any, *, create_if_missing: bool = False, error_if_exists: bool = False, **options: Any
    ) -> None:
        if not isinstance(name, (str, bytes)):
            raise TypeError("a name is str or bytes")
        self._name = name
        self._path = os.fsdecode(name)
        chosen = lsm_options(options)
        with translated():
            if error_if_exists and os.path.exists(f"{self._path}/CURRENT"):
                raise Error(f"{name!r} exists (error_if_exists is true)")
            store = engines.open(self._path, "lsm", create=create_if_missing, **chosen)
        assert isinstance(store, LsmStore)
        self.store = store

    @property
    def name(self) -> Any:
        return self._name

    @property
    def closed(self) -> bool:
        return self.store.closed

    def close(self) -> None:
        self.store.close()

    def __del__(self) -> None:
        if hasattr(self, "store"):
            self.close()

    def __enter__(self) -> DB:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def get(
        self, key: bytes, default: Any = None, *, verify_checksums: bool | None = False, fill_cache: bool = True
    ) -> Any:
        with translated():
            return self.store.get(only_bytes(key), default)

    def put(self, key: bytes, value: Any, *, sync: bool = False) -> None:
        with translated():
            self.store.put(only_bytes(key), bytes(memoryview(value)), sync=sync)

    def delete(self, key: bytes, *, sync: bool = False) -> None:
        with translated():
            self.store.delete(only_bytes(key), sync=sync)

    def write_batch(self, *, transaction: bool = False, sync: bool = False) -> WriteBatch:
        return WriteBatch(self.store, b"", transaction, sync)

    def snapshot(self) -> Snapshot:
        return Snapshot(self.store, b"")

    def iterator(self, **options: Any) -> Iterator:
        return Iterator(self.store, None, b"", **options)

    def raw_iterator(self, **options: Any) -> RawIterator:
        return RawIterator(self.store, None)

    def __iter__(self) -> Iterator:
        return self.iterator()

    def prefixed_db(self, prefix: bytes) -> PrefixedDB:
        return PrefixedDB(self, only_bytes(prefix))

    def get_property(self, name: bytes) -> bytes | None:
        with translated():
            found = self.store.leveldb_property(only_bytes(name).decode())
        return None if found is None else found.encode()

    def compact_range(self, *, start: bytes | None = None, stop: bytes | None = None) -> None:
        with translated():
            self.store.compact_range(start, stop)

    def approximate_size(self, start: bytes, stop: bytes) -> int:
        return self.approximate_sizes((start, stop))[0]

    def approximate_sizes(self, *ranges: tuple[bytes, bytes]) -> list[int]:
        with translated():
            return [self.store.approximate_size(only_bytes(start), only_bytes(stop)) for start, stop in ranges]


class PrefixedDB:
    """plyvel.PrefixedDB: the keys of a DB that begin with a prefix, without it."""

    def __init__(self, db: DB, prefix: bytes) -> None:
        self.db = db
        self.prefix = prefix

    def get(self, key: bytes, default: Any = None, **options: Any) -> Any:
        return self.db.get(self.prefix + only_bytes(key), default, **options)

    def put(self, key: bytes, value: Any, *, sync: bool = False) -> None:
        self.db.put(self.prefix + only_bytes(key), value, sync=sync)

    def delete(self, key: bytes, *, sync: bool = False) -> None:
        self.db.delete(self.prefix + only_bytes(key), sync=sync)

    def write_batch(self, *, transaction: bool = False, sync: bool = False) -> WriteBatch:
        return WriteBatch(self.db.store, self.prefix, transaction, sync)

    def snapshot(self) -> Snapshot:
        return Snapshot(self.db.store, self.prefix)

    def iterator(self, **options: Any) -> Iterator:
        return Iterator(self.db.store, None, self.prefix, **options)

    def __iter__(self) -> Iterator:
        return self.iterator()

    def prefixed_db(self, prefix: bytes) -> PrefixedDB:
        return PrefixedDB(self.db, self.prefix + only_bytes(prefix))
