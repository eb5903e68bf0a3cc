"""The virtual clock: events in the order of their times, clocks that drift, nodes that pause, crash and start."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from raft import Raft
from raft.simulation.invariants import Violation
from raft.simulation.plan import TICK, Kind, Plan, Step, Weather, draw
from raft.simulation.simulation import Simulation, play


def _plan(*steps: Step, **changes: object) -> Plan:
    plan = replace(draw(1, random.Random, "calm"), steps=steps, weather=Weather(late=0, lost=0, repeated=0))
    options = {"election_tick": 10, "async_storage_writes": False}
    return replace(plan, **{"periods": (TICK,) * 3, "options": options, **changes})  # type: ignore[arg-type]


def _simulation(*steps: Step, **changes: object) -> Simulation:
    return Simulation(_plan(*steps, **changes), random.Random)


def test_events_come_in_the_order_of_their_times() -> None:
    simulation = _simulation()
    seen: list[str] = []
    for delay, name in ((30, "c"), (10, "a"), (20, "b"), (20, "b, later")):
        simulation.after(delay, seen.append, name)
    simulation.run_until(25)
    assert seen == ["a", "b", "b, later"]
    assert simulation.now == 25


@pytest.mark.parametrize(("period", "ticks"), [(TICK, 100), (TICK // 2, 200), (2 * TICK, 50)])
def test_a_clock_that_drifts_ticks_more_or_less_often(period: int, ticks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    simulation = _simulation(periods=(period, TICK, TICK))
    counted: list[int] = []
    tick = Raft.tick
    monkeypatch.setattr(Raft, "tick", lambda self: (counted.append(self.id), tick(self)))
    simulation.run_until(100 * TICK)
    assert abs(counted.count(1) - ticks) <= 1
    assert abs(counted.count(2) - 100) <= 1


def test_a_calm_cluster_elects_a_leader_and_commits_what_is_proposed() -> None:
    simulation = play(_simulation(*(Step(at * TICK, Kind.PROPOSE, 0, 0, 0) for at in range(40, 60))))
    assert len(simulation.history.leaders) == 1
    assert simulation.history.commit >= 20


def test_a_paused_node_does_nothing_and_then_goes_on() -> None:
    simulation = _simulation(Step(60 * TICK, Kind.PAUSE, -1, 0, 20 * TICK))
    for step in simulation.plan.steps:
        simulation.after(step.at, simulation.carry_out, step)
    simulation.run_until(61 * TICK)
    [paused] = [peer for peer in simulation.peers.values() if simulation.paused[peer.id] > simulation.now]
    term, records = paused.node.term, len(paused.disk.records)
    simulation.run_until(79 * TICK)
    assert (paused.node.term, len(paused.disk.records)) == (term, records)
    simulation.run_until(90 * TICK)
    assert paused.node.term > term, "the others have elected another leader meanwhile"


def test_a_crashed_node_starts_again_after_its_span() -> None:
    simulation = _simulation(Step(30 * TICK, Kind.CRASH, 0, 0, 5 * TICK))
    simulation.after(30 * TICK, simulation.carry_out, simulation.plan.steps[0])
    simulation.run_until(32 * TICK)
    assert not simulation.peers[1].up
    simulation.run_until(36 * TICK)
    assert simulation.peers[1].up
    assert simulation.peers[1].starts == 2


def test_nodes_that_never_agree_are_a_violation_of_liveness(monkeypatch: pytest.MonkeyPatch) -> None:
    """All three are cut off for good, by a partition that the end of the faults doesn't know of."""
    simulation = _simulation()
    monkeypatch.setattr(simulation.network, "delays", lambda source, target: [])
    with pytest.raises(Violation, match="Liveness: 300 ticks after the last fault"):
        play(simulation)


def test_an_exception_of_a_node_is_a_violation(monkeypatch: pytest.MonkeyPatch) -> None:
    simulation = _simulation(Step(TICK, Kind.PROPOSE, 0, 0, 0))

    def confused(*arguments: object) -> None:
        raise AssertionError("this can't be")

    monkeypatch.setitem(simulation.handlers, Kind.PROPOSE, confused)
    with pytest.raises(Violation, match="a node is confused: this can't be"):
        play(simulation)
