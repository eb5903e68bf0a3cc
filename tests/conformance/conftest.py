"""Fixtures of the conformance suite: every test that asks for `engine` or a store runs once for each engine.

`store` and `open_store` open on the real disk with `sync=False`, because a suite of some thousand writes needn't wait for
a disk; the tests about durability say `sync=True` themselves.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engines import KVStore
from tests.conformance.engine_table import APPLIES, Engine, OpenStore, engine_table
from tests.conformance.layouts import ITEMS, LAYOUTS, arrange


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "engine" in metafunc.fixturenames:
        applies = metafunc.config.stash.get(APPLIES, lambda engine, case: True)
        table = engine_table(metafunc.config.getoption("--engine"))
        table = [engine for engine in table if applies(engine, metafunc.function.__name__)]
        metafunc.parametrize("engine", table, ids=str, scope="session")


@pytest.fixture
def open_store(engine: Engine, tmp_path: Path) -> Iterator[OpenStore]:
    """Opens stores of the engine under the test's directory, by name, and closes them after the test."""
    opened: list[KVStore] = []

    def open_it(name: str = "store", **options: Any) -> KVStore:
        store = engine.open(str(tmp_path / name), **{"sync": False, **options})
        opened.append(store)
        return store

    yield open_it
    for store in reversed(opened):
        store.close()


@pytest.fixture
def store(open_store: OpenStore) -> KVStore:
    """An empty store."""
    return open_store()


@pytest.fixture(params=LAYOUTS)
def full(request: pytest.FixtureRequest, store: KVStore) -> KVStore:
    """A store that holds ITEMS, and came to them in one of the ways that leave different traces on disk."""
    arrange(store, ITEMS, request.param)
    return store
