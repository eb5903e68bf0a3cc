"""A pytest plugin for test_suite_can_fail.py: on each broken store it runs only the case that has to notice its bug."""

from __future__ import annotations

import pytest

from tests.conformance import broken_stores
from tests.conformance.engine_table import APPLIES, Engine

# store → the case that notices its bug
CAUGHT_BY = {name: store.caught_by for name, store in vars(broken_stores).items() if hasattr(store, "caught_by")}


def pytest_configure(config: pytest.Config) -> None:
    config.stash[APPLIES] = _applies


def _applies(engine: Engine, case: str) -> bool:
    store = engine.where.rpartition(":")[2]
    return CAUGHT_BY.get(store, case) == case
