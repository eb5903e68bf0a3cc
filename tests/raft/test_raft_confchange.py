"""The Changer (raft/confchange/confchange.py): from one configuration to the next, and what it refuses."""

from __future__ import annotations

import random

import pytest

from raft import ConfChangeError
from raft.confchange import Changer, restore
from raft.describe import conf_changes_from_text
from raft.kinds import ConfChangeType
from raft.raftpb import ConfChangeSingle, ConfState
from raft.tracker import ProgressTracker


def tracker_of(conf_state: ConfState, last_index: int = 10) -> ProgressTracker:
    tracker = ProgressTracker(10)
    tracker.config, tracker.progress = restore(tracker, conf_state, last_index)
    return tracker


def change(tracker: ProgressTracker, command: str, text: str, last_index: int = 10) -> ConfState:
    """Makes a change, and puts it in force."""
    changer, changes = Changer(tracker, last_index), conf_changes_from_text(text)
    if command == "simple":
        result = changer.simple(changes)
    elif command == "leave":
        result = changer.leave_joint()
    else:
        result = changer.enter_joint(command == "auto", changes)
    tracker.config, tracker.progress = result
    return tracker.conf_state()


@pytest.mark.parametrize(
    ("text", "voters", "learners"),
    [
        ("v4", (1, 2, 3, 4), (5,)),
        ("r3", (1, 2), (5,)),
        ("l3", (1, 2), (3, 5)),
        ("v5", (1, 2, 3, 5), ()),
        ("l6 r5", (1, 2, 3), (6,)),
        ("v4 r4", (1, 2, 3), (5,)),
        ("r9 u1 u9", (1, 2, 3), (5,)),
        ("v0 r0 l0", (1, 2, 3), (5,)),
        ("", (1, 2, 3), (5,)),
    ],
)
def test_a_simple_change_alters_one_voter_at_most(
    text: str, voters: tuple[int, ...], learners: tuple[int, ...]
) -> None:
    """Learners don't count, so any number of them; thesis section 4.1."""
    assert change(tracker_of(ConfState((1, 2, 3), (5,))), "simple", text) == ConfState(voters, learners)


@pytest.mark.parametrize(
    ("before", "command", "text", "why"),
    [
        (ConfState((1, 2)), "simple", "v3 v4", "more than one voter changed"),
        (ConfState((1, 2)), "simple", "r1 v3", "more than one voter changed"),
        (ConfState((1,)), "simple", "r1", "removed all voters"),
        (ConfState((1,)), "simple", "l1", "removed all voters"),
        (ConfState((1, 2)), "joint", "r1 r2", "removed all voters"),
        (ConfState(), "joint", "v1", "can't make a zero-voter config joint"),
        (ConfState((1, 2), (), (1, 3)), "joint", "v4", "config is already joint"),
        (ConfState((1, 2), (), (1, 3)), "simple", "v4", "can't apply simple config change in joint config"),
        (ConfState((1, 2)), "leave", "", "can't leave a non-joint config"),
    ],
)
def test_what_would_leave_two_majorities_without_a_common_node_is_refused(
    before: ConfState, command: str, text: str, why: str
) -> None:
    """With etcd's words; and nothing has changed."""
    tracker = tracker_of(before)
    with pytest.raises(ConfChangeError, match=why):
        change(tracker, command, text)
    assert tracker.conf_state() == before


def test_a_demoted_voter_becomes_a_learner_when_the_old_set_goes() -> None:
    """Nobody is a voter and a learner at once, and the old voters decide until they go."""
    tracker = tracker_of(ConfState((1, 2, 3)))
    assert change(tracker, "auto", "l1 v4 r2") == ConfState((3, 4), (), (1, 2, 3), (1,), True)
    assert not tracker.progress[1].is_learner
    assert change(tracker, "leave", "") == ConfState((3, 4), (1,))
    assert tracker.progress[1].is_learner
    assert set(tracker.progress) == {1, 3, 4}, "node 2 is gone, as the last set that had it is"


