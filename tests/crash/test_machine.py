"""The machine finds what is missing in a store, and nothing in one that is right: its own proof, on the toy store.

reference: the table of "which policy catches what" follows from the disk's promises in engines/simdisk.py; a killed
process (`everything`) tests no fsync at all.
"""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest

from engines.simenv import Policy
from tests.crash.damage import flip_every_byte
from tests.crash.faults import every_call_fails
from tests.crash.machine import Step, Subject, power_cut, site_mutants
from tests.crash.store_subject import StoreSubject
from tests.crash.subjects import TOY

FLAWED = f"{Path(__file__).parent}/flawed_toys.py"
P = Policy
LOSES_DATA = {P.NOTHING, P.NAMES_WITHOUT_DATA, P.PREFIX, P.REORDER, P.TORN, P.GARBAGE}
LOSES_NAMES = {P.NOTHING, P.DATA_WITHOUT_NAMES, P.PREFIX, P.REORDER, P.TORN, P.GARBAGE}
REORDERS_NAMES = {P.REORDER, P.TORN, P.GARBAGE}


def toy(flaw: str = "", durable_share: float = 0.8, steps: int = 150) -> Subject:
    """The toy engine, or the class of flawed_toys.py that has the flaw."""
    where = f"{FLAWED}:{flaw}" if flaw else TOY
    return StoreSubject(where, logs=("*.log",), durable_share=durable_share, steps=steps)


class OnlyWrites(StoreSubject):
    """Without `load`, whose new content is nowhere but in the checkpoint: each policy that loses names would lose it."""

    def steps(self, rng: random.Random) -> list[Step]:
        return [step for step in super().steps(rng) if step.kind != "load"]


def test_the_correct_store_survives_every_cut(seed: int) -> None:
    report = power_cut(toy(steps=100), seed, probe_share=0.5, second_cut_share=0.2)
    report.require_no_failure()
    assert report.images == 20 * report.calls > 3_000
    assert report.probes > 100 and report.second_cuts > 1_000 and report.distinct > 300


@pytest.mark.parametrize(
    ("site", "catchers"),
    [
        ("toy.append", LOSES_DATA),
        ("toy.log.name", LOSES_NAMES),
        ("toy.checkpoint", LOSES_DATA),
        ("toy.checkpoint.name", REORDERS_NAMES),
    ],
)
def test_which_policies_notice_a_missing_fsync(site: str, catchers: set[Policy]) -> None:
    """With all writes synced, and without probes and second cuts. None of these is noticed by kill -9; that names are
    unlinked before the rename that replaced them is noticed by reordering only."""
    subject = OnlyWrites(TOY, durable_share=1.0, steps=100)
    report = power_cut(subject, 0, skip_sites={site}, probe_share=0.0, second_cut_share=0.0)
    assert set(report.policies) == catchers, report


def test_a_missing_checksum_is_noticed_by_torn_and_garbage_only() -> None:
    report = power_cut(toy("NoChecksum", durable_share=1.0), 3, probe_share=0.0, second_cut_share=0.0, images=12_000)
    assert set(report.policies) == {P.TORN, P.GARBAGE}, report


def test_a_superfluous_sync_is_reported_as_one(seed: int) -> None:
    """Recovery's second sync of a directory: as nothing has changed since the first, nobody misses it."""
    assert site_mutants(toy("SyncsTwice", steps=40), ["toy.twice"], seed, tries=1) == {"toy.twice": None}


@pytest.mark.parametrize("flaw", ["CutsWithoutASync", "UnlinksFirst", "OverwritesItsCheckpoint", "BuffersInTheProcess"])
def test_a_wrong_order_of_calls_is_found_by_power_cuts(flaw: str, seed: int) -> None:
    mutant = site_mutants(toy(flaw), ["none"], seed)
    assert mutant["none"] is not None


@pytest.mark.parametrize(
    "flaw", ["AcknowledgesAFailedSync", "RetriesASync", "SwallowsAFailedAppend", "GoesOnAfterAFailure", "LeaksItsLock"]
)
def test_wrong_answers_to_errors_are_found_by_failing_calls(flaw: str, seed: int) -> None:
    assert every_call_fails(toy(flaw, steps=60), seed, faults=["EIO once"], runs=120).failed > 0


def test_a_failed_fsync_that_is_acknowledged_is_missed_by_looking_at_the_end_only(seed: int) -> None:
    """The naive test: fail an fsync, go on, look at what is there in the end. It needs the cuts in between, or a disk
    that forgets what a failed fsync was to write."""
    report = every_call_fails(toy("AcknowledgesAFailedSync", steps=60), seed, faults=["EIO once"], runs=120)
    assert any("sync" in failure for failure in report.failures)
    assert power_cut(toy("AcknowledgesAFailedSync", steps=60), seed).failed == 0


def test_the_correct_store_survives_failing_calls(seed: int) -> None:
    report = every_call_fails(toy(steps=100), seed, runs=30)
    report.require_no_failure()
    assert report.runs == 7 * 30


def test_the_correct_store_survives_damage(seed: int) -> None:
    report = flip_every_byte(toy(), seed, attempts=2_000)
    report.require_no_failure()
    assert report.refused > 10 and report.shorter > 10  # at least 137 and 48 with the seeds 0 to 24


def test_a_missing_checksum_is_noticed_by_damage(seed: int) -> None:
    assert flip_every_byte(toy("NoChecksum"), seed, attempts=500).failed > 50


def test_a_loop_that_does_not_end_is_a_failure(seed: int) -> None:
    """A length of 0 that is believed: the reader stays where it is."""
    report = flip_every_byte(toy("Hangs"), seed, attempts=10)
    assert any("Hang" in failure for failure in report.failures)


def test_every_flawed_toy_is_used() -> None:
    flawed = re.findall(r"^class ([A-Z]\w+)", Path(FLAWED).read_text(), re.MULTILINE)
    tests = Path(__file__).read_text() + Path(__file__).with_name("test_command.py").read_text()
    assert len(flawed) == 13
    assert [name for name in flawed if f'"{name}"' not in tests and f"}}:{name}" not in tests] == []


def test_the_same_seed_gives_the_same_run() -> None:
    first, second = (power_cut(toy("UnlinksFirst", steps=40), 3) for _ in range(2))
    assert (first.images, first.distinct, first.failed) == (second.images, second.distinct, second.failed)
    assert list(map(str, first.failures)) == list(map(str, second.failures))
