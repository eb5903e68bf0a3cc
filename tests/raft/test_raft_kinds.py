"""The enumerations (raft/kinds.py): etcd's numbers, etcd's names, and the speed of ints."""

from __future__ import annotations

import pytest

from raft import ConfChangeTransition, ConfChangeType, EntryType, MessageType, ProgressState, StateType, VoteResult
from raft.kinds import Kind


@pytest.mark.parametrize(
    ("kind", "number", "text"),
    [
        (MessageType.HUP, 0, "MsgHup"),
        (MessageType.APP_RESP, 4, "MsgAppResp"),
        (MessageType.STORAGE_APPEND_RESP, 20, "MsgStorageAppendResp"),
        (MessageType.FORGET_LEADER, 23, "MsgForgetLeader"),
        (EntryType.CONF_CHANGE_V2, 2, "EntryConfChangeV2"),
        (ConfChangeType.ADD_LEARNER_NODE, 3, "ConfChangeAddLearnerNode"),
        (ConfChangeTransition.JOINT_IMPLICIT, 1, "ConfChangeTransitionJointImplicit"),
        (StateType.PRE_CANDIDATE, 3, "StatePreCandidate"),
        (ProgressState.REPLICATE, 1, "StateReplicate"),
        (VoteResult.WON, 3, "VoteWon"),
    ],
)
def test_a_kind_has_etcds_number_and_name(kind: Kind, number: int, text: str) -> None:
    assert (kind, str(kind), f"{kind}", f"{kind!s:>30}") == (number, text, text, text.rjust(30))
    assert hash(kind) == hash(number), "found in a table of handlers at the speed of ints"


def test_there_are_all_message_types() -> None:
    assert [kind.value for kind in MessageType] == list(range(24))
