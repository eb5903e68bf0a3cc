"""Two builds of the Raft library beside each other: proposals committed a second, as medians and their ratio.

    python -m tests.bench.raft_compare ../other-checkout [--batches 1,16,64] [--rounds 7] [--features] [--direct]

Each round measures every batch size on both checkouts, one after the other in processes of their own, so that a slow
minute of the machine hurts both. A measurement is a group of three nodes in one process, without disk or network, in
which one node leads and proposes batches; each batch is applied on all three before the next. The messages go through
their bytes, as between processes; --direct hands the objects over, which measures the state machine alone. --features
switches pre_vote and check_quorum on in the build that is measured here (an older one may not have them).

The checkout that is compared needs `raft/` with RawNode, MemoryStorage and `Config(id, election_tick, heartbeat_tick,
storage, rng)`, and nothing else: it is imported from its own folder.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parents[2]
DATA = b"v" * 128
SECONDS = 0.5


class Group:
    """Three nodes that hand each other their messages, and count what they apply."""

    def __init__(self, direct: bool, options: dict[str, Any]) -> None:
        import raft  # of the checkout that PYTHONPATH names

        self.message = raft.Message
        self.direct = direct
        conf_state = raft.ConfState((1, 2, 3))
        self.storages = {node_id: raft.MemoryStorage(conf_state) for node_id in (1, 2, 3)}
        self.nodes = {
            node_id: raft.RawNode(
                raft.Config(
                    id=node_id,
                    election_tick=10,
                    heartbeat_tick=1,
                    storage=storage,
                    rng=random.Random(node_id),
                    **options,
                )
            )
            for node_id, storage in self.storages.items()
        }
        self.applied = dict.fromkeys(self.nodes, 0)
        self.nodes[1].campaign()
        self.settle()

    def settle(self) -> None:
        """Until nobody has anything to do."""
        busy = True
        while busy:
            busy = False
            for node_id, node in self.nodes.items():
                if node.has_ready():
                    busy = True
                    self._process(node_id, node)

    def _process(self, node_id: int, node: Any) -> None:
        ready = node.ready()
        storage = self.storages[node_id]
        storage.append(ready.entries)
        if ready.hard_state is not None:
            storage.set_hard_state(ready.hard_state)
        self.applied[node_id] += len(ready.committed_entries)
        node.advance()
        for message in ready.messages:
            self.nodes[message.to].step(message if self.direct else self.message.decode(message.encode()))


def measure(batch: int, direct: bool, features: bool) -> float:
    """Proposals committed a second by the library that this process imports."""
    group = Group(direct, {"pre_vote": True, "check_quorum": True} if features else {})
    leader, datas = group.nodes[1], [DATA] * batch
    proposals = 0
    begin = time.perf_counter()
    while (taken := time.perf_counter() - begin) < SECONDS:
        leader.propose_batch(datas)
        group.settle()
        proposals += batch
    assert group.applied[1] >= proposals
    return proposals / taken


def measured(checkout: Path, batch: int, words: Sequence[str]) -> float:
    """The same in a process of its own, with that checkout's library."""
    environment = {**os.environ, "PYTHONPATH": str(checkout), "PYTHONSAFEPATH": "1"}
    command = [sys.executable, __file__, "--worker", str(batch), *words]
    ran = subprocess.run(command, env=environment, cwd=checkout, capture_output=True, text=True, timeout=60)
    if ran.returncode:
        raise SystemExit(f"{checkout}: {ran.stderr.strip()}")
    return float(ran.stdout)


def main(words: Sequence[str] | None = None) -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.raft_compare", description=__doc__.split("\n")[0])
    parser.add_argument("checkout", nargs="?", type=Path, help="the other build: a folder with raft/ in it")
    parser.add_argument("--batches", default="1,16,64")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--features", action="store_true", help="pre_vote and check_quorum on, in this build")
    parser.add_argument("--direct", action="store_true", help="messages as objects, not as bytes")
    parser.add_argument("--worker", type=int, metavar="BATCH", help=argparse.SUPPRESS)
    arguments = parser.parse_args(words)
    if arguments.worker is not None:
        print(measure(arguments.worker, arguments.direct, arguments.features))
        return
    if arguments.checkout is None or not (arguments.checkout / "raft" / "__init__.py").exists():
        parser.error("name the checkout to compare with: a folder with raft/ in it")
    direct = ["--direct"] if arguments.direct else []
    own = [*direct, "--features"] if arguments.features else direct
    batches = [int(word) for word in arguments.batches.split(",")]
    rates: dict[tuple[str, int], list[float]] = {}
    for _ in range(arguments.rounds):
        for batch in batches:
            other = measured(arguments.checkout.resolve(), batch, direct)
            rates.setdefault(("other", batch), []).append(other)
            rates.setdefault(("this", batch), []).append(measured(HERE, batch, own))
    print(f"{'batch':>6} {'other, 1/s':>12} {'this, 1/s':>12} {'ratio':>7}")
    for batch in batches:
        other, this = (statistics.median(rates[build, batch]) for build in ("other", "this"))
        print(f"{batch:>6} {other:>12,.0f} {this:>12,.0f} {this / other:>7.2f}")


if __name__ == "__main__":
    main()
