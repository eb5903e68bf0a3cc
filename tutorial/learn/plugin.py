"""The pytest plugin of a check: whose packages are tested, and a report that can be read by a program.

Its rules, each of which some course had to learn (see check.py): the packages must be imported from the course directory;
a test that is skipped or expected to fail counts as failed; each test has a time limit, and one that exceeds it is told
in which of the learner's functions it was.

The report is JSON: {"problem": null or a sentence, "collected": [ids], "tests": [{"id", "outcome", "why", "frames", "trace", "film"}]}.
"""

from __future__ import annotations

import importlib
import json
import signal
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

__all__ = ["Report"]

IMPORT_LIMIT_S = 20  # of CPU time: a busy machine makes an import slow, and not wrong
IMPORT_WAIT_S = 180  # by the clock, for one that waits
WHY_MAX = 2_000  # characters of a failure's message
FILM_MAX = 8_000_000  # characters of a film; a small failing run's has some hundred thousand


class ImportTookTooLong(Exception):
    """A module doesn't come to its end."""


def pytest_addoption(parser: pytest.Parser) -> None:
    # Each test has pytest-timeout's limit; what is imported before them has this.
    signal.signal(signal.SIGPROF, _too_long)
    signal.signal(signal.SIGALRM, _too_long)
    _limit_import(IMPORT_LIMIT_S, IMPORT_WAIT_S)
    parser.addoption("--learn-directory", type=Path, help="the course directory")
    parser.addoption("--learn-report", type=Path, help="where the report goes")
    parser.addoption(
        "--learn-packages", help="names of packages, with commas, that must come from the course directory"
    )


def _limit_import(cpu_s: int, wait_s: int) -> None:
    """Sets both limits; 0 takes them away."""
    signal.setitimer(signal.ITIMER_PROF, cpu_s)
    signal.alarm(wait_s)


def _too_long(number: int, _: object) -> None:
    limit_s = IMPORT_LIMIT_S if number == signal.SIGPROF else IMPORT_WAIT_S
    raise ImportTookTooLong(f"the import took more than {limit_s} s; is there a loop that doesn't end?")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--learn-report"):
        config.pluginmanager.register(Report(config), "learn-report")


class Report:
    """Collects what happened, and writes it at the end."""

    def __init__(self, config: pytest.Config) -> None:
        self.directory: Path = config.getoption("--learn-directory").resolve()
        self.file: Path = config.getoption("--learn-report")
        self.packages: list[str] = config.getoption("--learn-packages").split(",")
        self.problem: str | None = None
        self.collected: list[str] = []
        self.tests: dict[str, dict[str, Any]] = {}

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed and self.problem is None:
            self.problem = str(report.longrepr)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        _limit_import(0, 0)
        self.collected = [item.nodeid for item in session.items]
        for name in self.packages:
            where = Path(importlib.import_module(name).__file__ or "").resolve()
            if not where.is_relative_to(self.directory):
                self.problem = f"the package {name} was imported from {where.parent}, and not from {self.directory}"
                pytest.exit(self.problem, returncode=3)

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
        outcome = yield
        report: pytest.TestReport = outcome.get_result()  # type: ignore[attr-defined]
        if report.when == "call" or report.outcome != "passed":
            self._note(report, call)
            if report.failed and "Timeout" in _why(call)[:20]:  # each further one would take as long
                item.session.shouldstop = "a test did not end"

    def _note(self, report: pytest.TestReport, call: pytest.CallInfo[None]) -> None:
        told = self.tests.setdefault(report.nodeid, {"id": report.nodeid, "outcome": "passed"})
        if told["outcome"] == "failed":
            return
        told["seconds"] = round(report.duration, 3)
        if hasattr(report, "wasxfail"):
            told.update(outcome="failed", why="it is marked as expected to fail: a check has no such tests")
        elif report.skipped:
            told.update(outcome="failed", why="it was skipped: a check has no such tests")
        elif report.failed:
            told.update(outcome="failed", why=_why(call), frames=self._frames(call))
            told["trace"] = "\n".join(text for title, text in report.sections if title == "trace")
            told["film"] = next(
                (text for title, text in report.sections if title == "film" and len(text) <= FILM_MAX), ""
            )
            told["full"] = report.longreprtext

    def _frames(self, call: pytest.CallInfo[None]) -> list[tuple[str, int, str]]:
        """The lines of the course directory that the failure came through, the deepest one last: file, line, function."""
        assert call.excinfo is not None
        frames = [(Path(frame.filename), frame.lineno or 0, frame.name) for frame in _frames(call.excinfo.value)]
        return [
            (path.relative_to(self.directory).as_posix(), line, name)
            for path, line, name in frames
            if path.is_absolute() and path.is_relative_to(self.directory)
        ]

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        report = {"problem": self.problem, "collected": self.collected, "tests": list(self.tests.values())}
        self.file.write_text(json.dumps(report), "utf-8")


def _frames(error: BaseException) -> list[traceback.FrameSummary]:
    """The frames of the error, and of what it was raised from."""
    trace: TracebackType | None = error.__traceback__
    frames = list(traceback.extract_tb(trace))
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return frames if cause is None else [*frames, *_frames(cause)]


def _why(call: pytest.CallInfo[None]) -> str:
    """The failure in a line or a few: an assertion's own words, or the exception's name and message.

    A NotImplementedError of a function that is still to be written counts wherever in the chain it stands.
    """
    assert call.excinfo is not None
    error: BaseException | None = call.excinfo.value
    chain: list[BaseException] = []
    while error is not None and len(chain) < 10:
        chain.append(error)
        error = error.__cause__ or error.__context__
    for one in chain:
        if isinstance(one, NotImplementedError) and str(one).startswith("chapter "):
            return f"NotImplementedError: {one}"
    return call.excinfo.exconly()[:WHY_MAX]
