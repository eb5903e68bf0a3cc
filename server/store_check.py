"""Looking at a store without changing it, and saying why nobody recognises one: for server/inspect.py and node_check.py.

An engine of one's own whose constructor has no `read_only` is looked at on a copy, made in a temporary directory.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any

import engines
from engines import CorruptionError, ForeignFormat, KVStore, StoreError
from engines.env import Env

__all__ = ["NotRecognised", "check_store", "nobodys", "opened_to_read"]

NAMES_SHOWN = 3


class NotRecognised(StoreError):
    """Nobody here knows what lies at the path; the sentence says what was looked for, or what it is instead."""


@contextlib.contextmanager
def opened_to_read(path: str, engine: str, env: Env, options: Mapping[str, Any] | None = None) -> Iterator[KVStore]:
    """The store at `path`, open for reading only, with further options if it can be. Raises what opening raises."""
    make: Any = engines.engine_class(engine)  # an engine's constructor is its own
    if "read_only" in engines.options(engine):
        with make(path, env=env, read_only=True, **(options or {})) as store:
            yield store
        return
    with tempfile.TemporaryDirectory(prefix="metcd-check-") as directory:
        copy = f"{directory}/copy"
        if env.is_dir(path):
            shutil.copytree(path, copy, symlinks=True)
        else:
            shutil.copyfile(path, copy)
        with make(copy, env=env) as store:
            yield store


def check_store(path: str, engine: str, env: Env, options: Mapping[str, Any] | None = None) -> list[str]:
    """What the engine finds wrong with its store; a store that it can't open is one sentence. O(bytes)."""
    try:
        with opened_to_read(path, engine, env, options) as store:
            return store.check()
    except (CorruptionError, ForeignFormat) as error:
        return [str(error)]


def nobodys(path: str, env: Env) -> str:
    """Why no engine recognises what is at the path: the engine's own words where it finds its damaged or foreign files."""
    if (claim := engines.claimed(path, env)) is not None:
        return str(claim[1])
    what = "is a file that"
    above = path.rpartition("/")[0] or "/"
    if not env.is_dir(path) and (engine := engines.which(above, env)) is not None:
        return f"{path} is a file in a store of {engine!r}: check {above}, or see the file with metcd dump"
    if env.is_dir(path):
        names = env.list(path)
        more = "" if len(names) <= NAMES_SHOWN else ", …"
        what = f"has {', '.join(names[:NAMES_SHOWN])}{more} in it, which" if names else "is an empty directory, which"
    return (
        f"{path} {what} is neither a node's nor a store of {', '.join(engines.ENGINES)}: "
        "if it is of an engine of your own, say --engine path/to/file.py:Class"
    )
