"""The configuration in force and its votes (raft/tracker/tracker.py and config.py)."""

from __future__ import annotations

import pytest

from raft import ConfState
from raft.confchange import restore
from raft.quorum import VOTE_LOST, VOTE_PENDING, VOTE_WON, VoteResult
from raft.tracker import ProgressTracker, TrackerConfig


def tracker_of(conf_state: ConfState) -> ProgressTracker:
    tracker = ProgressTracker(10)
    tracker.config, tracker.progress = restore(tracker, conf_state, 10)
    return tracker


JOINT = ConfState((1, 2, 5), (6,), (1, 2, 3), (3,), True)


@pytest.mark.parametrize(
    ("conf_state", "text"),
    [
        (ConfState(), "voters=()"),
        (ConfState((1, 2)), "voters=(1 2)"),
        (ConfState((1,), (2, 3)), "voters=(1) learners=(2 3)"),
        (JOINT, "voters=(1 2 5)&&(1 2 3) learners=(6) learners_next=(3) autoleave"),
    ],
)
def test_a_configuration_prints_what_it_has(conf_state: ConfState, text: str) -> None:
    tracker = tracker_of(conf_state)
    assert str(tracker.config) == text
    assert tracker.conf_state() == conf_state


def test_no_configuration_is_the_empty_one() -> None:
    assert TrackerConfig().conf_state() == ConfState()


def test_there_is_progress_for_all_in_ascending_order() -> None:
    """Every walk over it is the same in every run."""
    tracker = tracker_of(ConfState((9, 2), (1,)))
    assert list(tracker.progress) == [1, 2, 9]
    assert [pr.is_learner for pr in tracker.progress.values()] == [True, False, False]


def test_learners_do_not_count_for_a_commit() -> None:
    tracker = tracker_of(ConfState((1, 2, 3), (4, 5)))
    for node_id, match in ((1, 7), (4, 9), (5, 9)):
        tracker.progress[node_id].match = match
    assert tracker.committed() == 0
    tracker.progress[2].match = 6
    assert tracker.committed() == 6


def test_both_sets_count_for_a_commit_while_it_is_joint() -> None:
    tracker = tracker_of(ConfState((1, 4, 5), (), (1, 2, 3)))
    for node_id, match in ((1, 9), (2, 8), (4, 5)):
        tracker.progress[node_id].match = match
    assert tracker.committed() == 5


@pytest.mark.parametrize(
    ("active", "expected"), [([1, 2], True), ([1], False), ([1, 4, 5], False), ([2, 3], True), ([], False)]
)
def test_a_quorum_is_active_by_its_voters(active: list[int], expected: bool) -> None:
    tracker = tracker_of(ConfState((1, 2, 3), (4, 5)))
    for node_id, progress in tracker.progress.items():
        progress.recent_active = node_id in active
    assert tracker.quorum_active() is expected


@pytest.mark.parametrize(
    ("votes", "expected"),
    [
        ({}, (0, 0, VOTE_PENDING)),
        ({1: True}, (1, 0, VOTE_PENDING)),
        ({1: True, 2: True}, (2, 0, VOTE_WON)),
        ({1: True, 2: False, 3: False}, (1, 2, VOTE_LOST)),
        ({1: True, 4: True, 9: True}, (1, 0, VOTE_PENDING)),  # a learner's and a stranger's count for nothing
    ],
)
def test_votes_are_counted_of_voters(votes: dict[int, bool], expected: tuple[int, int, VoteResult]) -> None:
    tracker = tracker_of(ConfState((1, 2, 3), (4,)))
    for node_id, granted in votes.items():
        tracker.record_vote(node_id, granted)
    assert tracker.tally_votes() == expected


def test_the_first_vote_of_a_node_counts() -> None:
    tracker = tracker_of(ConfState((1, 2, 3)))
    tracker.record_vote(2, False)
    tracker.record_vote(2, True)
    assert tracker.tally_votes() == (0, 1, VOTE_PENDING)
    tracker.reset_votes()
    assert tracker.tally_votes() == (0, 0, VOTE_PENDING)
