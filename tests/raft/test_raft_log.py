"""The log: matching, conflicts, commit, and what is handed out for application."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raft import (
    NO_LIMIT,
    CompactedError,
    ConfState,
    MemoryStorage,
    RaftPanic,
    Snapshot,
    SnapshotMetadata,
    UnavailableError,
)
from raft.log import RaftLog
from tests.raft.nodes import entries


def make_log(
    stable: tuple[int, ...] = (), unstable: tuple[int, ...] = (), *, cut: int = 0, room: int = NO_LIMIT
) -> RaftLog:
    """Entries cut+1, cut+2, … of these terms, the first of them in storage; the cut has term 1."""
    storage = MemoryStorage(ConfState((1,)))
    if cut:
        storage.apply_snapshot(Snapshot(SnapshotMetadata(cut, 1, ConfState((1,)))))
    storage.append(entries(cut + 1, stable))
    log = RaftLog(storage, room)
    log.append(entries(cut + 1 + len(stable), unstable))
    return log


def log_terms(log: RaftLog) -> list[int]:
    return [log.term(index) for index in range(log.first_index(), log.last_index() + 1)]


@pytest.mark.parametrize(
    ("first", "terms", "expected"),
    [
        (1, (), 0),
        (1, (1, 2, 3), 0),  # all there
        (2, (2, 3), 0),
        (3, (3,), 0),
        (1, (1, 2, 3, 4, 4), 4),  # the first new one
        (3, (3, 4), 4),
        (4, (4, 4), 4),
        (1, (4, 4), 1),  # the first that differs
        (2, (1, 4), 2),
        (3, (1, 2), 3),
    ],
)
def test_find_conflict_names_the_first_entry_that_is_new_or_differs(
    first: int, terms: tuple[int, ...], expected: int
) -> None:
    assert make_log((1, 2), (3,)).find_conflict(entries(first, terms)) == expected


@pytest.mark.parametrize(
    ("terms", "index", "term", "expected"),
    [
        ((2, 2, 5, 5, 5), 5, 5, (5, 5)),
        ((2, 2, 5, 5, 5), 5, 4, (2, 2)),
        ((2, 2, 5, 5, 5), 4, 2, (2, 2)),
        ((2, 2, 5, 5, 5), 5, 1, (0, 0)),
        ((2, 2, 5, 5, 5), 5, 9, (5, 5)),
        ((2, 2, 5, 5, 5), 0, 3, (0, 0)),
        ((2, 2, 5, 5, 5), 9, 5, (9, 0)),  # past the end: not known
    ],
)
def test_find_conflict_by_term_backs_up_by_terms(
    terms: tuple[int, ...], index: int, term: int, expected: tuple[int, int]
) -> None:
    assert make_log(terms[:3], terms[3:]).find_conflict_by_term(index, term) == expected


def test_find_conflict_by_term_stops_at_the_cut() -> None:
    log = make_log((3, 3), (4,), cut=10)
    assert log.find_conflict_by_term(13, 3) == (12, 3)
    assert log.find_conflict_by_term(13, 2) == (10, 1)
    assert log.find_conflict_by_term(13, 0) == (9, 0)
    assert log.find_conflict_by_term(7, 3) == (7, 0)


@given(st.lists(st.integers(1, 6), max_size=12).map(sorted), st.integers(0, 12), st.integers(0, 7))
def test_find_conflict_by_term_is_its_definition(terms: list[int], index: int, term: int) -> None:
    """The largest i ≤ index whose term is ≤ term: halving finds what a walk would."""
    index = min(index, len(terms))
    found = max(i for i in range(index + 1) if ([0, *terms])[i] <= term)
    assert make_log(tuple(terms)).find_conflict_by_term(index, term) == (found, [0, *terms][found])


@pytest.mark.parametrize(
    ("index", "term", "expected"),
    [(4, 3, True), (3, 3, True), (2, 3, False), (1, 4, True), (9, 2, False), (3, 2, False)],
)
def test_up_to_date_is_the_later_term_then_the_longer_log(index: int, term: int, expected: bool) -> None:
    """Paper section 5.4.1, last paragraph."""
    assert make_log((1, 2), (3,)).is_up_to_date(index, term) is expected


@pytest.mark.parametrize(
    ("first", "terms", "expected", "unstable"),
    [
        (3, (), [1, 2], 3),
        (3, (2,), [1, 2, 2], 3),
        (1, (2,), [2], 1),
        (2, (3, 3), [1, 3, 3], 2),
    ],
)
def test_append_replaces_the_tail(first: int, terms: tuple[int, ...], expected: list[int], unstable: int) -> None:
    log = make_log((1, 2))
    assert log.append(entries(first, terms)) == len(expected)
    assert log_terms(log) == expected
    assert log.unstable.offset == unstable


def test_what_is_committed_is_never_replaced() -> None:
    """Log invariant 2."""
    log = make_log((1, 2))
    log.commit_to(2)
    with pytest.raises(RaftPanic, match="committed up to 2"):
        log.append(entries(2, (9,)))
    with pytest.raises(RaftPanic, match="conflicts with one that is committed"):
        log.maybe_append(1, 1, entries(2, (9,)), 2)
    with pytest.raises(RaftPanic, match="hole"):
        log.append(entries(4, (9,)))


@pytest.mark.parametrize(
    ("prev", "terms", "leader_commit", "last_new", "commit", "expected"),
    [
        ((3, 2), (4,), 3, None, 1, [1, 2, 3]),  # another term at prev
        ((4, 4), (4,), 3, None, 1, [1, 2, 3]),  # nothing at prev
        ((3, 3), (), 3, 3, 3, [1, 2, 3]),
        ((3, 3), (), 9, 3, 3, [1, 2, 3]),  # not beyond what the message shows
        ((2, 2), (), 9, 2, 2, [1, 2, 3]),
        ((0, 0), (), 9, 0, 1, [1, 2, 3]),  # never back
        ((3, 3), (4, 4), 4, 5, 4, [1, 2, 3, 4, 4]),
        ((2, 2), (4,), 3, 3, 3, [1, 2, 4]),
        ((1, 1), (2,), 3, 2, 2, [1, 2, 3]),  # a match truncates nothing
    ],
)
def test_maybe_append_is_the_receivers_rules(
    prev: tuple[int, int],
    terms: tuple[int, ...],
    leader_commit: int,
    last_new: int | None,
    commit: int,
    expected: list[int],
) -> None:
    """Paper figure 2, AppendEntries, receiver's rules 2 to 5, on a log 1 2 3 that is committed to 1."""
    log = make_log((1, 2), (3,))
    log.commit_to(1)
    assert log.maybe_append(*prev, entries(prev[0] + 1, terms), leader_commit) == last_new
    assert (log.committed, log_terms(log)) == (commit, expected)


