"""Threads and processes of the LSM engine: group commit, stalls, readers during flush and compaction, and their end.

Nobody sleeps here: a gate in the Env holds a sync back until the test has seen what it wants to see.
"""

from __future__ import annotations

import errno
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import engines
from engines import StoreClosed, StoreFailed
from engines.errors import CorruptionError
from engines.log_tools import LenientReader
from engines.lsm.store import LsmStore
from engines.lsm.wal import decode_batch
from tests.conformance.hooked_env import HookedEnv
from tests.lsm.waiting import waits_for

PATIENCE_S = 60.0
TINY: dict[str, Any] = {
    "write_buffer_bytes": 2_000,
    "max_file_bytes": 1_000,
    "block_bytes": 128,
    "level_base_bytes": 4_000,
}


class Gate:
    """Holds the syncs of one site back while it is shut, and counts them."""

    def __init__(self, env: HookedEnv, site: str) -> None:
        self._site = site
        self._open = threading.Event()
        self._open.set()
        self.reached = threading.Event()
        self.count = 0
        self.failure: OSError | None = None
        env.before_sync = self._before_sync

    def _before_sync(self, site: str) -> None:
        if site == self._site:
            self.count += 1
            self.reached.set()
            assert self._open.wait(PATIENCE_S)
            if self.failure is not None:
                raise self.failure

    def shut(self) -> None:
        self.reached.clear()
        self._open.clear()

    def open(self) -> None:
        self._open.set()


def opened(path: Path, env: HookedEnv | None = None, **options: Any) -> LsmStore:
    store = engines.open(str(path / "db"), "lsm", env=env, **{"sync": False, **TINY, **options})
    assert isinstance(store, LsmStore)
    return store


def until(condition: Callable[[], object]) -> None:
    """Waits until it holds, a millisecond at a time."""
    pause = threading.Event()
    for _ in range(int(PATIENCE_S * 1_000)):
        if condition():
            return
        pause.wait(0.001)
    raise AssertionError("waited for a minute")


def background_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("lsm-")]


@pytest.fixture
def start() -> Iterator[Callable[[Callable[[], None]], threading.Thread]]:
    """Starts threads; at the end all have ended, and what one of them raised is raised."""
    threads: list[threading.Thread] = []
    failures: list[BaseException] = []

    def begin(body: Callable[[], None]) -> threading.Thread:
        def run() -> None:
            try:
                body()
            except BaseException as failure:
                failures.append(failure)

        thread = threading.Thread(target=run, daemon=True)
        threads.append(thread)
        thread.start()
        return thread

    yield begin
    for thread in threads:
        thread.join(PATIENCE_S)
        assert not thread.is_alive(), "a thread hangs"
    if failures:
        raise failures[0]


Start = Callable[[Callable[[], None]], threading.Thread]


# ---- group commit ---------------------------------------------------------------------------------------------------


def test_waiting_writers_share_one_fsync(tmp_path: Path, start: Start) -> None:
    """Rule 2 of store.py: while one writer's fsync runs, eight others queue up; they are one record and one fsync."""
    env = HookedEnv()
    gate = Gate(env, "lsm.wal.append")
    with opened(tmp_path, env, sync=True) as store:
        gate.shut()
        before = store.stats().fsyncs
        start(lambda: store.put(b"first", b"1"))
        assert gate.reached.wait(PATIENCE_S)
        for number in range(8):
            start(lambda number=number: store.put(b"%d" % number, b"v", sync=number % 2 == 0))  # type: ignore[misc]
        until(lambda: len(store.writer.group_commit.waiting) == 8)
        assert store.get(b"first") is None, "not visible before it is durable"
        gate.open()
        until(lambda: store.describe()["last_sequence"] == 9)
        until(lambda: not store.writer.group_commit.waiting)
        assert gate.count == 2
        assert store.stats().fsyncs - before == 2
        assert store.stats().engine["write_groups"] == 1
        assert store.stats().puts == 9
        file = store.core.env.open(store.core.log.path, "r")  # type: ignore[union-attr]
        records = [decode_batch(record) for _, record in LenientReader(file)]
        file.close()
        assert [(sequence, len(operations)) for sequence, operations in records] == [(1, 1), (2, 8)]
        assert len(list(store.scan())) == 9


