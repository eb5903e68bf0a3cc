"""Level 0 whose numbers and sequences disagree, as LevelDB's RepairDB leaves it: sequences decide everywhere.

And the other side of it: our own stores are known to be in order, and are read as before.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

import engines
from engines.env import Env
from engines.lsm.keys import ABSENT
from engines.lsm.level0 import is_in_order
from engines.lsm.state import Scan
from engines.lsm.store import LsmStore
from engines.simenv import Policy, SimEnv
from tests.lsm.hand_made import Directory

Version = tuple[bytes, int, bytes | None]
SMALL: dict[str, Any] = {"write_buffer_bytes": 3_000, "max_file_bytes": 2_000, "sync": False, "background": False}
MANY = {"level0_files": 90, "level0_slowdown_files": 90, "level0_stop_files": 90}


def opened(env: Env, path: str = "/db", **options: Any) -> LsmStore:
    store = engines.open(path, "lsm", env=env, **{"background": False, **options})
    assert isinstance(store, LsmStore)
    return store


def repaired(with_statistics: bool) -> Directory:
    """What RepairDB makes of: level 2 table 20 (an old "a", "gone" and a new "z"), level 1 table 15 (a newer "a", and
    "gone" deleted). Table 20 had come to its level by a compaction of "z" only; so its number is the higher one."""
    made = Directory()
    made.table(0, 20, [(b"a", 5, b"old"), (b"gone", 6, b"old"), (b"z", 40, b"new")], table_statistics=with_statistics)
    made.table(0, 15, [(b"a", 30, b"new"), (b"c", 31, b"31"), (b"gone", 32, None)], table_statistics=with_statistics)
    made.edit.last_sequence, made.edit.log_number, made.edit.next_file_number = 40, 0, 30
    made.manifest()
    return made


CONTENT = {b"a": b"new", b"c": b"31", b"z": b"new"}


@pytest.mark.parametrize("with_statistics", [True, False], ids=["ours", "LevelDB's"])
@pytest.mark.parametrize("read_only", [True, False])
def test_the_higher_sequence_counts_after_a_repair_by_leveldb(with_statistics: bool, read_only: bool) -> None:
    """db/repair.cc puts all tables into level 0; db/version_set.cc, Version::Get, then believes the higher number."""
    made = repaired(with_statistics)
    with opened(made.env, read_only=read_only) as store:
        assert store.get(b"a") == b"new" and store.get(b"gone") is None and store.get(b"b") is None
        assert store.multi_get([b"a", b"gone", b"z"]) == [b"new", None, b"new"]
        assert dict(store.scan()) == CONTENT
        assert list(store.scan(reverse=True)) == sorted(CONTENT.items(), reverse=True)
        assert list(store.scan(b"a", b"b")) == [(b"a", b"new")]
        assert list(store.scan(prefix=b"g")) == []
        with store.snapshot() as snapshot:
            assert dict(snapshot.scan()) == CONTENT and snapshot.get(b"a") == b"new"
        assert any("which is read first" in finding for finding in store.check())


@pytest.mark.parametrize("with_statistics", [True, False], ids=["ours", "LevelDB's"])
@pytest.mark.parametrize("snapshot", [True, False])
def test_a_compaction_after_a_repair_by_leveldb_keeps_the_newest_values(with_statistics: bool, snapshot: bool) -> None:
    """The old value must not win for ever; with a snapshot open, and without."""
    made = repaired(with_statistics)
    with opened(made.env) as store:
        held = store.snapshot() if snapshot else None
        store.put(b"a2", b"after the snapshot")
        store.compact()
        assert not store.core.versions.current.levels[0], "everything went through the compaction"
        assert dict(store.scan()) == CONTENT | {b"a2": b"after the snapshot"}
        if held is not None:
            assert dict(held.scan()) == CONTENT
            held.close()
    with opened(made.env) as store:
        assert dict(store.scan()) == CONTENT | {b"a2": b"after the snapshot"}
        assert store.check() == []


def test_a_compaction_for_its_own_sake_after_a_repair_keeps_the_newest_values() -> None:
    """As above, by the number of files in level 0, at the next open."""
    made = repaired(False)
    for number in (21, 22):
        made.table(0, number, [(b"a", number - 20, b"oldest")], table_statistics=False)
    made.manifest()
    with opened(made.env) as store:
        assert store.stats().engine["compactions"] > 0 and not store.core.versions.current.levels[0]
        assert dict(store.scan()) == CONTENT
        assert store.check() == []


def test_a_version_that_is_in_two_tables_becomes_one() -> None:
    """RepairDB makes a table of a log whose table was there already (db/repair.cc). No snapshot can be older than both."""
    made = Directory()
    for number in (4, 5):
        made.table(0, number, [(b"a", 1, b"1"), (b"a", 2, b"2"), (b"b", 3, None)], table_statistics=False)
    made.edit.last_sequence, made.edit.log_number = 3, 0
    made.manifest()
    with opened(made.env) as store, store.snapshot() as snapshot:
        store.put(b"a", b"newer")
        store.compact()
        assert not store.core.versions.current.levels[0]
        assert dict(store.scan()) == {b"a": b"newer"} and dict(snapshot.scan()) == {b"a": b"2"}
        assert store.check() == []


@pytest.mark.parametrize("with_statistics", [True, False])
@pytest.mark.parametrize("block_bytes", [60, 4096])
def test_every_moment_of_a_level_0_in_any_order_is_read_right(
    rng: random.Random, with_statistics: bool, block_bytes: int
) -> None:
    """All versions of a few keys, dealt out to tables at random, against a model; with blocks of one entry, so that the
    versions of a key lie in several blocks, and with one block."""
    versions: list[Version] = [
        (b"%d" % rng.randrange(12), at, None if rng.random() < 0.3 else b"%d" % at) for at in range(1, 120)
    ]
    made = Directory()
    hands: list[list[Version]] = [[] for _ in range(5)]
    for version in versions:
        rng.choice(hands).append(version)
    for number, hand in enumerate(hands, 4):
        made.table(0, number, hand, table_statistics=with_statistics, block_bytes=block_bytes)
    made.edit.last_sequence, made.edit.log_number = 119, 0
    made.manifest()
    with opened(made.env, **MANY) as store:
        state = store.core.state
        assert not is_in_order(state.version, store.core.tables)
        model: dict[bytes, bytes | None] = {}
        for key, moment, value in versions:
            model[key] = value
            alive = sorted((key, value) for key, value in model.items() if value is not None)
            start, stop = sorted((b"%d" % rng.randrange(12), b"%d" % rng.randrange(12)))
            for low, high in ((b"", None), (start, stop)):
                inside = [pair for pair in alive if pair[0] >= low and (high is None or pair[0] < high)]
                assert list(store.core.pairs(state, Scan(low, high, moment, False), store)) == inside
                assert list(store.core.pairs(state, Scan(low, high, moment, True), store)) == inside[::-1]
            for each in (key, start, b"12"):
                found = store.core.lookup(state, store.core.tables, each, moment)
                assert found == model.get(each, ABSENT)
        store.compact()
        assert list(store.scan()) == alive
        assert store.check() == []


# ---- our own stores -------------------------------------------------------------------------------------------------


def overwrite(store: LsmStore, rng: random.Random, model: dict[bytes, bytes], count: int) -> None:
    for number in range(count):
        key = b"%03d" % rng.randrange(150)
        if rng.random() < 0.2:
            store.delete(key)
            model.pop(key, None)
        else:
            store.put(key, b"%d" % number * 5)
            model[key] = b"%d" % number * 5


@pytest.mark.parametrize("memtable", ["skiplist", "sorted"])
def test_our_own_level_0_is_known_to_be_in_order(rng: random.Random, memtable: str) -> None:
    """After flushes, a clean end, a kill -9 whose log becomes several tables, a load, and compactions in between."""
    env, model = SimEnv(), dict[bytes, bytes]()
    for turn in range(6):
        with opened(env, memtable=memtable, **SMALL, **MANY) as store:
            levels = store.core.versions.current.levels
            assert turn in (0, 4, 5) or len(levels[0]) > 1
            assert is_in_order(store.core.versions.current, store.core.tables)
            overwrite(store, rng, model, 200)
            store.flush()
            overwrite(store, rng, model, 200)
            assert len(store.core.versions.current.levels[0]) > 1
            assert is_in_order(store.core.versions.current, store.core.tables)
            assert dict(store.scan()) == model
            if turn == 3:
                store.compact()
            if turn == 4:
                store.load(sorted(model.items()))
            image = env.crash(Policy.EVERYTHING, random.Random(turn))
        if turn % 2:
            env = image


def test_a_get_of_our_own_looks_into_one_table_of_level_0() -> None:
    """The counter of blocks that were needed: the first table that has the key decides, also when reopened."""
    env = SimEnv()
    for turn in range(2):
        with opened(env, filter=None, **SMALL | {"write_buffer_bytes": 1 << 20}, **MANY) as store:
            if not turn:
                for generation in range(6):
                    for number in range(20):
                        store.put(b"%02d" % number, b"%d" % generation)
                    store.flush()
            assert len(store.core.versions.current.levels[0]) == 6
            before = store.stats().engine["block_lookups"]
            assert [store.get(b"%02d" % number) for number in range(20)] == [b"5"] * 20
            assert store.stats().engine["block_lookups"] - before == 20


def test_the_worker_process_tells_the_bounds_of_its_tables(tmp_path: Path, rng: random.Random) -> None:
    """worker.py flushes from the log, and compacts by the job: both know the sequences' bounds."""
    model: dict[bytes, bytes] = {}
    options = SMALL | {"background": True, "compaction_process": True}
    with engines.open(str(tmp_path / "db"), "lsm", **options) as store:
        assert isinstance(store, LsmStore)
        overwrite(store, rng, model, 900)
        store.flush()
        store.background.end()
        assert store.background.executor.workers_died == 0
        files = [file for _, file in store.core.versions.current.files()]
        assert files and all(store.core.tables.get(file).statistics is not None for file in files)
        assert all(file.statistics is not None and file.statistics.min_sequence > 0 for file in files)
        assert is_in_order(store.core.versions.current, store.core.tables)
        assert dict(store.scan()) == model
        assert store.check() == []


def test_tables_of_our_first_versions_are_read_by_sequence() -> None:
    """They say how new they are at most, and not how old: then nobody knows, until a compaction has been."""
    made = Directory()
    made.table(0, 4, [(b"a", 1, b"old")], lies={"min_sequence": 0})
    made.table(0, 5, [(b"a", 9, b"new")], lies={"min_sequence": 0})
    made.edit.log_number = 0
    made.manifest()
    with opened(made.env) as store:
        assert not is_in_order(store.core.versions.current, store.core.tables)
        assert store.get(b"a") == b"new" and dict(store.scan()) == {b"a": b"new"}
        assert store.check() == []
