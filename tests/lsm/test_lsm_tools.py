"""What a store offers besides the contract, and the files it is made of: manifest, read-only, checkpoint, repair,
ranges, sizes, properties."""

from __future__ import annotations

import errno
import json
import os
import random
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import engines
from engines.errors import CorruptionError, InvalidOption, NoSuchStore, ReadOnly, StoreLocked
from engines.faultenv import FaultEnv
from engines.kvstore import Stats
from engines.log import LogReader, encode_records
from engines.lsm import manifest
from engines.lsm.repair import LOST, repair
from engines.lsm.store import LsmStore
from engines.lsm.version import VersionEdit
from engines.simenv import Policy, SimEnv

TINY: dict[str, Any] = {
    "write_buffer_bytes": 4_000,
    "max_file_bytes": 2_000,
    "block_bytes": 256,
    "level_base_bytes": 8_000,
    "background": False,
    "sync": False,
}
LEVELDB = "01 1a 6c 65 76 65 6c 64 62 2e 42 79 74 65 77 69 73 65 43 6f 6d 70 61 72 61 74 6f 72"


def opened(env: SimEnv, path: str = "/db", **options: Any) -> LsmStore:
    store = engines.open(path, "lsm", env=env, **{**TINY, **options})
    assert isinstance(store, LsmStore)
    return store


def fill(store: LsmStore, count: int = 400, seed: int = 1) -> dict[bytes, bytes]:
    """Writes and deletes over several levels; returns what is there."""
    rng = random.Random(seed)
    model: dict[bytes, bytes] = {}
    for number in range(count):
        key = b"%03d" % rng.randrange(200)
        if rng.random() < 0.25:
            store.delete(key)
            model.pop(key, None)
        else:
            model[key] = b"%d:" % number * 8
            store.put(key, model[key])
    return model


def names(env: SimEnv, directory: str = "/db") -> list[str]:
    return [path.rpartition("/")[2] for path in env.files() if path.rpartition("/")[0] == directory]


# ---- the manifest ---------------------------------------------------------------------------------------------------


def test_a_new_stores_manifests() -> None:
    """Golden: LevelDB's MANIFEST-000001 of one edit, and what its first open makes of it."""
    env = SimEnv()
    manifest_1 = bytes.fromhex(LEVELDB + " 02 00 03 02 04 00")
    env.makedirs("/new", "test")
    manifest.create(env, "/new", Stats())
    assert env.files() == {
        "/new/CURRENT": b"MANIFEST-000001\n",
        "/new/MANIFEST-000001": encode_records(0, [manifest_1]),
    }
    opened(env).close()
    files = env.files()
    assert names(env) == ["000003.log", "CURRENT", "LOCK", "MANIFEST-000002"]
    assert files["/db/CURRENT"] == b"MANIFEST-000002\n"
    snapshot = bytes.fromhex(LEVELDB)
    edit = bytes.fromhex("02 03 09 00 03 04 04 00")
    assert files["/db/MANIFEST-000002"] == encode_records(0, [snapshot, edit])


def test_a_flush_is_one_edit() -> None:
    """Its table, the next log, and the exact last sequence; the snapshot of the next open has the file as well."""
    env = SimEnv()
    with opened(env) as store:
        store.put(b"a", b"1")
        store.put(b"b", b"2")
        store.flush()
        store.put(b"c", b"3")
        (name,) = [name for name in names(env) if name.startswith("MANIFEST")]
        edits = [VersionEdit.decode(record) for _, record in LogReader(env.files()[f"/db/{name}"], name)]
    flush = edits[-1]
    assert (flush.log_number, flush.previous_log_number, flush.last_sequence) == (4, 0, 2)
    ((level, file),) = flush.added
    assert (level, file.number, file.first, file.last) == (0, 5, b"a", b"b")
    assert flush.next_file_number == 6
    assert (flush.deleted, flush.compact_pointers) == ([], [])