def test_the_commit_index_never_decreases_and_stays_within_the_log() -> None:
    log = make_log((1, 2))
    log.commit_to(2)
    log.commit_to(1)
    assert log.committed == 2
    with pytest.raises(RaftPanic, match="log ends at 2"):
        log.commit_to(3)


def test_a_leader_commits_only_entries_of_its_term() -> None:
    """Paper section 5.4.2."""
    log = make_log((1, 2, 2))
    assert not log.maybe_commit(1, 2)
    assert log.maybe_commit(3, 2)
    assert log.committed == 3
    assert not log.maybe_commit(3, 2)


def test_terms_are_known_where_the_log_is() -> None:
    log = make_log((5,), (6,), cut=10)
    assert [log.term(index) for index in (10, 11, 12)] == [1, 5, 6]
    with pytest.raises(CompactedError):
        log.term(9)
    with pytest.raises(UnavailableError):
        log.term(13)
    assert (log.term_or_zero(9), log.term_or_zero(13), log.term_or_zero(11)) == (0, 0, 5)
    assert not log.match_term(13, 0)


@pytest.mark.parametrize(
    ("lo", "hi", "max_size_bytes", "expected"),
    [
        (1, 5, NO_LIMIT, [1, 2, 3, 4]),
        (1, 3, NO_LIMIT, [1, 2]),
        (3, 5, NO_LIMIT, [3, 4]),
        (2, 4, NO_LIMIT, [2, 3]),
        (1, 1, NO_LIMIT, []),
        (1, 5, 0, [1]),
        (3, 5, 0, [3]),
        (1, 5, 34, [1, 2]),  # cut between storage and the unstable part
        (1, 5, 50, [1, 2]),
        (1, 5, 51, [1, 2, 3]),
    ],
)
def test_a_slice_joins_both_parts(lo: int, hi: int, max_size_bytes: int, expected: list[int]) -> None:
    log = make_log((1, 1), (1, 1))
    assert [entry.index for entry in log.slice(lo, hi, max_size_bytes)] == expected
    with pytest.raises(RaftPanic):
        log.slice(lo, 6, NO_LIMIT)


