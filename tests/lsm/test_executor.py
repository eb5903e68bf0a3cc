"""engines/lsm/executor.py: a thread and a process do the same work, and the thread does what a process can't."""

from __future__ import annotations

import itertools
import os
import signal
import socket
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import engines
from engines import CorruptionError
from engines.env import Env
from engines.lsm.compaction import manual
from engines.lsm.core import Core
from engines.lsm.executor import Done, Executor, FlushJob, ProcessExecutor, ThreadExecutor
from engines.lsm.files import log_name, table_name
from engines.lsm.job import Job
from engines.lsm.store import LsmStore
from engines.lsm.worker import Compact, FlushLog, Worker, serve
from engines.process import Channel
from engines.simenv import SimEnv


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LsmStore]:
    """A store with four tables in level 0 and a frozen memtable; nothing happens in it by itself."""
    options: dict[str, Any] = {"sync": False, "background": False, "block_bytes": 256, "level0_files": 10}
    with engines.open(str(tmp_path / "db"), "lsm", **options) as store:
        assert isinstance(store, LsmStore)
        for generation in range(4):
            fill(store, generation)
            store.flush()
        fill(store, 4)
        store.core.rotate()
        yield store


def fill(store: LsmStore, generation: int) -> None:
    for number in range(200):
        key = b"%04d" % (number * 7 % 300)
        if number % 9 == generation:
            store.delete(key)
        else:
            store.put(key, b"%d of %d" % (number, generation))


@pytest.fixture
def process(store: LsmStore) -> Iterator[ProcessExecutor]:
    executor = ProcessExecutor(store.core)
    yield executor
    executor.end()
    assert children() == set()


def children() -> set[int]:
    """The processes that this one has started and not yet waited for: zombies are among them."""
    return {int(pid) for path in Path("/proc/self/task").glob("*/children") for pid in path.read_text().split()}


def kill(pid: int) -> None:
    """And waits until it is dead, without taking its end from whoever waits for it."""
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


def flush_job(core: Core) -> FlushJob:
    frozen = core.frozen[0]
    lowest = core.versions.last_sequence + 1
    log_path = f"{core.directory}/{log_name(frozen.log_number)}"
    return FlushJob(frozen.memtable, log_path, lowest, frozen.last_sequence, core.sequence)


def compact_job(core: Core) -> Job:
    version = core.versions.current
    compaction = manual(version, core.options, 0, None, None)
    assert compaction is not None
    return Job.of(compaction, version, core.sequence, core.versions.last_sequence, core.tables.statistics)


def tables(core: Core, done: Done) -> list[bytes]:
    return [Path(f"{core.directory}/{table_name(file.number)}").read_bytes() for file in done.files]


def do(executor: Executor, kind: str, core: Core, first_number: int) -> Done:
    numbers = itertools.count(first_number)
    return executor.flush(flush_job(core), numbers) if kind == "flush" else executor.compact(compact_job(core), numbers)


@pytest.mark.parametrize("kind", ["flush", "compact"])
def test_a_process_writes_the_same_tables_as_a_thread(store: LsmStore, process: ProcessExecutor, kind: str) -> None:
    """Byte for byte, and it says the same of them."""
    here = do(ThreadExecutor(store.core), kind, store.core, 1_000)
    there = do(process, kind, store.core, 2_000)
    assert len(children()) == 1
    assert tables(store.core, there) == tables(store.core, here) != []
    assert [file.number for file in there.files] == [2_000]
    assert [(file.smallest, file.largest, file.statistics) for file in there.files] == [
        (file.smallest, file.largest, file.statistics) for file in here.files
    ]
    assert there[1:] == here[1:]


def test_a_process_that_finds_the_log_rotten_is_not_needed(store: LsmStore, process: ProcessExecutor) -> None:
    """The memtable still knows what the log said."""
    job = flush_job(store.core)
    log = bytearray(Path(job.log_path).read_bytes())
    log[100] ^= 0x80
    Path(job.log_path).write_bytes(log)
    done = process.flush(job, itertools.count(2_000))
    assert tables(store.core, done) == tables(store.core, do(ThreadExecutor(store.core), "flush", store.core, 1_000))
    assert process.workers_died == 0


