"""A whole comparison: several numbers of keys, recoveries and durability in one document."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.growth import Whole, at_one_speed, in_time
from bench.results import Measured, Subject
from bench.run import Plan
from server import cli
from server.verbs.bench import read_results

FAST, SLOW = (Subject(name=name, kind="engine", engine="lsm") for name in ("fast", "slow"))
PLAN = Plan(subjects=[FAST, SLOW], workloads=["fillrandom", "readrandom"], keys=1_000, repetitions=2, limit_s=10)


def row(subject: str, seconds: float, normalised: float | None = None) -> Measured:
    return Measured(
        subject=subject, workload="fillrandom", keys=1_000, repetition=0, operations=1_000,
        seconds=seconds, normalised=seconds if normalised is None else normalised, probe_ns=50.0,
    )  # fmt: skip


def test_a_subject_that_would_take_too_long_is_left_out() -> None:
    """The limit is 10 s for a workload, and ten times the keys take ten times as long."""
    kept, notes = in_time(PLAN, [row("fast", 0.9), row("slow", 0.2), row("slow", 1.1)], 10_000)
    assert kept == [FAST]
    assert notes == ["slow: left out from 10,000 keys on, because a workload took 1.1 s with 1,000"]


def test_times_of_several_runs_are_at_one_speed() -> None:
    """What waits for a disk isn't normalised, and stays as it is."""
    rows = at_one_speed([row("fast", 2.0, 1.0), row("slow", 3.0)], own=50.0, fastest=40.0)
    assert [each.normalised for each in rows] == [0.8, 3.0]
    assert at_one_speed([row("fast", 2.0, 1.0)], own=0.0, fastest=0.0)[0].normalised == 1.0


def test_rows_are_counted_for_the_progress_bar() -> None:
    """2 subjects, 2 workloads and 2 repetitions at 3 numbers of keys; a recovery for each process, and durability twice."""
    assert Whole(plan=PLAN, sizes=(1, 2, 3), recover=False, durability=False).rows == 3 * 8
    assert Whole(plan=PLAN, sizes=(1, 2, 3)).rows == 3 * (8 + 4) + 4


def test_one_document_has_every_number_of_keys(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "results.json"
    words = ["fillrandom", "recover", "--engine", "bitcask", "--growth", "1e2,2e2", "--repetitions", "1"]
    assert cli.main(["bench", *words, "--no-durability", "--json", str(file)]) == 0
    results = read_results(str(file))
    assert [(row.workload, row.keys) for row in results.measured] == [
        ("fillrandom", 100),
        ("fillrandom", 200),
        ("recover", 100),
        ("recover", 200),
    ]
    assert results.settings["sizes"] == [100, 200] and results.durability == []
    assert "fillrandom against the number of keys" in capsys.readouterr().out


@pytest.mark.parametrize("sizes", ["1e3,1e2", "1e3,1e3"])
def test_numbers_of_keys_ascend(sizes: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["bench", "--growth", sizes])
    assert "numbers of keys that ascend" in capsys.readouterr().err