def test_a_torn_edit_never_counted() -> None:
    """manifest.py, rule 2: the last edit's first bytes only; what it was about is an orphan, and its log is replayed."""
    env = SimEnv()
    with opened(env) as store:
        store.put(b"a", b"1")
        (name,) = [name for name in names(env) if name.startswith("MANIFEST")]
        before = len(env.files()[f"/db/{name}"])
        kept = env.files()["/db/000003.log"]
        store.flush()
        image = env.crash(Policy.EVERYTHING, random.Random(1))
    image.poke(f"/db/{name}", image.files()[f"/db/{name}"][: before + 9])
    file = image.open("/db/000003.log", "w")
    file.append(kept)
    file.close()
    with opened(image) as store:
        assert dict(store.scan()) == {b"a": b"1"}
        assert store.check() == []


def test_versions_are_kept_as_long_as_they_are_read() -> None:
    """live_files: those of the current version and of each that somebody holds."""
    env = SimEnv()
    with opened(env) as store:
        fill(store)
        held = store.core.versions.current
        numbers = {file.number for _, file in held.files()}
        store.compact()
        now = {file.number for _, file in store.core.versions.current.files()}
        assert numbers - now
        assert store.core.versions.live_files().keys() == numbers | now
        del held
        assert store.core.versions.live_files().keys() == now


def test_a_table_in_the_making_is_nobodys_garbage() -> None:
    """core.py, rule 3: while one lane writes it, the other one deletes; a failure's leavings go later."""
    env = SimEnv()
    with opened(env) as store:
        with store.core.numbers() as numbers:
            name = f"/db/{next(numbers):06d}.ldb"
            env.open(name, "x").close()
            store.core.delete_obsolete()
            assert env.exists(name)
        store.core.delete_obsolete()
        assert not env.exists(name)


# ---- reading only ---------------------------------------------------------------------------------------------------


def test_reading_only_changes_nothing() -> None:
    """Not a byte, not a name; what is in the log is seen; nothing can be written."""
    env = SimEnv()
    with opened(env) as store:
        model = fill(store)
        image = env.crash(Policy.EVERYTHING, random.Random(1))
    before = image.files()
    with opened(image, read_only=True) as store:
        assert dict(store.scan()) == model
        assert dict(store.scan(reverse=True)) == model
        assert all(store.get(key) == value for key, value in model.items())
        with store.snapshot() as snapshot:
            assert dict(snapshot.scan()) == model
        assert store.check() == []
        assert store.stats().puts == 0
        json.dumps(store.describe())
        calls: list[Callable[[], object]] = [
            lambda: store.put(b"k", b"v"),
            lambda: store.delete(b"k"),
            lambda: store.load([]),
            store.flush,
            store.compact,
            lambda: store.checkpoint("/copy"),
        ]
        for call in calls:
            with pytest.raises(ReadOnly):
                call()
    assert image.files() == before
    assert image.open_files == 0


def test_several_processes_may_read(tmp_path: Path) -> None:
    """A shared lock: other readers are let in, a writer isn't; nor is a reader beside a writer."""
    path = str(tmp_path / "db")
    engines.open(path, "lsm").close()
    script = """
import sys, engines
for read_only in (True, False):
    try:
        engines.open(sys.argv[1], "lsm", read_only=read_only).close()
        print("opened")
    except engines.StoreLocked:
        print("locked")
"""

    def another() -> str:
        return subprocess.run(
            [sys.executable, "-c", script, path],
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        ).stdout

    with engines.open(path, "lsm", read_only=True):
        assert another() == "opened\nlocked\n"
    with engines.open(path, "lsm"):
        assert another() == "locked\nlocked\n"
        with pytest.raises(StoreLocked, match="this process"):
            engines.open(path, "lsm")


# ---- checkpoints ----------------------------------------------------------------------------------------------------


def test_a_checkpoint_is_a_store_of_its_own(tmp_path: Path) -> None:
    """Hard links: the same inodes, and neither notices what the other does afterwards."""
    options = {key: value for key, value in TINY.items() if key != "background"}
    with engines.open(str(tmp_path / "db"), "lsm", **options) as store:
        assert isinstance(store, LsmStore)
        model = fill(store)
        store.checkpoint(str(tmp_path / "copies" / "one"))
        tables = {file.name: file.stat().st_ino for file in (tmp_path / "copies" / "one").glob("*.ldb")}
        assert tables
        assert tables.items() <= {f.name: f.stat().st_ino for f in (tmp_path / "db").glob("*.ldb")}.items()
        with engines.open(str(tmp_path / "copies" / "one"), "lsm", **options) as copy:
            assert dict(copy.scan()) == model
            assert copy.check() == []
            copy.load([(b"only", b"in the copy")])
            store.put(b"only", b"in the store")
            store.compact()
            assert dict(copy.scan()) == {b"only": b"in the copy"}
        assert dict(store.scan()) == model | {b"only": b"in the store"}
        assert store.check() == []


