"""The table that `make bench` prints."""

from __future__ import annotations

from typing import Any

import pytest

from tests.bench.table import table


def measured(name: str, median: float, **told: object) -> dict[str, Any]:
    return {"name": name, "stats": {"median": median}, "extra_info": told}


def test_workloads_are_rows_and_engines_columns() -> None:
    """A cell is thousand operations a second; a workload that an engine doesn't have is a dash."""
    text = table(
        {
            "machine_info": {"python_version": "3.11.7", "machine": "x86_64", "cpu": {"brand_raw": "a fast one"}},
            "benchmarks": [
                measured("test_fillseq[memory]", 0.5, engine="memory", workload="fillseq", operations=100_000),
                measured("test_fillseq[lsm]", 2.0, engine="lsm", workload="fillseq", operations=100_000),
                measured("test_reopen[lsm]", 0.4, engine="lsm", workload="reopen", operations=1_000),
                measured("test_election", 0.0021),
                measured("test_propose", 0.5, operations=5_000),
            ],
        }
    )
    assert text.splitlines() == [
        "thousand/s     memory        lsm",
        "fillseq           200       50.0",
        "reopen              -       2.50",
        "",
        f"{'test_election':<50}      2.100 ms",
        f"{'test_propose':<50}       10.0 thousand/s",
        "",
        "Python 3.11.7, a fast one",
    ]


def test_no_results_are_no_table() -> None:
    """A run that measured nothing doesn't look like one that did."""
    with pytest.raises(ValueError, match="nothing was measured"):
        table({"benchmarks": [], "machine_info": {}})
