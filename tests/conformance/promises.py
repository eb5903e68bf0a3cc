"""A red run on an engine of one's own, grouped by the promise that is broken: one line for each case, and how to repeat it.

    pytest tests/conformance --engine path/to/file.py:Class

    3. A write is durable when it returns, unless sync=False was asked for: 2 cases of 14 broken
       test_reopening_keeps_everything: b'k' is lost
           METCD_SEED=0 python -m pytest 'tests/conformance/…' --engine path/to/file.py:Class --tb=short

The numbers are those of `engines/kvstore.py`. Tracebacks are left out unless `--tb` says otherwise: the command of each
line shows its own.
"""

from __future__ import annotations

import os
import shlex
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from engines.env import plain_everywhere

__all__ = ["PROMISES", "Grouped", "promise_of", "repeat"]

PROMISES = {
    1: "Keys and values are bytes, in the order of bytes",
    2: "A write is atomic",
    3: "A write is durable when it returns, unless sync=False was asked for",
    4: "Readers never wait for the writer, and see one moment",
    5: "A failure is final",
    6: "Threads may share a store",
    7: "Reading only changes nothing",
    8: "A store belongs to the process that opened it; an interrupt or the end leaves it whole",
    9: "The rest of the contract: what the docstrings of engines/kvstore.py say",
}

# test file → promise, for its cases that the next table doesn't name
OF_FILE = {
    "test_against_model.py": 9,
    "test_contract_endings.py": 8,
    "test_contract_failures.py": 5,
    "test_contract_foreign.py": 1,
    "test_contract_interrupts.py": 8,
    "test_contract_lifecycle.py": 9,
    "test_contract_mapping.py": 9,
    "test_contract_paths.py": 9,
    "test_contract_processes.py": 8,
    "test_contract_scans.py": 4,
    "test_contract_snapshots.py": 4,
    "test_contract_threads.py": 6,
    "test_contract_values.py": 1,
    "test_half_built.py": 9,
    "test_only_reading.py": 7,
}
OF_CASE = {
    "test_a_batch_can_be_written_again_and_to_another_store": 2,
    "test_a_batch_is_not_visible_before_its_end": 2,
    "test_a_batch_of_thousands_is_one_write": 2,
    "test_a_batch_that_raises_inside_with_is_discarded": 2,
    "test_a_batch_with_a_bad_key_writes_nothing": 2,
    "test_a_batch_with_a_bad_value_writes_nothing": 2,
    "test_a_bound_that_is_not_bytes_is_refused_at_the_call": 1,
    "test_a_killed_process_loses_nothing": 3,
    "test_a_load_is_one_write_to_readers": 2,
    "test_a_load_that_is_refused_leaves_the_old_content": 2,
    "test_a_load_whose_stream_raises_leaves_the_old_content": 2,
    "test_a_scan_shows_its_range_in_order": 1,
    "test_a_store_syncs_each_write_unless_told_otherwise": 3,
    "test_an_empty_batch_does_nothing": 2,
    "test_an_empty_load_empties_the_store": 2,
    "test_every_file_is_reached_through_the_env": 3,
    "test_load_replaces_everything": 2,
    "test_many_keys_are_scanned_whole": 1,
    "test_order_is_that_of_unsigned_bytes": 1,
    "test_readers_do_not_wait_for_the_writer": 4,
    "test_readers_see_whole_batches_only": 2,
    "test_reopening_keeps_everything": 3,
    "test_reopening_keeps_what_is_large": 3,
    "test_the_last_operation_on_a_key_in_a_batch_wins": 2,
}


def promise_of(nodeid: str) -> int | None:
    """The number of the promise that a case is about; None if it is no conformance case."""
    path, _, case = nodeid.partition("::")
    return OF_CASE.get(case.partition("[")[0]) or OF_FILE.get(Path(path).name)


def repeat(nodeid: str, chosen: list[str], more: str = "") -> str:
    """The command that runs one case again, as it can be pasted. `chosen` is what `--engine` was given."""
    seed = os.environ.get("METCD_SEED", "0")
    engines_chosen = "".join(f" --engine {shlex.quote(where)}" for where in chosen)
    plain = " --plain" if plain_everywhere() else ""
    return f"METCD_SEED={seed} python -m pytest {shlex.quote(nodeid)}{engines_chosen}{plain}{more}"


class Grouped:
    """A pytest plugin, registered when an engine was chosen and the conformance suite is what runs."""

    def __init__(self, config: pytest.Config) -> None:
        self.chosen: list[str] = config.getoption("--engine")
        self.ran: dict[int, int] = defaultdict(int)
        self.broken: dict[int, dict[str, list[pytest.TestReport]]] = defaultdict(lambda: defaultdict(list))
        if config.option.tbstyle == "auto":
            config.option.tbstyle = "no" if len(self.chosen) == 1 else "line"
            config.option.reportchars = ""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        number = promise_of(report.nodeid)
        if number is None:
            return
        self.ran[number] += report.when == "call"
        if report.failed:
            self.broken[number][report.nodeid.partition("[")[0]].append(report)

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if not self.broken:
            return
        terminalreporter.section("the promises that are broken (engines/kvstore.py numbers them)")
        for number, cases in sorted(self.broken.items()):
            failed = len({report.nodeid for reports in cases.values() for report in reports})
            terminalreporter.write_line(
                f"{number}. {PROMISES[number]}: {failed} cases of {self.ran[number]} broken", red=True
            )
            for case, reports in cases.items():
                times = f" ({len(reports)} times)" if len(reports) > 1 else ""
                terminalreporter.write_line(f"   {case.rpartition('::')[2]}{times}: {said(reports[0])}")
                terminalreporter.write_line(f"       {repeat(reports[0].nodeid, self.chosen, ' --tb=short')}")


def said(report: pytest.TestReport, characters: int = 160) -> str:
    """The first line of what a failed case says."""
    crash = getattr(report.longrepr, "reprcrash", None)
    text = str(crash.message if crash is not None else report.longrepr)
    text = next((line.strip() for line in text.splitlines() if line.strip()), "")
    return text if len(text) <= characters else text[: characters - 1] + "…"
