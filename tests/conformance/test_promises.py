"""tests/conformance/promises.py: what somebody sees whose own engine breaks a promise."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

from engines import kvstore
from engines.env import plain_everywhere
from tests.conformance.promises import OF_CASE, OF_FILE, PROMISES, promise_of

HERE = Path(__file__).parent
CASES = {
    case: file.name
    for file in HERE.glob("test_*.py")
    for case in re.findall(r"^def (test_\w+)", file.read_text(), re.M)
}


def pytest_on(engine: str, *arguments: str) -> str:
    """What a run prints, which must fail."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments, "--engine", engine]
    ran = subprocess.run(command, cwd=HERE.parents[1], capture_output=True, text=True, timeout=100)
    assert ran.returncode == 1, ran.stdout + ran.stderr
    return ran.stdout


def test_a_red_run_is_a_screen_grouped_by_promise() -> None:
    """One line for each case that fails, however many layouts it fails on; no tracebacks."""
    files = [f"tests/conformance/test_contract_{name}.py" for name in ("values", "scans", "failures")]
    told = pytest_on("tests/conformance/broken_toys.py:NeverSyncs", *files)
    assert len(told.splitlines()) < 40, told
    assert "3. A write is durable when it returns" in told and "5. A failure is final" in told
    assert "Traceback" not in told and "Keys and values" not in told


def test_the_command_of_a_line_repeats_its_case() -> None:
    """It can be pasted: it names the engine and shows the traceback that the screen left out."""
    engine = "tests/conformance/broken_toys.py:NeverSyncs"
    told = pytest_on(engine, "tests/conformance/test_contract_failures.py")
    (command,) = re.findall(r"python -m pytest (.*test_a_store_syncs_each_write.*)", told)
    words = shlex.split(command)
    form = ["--plain"] if plain_everywhere() else []
    assert words[1:] == ["--engine", engine, *form, "--tb=short"]
    again = pytest_on(engine, words[0], "--tb=short")
    assert "1 failed" in again and "in test_a_store_syncs_each_write_unless_told_otherwise" in again


def test_an_engine_past_its_env_is_told_so_at_once() -> None:
    """In the sentence that fails the case, in place of a wait for a sync that the test never sees."""
    file = "tests/conformance/test_contract_failures.py"
    told = pytest_on("tests/conformance/broken_toys.py:GoesPastItsEnv", file, "-k", "env or readers")
    assert "made no sync of the `env` that its constructor was given" in told


def test_each_case_has_a_promise() -> None:
    """The table names cases and files that exist, and no file that judges engines is left out."""
    assert set(OF_CASE) - set(CASES) == set()
    assert {*OF_CASE.values(), *OF_FILE.values()} == set(PROMISES)
    judging = {
        file.name for file in HERE.glob("test_*.py") if re.search(r"^def test_.*engine: Engine", file.read_text(), re.M)
    }
    assert judging - set(OF_FILE) - {"test_differential.py"} == set()
    assert promise_of("tests/conformance/test_contract_values.py::test_a_value_is_read_back[x-y]") == 1
    assert promise_of("tests/engines/test_log.py::test_x") is None


def test_the_promises_are_those_of_the_contract() -> None:
    """As many as the docstring numbers, and one for the rest."""
    assert kvstore.__doc__ is not None
    assert len(re.findall(r"^\d\. ", kvstore.__doc__, re.M)) == len(PROMISES) - 1
