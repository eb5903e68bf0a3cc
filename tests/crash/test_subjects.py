"""Every subject of the table through some power cuts, failing calls and damage; `python -m tests.crash` does all of it."""

from __future__ import annotations

import pytest

from tests.crash.damage import flip_every_byte
from tests.crash.faults import every_call_fails
from tests.crash.machine import power_cut
from tests.crash.subjects import SUBJECTS

pytestmark = pytest.mark.parametrize("name", SUBJECTS)


def test_some_power_cuts(name: str, seed: int) -> None:
    power_cut(SUBJECTS[name](), seed, images=50).require_no_failure()


def test_some_failing_calls(name: str, seed: int) -> None:
    every_call_fails(SUBJECTS[name](), seed, runs=8).require_no_failure()


def test_some_damaged_bytes(name: str, seed: int) -> None:
    flip_every_byte(SUBJECTS[name](), seed, attempts=300).require_no_failure()