def test_a_group_fails_together(tmp_path: Path, start: Start) -> None:
    """All of its writers are told, and the store takes no more calls."""
    env = HookedEnv()
    gate = Gate(env, "lsm.wal.append")
    store = opened(tmp_path, env, sync=True)
    told: list[BaseException] = []

    def write(number: int) -> None:
        try:
            store.put(b"%d" % number, b"v")
        except (OSError, StoreFailed) as failure:
            told.append(failure)

    gate.shut()
    first = start(lambda: write(0))
    assert gate.reached.wait(PATIENCE_S)
    others = [start(lambda number=number: write(number)) for number in range(1, 5)]  # type: ignore[misc]
    until(lambda: len(store.writer.group_commit.waiting) == 4)
    gate.failure = OSError(errno.EIO, "the disk fails")
    gate.open()
    for thread in (first, *others):
        thread.join(PATIENCE_S)
    assert len(told) == 5
    assert sum(isinstance(failure, OSError) for failure in told) >= 1
    with pytest.raises(StoreFailed):
        store.get(b"0")
    store.close()


# ---- stalls ---------------------------------------------------------------------------------------------------------


def test_writers_stop_while_two_memtables_are_full(tmp_path: Path, start: Start) -> None:
    """Rule 4 of writer.py: and go on when the flush is done; counted."""
    env = HookedEnv()
    gate = Gate(env, "lsm.table.flush")
    with opened(tmp_path, env, max_frozen=1) as store:
        gate.shut()
        written: list[int] = []

        def write() -> None:
            for number in range(100):
                store.put(b"%03d" % number, b"v" * 50)
                written.append(number)

        writer = start(write)
        assert gate.reached.wait(PATIENCE_S)
        until(lambda: len(store.core.frozen) == 1 and store.core.state.memtable.size_bytes >= 2_000)
        until(lambda: store.writer.lock.locked())
        assert writer.is_alive()
        assert len(written) < 100
        assert store.get(b"000") == b"v" * 50, "readers don't wait"
        assert len(list(store.scan())) == len(written)
        gate.open()
        writer.join(PATIENCE_S)
        assert store.stats().engine["write_stops"] >= 1
        assert len(list(store.scan())) == 100


def test_writers_slow_down_while_level_0_is_full(tmp_path: Path, start: Start) -> None:
    """Rule 4 of writer.py: a millisecond a write, which is counted; and stop at twice that."""
    env = HookedEnv()
    gate = Gate(env, "lsm.table.compact")
    options = {"level0_files": 2, "level0_slowdown_files": 3, "level0_stop_files": 5}
    with opened(tmp_path, env, **options) as store:
        gate.shut()
        for _ in range(4):  # level 0 is looked at when a memtable is frozen: the fourth finds three tables there
            store.put(b"0000", b"v")
            store.flush()
        assert store.stats().engine["write_slowdowns"] == 0
        store.put(b"0000", b"v")
        assert store.stats().engine["write_slowdowns"] == 1
        store.flush()
        assert store.writer.must_slow_down()
        start(lambda: [store.put(b"%04d" % (number * 7 % 400), b"v" * 50) for number in range(400)] and None)
        until(lambda: store.writer.lock.locked() and store.core.state.memtable.size_bytes >= 2_000)
        assert len(store.core.versions.current.levels[0]) == 5
        gate.open()
        until(lambda: len(list(store.scan())) == 400)
        assert store.stats().engine["write_stops"] >= 1
        assert store.check() == []


# ---- readers --------------------------------------------------------------------------------------------------------


