"""The contract holds on each engine with each part cut out: a chapter can be tested before the next one is written.

Each run is a pytest of its own on engines of half_built.py, on the layout that has a bit of everything.
"""

from __future__ import annotations

import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.conformance.half_built import ACCELERATIONS, HALF_BUILT

HERE = Path(__file__).parent
VALUES = [f"{HERE}/test_contract_values.py"]
OTHERS = ("scans", "snapshots", "lifecycle", "failures", "threads", "processes")


def failures(names: Iterable[str], files: list[str], report: Path) -> dict[str, set[str]]:
    """Engine → its cases that failed; every engine of which a case ran is in it."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}", "--tb=line"]
    # a long scan pins a page for each of its writes, and without provisional commits each of these lists all of them
    command += ["-p", "tests.conformance.one_layout", "-k", "not long_scan", *files]
    for name in names:
        command += ["--engine", f"{HERE}/half_built.py:{name}"]
    ran = subprocess.run(command, cwd=HERE.parents[1], capture_output=True, text=True, timeout=600)
    assert ran.returncode in (0, 1), ran.stdout[-3000:] + ran.stderr
    found: dict[str, set[str]] = defaultdict(set)
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        test, _, parameters = case.attrib["name"].partition("[")
        failed = found[parameters.partition("half_built.py:")[2].partition("-")[0].rstrip("]")]
        if any(child.tag in ("failure", "error") for child in case):
            failed.add(test)
    return dict(found)


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """Of all half-built engines, the cases about keys, values and batches."""
    return failures(HALF_BUILT, VALUES, tmp_path_factory.mktemp("half built") / "report.xml")


@pytest.mark.parametrize("name", HALF_BUILT)
def test_values_are_right_without_a_part(failed: dict[str, set[str]], name: str) -> None:
    """But for the cases that are about the part itself."""
    assert failed[name] - HALF_BUILT[name] == set()


@pytest.mark.slow
@pytest.mark.parametrize("name", [*HALF_BUILT, *ACCELERATIONS])
def test_the_contract_holds_without_a_part(name: str, tmp_path: Path) -> None:
    """Likewise, on more of the contract; and with each acceleration cut by itself, as none may need another."""
    files = VALUES + [f"{HERE}/test_contract_{name}.py" for name in OTHERS]
    assert failures([name], files, tmp_path / "report.xml")[name] - HALF_BUILT.get(name, set()) == set()
