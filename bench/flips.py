"""Where the answer flips: which engine is cheapest while one kind of operation takes a growing share of a mix.

What a mix costs is the sum of what its kinds cost, each times its share. So, if the share x of one kind grows and the
others give way in proportion, the cost of an engine is a straight line in x, and the cheapest engine is the lowest line:

    cost │ bitcask /                     from 0 %     bitcask
         │       /      btree            from 35 %    btree
         │─────x──────────────
         │   /
         └─────┴───────────── share of scans
              35 %

1. A line is known by its two ends: the mix without the kind, and the kind alone.
2. Two lines cross at most once, so an engine that was overtaken never comes back: there are at most as many stretches
   as engines.
3. Of two engines that cost the same, the one that is first in the alphabet wins.

Left out: what operations do to each other (an engine that reads a key which it has just written finds it in memory).
`bench/advise.py` runs the mix itself, so that it can be seen how much that is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bench.workload import Kind, Mix

__all__ = ["Prices", "Stretch", "cheapest", "mix_cost", "stretches", "with_share"]

Prices = Mapping[Kind, float]
"""What one operation of each kind costs an engine, in any one unit."""


@dataclass(frozen=True)
class Stretch:
    """From this share of a kind on (0 to 1) this engine is the cheapest, until the next stretch begins."""

    begins: float
    engine: str


def mix_cost(prices: Prices, mix: Mix) -> float:
    """What an operation of the mix costs on average. Requires: a price for each kind that has a share. O(kinds)."""
    return sum(share * prices[kind] for kind, share in mix.shares.items() if share)


def with_share(mix: Mix, kind: Kind, share: float) -> Mix:
    """The mix with this share of one kind, the others in proportion. Raises ValueError if there are no others."""
    rest = 1 - mix.shares[kind]
    if rest <= 0:
        raise ValueError(f"a mix of nothing but {kind.value} has no other kind that could give way")
    shares = {other.value: held / rest * (1 - share) for other, held in mix.shares.items() if other is not kind}
    return Mix(**shares, **{kind.value: share})


def cheapest(prices: Mapping[str, Prices], mix: Mix) -> list[str]:
    """The engines, the cheapest for the mix first."""
    return sorted(prices, key=lambda engine: (mix_cost(prices[engine], mix), engine))


def stretches(prices: Mapping[str, Prices], mix: Mix, kind: Kind) -> list[Stretch]:
    """Which engine is the cheapest from which share of `kind` on; the first stretch begins at 0.

    Requires: at least one engine, and a mix that has another kind. Raises ValueError for a mix that has none.
    O(engines²).
    """
    without = with_share(mix, kind, 0.0)
    ends = {engine: (mix_cost(each, without), each[kind]) for engine, each in prices.items()}
    at, winner = 0.0, min(ends, key=lambda engine: (*ends[engine], engine))
    found = [Stretch(at, winner)]
    while True:
        begin, end = ends[winner]
        # where another line, which is above the winner's until now and ends below it, meets it; of several that meet it in
        # one point, the one that falls fastest
        crossings = [
            ((other_begin - begin) / ((other_begin - begin) + (end - other_end)), other_end, engine)
            for engine, (other_begin, other_end) in ends.items()
            if other_end < end
        ]
        if not crossings:
            return found
        at, _, winner = min(crossings)
        found.append(Stretch(at, winner))
