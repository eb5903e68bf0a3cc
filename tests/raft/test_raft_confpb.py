"""Configurations and their changes as bytes (raft/confpb.py)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raft import ConfChange, ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2
from raft.errors import DecodeError

IDS = st.integers(0, (1 << 64) - 1)
SINGLES = st.builds(ConfChangeSingle, st.sampled_from(ConfChangeType), IDS)
CHANGES = st.builds(
    ConfChangeV2, st.sampled_from(ConfChangeTransition), st.lists(SINGLES, max_size=4).map(tuple), st.binary(max_size=9)
)


@given(CHANGES)
def test_a_change_of_several_nodes_comes_back(change: ConfChangeV2) -> None:
    assert ConfChangeV2.decode(change.encode()) == change


@given(st.binary(max_size=40))
def test_whatever_the_bytes_are_they_decode_or_are_refused(data: bytes) -> None:
    try:
        change = ConfChangeV2.decode(data)
    except DecodeError:
        return
    assert change.encode() == data, "there is one encoding for each value"


def test_the_bytes_of_a_change() -> None:
    change = ConfChangeV2(
        ConfChangeTransition.JOINT_EXPLICIT, (ConfChangeSingle(ConfChangeType.ADD_LEARNER_NODE, 5),), b"ctx"
    )
    assert change.encode().hex() == "0201000000030500000000000000637478"
    assert ConfChangeV2().encode() == b"", "so that its entry can't be refused for its size"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\x03" + bytes(4), "transition"),
        (bytes(5), "no bytes"),
        (b"\x01", "at least 5 bytes"),
        (b"\x00\x01\x00\x00\x00" + b"\x04" + bytes(8), "type is 0 to 3"),
        (b"\x00\xff\xff\xff\xff", "needs at least"),
    ],
)
def test_damaged_bytes_are_refused(data: bytes, words: str) -> None:
    with pytest.raises(DecodeError, match=words):
        ConfChangeV2.decode(data)


@pytest.mark.parametrize(
    ("transition", "count", "auto_leave"),
    [
        (ConfChangeTransition.AUTO, 1, None),
        (ConfChangeTransition.AUTO, 2, True),
        (ConfChangeTransition.JOINT_IMPLICIT, 1, True),
        (ConfChangeTransition.JOINT_EXPLICIT, 1, False),
    ],
)
def test_when_a_change_is_joint(transition: ConfChangeTransition, count: int, auto_leave: bool | None) -> None:
    """etcd's raftpb/confchange.go, EnterJoint."""
    singles = tuple(ConfChangeSingle(ConfChangeType.ADD_NODE, node_id) for node_id in range(4, 4 + count))
    change = ConfChangeV2(transition, singles)
    assert (change.enter_joint(), change.leave_joint()) == (auto_leave, False)


def test_a_change_of_one_node_is_one_of_several() -> None:
    change = ConfChange(ConfChangeType.REMOVE_NODE, 3, b"ctx").as_v2()
    assert change == ConfChangeV2(changes=(ConfChangeSingle(ConfChangeType.REMOVE_NODE, 3),), context=b"ctx")
    assert ConfChangeV2(context=b"x").leave_joint()
    assert not ConfChangeV2(ConfChangeTransition.JOINT_EXPLICIT).leave_joint(), "it enters one, of the same set twice"
