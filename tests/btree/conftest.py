"""A store for a test, that fills freed pages with rubbish and is checked at the end; and the parts that a store stands on."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path

import pytest

from engines.btree import BTreeStore
from engines.btree.freelist import Freelist
from engines.btree.pager import Pager
from engines.btree.tree import TreeWriter
from engines.kvstore import Stats
from engines.simenv import SimEnv
from tests.btree.poisoning import PoisoningStore

PAGE = 1024
GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "store.db")


@pytest.fixture
def store(path: str) -> Iterator[BTreeStore]:
    with PoisoningStore(path, sync=False) as store:
        yield store
        assert store.check() == []


@pytest.fixture
def pager() -> Pager:
    """An open file of small pages, in memory and without metas."""
    env = SimEnv(0)
    pager = Pager(env, "/db", env.lock("/db", "flock"), PAGE, Stats(), 1 << 20, None)
    file = env.open("/db", "r+")
    file.allocate(32 * PAGE)
    pager.attach(file, writable=True)
    return pager


@pytest.fixture
def writer(pager: Pager) -> TreeWriter:
    """The first transaction of that file."""
    return TreeWriter(pager, Freelist([], 2), 1, 0.5)


@pytest.fixture
def golden(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """One of the files of golden/, by its name as the parameter."""
    path = tmp_path / "golden.db"
    path.write_bytes(gzip.decompress((GOLDEN / f"{request.param}.db.gz").read_bytes()))
    return path
