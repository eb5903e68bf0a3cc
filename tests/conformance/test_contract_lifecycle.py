"""The contract, fourth part: opening, closing, locks, maintenance, and what a store tells about itself."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

import pytest

import engines
from engines import InvalidKey, KVStore, StoreClosed, StoreLocked, WrongEngine
from engines.env import real_env
from tests.conformance.calls import calls_on, run_python
from tests.conformance.engine_table import Engine, OpenStore
from tests.conformance.layouts import ITEMS, LAYOUTS, arrange


def test_a_closed_store_refuses_every_call(full: KVStore) -> None:
    """KVStore.close: closing twice is fine; every other call raises StoreClosed."""
    full.close()
    full.close()
    for name, call in calls_on(full).items():
        with pytest.raises(StoreClosed):
            call()
            pytest.fail(f"{name} was answered by a closed store")


def test_close_ends_snapshots_and_scans(full: KVStore) -> None:
    """KVStore.close: ends snapshots and scans; each raises StoreClosed at its next use, and can still be closed."""
    snapshot = full.snapshot()
    fresh, begun, of_snapshot = full.scan(), full.scan(reverse=True), snapshot.scan()
    next(begun)
    next(of_snapshot)
    full.close()
    for call in (
        lambda: next(fresh),
        lambda: next(begun),
        lambda: next(of_snapshot),
        lambda: snapshot.get(b"a"),
        lambda: snapshot.multi_get([b"a"]),
        lambda: b"a" in snapshot,
        lambda: snapshot.scan(),
    ):
        with pytest.raises(StoreClosed):
            call()
    snapshot.close()
    snapshot.close()


def test_a_store_is_a_context_manager(open_store: OpenStore) -> None:
    """KVStore: `with` closes it, after an exception too."""
    with pytest.raises(ZeroDivisionError), open_store() as store:
        store.put(b"a", b"1")
        raise ZeroDivisionError
    with pytest.raises(StoreClosed):
        store.get(b"a")


def test_a_scan_to_its_end_may_be_followed_by_close(open_store: OpenStore) -> None:
    """KVStore.close, with snapshots and scans of every state still referenced."""
    store = open_store()
    arrange(store, ITEMS, "layered")
    kept = [store.scan(), store.snapshot(), store.snapshot().scan()]
    next(store.scan(b"a"))
    store.close()
    store.close()
    assert len(kept) == 3


def test_flush_and_compact_keep_the_content(full: KVStore) -> None:
    """KVStore.flush and compact: nothing is added, nothing lost, however often."""
    for settle in (full.flush, full.flush, full.compact, full.compact, full.flush):
        settle()
        assert dict(full.scan()) == ITEMS
        assert full.multi_get(ITEMS) == list(ITEMS.values())


def test_an_empty_store_can_be_flushed_compacted_and_checked(store: KVStore) -> None:
    """KVStore.flush, compact, check: of nothing."""
    store.flush()
    store.compact()
    assert store.check() == []
    assert list(store.scan()) == []


def test_check_finds_nothing_wrong(full: KVStore) -> None:
    """KVStore.check: [] means OK, in every layout, and with a snapshot open; it changes nothing."""
    assert full.check() == []
    with full.snapshot():
        full.put(b"a", b"new")
        full.delete(b"b")
        assert full.check() == []
        full.compact()
        assert full.check() == []
    assert full.get(b"a") == b"new"


def test_describe_is_ready_for_json(full: KVStore) -> None:
    """KVStore.describe: the structure for people and pictures, ready for JSON; str keys only, so that it comes back."""
    described = full.describe()
    assert described
    assert json.loads(json.dumps(described)) == described


def test_a_sketch_is_ready_for_json_and_small(full: KVStore) -> None:
    """KVStore.sketch: a few KB, with counters; what it has in common with `describe` is the same."""
    sketch, described = full.sketch(), full.describe()
    assert json.loads(json.dumps(sketch)) == sketch
    assert len(json.dumps(sketch)) <= 16_384
    stats = full.stats()
    assert sketch["counters"]["user_bytes"] == stats.user_bytes
    assert sketch["counters"]["bytes_written"] == stats.bytes_written
    scalars = {name: value for name, value in described.items() if isinstance(value, int | str)}
    assert {name: sketch[name] for name in scalars if name in sketch} == {
        name: value for name, value in scalars.items() if name in sketch
    }


@pytest.mark.parametrize("where", ["now", "compacted", "reopened"])
def test_an_explanation_agrees_with_get(full: KVStore, open_store: OpenStore, engine: Engine, where: str) -> None:
    """KVStore.explain: ready for JSON, and says of every key, present or not, what `get` says of it."""
    store = full
    if where != "now":
        store.compact()
    if where == "reopened" and engine.persistent:
        store.close()
        store = open_store()
    for key in [*ITEMS, b"", b"absent", b"\xff" * 40_000, *(key + b"\x00" for key in ITEMS)]:
        explained, value = store.explain(key), store.get(key)
        assert json.loads(json.dumps(explained)) == explained
        assert len(json.dumps(explained)) <= 65_536
        assert explained["found"] is (value is not None)
        assert explained["value_bytes"] == (None if value is None else len(value))
        assert explained["told"] is bool(explained["steps"])
        assert all(isinstance(step["place"], str) and isinstance(step["result"], str) for step in explained["steps"])
    with pytest.raises(InvalidKey):
        store.explain("a")  # type: ignore[arg-type]


def test_stats_count_what_callers_do(store: KVStore) -> None:
    """Stats: puts, deletes, gets and user_bytes are the caller's operations, keys and values."""
    assert store.stats().write_amplification == 0.0
    before = store.stats()
    assert (before.puts, before.deletes, before.gets, before.user_bytes) == (0, 0, 0, 0)
    store.put(b"key", b"value")
    with store.batch() as batch:
        batch.put(b"key", b"value again")
        batch.put(b"other", b"")
        batch.delete(b"key")
    store.delete(b"never there")
    store.get(b"other")
    store.get(b"never there")
    store.multi_get([b"key", b"other", b"key"])
    stats = store.stats()
    assert (stats.puts, stats.deletes, stats.gets) == (3, 2, 5)
    assert stats.user_bytes == sum(map(len, (b"keyvalue", b"keyvalue again", b"other", b"key", b"never there")))