def test_changes_are_made_in_order() -> None:
    assert change(tracker_of(ConfState((1,))), "joint", "v2 l2 v2 r2 l2").learners == (2,)
    assert change(tracker_of(ConfState((1,))), "joint", "l2 v2").voters == (1, 2)


def test_progress_is_kept_and_a_new_node_starts_at_the_end_of_the_log() -> None:
    tracker = tracker_of(ConfState((1, 2)))
    tracker.progress[2].match = 7
    change(tracker, "simple", "l2", last_index=20)
    assert (tracker.progress[2].match, tracker.progress[2].is_learner) == (7, True)
    change(tracker, "simple", "v3", last_index=20)
    new = tracker.progress[3]
    assert (new.match, new.next, new.recent_active) == (0, 20, True), "it counts as seen, or it would be held for dead"


def test_the_configuration_in_force_is_not_touched() -> None:
    tracker = tracker_of(ConfState((1, 2)))
    Changer(tracker, 10).enter_joint(False, conf_changes_from_text("l2 v3"))
    assert tracker.conf_state() == ConfState((1, 2))
    assert not tracker.progress[2].is_learner


# Back from what snapshots keep (raft/confchange/restore.py).


@pytest.mark.parametrize(
    "conf_state",
    [
        ConfState(),
        ConfState((1, 2, 3)),
        ConfState((1, 2, 3), (4, 5)),
        ConfState((1, 2, 3), (5,), (1, 2, 4, 6), (4,)),
        ConfState((1, 2, 3), (), (1, 2, 3), (), True),
        ConfState((3, 2, 1), (5, 4)),  # in any order
    ],
)
def test_a_configuration_is_restored_as_it_was(conf_state: ConfState) -> None:
    restored = tracker_of(conf_state).conf_state()
    assert tuple(map(sorted, (restored.voters, restored.learners))) == tuple(
        map(sorted, (conf_state.voters, conf_state.learners))
    )
    assert (restored.voters_outgoing, restored.learners_next, restored.auto_leave) == (
        conf_state.voters_outgoing,
        conf_state.learners_next,
        conf_state.auto_leave,
    )


@pytest.mark.parametrize(
    "conf_state",
    [
        ConfState((1,), (1,)),  # a voter and a learner
        ConfState((1,), (), (), (2,)),  # next without a joint configuration
        ConfState((1,), (), (2,), (3,)),  # next, and no outgoing voter
        ConfState((1,), auto_leave=True),
        ConfState((0, 1)),
    ],
)
def test_a_configuration_that_no_changes_lead_to_is_refused_at_restore(conf_state: ConfState) -> None:
    with pytest.raises(ConfChangeError):
        tracker_of(conf_state)


def test_any_walk_of_changes_is_restored(rng: random.Random) -> None:
    """etcd's restore_test.go and quick_test.go: whatever changes lead to, its ConfState leads back to."""
    for _ in range(200):
        tracker = tracker_of(ConfState((1, 2, 3)))
        for _ in range(rng.randint(1, 12)):
            changes = [
                ConfChangeSingle(rng.choice(list(ConfChangeType)), rng.randint(1, 7)) for _ in range(rng.randint(1, 4))
            ]
            changer = Changer(tracker, 10)
            try:
                if tracker.config.voters.outgoing:
                    tracker.config, tracker.progress = changer.leave_joint()
                else:
                    tracker.config, tracker.progress = changer.enter_joint(rng.random() < 0.5, changes)
            except ConfChangeError as error:
                assert "removed all voters" in str(error)
            restored = tracker_of(tracker.conf_state())
            assert restored.conf_state() == tracker.conf_state()
            assert {n: p.is_learner for n, p in restored.progress.items()} == {
                n: p.is_learner for n, p in tracker.progress.items()
            }
