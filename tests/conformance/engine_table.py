"""The table of engines that the conformance suite and the benchmarks run on.

Every name of `engines.ENGINES` is in it by itself. An engine whose files only grow interesting after megabytes adds one
line to `TINY`: options so small that a few hundred writes make it flush, compact, split, rotate and merge.

    pytest tests/conformance                                    every engine of the registry
    pytest tests/conformance --engine lsm --engine btree        these two
    pytest tests/conformance --engine path/to/file.py:Class     a learner's own, through the same suite

What an engine has to offer is in `engines.kvstore`: the constructor `Engine(path, *, env=None, sync=True)`, the abstract
methods, and `persistent = False` if nothing outlives the object; then the cases about reopening and power cuts are left
out for it. A persistent engine also has `recognises`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import engines
from engines import KVStore, UnknownEngine
from engines.env import Env

__all__ = ["APPLIES", "TINY", "Engine", "OpenStore", "engine_table"]

OpenStore = Callable[..., KVStore]  # open_store(name="store", **options), a fixture

# says which cases (by the test function's name) run on which engine; all on each unless a plugin puts it there
APPLIES = pytest.StashKey[Callable[["Engine", str], bool]]()

# engine → options with which a few hundred small writes reach every part of it
TINY: dict[str, dict[str, Any]] = {
    "memory": {},
    "lsm": {
        "write_buffer_bytes": 4096,
        "max_file_bytes": 4096,
        "block_bytes": 256,
        "level_base_bytes": 16384,
        "background": False,  # the simulated disk is for one thread
    },
    "btree": {"page_size": 1024, "cache_bytes": 200_000},
    "bitcask": {"max_file_size": 16384, "max_open_files": 4},
}


@dataclass(frozen=True)
class Engine:
    """One row: an engine and how to open it. `where` is a name of the registry or a place, as for `engines.open`."""

    where: str
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What tests are called by: the name, or what follows the last slash of a path."""
        return self.where.rpartition("/")[2]

    @property
    def store_class(self) -> type[KVStore]:
        return engines.engine_class(self.where)

    @property
    def persistent(self) -> bool:
        return self.store_class.persistent

    @property
    def registered(self) -> bool:
        return self.where in engines.ENGINES

    def open(self, path: str, *, env: Env | None = None, **options: Any) -> KVStore:
        """Opens a store of this engine with the tiny options, which `options` override."""
        return engines.open(path, self.where, env=env, **{**self.options, **options})

    def __str__(self) -> str:
        return self.name


def engine_table(chosen: list[str] | None = None) -> list[Engine]:
    """The engines of the registry, or those given with `--engine`."""
    try:
        return [Engine(_absolute(where), tiny_options(where)) for where in (chosen or engines.ENGINES)]
    except UnknownEngine as unknown:
        raise pytest.UsageError(str(unknown)) from unknown


def tiny_options(where: str) -> dict[str, Any]:
    """The line of TINY for an engine, or for the one that it derives from."""
    store_class = engines.engine_class(where)
    bases = (name for name in engines.ENGINES if issubclass(store_class, engines.engine_class(name)))
    return TINY.get(next(bases, ""), {})


def _absolute(where: str) -> str:
    """ "path/to/file.py:Class" from the root on, because some tests change the directory."""
    path, _, class_name = where.rpartition(":")
    return f"{Path(path).absolute()}:{class_name}" if path.endswith(".py") else where
