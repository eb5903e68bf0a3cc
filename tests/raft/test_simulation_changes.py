"""Which membership change a step proposes: all kinds, and none that could end all elections."""

from __future__ import annotations

import random

from raft import ConfChange, ConfState
from raft.kinds import ConfChangeTransition, ConfChangeType
from raft.simulation.changes import choose_change

IDS = (1, 2, 3, 4, 5)


def _choices(conf_state: ConfState, leads: bool = True) -> list[object]:
    rng = random.Random(1)
    return [choose_change(conf_state, IDS, rng.getrandbits(24), leads) for _ in range(2_000)]


def test_all_kinds_of_changes_are_chosen() -> None:
    changes = [change for change in _choices(ConfState((1, 2, 3), learners=(4,))) if change is not None]
    singles = [one for change in changes for one in change.as_v2().changes]  # type: ignore[attr-defined]
    assert {one.type for one in singles} == set(ConfChangeType) - {ConfChangeType.UPDATE_NODE}
    assert {change.as_v2().transition for change in changes} == set(ConfChangeTransition)  # type: ignore[attr-defined]
    assert any(isinstance(change, ConfChange) for change in changes)


def test_those_who_stay_are_a_majority_of_those_before() -> None:
    """Else a crash of the leader right after the commit could leave nobody who can win."""
    for voters in ((1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), IDS):
        for change in _choices(ConfState(voters)):
            if change is not None:
                singles = change.as_v2().changes  # type: ignore[attr-defined]
                taken = {one.node_id for one in singles if one.type != ConfChangeType.ADD_NODE} & set(voters)
                assert len(voters) - len(taken) > len(voters) // 2 or not taken


def test_a_follower_takes_no_voter_away() -> None:
    for change in _choices(ConfState((1, 2, 3)), leads=False):
        if change is not None:
            singles = change.as_v2().changes  # type: ignore[attr-defined]
            assert all(one.type == ConfChangeType.ADD_NODE or one.node_id > 3 for one in singles)


def test_a_joint_configuration_is_left_before_another_change() -> None:
    explicit = ConfState((1, 2), voters_outgoing=(2, 3))
    assert {type(change).__name__ for change in _choices(explicit)} == {"ConfChangeV2", "NoneType"}
    assert all(change is None or not change.changes for change in _choices(explicit))  # type: ignore[attr-defined]
    assert set(_choices(ConfState((1, 2), voters_outgoing=(2, 3), auto_leave=True))) == {None}
