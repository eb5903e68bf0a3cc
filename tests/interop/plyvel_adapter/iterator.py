"""Iterators that stand between two pairs, and give the one that they pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from engines.kvstore import Snapshot, prefix_end
from engines.lsm.store import LsmStore
from tests.interop.plyvel_adapter.arguments import only_bytes
from tests.interop.plyvel_adapter.cursor import Cursor

__all__ = ["Iterator"]


class Iterator:
    """plyvel.Iterator."""

    def __init__(
        self,
        store: LsmStore,
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
        whole = db_prefix + only_bytes(prefix or b"")
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
        self._cursor = Cursor(store, snapshot, low, high, None if reverse else low)

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
        self._cursor.place(self._db_prefix + only_bytes(target))

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
