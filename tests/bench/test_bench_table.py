"""The table that `make bench` prints."""

from __future__ import annotations

from typing import Any

import pytest

from tests.bench.table import duration, table

MACHINE = {"python_version": "3.11.7", "machine": "x86_64", "cpu": {"brand_raw": "a fast one"}}


def measured(name: str, median: float, **told: object) -> dict[str, Any]:
    return {"name": name, "stats": {"median": median, "min": median * 0.9, "max": median * 1.25}, "extra_info": told}


def test_a_line_says_what_one_operation_takes_and_what_it_is() -> None:
    text = table(
        {
            "machine_info": MACHINE,
            "benchmarks": [
                measured(
                    "test_memtable_add[fast]", 0.02, what="10,000 pairs into an empty memtable", operations=10_000
                ),
                measured("test_proposals", 0.664, what="a proposal", operations=6_400),
            ],
        }
    )
    assert text.splitlines() == [
        "part                    each        rounds  what one is",
        "memtable add (fast)  2.00 µs  -10 to +25 %  10,000 pairs into an empty memtable",
        "proposals             104 µs  -10 to +25 %  a proposal",
        "",
        "Python 3.11.7, a fast one",
    ]


def test_a_measurement_that_does_not_say_what_it_is_is_refused() -> None:
    with pytest.raises(ValueError, match="test_election doesn't say operations and what"):
        table({"benchmarks": [measured("test_election", 0.1)], "machine_info": MACHINE})


def test_no_results_are_no_table() -> None:
    """A run that measured nothing doesn't look like one that did."""
    with pytest.raises(ValueError, match="nothing was measured"):
        table({"benchmarks": [], "machine_info": {}})


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(2.5e-7, "250 ns"), (2.984e-6, "2.98 µs"), (0.0123, "12.3 ms"), (2.0, "2.00 s"), (123.4, "123 s")],
)
def test_durations_have_three_digits(seconds: float, text: str) -> None:
    assert duration(seconds) == text