def test_a_checkpoint_needs_an_empty_place() -> None:
    env = SimEnv()
    with opened(env) as store:
        fill(store)
        with pytest.raises(InvalidOption, match="needs an empty directory"):
            store.checkpoint("/db")
        store.checkpoint("/copy")
        before = env.files()
        with pytest.raises(InvalidOption, match="needs an empty directory"):
            store.checkpoint("/copy")
        assert env.files() == before
        assert store.check() == [], "a refused checkpoint is no failure of the store"


def test_a_checkpoint_is_whole_or_refused() -> None:
    """Rule 1 of checkpoint.py: the power goes after each call of it; what opens holds everything."""
    env = SimEnv()
    store = opened(env)
    model = fill(store)
    store.flush()
    images: list[SimEnv] = []
    rng = random.Random(1)
    env.after_call = lambda call: images.extend(
        env.crash(policy, rng) for policy in (Policy.NOTHING, Policy.TORN, Policy.EVERYTHING)
    )
    store.checkpoint("/copy")
    env.after_call = None
    store.close()
    images.append(env.crash(Policy.NOTHING, rng))
    whole = 0
    for image in images:
        try:
            with opened(image, "/copy", create=False) as copy:
                assert dict(copy.scan()) == model
                assert copy.check() == []
                whole += 1
        except (CorruptionError, NoSuchStore):
            assert image is not images[-1], "a checkpoint that has returned is durable"
    assert whole >= 1


# ---- repair ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lost", ["CURRENT", "MANIFEST", "CURRENT and MANIFEST"])
def test_repair_makes_a_store_of_what_is_whole(lost: str) -> None:
    """With the manifest, exactly what was there; without, too, because a compaction has left no old tables."""
    env = SimEnv()
    with opened(env) as store:
        model = fill(store)
        store.compact()
        store.put(b"in the log", b"as well")
        model[b"in the log"] = b"as well"
        store.delete(min(model))
        del model[min(model)]
    for name in names(env):
        if name.rpartition("-")[0] in lost.split(" and ") or name in lost.split(" and "):
            env.unlink(f"/db/{name}")
    before = {name: env.files()[f"/db/{name}"] for name in names(env) if name.endswith((".ldb", ".log"))}
    with pytest.raises(CorruptionError, match="repair"):
        opened(env)
    report = repair("/db", env=env)
    assert (report.entries, report.logs) == (len(model), 1)
    assert report.tables >= 1
    kept = {path.rpartition("/")[2]: content for path, content in env.files().items() if f"/{LOST}/" in path}
    assert before.items() <= kept.items(), "nothing is deleted"
    for _ in range(2):
        with opened(env) as store:
            assert dict(store.scan()) == model
            assert store.check() == []
        repair("/db", env=env)


def test_repair_loses_what_is_damaged_and_no_more() -> None:
    """corruption_test.cc: one block of one table; its keys are gone, all others are there; the report says where."""
    env = SimEnv()
    model = {b"%03d" % number: b"v" * 40 for number in range(200)}
    with opened(env) as store:
        store.load(sorted(model.items()))
        path = store.core.tables.get(store.core.versions.current.levels[6][0]).path
    content = env.files()[path]
    env.poke(path, content[:100] + bytes((content[100] ^ 1,)) + content[101:])
    report = repair("/db", env=env)
    assert any(f"{path} at byte 0" in loss for loss in report.losses)
    with opened(env) as store:
        found = dict(store.scan())
        assert found.items() < model.items()
        assert 1 <= len(model) - len(found) <= 256 // 40
        assert store.check() == []


