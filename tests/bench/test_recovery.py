"""Opening after a kill, in real processes."""

from __future__ import annotations

from bench.recovery import recovery_of_all
from bench.results import Subject
from bench.run import Plan
from bench.subjects import engine_subject, peer_subject

KEYS = 300


def plan(*subjects: Subject) -> Plan:
    return Plan(subjects=list(subjects), workloads=[], keys=KEYS, repetitions=1)


def test_a_store_whose_process_was_killed_is_opened_and_timed() -> None:
    told: list[object] = []
    rows, notes = recovery_of_all(plan(engine_subject("lsm"), peer_subject("sqlite3")), told.append)
    assert notes == [] and told == ["lsm recover", "sqlite3 recover"]
    assert [(row.subject, row.workload, row.keys, row.operations) for row in rows] == [
        ("lsm", "recover", KEYS, 1),
        ("sqlite3", "recover", KEYS, 1),
    ]
    assert all(0 < row.seconds == row.normalised and row.probe_ns > 0 for row in rows)
    lsm, sqlite = rows
    assert lsm.counters is not None and lsm.counters.bytes_written >= KEYS * 116, "the log became a table"
    assert sqlite.counters is None


def test_what_a_kill_loses_is_no_recovery() -> None:
    """The memory engine opens at once, and has nothing."""
    rows, notes = recovery_of_all(plan(engine_subject("memory")))
    assert rows == []
    assert notes == [
        "memory, recover: ValueError: 100 of about 100 keys that were written before the kill aren't there"
    ]


def test_a_process_that_fails_to_fill_is_a_note() -> None:
    lost = Subject(name="lost", kind="engine", engine="nosuch")
    rows, notes = recovery_of_all(plan(lost))
    assert rows == [] and len(notes) == 1
    assert notes[0].startswith("lost, recover: ") and "no engine is called 'nosuch'" in notes[0]
