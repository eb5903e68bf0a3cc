"""The simulated network: losses, repeats, delays, and which links a partition cuts."""

from __future__ import annotations

import random

import pytest

from raft.simulation.network import Network
from raft.simulation.plan import Weather

IDS = (1, 2, 3)


def _network(**weather: object) -> Network:
    return Network(random.Random(1), Weather(**{"late": 0, "lost": 0, "repeated": 0, **weather}))  # type: ignore[arg-type]


@pytest.mark.parametrize(("weather", "copies"), [({}, 1), ({"lost": 1000}, 0), ({"repeated": 1000}, 2)])
def test_a_message_arrives_once_or_never_or_twice(weather: dict[str, int], copies: int) -> None:
    network = _network(**weather)
    assert {len(network.delays(1, 2)) for _ in range(100)} == {copies}


def test_a_late_message_takes_much_longer_than_others() -> None:
    latest = {late: max(_network(late=late).delays(1, 2)[0] for _ in range(1)) for late in (0, 1000)}
    delays = [_network(late=0).delays(1, 2)[0] for _ in range(100)]
    assert all(50 <= delay < 200 for delay in delays)
    network = _network(late=1000)
    assert max(network.delays(1, 2)[0] for _ in range(100)) > 1000 > latest[0]


def test_nothing_arrives_over_a_cut_link() -> None:
    network = _network()
    network.cut = {(1, 2)}
    assert network.delays(1, 2) == []
    assert len(network.delays(2, 1)) == 1


@pytest.mark.parametrize(
    ("kind", "cut"),
    [
        (0, {(2, 1), (2, 3), (1, 2), (3, 2)}),
        (1, {(2, 1), (2, 3)}),
        (2, {(1, 2), (3, 2)}),
        (3 + (0b001 << 2), {(1, 2), (1, 3), (2, 1), (3, 1)}),
        (3 + (0b111 << 2), set()),
    ],
)
def test_a_partition_is_around_a_node_or_one_way_or_of_two_halves(kind: int, cut: set[tuple[int, int]]) -> None:
    assert _network().partition(kind, IDS, 2) == cut
