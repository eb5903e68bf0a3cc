"""A recorded film as one JSON object, which the page reads (film/page/model.js).

    {"format": 1, "title", "words": the command that plays it, "tick": 1000, "nodes",
     "facts": [[name, value], …], "left_out": moments cut from the beginning, "base": {node: state before the first moment},
     "moments": [[at, node, kind, step, [[node, text], …], {node: {field: value}}, cut links or null, act], …],
     "messages": [[from, to, type, text, sent at, in moment, ended at, in moment, how], …]   number 1 is the first
     "acts": [[[[depth, function], …], [[function, line, field], …]], …]        what moments' `act` counts in, from 0; or -1
     "functions": [[path, name, first line, source], …],
     "entries": {"index/term": what it says}, "steps": {position: [kind, at, span]},
     "violation": sentence or "", "ended": {…}, "dropped": [numbers], "skipped": [positions], "forks": […]}

Bounded: a page that takes minutes to open shows nothing. The last MOMENTS_MAX moments are kept, with the state in which
they begin; `left_out` says how many went. Messages keep their numbers, so those from before are there without their text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from raft.simulation.film.recorder import Film, Moment, Sent
from raft.simulation.plan import TICK, Plan

__all__ = [
    "MOMENTS_MAX",
    "Acts",
    "ended",
    "entries_told",
    "film_data",
    "moment_row",
    "sent_row",
    "steps_told",
    "with_sources",
]

Acts = dict[tuple[Any, ...], int]
"""What acted in a moment, each once → its number."""

MOMENTS_MAX = 20_000


def film_data(
    film: Film, title: str, words: str, violation: str, facts: Sequence[tuple[str, str]], acts: Acts
) -> dict[str, Any]:
    """The object, without what `acts` and `film.functions` have: `with_sources` adds it. Requires: `film.ends` was called."""
    out = max(0, len(film.moments) - MOMENTS_MAX)
    base: dict[int, dict[str, Any]] = {node: {} for node in sorted(film.states)}
    for moment in film.moments[:out]:
        for node, changes in moment.changes.items():
            base[node].update(changes)
    return {
        "format": 1,
        "title": title,
        "words": words,
        "tick": TICK,
        "nodes": sorted(film.states),
        "facts": list(facts),
        "left_out": out,
        "base": {node: _shown(state) for node, state in base.items()},
        "moments": [moment_row(moment, acts) for moment in film.moments[out:]],
        "messages": [sent_row(sent, out) for sent in film.messages],
        "entries": entries_told(film),
        "dropped": sorted(film.dropped),
        "violation": violation,
        "ended": ended(film),
        "forks": [],
    }


def with_sources(data: dict[str, Any], film: Film, acts: Acts) -> dict[str, Any]:
    """The object with who acted, and their sources. Requires: no more moments are added to `acts`."""
    functions = [list(film.acting.function(code)) for code in film.functions]
    return {**data, "acts": [list(act) for act in acts], "functions": functions}


def entries_told(film: Film) -> dict[str, str]:
    """What the entries say, by index and term."""
    return {f"{index}/{term}": text for (index, term), text in film.entries.items()}


def moment_row(moment: Moment, acts: Acts) -> list[Any]:
    """A moment as the page has it; `acts` gets what acted, each once."""
    act = -1
    if moment.calls or moment.changed:
        act = acts.setdefault((moment.calls, moment.changed), len(acts))
    changes = {node: _shown(changes) for node, changes in moment.changes.items()}
    return [moment.at, moment.node, moment.kind, moment.step, moment.lines, changes, moment.cut, act]


def _shown(state: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in state.items() if name != "ends"}


def sent_row(sent: Sent, out: int) -> list[Any]:
    """A message as the page has it; moments count from the first that is kept, and are -1 before it."""
    gone = sent.ended != -1 and sent.ended < out
    ended_in = sent.ended - out if sent.ended != -1 else -2
    return [
        sent.source,
        sent.target,
        sent.kind,
        "" if gone else sent.text,
        sent.at,
        max(-1, sent.moment - out),
        sent.ended_at,
        max(-1, ended_in) if ended_in != -2 else -2,
        sent.how,
    ]


def ended(film: Film) -> dict[str, Any]:
    """How the run ended, to hold another one against."""
    leaders = [
        [node, changes.get("term", 0)]
        for moment in film.moments
        for node, changes in moment.changes.items()
        if changes.get("role") == "leader"
    ]
    states = film.states.values()
    return {
        "moments": len(film.moments),
        "messages": len(film.messages),
        "at": film.moments[-1].at if film.moments else 0,
        "elections": len(leaders),
        "term": max((state.get("term", 0) for state in states), default=0),
        "commit": max((state.get("commit", 0) for state in states), default=0),
        "leader": next(
            (node for node, state in film.states.items() if state.get("role") == "leader" and state["up"]), 0
        ),
    }


def steps_told(plan: Plan, positions: Sequence[int]) -> dict[int, list[Any]]:
    """The steps of the plan that are played, by their positions in the whole plan."""
    return {position: [step.kind.value, step.at, step.span] for position, step in zip(positions, plan.steps)}