def test_stats_are_a_copy(store: KVStore) -> None:
    """KVStore.stats: a copy of the counters: it stands still, and changing it changes nothing."""
    stats = store.stats()
    store.put(b"a", b"1")
    assert stats.puts == 0
    stats.puts = 1_000
    stats.engine["made up"] = 1
    assert store.stats().puts == 1
    assert "made up" not in store.stats().engine


def test_stats_know_what_is_live(store: KVStore) -> None:
    """Stats: live_bytes is what a reader can reach now, so it falls when that is deleted."""
    assert store.stats().space_amplification == 0.0
    for number in range(400):
        store.put(b"%03d" % number, b"v" * 100)
    store.compact()
    stats = store.stats()
    assert stats.live_bytes >= 400 * 103
    assert stats.dead_bytes >= 0
    for number in range(380):
        store.delete(b"%03d" % number)
    store.compact()
    assert store.stats().live_bytes <= stats.live_bytes / 2


@pytest.mark.persistent
def test_stats_count_bytes_and_syncs(open_store: OpenStore, rng: random.Random) -> None:
    """Stats: what goes to files, and each fsync. Random bytes: no compression makes them fewer than the user's."""
    store = open_store(sync=True)
    before = store.stats()
    for number in range(20):
        store.put(b"%02d" % number, rng.randbytes(200))
    synced = store.stats()
    assert synced.fsyncs - before.fsyncs >= 20, "one for each acknowledged write"
    for number in range(20):
        store.put(b"%02d" % number, rng.randbytes(200), sync=False)
    unsynced = store.stats()
    assert unsynced.fsyncs - synced.fsyncs < 20, "sync=False doesn't wait for the disk"
    store.flush()
    flushed = store.stats()
    assert flushed.bytes_written - before.bytes_written >= 40 * 202
    assert flushed.write_amplification == flushed.bytes_written / flushed.user_bytes >= 1.0
    assert flushed.space_amplification == flushed.disk_bytes / flushed.live_bytes


