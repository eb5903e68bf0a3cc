"""A store that LevelDB's RepairDB has gone over: all its tables on level 0, under numbers that no longer say which is newer.

RepairDB (db/repair.cc) keeps a table's number, and on level 0 the higher number passes for newer. LevelDB's get believes it
(Version::Get), its iterator and its compaction go by sequence.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.interop.leveldb_tools import LevelDB, cpp, level_numbers
from tests.interop.leveldb_turns import ours

plyvel = pytest.importorskip("plyvel")

OLD = {b"0": b"old", b"a": b"old", b"gone": b"old", b"z": b"old"}
NEW = {b"0": b"new", b"a": b"new", b"z": b"new"}


def flush(db: Any) -> None:
    """A manual compaction of a range without keys: LevelDB writes its memtable to a table first."""
    db.compact_range(start=b"~", stop=b"~")


def made_by_leveldb(path: Path) -> None:
    """Table 14 on level 2 has an old "a" and the newest "z"; table 9 on level 1 has the newest "a"."""
    with plyvel.DB(str(path), create_if_missing=True) as db:
        for keys in ((b"0",), (b"a", b"gone", b"z")):
            for key in keys:
                db.put(key, b"old")
            flush(db)
        db.put(b"0", b"new")
        db.put(b"a", b"new")
        db.delete(b"gone")
        flush(db)
        db.put(b"z", b"new")
        flush(db)
        db.compact_range(start=b"x", stop=b"zz")  # of "z" only: 9 would bring along another table of level 2
        assert dict(db) == NEW
    assert level_numbers(path) == {1: [9], 2: [5, 14]}


@pytest.fixture
def repaired(tmp_path: Path) -> Path:
    made_by_leveldb(tmp_path / "db")
    plyvel.repair_db(str(tmp_path / "db"))
    assert level_numbers(tmp_path / "db") == {0: [14, 9, 5]}
    return tmp_path / "db"


def test_leveldbs_get_and_iterator_disagree_after_its_repair(repaired: Path) -> None:
    """What we differ from; if this changes, LEVELDB.md and PRODUCERS.md have to."""
    with plyvel.DB(str(repaired)) as db:
        assert dict(db) == NEW
        assert {key: db.get(key) for key in OLD} == {b"0": b"new", b"a": b"old", b"gone": b"old", b"z": b"new"}
        db.compact_range(start=b"", stop=b"~")
        assert {key: db.get(key) for key in OLD} == {**NEW, b"gone": None}
        assert dict(db) == NEW


@pytest.mark.parametrize("read_only", [True, False])
def test_our_get_and_scan_are_its_iterator(repaired: Path, read_only: bool) -> None:
    with ours(repaired, read_only=read_only, background=False) as store:
        assert dict(store.scan()) == NEW
        assert {key: store.get(key) for key in OLD} == {**NEW, b"gone": None}
        assert dict(store.scan(reverse=True)) == NEW
        assert any("table 9 has a version that is newer than the one in table 14" in line for line in store.check())
    assert read_only == (level_numbers(repaired) == {0: [14, 9, 5]} and not list(repaired.glob("*.log")))


def test_our_compaction_keeps_its_newest_values(repaired: Path) -> None:
    with ours(repaired, background=False) as store:
        store.compact()
        assert dict(store.scan()) == NEW and store.check() == []
    assert 0 not in level_numbers(repaired)
    with plyvel.DB(str(repaired)) as db:
        assert dict(db) == NEW
        assert {key: db.get(key) for key in OLD} == {**NEW, b"gone": None}


def test_a_store_of_ours_that_leveldb_has_repaired(tmp_path: Path) -> None:
    """Tables of ours carry the bounds of their sequences, and these don't let the numbers pass for right."""
    with ours(tmp_path, background=False) as store:
        for keys in ((b"0",), (b"a", b"gone", b"z")):
            for key in keys:
                store.put(key, b"old")
            store.compact_range(keys[0], b"~")
        store.put(b"0", b"new")
        store.put(b"a", b"new")
        store.delete(b"gone")
        store.flush()
        store.put(b"z", b"new")
        store.compact_range(b"x", b"~")
        assert dict(store.scan()) == NEW
    ((_, (newer,)), (_, lower)) = level_numbers(tmp_path).items()
    assert newer < max(lower), "level 0 has a lower number than what a compaction has made since"
    plyvel.repair_db(str(tmp_path))
    assert level_numbers(tmp_path) == {0: sorted([newer, *lower], reverse=True)}
    with plyvel.DB(str(tmp_path)) as db:
        assert dict(db) == NEW and db.get(b"a") == b"old" and db.get(b"gone") == b"old"
    with ours(tmp_path, background=False) as store:
        assert all(
            file.statistics or store.core.tables.get(file).statistics for file in store.core.state.version.levels[0]
        )
        assert dict(store.scan()) == NEW and {key: store.get(key) for key in OLD} == {**NEW, b"gone": None}
        store.compact()
        assert dict(store.scan()) == NEW and store.check() == []


@pytest.fixture(scope="module")
def debians(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LevelDB]:
    program = cpp(tmp_path_factory.mktemp("leveldb"))
    if program is None:
        pytest.skip("needs g++ and libleveldb-dev")
    yield program


def test_leveldb_1_23_repairs_alike(tmp_path: Path, debians: LevelDB) -> None:
    made_by_leveldb(tmp_path)
    debians.run("repair", tmp_path)
    assert level_numbers(tmp_path) == {0: [14, 9, 5]}
    lines = debians.run("dump", tmp_path).splitlines()
    assert f"{b'a'.hex()} {b'new'.hex()} {b'old'.hex()}" in lines, "its iterator, and its get"
    with ours(tmp_path, background=False) as store:
        assert dict(store.scan()) == NEW and {key: store.get(key) for key in NEW} == NEW
