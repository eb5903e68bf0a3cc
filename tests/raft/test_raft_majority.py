"""A majority (raft/quorum/majority.py), against definitions that are too slow to use."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raft.quorum import INFINITE_INDEX, VOTE_LOST, VOTE_PENDING, VOTE_WON, MajorityConfig

IDS = st.sets(st.integers(1, 9), max_size=7)
ACKS = st.dictionaries(st.integers(1, 9), st.integers(0, 20))
VOTES = st.dictionaries(st.integers(1, 9), st.booleans())


def _slow_committed_index(ids: set[int], acks: dict[int, int]) -> int:
    """The largest index that more than half of the voters are at or above."""
    if not ids:
        return INFINITE_INDEX
    candidates = {0, *acks.values()}
    return max(i for i in candidates if 2 * sum(acks.get(node_id, 0) >= i for node_id in ids) > len(ids))


@pytest.mark.parametrize(
    ("acks", "expected"),
    [
        ({1: 5, 2: 9, 3: 7}, 7),
        ({1: 5, 2: 9}, 5),
        ({1: 5}, 0),
        ({}, 0),
        ({1: 5, 2: 5, 3: 5}, 5),
        ({1: 5, 4: 99, 5: 99}, 0),  # nodes that aren't voters don't count
    ],
)
def test_three_voters_commit_what_two_have(acks: dict[int, int], expected: int) -> None:
    assert MajorityConfig((1, 2, 3)).committed_index(acks) == expected


def test_two_and_four_voters_need_more_than_half() -> None:
    assert MajorityConfig((1, 2)).committed_index({1: 5, 2: 3}) == 3
    assert MajorityConfig((1, 2, 3, 4)).committed_index({1: 5, 2: 9, 3: 7}) == 5


@given(ids=IDS, acks=ACKS)
def test_the_committed_index_is_the_definition(ids: set[int], acks: dict[int, int]) -> None:
    assert MajorityConfig(ids).committed_index(acks) == _slow_committed_index(ids, acks)


@given(ids=IDS, votes=VOTES)
def test_a_vote_is_decided_when_the_missing_ones_cannot_change_it(ids: set[int], votes: dict[int, bool]) -> None:
    """Try every outcome of the missing votes: all won is won, none won is lost, else it is pending."""
    missing = [node_id for node_id in ids if node_id not in votes]
    granted = sum(votes.get(node_id, False) for node_id in ids)
    outcomes = {2 * (granted + more) > len(ids) or not ids for more in range(len(missing) + 1)}
    expected = VOTE_PENDING if len(outcomes) == 2 else VOTE_WON if outcomes == {True} else VOTE_LOST
    assert MajorityConfig(ids).vote_result(votes) == expected


def test_a_set_of_voters_is_sorted_and_has_each_once() -> None:
    """So that every walk over it is the same in every run."""
    config = MajorityConfig((3, 1, 2, 3))
    assert list(config) == [1, 2, 3]
    assert (len(config), 2 in config, 4 in config) == (3, True, False)
    assert config == MajorityConfig({1, 2, 3})
    assert str(config) == "(1 2 3)"