def test_repair_believes_sequences_and_not_numbers() -> None:
    """corruption_test.cc, SequenceNumberRecovery: after a repair the newest value is what is read, and newer writes win.

    LevelDB puts all tables into level 0, where the number decides, which a compaction has given to older data."""
    env = SimEnv()
    with opened(
        env, level0_files=50, level0_slowdown_files=50, level0_stop_files=50, write_buffer_bytes=1 << 20
    ) as store:
        for number in range(1, 6):
            store.put(b"foo", b"v%d" % number)
            store.flush()
        for older, newer in (("000005", "x"), ("000013", "000005"), ("x", "000013")):
            env.rename(f"/db/{older}.ldb", f"/db/{newer}.ldb")
    env.unlink("/db/CURRENT")
    for name in names(env):
        if name.startswith("MANIFEST"):
            env.unlink(f"/db/{name}")
    repair("/db", env=env)
    with opened(env) as store:
        assert store.get(b"foo") == b"v5"
        store.put(b"foo", b"v6")
        assert store.get(b"foo") == b"v6"
    with opened(env) as store:
        assert store.get(b"foo") == b"v6"


def test_repair_that_is_cut_off_can_be_called_again() -> None:
    """Rule 1 of repair.py: after each of its calls, another repair brings back everything."""
    env = SimEnv()
    with opened(env) as store:
        model = fill(store, 150)
    env.unlink("/db/CURRENT")
    images: list[SimEnv] = []
    rng = random.Random(1)
    env.after_call = lambda call: images.append(env.crash(rng.choice((Policy.NOTHING, Policy.EVERYTHING)), rng))
    repair("/db", env=env)
    env.after_call = None
    assert len(images) > 10
    for image in images:
        repair("/db", env=image)
        with opened(image) as store:
            assert {key: store.get(key) for key in model} == model
            assert store.check() == []


def test_repair_is_refused_where_it_may_not_be() -> None:
    env = SimEnv()
    with pytest.raises(NoSuchStore):
        repair("/nothing", env=env)
    env.makedirs("/empty", "test")
    with pytest.raises(NoSuchStore):
        repair("/empty", env=env)
    with opened(env), pytest.raises(StoreLocked):
        repair("/db", env=env)


# ---- ranges, sizes, properties --------------------------------------------------------------------------------------


def test_a_compaction_of_a_range_leaves_the_rest_alone() -> None:
    """db_test.cc, ManualCompaction: files outside of the range are the same ones afterwards."""
    with opened(SimEnv(), level_base_bytes=1 << 20) as store:
        for letter in b"amz":
            for number in range(40):
                store.put(b"%c%03d" % (letter, number), b"old" * 20)
            store.flush()
        store.compact()
        for letter in b"amz":
            store.put(b"%c%03d" % (letter, 7), b"new")
            store.flush()
        before = list(store.core.versions.current.files())
        store.compact_range(b"m", b"n")
        after = {file.number for _, file in store.core.versions.current.files()}
        for level, file in before:
            if not file.overlaps(b"m", b"n"):
                assert file.number in after
            elif level == 0:
                assert file.number not in after
        levels = {level for level, file in store.core.versions.current.files() if file.overlaps(b"m", b"n")}
        assert 0 not in levels
        assert store.get(b"m007") == b"new"
        assert store.check() == []


def test_approximate_sizes() -> None:
    """db_test.cc, ApproximateSizes: nothing while it is in memory; then each key's place, over blocks and tables."""
    with opened(SimEnv(), block_bytes=1_000, write_buffer_bytes=1 << 20, max_file_bytes=20_000) as store:
        for number in range(80):
            store.put(b"%02d" % number, bytes([number]) * 1_000)
        assert store.approximate_size(b"", b"zz") == 0
        for settle in (store.flush, store.compact):
            settle()
            for first, last in ((0, 80), (0, 10), (20, 50), (79, 80), (5, 5)):
                size = store.approximate_size(b"%02d" % first, b"%02d" % last if last < 80 else b"zz")
                assert (last - first) * 1_000 * 0.95 <= size <= (last - first) * 1_000 * 1.1 + 3_000
        assert store.approximate_size(b"zz", b"zzz") == 0
        assert store.approximate_size(b"50", b"20") == 0


def test_who_goes_through_the_files_of_a_version_finds_them() -> None:
    """As `approximate_size` does, while a compaction replaces them."""
    with opened(SimEnv()) as store:
        store.put(b"k", b"v")
        store.flush()
        files = store.core.state.version.files()
        store.put(b"k", b"w")
        store.compact()
        [(_, file)] = files
        assert [row.value for row in store.core.tables.get(file).rows()] == [b"v"]


