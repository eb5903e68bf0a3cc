"""check_quorum and the leader's lease (raft/lease.py): who hears a leader doesn't vote, who hears nobody doesn't lead."""

from __future__ import annotations

from typing import Any

import pytest

from raft import Message
from raft.election import CAMPAIGN_TRANSFER
from raft.kinds import MessageType, StateType
from raft.raftpb import MSG_APP, MSG_APP_RESP, MSG_HEARTBEAT, MSG_HEARTBEAT_RESP, MSG_PRE_VOTE, MSG_VOTE
from tests.raft.network import Network, Peer
from tests.raft.nodes import drain, make_leader, make_peer

ELECTION_TICKS = 10


def follower(**options: Any) -> Peer:
    """Node 1 of three, which has just heard from node 2, the leader of term 3."""
    peer = make_peer(term=3, terms=(1,), check_quorum=True, **options)
    peer.node.step(Message(MSG_HEARTBEAT, to=1, from_=2, term=3))
    drain(peer)
    return peer


@pytest.mark.parametrize("kind", [MSG_VOTE, MSG_PRE_VOTE])
def test_a_follower_of_a_leader_ignores_requests_for_its_vote(kind: MessageType) -> None:
    """Not even the term is looked at; thesis section 4.2.3."""
    peer = follower()
    peer.node.step(Message(kind, to=1, from_=3, term=9, index=9, log_term=9))
    assert drain(peer) == []
    assert (peer.node.term, peer.node.lead) == (3, 2)


def test_without_the_option_it_answers() -> None:
    peer = make_peer(term=3, terms=(1,))
    peer.node.step(Message(MSG_HEARTBEAT, to=1, from_=2, term=3))
    peer.node.step(Message(MSG_VOTE, to=1, from_=3, term=9, index=9, log_term=9))
    assert peer.node.term == 9


@pytest.mark.parametrize(("ticks", "holds"), [(ELECTION_TICKS - 1, True), (ELECTION_TICKS, False)])
def test_the_lease_lasts_for_the_election_timeout(ticks: int, holds: bool) -> None:
    """The part without chance; each message of the leader begins it anew."""
    peer = follower()
    peer.node.raft.randomized_election_timeout = 2 * ELECTION_TICKS
    for _ in range(ticks):
        peer.node.tick()
    peer.node.step(Message(MSG_VOTE, to=1, from_=3, term=9, index=9, log_term=9))
    assert (peer.node.term == 3) is holds


def test_a_campaign_that_the_leader_asked_for_is_answered() -> None:
    peer = follower()
    peer.node.step(Message(MSG_VOTE, to=1, from_=3, term=4, index=9, log_term=9, context=CAMPAIGN_TRANSFER))
    (answer,) = drain(peer)
    assert (answer.term, answer.reject, peer.node.status().vote) == (4, False, 3)


@pytest.mark.parametrize("option", ["check_quorum", "pre_vote"])
@pytest.mark.parametrize("kind", [MSG_APP, MSG_HEARTBEAT])
def test_a_leader_of_an_old_term_is_told_of_the_later_one(option: str, kind: MessageType) -> None:
    """Else a node that had raised its term would be stuck: nobody answers its votes, and it ignores the leader."""
    peer = make_peer(term=5, **{option: True})
    peer.node.step(Message(kind, to=1, from_=2, term=3))
    assert [(m.type, m.to, m.term, m.index, m.reject) for m in drain(peer)] == [(MSG_APP_RESP, 2, 5, 0, False)]


def test_without_the_options_an_old_term_is_ignored() -> None:
    """There the next election tells it; an answer could depose a leader for nothing."""
    peer = make_peer(term=5)
    peer.node.step(Message(MSG_HEARTBEAT, to=1, from_=2, term=3))
    assert drain(peer) == []


def test_a_stuck_node_gets_its_cluster_back() -> None:
    """etcd: the free stuck candidate."""
    network = Network(check_quorum=True)
    network.elect(1)
    network.isolate(3)
    network[3].campaign()
    network.settle()
    network.heal()
    network.tick(5 * ELECTION_TICKS)
    assert len({peer.node.term for peer in network.peers.values()}) == 1
    assert network.leader() != 0


@pytest.mark.parametrize(
    ("size", "heard", "leads"), [(1, 0, True), (3, 0, False), (3, 1, True), (5, 1, False), (5, 2, True)]
)
def test_a_leader_that_hears_no_quorum_steps_down(size: int, heard: int, leads: bool) -> None:
    """Thesis section 6.2. It looks once in an election timeout at who answered since the last look."""
    leader = make_leader(range(1, size + 1), check_quorum=True)
    for answering in (size - 1, heard):
        assert leader.node.role == StateType.LEADER
        for node_id in range(2, 2 + answering):
            leader.node.step(Message(MSG_HEARTBEAT_RESP, to=1, from_=node_id, term=1))
        for _ in range(ELECTION_TICKS):
            leader.node.tick()
        drain(leader)
    assert (leader.node.role == StateType.LEADER) is leads
    assert leader.node.term == 1, "stepping down needs no new term"


def test_a_node_that_was_removed_does_not_depose_the_leader() -> None:
    """It gets no heartbeats any more, and campaigns; the others hear their leader, and don't answer."""
    network = Network(check_quorum=True, pre_vote=True)
    network.elect(1)
    network.drop = lambda m: m.to == 3
    network.tick(10 * ELECTION_TICKS)
    assert (network.leader(), network[1].term, network[2].term) == (1, 1, 1)
