"""What ends with a store, and what outlives a failure: threads, processes, manifests, logs."""

from __future__ import annotations

import errno
import gc
import random
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import engines
from engines.errors import CorruptionError, StoreFailed
from engines.faultenv import FaultEnv
from engines.lsm.files import listed, log_name
from engines.lsm.manifest import recover
from engines.lsm.store import LsmStore
from engines.lsm.version import VersionEdit
from engines.lsm.wal import LogFile, encode_batch
from engines.simenv import Policy, SimEnv

ENOUGH_S = 60.0
SMALL: dict[str, Any] = {"write_buffer_bytes": 2_000, "max_file_bytes": 2_000, "sync": False}


def opened(path: Path | str, **options: Any) -> LsmStore:
    store = engines.open(str(path), "lsm", **{**SMALL, **options})
    assert isinstance(store, LsmStore)
    return store


def fill(store: LsmStore, count: int = 300) -> None:
    for number in range(count):
        store.put(b"%04d" % (number * 7 % count), b"v" * 40)


# ---- a store that is dropped without close --------------------------------------------------------------------------


def test_a_dropped_store_ends_its_threads(tmp_path: Path) -> None:
    """A lane's thread lives only as long as there is work, and nothing else keeps one."""
    before = set(threading.enumerate())
    store = opened(tmp_path)
    fill(store)
    store.flush()
    with pytest.warns(ResourceWarning, match="dropped without close"):
        del store
    for thread in set(threading.enumerate()) - before:
        thread.join(ENOUGH_S)
    assert set(threading.enumerate()) == before


def test_an_idle_store_has_no_threads(tmp_path: Path) -> None:
    """So that a thousand open stores are not two thousand threads; the next write that needs one starts it."""
    before = set(threading.enumerate())
    with opened(tmp_path) as store:
        for _ in range(2):
            fill(store)
            store.flush()
            store.compact()
            for thread in set(threading.enumerate()) - before:
                thread.join(ENOUGH_S)
            assert set(threading.enumerate()) == before
        assert store.stats().engine["flushes"] >= 2


def test_a_dropped_store_ends_its_process(tmp_path: Path) -> None:
    """It is closed at once: it is in no cycle that the garbage collector would have to find first."""
    before = set(threading.enumerate())
    store = opened(tmp_path, compaction_process=True)
    fill(store)
    store.compact()
    for thread in set(threading.enumerate()) - before:
        thread.join(ENOUGH_S)
    pid = int(store.describe()["work_is_done_by"].removeprefix("process "))
    assert Path(f"/proc/{pid}").exists()
    gc.disable()
    try:
        with pytest.warns(ResourceWarning, match="dropped without close"):
            del store
        assert not Path(f"/proc/{pid}").exists(), "a zombie counts, too"
    finally:
        gc.enable()


# ---- manifests ------------------------------------------------------------------------------------------------------


def test_a_manifest_that_has_grown_is_followed_by_a_new_one() -> None:
    """After the first edit beyond max_manifest_bytes; and only one of them stays."""
    env = SimEnv(0)
    with opened("/db", env=env, background=False, max_manifest_bytes=400) as store:
        first = store.core.versions.number
        fill(store, 1_000)
        assert store.core.versions.number > first + 2
        (name,) = [name for kind, _, name in listed(env, "/db") if kind == "manifest"]
        assert env.files()["/db/CURRENT"] == name.encode() + b"\n"
        assert len(env.files()[f"/db/{name}"]) < 4_000
        assert store.check() == []
        crashed = env.crash(Policy.NOTHING, random.Random(0))
        store.flush()
        flushed = env.crash(Policy.NOTHING, random.Random(0))
    with opened("/db", env=crashed, background=False) as store:
        assert store.check() == []
    with opened("/db", env=flushed, background=False) as store:
        assert len(list(store.scan())) == 1_000


@pytest.mark.parametrize("kind", ["append", "sync", "create", "rename"])
def test_after_a_failed_edit_no_other_lane_writes_one(kind: str) -> None:
    """The other lane's edit would lie after a torn one; and its garbage collection would take the files of one of two
    states, of which nobody knows which the disk has (db_test.cc, ManifestWriteError)."""
    env = SimEnv(0)
    opened("/db", env=env, background=False).close()
    faulty = FaultEnv(env, 1, errno.EIO, kinds=frozenset((kind,)))
    faulty.fail_at = -1
    versions = recover(faulty, "/db", engines.Stats())
    versions.max_manifest_bytes = 1
    versions.begin_manifest(VersionEdit(), versions.new_number())
    number, names = versions.number, env.list("/db")
    faulty.fail_at = faulty.calls + 1
    with pytest.raises(OSError):
        versions.apply(VersionEdit())
    assert faulty.fired is not None
    for again in (lambda: versions.apply(VersionEdit()), lambda: versions.sync_names("test")):
        with pytest.raises(StoreFailed):
            again()
    assert versions.number == number, "the old manifest may still be the one that counts"
    assert set(names) <= set(env.list("/db"))
    versions.close()
    recover(env.crash(Policy.EVERYTHING, random.Random(0)), "/db", engines.Stats())


# ---- logs -----------------------------------------------------------------------------------------------------------


def test_an_old_log_that_knows_more_is_not_deleted() -> None:
    """Log number too high (LevelDB deletes the log unread): the manifest's word against the log's."""
    env = SimEnv(0)
    with opened("/db", env=env, background=False) as store:
        store.put(b"a", b"1", sync=True)
        number = store.core.log_number
        store.flush()
    log = LogFile(env, f"/db/{log_name(number)}", engines.Stats(), 4096)
    log.append(encode_batch(2, [(b"b", b"2")]), 2, True)
    log.sync("test")
    log.seal(3, "test")
    before = env.files()
    with pytest.raises(CorruptionError, match="the manifest says that this log is in tables"):
        opened("/db", env=env, background=False)
    assert env.files() == before


def test_an_old_log_whose_content_is_in_tables_goes() -> None:
    """What a crash between the edit and the deletion leaves."""
    env = SimEnv(0)
    with opened("/db", env=env, background=False) as store:
        store.put(b"a", b"1", sync=True)
        number = store.core.log_number
        old = env.files()[f"/db/{log_name(number)}"]
        store.flush()
    file = env.open(f"/db/{log_name(number)}", "x")
    file.append(old)
    file.close()
    with opened("/db", env=env, background=False) as store:
        assert store.get(b"a") == b"1"
        assert log_name(number) not in env.list("/db")


FORKED = """
import os, sys
import engines
with engines.open(sys.argv[1], "lsm", sync=False, write_buffer_bytes=2_000, compaction_process=True) as store:
    for number in range(300):
        store.put(b"%04d" % number, b"v" * 40)
    store.compact()
    child = os.fork()
    if not child:
        sys.exit(0)  # through the exit handlers
    os.waitpid(child, 0)
    for number in range(300):
        store.put(b"%04d" % number, b"w" * 40)
    store.compact()
    print(store.stats().engine["workers_died"])
"""


def test_a_forked_child_leaves_the_workers_alone(tmp_path: Path) -> None:
    """They are the parent's: a child that ends by itself doesn't end them."""
    command = [sys.executable, "-W", "always::ResourceWarning", "-c", FORKED, str(tmp_path / "db")]
    ran = subprocess.run(command, cwd=Path(engines.__file__).parents[1], capture_output=True, text=True, timeout=60)
    assert (ran.returncode, ran.stdout) == (0, "0\n"), ran.stderr
    assert "ResourceWarning" not in ran.stderr