def test_leveldbs_properties() -> None:
    """db_impl.cc, GetProperty: their names and their form; None for what is none."""
    with opened(SimEnv(), write_buffer_bytes=1 << 20) as store:
        store.put(b"a", b"1")
        store.delete(b"b")
        store.flush()
        store.put(b"c", b"3")
        assert store.leveldb_property("leveldb.num-files-at-level0") == "1"
        assert store.leveldb_property("leveldb.num-files-at-level6") == "0"
        for unknown in ("num-files-at-level7", "num-files-at-level", "num-files-at-levelx", "nonsense", ""):
            assert store.leveldb_property(f"leveldb.{unknown}") is None
        assert store.leveldb_property("stats") is None
        tables = store.leveldb_property("leveldb.sstables")
        assert tables is not None
        assert re.fullmatch(
            r"--- level 0 ---\n 5:\d+\['a' @ 1 : val \.\. 'b' @ 2 : del\]\n"
            + "".join(f"--- level {n} ---\n" for n in range(1, 7)),
            tables,
        )
        assert "Level  Files Size(MB)" in (store.leveldb_property("leveldb.stats") or "")
        assert int(store.leveldb_property("leveldb.approximate-memory-usage") or 0) >= 2


def test_the_counters_add_up() -> None:
    """What is written is what the files got; levels are what the version has; amplification is their ratio."""
    env = SimEnv()
    with opened(env) as store:
        fill(store)
        store.flush()
        stats = store.stats()
        engine = stats.engine
        levels = store.core.versions.current.levels
        assert [engine[f"level{n}_files"] for n in range(7)] == [len(files) for files in levels]
        on_disk = sum(len(content) for path, content in env.files().items() if path.endswith(".ldb"))
        assert sum(engine[f"level{n}_bytes"] for n in range(7)) == on_disk
        assert stats.puts + stats.deletes == 400
        assert stats.bytes_written > engine["flushed_bytes"] + engine["compacted_bytes"] + stats.user_bytes
        assert stats.write_amplification == stats.bytes_written / stats.user_bytes
        assert engine["compacted_bytes_read"] >= engine["compacted_bytes"] > 0
        assert engine["flushes"] >= 4
        described = store.describe()
        assert json.loads(json.dumps(described)) == described
        assert [len(level["files"]) for level in described["levels"]] == [len(files) for files in levels]
        assert stats.disk_bytes == sum(len(content) for content in env.files().values())


def test_a_hit_reads_nothing() -> None:
    env = SimEnv()
    with opened(env) as store:
        fill(store)
        store.compact()
        for _ in range(2):
            for number in range(200):
                store.get(b"%03d" % number)
        before = store.stats()
        for number in range(200):
            store.get(b"%03d" % number)
        after = store.stats()
        assert after.reads == before.reads
        assert after.bytes_read == before.bytes_read
        assert after.engine["block_cache_hits"] > before.engine["block_cache_hits"]


# ---- errors ---------------------------------------------------------------------------------------------------------


def test_a_failed_edit_deletes_nothing() -> None:
    """db_test.cc, ManifestWriteError: whether the edit counts is not known, so both its tables and the old ones stay."""
    env = SimEnv()
    with opened(env) as store:
        model = fill(store)
    for fail_at in range(1, 100):
        image = env.crash(Policy.EVERYTHING, random.Random(1))
        faulty = FaultEnv(image, fail_at, errno.EIO)
        with suppress(OSError), engines.open("/db", "lsm", env=faulty, **TINY) as store:
            store.compact()
        with opened(image.crash(Policy.EVERYTHING, random.Random(1))) as store:
            assert dict(store.scan()) == model
            assert store.check() == []
        if faulty.fired is None:
            assert fail_at > 20
            return
    raise AssertionError("more calls than were looked for")


def test_a_locked_store_is_not_touched(tmp_path: Path) -> None:
    """The second opener changes nothing, not even a time."""
    with engines.open(str(tmp_path / "db"), "lsm") as store:
        store.put(b"a", b"1")
        before = {name: os.stat(tmp_path / "db" / name).st_mtime_ns for name in os.listdir(tmp_path / "db")}
        with pytest.raises(StoreLocked):
            engines.open(str(tmp_path / "db"), "lsm")
        assert {name: os.stat(tmp_path / "db" / name).st_mtime_ns for name in os.listdir(tmp_path / "db")} == before
        assert store.get(b"a") == b"1"
