"""Looking without touching: what a directory is to the last time stamp, a disk that refuses every change, and all looks."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

import engines
from engines import CorruptionError, ForeignFormat, KVStore, NoSuchStore, ReadOnly, WriteBatch
from engines.env import Env, File, Lock, LockKind, Mode
from engines.simenv import os_error
from server import inspect

__all__ = ["ReadOnlyMedium", "every_look", "picture", "reads", "refusing"]

Facts = tuple[int, int, int, int, int, bytes]


def picture(path: Path) -> dict[str, Facts]:
    """Every name at and below the path, with mode, owner, size, time of content, time of state, and content."""
    found = {}
    for each in [path, *sorted(path.rglob("*"))]:
        status = each.lstat()
        content = each.read_bytes() if stat.S_ISREG(status.st_mode) else b""
        facts = (status.st_mode, status.st_uid, status.st_size, status.st_mtime_ns, status.st_ctime_ns, content)
        found[str(each.relative_to(path))] = facts
    return found


class ReadOnlyMedium:
    """Any Env, on a medium that can't be written, or without the right to: every change is refused, and noted."""

    def __init__(self, env: Env, error: int) -> None:
        self._env = env
        self._error = error
        self.refused: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._env, name)

    def _refuse(self, call: str, path: str) -> OSError:
        self.refused.append(f"{call} {path}")
        return os_error(self._error, path)

    def open(self, path: str, mode: Mode) -> File:
        if mode != "r":
            raise self._refuse(f"open {mode!r}", path)
        return self._env.open(path, mode)

    def lock(self, path: str, kind: LockKind = "posix", *, shared: bool = False) -> Lock:
        if not shared:
            raise self._refuse("lock", path)
        return self._env.lock(path, kind, shared=True)

    def makedirs(self, path: str, site: str) -> None:
        raise self._refuse("makedirs", path)

    def adopt(self, path: str, like: str) -> None:
        raise self._refuse("adopt", path)

    def rename(self, old: str, new: str) -> None:
        raise self._refuse("rename", old)

    def link(self, old: str, new: str) -> None:
        raise self._refuse("link", old)

    def unlink(self, path: str) -> None:
        raise self._refuse("unlink", path)

    def sync_dir(self, path: str, site: str) -> None:
        raise self._refuse("sync_dir", path)


def every_look(path: str, where: str, env: Env, **options: Any) -> Iterator[str]:
    """Looks at a store in every way there is, and says what came of it; `where` is its engine.

    What a look finds is its own business here: damage may be found or not. Raises what no look may raise.
    """
    yield f"which {engines.which(path, env)}"
    try:
        yield f"what_is {inspect.what_is(path, env)}"
    except inspect.NotRecognised as error:
        yield f"what_is {error}"
    for engine in (where, None):
        try:
            yield f"check {inspect.check(path, engine, env)}"
        except (inspect.NotRecognised, NoSuchStore) as error:
            yield f"check {error}"
        try:
            yield f"dump {sum(1 for _ in inspect.dump(path, engine, env))}"
        except inspect.NotRecognised as error:
            yield f"dump {error}"
    given: dict[str, Any] = {**options, "read_only": True}
    try:
        with engines.open(path, where, env=env, **given) as store:
            yield from reads(store)
    except (CorruptionError, ForeignFormat, NoSuchStore) as error:
        yield f"open {error}"


def reads(store: KVStore) -> Iterator[str]:
    """Every call of a store that was opened for reading: what reads does, what writes is refused with ReadOnly."""
    changes: list[Any] = [
        lambda: store.put(b"a", b"1"),
        lambda: store.delete(b"a"),
        lambda: store.load([(b"a", b"1")]),
        lambda: store.compact(),
        lambda: store.flush(),
        lambda: store.write(WriteBatch()),
    ]
    for change in changes:
        with pytest.raises(ReadOnly, match="read_only=True: open it without to write"):
            change()
    with pytest.raises(ReadOnly), store.batch() as batch:
        batch.put(b"a", b"1")
    store.stats()
    store.size_bytes()
    store.describe()
    store.sketch()
    try:
        with store.snapshot() as snapshot:
            pairs = dict(snapshot.scan())
            assert dict(store.scan(reverse=True)) == pairs
            assert {key: store.get(key) for key in pairs} == pairs
            assert all(key in snapshot for key in pairs)
            assert all(store.explain(key)["value_bytes"] == len(value) for key, value in pairs.items())
        yield f"{len(pairs)} pairs"
    except CorruptionError as error:
        yield f"read {error}"
    yield f"store.check {store.check()}"


def refusing(env: Env, error: int) -> tuple[ReadOnlyMedium, Env]:
    """The medium twice: as what it is, and as an Env for those who want one."""
    medium = ReadOnlyMedium(env, error)
    return medium, cast(Env, medium)
