"""Where a PUT's time goes, from socket to answer: the table in ARCHITECTURE.md.

    python -m tests.bench.put_profile [--clients 1,64] [--seconds 3]

Runs three nodes on three engines in processes of their own, with fsync, and loads the leader as tests/bench/http_load.py
does. Each node wraps the functions that are the stages of a PUT (STAGES), and counts the CPU time of its thread in each
of them, without that of the stages within it; for what waits (WAITS) the wall's time, too. What a wrapper costs is measured
at the start and taken off. A cell is a stage's time, divided by the PUTs that were answered meanwhile.

CPU time, because on a machine that has other work to do most of the wall's time is spent waiting for a core.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

from server import cli
from server.cluster import LocalCluster, LocalNode, default_engines, metcd_command
from tests.bench.http_load import measure
from tests.bench.systems import ours
from tests.server.local_nodes import eventually

# A stage, and the function that it begins with. What is called in it and is no stage of its own counts for it.
STAGES = {
    "epoll, and the loop around it": "server.loop:Loop.wait",
    "recv, and whose turn it is": "server.loop_clients:LoopConnection.ready",
    "parse the head, find the route": "server.loop_clients:LoopConnection._simple_call",
    "begin: check, encode the proposal": "server.loop_calls:Begins.write",
    "peers' frames: recv, check, decode": "server.loop_peers:LoopStream._ready",
    "messages into Raft": "server.intake:Intake.step",
    "proposals into Raft": "server.intake:Intake.propose",
    "out of Raft: Ready, advance": "server.ready:ReadyLoop.run",
    "frames to the peers: encode, write": "server.node:Node.send",
    "the log: encode, write": "server.storage:NodeStorage.persist",
    "the log: fdatasync": "engines.env:_RealFile.sync",
    "apply: decode, build the batch": "server.statemachine_fast:FastMachine.apply",
    "apply: the engine's write": "server.statemachine:StateMachine._write",
    "answer: make it, send it": "server.proposals:Proposals.answer",
}
WAITS = ("the log: fdatasync",)
PROBES = 20_000

Spent = dict[str, list[float]]  # by stage: calls, CPU seconds, wall seconds


class Stages:
    """The stages of one process. For its node's thread."""

    def __init__(self) -> None:
        self.spent: Spent = {stage: [0, 0.0, 0.0] for stage in STAGES}
        self._within: list[float] = [0.0]  # CPU seconds of the stages within each open one
        self._within_cost_s = self._own_cost_s = 0.0
        self._measure_wrapper()

    def _measure_wrapper(self) -> None:
        """What a wrapper adds to its own stage, and to the one around it."""
        self.spent["probe"] = [0, 0.0, 0.0]
        nothing = self.wrapped("probe", lambda: None)
        began = time.thread_time()
        for _ in range(PROBES):
            nothing()
        all_s = (time.thread_time() - began) / PROBES
        _, own_s, _ = self.spent.pop("probe")
        self._own_cost_s = own_s / PROBES
        self._within_cost_s = all_s - self._own_cost_s
        self._within = [0.0]

    def wrapped(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, counted as a stage."""
        spent, within, cpu, wall = self.spent[stage], self._within, time.thread_time, time.perf_counter

        @functools.wraps(function)
        def wrapper(*arguments: Any) -> Any:
            within.append(0.0)
            seen, began = wall(), cpu()
            try:
                return function(*arguments)
            finally:
                took = cpu() - began
                inner = within.pop()
                within[-1] += took + self._within_cost_s
                spent[0] += 1
                spent[1] += took - inner - self._own_cost_s
                spent[2] += wall() - seen

        return wrapper

    def install(self) -> None:
        """Wraps the function of each stage."""
        for stage, place in STAGES.items():
            module, _, path = place.partition(":")
            holder, _, name = path.rpartition(".")
            owner = getattr(importlib.import_module(module), holder)
            setattr(owner, name, self.wrapped(stage, getattr(owner, name)))


class ProfiledCluster(LocalCluster):
    """Nodes that count their stages, and write them down when they get SIGUSR1."""

    def command(self, node: LocalNode) -> list[str]:
        words = super().command(node)[len(metcd_command()) :]
        return [sys.executable, "-m", "tests.bench.put_profile", "--serve", self._file(node.id), *words]

    def _file(self, node_id: int) -> str:
        return f"{os.path.dirname(self.secret_file)}/stages{node_id}"

    def told(self, node_id: int) -> Spent:
        """What a node has spent so far."""
        path = self._file(node_id)
        self.processes[node_id].send_signal(signal.SIGUSR1)
        eventually("a node has told of its stages", lambda: os.path.exists(path))
        with open(path) as file:
            told: Spent = json.load(file)
        os.unlink(path)
        return told


def serve(path: str, words: list[str]) -> int:
    """One node of the cluster."""
    stages = Stages()
    stages.install()

    def tell(*_: object) -> None:
        with open(f"{path}.new", "w") as file:
            json.dump(stages.spent, file)
        os.rename(f"{path}.new", path)

    signal.signal(signal.SIGUSR1, tell)
    return cli.main(words)


def run(clients: Sequence[int], seconds: float) -> dict[str, dict[str, float]]:
    """By column (role and clients), what each stage took for a PUT, in µs."""
    columns: dict[str, dict[str, float]] = {}
    with (
        tempfile.TemporaryDirectory() as directory,
        ours("metcd", default_engines(), f"{directory}/data", kind=ProfiledCluster) as (system, cluster),
    ):
        measure(system, "PUT", 16, 1.0, 1000)
        roles = {"leader": system.leader, "follower": system.leader % len(cluster.nodes) + 1}
        for count in clients:
            before = {role: cluster.told(node) for role, node in roles.items()}
            puts = measure(system, "PUT", count, seconds, 1000).per_second * seconds
            for role, node in roles.items():
                after = cluster.told(node)
                columns[f"{role}, {count} client{'s' * (count > 1)}"] = {
                    name: 1e6 * (after[stage][at] - before[role][stage][at]) / puts
                    for stage in STAGES
                    for at, name in ((1, stage), (2, f"{stage}, by the wall"))
                }
    return columns


def table(columns: dict[str, dict[str, float]]) -> str:
    """As Markdown."""
    lines = ["| µs for each PUT | " + " | ".join(columns) + " |", "|---|" + "---|" * len(columns)]
    for stage in STAGES:
        for name in (stage, *([f"{stage}, by the wall"] if stage in WAITS else [])):
            lines.append(f"| {name} | " + " | ".join(f"{column[name]:.1f}" for column in columns.values()) + " |")
    sums = [sum(column[stage] for stage in STAGES) for column in columns.values()]
    return "\n".join([*lines, "| all, CPU time | " + " | ".join(f"{total:.0f}" for total in sums) + " |"])


def main(arguments: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["--serve"]:
        return serve(words[1], words[2:])
    parser = argparse.ArgumentParser(description="Where a PUT's time goes, from socket to answer.")
    parser.add_argument("--clients", default="1,64", help="(default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each run (default: %(default)s)")
    options = parser.parse_args(words)
    print(table(run([int(count) for count in options.clients.split(",")], options.seconds)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
