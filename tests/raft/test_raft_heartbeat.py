"""Heartbeats (raft/heartbeat.py): what they carry to whom."""

from __future__ import annotations

import pytest

from raft import READ_ONLY_LEASE_BASED
from raft.heartbeat import broadcast_heartbeat
from raft.raftpb import MSG_HEARTBEAT
from tests.raft.nodes import acknowledge, drain, make_leader


def test_each_follower_is_told_of_the_commits_that_it_is_known_to_have() -> None:
    """etcd: TestBcastBeat. So a follower can take the index without a look at its log."""
    leader = make_leader(voters=(1, 2, 3, 4))
    leader.node.propose_batch([b"a", b"b", b"c"])
    drain(leader)
    for follower, index in ((2, 3), (3, 2)):
        acknowledge(leader, follower, index)
    assert leader.node.commit_index == 2
    broadcast_heartbeat(leader.node.raft)
    assert [(m.type, m.to, m.commit, m.context) for m in leader.node.raft.messages] == [
        (MSG_HEARTBEAT, 2, 2, b""),
        (MSG_HEARTBEAT, 3, 2, b""),
        (MSG_HEARTBEAT, 4, 0, b""),
    ]


@pytest.mark.parametrize(
    "options", [{"read_only_option": READ_ONLY_LEASE_BASED, "check_quorum": True}, {"read_only_option": 0}]
)
def test_only_with_lease_reads_does_each_round_have_a_position(options: dict[str, int]) -> None:
    r = make_leader(**options).node.raft
    contexts = set()
    for _ in range(3):
        broadcast_heartbeat(r)
        contexts |= {message.context for message in r.messages}
    assert len(contexts) == (3 if options["read_only_option"] == READ_ONLY_LEASE_BASED else 1)