def test_reads_go_on_while_tables_come_and_go(tmp_path: Path, start: Start) -> None:
    """One writer with a tiny memtable, and gets, scans, snapshots beside it: what was written is seen, for ever."""
    done = threading.Event()
    written = 0
    with opened(tmp_path, cache_bytes=3_000, max_open_files=2) as store:

        def write() -> None:
            nonlocal written
            try:
                for number in range(600):
                    store.put(b"%04d" % number, b"%d" % number * 4)
                    written = number + 1
            finally:
                done.set()

        def get() -> None:
            at = 0
            while not done.is_set():
                at = (at + 37) % max(1, written)
                if written:
                    assert store.get(b"%04d" % at) == b"%d" % at * 4

        def scan() -> None:
            while not done.is_set():
                least = written
                keys = [key for key, _ in store.scan()]
                assert keys == [b"%04d" % number for number in range(len(keys))]
                assert len(keys) >= least
                with store.snapshot() as snapshot:
                    first = [key for key, _ in snapshot.scan(reverse=True)]
                    assert first == [key for key, _ in snapshot.scan()][::-1]

        readers = [start(get), start(scan)]
        write()
        for reader in readers:
            reader.join(PATIENCE_S)
        until(lambda: not store.core.frozen)
        engine = store.stats().engine
        assert engine["flushes"] > 10
        assert engine["compactions"] > 3
        assert engine["open_tables"] <= 2
        assert store.check() == []


def test_a_scan_outlives_the_tables_that_it_reads(tmp_path: Path) -> None:
    """Its files are deleted when nobody reads them any more, and not before."""
    with opened(tmp_path, background=False) as store:
        for number in range(300):
            store.put(b"%03d" % number, b"old")
        store.flush()
        scan = store.scan()
        assert next(scan) == (b"000", b"old")
        for number in range(300):
            store.put(b"%03d" % number, b"new")
        store.compact()
        live = {file.number for _, file in store.core.versions.current.files()}
        assert tables(tmp_path) > live, "the scan's tables are still there"
        assert list(scan) == [(b"%03d" % number, b"old") for number in range(1, 300)]
        del scan
        store.put(b"x", b"y")
        store.flush()
        live = {file.number for _, file in store.core.versions.current.files()}
        assert tables(tmp_path) == live


def tables(path: Path) -> set[int]:
    return {int(file.stem) for file in (path / "db").glob("*.ldb")}


# ---- the end --------------------------------------------------------------------------------------------------------


def test_close_ends_what_the_store_has_started(tmp_path: Path, start: Start) -> None:
    """Threads, scans and snapshots: none is left, and who is in the middle of a scan is told."""
    env = HookedEnv()
    gate = Gate(env, "lsm.table.compact")
    before = set(threading.enumerate())
    ended: list[type[BaseException]] = []
    store = opened(tmp_path, env)
    gate.shut()
    for number in range(200):
        store.put(b"%04d" % (number * 7 % 500), b"v" * 50)
    assert gate.reached.wait(PATIENCE_S)
    assert "lsm-compact" in {thread.name for thread in set(threading.enumerate()) - before}
    gate.open()
    for number in range(200, 500):
        store.put(b"%04d" % (number * 7 % 500), b"v" * 50)
    snapshot = store.snapshot()

    def scan_for_ever() -> None:
        try:
            while True:
                assert len(list(store.scan())) == 500
        except StoreClosed as end:
            ended.append(type(end))

    scanning = [start(scan_for_ever), start(scan_for_ever)]
    half_read = store.scan()
    next(half_read)
    store.flush()
    gate.shut()
    for number in range(500):
        store.put(b"%04d" % number, b"v" * 50, sync=False)
        if gate.reached.is_set():
            break
    assert gate.reached.wait(PATIENCE_S), "a compaction is in the middle of its work"
    closing = start(store.close)
    until(lambda: store.closed)
    gate.open()
    for thread in (closing, *scanning):
        thread.join(PATIENCE_S)
    assert ended == [StoreClosed, StoreClosed]
    for call in (lambda: next(half_read), lambda: snapshot.get(b"0000"), lambda: list(snapshot.scan())):
        with pytest.raises(StoreClosed):
            call()
    assert set(threading.enumerate()) == before
    with opened(tmp_path) as again:
        assert len(list(again.scan())) == 500
        assert again.check() == []
    assert set(threading.enumerate()) == before


