"""The pre-vote (raft/pre_vote.py): would I win? And what a node that was cut off for a minute does to the others."""

from __future__ import annotations

from typing import Any

import pytest

from raft import Message
from raft.kinds import MessageType, StateType
from raft.raftpb import MSG_APP, MSG_PRE_VOTE, MSG_PRE_VOTE_RESP, MSG_VOTE
from tests.raft.network import Network, Peer
from tests.raft.nodes import drain, make_peer

ELECTION_TICKS = 10
MINUTE_TICKS = 600  # of 100 ms


def pre_candidate(**options: Any) -> Peer:
    """Node 1 of three at term 1, its pre-votes asked for and not yet answered."""
    peer = make_peer(term=1, terms=(1,), pre_vote=True, **options)
    peer.node.campaign()
    drain(peer)
    return peer


def terms(network: Network) -> set[int]:
    return {peer.node.term for peer in network.peers.values()}


@pytest.mark.parametrize(
    ("config", "campaigns_count", "disturbs"),
    [
        # Figures for seed 0. Cut off: term 40. Afterwards: all in term 43, and another leader.
        ({}, True, True),
        # Cut off: term 40. The others ignore its votes, but its answer deposes the leader: all in term 42.
        ({"check_quorum": True}, True, True),
        # Term 1 before, during and afterwards, and the same leader.
        ({"pre_vote": True}, False, False),
        ({"pre_vote": True, "check_quorum": True}, False, False),
    ],
    ids=["plain", "check quorum", "pre-vote", "both"],
)
def test_a_node_that_was_cut_off_for_a_minute(
    seed: int, config: dict[str, bool], campaigns_count: bool, disturbs: bool
) -> None:
    """Terms counted. Without the question its term is far ahead, and everybody has to follow it; thesis section 9.6."""
    network = Network(seed=seed, election_tick=ELECTION_TICKS, **config)
    network.elect(1)
    network.propose(1, b"before")
    network.isolate(3)
    network.tick(MINUTE_TICKS)
    network.propose(1, b"meanwhile")
    assert (network.leader(), network[1].term, network[2].term) == (1, 1, 1)
    raised = network[3].term - 1
    if campaigns_count:
        assert MINUTE_TICKS // (2 * ELECTION_TICKS) <= raised <= MINUTE_TICKS // ELECTION_TICKS
    else:
        assert raised == 0
    network.heal()
    network.tick(5 * ELECTION_TICKS)
    for _ in range(20):
        # Several campaigns may be needed: split votes happen.
        if not network.leader():
            network.tick(ELECTION_TICKS)
    if disturbs:
        assert terms(network) == {network[1].term}
        assert network[1].term > 1 + raised, "the returned node's term, and the election that it made necessary"
    else:
        assert terms(network) == {1}
        assert network.leader() == 1
    network.propose(network.leader(), b"after")
    network.tick(2)
    assert network.applied() == [[b"before", b"meanwhile", b"after"]] * 3


def test_asking_changes_neither_term_nor_vote() -> None:
    peer = pre_candidate(vote=2)
    status = peer.node.status()
    assert (status.raft_state, status.term, status.vote, status.lead) == (StateType.PRE_CANDIDATE, 1, 2, 0)


def test_the_question_is_about_the_next_term_and_tells_of_the_last_entry() -> None:
    peer = make_peer(term=4, terms=(1, 3), pre_vote=True)
    peer.node.campaign()
    assert [(m.type, m.to, m.term, m.index, m.log_term) for m in drain(peer)] == [
        (MSG_PRE_VOTE, 2, 5, 2, 3),
        (MSG_PRE_VOTE, 3, 5, 2, 3),
    ]


def test_a_majority_of_consent_begins_a_campaign() -> None:
    peer = pre_candidate()
    peer.node.step(Message(MSG_PRE_VOTE_RESP, to=1, from_=2, term=2))
    sent = drain(peer)
    assert [(m.type, m.term) for m in sent] == [(MSG_VOTE, 2), (MSG_VOTE, 2)]
    assert (peer.node.role, peer.node.term) == (StateType.CANDIDATE, 2)


