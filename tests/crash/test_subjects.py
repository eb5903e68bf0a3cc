"""Every subject of the table through power cuts, failing calls and damage: small here, whole with `-m slow`.

`python -m tests.crash NAME` does the same with figures.
"""

from __future__ import annotations

import pytest

from tests.crash.damage import flip_every_byte
from tests.crash.faults import every_call_fails
from tests.crash.machine import power_cut, site_mutants, sync_sites
from tests.crash.subjects import SUBJECTS

pytestmark = pytest.mark.parametrize("name", SUBJECTS)


def test_some_power_cuts(name: str, seed: int) -> None:
    power_cut(SUBJECTS[name](), seed, images=1_000).require_no_failure()


def test_some_failing_calls(name: str, seed: int) -> None:
    every_call_fails(SUBJECTS[name](), seed, runs=8).require_no_failure()


def test_some_damaged_bytes(name: str, seed: int) -> None:
    flip_every_byte(SUBJECTS[name](), seed, attempts=400).require_no_failure()


@pytest.mark.slow
def test_ten_thousand_power_cuts(name: str, seed: int) -> None:
    report = power_cut(SUBJECTS[name](), seed, images=10_000)
    report.require_no_failure()
    assert report.images >= 10_000


@pytest.mark.slow
def test_every_failing_call(name: str, seed: int) -> None:
    every_call_fails(SUBJECTS[name](), seed).require_no_failure()


@pytest.mark.slow
def test_every_damaged_byte(name: str, seed: int) -> None:
    flip_every_byte(SUBJECTS[name](), seed).require_no_failure()


@pytest.mark.slow
def test_every_sync_is_missed_when_left_out(name: str, seed: int) -> None:
    """A site whose loss no image shows is a hole in these tests, or a superfluous fsync."""
    subject = SUBJECTS[name]()
    sites = sync_sites(subject, seed)
    assert [site for site, failure in site_mutants(subject, sites, seed).items() if failure is None] == []
