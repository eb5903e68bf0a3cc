"""A round of some seconds in every run of the tests: a node is cut off, then the leader killed; and the planted bugs.

The long form is `make chaos` (python -m tests.cluster): every fault of faults.py.
"""

from __future__ import annotations

import re
import threading
from pathlib import Path

import pytest

from tests.cluster.__main__ import ROUNDS_WITH_ALL, drawn, main
from tests.cluster.faults import FAULTS, SHORT
from tests.cluster.history import load
from tests.cluster.node import PLANTS
from tests.cluster.processes import Failed
from tests.cluster.rounds import Plan, VoidRound, play
from tests.cluster.verdict import judge

TICK_S = 0.03  # elections of some 0.4 s in place of 0.7


def test_a_short_round(seed: int, tmp_path: Path) -> None:
    plan = Plan(seed, SHORT, calm_s=0.5, tick_s=TICK_S)
    report = play(plan, tmp_path / "round")
    assert report.verdict is not None
    assert report.verdict.witnessed
    assert report.verdict.operations > 100
    assert len(report.recoveries) == len(SHORT)
    assert not (tmp_path / "round").exists(), "nothing is left of a round that passed"
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(("client-", "proxy"))]


@pytest.mark.slow
@pytest.mark.parametrize("bug", sorted(PLANTS))
def test_a_planted_bug_is_found_in_real_nodes(bug: str, seed: int, tmp_path: Path) -> None:
    """By the search, too, which knows nothing of indexes; and what is left repeats the verdict."""
    plan = Plan(seed, ("isolate", "slow_disk"), tick_s=0.05, plant=bug)
    with pytest.raises(Failed) as found:
        play(plan, tmp_path / "round")
    assert not isinstance(found.value, VoidRound)
    note = "\n".join(found.value.__notes__)
    assert f"python -m tests.cluster --seed {seed} --fault isolate --fault slow_disk --tick 0.05 --plant {bug}" in note
    assert str(tmp_path / "round") in note
    verdict = judge(load(tmp_path / "round" / "history.ndjson"))
    assert verdict.wrong_keys and not verdict.witnessed, verdict.why
    assert bug in (tmp_path / "round" / "node1.log").read_text()


@pytest.mark.slow
def test_a_round_with_too_few_requests_is_void(seed: int, tmp_path: Path) -> None:
    """It has shown nothing, and doesn't pass."""
    with pytest.raises(VoidRound, match=r"\d+ requests a second before the fault, and 1e\+09 are asked"):
        play(Plan(seed, SHORT, calm_s=0.2, tick_s=TICK_S, rate_min=1e9), tmp_path / "round")


def test_ten_rounds_have_every_fault() -> None:
    assert ROUNDS_WITH_ALL <= 10
    for block in (0, 1, 7):
        seeds = range(block * ROUNDS_WITH_ALL, (block + 1) * ROUNDS_WITH_ALL)
        assert {fault for seed in seeds for fault in drawn(seed)} == set(FAULTS)


def test_the_faults_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    assert re.findall(r"^\w+", capsys.readouterr().out, re.MULTILINE) == list(FAULTS)
