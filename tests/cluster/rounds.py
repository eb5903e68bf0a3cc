"""A round: three nodes under load, faults drawn from a seed, then healed; and what has to be true after that.

    start ─ load ─▶ rate? ─▶ fault ─▶ heal ─▶ recovered? ─▶ rate? ─▶ fault ─▶ heal ─▶ … ─▶ end of load ─▶ judge

1. Before each fault at least RATE_MIN requests a second are answered, or the round is void: then it has shown nothing, and
   says so.
2. After each fault a write through every node is acknowledged within a bounded time of the healing.
3. At the end all nodes have applied the same index and answer the same scan. It is part of the history, as a read of every
   key by each node; so "every acknowledged write is there" is one of the things that the checkers judge.
4. The history is linearizable (verdict.py); and so is that of everybody who works beside these clients (BESIDE), each of
   whom has a judge of its own.
5. Every node stops with status 0 when it is asked to, and no process is left.

Whatever fails leaves the nodes' logs, their directories and the history in the round's own, and says how to repeat it.
"""

from __future__ import annotations

import random
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from server.config import NodeConfig
from tests.cluster.clients import Load, pairs_of
from tests.cluster.faults import FAULTS, Stage
from tests.cluster.history import Op, applied_by, save
from tests.cluster.keys import GROUPS
from tests.cluster.lock_load import LockLoad
from tests.cluster.processes import Cluster, Failed, until
from tests.cluster.txn_load import TxnLoad
from tests.cluster.verdict import Verdict, judge
from tests.cluster.watch_load import WatchLoad
from tests.cluster.witness import patched

__all__ = ["BESIDE", "Beside", "Plan", "Report", "VoidRound", "play"]

RATE_MIN = 100
START_S = 30.0
SAME_S = 30.0


class Beside(Protocol):
    """Clients of another kind, beside those of clients.py; `str` tells what they have done. failures: what none must be told."""

    failures: list[BaseException]

    def start(self) -> None: ...

    def stop(self) -> None:
        """Returns when the last answer is there."""

    def judge(self, urls: Mapping[int, str], /) -> str:
        """What is wrong with what they were told, "" if nothing is; asked after `stop`, while all members serve."""

    def save(self, directory: Path, /) -> None:
        """Leaves what they were told in the directory of a round that failed."""


# each is made of: the nodes' URLs, the seed, and when the round began, by time.monotonic
BESIDE: list[Callable[[Mapping[int, str], int, float], Beside]] = [TxnLoad, LockLoad]


class VoidRound(Failed):
    """Too little was going on for the round to mean anything."""


@dataclass(frozen=True)
class Plan:
    """What a round does. calm_s: how long the clients work before each fault. recovery_s: the bound of point 2."""

    seed: int
    faults: Sequence[str]
    calm_s: float = 1.0
    tick_s: float = NodeConfig.tick_s
    recovery_s: float = 15.0
    plant: str = ""
    rate_min: float = RATE_MIN

    def command(self) -> str:
        """One line that repeats it."""
        words = [f"python -m tests.cluster --seed {self.seed}", *(f"--fault {fault}" for fault in self.faults)]
        words += [f"--tick {self.tick_s:g}"] + ([f"--plant {self.plant}"] if self.plant else [])
        return " ".join(words)


@dataclass
class Report:
    """What came of it. recoveries: seconds from the healing to a write through every node, for each fault."""

    plan: Plan
    directory: Path
    verdict: Verdict | None = None
    rates: list[float] = field(default_factory=list)
    recoveries: list[float] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    in_vain: list[str] = field(default_factory=list)
    wrong_beside: list[str] = field(default_factory=list)


