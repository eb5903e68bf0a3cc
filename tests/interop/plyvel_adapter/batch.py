"""Batches."""

from __future__ import annotations

from typing import Any

from engines.kvstore import WriteBatch as Batch
from engines.lsm.store import LsmStore
from tests.interop.plyvel_adapter.arguments import only_bytes
from tests.interop.plyvel_adapter.errors import translated

__all__ = ["WriteBatch"]


class WriteBatch:
    """plyvel.WriteBatch. As a context manager it writes even when the block raises, unless it is a transaction."""

    def __init__(self, store: LsmStore, prefix: bytes, transaction: bool, sync: bool) -> None:
        self._store = store
        self._prefix = prefix
        self._transaction = transaction
        self._sync = sync
        self._batch = Batch()

    def _open(self) -> Batch:
        with translated():
            self._store.check_usable()
        return self._batch

    def put(self, key: bytes, value: Any) -> None:
        with translated():
            self._open().put(self._prefix + only_bytes(key), bytes(memoryview(value)))

    def delete(self, key: bytes) -> None:
        with translated():
            self._open().delete(self._prefix + only_bytes(key))

    def clear(self) -> None:
        self._open().clear()

    def write(self) -> None:
        with translated():
            self._store.write(self._open(), sync=self._sync)

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
