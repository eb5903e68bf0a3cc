"""Reads on the lease, reads by quorum, and who counts for a quorum (raft/reads.py, raft/lease.py; thesis section 6.4)."""

from __future__ import annotations

from typing import Any

import pytest

from raft import READ_ONLY_LEASE_BASED, ConfState, Message, StateType
from raft.raftpb import MSG_HEARTBEAT, MSG_HEARTBEAT_RESP, MSG_READ_INDEX_RESP, MSG_VOTE, MSG_VOTE_RESP
from tests.raft.network import Peer
from tests.raft.nodes import acknowledge, drain, make_leader, make_peer, of_type


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


LEASE: dict[str, Any] = {"check_quorum": True, "read_only_option": READ_ONLY_LEASE_BASED}


def _answer_heartbeats(leader: Peer, by: int = 2) -> None:
    """Node `by` answers the newest heartbeat."""
    (heartbeat, *_) = of_type(drain(leader), MSG_HEARTBEAT)
    leader.node.step(Message(MSG_HEARTBEAT_RESP, to=1, from_=by, term=heartbeat.term, context=heartbeat.context))


def _leader_with_lease() -> Peer:
    leader = make_leader(**LEASE)
    acknowledge(leader, 2, 1)
    leader.node.tick()
    _answer_heartbeats(leader)
    return leader


@pytest.mark.parametrize(("ticks", "at_once"), [(0, True), (4, True), (5, False)])
def test_a_lease_lasts_half_an_election_timeout_from_the_sending_of_a_heartbeat(ticks: int, at_once: bool) -> None:
    """The followers' promises last longer, also by clocks that are somewhat faster (raft/lease.py)."""
    leader = _leader_with_lease()
    for _ in range(ticks):
        leader.node.tick()
    drain(leader)
    leader.node.read_index(b"read")
    asked = of_type(drain(leader), MSG_HEARTBEAT)
    assert bool(leader.read_states) is at_once
    assert bool(asked) is not at_once, "else a quorum is asked, as without a lease"


def test_one_read_may_ask_for_a_quorum_although_there_is_a_lease() -> None:
    """The driver chooses for each read."""
    leader = _leader_with_lease()
    leader.node.read_index(b"safe", safe=True)
    assert leader.read_states == []
    _answer_heartbeats(leader)
    drain(leader)
    assert [state.request_ctx for state in leader.read_states] == [b"safe"]
    leader.node.read_index(b"lease")
    drain(leader)
    assert [state.request_ctx for state in leader.read_states] == [b"safe", b"lease"]


def test_a_follower_passes_on_which_kind_of_read_it_is() -> None:
    follower = make_peer(term=3, terms=(1,), **LEASE)
    follower.node.step(Message(MSG_HEARTBEAT, to=1, from_=2, term=3))
    drain(follower)
    follower.node.read_index(b"lease")
    follower.node.read_index(b"safe", safe=True)
    leader = _leader_with_lease()
    for asked in drain(follower):
        asked.to, asked.from_ = 1, 2
        leader.node.step(asked)
    answers = of_type(drain(leader), MSG_READ_INDEX_RESP)
    assert [answer.entries[0].data for answer in answers] == [b"lease"]
    _answer_heartbeats_of(leader)
    answers = of_type(drain(leader), MSG_READ_INDEX_RESP)
    assert [answer.entries[0].data for answer in answers] == [b"safe"]


def _answer_heartbeats_of(leader: Peer) -> None:
    leader.node.tick()
    _answer_heartbeats(leader)


def test_a_pause_of_the_process_ends_the_lease() -> None:
    """The leader counts one tick, and the others have counted all of them."""
    leader = _leader_with_lease()
    leader.node.paused(5)
    leader.node.read_index(b"read")
    drain(leader)
    assert leader.read_states == []


def test_heartbeats_that_no_read_follows_leave_nothing_behind() -> None:
    leader = _leader_with_lease()
    for _ in range(100):
        leader.node.tick()
        _answer_heartbeats(leader)
    assert len(leader.node.raft.read_only._rounds) <= 12


def test_a_lease_is_not_counted_from_the_answer() -> None:
    """The follower's promise began when the heartbeat reached it, which may be long before its answer comes."""
    leader = make_leader(**LEASE)
    acknowledge(leader, 2, 1)
    leader.node.tick()
    (heartbeat, *_) = of_type(drain(leader), MSG_HEARTBEAT)
    for _ in range(5):
        leader.node.tick()
    drain(leader)
    leader.node.step(Message(MSG_HEARTBEAT_RESP, to=1, from_=2, term=heartbeat.term, context=heartbeat.context))
    leader.node.read_index(b"read")
    assert of_type(drain(leader), MSG_HEARTBEAT)
    assert leader.read_states == []


def test_a_leader_that_has_asked_another_to_campaign_has_no_lease() -> None:
    """That campaign is answered by nodes which the lease counts on, and its MsgTimeoutNow may arrive at any time."""
    leader = _leader_with_lease()
    leader.node.transfer_leadership(2)
    drain(leader)
    for _ in range(10):  # the transfer is given up
        leader.node.tick()
        _answer_heartbeats(leader)
    assert leader.node.status().raft_state == StateType.LEADER
    leader.node.read_index(b"read")
    assert of_type(drain(leader), MSG_HEARTBEAT)
    assert leader.read_states == []


def test_a_node_that_starts_again_is_bound_by_the_lease_that_it_may_have_given() -> None:
    """It has forgotten whom it follows, but not for how long: an election timeout."""
    peer = make_peer(term=3, terms=(1,), **LEASE)
    request = Message(MSG_VOTE, to=1, from_=3, term=9, index=9, log_term=9)
    peer.node.campaign()
    peer.node.step(request)
    assert (drain(peer), peer.node.term) == ([], 3)
    peer.node.raft.randomized_election_timeout = 20
    for _ in range(10):
        peer.node.tick()
    peer.node.step(request)
    assert [(m.type, m.reject) for m in drain(peer)] == [(MSG_VOTE_RESP, False)]


def test_a_lease_binds_in_later_terms_too() -> None:
    """A late answer of a later term makes the node forget its leader; the leader still counts on it."""
    peer = make_peer(term=3, terms=(1,), **LEASE)
    peer.node.step(Message(MSG_HEARTBEAT, to=1, from_=2, term=3))
    peer.node.step(Message(MSG_VOTE_RESP, to=1, from_=3, term=5, reject=True))
    drain(peer)
    assert (peer.node.term, peer.node.lead) == (5, 0)
    peer.node.step(Message(MSG_VOTE, to=1, from_=3, term=5, index=9, log_term=9))
    assert [(m.type, m.reject) for m in drain(peer)] == [(MSG_VOTE_RESP, True)]


def test_a_new_node_is_bound_by_nothing() -> None:
    peer = Peer(1, ConfState((1,)), **LEASE)
    peer.node.campaign()
    drain(peer)
    assert peer.node.role == StateType.LEADER


def test_a_read_on_the_lease_asks_nobody() -> None:
    leader = make_leader(**LEASE)
    leader.node.tick()
    _answer_heartbeats(leader)
    drain(leader)
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
