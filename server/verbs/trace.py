"""The verb `trace`: a run of Raft as a film, one page of HTML to go through forward and back.

    metcd trace --seed 7                                       a run of the simulator
    metcd trace --seed 7 --profile split --keep 3,17 --without loss,drift
                                                               the words of a failing run, as the simulator prints them
    metcd trace --seed 7 --drop 41                             the same run without message 41
    metcd trace tests/raft/scripts/05_figure_8.txt             a script; it ends where the script is not fulfilled

The film is written into a file beside, or where --html says. `metcd learn trace --html FILE` does the same for a chapter's
test that failed. Exit status: 1 if a property was broken, or the script not fulfilled.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from raft import simulator
from raft.interaction import __main__ as interaction
from server.verbs.words import AddVerb, UsageError, count

__all__ = ["add"]

_PASSED_ON = ("profile", "keep", "without", "skip", "drop", "forks")


def add(verb: AddVerb) -> None:
    """Adds the verb to the parser."""
    parser = verb("trace", _trace, "a run of Raft as a film: one page of HTML, forward and back, with other ends")
    parser.add_argument("script", nargs="?", type=Path, metavar="SCRIPT", help="a script of Raft (tests/raft/scripts)")
    parser.add_argument("--seed", type=count, help="a run of the simulator")
    parser.add_argument("--html", type=Path, metavar="FILE", help="where the film goes (raft-SEED.html, SCRIPT.html)")
    for name in _PASSED_ON:
        parser.add_argument(f"--{name}", metavar=name.upper(), help="as python -m raft.simulator has it")


def _trace(options: argparse.Namespace) -> int:
    if (options.script is None) == (options.seed is None):
        raise UsageError("metcd trace takes a SCRIPT, or --seed N")
    told = [word for name in _PASSED_ON if (value := getattr(options, name)) for word in (f"--{name}", value)]
    if options.script is not None:
        if told:
            raise UsageError(f"{told[0]} is for a run of the simulator, and {options.script} is a script")
        film = options.html or Path(options.script.with_suffix(".html").name)
        return interaction.main(["--html", str(film), str(options.script)])
    film = options.html or Path(f"raft-{options.seed}.html")
    return simulator.main(["--seed", str(options.seed), *told, "--html", str(film)])
