"""What a write survives, with the real strace: of our engines, and of what stands beside them.

apt-get install strace
"""

from __future__ import annotations

import shutil

import pytest

from bench.amplification import amplification, levels_bytes_written
from bench.durability import durability
from bench.results import Subject
from bench.subjects import engine_subject, peer_subject


@pytest.fixture(autouse=True, scope="module")
def strace() -> None:
    if shutil.which("strace") is None:
        pytest.skip("strace isn't installed: apt-get install strace")


@pytest.mark.parametrize(
    "subject",
    [*map(engine_subject, ("lsm", "btree", "bitcask")), peer_subject("sqlite3"), Subject(name="plyvel", kind="peer")],
    ids=lambda subject: subject.name,
)
def test_a_synced_put_survives_a_power_cut_and_another_a_killed_process(subject: Subject) -> None:
    """The contract's third promise, and what LevelDB and SQLite promise, from their system calls."""
    synced = durability(subject, synced=True, puts=20)
    assert synced.survives == "power cut" and synced.fsyncs >= 20
    unsynced = durability(subject, synced=False, puts=20)
    assert unsynced.survives == "killed process" and unsynced.fsyncs == 0


def test_memory_survives_nothing() -> None:
    found = durability(engine_subject("memory"), synced=True, puts=20)
    assert (found.survives, found.writes, found.fsyncs) == ("nothing", 0, 0)


def test_leveldbs_own_figure_lies_below_what_it_has_written() -> None:
    """Its property has flushes and compactions, in whole megabytes; the system counts the log as well."""
    pytest.importorskip("plyvel")
    found = amplification(Subject(name="LevelDB", kind="peer"), 60_000)
    assert "Compactions" in found.levels and found.own_bytes == levels_bytes_written(found.levels) > 0
    assert found.written_bytes > found.own_bytes + found.user_bytes
    assert found.reads_per_get is None
