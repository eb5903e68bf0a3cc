"""What LevelDB's users met: its issues 44, 178, 200 and 320, hidden versions and tombstones, space that must come back.

After db_test.cc and the tests of those issues, on tables of a few hundred bytes instead of megabytes.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest

import engines
from engines import Snapshot
from engines.lsm.compaction import manual
from engines.lsm.keys import trailer_of
from engines.lsm.store import LsmStore
from engines.simenv import Policy, SimEnv

TINY: dict[str, Any] = {
    "write_buffer_bytes": 4_000,
    "max_file_bytes": 2_000,
    "block_bytes": 256,
    "level_base_bytes": 8_000,
    "background": False,
    "sync": False,
}


@pytest.fixture(params=["skiplist", "sorted"])
def memtable(request: pytest.FixtureRequest) -> str:
    """Both representations."""
    return str(request.param)


def opened(env: SimEnv, **options: Any) -> LsmStore:
    store = engines.open("/db", "lsm", env=env, **{**TINY, **options})
    assert isinstance(store, LsmStore)
    return store


def versions_of(store: LsmStore, key: bytes) -> list[bytes | None]:
    """All versions of a key in tables, newest first; None is a tombstone."""
    found = []
    for _, file in store.core.versions.current.files():
        found += [row for row in store.core.tables.get(file).rows() if row.key == key]
    return [None if row.is_deletion else row.value for row in sorted(found)]


def table_bytes(env: SimEnv) -> int:
    """What tables and logs take on the disk, needed or not. (The manifest is rewritten when the store is opened.)"""
    return sum(len(content) for path, content in env.files().items() if path.endswith((".ldb", ".log")))


# ---- LevelDB's issues -----------------------------------------------------------------------------------------------


def test_issue_44_a(memtable: str) -> None:
    """A deleted key and one that never was, over reopenings and compactions: neither comes back."""
    env = SimEnv()
    for steps in (
        [("put", b"b")],
        [("delete", b"b"), ("delete", b"e")],
        [("delete", b"a")],
        [("put", b"a")],
        [],
        [],
    ):
        with opened(env, memtable=memtable, level0_files=1) as store:
            for step, key in steps:
                store.put(key, b"v") if step == "put" else store.delete(key)
    with opened(env, memtable=memtable) as store:
        assert dict(store.scan()) == {b"a": b"v"}
        store.compact()
        assert dict(store.scan()) == {b"a": b"v"}


def test_issue_44_b(memtable: str) -> None:
    """The first of all keys, written and deleted again and again in tables of different levels."""
    env = SimEnv()
    histories: list[list[tuple[bytes, bytes | None]]] = [
        [(b"\x00", b"")],
        [(b"e", None), (b"\x00", b"")],
        [(b"c", b"cv")],
        [(b"\x00", b"")],
        [],
        [(b"\x00", b"")],
        [],
        [(b"d", b"dv")],
        [],
        [(b"d", None), (b"b", None)],
    ]
    model: dict[bytes, bytes] = {}
    for history in histories:
        with opened(env, memtable=memtable, level0_files=2) as store:
            for key, value in history:
                if value is None:
                    store.delete(key)
                    model.pop(key, None)
                else:
                    store.put(key, value)
                    model[key] = value
            assert dict(store.scan()) == model
    assert model == {b"\x00": b"", b"c": b"cv"}


def test_issue_178_a_manual_compaction_brings_nothing_back(memtable: str) -> None:
    """issue178_test.cc: many keys, all deleted, a compaction of a part of them: none is there."""
    env = SimEnv()
    with opened(env, memtable=memtable) as store:
        for start in range(0, 1_100, 100):
            with store.batch() as batch:
                for number in range(start, start + 100):
                    batch.put(b"my_key_%06d" % number, b"my_value")
        for start in range(0, 1_100, 100):
            with store.batch() as batch:
                for number in range(start, start + 100):
                    batch.delete(b"my_key_%06d" % number)
        for first, last in ((b"my_key_000100", b"my_key_000200"), (b"my_key_000000", b"my_key_000500"), (None, None)):
            store.compact_range(first, last)
            assert list(store.scan()) == []
            assert store.multi_get([b"my_key_%06d" % number for number in range(0, 1_100, 7)]) == [None] * 158


def test_issue_200_both_directions_while_something_is_inserted(memtable: str) -> None:
    """issue200_test.cc: an iterator goes back and forth over what was there when it was made."""
    with opened(SimEnv(), memtable=memtable) as store:
        for key, value in ((b"1", b"b"), (b"2", b"c"), (b"3", b"d"), (b"4", b"e"), (b"5", b"f")):
            store.put(key, value)
        with store.snapshot() as snapshot:
            back = snapshot.scan(b"", b"5\x00", reverse=True)
            assert next(back) == (b"5", b"f")
            store.put(b"25", b"cd")
            store.delete(b"4")
            assert next(back) == (b"4", b"e")
            assert next(back) == (b"3", b"d")
            store.flush()
            assert next(back) == (b"2", b"c")
            assert [key for key, _ in snapshot.scan(b"3")] == [b"3", b"4", b"5"]


def test_issue_320_snapshots_and_compactions(memtable: str, rng: random.Random) -> None:
    """issue320_test.cc: puts, deletes and snapshots at random, while everything is flushed and compacted all the time."""
    env = SimEnv()
    model: dict[bytes, bytes] = {}
    snapshots: list[tuple[Snapshot, dict[bytes, bytes]]] = []
    with opened(env, memtable=memtable) as store:
        for step in range(2_500):
            key = b"key %03d" % rng.randrange(150)
            assert store.get(key) == model.get(key)
            if key in model and rng.random() < 0.4:
                store.delete(key)
                del model[key]
            else:
                model[key] = b"%d " % step + b"x" * rng.randrange(60)
                store.put(key, model[key])
            if rng.random() < 0.02:
                if len(snapshots) > 12:
                    snapshots.pop(rng.randrange(len(snapshots)))[0].close()
                snapshots.append((store.snapshot(), dict(model)))
            if step % 125 == 0:
                for snapshot, seen in snapshots:
                    assert dict(snapshot.scan()) == seen
                    assert all(snapshot.get(key) == value for key, value in seen.items())
        assert store.stats().engine["compactions"] > 10
        assert store.check() == []
        store.compact()
        for snapshot, seen in snapshots:
            assert sorted(snapshot.scan(reverse=True)) == sorted(seen.items())


# ---- versions and tombstones ----------------------------------------------------------------------------------------


def test_hidden_values_are_removed() -> None:
    """db_test.cc, HiddenValuesAreRemoved: by a compaction, unless a snapshot sees them."""
    with opened(SimEnv(), write_buffer_bytes=1 << 20) as store:
        store.put(b"foo", b"v1")
        snapshot = store.snapshot()
        store.put(b"foo", b"v2")
        store.put(b"foo", b"v3")
        store.flush()
        assert versions_of(store, b"foo") == [b"v3", b"v2", b"v1"]
        store.compact()
        assert versions_of(store, b"foo") == [b"v3", b"v2", b"v1"], (
            "v2 is above the snapshot: only what is older than the newest version that the oldest snapshot sees goes"
        )
        written = store.stats().engine["compacted_bytes"]
        store.compact()
        assert store.stats().engine["compacted_bytes"] == written, "what a snapshot holds back isn't rewritten in vain"
        store.put(b"foo", b"v4")
        snapshot.close()
        store.compact()
        assert versions_of(store, b"foo") == [b"v4"]


def test_a_tombstone_goes_when_nothing_is_below() -> None:
    """db_test.cc, DeletionMarkers1 and 2: it stays as long as it hides something in a deeper level."""
    env = SimEnv()
    with opened(env, write_buffer_bytes=1 << 20, tombstone_ratio=None, level_base_bytes=1 << 20) as store:
        store.load([(b"a", b"begin"), (b"foo", b"v1"), (b"z", b"end")])  # on the last level
        store.delete(b"foo")
        store.flush()
        assert versions_of(store, b"foo") == [None, b"v1"]
        store.background.compactor.compact(must(store, 0))
        assert versions_of(store, b"foo") == [None, b"v1"], "level 0 to 1: v1 is below"
        assert store.get(b"foo") is None
        store.compact()
        assert versions_of(store, b"foo") == []
        assert dict(store.scan()) == {b"a": b"begin", b"z": b"end"}


def must(store: LsmStore, level: int) -> Any:
    """A compaction of all of a level, and no more."""
    return manual(store.core.versions.current, store.options, level, None, None)


def test_a_snapshot_that_is_forgotten_holds_nothing_back() -> None:
    """google/leveldb#711: open ones are counted, so that a leak can be seen; a collected one counts no more."""
    with opened(SimEnv()) as store:
        store.put(b"k", b"1")
        snapshot: Snapshot | None = store.snapshot()
        store.put(b"k", b"2")
        store.compact()
        assert versions_of(store, b"k") == [b"2", b"1"]
        assert store.stats().engine["open_snapshots"] == 1
        del snapshot
        assert store.stats().engine["open_snapshots"] == 0
        store.compact()
        assert versions_of(store, b"k") == [b"2"]


