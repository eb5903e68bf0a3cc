"""A run in real processes: what fails costs its own rows, and nothing is left."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import pytest

from bench import child
from bench import run as running
from bench.child import Job
from bench.results import Measured, Results
from bench.run import Plan, run
from bench.subjects import engine_subject

BROKEN = Path(__file__).parent / "broken_engines.py"


def measured(directory: Path, *engines: str, workloads: list[str], **words: int) -> Results:
    """A small run of these engines; those with a capital are the broken ones."""
    subjects = [engine_subject(f"{BROKEN}:{name}" if name[0].isupper() else name) for name in engines]
    plan = Plan(subjects=subjects, workloads=workloads, keys=300, repetitions=1, directory=str(directory), **words)
    return run(plan, "a test")


def rows(results: Results) -> list[tuple[str, str]]:
    return [(row.subject, row.workload) for row in results.measured]


def test_a_subject_that_fails_costs_its_own_rows(tmp_path: Path) -> None:
    """And a note has its last words, in one line. What a subject prints is no answer."""
    results = measured(tmp_path, "Failing", "Dying", "Talking", workloads=["fillseq", "fillbatch", "readrandom"])
    assert rows(results) == [
        ("broken_engines.py:Failing", "fillseq"),
        ("broken_engines.py:Dying", "fillseq"),
        *[("broken_engines.py:Talking", workload) for workload in ("fillseq", "fillbatch", "readrandom")],
    ]
    assert results.notes == [
        "broken_engines.py:Failing, fillbatch: for batches (exit status 1)",
        "broken_engines.py:Dying, fillbatch: it said nothing (exit status -9)",
    ]
    assert results.failed == ["broken_engines.py:Failing", "broken_engines.py:Dying"]
    assert os.listdir(tmp_path) == []


def test_a_subject_that_hangs_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "BEGIN_S", 0.5)
    results = measured(tmp_path, "Hanging", workloads=["fillbatch"], limit_s=0)
    assert results.notes == ["broken_engines.py:Hanging, fillbatch: it took too long, and was stopped"]
    assert results.measured == [] and os.listdir(tmp_path) == []


def test_a_machine_with_other_work_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1})
    monkeypatch.setattr(os, "getloadavg", lambda: (0.9, 9, 9))
    assert running.busy() == ""
    monkeypatch.setattr(os, "getloadavg", lambda: (3.21, 0, 0))
    assert running.busy().startswith("this machine is busy: a load of 3.2 on 2 cores")


@contextmanager
def children() -> Iterator[list[int]]:
    """The process ids of the children that are there at the end and weren't at the beginning."""

    def running_ones() -> set[int]:
        return {
            int(child)
            for thread in os.listdir("/proc/self/task")
            for child in Path(f"/proc/self/task/{thread}/children").read_text().split()
        }

    before = running_ones()
    left: list[int] = []
    yield left
    left += running_ones() - before


def test_an_interrupt_leaves_no_process_and_no_file(tmp_path: Path) -> None:
    """Ctrl-C in the middle of the second workload."""
    subject = engine_subject(f"{BROKEN}:Hanging")
    plan = Plan(subjects=[subject], workloads=["fillseq", "fillbatch"], keys=300, directory=str(tmp_path))

    def progress(row: str) -> None:
        raise KeyboardInterrupt

    with children() as left, pytest.raises(KeyboardInterrupt):
        run(plan, "a test", progress)
    assert left == [] and os.listdir(tmp_path) == []


def test_a_child_ends_with_the_process_that_began_it(tmp_path: Path) -> None:
    """Its standard input ends then. It removes its directory, and is in the middle of a workload that never ends."""
    own = tmp_path / "own"
    own.mkdir()
    job = Job(
        subject=engine_subject(f"{BROKEN}:Hanging"), workloads=["fillseq", "fillbatch"], keys=300, value_bytes=100, seed=0,
        repetition=0, sync=False, chooser="zipfian", theta=0.99, limit_s=60, directory=str(own),
    )  # fmt: skip
    words = [sys.executable, "-P", "-m", "bench.child"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdin is not None and child.stdout is not None
        child.stdin.write(json.dumps(asdict(job)) + "\n")
        child.stdin.flush()
        assert json.loads(child.stdout.readline())["workload"] == "fillseq"
        child.stdin.close()
        assert child.wait(60) == -signal.SIGKILL
    assert not own.exists()


def test_a_file_that_comes_while_a_childs_directory_is_removed_goes_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The workload's thread works on until the process is killed."""
    own = tmp_path / "own"
    own.mkdir()
    killed: list[int] = []
    remove = shutil.rmtree

    def removed_beside_a_workload(path: str, ignore_errors: bool) -> None:
        remove(path, ignore_errors=ignore_errors)
        if not calls:
            os.makedirs(own / "store")
        calls.append(path)

    calls: list[str] = []
    monkeypatch.setattr("bench.child.shutil.rmtree", removed_beside_a_workload)
    monkeypatch.setattr("bench.child.os.read", lambda descriptor, size: b"")
    monkeypatch.setattr("bench.child.os.kill", lambda pid, number: killed.append(number))
    child.end_with_parent(str(own))
    assert not own.exists() and len(calls) == 2 and killed == [signal.SIGKILL]


def test_each_workload_finds_the_state_that_it_needs(tmp_path: Path) -> None:
    """After deleterandom there is nothing to read, so the store is filled again; ycsb-d adds keys, and loads anew."""
    workloads = ["deleterandom", "readrandom", "ycsb-d", "ycsb-c", "overwrite", "readseq", "readwhilewriting"]
    results = measured(tmp_path, "bitcask", workloads=workloads)
    assert [row.workload for row in results.measured] == workloads and results.notes == []
    read = {row.workload: row for row in results.measured}
    assert _pairs(read["readrandom"]) == _pairs(read["readseq"]) == 300 and _pairs(read["ycsb-d"]) < 300
    assert read["readseq"].live_bytes == 300 * 116 and read["deleterandom"].live_bytes is None
    beside = read["readwhilewriting"]
    assert beside.beside is not None and beside.beside >= 300, "it lasts until the writer has put them all"
    assert beside.latency is not None and beside.latency.count == beside.operations == _pairs(beside) >= 2_000
    for row in results.measured:
        assert 0 < row.normalised <= row.seconds and row.probe_ns >= results.machine.probe_ns > 0
        assert row.resident_bytes is not None and row.disk_bytes is not None


def _pairs(row: Measured) -> int:
    assert row.counters is not None
    return row.counters.pairs