@pytest.mark.parametrize("kind", ["flush", "compact"])
def test_the_thread_does_the_job_of_a_process_that_died(store: LsmStore, process: ProcessExecutor, kind: str) -> None:
    """That one and all later ones, of both lanes; and nothing is left of it."""
    do(process, kind, store.core, 1_000)
    (child,) = children()
    assert process.where == f"process {child}"
    kill(child)
    for first_number, each in ((2_000, kind), (3_000, "flush"), (4_000, "compact")):
        assert tables(store.core, do(process, each, store.core, first_number))
        assert children() == set()
    assert process.workers_died == 1
    assert "died" in process.where


def test_both_lanes_share_one_process(store: LsmStore, process: ProcessExecutor) -> None:
    """Its memory is paid once."""
    do(process, "flush", store.core, 1_000)
    before = children()
    do(process, "compact", store.core, 2_000)
    assert children() == before and len(before) == 1


def test_a_flush_is_done_between_two_tables_of_a_compaction(
    store: LsmStore, process: ProcessExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """worker.py, rule 4: writers wait for the flush. Here in one thread, with both requests sent before any is answered."""
    first, second = (socket.socketpair() for _ in range(2))
    theirs = [Channel(end) for _, end in (first, second)]
    flushes, compactions = (Channel(end) for end, _ in (first, second))
    core = store.core
    job = flush_job(core)
    answer = serve((core.directory, replace(core.options, max_file_bytes=1_000), core.parts), theirs)
    flushes.send(FlushLog(job.log_path, job.lowest, job.highest, [3_000], None, job.smallest_snapshot))
    compactions.send(Compact(compact_job(core), list(range(2_000, 2_100))))
    answer(theirs[1])
    written = sorted(Path(core.directory).glob(f"*.ldb.{os.getpid()}"), key=lambda path: path.stat().st_mtime_ns)
    assert [path.name[:6] for path in written][:2] == ["003000", "002000"] and len(written) > 3
    assert flushes.receive().files[0].number == 3_000
    assert len(compactions.receive().files) == len(written) - 1
    for each in (*theirs, flushes, compactions):
        each.close()


@pytest.mark.parametrize(("max_frozen", "flushes"), [(2, []), (3, ["FlushLog"])])
def test_a_flush_that_writers_wait_for_is_done_here_while_the_process_is_busy(
    store: LsmStore,
    process: ProcessExecutor,
    monkeypatch: pytest.MonkeyPatch,
    max_frozen: int,
    flushes: list[str],
) -> None:
    """It starts, or compacts; one memtable is frozen, and one more may be, or two."""
    core, asked, work = store.core, list[str](), Worker.do
    core.options = replace(core.options, max_frozen=max_frozen)

    def noted(worker: Worker, request: Any, env: Env) -> Done:
        asked.append(type(request).__name__)
        if isinstance(request, Compact):
            assert tables(core, do(process, "flush", core, 2_000))
        return work(worker, request, env)

    monkeypatch.setattr(Worker, "do", noted)
    process.prepare(1 << 20)
    with monkeypatch.context() as starting:
        starting.setattr(Worker, "is_ready", lambda worker: False)
        assert tables(core, do(process, "flush", core, 1_000))
    assert asked == flushes
    assert tables(core, do(process, "compact", core, 3_000))
    assert asked == [*flushes, "Compact", *flushes]
    assert tables(core, do(process, "flush", core, 4_000))
    assert asked == [*flushes, "Compact", *flushes, "FlushLog"]


def test_a_small_job_starts_no_process(store: LsmStore) -> None:
    """The default: what a thread has done before a process has started."""
    executor = ProcessExecutor(store.core, 1 << 20)
    assert tables(store.core, do(executor, "flush", store.core, 1_000))
    assert tables(store.core, do(executor, "compact", store.core, 2_000))
    assert children() == set() and executor.where == "the threads, so far"
    executor.end()


def test_a_process_is_started_before_the_job_that_needs_it(store: LsmStore) -> None:
    """By the thread that says that one is coming, which doesn't wait; a small one starts none. The job finds it."""
    executor = ProcessExecutor(store.core, 1 << 20)
    executor.prepare((1 << 20) - 1)
    assert children() == set()
    executor.prepare(1 << 20)
    (child,) = children()
    executor.prepare(1 << 30)
    assert tables(store.core, do(executor, "flush", store.core, 1_000))
    assert children() == {child} and executor.where == f"process {child}"
    executor.end()
    executor.prepare(1 << 30)
    assert children() == set()


def test_a_half_full_memtable_starts_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first one's, once; and so does a compaction that is due when a store is opened."""
    monkeypatch.delenv("METCD_PLAIN", raising=False)
    path, most = str(tmp_path / "db"), 4 << 20
    with engines.open(path, "lsm", sync=False, write_buffer_bytes=most) as store:
        assert isinstance(store, LsmStore)
        for number in range(100):
            store.put(b"%d" % number, b"v" * (most // 100))
            assert len(children()) == (number >= 50)
        store.flush()
    assert children() == set()
    with engines.open(path, "lsm", level0_files=1):
        assert len(children()) == 1


@pytest.mark.parametrize(
    ("options", "where"),
    [
        ({}, "the threads, so far"),
        ({"compaction_process": False}, "the threads"),
        ({"background": False}, "the threads"),
        ({"plain": True}, "the threads"),
        ({"plain": True, "compaction_process": True}, "the threads, so far"),
    ],
)
def test_who_works_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], where: str
) -> None:
    """By default a process, where there are threads to wait for it; on a simulated disk and in the plain form never."""
    monkeypatch.delenv("METCD_PLAIN", raising=False)
    with engines.open(str(tmp_path / "db"), "lsm", **options) as store:
        assert store.describe()["work_is_done_by"] == where
    with engines.open("/db", "lsm", env=SimEnv(0)) as store:
        assert store.describe()["work_is_done_by"] == "the threads"


@pytest.mark.parametrize("executable", ["", "/usr/bin/uwsgi", "/no/such/python3"])
def test_where_no_process_can_be_started_the_thread_works(
    store: LsmStore, process: ProcessExecutor, monkeypatch: pytest.MonkeyPatch, executable: str
) -> None:
    """Embedded interpreters; and stats say so."""
    monkeypatch.setattr(sys, "executable", executable)
    for first_number in (1_000, 2_000):
        assert tables(store.core, do(process, "flush", store.core, first_number))
    assert process.refusal is not None and process.refusal in process.where
    assert process.workers_died == 0
    assert children() == set()


def test_damage_that_a_process_finds_is_told_as_if_it_were_found_here(
    store: LsmStore, process: ProcessExecutor
) -> None:
    """The same error, with file and offset."""
    newest = store.core.versions.current.levels[0][0]
    path = Path(f"{store.core.directory}/{table_name(newest.number)}")
    content = bytearray(path.read_bytes())
    content[100] ^= 0x80
    path.write_bytes(content)
    told = []
    for executor in (ThreadExecutor(store.core), process):
        with pytest.raises(CorruptionError) as error:
            executor.compact(compact_job(store.core), itertools.count(1_000))
        told.append((error.value.path, error.value.offset, error.value.why))
    assert told[0] == told[1]
    assert told[0][:2] == (str(path), 0)


def test_after_its_end_the_calling_thread_does_the_work(store: LsmStore, process: ProcessExecutor) -> None:
    """At the interpreter's end, and in a forked child: no process is started any more."""
    do(process, "flush", store.core, 1_000)
    process.end()
    assert children() == set()
    assert tables(store.core, do(process, "flush", store.core, 2_000))
    assert children() == set()
