"""The network of a simulation: when a message arrives, whether it does, and which links are cut.

A link is cut in one direction at a time, so a partition can be full (both ways), one-way, or around one node. A message
is lost if its link is cut when it is sent; what is under way still arrives. Delays differ for each message, so messages overtake each other.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from raft.simulation.plan import Weather

__all__ = ["Network"]


class Network:
    """rng decides about each message. `cut` has the links (from, to) that are cut."""

    def __init__(self, rng: random.Random, weather: Weather) -> None:
        self.rng = rng
        self.weather = weather
        self.cut: set[tuple[int, int]] = set()

    def delays(self, source: int, target: int) -> list[int]:
        """After which times a message arrives: none if it is lost, two if it is repeated."""
        if (source, target) in self.cut:
            return []
        weather, chance = self.weather, self.rng.random() * 1000
        if chance < weather.lost:
            return []
        if chance < weather.lost + weather.repeated:
            return [self._delay(), self._delay()]
        return [self._delay()]

    def _delay(self) -> int:
        (low, high), late = self.weather.latency, self.weather.late
        delay = low + int((high - low) * self.rng.random())
        if late and self.rng.random() * 1000 < late:
            delay += int(10 * high * self.rng.random())
        return delay

    def partition(self, kind: int, ids: Sequence[int], chosen: int) -> set[tuple[int, int]]:
        """The links of one partition, of four kinds: around the chosen node, away from it, to it, or two random halves.

        kind: any number; what is over is the choice of the halves.
        """
        others = [node_id for node_id in ids if node_id != chosen]
        match kind % 4:
            case 0:
                return {(chosen, o) for o in others} | {(o, chosen) for o in others}
            case 1:
                return {(chosen, other) for other in others}
            case 2:
                return {(other, chosen) for other in others}
            case _:
                side = {node_id: kind >> (2 + position) & 1 for position, node_id in enumerate(ids)}
                return {(a, b) for a in ids for b in ids if side[a] != side[b]}
