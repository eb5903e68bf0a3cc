"""A node's data directory for the power-cut machine: its identity, and the log that counts the same starts.

Each open is a start. A crash between two of its steps must leave a directory that is whole: one that is refused, because
its log seems older than its identity, would be a node that no power cut should have cost.
"""

from __future__ import annotations

import random
from dataclasses import replace

from engines.env import Env
from engines.errors import CorruptionError
from server.config import NodeConfig
from server.directory import Directory, open_directory
from server.errors import DirectoryRefused
from server.identity import Met
from tests.crash.machine import KILL, REOPEN, ROOT, Step, Subject

__all__ = ["DirectorySubject"]

PEERS = {node: ("127.0.0.1", 3380 + node) for node in (1, 2, 3)}
CONFIG = NodeConfig(1, PEERS, ROOT)

DirectoryModel = tuple[tuple[tuple[int, Met], ...], int]  # whom it has met, and which entry has let it in


class DirectorySubject(Subject):
    """Steps: remember (node, number, starts, session), admit (index); each reopen and kill is another start."""

    name = "directory"
    initial: DirectoryModel = ((), 0)
    poisoned_by = frozenset()  # a failed write leaves the identity as it was, and the next one may succeed

    def __init__(self, steps: int = 40) -> None:
        self.step_count = steps

    def open(self, env: Env) -> Directory:
        try:
            return open_directory(replace(CONFIG, env=env))
        except DirectoryRefused as error:
            raise CorruptionError(ROOT, None, str(error)) from error

    def state(self, handle: Directory) -> DirectoryModel:
        identity = handle.identity
        assert (identity.starts, identity.segment) == (handle.state.starts, handle.wal.segment)
        return tuple(sorted(identity.met.items())), identity.admitted

    def apply(self, handle: Directory, step: Step) -> None:
        if step.kind == "admit":  # of a lost disk: kept out until then
            handle.keep_out("node 2 remembers otherwise")
            handle.admit(*step.arguments)
            assert not handle.identity.kept_out
            return
        node, *met = step.arguments
        handle.remember({node: Met(*met)})

    def after(self, state: DirectoryModel, step: Step) -> list[DirectoryModel]:
        known, admitted = state
        if step.kind == "admit":
            return [(known, *step.arguments)]
        if step.kind != "remember":
            return []
        node, *met = step.arguments
        return [(tuple(sorted({**dict(known), node: Met(*met)}.items())), admitted)]

    def probe(self, state: DirectoryModel) -> Step:
        starts = max((met.starts for _, met in state[0]), default=0)
        return Step("remember", (3, 9, starts + 1, 9), durable=True)

    def steps(self, rng: random.Random) -> list[Step]:
        steps = []
        for number in range(self.step_count):
            kind = rng.choice(("remember", "remember", "admit", REOPEN, KILL))
            if kind == "admit":
                steps.append(Step(kind, (number + 1,), durable=True))
            elif kind == "remember":
                steps.append(Step(kind, (rng.choice((2, 3)), rng.getrandbits(64), number, number), durable=True))
            else:
                steps.append(Step(kind, durable=kind == REOPEN))
        return steps

    def small_steps(self, rng: random.Random) -> list[Step]:
        return [
            Step("remember", (2, 7, 1, 1), durable=True),
            Step(REOPEN),
            Step("admit", (7,), durable=True),
            Step("remember", (3, 8, 1, 1), durable=True),
        ]
