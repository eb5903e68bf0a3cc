"""Snapshots."""

from __future__ import annotations

from typing import Any

from engines.lsm.store import LsmStore
from tests.interop.plyvel_adapter.arguments import only_bytes
from tests.interop.plyvel_adapter.errors import translated
from tests.interop.plyvel_adapter.iterator import Iterator
from tests.interop.plyvel_adapter.raw_iterator import RawIterator

__all__ = ["Snapshot"]


class Snapshot:
    """plyvel.Snapshot."""

    def __init__(self, store: LsmStore, prefix: bytes) -> None:
        self._store = store
        self._prefix = prefix
        with translated():
            self._snapshot = store.snapshot()

    def get(self, key: bytes, default: Any = None, **options: Any) -> Any:
        with translated():
            return self._snapshot.get(self._prefix + only_bytes(key), default)

    def iterator(self, **options: Any) -> Iterator:
        return Iterator(self._store, self._snapshot, self._prefix, **options)

    def raw_iterator(self, **options: Any) -> RawIterator:
        return RawIterator(self._store, self._snapshot)

    def __iter__(self) -> Iterator:
        return self.iterator()

    def close(self) -> None:
        self._snapshot.close()

    release = close

    def __enter__(self) -> Snapshot:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
