"""Copies of the packages in which some functions are cut out: a course directory, and what the author's check runs on.

    form of an owned function        text
    reference                        as in this repository
    asked                            raise NotImplementedError("chapter 5 asks you to write SkipList.insert")
    until                            the working default before its chapter is begun; asked, where there is none

A course directory is all `until`. `start 5` makes chapter 5's functions `asked`, and with --catch-up those of the
earlier chapters that nobody has written `reference`.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Literal, TypeAlias

from tutorial.learn import cut
from tutorial.learn.course import REPOSITORY, Course, Mutant, Owned
from tutorial.learn.errors import CourseError

__all__ = [
    "LEFT_OUT",
    "Form",
    "as_done",
    "as_started",
    "cut_alone",
    "form_of",
    "mutate",
    "put",
    "reference",
    "text_of",
    "untouched",
    "write",
]

Form: TypeAlias = Literal["reference", "asked", "until"]

LEFT_OUT = shutil.ignore_patterns("__pycache__", "*.pyc")


def reference(owned: Owned) -> str:
    """The function as this repository has it. Raises CourseError if it has none of that name."""
    path = REPOSITORY / owned.path
    try:
        return cut.source_of(path.read_text("utf-8"), owned.name)
    except (KeyError, FileNotFoundError):
        raise CourseError(f"chapter {owned.chapter} owns {owned.id}, and there is no such function") from None


def text_of(owned: Owned, form: Form) -> str:
    """The function in one of its forms: all its lines."""
    text = reference(owned)
    if form == "reference":
        return text
    body = owned.asks if form == "asked" or owned.until is None else owned.until
    return cut_alone(text, owned, body)


def cut_alone(text: str, owned: Owned, body: str) -> str:
    """A function's lines with another body after its docstring."""
    if not text.startswith(" "):
        return cut.cut(text, owned.name, body)
    depth = owned.name.count(".")
    header = "".join("    " * level + f"class {name}:\n" for level, name in enumerate(owned.name.split(".")[:-1]))
    return "".join(cut.cut(header + text, owned.name, body).splitlines(keepends=True)[depth:])


def write(course: Course, destination: Path, form: Callable[[Owned], Form]) -> None:
    """Copies the packages, with each owned function in the form asked for."""
    for package in course.packages:
        shutil.copytree(REPOSITORY / package, destination / package, ignore=LEFT_OUT, dirs_exist_ok=True)
    put(destination, ((owned, text_of(owned, form(owned))) for owned in course.owned.values()))


def as_started(chapter: int) -> Callable[[Owned], Form]:
    """Earlier chapters from the reference, this one asked for, later ones at their defaults."""
    return lambda owned: "reference" if owned.chapter < chapter else "asked" if owned.chapter == chapter else "until"


def as_done(chapter: int) -> Callable[[Owned], Form]:
    """This chapter and earlier ones from the reference, later ones at their defaults: nobody has begun the next one."""
    return lambda owned: "reference" if owned.chapter <= chapter else "until"


def put(directory: Path, texts: Iterable[tuple[Owned, str]]) -> None:
    """Puts functions into the files of a directory, each file written once."""
    files: dict[str, str] = {}
    for owned, text in texts:
        if owned.path not in files:
            files[owned.path] = (directory / owned.path).read_text("utf-8")
        files[owned.path] = cut.swap(files[owned.path], owned.name, text)
    for path, text in files.items():
        (directory / path).write_text(text, "utf-8")


def form_of(directory: Path, owned: Owned) -> Form | Literal["written", "missing"]:
    """What stands in a course directory: one of the forms, the learner's own, or nothing. Raises SyntaxError."""
    try:
        text = cut.source_of((directory / owned.path).read_text("utf-8"), owned.name)
    except (KeyError, FileNotFoundError):
        return "missing"
    forms: tuple[Form, ...] = ("asked", "until", "reference")
    for form in forms:
        if cut.same(text, text_of(owned, form)):
            return form
    return "written"


def untouched(directory: Path, owned: Iterable[Owned]) -> Iterator[Owned]:
    """Those which still are as they were cut."""
    return (one for one in owned if form_of(directory, one) in ("asked", "until"))


def mutate(course: Course, mutant: Mutant) -> tuple[Owned, str]:
    """The function of the reference with the planted bug. Its text must have `old` exactly once."""
    path, _, name = mutant.function.partition("::")
    owned = course.owned.get(mutant.function) or Owned(path, name, 0)
    text = reference(owned)
    if (times := text.count(mutant.old)) != 1:
        raise CourseError(f"the mutant {mutant.name}: its old text occurs {times} times in {mutant.function}")
    return owned, text.replace(mutant.old, mutant.new)
