"""Which key comes next: the choosers that YCSB made usual (Cooper et al., "Benchmarking Cloud Serving Systems", 2010).

    uniform     every key as often as any other
    zipfian     the key of rank r, from 0 on, in proportion to 1 / (r + 1)^theta: a few keys get most of the requests.
                With theta = 0.99 and 1,000 keys the first gets 13 of 100
    latest      zipfian from the newest key backwards, while keys are added

A rank says how popular a key is; which key has it is drawn once, so that popular keys are no neighbours in the store (YCSB
calls that scrambled). Chance comes from the `random.Random` that is handed in.

The table of a zipfian chooser takes 8 bytes a key, and its ranks are exact. YCSB's needs no table: it uses the formula of
Gray et al. ("Quickly Generating Billion-Record Synthetic Databases", SIGMOD 1994), which is exact for the first two ranks
and near for the others.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from itertools import accumulate
from typing import Protocol

__all__ = ["THETA", "Chooser", "Latest", "Uniform", "Zipfian", "zipf_table"]

THETA = 0.99  # YCSB's


class Chooser(Protocol):
    """Chooses numbers of keys, from 0 on. `grow` says that another key was added, with the next number."""

    def next(self, rng: random.Random) -> int: ...

    def grow(self) -> None: ...


class Uniform:
    """Every key as often as any other. O(1)."""

    def __init__(self, count: int) -> None:
        self.count = count

    def next(self, rng: random.Random) -> int:
        return rng.randrange(self.count)

    def grow(self) -> None:
        self.count += 1


def zipf_table(count: int, theta: float) -> list[float]:
    """For each rank from 0 on, the chance that a draw has that rank or a smaller one: `count` numbers that ascend to 1.0.

    Rank r has a share in proportion to 1 / (r + 1)^theta. The last number is 1.0 exactly, whatever rounding did before:
    a draw may be as near to 1 as a float can be. Requires: count >= 1, theta >= 0. O(count).
    """
    sums = list(accumulate((rank + 1) ** -theta for rank in range(count)))
    return [*(part / sums[-1] for part in sums[:-1]), 1.0]


class Zipfian:
    """A few keys get most of the requests. Keys that are added later are not chosen. O(log count)."""

    def __init__(self, count: int, rng: random.Random, theta: float = THETA) -> None:
        self.table = zipf_table(count, theta)
        self.keys = rng.sample(range(count), count)  # rank → number of the key

    def rank(self, draw: float) -> int:
        """The rank that a draw from [0, 1) falls on: the first whose number in `self.table` is above the draw.

        So rank r is drawn as often as its share of the table is wide. O(log count): the table ascends.
        """
        return bisect_right(self.table, draw)

    def next(self, rng: random.Random) -> int:
        return self.keys[self.rank(rng.random())]

    def grow(self) -> None:
        return


class Latest:
    """The newest key is the most popular, the one before it the second, and so on. O(log count)."""

    def __init__(self, count: int, rng: random.Random, theta: float = THETA) -> None:
        self.count = count
        self.ranks = Zipfian(count, rng, theta)

    def next(self, rng: random.Random) -> int:
        """The number of a key: the newest (`self.count - 1`) for rank 0, the one before it for rank 1, and so on.

        `self.ranks.rank` turns a draw from [0, 1), `rng.random()`, into a rank. Keys are numbered from 0 on in the order in
        which they were added. Ranks were made for the keys of the beginning, and there are never fewer: the number is >= 0.
        """
        return self.count - 1 - self.ranks.rank(rng.random())

    def grow(self) -> None:
        self.count += 1
