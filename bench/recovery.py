"""How long a store takes to open after its process was killed: `recover`, a workload of one operation.

    a process puts all keys in batches, unsynced, and kills itself (SIGKILL)    the newest writes are in a log
    another process opens the store, and gets one key                           that is timed

So the time has in it what the subject does for its crash safety: replaying a log, reading hints, looking for the newest
root. The files are in the operating system's cache; a power cut would add reading them.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from itertools import islice
from typing import Any, NoReturn

from bench.probe import probe
from bench.results import Counters, Measured, Subject
from bench.run import Plan
from bench.subjects import open_subject
from bench.workload import key_of

__all__ = ["WORKLOAD", "recovery", "recovery_of_all"]

WORKLOAD = "recover"
BATCH_PAIRS = 1_000
VALUES = 1_000


def recovery_of_all(plan: Plan, progress: Callable[[str], object] = str) -> tuple[list[Measured], list[str]]:
    """A row for each subject and repetition of the plan, not normalised, and sentences about those that failed.

    progress: is called with a name after each.
    """
    found: list[Measured] = []
    notes: list[str] = []
    for repetition in range(plan.repetitions):
        for subject in plan.subjects:
            try:
                found.append(recovery(subject, plan, repetition))
            except (subprocess.SubprocessError, ValueError) as error:
                notes.append(f"{subject.name}, {WORKLOAD}: {error}")
            progress(f"{subject.name} {WORKLOAD}")
    return found, list(dict.fromkeys(notes))


def recovery(subject: Subject, plan: Plan, repetition: int) -> Measured:
    """One opening after a kill, not normalised. Raises SubprocessError, ValueError if a key isn't there."""
    with tempfile.TemporaryDirectory(prefix="metcd-recovery-", dir=plan.directory) as directory:
        job = {"subject": asdict(subject), "path": f"{directory}/store", "keys": plan.keys,
               "value_bytes": plan.value_bytes, "seed": plan.seed}  # fmt: skip
        limit_s = 60 + 2 * plan.limit_s
        filled = _run("fill", job, limit_s)
        if filled.returncode != -signal.SIGKILL:
            raise ValueError(_last(filled))
        opened = _run("open", job, limit_s)
        if opened.returncode:
            raise ValueError(_last(opened))
    told = json.loads(opened.stdout)
    return Measured(
        subject=subject.name, workload=WORKLOAD, keys=plan.keys, repetition=repetition, operations=1,
        seconds=told["seconds"], normalised=told["seconds"], probe_ns=told["probe_ns"],
        counters=told["counted"] and _counters(told["counted"]),
    )  # fmt: skip


def _counters(counted: dict[str, Any]) -> Counters:
    """What the opening and the get took: an engine's counters begin anew with each opening."""
    names = ("user_bytes", "bytes_written", "bytes_read", "reads", "fsyncs", "engine")
    return Counters(pairs=1, **{name: counted[name] for name in names})


def _last(ended: subprocess.CompletedProcess[str]) -> str:
    lines = ended.stderr.strip().splitlines()
    return lines[-1] if lines else f"it ended with status {ended.returncode}"


def _run(verb: str, job: dict[str, Any], limit_s: float) -> subprocess.CompletedProcess[str]:
    """A process, in a group of its own: what it has started is killed with it."""
    words = [sys.executable, "-m", "bench.recovery", verb, json.dumps(job)]
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as child:
        try:
            out, err = child.communicate(timeout=limit_s)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
    return subprocess.CompletedProcess(words, child.returncode, out, err)


# ---- the two processes ---------------------------------------------------------------------------------------------------


def _fill(job: dict[str, Any]) -> NoReturn:
    rng = random.Random(job["seed"])
    values = [rng.randbytes(job["value_bytes"]) for _ in range(VALUES)]
    store = open_subject(Subject(**job["subject"]), job["path"], sync=False)
    numbers = iter(rng.sample(range(job["keys"]), job["keys"]))
    while chunk := list(islice(numbers, BATCH_PAIRS)):
        store.batch([(key_of(number), values[number % VALUES]) for number in chunk])
    os.killpg(0, signal.SIGKILL)  # with what the store has started
    raise AssertionError("a process survived SIGKILL")


def _open(job: dict[str, Any]) -> None:
    subject = Subject(**job["subject"])
    open_subject(subject, f"{job['path']}.warm", sync=False).close()  # imports aren't a part of it
    probes = [probe()]
    began = time.perf_counter()
    store = open_subject(subject, job["path"], sync=False)
    there = store.get(key_of(job["keys"] // 2))
    seconds = time.perf_counter() - began
    probes.append(probe())
    counted = asdict(store.stats()) if store.stats else None
    missing = sum(store.get(key_of(number)) is None for number in range(0, job["keys"], max(1, job["keys"] // 100)))
    store.close()
    if there is None or missing:
        raise ValueError(f"{missing} of about 100 keys that were written before the kill aren't there")
    print(json.dumps({"seconds": seconds, "probe_ns": min(probes), "counted": counted}))


if __name__ == "__main__":
    (_fill if sys.argv[1] == "fill" else _open)(json.loads(sys.argv[2]))
