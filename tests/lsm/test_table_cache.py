"""engines/lsm/table_cache.py: which tables are open, and what stays known of the others."""

from __future__ import annotations

import pytest

from engines.errors import CorruptionError
from engines.lsm.cache import BlockCache
from engines.lsm.files import table_name
from engines.lsm.table_cache import TableCache
from engines.lsm.version import FileMeta
from engines.simenv import SimEnv
from tests.lsm.tables import build


def test_the_table_cache_keeps_so_many_files_open() -> None:
    """The one opened first goes first; its reader can go on, and what it said about itself stays known."""
    env = SimEnv()
    files = []
    for number in range(6):
        info = build(env, [(b"k", number + 1, b"%d" % number)], f"/{table_name(number)}")
        files.append(FileMeta(number, info.size_bytes, info.smallest, info.largest))
    cache = TableCache(env, "", 2, BlockCache(0), lambda: 9)
    assert cache.statistics(files[0]) is None
    for file in files:
        assert cache.get(file).get(b"k", 9) == b"%d" % file.number
        assert len(cache) <= 2
        assert env.open_files == len(cache)
    assert list(cache.opened) == [4, 5]
    known = cache.statistics(files[0])
    assert known is not None and known.entries == 1
    held = cache.get(files[5])
    cache.clear()
    assert env.open_files == 1
    assert held.get(b"k", 9) == b"5", "who holds a table can go on reading it"
    del held
    assert env.open_files == 0
    cache.forget(0)
    assert cache.statistics(files[0]) is None


def test_a_table_that_is_forgotten_takes_its_blocks_along() -> None:
    """After a compaction the cache is for what took its inputs' place. Who holds one reads its blocks again."""
    env = SimEnv()
    files = []
    for number in (1, 2):
        info = build(env, [(b"%03d" % key, 5, b"v" * 99) for key in range(90)], f"/{table_name(number)}")
        files.append(FileMeta(number, info.size_bytes, info.smallest, info.largest))
    cache = TableCache(env, "", 9, BlockCache(1 << 20), lambda: 9)
    first, second = map(cache.get, files)
    assert [len(list(table.rows())) for table in (first, second)] == [90, 90]
    assert len(cache.blocks) == first.blocks + second.blocks
    cache.forget(1)
    assert len(cache.blocks) == second.blocks
    assert first.get(b"007", 9) == b"v" * 99


def test_a_table_that_is_newer_than_the_manifest_is_refused() -> None:
    """Its newest versions would be invisible."""
    env = SimEnv()
    info = build(env, [(b"k", 7, b"v")], "/000003.ldb")
    file = FileMeta(3, info.size_bytes, info.smallest, info.largest)
    with pytest.raises(CorruptionError, match="sequences up to 7, but the manifest says that 6 is the last one"):
        TableCache(env, "", 2, BlockCache(0), lambda: 6).get(file)
    assert env.open_files == 0
    assert TableCache(env, "", 2, BlockCache(0), lambda: 7).get(file).get(b"k", 9) == b"v"


def test_a_missing_table_is_damage() -> None:
    with pytest.raises(CorruptionError, match="the table is missing"):
        TableCache(SimEnv(), "", 2, BlockCache(0), lambda: 6).get(FileMeta(3, 9, b"a" * 9, b"a" * 9))
