"""engines/lsm/executor.py: a thread and a process do the same work, and the thread does what a process can't."""

from __future__ import annotations

import itertools
import multiprocessing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import engines
from engines import CorruptionError
from engines.lsm.compaction import manual
from engines.lsm.core import Core
from engines.lsm.executor import Done, Executor, FlushJob, ProcessExecutor, ThreadExecutor
from engines.lsm.files import log_name, table_name
from engines.lsm.job import Job
from engines.lsm.store import LsmStore

PATIENCE_S = 60.0


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
    assert multiprocessing.active_children() == []


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
    assert len(multiprocessing.active_children()) == 1
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
    """That one and all later ones of the lane; the other lane's process isn't concerned."""
    do(process, kind, store.core, 1_000)
    (child,) = multiprocessing.active_children()
    child.kill()
    child.join(PATIENCE_S)
    for first_number in (2_000, 3_000):
        done = do(process, kind, store.core, first_number)
        assert tables(store.core, done)
    assert process.workers_died == 1
    assert multiprocessing.active_children() == []
    do(process, "compact" if kind == "flush" else "flush", store.core, 4_000)
    assert len(multiprocessing.active_children()) == 1


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
    assert multiprocessing.active_children() == []
    assert tables(store.core, do(process, "flush", store.core, 2_000))
    assert multiprocessing.active_children() == []
