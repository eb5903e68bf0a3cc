"""The course as data: what each chapter owns, and its tests, hints, predictions and mutants.

    tutorial/course.toml             the version, and the packages that are copied into a course directory
    tutorial/04_bitcask_merge/       a chapter: its number and name
        README.md                    the page
        chapter.toml                 what is read here

A chapter *owns* functions of the packages. A course directory has their bodies cut out; the solution is the body in this
repository. So a chapter is written once, and a renamed function is noticed here, with a CourseError.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from tutorial.learn.errors import CourseError, LearnError

__all__ = ["REPOSITORY", "Chapter", "Course", "Mutant", "Owned", "Prediction", "load"]

REPOSITORY = Path(__file__).parents[2]

KEYS = {"title", "outcome", "hours", "expect", "tests", "owns"}
MORE_KEYS = {"until", "hints", "predictions", "mutants", "plain"}
Made = TypeVar("Made")
HINTS = 3  # for each function: a nudge, the idea, nearly the code


@dataclass(frozen=True, slots=True)
class Owned:
    """A function that a chapter asks for. `until`: its body before the chapter is begun; None raises NotImplementedError."""

    path: str  # "engines/lsm/skiplist.py"
    name: str  # "SkipList.insert"
    chapter: int
    until: str | None = None

    @property
    def id(self) -> str:
        """What chapter.toml calls it: "engines/lsm/skiplist.py::SkipList.insert"."""
        return f"{self.path}::{self.name}"

    @property
    def asks(self) -> str:
        """The body of a function that is to be written."""
        return f'raise NotImplementedError("chapter {self.chapter} asks you to write {self.name}")'


@dataclass(frozen=True, slots=True)
class Mutant:
    """A planted bug: in `function`, the text `old` is replaced by `new`. The test `killed_by` fails with it."""

    name: str
    function: str
    old: str
    new: str
    story: str
    killed_by: str


@dataclass(frozen=True, slots=True)
class Prediction:
    """A question asked before the run. `answer` is one of the choices, or a number that may be missed by `within`."""

    question: str
    answer: str | float
    because: str
    test: str
    choices: tuple[str, ...] = ()
    within: float = 0

    def __post_init__(self) -> None:
        if self.choices and self.answer not in self.choices:
            raise CourseError(f"the answer {self.answer!r} is none of the choices of {self.question!r}")
        numbers = [str(number) for number in range(1, len(self.choices) + 1)]
        if any(choice in numbers and choice != number for choice, number in zip(self.choices, numbers, strict=True)):
            raise CourseError(
                f"a choice of {self.question!r} is the number of another one: nobody knows which is meant"
            )
        if not self.choices and not isinstance(self.answer, int | float):
            raise CourseError(f"without choices the answer must be a number: {self.question!r}")

    def right(self, given: str) -> bool:
        """True if `given`, as it was typed or chosen, is the answer."""
        if self.choices:
            return given == self.answer
        assert isinstance(self.answer, int | float)
        return abs(float(given) - self.answer) <= self.within


@dataclass(frozen=True)
class Chapter:
    """One chapter. `tests` are files; `expect` says how many tests they have, so that none is lost unseen.

    `plain`: the engines run without their accelerations, so that it is the learner's function which runs. False for the
    chapter about accelerations.
    """

    number: int
    folder: str
    title: str
    outcome: str
    hours: float
    expect: int
    tests: tuple[str, ...]
    owns: tuple[Owned, ...]
    plain: bool = True
    hints: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    predictions: tuple[Prediction, ...] = ()
    mutants: tuple[Mutant, ...] = ()

    @property
    def page(self) -> Path:
        return REPOSITORY / "tutorial" / self.folder / "README.md"


@dataclass(frozen=True)
class Course:
    """All chapters, in order."""

    version: int
    packages: tuple[str, ...]
    chapters: tuple[Chapter, ...]

    def chapter(self, number: int) -> Chapter:
        """Raises LearnError if there is no chapter of that number."""
        for chapter in self.chapters:
            if chapter.number == number:
                return chapter
        raise LearnError(f"there is no chapter {number}: they are {', '.join(str(c.number) for c in self.chapters)}")

    def upto(self, number: int) -> tuple[Chapter, ...]:
        """The chapters up to and including that one."""
        return tuple(chapter for chapter in self.chapters if chapter.number <= number)

    @cached_property
    def owned(self) -> Mapping[str, Owned]:
        """Every owned function by its id. A function belongs to one chapter."""
        return {owned.id: owned for chapter in self.chapters for owned in chapter.owns}


def load(root: Path = REPOSITORY / "tutorial") -> Course:
    """Reads course.toml and every chapter.toml. Raises CourseError for what is wrong in them."""
    told = tomllib.loads((root / "course.toml").read_text("utf-8"))
    folders = sorted(path.parent for path in root.glob("[0-9][0-9]_*/chapter.toml"))
    chapters = tuple(_chapter(folder) for folder in folders)
    seen: dict[str, int] = {}
    for chapter in chapters:
        for owned in chapter.owns:
            if owned.id in seen:
                raise CourseError(f"{owned.id} is owned by the chapters {seen[owned.id]} and {chapter.number}")
            seen[owned.id] = chapter.number
    return Course(int(told["version"]), tuple(told["packages"]), chapters)


def _chapter(folder: Path) -> Chapter:
    where = f"{folder.name}/chapter.toml"
    try:
        told = tomllib.loads((folder / "chapter.toml").read_text("utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise CourseError(f"{where}: {error}") from error
    if missing := KEYS - told.keys():
        raise CourseError(f"{where} lacks {', '.join(sorted(missing))}")
    if foreign := told.keys() - KEYS - MORE_KEYS:
        raise CourseError(f"{where} has {', '.join(sorted(foreign))}, which nothing reads")
    number = int(folder.name[:2])
    owns = tuple(_owned(number, told["owns"], told.get("until", {}), where))
    names = {owned.name for owned in owns}
    hints = {name: tuple(texts) for name, texts in told.get("hints", {}).items()}
    if hints.keys() - names or names - hints.keys():
        raise CourseError(f"{where}: the hints are not those of the owned functions: {sorted(hints.keys() ^ names)}")
    if short := sorted(name for name, texts in hints.items() if len(texts) != HINTS):
        raise CourseError(f"{where}: {HINTS} hints each, not so for {short}")
    return Chapter(
        number,
        folder.name,
        told["title"],
        told["outcome"],
        told["hours"],
        told["expect"],
        tuple(told["tests"]),
        owns,
        told.get("plain", True),
        hints,
        tuple(_made(Prediction, entry, where) for entry in told.get("predictions", [])),
        tuple(_made(Mutant, entry, where) for entry in told.get("mutants", [])),
    )


def _owned(number: int, ids: list[str], until: Mapping[str, str], where: str) -> Iterator[Owned]:
    if foreign := until.keys() - set(ids):
        raise CourseError(f"{where}: `until` for what the chapter doesn't own: {sorted(foreign)}")
    for one in ids:
        path, _, name = one.partition("::")
        yield Owned(path, name, number, until.get(one))


def _made(kind: type[Made], entry: dict[str, Any], where: str) -> Made:
    if "choices" in entry:
        entry = {**entry, "choices": tuple(entry["choices"])}
    try:
        return kind(**entry)
    except TypeError as error:
        raise CourseError(f"{where}: {kind.__name__.lower()} {entry.get('name', '')}: {error}") from error