def test_no_user_key_is_ever_in_two_tables_of_a_level(rng: random.Random) -> None:
    """Snapshots hold hundreds of versions of few keys, and tables are cut at every block."""
    env = SimEnv()
    with opened(env, max_file_bytes=300, block_bytes=1) as store:
        held = []
        for number in range(600):
            store.put(b"key%d" % rng.randrange(4), b"%d" % number * 5)
            if number % 3 == 0:
                held.append(store.snapshot())
            if number % 50 == 0:
                assert_disjoint(store)
        store.compact()
        assert_disjoint(store)
        assert len(versions_of(store, b"key1")) > 50
        assert store.check() == []


def assert_disjoint(store: LsmStore) -> None:
    for files in store.core.versions.current.levels[1:]:
        for before, after in pairwise(files):
            assert before.last < after.first


# ---- space ----------------------------------------------------------------------------------------------------------


def test_a_bulk_delete_gives_space_back() -> None:
    """google/leveldb#603, #593, goleveldb's BulkInsertDelete: by itself, without a compaction being asked for. (Without
    the score of tombstones, 458,000 bytes would be left: more than before.)"""
    env = SimEnv()
    with opened(env) as store:
        for number in range(3_000):
            store.put(b"%06d" % number, b"v" * 100)
        full = table_bytes(env)
        assert full > 300_000
        for number in range(3_000):
            store.delete(b"%06d" % number)
        store.flush()
        assert table_bytes(env) < 0.05 * full
        store.compact()
        assert [len(files) for files in store.core.versions.current.levels] == [0] * 7
        assert table_bytes(env) < 5_000
        assert store.stats().live_bytes == 0


