"""The contract, eighth point: the interpreter's end. Nothing hangs, and nothing that was acknowledged is lost.

On each Python of PYTHONS (paths, with ":" between them; `make pythons` finds them), and on the one that runs the tests.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conformance.endings import PROGRAMS, PUTS, check
from tests.conformance.engine_table import Engine

REPOSITORY = Path(__file__).parents[2]
PYTHONS = [path for path in os.environ.get("PYTHONS", sys.executable).split(":") if path]


def run(python: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """One program of endings.py, which has to end within a minute."""
    command = [python, "-W", "ignore", str(REPOSITORY / "tests/conformance/endings.py"), *arguments]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    return subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=60)


@pytest.mark.persistent
@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("program", PROGRAMS)
def test_the_interpreters_end_loses_nothing(engine: Engine, program: str, python: str, tmp_path: Path) -> None:
    """A store that is left open, closed or written to while the interpreter ends: all that was acknowledged is there."""
    path = str(tmp_path / "store")
    ended = run(python, program, engine.where, path)
    assert (ended.returncode, ended.stderr) == (0, ""), ended.stderr
    assert ended.stdout.split() == [str(PUTS)]
    check(engine.where, path, str(PUTS))
