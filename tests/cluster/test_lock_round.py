"""The judge of locks finds in real nodes what it has to find; test_short_round.py has it in every run of the tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cluster.node import PLANTS_IN_LOCKS
from tests.cluster.processes import Failed
from tests.cluster.rounds import Plan, VoidRound, play


@pytest.mark.slow
@pytest.mark.parametrize("bug", sorted(PLANTS_IN_LOCKS))
def test_a_bug_planted_in_locks_is_found(bug: str, seed: int, tmp_path: Path) -> None:
    """By the clients of locks, while the others see nothing wrong; and what they were told is left."""
    plan = Plan(seed, ("isolate", "slow_disk"), calm_s=3.0, tick_s=0.05, plant=bug)
    with pytest.raises(Failed, match=r"that it holds, and|was alive") as found:
        play(plan, tmp_path / "round")
    assert not isinstance(found.value, VoidRound)
    assert "Claim(" in (tmp_path / "round" / "lock-history.txt").read_text()
    assert bug in (tmp_path / "round" / "node1.log").read_text()
