"""Two majorities at once (raft/quorum/joint.py)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from raft.quorum import VOTE_LOST, VOTE_PENDING, VOTE_WON, JointConfig, MajorityConfig
from raft.tracker import TrackerConfig

IDS = st.sets(st.integers(1, 9), max_size=7)
ACKS = st.dictionaries(st.integers(1, 9), st.integers(0, 20))
VOTES = st.dictionaries(st.integers(1, 9), st.booleans())


@given(incoming=IDS, outgoing=IDS, acks=ACKS, votes=VOTES)
def test_a_joint_configuration_needs_both_majorities(
    incoming: set[int], outgoing: set[int], acks: dict[int, int], votes: dict[int, bool]
) -> None:
    first, second = MajorityConfig(incoming), MajorityConfig(outgoing)
    joint = JointConfig(first, second)
    assert joint.committed_index(acks) == min(first.committed_index(acks), second.committed_index(acks))
    results = {first.vote_result(votes), second.vote_result(votes)}
    if VOTE_LOST in results:
        assert joint.vote_result(votes) == VOTE_LOST
    else:
        assert joint.vote_result(votes) == (VOTE_WON if results == {VOTE_WON} else VOTE_PENDING)
    assert joint.ids() == tuple(sorted(incoming | outgoing))


def test_an_empty_half_never_decides() -> None:
    """An empty set agrees with everything, so a configuration that isn't joint needs no case of its own."""
    alone = JointConfig(MajorityConfig((1, 2, 3)))
    for votes in ({1: True, 2: True}, {1: True}, {1: False, 2: False}, {}):
        assert alone.vote_result(votes) == MajorityConfig((1, 2, 3)).vote_result(votes)
    assert alone.committed_index({1: 5, 2: 9}) == 5
    assert str(alone) == "(1 2 3)"
    assert str(JointConfig(MajorityConfig((1, 2)), MajorityConfig((3,)))) == "(1 2)&&(3)"
    assert 3 in JointConfig(MajorityConfig((1, 2)), MajorityConfig((3,)))


def test_joint_configurations_are_equal_if_both_halves_are() -> None:
    """So that two `TrackerConfig`s of the same members compare equal."""
    joint = JointConfig(MajorityConfig((1, 2)), MajorityConfig((3,)))
    assert joint == JointConfig(MajorityConfig((2, 1)), MajorityConfig((3,)))
    assert joint != JointConfig(MajorityConfig((1, 2)))
    assert joint != JointConfig(MajorityConfig((3,)), MajorityConfig((1, 2)))
    assert TrackerConfig(joint, (4,)) == TrackerConfig(JointConfig(MajorityConfig((1, 2)), MajorityConfig((3,))), (4,))