def test_a_majority_of_refusals_ends_it_in_the_own_term() -> None:
    peer = pre_candidate()
    for node_id in (2, 3):
        peer.node.step(Message(MSG_PRE_VOTE_RESP, to=1, from_=node_id, term=1, reject=True))
    assert (peer.node.role, peer.node.term) == (StateType.FOLLOWER, 1)


def test_a_refusal_from_a_later_term_is_followed() -> None:
    """It carries the term of its sender, which is real; a grant's term has not begun."""
    peer = pre_candidate()
    peer.node.step(Message(MSG_PRE_VOTE_RESP, to=1, from_=2, term=7, reject=True))
    assert (peer.node.role, peer.node.term) == (StateType.FOLLOWER, 7)


def test_votes_and_pre_votes_are_counted_apart() -> None:
    """canonical/raft#196: answers to the one are nothing to the other."""
    peer = pre_candidate()
    peer.node.step(Message(MessageType.VOTE_RESP, to=1, from_=2, term=1))
    assert peer.node.role == StateType.PRE_CANDIDATE
    peer.node.step(Message(MSG_PRE_VOTE_RESP, to=1, from_=2, term=2))
    assert peer.node.role == StateType.CANDIDATE
    peer.node.step(Message(MSG_PRE_VOTE_RESP, to=1, from_=3, term=2))
    assert peer.node.role == StateType.CANDIDATE, "a late consent is no vote"


@pytest.mark.parametrize(
    ("term", "index", "log_term", "granted"),
    [
        (4, 2, 2, True),
        (4, 3, 2, True),
        (9, 2, 2, True),
        (4, 1, 2, False),  # shorter
        (4, 9, 1, False),  # an older last term
        (4, 1, 3, True),
    ],
)
def test_consent_goes_to_a_log_that_is_up_to_date(term: int, index: int, log_term: int, granted: bool) -> None:
    """Paper section 5.4.1. Any number may get it, and the answer leaves no trace: it carries the term asked about, a
    refusal the own one."""
    peer = make_peer(term=3, vote=3, terms=(1, 2), pre_vote=True)
    for candidate in (2, 3):
        peer.node.step(Message(MSG_PRE_VOTE, to=1, from_=candidate, term=term, index=index, log_term=log_term))
    answers = drain(peer)
    expected = (MSG_PRE_VOTE_RESP, term if granted else 3, not granted)
    assert [(m.type, m.term, m.reject) for m in answers] == [expected] * 2
    assert (peer.node.term, peer.node.status().vote) == (3, 3)


def test_a_question_about_a_term_that_is_over_is_answered() -> None:
    """etcd#8501: unanswered, a node with a higher term and one with a longer log would wait for each other for ever."""
    peer = make_peer(term=5, terms=(1,), pre_vote=True)
    peer.node.step(Message(MSG_PRE_VOTE, to=1, from_=2, term=4, index=9, log_term=9))
    (answer,) = drain(peer)
    assert (answer.type, answer.term, answer.reject) == (MSG_PRE_VOTE_RESP, 5, True)


def test_a_leaders_message_ends_the_question() -> None:
    peer = pre_candidate()
    peer.node.step(Message(MSG_APP, to=1, from_=3, term=1, index=1, log_term=1))
    assert (peer.node.role, peer.node.lead, peer.node.term) == (StateType.FOLLOWER, 3, 1)


def test_a_pre_candidate_forgets_its_leader() -> None:
    """etcd#9586: with the lead kept, two of them would refuse each other's campaigns for ever."""
    network = Network(pre_vote=True, check_quorum=True)
    network.elect(1)
    network.isolate(1)
    network.tick(6 * ELECTION_TICKS)
    assert network.leader() in (2, 3)
    assert network[network.leader()].term > 1


def test_one_voter_needs_nobodys_consent() -> None:
    peer = make_peer(voters=(1,), pre_vote=True)
    peer.node.campaign()
    drain(peer)
    assert (peer.node.role, peer.node.term) == (StateType.LEADER, 1)


def test_nodes_with_and_without_the_option_elect_a_leader(seed: int) -> None:
    """An option that is switched on node by node, while the cluster runs."""
    network = Network(range(1, 4), seed=seed)
    network.peers[3].config["pre_vote"] = True
    network.peers[3].restart()
    network.elect(3)
    network.propose(3, b"x")
    network.isolate(3)
    network.tick(6 * ELECTION_TICKS)
    assert network.leader() in (1, 2)