def play(plan: Plan, directory: Path) -> Report:
    """Plays a round in a directory of its own, which is removed if nothing fails. Raises Failed, VoidRound."""
    report = Report(plan, directory)
    history: list[Op] = []
    beside: list[Beside] = []
    try:
        with Cluster(directory, tick_s=plan.tick_s, plant=plan.plant) as cluster:
            _play(plan, cluster, report, history, beside)
            for node_id in list(cluster.running):
                cluster.stop(node_id)
            history[:] = patched(history, applied_by(cluster.record(node_id) for node_id in cluster.engines))
        report.verdict = judge(history)
        if not report.verdict.linearizable:
            raise Failed(report.verdict.why)
        if report.wrong_beside:
            raise Failed("\n".join(report.wrong_beside))
    except BaseException as error:
        directory.mkdir(parents=True, exist_ok=True)
        save(directory / "history.ndjson", history)
        for each in beside:
            each.save(directory)
        told = "\n".join(report.told)
        error.add_note(f"{told}\nrepeat: {plan.command()}\nhistory, logs and data: {directory}")
        raise
    shutil.rmtree(directory)
    return report


def _play(plan: Plan, cluster: Cluster, report: Report, history: list[Op], beside: list[Beside]) -> None:
    rng = random.Random(f"round {plan.seed}")
    began = time.monotonic()
    pause = threading.Event()
    cluster.leader(START_S)
    load = Load(cluster.urls(), list(cluster.engines), plan.seed, began)
    urls = {node_id: cluster.url(node_id) for node_id in cluster.engines}
    beside += [make(urls, plan.seed, began) for make in BESIDE]
    beside.append(WatchLoad(urls, cluster.urls()))

    def say(sentence: str) -> None:
        report.told.append(f"{time.monotonic() - began:7.2f} s  {sentence}")

    def wait(seconds: float) -> None:
        pause.wait(seconds)
        failures = [error for each in (load, *beside) for error in each.failures]
        if failures:
            raise Failed(f"a client was told what must not be: {failures[0]!r}") from failures[0]

    try:
        with load, _working(beside):
            for name in plan.faults:
                report.rates.append(_rate(load, plan, wait))
                FAULTS[name](Stage(cluster, rng, wait, say, lambda: len(load.in_vain)))
                cluster.heal()
                healed = time.monotonic()
                _recover(cluster, plan.recovery_s)
                report.recoveries.append(time.monotonic() - healed)
                say(f"serves again {report.recoveries[-1]:.2f} s after the healing")
        wait(0)
        urls = {node_id: cluster.url(node_id) for node_id in cluster.engines}
        _judge(beside, urls, report, say)
    finally:
        history += load.recorder.history()
    report.in_vain = load.in_vain
    pairs = tuple(pair for pair in pairs_of(cluster.same_everywhere(SAME_S)[0]) if pair[0].startswith(GROUPS))
    now = time.monotonic() - began
    # a stale scan, but of a time at which nothing was on its way: the last read of every key, by each node
    history += [Op(90 + node, "scan", GROUPS, None, now, now, 0, node, pairs) for node in cluster.engines]


@contextmanager
def _working(beside: Sequence[Beside]) -> Iterator[None]:
    for each in beside:
        each.start()
    try:
        yield
    finally:
        for each in beside:
            each.stop()


def _judge(beside: Sequence[Beside], urls: Mapping[int, str], report: Report, say: Callable[[str], None]) -> None:
    """While the nodes still serve: what those beside the load have to say."""
    for each in beside:
        why = each.judge(urls)
        report.wrong_beside += [why] if why else []
        say(f"{each}: {'WRONG' if why else 'linearizable'}")


def _rate(load: Load, plan: Plan, wait) -> float:  # type: ignore[no-untyped-def]
    """Requests a second while nothing is broken. Raises VoidRound."""
    before, began = load.recorder.answered, time.monotonic()
    wait(plan.calm_s)
    rate = (load.recorder.answered - before) / (time.monotonic() - began)
    if rate < plan.rate_min:
        raise VoidRound(
            f"{rate:.0f} requests a second before the fault, and {plan.rate_min:g} are asked for: the round is void"
        )
    return rate


def _recover(cluster: Cluster, timeout_s: float) -> None:
    """Returns when a write through every node is acknowledged. Raises Failed."""
    for node_id in cluster.engines:

        def takes_a_write(each: int = node_id) -> bool:
            cluster.require_running(each)
            # a key of no client's: what is written here is nobody's business
            return cluster.ask(each, f"/recovered/{each}", "PUT")[0] == 204

        until(f"node {node_id} takes a write after the healing", takes_a_write, timeout_s)
