"""forget_leader (raft/follower.py): a driver that knows better than the timeout that the leader is gone."""

from __future__ import annotations

from raft import READ_ONLY_LEASE_BASED, Message, StateType
from raft.raftpb import (
    MSG_HEARTBEAT,
    MSG_VOTE,
)
from tests.raft.nodes import drain, make_leader, make_peer


def test_a_follower_that_forgets_its_leader_votes_at_once() -> None:
    peer = make_peer(2, term=1, check_quorum=True)
    peer.node.step(Message(MSG_HEARTBEAT, to=2, from_=1, term=1))
    peer.node.forget_leader()
    assert (peer.node.lead, peer.node.role, peer.node.term) == (0, StateType.FOLLOWER, 1)
    drain(peer)
    peer.node.step(Message(MSG_VOTE, to=2, from_=3, term=2))
    assert [m.reject for m in drain(peer)] == [False]


def test_with_lease_reads_it_must_not_forget() -> None:
    """The lease is its promise not to vote."""
    peer = make_peer(2, term=1, check_quorum=True, read_only_option=READ_ONLY_LEASE_BASED)
    peer.node.step(Message(MSG_HEARTBEAT, to=2, from_=1, term=1))
    peer.node.forget_leader()
    assert peer.node.lead == 1


def test_a_leader_forgets_nobody() -> None:
    leader = make_leader()
    leader.node.forget_leader()
    assert (leader.node.lead, leader.node.role) == (1, StateType.LEADER)
