"""What happens in a run, drawn from its seed before it begins: the cluster, the weather, and the steps.

A plan is a value. The simulation adds nothing to it but the delays and losses of single messages, which have a
generator of their own, so a plan with fewer steps is a run like the first one with these steps left out. The search for
a small failing run (minimise.py) rests on that.

Time is in thousandths of a tick of a true clock. A node's own clock may be faster or slower (`periods`).
"""

from __future__ import annotations

import enum
import random
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from raft.kinds import ReadOnlyOption
from raft.simulation.peer import Chance

__all__ = [
    "ANY_LEADER",
    "LEADER",
    "PROFILES",
    "TICK",
    "USUAL",
    "Kind",
    "Plan",
    "Profile",
    "Step",
    "Weather",
    "draw",
    "draw_as",
]

TICK = 1000
"""Units of time in one tick of a true clock."""


LEADER: Final = -1
"""As a step's node: the leader of the highest term, when the step is carried out."""
ANY_LEADER: Final = -2
"""As a step's node: any node that leads in any term; one that was cut off may not know yet that it was replaced."""


class Kind(enum.Enum):
    """What a step does."""

    PROPOSE = "propose"
    READ = "read"
    CRASH = "crash"
    PARTITION = "partition"
    PAUSE = "pause"
    SLOW_DISK = "slow disk"
    SNAPSHOT = "snapshot"
    CHANGE = "change"
    LOSE_DISK = "lose disk"
    CAMPAIGN = "campaign"
    TRANSFER = "transfer"
    FORGET_LEADER = "forget leader"


class Step(NamedTuple):
    """One step of a plan. node: an index into the nodes, or LEADER, or ANY_LEADER. value: a number from which
    the kind takes its choices. span: how long it lasts, where that means something (a crash, a partition)."""

    at: int
    kind: Kind
    node: int
    value: int
    span: int


@dataclass(frozen=True)
class Weather:
    """The network and the disks between and under the nodes; times in units, chances in 1,000.

    latency, disk: from and to. late: how often a message takes up to ten times that, and so overtakes others or is
    overtaken. lost, repeated: how often a message is. driver: how long a driver waits before it takes a Ready.
    """

    latency: tuple[int, int] = (50, 200)
    late: int = 20
    lost: int = 10
    repeated: int = 10
    disk: tuple[int, int] = (20, 200)
    driver: int = 0


@dataclass(frozen=True)
class Plan:
    """One run. nodes: the voters at the start. spares: nodes that run, but are no members yet. options: the nodes'
    configuration. periods: the length of a tick of each node's own clock. length: when the faults end. dropped: messages
    that never arrive, by their numbers: the first that is sent in the run is 1, and a repeated one has two."""

    seed: int
    profile: str
    nodes: int
    spares: int
    options: dict[str, int]
    periods: tuple[int, ...]
    weather: Weather
    length: int
    steps: tuple[Step, ...]
    dropped: frozenset[int] = frozenset()

    def with_steps(self, steps: tuple[Step, ...]) -> Plan:
        """The same run with other steps."""
        return replace(self, steps=steps)


@dataclass(frozen=True)
class Profile:
    """A kind of run: how often each kind of step happens, by weight, and how many there are in 100 ticks."""

    nodes: tuple[int, ...] = (3,)
    spares: int = 0
    steps: int = 110
    ticks: int = 140
    slow: bool = False
    late: tuple[int, ...] = (0, 20, 100)
    drift: tuple[int, ...] = (0, 0, 100, 330)
    options: dict[str, int] = field(default_factory=dict)
    weights: dict[Kind, int] = field(default_factory=dict)


USUAL = {
    Kind.PROPOSE: 50,
    Kind.READ: 16,
    Kind.CRASH: 6,
    Kind.PARTITION: 8,
    Kind.PAUSE: 2,
    Kind.SLOW_DISK: 2,
    Kind.SNAPSHOT: 3,
    Kind.CAMPAIGN: 1,
    Kind.TRANSFER: 2,
    Kind.FORGET_LEADER: 1,
}
"""The weights from which the profiles start."""