def test_close_waits_for_a_compaction_by_hand(tmp_path: Path, start: Start) -> None:
    """After LOCK is given up, a table of it could overwrite one of the next open's; and the rest of it is not begun."""
    env = HookedEnv()
    gate = Gate(env, "lsm.table.compact")
    ended: list[BaseException] = []
    # No level is ever too full, so that the compaction lane has no work: close would wait for its thread, and that one
    # for the compaction by hand.
    store = opened(tmp_path, env, level_base_bytes=1_000_000)
    for number in range(500):
        store.put(b"%04d" % (number * 7 % 500), b"v" * 50, sync=False)
    store.compact()
    until(lambda: not background_threads())

    def compact_for_ever() -> None:
        try:
            while True:
                store.put(b"0000", b"w")
                store.compact()
        except StoreClosed as end:
            ended.append(end)

    gate.shut()
    compacting = start(compact_for_ever)
    assert gate.reached.wait(PATIENCE_S)
    closing = start(store.close)
    until(lambda: not closing.is_alive() or waits_for(closing, store.background.compactor.lock))
    assert closing.is_alive()
    gate.open()
    closing.join(PATIENCE_S)
    files = sorted(path.name for path in (tmp_path / "db").iterdir())
    compacting.join(PATIENCE_S)
    assert sorted(path.name for path in (tmp_path / "db").iterdir()) == files
    assert len(ended) == 1


def test_close_flushes_full_memtables(tmp_path: Path, start: Start) -> None:
    """They are in memory, and a flush of them is quicker than a replay of their logs by the next open."""
    env = HookedEnv()
    gate = Gate(env, "lsm.table.flush")
    store = opened(tmp_path, env, max_frozen=4)
    gate.shut()
    for number in range(60):  # of some 60 bytes: three times the write buffer
        store.put(b"%04d" % number, b"v" * 50, sync=False)
    assert gate.reached.wait(PATIENCE_S)
    assert len(list(tmp_path.glob("db/*.log"))) >= 2
    closing = start(store.close)
    until(lambda: store.closed)
    gate.open()
    closing.join(PATIENCE_S)
    assert len(list(tmp_path.glob("db/*.log"))) == 1
    with opened(tmp_path) as again:
        assert len(list(again.scan())) == 60


def test_close_ends_the_worker(tmp_path: Path) -> None:
    """compaction_process: it ends with the store; and a killed one is done without."""
    store = opened(tmp_path, compaction_process=True)
    try:
        for number in range(300):
            store.put(b"%04d" % (number * 7 % 300), b"v" * 50)
        store.compact()
        pid = int(store.describe()["work_is_done_by"].removeprefix("process "))
        os.kill(pid, signal.SIGKILL)
        for number in range(300):
            store.put(b"%04d" % number, b"w" * 50)
        store.compact()
        assert store.stats().engine["workers_died"] == 1
        assert dict(store.scan()) == {b"%04d" % number: b"w" * 50 for number in range(300)}
        assert store.check() == []
    finally:
        store.close()
    assert not Path(f"/proc/{pid}").exists()
    assert not list((tmp_path / "db").glob("*.ldb.*"))


def test_damage_in_a_compaction_stops_writing_and_not_reading(tmp_path: Path) -> None:
    """Rule 3 of background.py: corruption_test.cc, CompactionInputErrorParanoid; for threads and without."""
    for number, background in enumerate((True, False)):
        with opened(tmp_path / f"{number}", write_buffer_bytes=1 << 20, level0_files=2, background=background) as store:
            store.put(b"a", b"whole")
            store.put(b"b", b"v" * 500)
            store.flush()
            (path,) = (tmp_path / f"{number}" / "db").glob("*.ldb")
            content = bytearray(path.read_bytes())
            content[200] ^= 0x80  # in the block of "b", because a block has 128 bytes
            path.write_bytes(content)
            store.put(b"aa", b"to be merged with it")
            store.put(b"c", b"whole")
            store.flush()
            until(lambda store=store: store.background.damage is not None)  # type: ignore[misc]
            with pytest.raises(CorruptionError, match="writing has stopped"):
                store.put(b"d", b"4")
            assert store.get(b"c") == b"whole"
            with pytest.raises(CorruptionError):
                store.get(b"b")
            assert len(store.check()) >= 1
