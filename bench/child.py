"""One subject in one repetition: a process of its own, which is told what to do on standard input and answers in lines.

    run.py ── a Job, one line of JSON ──►  child.py  ── for each workload a line: an Outcome, or why there is none ──► run.py

A fresh process has no caches that another subject has filled, no garbage to collect that another one has left, and a
resident set of its own. What the subject prints goes to standard error, so that it can't be taken for an answer. When
standard input ends, whoever began the process is gone: it removes its directory and ends.
"""

from __future__ import annotations

import gc
import json
import os
import random
import shutil
import signal
import sys
import threading
from array import array
from dataclasses import asdict, dataclass
from itertools import cycle, islice
from typing import Any

from bench import chunks
from bench.beside import Writer
from bench.calls import Calls
from bench.chunks import Timed
from bench.counters import difference
from bench.db_bench import DB_BENCH, Task, Workload, values_of
from bench.latency import available
from bench.resident import resident_bytes
from bench.results import Counters, Latency, Subject
from bench.subjects import open_subject
from bench.workload import key_of
from bench.ycsb import YCSB, Choice, hashed_key, mix_workload, ycsb_workload
from engines import Stats

__all__ = ["Job", "Outcome", "end_with_parent", "main", "workload_named"]

LOAD_BATCH = 1_000  # pairs
WARM_GETS = 2_000
REMOVALS_MAX = 100
# of what an engine counts for itself: what is as large as it is, and doesn't only grow
SIZES = frozenset(
    {"cached_blocks", "depth", "fill_percent", "keys", "memtable_bytes", "pages", "segments", "sorted_runs"}
)


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a child has to do. workloads: names, in order; limit_s: for the timed part of each."""

    subject: Subject
    workloads: list[str]
    keys: int
    value_bytes: int
    seed: int
    repetition: int
    sync: bool
    chooser: str
    theta: float
    limit_s: float
    directory: str


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one workload took. chunks: (operations, seconds, probe in ns); limited: by the disk. note: why there is no
    time, or why it is not whole."""

    workload: str
    operations: int = 0
    chunks: list[tuple[int, float, float]]
    limited: bool = False
    counters: Counters | None = None
    latency: Latency | None = None
    disk_bytes: int | None = None
    live_bytes: int | None = None
    resident_bytes: int | None = None
    beside: int | None = None
    note: str = ""


def workload_named(name: str, chooser: str, theta: float) -> Workload:
    """A workload by its name: one of db_bench's, ycsb-a to ycsb-f, or a mix. Raises ValueError."""
    if name in DB_BENCH:
        return DB_BENCH[name]
    if name.startswith("ycsb-") and name[5:] in YCSB:
        return ycsb_workload(name[5:], theta)
    if "=" in name:
        return mix_workload(name, Choice(chooser, theta))
    known = ", ".join([*DB_BENCH, *(f"ycsb-{letter}" for letter in YCSB)])
    raise ValueError(f"no workload is called {name!r}: there is {known}")


