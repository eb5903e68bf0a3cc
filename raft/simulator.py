"""The command that plays random runs of a cluster, and shows one.

    python -m raft.simulator --seeds 1000               1,000 runs; stops at the first that violates a property
    python -m raft.simulator --seed 7                   one run
    python -m raft.simulator --seed 7 --trace           as text
    python -m raft.simulator --seed 7 --trace mermaid   as a sequence diagram; also svg, and ndjson for etcd's TLA+ spec
    python -m raft.simulator --seed 7 --html FILE       as a film: one page, with other ends of the run (simulation/film/)
    python -m raft.simulator --seed 7 --drop 41 --html FILE      another end: message 41 never arrives
    python -m raft.simulator --seed 7 --skip 12 --html FILE      another end: step 12 of the plan isn't carried out

A failing run is printed as one command that repeats it, then made smaller (simulation/minimise.py) and printed again:

    python -m raft.simulator --seed 7 --keep 3,17,22 --without loss,drift --trace

The exit code is 1 if a property was violated. raft/simulation/ has the parts, and says what is simulated and checked.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from raft.simulation.diagram import to_mermaid, to_svg
from raft.simulation.film.make import film_of, page_of
from raft.simulation.invariants import Violation
from raft.simulation.minimise import CALM, kept, minimise
from raft.simulation.plan import PROFILES, Plan, draw, draw_as
from raft.simulation.readmission import DISK_PROFILES, Readmission
from raft.simulation.simulation import Simulation, play
from raft.simulation.tla import StateTrace, to_ndjson
from raft.simulation.trace import Trace

__all__ = ["FORKS", "FORMATS", "Totals", "main", "plan_of", "run", "smaller", "trace_of"]

FORMATS = ("text", "mermaid", "svg", "ndjson")
FORKS = 5  # other ends in a film, if the command doesn't say how many


@dataclass
class Totals:
    """What many runs have done; runs in which nothing happens would keep every property, too."""

    runs: int = 0
    events: int = 0
    leaders: int = 0
    commits: int = 0
    reads: int = 0

    def add(self, simulation: Simulation) -> None:
        """One more run."""
        self.runs += 1
        self.events += simulation.events
        self.leaders += len(simulation.history.leaders)
        self.commits += simulation.history.commit
        self.reads += simulation.history.reads_answered

    def __str__(self) -> str:
        return (
            f"{self.runs} runs, 0 violations: {self.events} events, {self.leaders} leaders, {self.commits} commits, "
            f"{self.reads} reads"
        )


def plan_of(seed: int, profile: str | None = None) -> Plan:
    """The plan of a seed. Disks are lost only in the profiles that say so."""
    if profile in DISK_PROFILES:
        return draw_as(seed, random.Random(f"plan/{seed}"), profile, DISK_PROFILES[profile])
    return draw(seed, random.Random, profile)


def run(plan: Plan, trace: Trace | None = None) -> Simulation:
    """Plays a plan. Raises `Violation`."""
    kind = Readmission if plan.profile in DISK_PROFILES else Simulation
    return play(kind(plan, random.Random, trace))


def violation_of(plan: Plan) -> str:
    """The property that a plan violates and how, or nothing."""
    try:
        run(plan)
    except Violation as violation:
        return str(violation)
    return ""


def smaller(plan: Plan) -> tuple[list[int], list[str]]:
    """Positions of steps, and kinds of weather left out, that are enough to violate the same property."""
    rule = violation_of(plan).partition(":")[0]
    return minimise(plan, lambda other: violation_of(other).partition(":")[0] == rule)


def trace_of(plan: Plan, form: str) -> tuple[str, str]:
    """The run in one of FORMATS, and the violation in which it ended, if it did."""
    trace = StateTrace() if form == "ndjson" else Trace()
    violation = ""
    try:
        run(plan, trace)
    except Violation as caught:
        violation = str(caught)
    if isinstance(trace, StateTrace):
        return to_ndjson(trace), violation
    if form == "text":
        return "\n".join([*trace.lines, ""]), violation
    return (to_mermaid if form == "mermaid" else to_svg)(trace), violation


def command(plan: Plan, steps: Sequence[int] | None = None, without: Sequence[str] = ()) -> str:
    """The command line that repeats a run."""
    words = ["python -m raft.simulator --seed", str(plan.seed), "--profile", plan.profile]
    if steps is not None:
        words += ["--keep", ",".join(map(str, steps)) or "none"]
    if without:
        words += ["--without", ",".join(without)]
    if plan.dropped:
        words += ["--drop", ",".join(map(str, sorted(plan.dropped)))]
    return " ".join(words)


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m raft.simulator", description="Random runs of a Raft cluster.")
    parser.add_argument("--seed", type=int, help="play this run")
    parser.add_argument("--seeds", type=int, metavar="N", help="play N runs")
    parser.add_argument("--first", type=int, default=0, metavar="SEED", help="the first of them (0)")
    parser.add_argument(
        "--profile", choices=sorted({**PROFILES, **DISK_PROFILES}), help="the kind of run; else each seed has its own"
    )
    parser.add_argument("--keep", metavar="I,J,…", type=_numbers, help="play only these steps of the plan")
    parser.add_argument("--without", metavar="NAME,…", help=f"leave out: {', '.join(CALM)}")
    parser.add_argument(
        "--skip", metavar="I,J,…", type=_numbers, default=[], help="play all steps of the plan but these"
    )
    parser.add_argument(
        "--drop",
        metavar="I,J,…",
        type=_numbers,
        default=[],
        help="these messages never arrive; a film shows their numbers",
    )
    parser.add_argument("--trace", nargs="?", const="text", choices=FORMATS, help="show the run")
    parser.add_argument("--html", metavar="FILE", type=Path, help="write the run as a film, one page of HTML")
    parser.add_argument("--forks", type=int, default=FORKS, metavar="K", help=f"other ends in the film ({FORKS})")
    arguments = parser.parse_args(words)
    if (arguments.seed is None) == (arguments.seeds is None):
        parser.error("give --seed or --seeds")
    names = arguments.without.split(",") if arguments.without else []
    if unknown := sorted(set(names) - set(CALM)):
        parser.error(f"--without knows {', '.join(CALM)}; not {', '.join(unknown)}")
    arguments.without = names
    return arguments


def _numbers(text: str) -> list[int]:
    """An argument of numbers; "none" has none. Raises `ArgumentTypeError`."""
    words = text.split(",") if text != "none" else []
    if not all(word.isascii() and word.isdigit() and len(word) < 10 for word in words):
        raise argparse.ArgumentTypeError(f"it is numbers with commas between them, as 3,17, and not {text!r}")
    return list(map(int, words))


def _one(arguments: argparse.Namespace) -> tuple[Plan, list[int]]:
    """The plan that is asked for, and where its steps stand in the whole one."""
    plan = plan_of(arguments.seed, arguments.profile)
    everything: Sequence[int] = range(len(plan.steps))
    if arguments.keep is not None:
        everything = [position for position in arguments.keep if position < len(plan.steps)]
    positions = [position for position in everything if position not in arguments.skip]
    return replace(kept(plan, positions, arguments.without), dropped=frozenset(arguments.drop)), positions


def _film(arguments: argparse.Namespace, plan: Plan, positions: Sequence[int]) -> dict[str, Any]:
    """The film of a run, with the command that plays it."""
    everything = sorted({*positions, *arguments.skip}) if arguments.keep is not None else None
    return film_of(
        plan,
        run,
        title=f"Raft, seed {plan.seed}",
        words=command(replace(plan, dropped=frozenset()), everything, arguments.without),
        forks=arguments.forks,
        steps=dict(zip(plan.steps, positions)),
        skipped=arguments.skip,
    )


def _report(plan: Plan, violation: str) -> None:
    print(f"seed {plan.seed}: {violation}\n    {command(plan)}", flush=True)
    steps, without = smaller(plan)
    print(f"{len(steps)} of {len(plan.steps)} steps are enough:\n    {command(plan, steps, without)} --trace")


def main(words: Sequence[str] | None = None) -> int:
    """The command. Returns the exit code."""
    arguments = _arguments(words)
    if arguments.seeds is not None:
        totals = Totals()
        for seed in range(arguments.first, arguments.first + arguments.seeds):
            plan = kept(plan_of(seed, arguments.profile), range(1 << 20), arguments.without)
            try:
                totals.add(run(plan))
            except Violation as caught:
                _report(plan, str(caught))
                return 1
        print(totals)
        return 0
    plan, positions = _one(arguments)
    if arguments.html is not None:
        data = _film(arguments, plan, positions)
        arguments.html.write_text(page_of(data), "utf-8")
        print(
            f"{arguments.html}: seed {plan.seed}, {len(data['moments'])} moments, {data['violation'] or 'no violation'}"
        )
        return int(bool(data["violation"]))
    if arguments.trace:
        text, violation = trace_of(plan, arguments.trace)
        sys.stdout.write(text)
        if violation:
            print(violation, file=sys.stderr)
        return int(bool(violation))
    violation = violation_of(plan)
    if violation and arguments.keep is None and not arguments.skip and not arguments.drop:
        _report(plan, violation)
    else:
        print(f"seed {plan.seed}: {violation or 'no violation'}")
    return int(bool(violation))


if __name__ == "__main__":
    raise SystemExit(main())
