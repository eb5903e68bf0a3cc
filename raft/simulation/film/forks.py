"""Other ends of a run: what becomes of it when one message is dropped, or one step of the plan isn't carried out.

    the run     ──●────●────●──────●────●── Election Safety is broken
    --drop 41              └╌╌╌●╌╌╌╌╌╌╌●╌╌ nothing is broken; node 2 leads, and 14 entries are committed
    --skip 7          └╌●╌╌╌╌╌╌●╌╌╌╌●╌╌╌╌╌ the same is broken, later

Each is a real run: the plan with one thing less, played by the simulator. A run has thousands of forks; those that say the
most are kept. Tried are the steps that do harm or move the leadership, and messages whose arrival changed a role, a vote,
a commit index or a log. Of those that end otherwise, first come those in which what was broken holds (or the other way
round), then those with other leaders, then those with another commit index; no two with the same end.

After the fork the network's delays and losses fall on other messages, so everything later may differ: that is what a run
of a distributed system is like. Up to it the two are the same, and the page has that part once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from raft.simulation.film.data import Acts, ended, entries_told, moment_row, sent_row
from raft.simulation.film.recorder import RECEIVED, Film
from raft.simulation.invariants import Violation
from raft.simulation.plan import Kind, Plan
from raft.simulation.simulation import Simulation
from raft.simulation.trace import Trace

__all__ = ["TRIES_MAX", "Fork", "Play", "candidates", "fork_of", "outcome", "telling"]

TRIES_MAX = 10  # for each fork that is asked for
EVENTS_MAX = 400_000  # of all tries together, so that a long run gets fewer

Play = Callable[[Plan, Trace | None], Simulation]
"""Plays a plan, and raises `Violation`."""

_HARM = {kind.value for kind in Kind} - {Kind.PROPOSE.value, Kind.READ.value}
_WEIGHTS = {"role": 8, "vote": 4, "term": 3, "commit": 2, "log": 1}


@dataclass(frozen=True)
class Fork:
    """One thing less. number: of the message, or the step's position in the whole plan. moment: where the run has it."""

    kind: str
    number: int
    moment: int
    plan: Plan


def candidates(plan: Plan, film: Film) -> list[Fork]:
    """What is tried, the most promising first. Requires: the film is of this plan, and has ended."""
    forks = [(9, fork) for fork in _steps(plan, film)]
    for number, sent in enumerate(film.messages, 1):
        if sent.how == RECEIVED and number not in plan.dropped:
            changes = film.moments[sent.ended].changes.get(sent.target, {})
            weight = max((_WEIGHTS.get(name, 0) for name in changes), default=0)
            if weight:
                dropped = replace(plan, dropped=plan.dropped | {number})
                forks.append((weight, Fork("drop", number, sent.moment, dropped)))
    # Of the same weight the later ones first: what is near the end explains it best.
    return [fork for _, fork in sorted(forks, key=lambda pair: (-pair[0], -pair[1].moment))]


def _steps(plan: Plan, film: Film) -> Iterator[Fork]:
    places = {film.steps.get(step, -1): place for place, step in enumerate(plan.steps)}
    for index, moment in enumerate(film.moments):
        if moment.step >= 0 and moment.kind in _HARM:
            place = places[moment.step]
            yield Fork("skip", moment.step, index, plan.with_steps(plan.steps[:place] + plan.steps[place + 1 :]))


def outcome(plan: Plan, play: Play, trace: Trace | None = None) -> tuple[str, tuple[Any, ...]]:
    """What a plan violates, or nothing; and its leaders, by term, and commit index."""
    simulation: list[Simulation] = []
    try:
        simulation.append(play(plan, trace))
    except Violation as violation:
        return str(violation), ()
    history = simulation[0].history
    return "", (tuple(history.leaders.items()), history.commit)


def telling(plan: Plan, film: Film, play: Play, violation: str, count: int, events: int) -> list[Fork]:
    """The `count` forks whose ends differ most from the run's. O(tries) runs."""
    _, facts = outcome(plan, play)
    rule = violation.partition(":")[0]
    found: dict[Any, tuple[tuple[int, ...], Fork]] = {}
    tried = candidates(plan, film)
    tried = _mixed(tried, min(TRIES_MAX * count, EVENTS_MAX // max(1, events)))
    for place, fork in enumerate(tried):
        other, others = outcome(fork.plan, play)
        other_rule = other.partition(":")[0]
        differs = (other_rule != rule, others[:1] != facts[:1], others[1:] != facts[1:])
        end = (other, others)
        if any(differs) and end not in found:
            found[end] = (*map(int, differs), -place), fork
    best = sorted(found.values(), key=lambda pair: pair[0], reverse=True)[:count]
    return sorted((fork for _, fork in best), key=lambda fork: fork.moment)


def _mixed(forks: list[Fork], count: int) -> list[Fork]:
    """Steps and messages in turn, so that a plan full of crashes still has its messages tried."""
    steps = [fork for fork in forks if fork.kind == "skip"]
    messages = [fork for fork in forks if fork.kind == "drop"]
    mixed = [fork for place in range(count) for kind in (messages, steps) for fork in kind[place : place + 1]]
    return mixed[:count]


def fork_of(fork: Fork, film: Film, play: Play, data: dict[str, Any], acts: Acts) -> dict[str, Any]:
    """The fork as the page has it: from the first moment and message that differ from the run's.

    `film` is the run's, `data` its object, `acts` what its moments' last number counts in; they get what is new.
    """
    other = Film(steps=film.steps, dropped=fork.plan.dropped, acting=film.acting, functions=film.functions)
    violation, _ = outcome(fork.plan, play, other)
    other.ends(violation)
    moments = [moment_row(moment, acts) for moment in other.moments]
    messages = [sent_row(sent, 0) for sent in other.messages]
    entries = entries_told(other)
    same, alike = _same(data["moments"], moments), _same(data["messages"], messages)
    return {
        "kind": fork.kind,
        "number": fork.number,
        "at": fork.moment,
        "same_moments": same,
        "moments": moments[same:],
        "same_messages": alike,
        "messages": messages[alike:],
        "entries": {place: text for place, text in entries.items() if data["entries"].get(place) != text},
        "violation": violation,
        "ended": ended(other),
    }


def _same(one: list[Any], other: list[Any]) -> int:
    """How long two lists are the same from the beginning."""
    for place, (left, right) in enumerate(zip(one, other)):
        if left != right:
            return place
    return min(len(one), len(other))
