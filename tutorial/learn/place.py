"""Where a command works: the course, the course directory, and what that directory remembers.

    Place.here()           the course directory in which the command was typed
    place.chapter(None)    the chapter that was started last
    place.save("...")      writes the state, and commits everything

A chapter is *done* when its check was green, or when all its functions are the reference's (`start --catch-up`).
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from tutorial.learn import check, course, cut, git, state, tree
from tutorial.learn.check import Outcome, Result
from tutorial.learn.course import REPOSITORY, Chapter, Course, Owned
from tutorial.learn.errors import LearnError
from tutorial.learn.state import State

__all__ = ["Last", "Place", "environment"]


@dataclass(frozen=True)
class Last:
    """What the last check found: `.course/last.json`."""

    chapter: int
    seed: int
    failed: tuple[Outcome, ...]

    @classmethod
    def of(cls, result: Result) -> Last:
        return cls(result.chapter.number, result.seed, result.failed)


@dataclass
class Place:
    """A course directory in use."""

    course: Course
    directory: Path
    state: State

    @classmethod
    def here(cls, start: Path | None = None) -> Place:
        """Raises LearnError if `start`, or the current directory, lies in no course directory."""
        of = course.load()
        directory = state.find(start or Path.cwd())
        return cls(of, directory, state.load(directory, of))

    def chapter(self, number: int | None) -> Chapter:
        """The chapter of that number, or the one that was started last. Raises LearnError if there is none."""
        if number is not None:
            return self.course.chapter(number)
        if not self.state.started:
            first = self.course.chapters[0].number if self.course.chapters else 1
            raise LearnError(f"no chapter was started yet: `metcd learn start {first}`")
        return self.course.chapter(self.state.started[-1])

    def started(self, number: int | None) -> Chapter:
        """Likewise, and it must have been started, or be done."""
        chapter = self.chapter(number)
        if chapter.number not in self.state.started and not self.done(chapter):
            raise LearnError(f"chapter {chapter.number} was not started: `metcd learn start {chapter.number}`")
        return chapter

    def readable(self) -> None:
        """Raises LearnError if a file of the directory can't be read by Python."""
        if (problem := check.unreadable(self.course, self.directory)) is not None:
            raise LearnError(problem)

    def done(self, chapter: Chapter) -> bool:
        """True if its check was green, or its functions are the reference's."""
        return chapter.number in self.state.green or all(
            tree.form_of(self.directory, owned) == "reference" for owned in chapter.owns
        )

    def unwritten(self, chapter: Chapter) -> list[Owned]:
        """Its functions that still are as they were cut."""
        return list(tree.untouched(self.directory, chapter.owns))

    def gaps(self, chapter: Chapter) -> list[Owned]:
        """Those among them that have no working default, either: calling one raises NotImplementedError."""
        return [owned for owned in chapter.owns if tree.form_of(self.directory, owned) in ("asked", "missing")]

    def text(self, owned: Owned) -> str:
        """The function as it stands in the directory. Raises LearnError if it isn't there."""
        try:
            return cut.source_of((self.directory / owned.path).read_text("utf-8"), owned.name)
        except (KeyError, FileNotFoundError):
            raise LearnError(
                f"{owned.path} has no {owned.name}: `metcd learn start {owned.chapter}` brings the empty one back"
            ) from None

    def owned(self, chapter: Chapter, name: str) -> Owned:
        """The chapter's function of that name: "insert", "SkipList.insert", or with its file. Raises LearnError."""
        for owned in chapter.owns:
            if name in (owned.name, owned.id):
                return owned
        short = [owned for owned in chapter.owns if owned.name.rpartition(".")[2] == name]
        if len(short) == 1:
            return short[0]
        names = ", ".join(owned.name for owned in chapter.owns)
        raise LearnError(f"chapter {chapter.number} has no function {name}; it asks for {names}")

    def keep(self, why: str) -> None:
        """Commits what the learner has written, before anything is changed in it."""
        git.commit(self.directory, why)

    def save(self, message: str) -> None:
        """Writes the state, and commits everything."""
        state.save(self.directory, self.state)
        git.commit(self.directory, message)

    # ---- the last check ----

    @property
    def last_file(self) -> Path:
        return self.directory / state.FOLDER / "last.json"

    def remember(self, result: Result) -> None:
        """Keeps what a check found, for `trace` and `blame`."""
        last = asdict(Last.of(result))
        self.last_file.write_text(json.dumps(last), "utf-8")

    def last(self) -> Last:
        """Raises LearnError if no check was run yet."""
        try:
            told = json.loads(self.last_file.read_text("utf-8"))
            return Last(told["chapter"], told["seed"], tuple(Outcome(**one) for one in told["failed"]))
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            raise LearnError("no check was run here yet: `metcd learn check` first") from None


def environment(directory: Path, base: Mapping[str, str] = os.environ) -> dict[str, str]:
    """In which a program runs on the learner's packages, in plain form."""
    path = os.pathsep.join([str(directory.resolve()), str(REPOSITORY), *filter(None, [base.get("PYTHONPATH")])])
    programs = os.pathsep.join([str(Path(sys.executable).parent), base.get("PATH", os.defpath)])
    return {"METCD_PLAIN": "1", **base, "PYTHONPATH": path, "PATH": programs}
