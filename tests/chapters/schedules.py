"""Seeded runs of a Raft cluster with faults, for the chapters about Raft; a failing one is made small, and told.

    play_schedules(history, seed, rounds(80), ELECTIONS)        elections alone: no entry is ever proposed
    play_schedules(history, seed, rounds(80), REPLICATION)      entries are proposed, replicated, committed and applied
    play_script(history, Path("…/05_figure_8.txt"))             no chance at all: each message where the script says

Messages are lost, repeated, late and out of order, links are cut, nodes crash (also in the middle of a write, and lose
what wasn't synced), pause, and start again; raft/simulation/ does it, and checks after each event what has to hold. The
options that a cluster can do without (pre-vote, check-quorum, leases, membership changes, snapshots) are off.

A run that fails is played again with fewer steps, until every step is needed; the test's history then has the run as
text: what each node sent, received and wrote, and what it was after that; and as a film.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from raft.errors import RaftError
from raft.interaction import Script, first_difference, parse_script
from raft.raftpb import ENTRY_NORMAL, Entry, HardState
from raft.simulation.invariants import Violation
from raft.simulation.minimise import kept, minimise
from raft.simulation.peer import Chance
from raft.simulation.plan import TICK, Kind, Plan, Profile, draw_as
from raft.simulation.simulation import Simulation, play
from raft.simulation.trace import Trace
from tests.chapters.kit import History

__all__ = ["ELECTIONS", "REPLICATION", "Elections", "Schedules", "Totals", "play_schedules", "play_script"]

SHORTENINGS = 150  # runs that are spent on making a failing one smaller
SETTLE_TICKS = 200  # after the last fault, a leader that all follow has to be there; some twenty are usual
COMMITTED = (1, 1, 2)  # the terms of the entries that are committed when a run of `Elections` begins
OLD_TERM = 3  # the term of all nodes at that time
TOLD_LINES = 1_500  # of a run that fails, the last ones
FORKS = 3  # other ends in its film

_PLAIN = {"pre_vote": False, "check_quorum": False, "async_storage_writes": False, "max_uncommitted_entries_size": 0}


class Elections(Simulation):
    """A cluster that has a past: a majority has three committed entries, the other nodes have fewer, or other ones that
    were never committed. Who is elected must have the committed ones."""

    def __init__(self, plan: Plan, chance: Chance, trace: Trace | None = None) -> None:
        super().__init__(plan, chance, trace)
        for index, term in enumerate(COMMITTED, 1):
            self.history.see_commit(index, term, leader_term=2)
        rng = chance(f"past/{plan.seed}")
        majority = rng.sample(self.ids, len(self.ids) // 2 + 1)
        for node_id, peer in self.peers.items():
            terms = COMMITTED if node_id in majority else rng.choice([(), (1,), (1, 1), (1,) * 5])
            for index, term in enumerate(terms, 1):
                peer.disk.write(Entry(term, index, ENTRY_NORMAL))
            peer.disk.write(HardState(OLD_TERM, 0, 0))
            peer.disk.sync()
            peer.start()
            self.started(peer)

    def converge(self) -> int:
        """Ends the faults; all nodes have to agree on a leader then."""
        self.end_faults()
        for ticks in range(SETTLE_TICKS):
            self.run_until(self.now + TICK)
            leader = self.leader()
            if leader is not None:
                nodes = [peer.node for peer in self.peers.values()]
                if all((node.lead, node.term) == (leader.id, leader.node.term) for node in nodes):
                    return ticks
        told = ", ".join(
            f"node {peer.id} is {peer.node.role} in term {peer.node.term} and takes {peer.node.lead or 'nobody'} for the leader"
            for peer in self.peers.values()
        )
        raise Violation(
            f"Liveness: {SETTLE_TICKS} ticks after the last fault there is no leader that all follow: {told}"
        )


@dataclass(frozen=True)
class Schedules:
    """A kind of run."""

    name: str
    simulation: type[Simulation]
    profile: Profile

    def plan(self, seed: int) -> Plan:
        """The run of a seed."""
        return draw_as(seed, random.Random(f"{self.name}/{seed}"), self.name, self.profile)

    def run(self, plan: Plan, trace: Trace | None = None) -> Simulation:
        """Plays a plan. Raises `Violation`."""
        return play(self.simulation(plan, random.Random, trace))


ELECTIONS = Schedules(
    "elections",
    Elections,
    Profile(
        (3, 3, 5),
        ticks=70,
        steps=50,
        options=_PLAIN,
        weights={Kind.CRASH: 20, Kind.PARTITION: 30, Kind.CAMPAIGN: 30, Kind.PAUSE: 6, Kind.SLOW_DISK: 6},
    ),
)
REPLICATION = Schedules(
    "replication",
    Simulation,
    Profile(
        (3, 3, 5),
        ticks=70,
        steps=120,
        slow=True,
        options=_PLAIN,
        weights={
            Kind.PROPOSE: 60,
            Kind.CRASH: 10,
            Kind.PARTITION: 20,
            Kind.CAMPAIGN: 16,
            Kind.PAUSE: 3,
            Kind.SLOW_DISK: 5,
        },
    ),
)


@dataclass
class Totals:
    """What the runs have done; runs in which nothing happens would keep every promise, too."""

    runs: int = 0
    leaders: int = 0
    votes: int = 0
    commits: int = 0
    crashes: int = 0


def play_schedules(history: History, seed: int, count: int, schedules: Schedules) -> Totals:
    """Plays `count` runs. Raises AssertionError for the first that breaks a promise of Raft, made small; `history` then
    has what happened in it."""
    totals = Totals()
    for number in range(seed * 1_000_000, seed * 1_000_000 + count):
        plan = schedules.plan(number)
        try:
            simulation = schedules.run(plan)
        except Violation as violation:
            raise AssertionError(_told(history, schedules, plan, str(violation))) from None
        totals.runs += 1
        totals.leaders += len(simulation.history.leaders)
        totals.votes += len(simulation.history.votes)
        totals.commits += simulation.history.commit
        totals.crashes += sum(peer.starts - 1 for peer in simulation.peers.values())
    return totals


def _told(history: History, schedules: Schedules, plan: Plan, violation: str) -> str:
    """Makes a failing run small, writes it into the history, and says what is wrong."""
    rule = violation.partition(":")[0]
    small = kept(plan, *minimise(plan, partial(_breaks, schedules, rule), SHORTENINGS))
    trace = Trace()
    try:
        schedules.run(small, trace)
    except Violation as again:
        violation = str(again)
    history.clear()
    history.do(f"{plan.nodes} nodes, {len(small.steps)} faults; time is in thousandths of a tick")
    history.note("entry 7/2 is the one at index 7, of term 2; heartbeats that change nothing are left out")
    lines = _without_heartbeats(trace.lines)
    if len(lines) > TOLD_LINES:
        history.note(f"... {len(lines) - TOLD_LINES} earlier lines are left out")
    for line in lines[-TOLD_LINES:]:
        history.note(line.strip())
    history.note(violation)
    history.film = _film_of_run(schedules, small)
    return f"{violation}\n  in run {plan.seed} of the {schedules.name}, in which {len(small.steps)} faults are enough for it"


# The text trace is there in any case. The learner's own code runs in a film, and may do anything; and a course directory
# that was made earlier has no films.


def _film_of_run(schedules: Schedules, plan: Plan) -> dict[str, Any] | None:
    """A film of a run that fails; None if there can't be one."""
    try:
        from raft.simulation.film.make import film_of

        return film_of(plan, schedules.run, title=f"{schedules.name}, run {plan.seed}", forks=FORKS)
    except Exception:
        return None


