"""The end of the log that is not on disk yet (raft/log_unstable.py): what is handed out, what becomes stable, what is replaced."""

from __future__ import annotations

import pytest

from raft import NO_LIMIT, ConfState, Entry, RaftPanic, Snapshot, SnapshotMetadata
from raft.log_unstable import Unstable
from tests.raft.nodes import entries


def make_unstable(offset: int, terms: tuple[int, ...], in_progress: int = 0) -> Unstable:
    unstable = Unstable(offset)
    if terms:
        unstable.truncate_and_append(entries(offset, terms))
    unstable.offset_in_progress = offset + in_progress
    return unstable


def indexes(found: list[Entry]) -> list[int]:
    return [entry.index for entry in found]


@pytest.mark.parametrize(
    ("first", "terms", "expected", "offset", "in_progress"),
    [
        (7, (1,), [(5, 1), (6, 1), (7, 1)], 5, 7),  # right after the end: appended
        (5, (2, 2), [(5, 2), (6, 2)], 5, 5),  # all replaced
        (4, (2, 2), [(4, 2), (5, 2)], 4, 4),  # and some of storage
        (6, (2,), [(5, 1), (6, 2)], 5, 6),  # a part replaced, which has to be written again
    ],
)
def test_what_replaces_entries_being_written_is_handed_out_again(
    first: int, terms: tuple[int, ...], expected: list[tuple[int, int]], offset: int, in_progress: int
) -> None:
    unstable = make_unstable(5, (1, 1), in_progress=2)
    unstable.truncate_and_append(entries(first, terms))
    assert [(entry.index, entry.term) for entry in unstable.entries] == expected
    assert (unstable.offset, unstable.offset_in_progress) == (offset, in_progress)
    assert indexes(unstable.next_entries()) == [i for i, _ in expected if i >= in_progress]


@pytest.mark.parametrize(
    ("index", "term", "left"),
    [
        (5, 1, [6, 7]),
        (6, 1, [7]),
        (7, 2, []),
        (7, 1, [5, 6, 7]),  # the entry was replaced while its predecessor was written: nothing is stable
        (4, 1, [5, 6, 7]),  # old news
        (8, 2, [5, 6, 7]),
    ],
)
def test_only_what_was_written_becomes_stable(index: int, term: int, left: list[int]) -> None:
    """The check of the term is what rabbitmq/ra#637 lacked."""
    unstable = make_unstable(5, (1, 1, 2), in_progress=3)
    unstable.stable_to(index, term)
    assert indexes(unstable.entries) == left
    assert unstable.offset_in_progress == 8


def test_a_slice_of_the_unstable_part_stays_within_it() -> None:
    unstable = make_unstable(5, (1, 1, 1))
    assert indexes(unstable.slice(6, 8, NO_LIMIT)) == [6, 7]
    assert indexes(unstable.slice(5, 8, 34)) == [5, 6]
    for lo, hi in ((4, 6), (6, 9), (7, 6)):
        with pytest.raises(RaftPanic, match="unstable ones are"):
            unstable.slice(lo, hi, NO_LIMIT)


def test_a_snapshot_waits_until_that_very_one_is_installed() -> None:
    unstable = make_unstable(5, (1,))
    snapshot = Snapshot(SnapshotMetadata(9, 2, ConfState((1,))))
    unstable.restore(snapshot)
    assert (unstable.first_index(), unstable.last_index(), unstable.term(9), unstable.term(8)) == (10, 9, 2, None)
    assert unstable.next_snapshot() is snapshot
    unstable.accept_in_progress()
    assert unstable.next_snapshot() is None
    unstable.stable_snapshot_to(8)
    assert unstable.snapshot is snapshot
    unstable.stable_snapshot_to(9)
    assert unstable.snapshot is None
    assert not unstable.snapshot_in_progress


