"""The chapters' tests run the plain form, and tell what they did when they fail.

A failing test's report gets a section "trace" with the lines of its `history`; `metcd learn trace` shows it. That of a run
of Raft has a section "film" besides (raft/simulation/film), for `metcd learn trace --html`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.chapters.kit import History

HISTORY = pytest.StashKey[History]()


@pytest.fixture(autouse=True)
def plain_form(monkeypatch: pytest.MonkeyPatch) -> None:
    """Accelerations are chapter 19; before that, what runs is what the pages show."""
    monkeypatch.setenv("METCD_PLAIN", "1")


@pytest.fixture
def history(request: pytest.FixtureRequest) -> History:
    """Where a test writes down what it does; see tests/chapters/kit.py."""
    history = request.node.stash[HISTORY] = History()
    return history


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Adds the history to the report of a test that failed."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    history = item.stash.get(HISTORY, None)
    if report.failed and history is not None and history.lines:
        report.sections.append(("trace", str(history)))
        if history.film is not None:
            report.sections.append(("film", json.dumps(history.film, separators=(",", ":"))))
