"""A store for a test, that fills freed pages with rubbish and is checked at the end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from engines.btree import BTreeStore
from tests.btree.poisoning import PoisoningStore


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "store.db")


@pytest.fixture
def store(path: str) -> Iterator[BTreeStore]:
    with PoisoningStore(path, sync=False) as store:
        yield store
        assert store.check() == []
