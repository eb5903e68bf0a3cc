"""Running a chapter's tests on a course directory, in a process of its own, and reading what they found.

The rules of an honest check, and who learned them:

1. Skipped, expected to fail, timed out, not collected or fewer than `expect`: all are failures.
2. Tests are chosen by their file, never by a pattern of names (a pattern that selects nothing is green).
3. The packages must come from the course directory (else the reference would be judged: a fresh clone would pass).
4. The tests are the project's own, run from this repository: nobody can lose one.
5. One seed, printed with each failure; no clock but the limit of each test.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tutorial.learn import cut
from tutorial.learn.course import REPOSITORY, Chapter, Course

__all__ = ["TIME_LIMIT_S", "Outcome", "Result", "problem_of", "run", "unreadable", "where"]

TIME_LIMIT_S = 20  # of one test; the slowest of the reference's takes a fifth of it
RUN_LIMIT_S = 300  # of all tests of a chapter: only a process that hangs outside of a test reaches it


@dataclass(frozen=True, slots=True)
class Outcome:
    """One test: `why` it failed, `where` in the course directory, and the history that led there, if it has one.
    film: the same for a run of Raft, as raft/simulation/film/data.py has it, in JSON."""

    id: str
    passed: bool
    why: str = ""
    where: str | None = None
    trace: str = ""
    full: str = ""
    seconds: float = 0.0
    film: str = ""

    @property
    def name(self) -> str:
        """The test without its file: "test_a_get_reads_one_record[7]"."""
        return self.id.partition("::")[2]

    @property
    def unwritten(self) -> bool:
        """True if it met a function that is still to be written."""
        return self.why.startswith("NotImplementedError: chapter ")


@dataclass(frozen=True)
class Result:
    """What a check found. `problem`: why there are no outcomes at all, or fewer than there must be."""

    chapter: Chapter
    seed: int
    outcomes: tuple[Outcome, ...] = ()
    collected: int = 0
    problem: str | None = None

    @property
    def failed(self) -> tuple[Outcome, ...]:
        return tuple(outcome for outcome in self.outcomes if not outcome.passed)

    @property
    def green(self) -> bool:
        return self.problem is None and not self.failed


def run(
    course: Course,
    directory: Path,
    chapter: Chapter,
    *,
    seed: int = 0,
    only: Sequence[str] = (),
    stop_at_first: bool = False,
) -> Result:
    """Runs the chapter's tests on the directory's packages; `only` these ids, if some are given."""
    if (problem := problem_of(course, directory, chapter.number)) is not None:
        return Result(chapter, seed, problem=problem)
    with tempfile.TemporaryDirectory(prefix="metcd-check-") as scratch:
        report = Path(scratch) / "report.json"
        command = _command(course, directory, report, only or chapter.tests)
        if stop_at_first:
            command.append("-x")
        try:
            done = subprocess.run(
                command,
                cwd=directory,
                env=_environment(directory, chapter, seed, scratch),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=RUN_LIMIT_S,
            )
        except subprocess.TimeoutExpired:
            return Result(chapter, seed, problem=f"the tests took more than {RUN_LIMIT_S} s and were stopped")
        if not report.exists():
            return Result(chapter, seed, problem=_import_error(done.stdout + done.stderr, directory))
        return _read(json.loads(report.read_text("utf-8")), course, directory, chapter, seed, bool(only), stop_at_first)


def _command(course: Course, directory: Path, report: Path, tests: Sequence[str]) -> list[str]:
    settings = Path(__file__).with_name("pytest.ini")
    return [
        *(sys.executable, "-m", "pytest", "-q", "-c", str(settings), "--rootdir", str(REPOSITORY)),
        *("-p", "tutorial.learn.plugin", f"--timeout={TIME_LIMIT_S}", "--tb=short", f"--learn-report={report}"),
        *(f"--learn-directory={directory.resolve()}", f"--learn-packages={','.join(course.packages)}"),
        *(str(REPOSITORY / test) for test in tests),
    ]


def _environment(directory: Path, chapter: Chapter, seed: int, scratch: str) -> dict[str, str]:
    """The learner's packages first, then the repository for its tests; plain form; nothing of the caller's pytest."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "METCD_"))}
    kept |= {
        "PYTHONPATH": os.pathsep.join([str(directory.resolve()), str(REPOSITORY)]),
        "PYTHONDONTWRITEBYTECODE": "1",
        "METCD_LEARN": "1",
        "METCD_SEED": str(seed),
        "TMPDIR": scratch,
    }
    return kept | {"METCD_PLAIN": "1"} if chapter.plain else kept


