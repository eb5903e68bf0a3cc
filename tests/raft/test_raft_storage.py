"""MemoryStorage: the part of the log that is on disk, and the snapshot in front of it."""

from __future__ import annotations

import pytest

from raft import (
    NO_LIMIT,
    CompactedError,
    ConfState,
    HardState,
    MemoryStorage,
    RaftPanic,
    Snapshot,
    SnapshotMetadata,
    SnapshotOutOfDateError,
    UnavailableError,
)
from tests.raft.nodes import entries

VOTERS = ConfState((1, 2, 3))


@pytest.fixture
def storage() -> MemoryStorage:
    """Entries 4, 5, 6 of terms 4, 5, 6, after a cut at 3 of term 3."""
    storage = MemoryStorage(VOTERS)
    storage.apply_snapshot(Snapshot(SnapshotMetadata(3, 3, VOTERS)))
    storage.append(entries(4, (4, 5, 6)))
    return storage


def test_a_new_storage_is_empty_at_index_0() -> None:
    storage = MemoryStorage(VOTERS)
    assert storage.initial_state() == (HardState(), VOTERS)
    assert (storage.first_index(), storage.last_index(), storage.term(0)) == (1, 0, 0)
    assert storage.snapshot().is_empty()
    with pytest.raises(UnavailableError):
        storage.entries(1, 1, NO_LIMIT)


def test_terms_are_known_from_the_cut_to_the_end(storage: MemoryStorage) -> None:
    assert [storage.term(index) for index in (3, 4, 5, 6)] == [3, 4, 5, 6]
    with pytest.raises(CompactedError, match="entry 2"):
        storage.term(2)
    with pytest.raises(UnavailableError, match="entry 7"):
        storage.term(7)


@pytest.mark.parametrize(
    ("lo", "hi", "max_size_bytes", "expected"),
    [
        (4, 5, NO_LIMIT, [4]),
        (4, 7, NO_LIMIT, [4, 5, 6]),
        (6, 6, NO_LIMIT, []),
        (4, 7, 0, [4]),  # at least one, whatever the limit
        (4, 7, 17, [4]),
        (4, 7, 33, [4]),
        (4, 7, 34, [4, 5]),
        (4, 7, 51, [4, 5, 6]),
        (5, 7, 17, [5]),
    ],
)
def test_entries_are_cut_at_a_size(
    storage: MemoryStorage, lo: int, hi: int, max_size_bytes: int, expected: list[int]
) -> None:
    assert [entry.index for entry in storage.entries(lo, hi, max_size_bytes)] == expected


def test_entries_outside_are_refused(storage: MemoryStorage) -> None:
    with pytest.raises(CompactedError):
        storage.entries(3, 5, NO_LIMIT)
    with pytest.raises(RaftPanic):
        storage.entries(4, 8, NO_LIMIT)


@pytest.mark.parametrize(
    ("first", "terms", "expected"),
    [
        (7, (7,), [4, 5, 6, 7]),
        (4, (4, 5, 6), [4, 5, 6]),
        (5, (8,), [4, 8]),  # a shorter tail replaces a longer one
        (4, (9, 9, 9, 9), [9, 9, 9, 9]),
        (2, (2, 3, 7), [7]),  # what is cut away already is passed over
        (1, (1, 2, 3), [4, 5, 6]),
        (7, (), [4, 5, 6]),
    ],
)
def test_append_replaces_what_it_overlaps(
    storage: MemoryStorage, first: int, terms: tuple[int, ...], expected: list[int]
) -> None:
    storage.append(entries(first, terms))
    last = storage.last_index()
    assert [entry.term for entry in storage.entries(4, last + 1, NO_LIMIT)] == expected


def test_append_leaves_no_hole(storage: MemoryStorage) -> None:
    with pytest.raises(RaftPanic, match="hole"):
        storage.append(entries(8, (8,)))
    with pytest.raises(RaftPanic, match="from 6 to 8 are not contiguous"):
        storage.append([*entries(6, (6,)), *entries(8, (8,))])


def test_compact_keeps_the_term_of_the_cut(storage: MemoryStorage) -> None:
    storage.compact(5)
    assert (storage.first_index(), storage.last_index(), storage.term(5)) == (6, 6, 5)
    assert [entry.index for entry in storage.entries(6, 7, NO_LIMIT)] == [6]
    storage.compact(6)
    assert (storage.first_index(), storage.last_index(), storage.term(6)) == (7, 6, 6)
    with pytest.raises(CompactedError):
        storage.compact(6)
    with pytest.raises(RaftPanic):
        storage.compact(7)


def test_a_snapshot_is_made_of_what_is_there_and_moves_forward(storage: MemoryStorage) -> None:
    snapshot = storage.create_snapshot(5, ConfState((1, 2)), b"state")
    assert snapshot == Snapshot(SnapshotMetadata(5, 5, ConfState((1, 2))), b"state")
    assert storage.snapshot() == snapshot
    assert storage.initial_state()[1] == ConfState((1, 2))
    assert storage.first_index() == 4, "the log isn't cut by it"
    assert storage.create_snapshot(6, None, b"").metadata.conf_state == ConfState((1, 2))
    with pytest.raises(SnapshotOutOfDateError):
        storage.create_snapshot(6, None, b"")
    with pytest.raises(RaftPanic):
        storage.create_snapshot(7, None, b"")


def test_a_received_snapshot_replaces_the_log(storage: MemoryStorage) -> None:
    storage.apply_snapshot(Snapshot(SnapshotMetadata(9, 7, VOTERS), b"state"))
    assert (storage.first_index(), storage.last_index(), storage.term(9)) == (10, 9, 7)
    with pytest.raises(SnapshotOutOfDateError):
        storage.apply_snapshot(Snapshot(SnapshotMetadata(9, 7, VOTERS)))


def test_the_hard_state_is_kept(storage: MemoryStorage) -> None:
    storage.set_hard_state(HardState(6, 2, 5))
    assert storage.initial_state()[0] == HardState(6, 2, 5)
