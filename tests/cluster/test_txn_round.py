"""The judge of transactions finds in real nodes what it has to find; test_short_round.py has it in every run of the tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cluster.node import PLANTS_IN_V3
from tests.cluster.processes import Failed
from tests.cluster.rounds import Plan, VoidRound, play


@pytest.mark.slow
@pytest.mark.parametrize("bug", sorted(PLANTS_IN_V3))
def test_a_bug_planted_in_v3_is_found(bug: str, seed: int, tmp_path: Path) -> None:
    """By the clients of /v3, while the others see nothing wrong; and their history is left."""
    plan = Plan(seed, ("isolate", "slow_disk"), tick_s=0.05, plant=bug)
    with pytest.raises(Failed, match="the order of the revisions does not explain the history") as found:
        play(plan, tmp_path / "round")
    assert not isinstance(found.value, VoidRound)
    assert "→" in (tmp_path / "round" / "txn-history.txt").read_text()
    assert bug in (tmp_path / "round" / "node1.log").read_text()
