"""A simulated disk: what a crash takes back, and what a node finds when it starts again."""

from __future__ import annotations

import random

from raft import ConfState, Entry, HardState, Snapshot, SnapshotMetadata
from raft.simulation.disk import Disk


def _disk() -> Disk:
    disk = Disk(ConfState((1, 2, 3)))
    disk.write(Entry(1, 1))
    disk.write(HardState(1, 1, 0))
    disk.sync()
    return disk


def test_a_crash_keeps_what_was_synced_and_some_prefix_of_the_rest() -> None:
    kept = set()
    for seed in range(50):
        disk = _disk()
        disk.write(Entry(1, 2))
        disk.write(Entry(1, 3))
        disk.crash(random.Random(seed))
        assert disk.records[:2] == _disk().records
        kept.add(len(disk.records))
    assert kept == {2, 3, 4}


def test_what_survived_a_crash_is_safe_from_the_next() -> None:
    disk = _disk()
    disk.write(Entry(1, 2))
    for seed in range(20):
        disk.crash(random.Random(seed))
        count = len(disk.records)
        disk.crash(random.Random(seed + 1))
        assert len(disk.records) == count


def test_replay_makes_the_storage_that_was_written() -> None:
    """Entries replace others; a snapshot received replaces all; one made here cuts the log."""
    disk = _disk()
    disk.write(Entry(1, 2))
    disk.write(Entry(2, 2))
    disk.write(HardState(2, 0, 2))
    storage = disk.replay()
    assert (storage.last_index(), storage.term(2)) == (2, 2)
    assert storage.initial_state() == (HardState(2, 0, 2), ConfState((1, 2, 3)))
    assert disk.hard_state() == HardState(2, 0, 2)

    metadata = SnapshotMetadata(2, 2, ConfState((1, 2)))
    disk.write((Snapshot(metadata, b"state"), 1))
    storage = disk.replay()
    assert (storage.first_index(), storage.last_index()) == (2, 2)
    assert storage.snapshot().metadata == metadata

    disk.write(Snapshot(SnapshotMetadata(9, 3, ConfState((1,))), b"later"))
    storage = disk.replay()
    assert (storage.first_index(), storage.last_index(), storage.snapshot().data) == (10, 9, b"later")


def test_an_empty_disk_has_an_empty_hard_state() -> None:
    assert Disk(ConfState((1,))).hard_state() == HardState()
