"""The adapters of `metcd bench` on the real packages, and one run of everything beside our engines."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.db_bench import DB_BENCH
from bench.peers import PEERS
from bench.run import Plan, run
from bench.subjects import subjects_of
from tests.bench.peer_checks import check_peer


@pytest.mark.parametrize("sync", [False, True])
@pytest.mark.parametrize("name", PEERS)
def test_a_peer_keeps_what_it_is_given(name: str, sync: bool, tmp_path: Path) -> None:
    if not PEERS[name].installed:
        pytest.skip(f"{PEERS[name].package} has no wheel for this Python")
    check_peer(name, tmp_path, sync=sync)


def test_every_peer_runs_every_workload(tmp_path: Path) -> None:
    """But for seekrandom where there is no order, readwhilewriting where there is one thread."""
    plan = Plan(
        subjects=subjects_of([], [], ["all"]), workloads=[*DB_BENCH, "ycsb-a", "get=1,delete=1"], keys=200, repetitions=1,
        directory=str(tmp_path),
    )  # fmt: skip
    results = run(plan, "a test")
    assert all("left out, because the store" in note for note in results.notes), results.notes
    assert len(results.measured) + len(results.notes) == plan.rows