def test_the_old_logs_entries_do_not_outlive_a_snapshot() -> None:
    """They may conflict with what follows it; kept, they would be sent snapshots for ever (hashicorp/raft#697)."""
    unstable = make_unstable(5, (1,) * 8)
    unstable.restore(Snapshot(SnapshotMetadata(9, 2, ConfState((1,)))))
    assert (unstable.entries, unstable.last_index()) == ([], 9)


def test_what_follows_a_snapshot_is_handed_out_even_if_its_index_was_being_written() -> None:
    """The entries that were on their way to the disk are another leader's; these are new."""
    unstable = make_unstable(5, (1,) * 8, in_progress=8)
    unstable.restore(Snapshot(SnapshotMetadata(9, 2, ConfState((1,)))))
    unstable.truncate_and_append(entries(10, (2, 2)))
    assert indexes(unstable.next_entries()) == [10, 11]


def test_the_handed_out_list_does_not_change_with_the_log() -> None:
    unstable = make_unstable(5, (1, 1))
    handed_out = unstable.next_entries()
    unstable.truncate_and_append(entries(6, (2, 2)))
    assert [(entry.index, entry.term) for entry in handed_out] == [(5, 1), (6, 1)]


SNAPSHOT = Snapshot(SnapshotMetadata(4, 1, ConfState((1,))))


def with_snapshot(terms: tuple[int, ...] = ()) -> Unstable:
    """A snapshot at 4 of term 1, and entries from 5 on."""
    unstable = Unstable(1)
    unstable.restore(SNAPSHOT)
    if terms:
        unstable.truncate_and_append(entries(5, terms))
    return unstable


@pytest.mark.parametrize(
    ("unstable", "first", "last"),
    [
        (make_unstable(5, ()), None, 4),
        (make_unstable(5, (1,)), None, 5),
        (with_snapshot(), 5, 4),
        (with_snapshot((1, 1)), 5, 6),
    ],
)
def test_the_end_of_the_log_is_known_here_and_its_beginning_with_a_snapshot(
    unstable: Unstable, first: int | None, last: int
) -> None:
    assert (unstable.first_index(), unstable.last_index()) == (first, last)


@pytest.mark.parametrize(
    ("unstable", "index", "term"),
    [
        (make_unstable(5, (2,)), 5, 2),
        (make_unstable(5, (2,)), 6, None),
        (make_unstable(5, (2,)), 4, None),
        (with_snapshot((2,)), 5, 2),
        (with_snapshot((2,)), 4, 1),  # the snapshot's own
        (with_snapshot((2,)), 3, None),
        (with_snapshot((2,)), 6, None),
        (make_unstable(5, ()), 5, None),
    ],
)
def test_a_term_is_known_for_entries_and_for_the_snapshots_end(
    unstable: Unstable, index: int, term: int | None
) -> None:
    assert unstable.term(index) == term


@pytest.mark.parametrize(
    ("in_progress", "expected"), [(0, [5, 6, 7]), (1, [6, 7]), (3, [])], ids=["none", "some", "all"]
)
def test_what_is_being_written_is_not_handed_out_again(in_progress: int, expected: list[int]) -> None:
    unstable = make_unstable(5, (1, 1, 1), in_progress)
    assert indexes(unstable.next_entries()) == expected
    assert unstable.has_next_entries() == bool(expected)
    unstable.accept_in_progress()
    assert unstable.next_entries() == []
    unstable.truncate_and_append(entries(8, (1,)))
    assert indexes(unstable.next_entries()) == [8], "only what is new"


def test_an_entry_that_becomes_stable_leaves_the_snapshot() -> None:
    """They are reported apart: a snapshot takes longer to install than entries to write."""
    unstable = with_snapshot((1, 1))
    unstable.accept_in_progress()
    unstable.stable_to(5, 1)
    assert (indexes(unstable.entries), unstable.offset) == ([6], 6)
    assert unstable.snapshot is SNAPSHOT
    unstable.stable_to(4, 1)  # the snapshot's own entry is no entry here
    assert indexes(unstable.entries) == [6]
