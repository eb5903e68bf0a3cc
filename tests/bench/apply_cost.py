"""What applying a put costs on an engine, in batches of some size: µs of CPU time, and what a second form takes.

    python -m tests.bench.apply_cost [--engines lsm,btree,bitcask,memory] [--batch 16] [--puts 50000] [--before]
    python -m tests.bench.apply_cost --compacting [--retention 100000] [--engines …] [--batch 16]

Keys have 16 bytes, values 100; 1,000 keys that are all there. The engine's own threads count, its helper process doesn't.
--before: revisions never begin, so that each put is one row, as in versions without them. METCD_PLAIN=1: the plain form.

--compacting: of 2 * retention puts, so two whole cycles of a leader's compaction, after three; and as many without it. µs of
CPU time for each put: of the node's thread, of the engine's other threads, and of its helper process. Also the bytes that
the engine has written for each put, its files at the end in MB, and the longest batch in ms of the node's thread.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import engines
from engines.kvstore import KVStore
from raft.raftpb import ConfState, Entry
from server.evaluation import Request
from server.mvcc import Writes
from server.mvcc_compaction import due
from server.statemachine import encode_proposal
from server.statemachine_fast import FastMachine

TICK_PUTS = 1_000  # a tenth of a second under load


class Spent(NamedTuple):
    """CPU time in seconds: of the thread that applies, of the process's other threads, of its helper processes."""

    node: float
    threads: float
    helpers: float

    @classmethod
    def now(cls) -> Spent:
        """Up to here."""
        node = time.thread_time()
        return cls(node, time.process_time() - node, sum(helper_times()))


def helper_times() -> Iterator[float]:
    """CPU time of each child of this process, in seconds."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == os.getpid():
            yield (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def compact_to(index: int, term: int, data: bytes, writes: Writes) -> object:
    """Evaluates the one request of this program: a revision, to which it compacts."""
    writes.compact(int(data))
    return None


class Load:
    """A state machine, and puts for it."""

    def __init__(self, store: KVStore, batch: int) -> None:
        self.machine = FastMachine(store)
        self.machine.evaluate = compact_to
        self._batch = batch
        self._index = 0

    def entry(self, *operations: object) -> Entry:
        """The next one."""
        self._index += 1
        return Entry(1, self._index, data=encode_proposal(7, self._index, operations))  # type: ignore[arg-type]

    def begin(self, before: bool) -> None:
        """The first entry; revisions begin, unless `before`."""
        self.machine.apply([self.entry() if before else self.entry(Request(b""))], ConfState((1,)))

    def batches(self, puts: int) -> list[list[Entry]]:
        """That many puts."""
        return [
            [self.entry((b"%016d" % (7919 * (self._index + 1) % 1000), b"x" * 100)) for _ in range(self._batch)]
            for _ in range(puts // self._batch)
        ]

    def tick(self, retention: int) -> tuple[Spent, float]:
        """TICK_PUTS puts, and what a leader then proposes that keeps so many revisions, 0: all. What they cost, and the
        seconds of the longest batch."""
        waiting, state = self.batches(TICK_PUTS), self.machine.revisions
        if state is not None and (oldest := due(state, retention)):
            waiting.append([self.entry(Request(b"%d" % oldest))])
        longest, before = 0.0, Spent.now()
        for entries in waiting:
            begun = time.thread_time()
            self.machine.apply(entries)
            longest = max(longest, time.thread_time() - begun)
        return Spent(*(now - then for now, then in zip(Spent.now(), before))), longest


def measure(engine: str, batch: int, puts: int, before: bool) -> float:
    """µs of CPU time for each put."""
    with tempfile.TemporaryDirectory() as directory, engines.open(f"{directory}/engine", engine, sync=False) as store:
        load = Load(store, batch)
        load.begin(before)
        for entries in load.batches(3000):
            load.machine.apply(entries)
        waiting = load.batches(puts)
        begun = time.process_time()
        for entries in waiting:
            load.machine.apply(entries)
        return 1e6 * (time.process_time() - begun) / puts


def compacting(engine: str, batch: int, retention: int, compact: bool) -> str:
    """A line about 2 * retention puts, in a store that has compacted before; or that never does."""
    with tempfile.TemporaryDirectory() as directory, engines.open(f"{directory}/engine", engine, sync=False) as store:
        load = Load(store, batch)
        load.begin(False)
        for _ in range(3 * retention // TICK_PUTS):
            load.tick(retention if compact else 0)
        spent, longest, written = Spent(0, 0, 0), 0.0, store.stats().bytes_written
        puts = 2 * retention
        for _ in range(puts // TICK_PUTS):
            more, slowest = load.tick(retention if compact else 0)
            spent = Spent(*map(sum, zip(spent, more)))
            longest = max(longest, slowest)
        stats = store.stats()
        node, threads, helpers = (1e6 * each / puts for each in spent)
        return (
            f"{node:10.1f} {threads:8.1f} {helpers:8.1f} {(stats.bytes_written - written) / puts:8,.0f}"
            f" {stats.disk_bytes / 1e6:8.1f} {1e3 * longest:8.1f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description="What applying a put costs.")
    parser.add_argument("--engines", default="lsm,btree,bitcask,memory")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--puts", type=int, default=50_000)
    parser.add_argument("--before", action="store_true", help="without revisions")
    parser.add_argument("--compacting", action="store_true", help="over two cycles of compaction, and without it")
    parser.add_argument("--retention", type=int, default=100_000)
    options = parser.parse_args()
    if options.compacting:
        print("µs of a put:                   node  threads  helpers    bytes  MB then  ms most")
    for engine in options.engines.split(","):
        if options.compacting:
            for compact in (False, True):
                words = "compacting" if compact else "never compacting"
                print(
                    f"{engine:8} {words:16}", compacting(engine, options.batch, options.retention, compact), flush=True
                )
            continue
        print(f"{engine:8} {measure(engine, options.batch, options.puts, options.before):6.1f} µs")


if __name__ == "__main__":
    main()
