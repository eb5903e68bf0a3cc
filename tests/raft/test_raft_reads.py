"""Reads on the lease, reads by quorum, and who counts for a quorum (raft/reads.py, raft/lease.py; thesis section 6.4)."""

from __future__ import annotations

from raft import READ_ONLY_LEASE_BASED, ConfState, Message, StateType
from raft.raftpb import MSG_HEARTBEAT, MSG_HEARTBEAT_RESP, MSG_VOTE_RESP
from tests.raft.network import Peer
from tests.raft.nodes import acknowledge, drain, make_leader, of_type


def test_learners_are_no_quorum() -> None:
    """A learner that answers doesn't keep a leader in office."""
    leader = Peer(1, ConfState((1, 2), learners=(3,)), check_quorum=True)
    leader.node.campaign()
    drain(leader)
    leader.node.step(Message(MSG_VOTE_RESP, to=1, from_=2, term=1))
    drain(leader)
    assert leader.node.role == StateType.LEADER
    for _ in range(20):
        leader.node.tick()
        drain(leader)
        leader.node.step(Message(MSG_HEARTBEAT_RESP, to=1, from_=3, term=1))
    assert leader.node.role == StateType.FOLLOWER


def test_a_read_on_the_lease_asks_nobody() -> None:
    leader = make_leader(check_quorum=True, read_only_option=READ_ONLY_LEASE_BASED)
    leader.node.read_index(b"early")
    assert drain(leader) == [], "before an entry of the term is committed, it waits (etcd#7331)"
    acknowledge(leader, 2, 1)
    leader.node.read_index(b"late")
    assert of_type(drain(leader), MSG_HEARTBEAT) == []
    assert [(state.request_ctx, state.index) for state in leader.read_states] == [(b"early", 1), (b"late", 1)]


def test_a_safe_read_sends_no_context_of_the_user() -> None:
    """etcd-io/raft#397: a repeated context was confirmed by the answers to the first one (etcd#20418)."""
    leader = make_leader()
    acknowledge(leader, 2, 1)
    contexts = []
    for _ in range(2):
        leader.node.read_index(b"same")
        contexts.append({m.context for m in of_type(drain(leader), MSG_HEARTBEAT)})
    assert contexts == [{(1).to_bytes(8, "little")}, {(2).to_bytes(8, "little")}]
    leader.node.step(Message(MSG_HEARTBEAT_RESP, to=1, from_=2, term=1, context=(1).to_bytes(8, "little")))
    drain(leader)
    assert [state.request_ctx for state in leader.read_states] == [b"same"], "the second still waits"
