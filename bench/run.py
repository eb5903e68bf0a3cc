"""A run of the comparison: each subject in each repetition in a fresh process, one after the other, A B C, C B A, A B C.

Interleaved, so that a slow minute of the machine hurts all of them; in turned order, so that none always follows the same.
One process runs at a time. It is given a time, and killed with everything that it has started when that is over, or when
the run is interrupted. A subject that fails costs its own rows, and a note that says why.

Times are normalised at the end: by the fastest probe of the whole run (bench/probe.py).
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import select
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from bench.child import Job, workload_named
from bench.results import Counters, Latency, Machine, Measured, Results, Subject

__all__ = ["Plan", "busy", "run"]

ROOT = str(Path(__file__).resolve().parents[1])
END_S = 30.0  # for a child that has answered everything
BEGIN_S = 60.0
BUSY = 0.5  # a load of that many for each core
TOLD = 300  # characters of what a failed child has said


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is to be measured. limit_s: the most that the timed part of one workload takes; directory: for the stores."""

    subjects: list[Subject]
    workloads: list[str]
    keys: int = 100_000
    value_bytes: int = 100
    repetitions: int = 3
    seed: int = 0
    sync: bool = False
    chooser: str = "zipfian"
    theta: float = 0.99
    limit_s: float = 300.0
    directory: str | None = None

    def __post_init__(self) -> None:
        for name in self.workloads:
            workload_named(name, self.chooser, self.theta)  # raises ValueError

    @property
    def rows(self) -> int:
        """How many measurements it will make, if none is left out."""
        return len(self.subjects) * len(self.workloads) * self.repetitions

    @property
    def settings(self) -> dict[str, Any]:
        """What a document says about it."""
        told = asdict(self)
        del told["subjects"], told["directory"]
        return told | {"plain": os.environ.get("METCD_PLAIN", "")}


def run(plan: Plan, command: str, progress: Callable[[str], None] = lambda row: None) -> Results:
    """Measures everything, and calls `progress` with a name before each row. Raises OSError, KeyboardInterrupt."""
    begun = datetime.now(UTC).isoformat(timespec="seconds")
    found: list[tuple[Subject, int, dict[str, Any]]] = []
    notes: list[str] = []
    failed: list[str] = []
    with tempfile.TemporaryDirectory(
        prefix="metcd-bench-", dir=plan.directory, ignore_cleanup_errors=True
    ) as directory:
        for repetition in range(plan.repetitions):
            for subject in plan.subjects if repetition % 2 == 0 else plan.subjects[::-1]:
                waiting = list(plan.workloads)
                for outcome in _outcomes(plan, subject, repetition, directory):
                    name = waiting[0] if waiting else "the end"
                    if outcome["note"]:
                        notes.append(f"{subject.name}, {name}: {outcome['note']}")
                    if outcome["chunks"]:
                        found.append((subject, repetition, outcome))
                    if "failed" in outcome:
                        failed.append(subject.name)
                    elif waiting:
                        progress(f"{subject.name} {waiting.pop(0)}")
                for name in waiting:
                    progress(f"{subject.name} {name}")
    fastest = min((probe for *_, outcome in found for *_, probe in outcome["chunks"]), default=0.0)
    return Results(
        command=command,
        begun=begun,
        machine=_machine(fastest),
        settings=plan.settings,
        subjects=plan.subjects,
        durability=[],
        measured=[_measured(plan, subject, repetition, outcome, fastest) for subject, repetition, outcome in found],
        notes=list(dict.fromkeys(notes)),
        failed=list(dict.fromkeys(failed)),
    )


def _measured(plan: Plan, subject: Subject, repetition: int, outcome: dict[str, Any], fastest: float) -> Measured:
    """The row of an outcome. Time is that of the chunks which were timed as wholes, scaled to all operations."""
    chunks = outcome["chunks"]
    scale = outcome["operations"] / sum(count for count, *_ in chunks)
    seconds = scale * sum(seconds for _, seconds, _ in chunks)
    normalised = scale * sum(seconds * fastest / probe for _, seconds, probe in chunks)
    counters, latency = outcome["counters"], outcome["latency"]
    return Measured(
        subject=subject.name,
        workload=outcome["workload"],
        keys=plan.keys,
        repetition=repetition,
        operations=outcome["operations"],
        seconds=seconds,
        normalised=seconds if outcome["limited"] else normalised,
        probe_ns=statistics.median(probe for *_, probe in chunks),
        counters=counters and Counters(**counters),
        latency=latency and Latency(**latency),
        disk_bytes=outcome["disk_bytes"],
        live_bytes=outcome["live_bytes"],
        resident_bytes=outcome["resident_bytes"],
        beside=outcome["beside"],
    )


