"""A failed test's history as a film: one page of HTML, in which one goes through it forward and back.

A run of Raft has nodes, messages, and the learner's own functions that acted (raft/simulation/film/); any other history is
a film of its lines: operations, and what followed each.
"""

from __future__ import annotations

import json
from pathlib import Path

from raft.simulation.film.make import lines_of, page_of
from tutorial.learn.check import Outcome
from tutorial.learn.errors import LearnError
from tutorial.learn.screen import say

__all__ = ["write_film"]


def write_film(file: Path, test: Outcome) -> None:
    """Writes the film of a failed test. Raises LearnError if the test has no history."""
    if test.film:
        data = {**json.loads(test.film), "title": test.name}
    elif test.trace:
        why = test.why.removeprefix("AssertionError: ").strip().partition("\n")[0]
        data = lines_of(test.trace.splitlines(), test.name, why)
    else:
        raise LearnError(f"{test.name} writes no history down, so there is no film of it: metcd learn trace --full")
    file.write_text(page_of(data), "utf-8")
    say(f"The film: {file.resolve()}")
