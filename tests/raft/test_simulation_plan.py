"""What happens in a run is drawn from its seed before it begins."""

from __future__ import annotations

import random

import pytest

from raft import READ_ONLY_LEASE_BASED, Config, ConfState, MemoryStorage
from raft.simulation.plan import ANY_LEADER, LEADER, PROFILES, TICK, Kind, draw, draw_as
from raft.simulation.readmission import DISK_PROFILES

PLANS = [draw(seed, random.Random) for seed in range(200)]
DISK_PLANS = [
    draw_as(seed, random.Random(seed), name, DISK_PROFILES[name]) for name in DISK_PROFILES for seed in range(5)
]


def test_a_seed_says_all_of_a_plan() -> None:
    assert draw(5, random.Random) == PLANS[5] != PLANS[6]


def test_every_plan_is_a_valid_configuration() -> None:
    for plan in PLANS + DISK_PLANS:
        storage = MemoryStorage(ConfState((1,)))
        Config(id=1, heartbeat_tick=1, storage=storage, rng=random.Random(0), **plan.options).validate()  # type: ignore[arg-type]


def test_steps_come_in_order_before_the_faults_end() -> None:
    for plan in PLANS + DISK_PLANS:
        times = [step.at for step in plan.steps]
        assert times == sorted(times)
        assert times[-1] < plan.length
        nodes = {step.node for step in plan.steps}
        assert nodes <= {LEADER, ANY_LEADER, *range(plan.nodes + plan.spares)}


def test_every_kind_of_step_and_every_option_is_drawn() -> None:
    """A disk is lost only where the nodes know the way back, in runs of the kinds that DISK_PROFILES has."""
    assert {step.kind for plan in PLANS for step in plan.steps} == set(Kind) - {Kind.LOSE_DISK}
    for plan in DISK_PLANS:
        assert Kind.LOSE_DISK in {step.kind for step in plan.steps}, plan.profile
    for option in ("pre_vote", "check_quorum", "async_storage_writes", "step_down_on_removal"):
        assert {plan.options[option] for plan in PLANS} == {True, False}, option


def test_clocks_are_true_in_some_runs_and_drift_in_others() -> None:
    drifts = {max(abs(period - TICK) for period in plan.periods) for plan in PLANS}
    assert 0 in drifts
    assert max(drifts) > TICK // 5


def test_lease_reads_are_asked_for_only_where_a_lease_is_true() -> None:
    """raft/lease.py: no clock faster than the leader's by half, and nobody paused."""
    plans = [draw(seed, random.Random, "lease") for seed in range(50)]
    assert {plan.options["read_only_option"] for plan in plans} == {READ_ONLY_LEASE_BASED}
    assert all(max(plan.periods) < 1.5 * min(plan.periods) for plan in plans)
    assert Kind.PAUSE not in {step.kind for plan in plans for step in plan.steps}


@pytest.mark.parametrize("name", PROFILES)
def test_a_profile_can_be_asked_for(name: str) -> None:
    plan = draw(7, random.Random, name)
    assert plan.profile == name
    assert plan.nodes in PROFILES[name].nodes
