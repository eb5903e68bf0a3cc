"""LevelDB's own kind of iterator, which stands on a pair."""

from __future__ import annotations

from engines.kvstore import Snapshot
from engines.lsm.store import LsmStore
from tests.interop.plyvel_adapter.arguments import only_bytes
from tests.interop.plyvel_adapter.cursor import Cursor
from tests.interop.plyvel_adapter.errors import IteratorInvalidError

__all__ = ["RawIterator"]


class RawIterator:
    """plyvel.RawIterator: stands on a pair, or on none. The cursor stands right after that pair."""

    def __init__(self, store: LsmStore, snapshot: Snapshot | None) -> None:
        self._cursor = Cursor(store, snapshot, b"", None, b"")
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
        self._cursor.place(only_bytes(target))
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