def _read(
    report: dict[str, object], course: Course, directory: Path, chapter: Chapter, seed: int, some: bool, stopped: bool
) -> Result:
    collected, tests = report["collected"], report["tests"]
    assert isinstance(collected, list) and isinstance(tests, list)
    outcomes = tuple(
        Outcome(
            test["id"],
            test["outcome"] == "passed",
            test.get("why", ""),
            where(test.get("frames", []), course, chapter),
            test.get("trace", ""),
            test.get("full", ""),
            test.get("seconds", 0.0),
            test.get("film", ""),
        )
        for test in tests
    )
    problem = report["problem"]
    if problem is None and not some and len(collected) != chapter.expect:
        problem = f"chapter {chapter.number} has {chapter.expect} tests, and {len(collected)} were found"
    elif problem is None and not outcomes:
        problem = "no test was run"
    elif problem is None and not some and not stopped and len(outcomes) != len(collected):
        problem = f"of {len(collected)} tests only {len(outcomes)} came to an end"
    assert problem is None or isinstance(problem, str)
    if problem is not None and "\n" in problem:
        problem = _import_error(problem, directory)
    return Result(chapter, seed, outcomes, len(collected), problem)


def where(frames: list[tuple[str, int, str]], course: Course, chapter: Chapter) -> str | None:
    """The deepest line in a function that this chapter or an earlier one asks for; if there is none, the deepest line."""
    asked = {(owned.path, owned.name.rpartition(".")[2]) for one in course.upto(chapter.number) for owned in one.owns}
    written = [(path, line, name) for path, line, name in frames if (path, name) in asked]
    for path, line, name in reversed(written or frames):
        return f"{path}:{line} in {name}"
    return None


def _import_error(output: str, directory: Path) -> str:
    """What stopped pytest before any test: the error, and the last line of the course directory that led to it."""
    errors = re.findall(r"^E +(\S.*)$", output, re.MULTILINE)
    if not errors:
        lines = [line for line in output.strip().splitlines() if line.strip()]
        return "\n".join(lines[-15:]) if lines else "pytest ended without a word"
    places = re.findall(r"^(\S+\.py):(\d+): in ", output, re.MULTILINE)
    inside = [(path, line) for path, line in places if (directory / path).resolve().is_relative_to(directory.resolve())]
    where = f"{os.path.relpath(directory / inside[-1][0], directory)}:{inside[-1][1]}: " if inside else ""
    error = errors[-1].removeprefix("tutorial.learn.plugin.ImportTookTooLong: ")
    return f"{where}{error}: the file can't be imported; mend that first"


def problem_of(course: Course, directory: Path, upto: int) -> str | None:
    """Why the directory can't be tested: a syntax error, or a function that a chapter owns and that is not there."""
    if (problem := unreadable(course, directory)) is not None:
        return problem
    found: dict[str, set[str]] = {}
    for chapter in course.upto(upto):
        for owned in chapter.owns:
            if owned.path not in found:
                path = directory / owned.path
                found[owned.path] = set(cut.functions(path.read_text("utf-8"))) if path.exists() else set()
            if owned.name not in found[owned.path]:
                return (
                    f"{owned.path} has no {owned.name}, which chapter {chapter.number} asks for: keep its name, "
                    f"or get the empty one back with `metcd learn start {chapter.number}`"
                )
    return None


def unreadable(course: Course, directory: Path) -> str | None:
    """The first file that Python can't read, with the line: a syntax error above all."""
    for package in course.packages:
        for path in sorted((directory / package).rglob("*.py")):
            ours = REPOSITORY / path.relative_to(directory)
            text = path.read_bytes()
            if ours.exists() and ours.read_bytes() == text:
                continue
            try:
                compile(text, str(path.relative_to(directory)), "exec", dont_inherit=True)
            except SyntaxError as error:
                where = path.relative_to(directory).as_posix()
                return f"{where}:{error.lineno}: {error.msg}: Python can't read the file; mend that line first"
            except ValueError as error:  # not UTF-8, or a null byte
                return f"{path.relative_to(directory).as_posix()}: {error}"
    return None
