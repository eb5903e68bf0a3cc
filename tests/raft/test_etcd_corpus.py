"""The data-driven files of etcd-io/raft's own tests run here as they are, and print the same bytes.

    interaction     nodes, messages and Readies: 18 of its 28 files
    quorum          majorities and joint ones: 3 of 4
    confchange      changes of the configuration: 7 of 9

Log lines are compared as well. tests/raft/corpus.py says where the files are looked for.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from raft.interaction import first_difference, outputs, parse_script, rewritten
from tests.raft.corpus import FILES, NAMED, header


def test_a_run_says_whether_it_has_the_corpus(pytestconfig: pytest.Config) -> None:
    """In its head, with the number of files; and a folder that was named must have some."""
    lines = pytestconfig.hook.pytest_report_header(config=pytestconfig, start_path=Path.cwd())
    assert any(header() in line for line in lines)
    assert ("NOT RUN" in header()) == (not FILES)
    assert FILES or not NAMED


if FILES:

    @pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}/{file.stem}")
    def test_a_file_of_etcds_corpus_prints_what_etcd_prints(file: Path) -> None:
        """Byte for byte, log lines included; and writing the file anew changes none of it."""
        text = file.read_text("utf-8")
        script = parse_script(str(file), text)
        difference = first_difference(script, random.Random(0))
        assert difference is None, str(difference)
        assert rewritten(script, list(outputs(script, random.Random(0)))) == text