def _film_of_script(script: Script) -> dict[str, Any] | None:
    """A film of a script up to the first output that differs; None if there can't be one."""
    try:
        from raft.interaction.film import film_of_script

        return film_of_script(script, random.Random(0), "a script", log_lines=False)
    except Exception:
        return None


def _without_heartbeats(lines: list[str]) -> list[str]:
    """A run's lines but those about a heartbeat or its answer, unless the next line says what it has changed."""
    told = []
    for line, following in zip(lines, [*lines[1:], ""]):
        changed = " received from " in line and " at term " in following and line.split()[:3] == following.split()[:3]
        if " MsgHeartbeat" not in line or changed:
            told.append(line)
    return told


def _breaks(schedules: Schedules, rule: str, plan: Plan) -> bool:
    """Whether a run breaks this rule."""
    try:
        schedules.run(plan)
    except Violation as violation:
        return str(violation).partition(":")[0] == rule
    except RaftError:
        return False
    return False


def play_script(history: History, file: Path) -> None:
    """Plays a script (raft/interaction), without its log lines. Raises AssertionError at the first output that differs;
    `history` then has the script up to there."""
    script = parse_script(str(file), file.read_text("utf-8"))
    difference = first_difference(script, random.Random(0), log_lines=False)
    if difference is None:
        return
    for directive in script.directives:
        for line in filter(None, directive.head.splitlines()):
            history.do(line)
        told = directive.expected if directive is not difference.directive else f"expected\n{difference.expected}"
        for line in told.splitlines():
            history.note(line)
        if directive is difference.directive:
            break
    for line in f"found\n{difference.actual}".splitlines():
        history.note(line)
    history.film = _film_of_script(script)
    raise AssertionError(f"not what {file.name} says: {difference}")