@pytest.mark.persistent
@pytest.mark.parametrize("layout", LAYOUTS)
def test_disk_bytes_are_the_bytes_on_disk(open_store: OpenStore, tmp_path: Path, layout: str) -> None:
    """Stats: disk_bytes are all of the store's files, now (a lock's file may be left out)."""
    store = open_store()
    arrange(store, {key: value * 50 for key, value in ITEMS.items()}, layout)
    store.flush()
    sizes = {path: path.stat().st_size for path in (tmp_path / "store").rglob("*") if path.is_file()}
    if (tmp_path / "store").is_file():
        sizes = {tmp_path / "store": (tmp_path / "store").stat().st_size}
    locks = sum(size for path, size in sizes.items() if "lock" in path.name.lower())
    assert store.stats().disk_bytes in (sum(sizes.values()), sum(sizes.values()) - locks)


@pytest.mark.persistent
def test_compact_gives_space_back(store: KVStore, rng: random.Random) -> None:
    """KVStore.compact: gives back the space of what was deleted and overwritten, once no snapshot needs it."""
    for number in range(1_000):
        store.put(b"%03d" % (number % 500), rng.randbytes(1_000))
    store.flush()
    peak = store.stats().disk_bytes
    assert peak >= 500_000
    with store.snapshot() as snapshot:
        kept = snapshot.get(b"000")
        for number in range(450):
            store.delete(b"%03d" % number)
        store.compact()
        assert snapshot.get(b"000") == kept
        assert sum(1 for _ in snapshot.scan()) == 500
    store.compact()
    after = store.stats()
    assert after.disk_bytes <= peak / 2, f"{after.disk_bytes:,} bytes for 50 values of 1,000; {peak:,} before"
    assert sum(1 for _ in store.scan()) == 50


def test_a_store_knows_its_size(store: KVStore, rng: random.Random) -> None:
    """KVStore.size_bytes: what is written counts at once, flushed or not, and no longer once it was deleted and compacted."""
    for number in range(500):
        store.put(b"%03d" % number, rng.randbytes(1_000), sync=False)
    written, stats = store.size_bytes(), store.stats()
    assert 500_000 <= written <= (stats.disk_bytes or stats.live_bytes)
    store.flush()
    assert store.size_bytes() >= 500_000
    for number in range(450):
        store.delete(b"%03d" % number)
    store.compact()
    assert store.size_bytes() <= written / 2


@pytest.mark.persistent
@pytest.mark.parametrize("layout", LAYOUTS)
def test_reopening_keeps_everything(open_store: OpenStore, layout: str) -> None:
    """Contract 3: close makes everything durable; again and again, with changes in between."""
    store = open_store()
    arrange(store, ITEMS, layout)
    content = dict(ITEMS)
    for number in range(4):
        store.close()
        store = open_store()
        assert list(store.scan()) == sorted(content.items())
        assert list(store.scan(reverse=True)) == sorted(content.items(), reverse=True)
        assert store.multi_get(ITEMS) == [content.get(key) for key in ITEMS]
        assert store.check() == []
        gone = sorted(content)[number]
        store.delete(gone)
        del content[gone]
        content[b"%d" % number] = b"after %d closes" % (number + 1)
        store.put(b"%d" % number, content[b"%d" % number])
        if number == 2:
            store.load(sorted(content.items()))


@pytest.mark.persistent
def test_reopening_keeps_what_is_large(open_store: OpenStore) -> None:
    """Contract 3, for keys and values at the limits, batches beyond every buffer, and an emptied store."""
    items = {b"k" * 32_768: b"v" * (1 << 20), b"\x00": b""} | {b"%05d" % i: b"%d" % i * 9 for i in range(3_000)}
    store = open_store()
    with store.batch() as batch:
        for key, value in items.items():
            batch.put(key, value)
    store.close()
    store = open_store()
    assert dict(store.scan()) == items
    with store.batch() as batch:
        for key in items:
            batch.delete(key)
    store.close()
    store = open_store()
    assert list(store.scan()) == []
    store.load([])
    store.close()
    assert list(open_store().scan()) == []