PROFILES = {
    "solo": Profile((1,), weights={**USUAL, Kind.READ: 50, Kind.CRASH: 15, Kind.PARTITION: 0}),
    "pair": Profile((2,), weights={**USUAL, Kind.CRASH: 14}),
    "calm": Profile(steps=90, weights={**USUAL, Kind.CRASH: 3, Kind.PARTITION: 3}),
    "split": Profile(weights={**USUAL, Kind.PARTITION: 16, Kind.READ: 40}),
    "crashes": Profile(weights={**USUAL, Kind.CRASH: 20}),
    "churn": Profile(
        (3, 3, 5), steps=240, slow=True, weights={**USUAL, Kind.CAMPAIGN: 30, Kind.PARTITION: 30, Kind.CRASH: 12}
    ),
    "late": Profile(steps=160, late=(200, 400), weights={**USUAL, Kind.READ: 30}),
    "five": Profile((5,), steps=140, weights={**USUAL, Kind.CRASH: 10, Kind.PARTITION: 14}),
    "slow": Profile(slow=True, weights={**USUAL, Kind.PARTITION: 12, Kind.SLOW_DISK: 8}),
    "snapshots": Profile(weights={**USUAL, Kind.SNAPSHOT: 16, Kind.CRASH: 10, Kind.PARTITION: 12}),
    "members": Profile((2, 3, 4), 2, steps=140, weights={**USUAL, Kind.CHANGE: 22, Kind.PARTITION: 12}),
    "lease": Profile(
        # A lease is true while no clock is faster than the leader's by half (raft/lease.py), and no leader is paused.
        drift=(0, 180),
        options={"read_only_option": ReadOnlyOption.LEASE_BASED, "check_quorum": True},
        weights={**USUAL, Kind.READ: 90, Kind.PARTITION: 30, Kind.CAMPAIGN: 4, Kind.TRANSFER: 8, Kind.PAUSE: 0},
    ),
    "handovers": Profile(steps=140, weights={**USUAL, Kind.TRANSFER: 24, Kind.PARTITION: 12}),
}
"""Every seed is of one of these kinds, each as often as the others."""


def draw(seed: int, chance: Chance, profile: str | None = None) -> Plan:
    """The plan of a seed, of the kind that the seed says or of `profile`. Same seed, same plan."""
    rng = chance(f"plan/{seed}")
    name = rng.choice(sorted(PROFILES))
    return draw_as(seed, rng, profile or name, PROFILES[profile or name])


def draw_as(seed: int, rng: random.Random, name: str, kind: Profile) -> Plan:
    """A plan of any kind, drawn with `rng`."""
    nodes = rng.choice(kind.nodes)
    total = nodes + kind.spares
    length = kind.ticks * TICK
    return Plan(
        seed,
        name,
        nodes,
        kind.spares,
        {**_options(rng), **kind.options},
        _periods(rng, kind, total),
        _weather(rng, kind),
        length,
        _steps(rng, kind, total, length),
    )


def _options(rng: random.Random) -> dict[str, int]:
    return {
        "election_tick": rng.choice((3, 4, 4, 6)),
        "max_inflight_msgs": rng.choice((1, 2, 64)),
        "max_size_per_msg": rng.choice((0, 40, 1 << 20)),
        "max_committed_size_per_ready": rng.choice((0, 60)),
        "max_uncommitted_entries_size": rng.choice((0, 0, 8)),
        "pre_vote": rng.random() < 0.4,
        "check_quorum": rng.random() < 0.4,
        "async_storage_writes": rng.random() < 0.35,
        "step_down_on_removal": rng.random() < 0.5,
        "disable_proposal_forwarding": rng.random() < 0.1,
    }


def _periods(rng: random.Random, kind: Profile, total: int) -> tuple[int, ...]:
    """True clocks in half of the runs; else each up to a third faster or slower."""
    drift = rng.choice(kind.drift)
    return tuple(TICK + rng.randint(-drift, drift) for _ in range(total))


def _weather(rng: random.Random, kind: Profile) -> Weather:
    low = rng.choice((10, 50, 200))
    disk = rng.choice((20, 100, 400)) * (5 if kind.slow else 1)
    return Weather(
        latency=(low, low * rng.choice((2, 6, 12))),
        late=rng.choice(kind.late),
        lost=rng.choice((0, 10, 60)),
        repeated=rng.choice((0, 10, 60)),
        disk=(disk // 10, disk * rng.choice((1, 3))),
        driver=rng.choice((0, 0, 100, 400)),
    )


def _steps(rng: random.Random, profile: Profile, total: int, length: int) -> tuple[Step, ...]:
    count = profile.steps * length // (100 * TICK)
    kinds = rng.choices(list(profile.weights), list(profile.weights.values()), k=count)
    times = sorted(rng.randrange(length) for _ in range(count))
    # Four of ten are for a leader: what happens to it matters most.
    return tuple(
        Step(
            at,
            kind,
            (LEADER if rng.random() < 0.8 else ANY_LEADER) if rng.random() < 0.4 else rng.randrange(total),
            rng.getrandbits(24),
            rng.randrange(TICK // 2, 12 * TICK),
        )
        for at, kind in zip(times, kinds)
    )
