"""From a plan to the film's page: plays it, finds its forks, and puts data, style and script into one file of HTML.

    film_of(plan, play, title="seed 7", words="python -m raft.simulator --seed 7")     the JSON object
    page_of(data)                                                                       the page

The page is whole: its style, script and data stand in it, and its Content-Security-Policy allows these and nothing else,
so it opens from a mail or a disk, and asks no network for anything. What the page does is in film/page/*.js, in the order
of SCRIPTS; they are joined into one script.

`lines_of` makes a film of any history of lines, as a chapter's test writes it: operations, each with what followed.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from raft.simulation.film.data import Acts, film_data, steps_told, with_sources
from raft.simulation.film.forks import Play, fork_of, outcome, telling
from raft.simulation.film.recorder import Film
from raft.simulation.plan import Plan, Step

__all__ = ["SCRIPTS", "film_of", "lines_of", "page_of"]

SCRIPTS = ("dom", "model", "words", "list", "stage", "diagram", "code", "forks", "main")


def film_of(
    plan: Plan,
    play: Play,
    *,
    title: str,
    words: str = "",
    forks: int = 0,
    steps: Mapping[Step, int] | None = None,
    skipped: Sequence[int] = (),
) -> dict[str, Any]:
    """Plays a plan once, and its forks, and returns the film as an object for JSON.

    words: the command that plays it, without its --drop and --skip; the page adds them. steps: where each step stands in
    the whole plan, if some were left out; skipped: those that were left out by hand. A film that was cut has no forks.
    """
    positions = steps if steps is not None else {step: place for place, step in enumerate(plan.steps)}
    film = Film(steps=positions, dropped=plan.dropped)
    violation, _ = outcome(plan, play, film)
    film.ends(violation)
    acts: Acts = {}
    data = film_data(film, title, words, violation, _facts(plan), acts)
    data["steps"] = steps_told(plan, [positions[step] for step in plan.steps])
    data["skipped"] = sorted(skipped)
    if forks and not data["left_out"]:
        found = telling(plan, film, play, violation, forks, len(film.moments))
        data["forks"] = [fork_of(fork, film, play, data, acts) for fork in found]
    return with_sources(data, film, acts)


def _facts(plan: Plan) -> list[tuple[str, str]]:
    weather = plan.weather
    told = [
        ("kind of run", plan.profile),
        ("a message takes", f"{weather.latency[0] / 1000:g} to {weather.latency[1] / 1000:g} ticks"),
        ("of 1,000 messages", f"{weather.lost} are lost, {weather.repeated} repeated, {weather.late} late"),
        ("a write takes", f"{weather.disk[0] / 1000:g} to {weather.disk[1] / 1000:g} ticks"),
    ]
    if len(set(plan.periods)) > 1:
        told.append(("length of a node's tick", ", ".join(f"{period / 1000:g}" for period in plan.periods)))
    return told + [(name.replace("_", " "), str(value)) for name, value in plan.options.items()]


def lines_of(lines: Sequence[str], title: str, violation: str = "") -> dict[str, Any]:
    """A film of a history: a line that begins with a number is an operation, and those after it are what followed."""
    moments: list[list[Any]] = []
    for line in lines:
        number, _, rest = line.strip().partition("  ")
        operation = number.isdigit()
        if operation or not moments:
            moments.append([len(moments), 0, "does", -1, [], {}, None, -1])
        moments[-1][4].append([0, rest if operation else line.strip()])
    empty: dict[str, Any] = {
        name: [] for name in ("nodes", "facts", "messages", "acts", "functions", "forks", "dropped", "skipped")
    }
    whole = {"format": 1, "title": title, "words": "", "tick": 1, "left_out": 0, "moments": moments}
    return {**empty, **whole, "base": {}, "entries": {}, "steps": {}, "violation": violation, "ended": {}}


def page_of(data: Mapping[str, Any]) -> str:
    """The page as HTML. Equal data make equal pages."""
    folder = files("raft.simulation.film") / "page"
    style = (folder / "film.css").read_text("utf-8")
    script = "".join((folder / f"{name}.js").read_text("utf-8") for name in SCRIPTS)
    script = f'"use strict";\n(() => {{\n{script}}})();\n'
    # In a script element only "<" can end the element; as an escape it is the same to JSON.
    told = json.dumps(data, separators=(",", ":"), ensure_ascii=False).replace("<", "\\u003c")
    parts = {
        "title": html.escape(str(data["title"])),
        "policy": f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; base-uri 'none'; form-action 'none'",
        "style": style,
        "script": script,
        "data": told,
    }
    text = (folder / "film.html").read_text("utf-8")
    pieces = text.split("@@")
    return "".join(parts[piece] if place % 2 else piece for place, piece in enumerate(pieces))


def _hash(text: str) -> str:
    """A script or style as a Content-Security-Policy names it."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