def test_a_queue_takes_the_space_of_what_is_in_it() -> None:
    """google/leveldb#603: Mesos' replicated log: append at the end, delete at the beginning, for ever; then empty it."""
    env = SimEnv()
    most = 0
    with opened(env) as store:
        for number in range(6_000):
            store.put(b"%09d" % number, b"v" * 50)
            if number >= 400:
                store.delete(b"%09d" % (number - 400))
            if number % 500 == 499:
                most = max(most, table_bytes(env))
        assert len(list(store.scan())) == 400
        assert most < 70_000, f"{most} bytes for 400 entries of 59 bytes"
        for number in range(5_600, 6_000):
            store.delete(b"%09d" % number)
        store.flush()
        assert table_bytes(env) < 5_000
        assert store.stats().engine["tombstone_compactions"] > 0


def test_overwriting_takes_the_space_of_one_version(rng: random.Random) -> None:
    """space_amplification after each key was written thirty times."""
    env = SimEnv()
    with opened(env) as store:
        for number in range(6_000):
            store.put(b"%03d" % rng.randrange(200), b"%06d" % number * 10)
        live = 200 * 63
        assert table_bytes(env) < 4 * live
        store.compact()
        assert store.stats().live_bytes == live
        assert store.stats().dead_bytes == 0
        assert table_bytes(env) < 2 * live


