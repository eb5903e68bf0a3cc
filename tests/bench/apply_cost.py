"""What applying a put costs on an engine, in batches of some size: µs of CPU time, and what a second form takes.

    python -m tests.bench.apply_cost [--engines lsm,btree,bitcask,memory] [--batch 16] [--puts 50000] [--before]

Keys have 16 bytes, values 100; 1,000 keys that are all there. The engine's own threads count, its helper process doesn't.
--before: revisions never begin, so that each put is one row, as in versions without them. METCD_PLAIN=1: the plain form.
"""

from __future__ import annotations

import argparse
import tempfile
import time

import engines
from raft.raftpb import ConfState, Entry
from server.evaluation import Request
from server.statemachine import encode_proposal
from server.statemachine_fast import FastMachine


def measure(engine: str, batch: int, puts: int, before: bool) -> float:
    """µs of CPU time for each put."""
    index = 0

    def entry(*operations: object) -> Entry:
        nonlocal index
        index += 1
        return Entry(1, index, data=encode_proposal(7, index, operations))  # type: ignore[arg-type]

    def batches(count: int) -> list[list[Entry]]:
        return [
            [entry((b"%016d" % (7919 * (index + 1) % 1000), b"x" * 100)) for _ in range(batch)]
            for _ in range(count // batch)
        ]

    with tempfile.TemporaryDirectory() as directory, engines.open(f"{directory}/engine", engine, sync=False) as store:
        machine = FastMachine(store)
        machine.apply([entry() if before else entry(Request(b""))], ConfState((1,)))
        for entries in batches(3000):
            machine.apply(entries)
        waiting = batches(puts)
        begun = time.process_time()
        for entries in waiting:
            machine.apply(entries)
        return 1e6 * (time.process_time() - begun) / puts


def main() -> None:
    parser = argparse.ArgumentParser(description="What applying a put costs.")
    parser.add_argument("--engines", default="lsm,btree,bitcask,memory")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--puts", type=int, default=50_000)
    parser.add_argument("--before", action="store_true", help="without revisions")
    options = parser.parse_args()
    for engine in options.engines.split(","):
        print(f"{engine:8} {measure(engine, options.batch, options.puts, options.before):6.1f} µs")


if __name__ == "__main__":
    main()