# ---- one child ------------------------------------------------------------------------------------------------------


def _outcomes(plan: Plan, subject: Subject, repetition: int, directory: str) -> Iterator[dict[str, Any]]:
    """What a child answers, in turn; the last has "failed" if it didn't answer everything."""
    limit_s = BEGIN_S + 2 * plan.limit_s * len(plan.workloads)
    with (
        tempfile.TemporaryDirectory(dir=directory, ignore_cleanup_errors=True) as own,
        tempfile.TemporaryFile() as said,
        _started(said) as child,
    ):
        job = Job(
            subject=subject, workloads=plan.workloads, keys=plan.keys, value_bytes=plan.value_bytes, seed=plan.seed,
            repetition=repetition, sync=plan.sync, chooser=plan.chooser, theta=plan.theta, limit_s=plan.limit_s,
            directory=own,
        )  # fmt: skip
        try:
            yield from _conversation(child, job, said, time.monotonic() + limit_s)
        finally:
            _end(child)


def _started(said: IO[bytes]) -> subprocess.Popen[bytes]:
    """A child that waits for its job, in a process group of its own. It runs the sources that this process runs."""
    path = os.pathsep.join(filter(None, [ROOT, os.environ.get("PYTHONPATH", "")]))
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "bench.child"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=said,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": path},
    )


def _conversation(child: subprocess.Popen[bytes], job: Job, said: IO[bytes], until: float) -> Iterator[dict[str, Any]]:
    assert child.stdin is not None and child.stdout is not None, "both are pipes"
    child.stdin.write(json.dumps(asdict(job)).encode() + b"\n")
    child.stdin.flush()
    waiting = b""
    for _ in job.workloads:
        while b"\n" not in waiting:
            if not select.select([child.stdout], [], [], max(0.0, until - time.monotonic()))[0]:
                yield _failed("it took too long, and was stopped")
                return
            if not (read := os.read(child.stdout.fileno(), 1 << 16)):
                yield _failed(_last_words(child, said))
                return
            waiting += read
        line, _, waiting = waiting.partition(b"\n")
        yield json.loads(line)
    try:
        child.wait(END_S)
    except subprocess.TimeoutExpired:
        yield _failed("it didn't end, and was stopped")


def _failed(why: str) -> dict[str, Any]:
    return {"failed": True, "chunks": [], "note": why}


def _last_words(child: subprocess.Popen[bytes], said: IO[bytes]) -> str:
    """Why a child ended: the last line of what it said, which is an exception's."""
    status = child.wait(END_S)
    said.seek(0)
    lines = said.read()[-10_000:].decode("utf-8", "replace").split("\n")
    words = next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
    return f"{words[:TOLD]} (exit status {status})"


def _end(child: subprocess.Popen[bytes]) -> None:
    """Kills what is left of a child and of what it has started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    for pipe in filter(None, (child.stdin, child.stdout)):
        with contextlib.suppress(BrokenPipeError):
            pipe.close()


def busy() -> str:
    """A sentence if the machine has other work; "" if it hasn't, or doesn't tell. To be asked before a run, which is work."""
    try:
        load, cores = os.getloadavg()[0], _cores()
    except OSError:
        return ""
    if load < BUSY * cores:
        return ""
    return f"this machine is busy: a load of {load:.1f} on {cores} cores. What is measured beside it is mostly noise"


def _cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _machine(fastest: float) -> Machine:
    return Machine(
        processor=_processor(),
        cores=_cores(),
        system=platform.platform(),
        python=f"{platform.python_implementation()} {platform.python_version()}",
        probe_ns=fastest,
    )


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