# ---- recovery -------------------------------------------------------------------------------------------------------


@pytest.fixture
def abandoned() -> Iterator[list[LsmStore]]:
    """Stores that were left as kill -9 leaves them; closed at the end, when nobody looks any more."""
    stores: list[LsmStore] = []
    yield stores
    for store in stores:
        store.close()


def test_a_large_log_becomes_several_tables(memtable: str) -> None:
    """db_test.cc, RecoverWithLargeLog: a log that a larger memtable has written; replayed in pieces."""
    env = SimEnv()
    with opened(env, memtable=memtable, write_buffer_bytes=1 << 20) as store:
        for number in range(300):
            store.put(b"%03d" % (number % 150), b"%d" % number * 20)
    with opened(env, memtable=memtable, level0_files=50, level0_slowdown_files=50, level0_stop_files=50) as store:
        assert len(store.core.versions.current.levels[0]) > 3
        assert dict(store.scan()) == {b"%03d" % (n % 150): b"%d" % n * 20 for n in range(150, 300)}
        assert store.check() == []


def test_several_logs_are_replayed_in_order(abandoned: list[LsmStore]) -> None:
    """recovery_test.cc, MultipleMemTables: the memtables that were waiting for their flush are in logs of their own."""
    env = SimEnv()
    store = opened(env, write_buffer_bytes=1 << 20)
    abandoned.append(store)
    for generation in range(4):
        for number in range(50):
            store.put(b"%02d" % number, b"%d" % generation)
        store.delete(b"%02d" % generation)
        store.core.rotate()  # as if the flush lane had not come to it yet
    store.put(b"last", b"log")
    image = env.crash(Policy.EVERYTHING, random.Random(1))
    with opened(image) as recovered:
        expected = {b"%02d" % number: b"3" for number in range(50) if number != 3} | {b"last": b"log"}
        assert dict(recovered.scan()) == expected
        assert recovered.check() == []


def test_opening_again_and_again_does_not_grow() -> None:
    """Each open writes a new manifest and a new log, and the old ones go."""
    env = SimEnv()
    with opened(env) as store:
        store.put(b"k", b"v")
    sizes = []
    for _ in range(5):
        with opened(env) as store:
            assert store.get(b"k") == b"v"
        sizes.append((len(env.files()), table_bytes(env)))
    assert len(set(sizes)) <= 2
    assert sizes[-1] == sizes[-2]


def test_the_compact_pointers_survive() -> None:
    """Tag 5: the next store goes on where this one's compactions have stopped."""
    env = SimEnv()
    with opened(env) as store:
        for number in range(800):
            store.put(b"%04d" % (number * 7919 % 1_000), b"v" * 60)
        pointers = dict(store.core.versions.compact_pointers)
        assert pointers.keys() >= {0, 1}
    with opened(
        env, level0_files=50, level0_slowdown_files=50, level0_stop_files=50, level_base_bytes=1 << 30
    ) as store:
        assert store.core.versions.compact_pointers == pointers


def test_a_load_has_a_sequence_of_its_own() -> None:
    """bulk.py, rule 3: one for all pairs, the next one, and 1 is the first one ever used; writes go on after it."""
    env = SimEnv()
    with opened(env) as store:
        for last in (1, 4, 7):
            store.load([(b"a", b"1"), (b"b", b"2")])
            assert store.describe()["last_sequence"] == last
            ((level, file),) = store.core.versions.current.files()
            assert level == 6
            assert {trailer_of(file.smallest) >> 8, trailer_of(file.largest) >> 8} == {last}
            store.put(b"a", b"newer")
            store.delete(b"b")
            assert dict(store.scan()) == {b"a": b"newer"}
