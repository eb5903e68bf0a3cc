"""A course of two small chapters about engines/coding.py, and the command line on it."""

from __future__ import annotations

import runpy
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

import pytest

from tutorial.learn import check, cli, course
from tutorial.learn.check import Outcome, Result
from tutorial.learn.course import Chapter, Course, Mutant, Owned, Prediction


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Course:
    """The course that the commands find."""
    path = "engines/coding.py"
    made = Course(
        1,
        ("engines",),
        (
            Chapter(
                1, "01_varints", "Varints", "Numbers take as many bytes as they need.", 1, 3, ("tests/tutorial/toy/first.py",),
                (Owned(path, "put_varint", 1, "return bytes([value % 128])"),),
                hints={"put_varint": ("Seven bits at a time.", "The low ones first.", "A loop.")},
                predictions=(
                    Prediction("How many bytes has 300?", "two", "It has nine bits.", "test_large", ("one", "two")),
                    Prediction("How many has 2**64 - 1?", 10, "64 bits in sevens.", "test_the_largest", (), 0.5),
                ),
                mutants=(
                    Mutant("no-continuation", f"{path}::put_varint", "encoded.append(value & 127 | 128)\n",
                           "encoded.append(value & 127 | 128)\n        break\n", "Nobody knows where the number ends.",
                           "test_the_largest_number_has_ten_bytes"),
                    Mutant("no-fast-case", f"{path}::put_varint", "value >> 7))", "value >> 8))", "Shifted too far.",
                           "test_large_numbers_are_several_bytes"),
                ),
            ),
            Chapter(
                2, "02_slices", "Slices", "Bytes that say how long they are.", 0.5, 2, ("tests/tutorial/toy/second.py",),
                (Owned(path, "put_slice", 2), Owned(path, "get_slice", 2)),
                hints={"put_slice": ("a", "b", "c"), "get_slice": ("d", "e", "f")},
            ),
        ),
    )  # fmt: skip
    monkeypatch.setattr(course, "load", lambda: made)
    monkeypatch.setattr(
        Chapter, "page", property(lambda self: course.REPOSITORY / "tutorial" / self.folder / "README.md")
    )
    return made


def in_this_process(
    of: Course, directory: Path, chapter: Chapter, *, seed: int = 0, only: Sequence[str] = (), **_: object
) -> Result:
    """What check.run does, without a process and pytest: the toy's tests need neither, and a hundredth of the time."""
    if (problem := check.problem_of(of, directory, chapter.number)) is not None:
        return Result(chapter, seed, problem=problem)
    coding = ModuleType("coding")
    exec(compile((directory / "engines/coding.py").read_text(), "coding.py", "exec"), coding.__dict__)
    outcomes = []
    for file in chapter.tests:
        tests = runpy.run_path(str(course.REPOSITORY / file))
        tests["use"](coding)
        for name in [name for name in tests if name.startswith("test_")]:
            if only and not any(one.endswith(f"::{name}") for one in only):
                continue
            try:
                tests[name]()
                outcomes.append(Outcome(f"{file}::{name}", True))
            except Exception as error:
                why = f"{type(error).__name__}: {error}"
                outcomes.append(Outcome(f"{file}::{name}", False, why, "engines/coding.py:40 in put_varint", full=why))
    return Result(chapter, seed, tuple(outcomes), len(outcomes))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands' checks take no process."""
    monkeypatch.setattr(check, "run", in_this_process)


Learn = Callable[..., tuple[int, str]]


@pytest.fixture
def learn(
    toy: Course,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Learn:
    """Types a command in the course directory `mine`: its exit status, and all that it printed."""
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("HOME", str(tmp_path))

    def typed(*words: str, answers: Sequence[str] = ()) -> tuple[int, str]:
        lines = iter(answers)

        def read() -> str:
            try:
                return next(lines)
            except StopIteration:
                raise EOFError from None

        monkeypatch.setattr("builtins.input", read)
        status = cli.main(words)
        out, err = capsys.readouterr()
        return status, out + err

    made = tmp_path_factory.getbasetemp() / "course"  # the first one; the others are copies of it
    if not made.exists():
        assert typed("init", str(made))[0] == 0
    shutil.copytree(made, tmp_path / "mine")
    monkeypatch.chdir(tmp_path / "mine")
    return typed
