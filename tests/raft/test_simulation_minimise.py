"""A failing plan is made small, and what is left still fails."""

from __future__ import annotations

from raft.simulation.minimise import CALM, kept, minimise
from raft.simulation.plan import TICK, Plan
from raft.simulator import plan_of


def test_the_steps_that_matter_are_found() -> None:
    """Two of a hundred are needed, wherever they are."""
    plan = plan_of(1, "five")
    needed = {plan.steps[3], plan.steps[90]}
    calls = []

    def fails(other: Plan) -> bool:
        calls.append(other)
        return needed <= set(other.steps)

    steps, without = minimise(plan, fails)
    assert steps == [3, 90]
    assert without == list(CALM)
    assert len(calls) < 200


def test_weather_that_matters_stays() -> None:
    plan = next(plan for plan in map(plan_of, range(100)) if plan.weather.lost and plan.weather.repeated)
    _, without = minimise(plan, lambda other: other.weather.lost > 0)
    assert "loss" not in without
    assert "repeats" in without


def test_the_search_ends_after_so_many_runs() -> None:
    plan = plan_of(1, "five")
    runs = []
    steps, _ = minimise(plan, lambda other: bool(runs.append(other)) or len(other.steps) >= 20, runs=10)
    assert len(runs) <= 10 + len(CALM)
    assert len(steps) >= 20


def test_kept_leaves_out_what_it_is_told_to() -> None:
    plan = next(plan for plan in map(plan_of, range(100)) if len(set(plan.periods)) > 1)
    calm = kept(plan, [2, 5], ["drift", "loss"])
    assert calm.steps == (plan.steps[2], plan.steps[5])
    assert set(calm.periods) == {TICK}
    assert calm.weather.lost == 0
    assert calm.weather.latency == plan.weather.latency
