"""A pytest plugin for test_suite_can_fail.py: on each broken store it runs only the case that has to notice its bug."""

from __future__ import annotations

import sys

import pytest

from tests.conformance import broken_stores, broken_toys
from tests.conformance.engine_table import APPLIES, Engine

STORES = {
    name: store
    for module in (broken_stores, broken_toys)
    for name, store in vars(module).items()
    if getattr(store, "__module__", None) == module.__name__ and isinstance(store, type)
}
# store → where it is, for --engine; and the case that notices its bug
WHERE = {name: f"{sys.modules[store.__module__].__file__}:{name}" for name, store in STORES.items()}
CAUGHT_BY: dict[str, str] = {name: store.caught_by for name, store in STORES.items()}


def pytest_configure(config: pytest.Config) -> None:
    config.stash[APPLIES] = _applies


def _applies(engine: Engine, case: str) -> bool:
    store = engine.where.rpartition(":")[2]
    return CAUGHT_BY.get(store, case) == case


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of the layouts, the one that has a bit of everything is enough to notice a bug."""
    items[:] = [item for item in items if item.callspec.params.get("full", "layered") == "layered"]
