"""A snapshot file as the v3 gateway sends it: the file, and after it the SHA-256 of it.

    size - 32 bytes     a snapshot file (server/snapshot.py)
    32 bytes            SHA-256 of what is before

POST /v3/maintenance/snapshot sends blobs, and the last one is the hash of all others: etcdctl and other clients of etcd write all
of them into one file, and etcd's own restore expects it there. A file from GET /_/snapshot has none. So both are taken, and which
one it is follows from its content: it is read as a snapshot file, and if it is none, once more without its last 32 bytes.

Left out: a flag that takes a file with a wrong hash (etcdctl's --skip-hash-check): cut the 32 bytes off.
Follows etcd's etcdutl/snapshot/v3_snapshot.go, saveDB.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any, NamedTuple, cast, overload

from engines.env import Env, File, View
from engines.errors import CorruptionError
from server import snapshot
from server.snapshot import Summary, summarize

__all__ = ["HASH_BYTES", "Saved", "dump", "saved"]

HASH_BYTES = 32
PIECE_BYTES = 1 << 20


class Saved(NamedTuple):
    """What a saved file is. env: through which its pairs are read (server/snapshot.py), without the hash if there is one."""

    summary: Summary
    env: Env
    hashed: bool


def saved(path: str, env: Env) -> Saved:
    """Verifies a snapshot file, and its hash if it ends with one. Raises CorruptionError, OSError. O(bytes)."""
    try:
        return Saved(summarize(path, env), env, False)
    except CorruptionError as error:
        shorter = cast(Env, _Shorter(env))
        try:
            summary = summarize(path, shorter)
        except CorruptionError:
            raise error from None
    with closing(env.open(path, "r")) as file:
        size = file.size()
        digest = hashlib.sha256()
        for at in range(0, size - HASH_BYTES, PIECE_BYTES):
            digest.update(file.pread(min(PIECE_BYTES, size - HASH_BYTES - at), at))
        told = file.pread(HASH_BYTES, size - HASH_BYTES)
    if told != digest.digest():
        raise CorruptionError(
            path,
            size - HASH_BYTES,
            f"a whole snapshot is followed by {told.hex()}, which isn't its SHA-256, {digest.hexdigest()}: take another snapshot",
        )
    return Saved(replace(summary, file_bytes=size), shorter, True)


def dump(path: str, env: Env) -> Iterator[str]:
    """The file as lines of text: those of a snapshot file, and its hash if it ends with one."""
    try:
        hashed = saved(path, env)
    except CorruptionError:
        yield from snapshot.dump(path, env)
        return
    yield from snapshot.dump(path, hashed.env)
    if hashed.hashed:
        at = hashed.summary.file_bytes - HASH_BYTES
        with closing(env.open(path, "r")) as file:
            yield f"{at:08x}  SHA-256  {file.pread(HASH_BYTES, at).hex()}"


class _Shorter:
    """An Env, as far as a snapshot is read: every file ends HASH_BYTES earlier."""

    def __init__(self, env: Env) -> None:
        self._env = env

    def open(self, path: str, mode: Any) -> File:
        return cast(File, _ShorterFile(self._env.open(path, mode)))


class _ShorterFile:
    def __init__(self, file: File) -> None:
        self._file = file

    def view(self) -> View:
        return _ShorterView(self._file.view())

    def close(self) -> None:
        self._file.close()


class _ShorterView:
    def __init__(self, view: View) -> None:
        self._view = view
        self._size = max(0, len(view) - HASH_BYTES)

    def __len__(self) -> int:
        return self._size

    @overload
    def __getitem__(self, at: int, /) -> int: ...
    @overload
    def __getitem__(self, at: slice, /) -> bytes: ...
    def __getitem__(self, at: int | slice, /) -> int | bytes:
        if isinstance(at, slice):
            return self._view[slice(*at.indices(self._size))]
        return self._view[range(self._size)[at]]
