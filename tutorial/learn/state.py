"""What a course directory remembers: `.course/state.json`, part of each commit.

.course/state.json       the course's version; chapters started and green; hints, predictions and what was shown
.course/last.json        what the last check found, for `trace` and `blame`; not committed
.gitignore               keeps last.json and Python's caches out
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path

from tutorial.learn.course import Course
from tutorial.learn.errors import LearnError

__all__ = ["FOLDER", "State", "find", "load", "save"]

FOLDER = ".course"


@dataclass
class State:
    """`hints`: how many were given, by function. `predictions`: "4.1" → what was answered to the first of chapter 4.
    `filled`: functions that `start --catch-up` took from the reference. `museum`: mutant → the test that was guessed."""

    version: int
    started: list[int] = field(default_factory=list)
    green: list[int] = field(default_factory=list)
    hints: dict[str, int] = field(default_factory=dict)
    shown: list[str] = field(default_factory=list)
    predictions: dict[str, str] = field(default_factory=dict)
    filled: list[str] = field(default_factory=list)
    museum: dict[str, str] = field(default_factory=dict)


def find(start: Path) -> Path:
    """The course directory in which `start` lies. Raises LearnError if it lies in none."""
    for folder in (start.absolute(), *start.absolute().parents):
        if (folder / FOLDER / "state.json").is_file():
            return folder
    raise LearnError(
        f"{start.absolute()} is no course directory, and lies in none: "
        "`metcd learn init DIR` makes one, and every other command is typed inside it"
    )


def load(directory: Path, course: Course) -> State:
    """Raises LearnError if the file can't be read, or was made by a version of the course with other functions."""
    path = directory / FOLDER / "state.json"
    try:
        told = json.loads(path.read_text("utf-8"))
        state = State(**told)
    except (ValueError, TypeError) as error:
        raise LearnError(
            f"{path} can't be read ({error}): `git checkout {FOLDER}` brings its last commit back"
        ) from None
    if state.version != course.version:
        older = "an older" if state.version < course.version else "a newer"
        raise LearnError(
            f"{directory} was made by {older} version of the course ({state.version}, and this is {course.version}): "
            f"go on with that version's checkout, or `metcd learn init` a new directory and copy your functions over"
        )
    return state


def save(directory: Path, state: State) -> None:
    """Writes it as one replaced file, so that an interrupt leaves the old one or the new one."""
    path = directory / FOLDER / "state.json"
    path.parent.mkdir(exist_ok=True)
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(dataclasses.asdict(state), indent=2) + "\n", "utf-8")
    fresh.replace(path)
