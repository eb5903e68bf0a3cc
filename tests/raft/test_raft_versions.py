"""raft/VERSIONS.md says which test shows each of its lines; there is such a test."""

from __future__ import annotations

import re
from pathlib import Path

import raft

TESTS = Path(__file__).parent


def test_every_test_that_the_table_of_versions_names_is_there() -> None:
    table = (Path(raft.__file__).parent / "VERSIONS.md").read_text("utf-8")
    sources = "\n".join(path.read_text("utf-8") for path in sorted(TESTS.glob("test_*.py")))
    named = set(re.findall(r"`(test_\w+)(?:\.py)?`", table))
    assert len(named) > 20
    missing = [name for name in sorted(named) if f"def {name}(" not in sources and not (TESTS / f"{name}.py").exists()]
    assert missing == []