@pytest.mark.persistent
@pytest.mark.parametrize("sync", [True, False], ids=["sync", "no-sync"])
def test_a_killed_process_loses_nothing(engine: Engine, open_store: OpenStore, tmp_path: Path, sync: bool) -> None:
    """Contract 3: with sync=False a write is in the operating system's hands when it returns: a killed process loses
    nothing of it."""
    script = """
import os, signal, sys
from tests.conformance.engine_table import engine_table
store = engine_table([sys.argv[1]])[0].open(sys.argv[2], sync=sys.argv[3] == "True")
for i in range(300):
    store.put(b"%03d" % (i * 7 % 200), b"%d" % i * 20)
store.load([(b"%03d" % i, b"loaded") for i in range(100)])
for i in range(150):
    with store.batch() as batch:
        batch.put(b"%03d" % (i * 7 % 200), b"%d" % i * 20)
        batch.delete(b"%03d" % (i * 3 % 200))
print("written", flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    expected = {b"%03d" % i: b"loaded" for i in range(100)}
    for i in range(150):
        expected[b"%03d" % (i * 7 % 200)] = b"%d" % i * 20
        expected.pop(b"%03d" % (i * 3 % 200), None)
    ended = run_python(script, engine.where, str(tmp_path / "store"), str(sync))
    assert (ended.returncode, ended.stdout) == (-9, "written\n"), ended.stderr
    store = open_store()
    assert dict(store.scan()) == expected
    assert store.check() == []


@pytest.mark.persistent
def test_a_second_open_is_refused(engine: Engine, open_store: OpenStore) -> None:
    """StoreLocked: names the holder; the first store goes on, and the lock outlives every refused attempt."""
    store = open_store()
    store.put(b"a", b"1")
    for _ in range(2):
        with pytest.raises(StoreLocked) as refusal:
            open_store()
        assert refusal.value.holder == "this process"
        assert refusal.value.path in str(refusal.value)
    store.put(b"b", b"2")
    store.close()
    assert dict(open_store().scan()) == {b"a": b"1", b"b": b"2"}


@pytest.mark.persistent
def test_a_second_process_is_refused(engine: Engine, open_store: OpenStore, tmp_path: Path) -> None:
    """StoreLocked, from another process: it names the one that has the store. A refused attempt of our own comes
    first, because closing any descriptor of the file would end a POSIX lock."""
    script = """
import sys
from engines import StoreLocked
from tests.conformance.engine_table import engine_table
try:
    engine_table([sys.argv[1]])[0].open(sys.argv[2])
except StoreLocked as error:
    print(error.holder)
"""
    store = open_store()
    store.put(b"a", b"1")
    with pytest.raises(StoreLocked):
        open_store()
    ended = run_python(script, engine.where, str(tmp_path / "store"))
    assert (ended.returncode, ended.stdout) == (0, f"process {os.getpid()}\n"), ended.stderr
    store.put(b"b", b"2")
    assert dict(store.scan()) == {b"a": b"1", b"b": b"2"}


@pytest.mark.persistent
def test_an_engine_recognises_its_own_files_only(engine: Engine, open_store: OpenStore, tmp_path: Path) -> None:
    """KVStore.recognises: by names and first bytes, open or closed, and changes nothing."""
    path = str(tmp_path / "store")
    (tmp_path / "empty").mkdir()
    recognises = engine.store_class.recognises
    assert not recognises(path, real_env())
    assert not recognises(str(tmp_path / "empty"), real_env())
    store = open_store()
    assert recognises(path, real_env()), "a store that was just made"
    arrange(store, ITEMS, "layered")
    assert recognises(path, real_env())
    store.close()
    before = sorted((str(file), file.stat().st_mtime_ns) for file in tmp_path.rglob("*"))
    assert recognises(path, real_env())
    assert sorted((str(file), file.stat().st_mtime_ns) for file in tmp_path.rglob("*")) == before
    for other in engines.ENGINES:
        if not issubclass(engine.store_class, engines.engine_class(other)):
            assert not engines.engine_class(other).recognises(path, real_env()), f"{other} takes it for its own"


@pytest.mark.persistent
def test_another_engines_directory_is_refused(engine: Engine, open_store: OpenStore, tmp_path: Path) -> None:
    """WrongEngine: says which engine's files are there. Nothing is changed, and the right engine still opens it."""
    store = open_store()
    arrange(store, ITEMS, "layered")
    store.close()
    path = str(tmp_path / "store")
    others = [name for name in engines.ENGINES if not issubclass(engine.store_class, engines.engine_class(name))]
    if engine.registered:
        assert engines.which(path) == engine.where
        for other in others:
            with pytest.raises(WrongEngine) as refusal:
                engines.open(path, other)
            assert (refusal.value.found, refusal.value.asked) == (engine.where, other)
    for other in others:
        with engines.open(str(tmp_path / other), other):
            pass
        if engines.engine_class(other).persistent:
            with pytest.raises(WrongEngine):
                open_store(other)
    assert dict(open_store().scan()) == ITEMS