class Child:
    """The store of one subject, and what lies in it. `state` is what the last workload has left."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.values = values_of(job.value_bytes, random.Random(job.seed))
        self._open_once()
        self.before_bytes = resident_bytes()
        self.store: Calls | None = None
        self.state, self.written, self.number = "none", False, 0
        self.path = ""

    def _open_once(self) -> None:
        """Opens and closes a store, so that what it imports is there: no workload takes time for it, nor memory."""
        path = os.path.join(self.job.directory, "first")
        store = open_subject(self.job.subject, path, sync=False)
        store.put(b"key", b"value")
        store.close()
        _remove(path)

    def outcome(self, name: str) -> Outcome:
        """Runs one workload, on the store that it needs."""
        job = self.job
        workload = workload_named(name, job.chooser, job.theta)
        rng = random.Random(f"{job.seed} {job.repetition} {name}")
        store = self._store_for(workload)
        if (workload.ordered and store.seek is None) or (workload.beside and store.put_beside is None):
            why = "has no order" if workload.ordered else "is for one thread"
            return Outcome(workload=name, chunks=[], note=f"left out, because the store {why}")
        stats = store.stats() if store.stats else None
        gc.collect()  # what was made before the time begins is not looked through in it
        latencies = workload.latencies if available() or workload.limited else "none"
        beside = Writer(store, job.keys, self.values, rng.random()) if workload.beside else None
        task = Task(job.keys, self.values, rng, beside.made if beside else None)
        try:
            timed = chunks.run(workload.chunks(task, store), latencies, job.limit_s)
        finally:
            written = beside.stop() if beside else None
        self.state = "other" if timed.cut else workload.leaves
        self.written = self.written or workload.writes
        return self._outcome(workload, store, stats, timed, written)

    def _outcome(
        self, workload: Workload, store: Calls, before: Stats | None, timed: Timed, beside: int | None
    ) -> Outcome:
        counters = None
        if before is not None and store.stats:
            counters = _counters(before, store.stats(), timed)
        resident = timed.resident_bytes
        if resident is not None and self.before_bytes is not None:
            resident = max(0, resident - self.before_bytes - timed.own_bytes)
        whole = workload.state == workload.leaves or workload.leaves == "filled"
        pair_bytes = len(key_of(0)) + self.job.value_bytes
        return Outcome(
            workload=workload.name,
            operations=timed.operations,
            chunks=timed.chunks,
            limited=workload.limited,
            counters=counters,
            latency=timed.latencies.latency(),
            disk_bytes=_disk_bytes(self.path),
            live_bytes=self.job.keys * pair_bytes if whole and not timed.cut else None,
            resident_bytes=resident,
            beside=beside,
            note=f"ended after {self.job.limit_s:g} s, with {timed.operations:,} operations" if timed.cut else "",
        )

    def _store_for(self, workload: Workload) -> Calls:
        sync = workload.sync or self.job.sync
        if workload.state == "empty" or self.store is None or self.state != workload.state:
            self._open_empty(sync)
            if workload.state != "empty":
                self._load(workload.state)
        assert self.store is not None, "it was opened above"
        if workload.reopen and self.written and self.store.persistent:
            self._reopen(sync)
        return self.store

    def _open_empty(self, sync: bool) -> None:
        self.close()
        self.number += 1
        self.path = os.path.join(self.job.directory, f"store{self.number}")
        self.store, self.state, self.written = open_subject(self.job.subject, self.path, sync=sync), "none", False

    def _load(self, state: str) -> None:
        """Every key once, in random order and in batches; hashed ones are in random order by themselves."""
        numbers = array("I", range(self.job.keys))
        if state == "filled":
            random.Random(self.job.seed).shuffle(numbers)
        key = key_of if state == "filled" else hashed_key
        pairs = zip(map(key, numbers), cycle(self.values))
        assert self.store is not None, "the caller has opened it"
        while batch := tuple(islice(pairs, LOAD_BATCH)):
            self.store.batch(batch)
        self.state, self.written = state, True

    def _reopen(self, sync: bool) -> None:
        """Opens the store again, and warms it up a little: the first get may open files, and import what reads need."""
        assert self.store is not None, "there is one to be opened again"
        self.store.close()
        self.store, self.written = open_subject(self.job.subject, self.path, sync=sync), False
        key = key_of if self.state == "filled" else hashed_key
        rng = random.Random(self.job.repetition)
        for _ in range(min(WARM_GETS, self.job.keys // 4)):
            self.store.get(key(rng.randrange(self.job.keys)))

    def close(self) -> None:
        """Closes the store, and removes it."""
        if self.store is not None:
            self.store.close()
            self.store = None
            _remove(self.path)


def _remove(path: str) -> None:
    shutil.rmtree(path, ignore_errors=True)
    if os.path.exists(path):  # a store that is a file
        os.unlink(path)


def _counters(before: Stats, after: Stats, timed: Timed) -> Counters:
    """What was counted meanwhile. What the store has put off isn't among it: to flush it here would change what comes next."""
    found = asdict(difference(before, after, timed.operations, timed.pairs))
    own = {name: count if name in SIZES else count - before.engine.get(name, 0) for name, count in after.engine.items()}
    del found["operations"]
    return Counters(**found, engine=own)


def _disk_bytes(path: str) -> int:
    """What the blocks of all files at the path take; a file that goes while it is looked for doesn't count."""
    files = (
        [path] if os.path.isfile(path) else [os.path.join(at, name) for at, _, names in os.walk(path) for name in names]
    )
    total = 0
    for file in files:
        try:
            total += os.stat(file).st_blocks * 512
        except OSError:
            continue
    return total


def _job(text: str) -> Job:
    told: dict[str, Any] = json.loads(text)
    return Job(**{**told, "subject": Subject(**told["subject"])})


def main() -> int:
    """Reads a job, and answers."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    job = _job(sys.stdin.readline())
    threading.Thread(target=end_with_parent, args=(job.directory,), daemon=True).start()
    gc.collect()
    gc.freeze()  # the modules: a subject isn't charged for looking through them
    child = Child(job)
    for name in job.workloads:
        outcome = child.outcome(name)
        print(json.dumps(asdict(outcome)), file=answers, flush=True)
    child.close()
    return 0


def end_with_parent(directory: str) -> None:
    """Waits for the end of standard input, when nobody waits for an answer any more; removes the directory, and ends the
    process. Not by sys.stdin: its buffer's lock would be held at the exit."""
    while os.read(0, 4096):
        pass
    for _ in range(REMOVALS_MAX):  # the workload may make a file in a directory that is being removed
        shutil.rmtree(directory, ignore_errors=True)
        if not os.path.exists(directory):
            break
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