def test_a_slice_of_what_is_cut_is_refused() -> None:
    with pytest.raises(CompactedError):
        make_log((1, 1), cut=5).slice(5, 7, NO_LIMIT)


@pytest.mark.parametrize("page_size_bytes", [0, 17, 34, 40, NO_LIMIT])
def test_a_scan_visits_every_entry_once(page_size_bytes: int) -> None:
    log = make_log((1, 1, 1), (1, 1))
    pages = list(log.scan(2, 6, page_size_bytes))
    assert [entry.index for page in pages for entry in page] == [2, 3, 4, 5]


def test_only_stable_entries_are_handed_out_for_application() -> None:
    """Log invariant 4: a quorum of others can commit what isn't on this disk yet."""
    log = make_log((1, 1), (1, 1))
    log.commit_to(4)
    assert [entry.index for entry in log.next_committed_entries()] == [1, 2]
    assert [entry.index for entry in log.next_committed_entries(allow_unstable=True)] == [1, 2, 3, 4]
    log.storage.append(entries(3, (1, 1)))  # type: ignore[attr-defined]
    log.unstable.stable_to(4, 1)
    assert [entry.index for entry in log.next_committed_entries()] == [1, 2, 3, 4]


def test_nothing_is_handed_out_twice_or_before_a_snapshot_is_installed() -> None:
    log = make_log((1, 1, 1))
    log.commit_to(2)
    log.accept_applying(2, 34)
    assert not log.has_next_committed_entries()
    log.commit_to(3)
    assert [entry.index for entry in log.next_committed_entries()] == [3]
    log.restore(Snapshot(SnapshotMetadata(9, 2, ConfState((1,)))))
    assert not log.has_next_committed_entries()
    assert log.next_committed_entries() == []


def test_what_is_being_applied_is_bounded() -> None:
    """Each entry is 17 bytes; there is room for two at a time."""
    log = make_log((1,) * 5, room=40)
    log.commit_to(5)
    first = log.next_committed_entries()
    assert [entry.index for entry in first] == [1, 2]
    log.accept_applying(2, 34)
    assert not log.has_next_committed_entries(), "what is left of the room doesn't hold another"
    log.applied_to(1, 17)
    assert [entry.index for entry in log.next_committed_entries()] == [3]
    log.accept_applying(3, 17)
    log.applied_to(3, 34)
    assert [entry.index for entry in log.next_committed_entries()] == [4, 5]


def test_no_room_left_is_no_room_for_one_more() -> None:
    """A slice always lets one entry through, so a full room has to be seen before."""
    log = make_log((1,) * 5, room=34)
    log.commit_to(5)
    log.accept_applying(2, 34)
    log.applied_to(1, 0)
    assert log.next_committed_entries() == []
    log.applied_to(2, 34)
    assert [entry.index for entry in log.next_committed_entries()] == [3, 4]


def test_applied_moves_between_itself_and_the_commit_index() -> None:
    log = make_log((1, 1, 1))
    log.commit_to(2)
    log.applied_to(1, 0)
    for index in (0, 3):
        with pytest.raises(RaftPanic):
            log.applied_to(index, 0)
    with pytest.raises(RaftPanic):
        log.accept_applying(3, 0)


def test_restore_makes_the_snapshot_the_log() -> None:
    log = make_log((1, 1), (1,))
    log.restore(Snapshot(SnapshotMetadata(9, 4, ConfState((1,)))))
    assert (log.first_index(), log.last_index(), log.committed, log.term(9)) == (10, 9, 9, 4)
    assert log.snapshot().metadata.index == 9
    assert log.append(entries(10, (5,))) == 10
