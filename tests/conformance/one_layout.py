"""A pytest plugin: of the layouts (layouts.py), only the one that has a bit of everything."""

from __future__ import annotations

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items[:] = [item for item in items if item.callspec.params.get("full", "layered") == "layered"]
