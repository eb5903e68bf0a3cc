"""The suite judges engines, and here it is judged: every store of broken_stores.py and broken_toys.py must be caught, by the case that is
named for it. One pytest of its own runs them all, started as a learner would start it for an engine in a file."""

from __future__ import annotations

import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import Phase, settings

from engines import CorruptionError
from tests.conformance.engine_table import Engine
from tests.conformance.machine import run_machine
from tests.conformance.one_case_each import CAUGHT_BY, WHERE

HERE = Path(__file__).parent
BY_CASES = sorted(name for name, case in CAUGHT_BY.items() if case != "machine")
BY_MACHINE = sorted(name for name, case in CAUGHT_BY.items() if case == "machine")
SOUND = f"{HERE.parents[1]}/examples/toy.py:ToyStore"


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """Store → test → "passed" or what went wrong, of one run over all broken stores and a sound one."""
    report = tmp_path_factory.mktemp("suite") / "report.xml"
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "tests.conformance.one_case_each",
        "--tb=no",
        "--assert=plain",
    ]
    command += [f"--junitxml={report}", "-p", "no:cacheprovider", "--engine", SOUND]
    for name in BY_CASES:
        command += ["--engine", WHERE[name]]
    for file in sorted(HERE.glob("test_contract_*.py")):
        command += [f"{file}::{case}" for case in sorted(set(CAUGHT_BY.values())) if f"def {case}(" in file.read_text()]
    ran = subprocess.run(command, cwd=HERE.parents[1], capture_output=True, text=True, timeout=300)
    assert ran.returncode == 1, f"{ran.stdout[-3000:]}\n{ran.stderr}"
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        test = case.attrib["name"]
        store = test.rpartition(":")[2].partition("-")[0].rstrip("]")
        outcome = next((child.tag for child in case if child.tag in ("failure", "error")), "passed")
        found[store].setdefault(test, outcome)  # a second entry is the failed close after a failed test
    return found


@pytest.mark.parametrize("name", BY_CASES)
def test_a_broken_store_is_caught(outcomes: dict[str, dict[str, str]], name: str) -> None:
    """Its bug fails the case that is named for it."""
    assert outcomes[name], f"{CAUGHT_BY[name]} was not run: was it renamed?"
    assert "failure" in outcomes[name].values(), f"{CAUGHT_BY[name]} doesn't notice it"


def test_a_sound_store_passes_the_same_cases(outcomes: dict[str, dict[str, str]]) -> None:
    """So that it is the bugs that fail them."""
    assert [test for test, outcome in outcomes["ToyStore"].items() if outcome != "passed"] == []
    assert {test.partition("[")[0] for test in outcomes["ToyStore"]} == set(CAUGHT_BY.values()) - {"machine"}


@pytest.mark.slow
@pytest.mark.parametrize("name", BY_MACHINE)
def test_a_store_that_breaks_in_a_power_cut_is_caught(name: str) -> None:
    """The state machine finds it; what it finds isn't shrunk, to save time."""
    engine = Engine(WHERE[name])
    brief = settings(settings.get_profile("fast"), max_examples=500, stateful_step_count=50, phases=[Phase.generate])
    with pytest.raises((AssertionError, CorruptionError)):
        run_machine(engine, brief)


def test_a_sound_store_survives_power_cuts() -> None:
    """The same machine, with nothing to find."""
    run_machine(Engine(SOUND), settings(settings.get_profile("fast"), max_examples=20, stateful_step_count=50))
