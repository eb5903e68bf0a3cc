"""Section 5.2 of the paper: leader election."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from raft import Message, ProposalDroppedError
from raft.kinds import MessageType, StateType
from raft.raftpb import MSG_APP, MSG_APP_RESP, MSG_HEARTBEAT, MSG_VOTE, MSG_VOTE_RESP
from tests.raft.network import Network
from tests.raft.nodes import drain, make_leader, make_peer, of_type


def test_nodes_start_as_followers() -> None:
    """The paper: "When servers start up, they begin as followers." """
    network = Network()
    assert {peer.node.status().raft_state for peer in network.peers.values()} == {StateType.FOLLOWER}
    assert not network[1].has_ready()


def test_a_leader_sends_heartbeats_to_all() -> None:
    """The paper: "Leaders send periodic heartbeats to all followers in order to maintain their authority." """
    leader = make_leader(heartbeat_tick=3)
    for expected in ([], [], [2, 3], [], [], [2, 3]):
        leader.node.tick()
        assert [m.to for m in of_type(drain(leader), MSG_HEARTBEAT)] == expected


@pytest.mark.parametrize("role", ["follower", "candidate"])
def test_a_timeout_starts_an_election(role: str) -> None:
    """The paper: "increments its current term ... votes for itself and issues RequestVote RPCs in parallel" """
    peer = make_peer(term=1 if role == "follower" else 0)
    if role == "candidate":
        peer.node.campaign()
        drain(peer)
    for _ in range(2 * 10):
        peer.node.tick()
        if peer.node.has_ready():
            break
    sent = drain(peer)
    status = peer.node.status()
    assert (status.raft_state, status.term, status.vote) == (StateType.CANDIDATE, 2, 1)
    assert [(m.type, m.to, m.term) for m in sent] == [(MSG_VOTE, 2, 2), (MSG_VOTE, 3, 2)]


@pytest.mark.parametrize(
    ("size", "granted", "rejected", "expected"),
    [
        (1, 0, 0, StateType.LEADER),
        (3, 2, 0, StateType.LEADER),
        (3, 1, 0, StateType.LEADER),
        (3, 1, 1, StateType.LEADER),
        (5, 2, 0, StateType.LEADER),
        (5, 2, 2, StateType.LEADER),
        (3, 0, 0, StateType.CANDIDATE),
        (5, 1, 2, StateType.CANDIDATE),
        (5, 1, 0, StateType.CANDIDATE),
        (3, 0, 2, StateType.FOLLOWER),
        (5, 0, 3, StateType.FOLLOWER),
        (5, 1, 3, StateType.FOLLOWER),
    ],
)
def test_a_majority_of_votes_makes_the_leader(size: int, granted: int, rejected: int, expected: str) -> None:
    """The paper: "A candidate wins an election if it receives votes from a majority"; its own vote is one of them."""
    peer = make_peer(voters=range(1, size + 1))
    peer.node.campaign()
    drain(peer)
    for node_id in range(2, 2 + granted + rejected):
        peer.node.step(Message(MSG_VOTE_RESP, to=1, from_=node_id, term=1, reject=node_id >= 2 + granted))
    assert peer.node.status().raft_state == expected
    assert peer.node.status().term == 1


def test_a_vote_counts_once_however_often_it_arrives() -> None:
    peer = make_peer(voters=range(1, 6))
    peer.node.campaign()
    drain(peer)
    for _ in range(5):
        peer.node.step(Message(MSG_VOTE_RESP, to=1, from_=2, term=1))
    assert peer.node.status().raft_state == StateType.CANDIDATE
    peer.node.raft.step(Message(MSG_VOTE_RESP, to=1, from_=9, term=1))
    assert peer.node.status().raft_state == StateType.CANDIDATE, "nor does that of a stranger"


def test_the_own_vote_counts_when_it_is_on_disk() -> None:
    """A candidate's vote is a promise like any other; with one voter it decides alone."""
    peer = make_peer(voters=(1,))
    peer.node.campaign()
    peer.take()
    assert peer.node.status().raft_state == StateType.CANDIDATE
    peer.write()
    assert peer.disk.synced == len(peer.disk.records)
    peer.finish()
    assert peer.node.status().raft_state == StateType.LEADER


@pytest.mark.parametrize(
    ("vote", "candidate", "granted"), [(0, 2, True), (0, 3, True), (2, 2, True), (3, 2, False), (1, 2, False)]
)
def test_one_vote_in_a_term_first_come_first_served(vote: int, candidate: int, granted: bool) -> None:
    """The paper: "Each server will vote for at most one candidate in a given term, on a first-come-first-served basis." """
    peer = make_peer(term=4, vote=vote)
    peer.node.step(Message(MSG_VOTE, to=1, from_=candidate, term=4))
    (answer,) = drain(peer)
    assert (answer.type, answer.to, answer.term, answer.reject) == (MSG_VOTE_RESP, candidate, 4, not granted)


def test_a_vote_restarts_the_timer_and_a_refusal_does_not() -> None:
    peer = make_peer(terms=(5,))
    peer.node.tick()
    peer.node.step(Message(MSG_VOTE, to=1, from_=2, term=6))
    peer.node.tick()
    assert peer.node.raft.election_elapsed == 1, "a higher term makes a new start"
    peer.node.step(Message(MSG_VOTE, to=1, from_=2, term=6, index=1, log_term=4))
    assert peer.node.raft.election_elapsed == 1
    peer.node.step(Message(MSG_VOTE, to=1, from_=2, term=6, index=1, log_term=5))
    assert peer.node.raft.election_elapsed == 0


@pytest.mark.parametrize("term", [1, 7])
@pytest.mark.parametrize("kind", [MSG_APP, MSG_HEARTBEAT])
def test_a_candidate_gives_way_to_a_leader_of_its_term_or_a_later_one(term: int, kind: MessageType) -> None:
    """The paper: "If the leader's term is at least as large as the candidate's current term, then the candidate recognizes the
    leader as legitimate and returns to follower state." """
    peer = make_peer()
    peer.node.campaign()
    drain(peer)
    peer.node.step(Message(kind, to=1, from_=2, term=term))
    status = peer.node.status()
    assert (status.raft_state, status.term, status.lead) == (StateType.FOLLOWER, term, 2)


def test_a_candidate_takes_what_the_leader_sends_in_the_message_that_ends_its_campaign() -> None:
    peer = make_peer(terms=(1,))
    peer.node.campaign()
    drain(peer)
    peer.node.step(Message(MSG_APP, to=1, from_=2, term=2, index=1, log_term=1, commit=1))
    (answer,) = of_type(drain(peer), MSG_APP_RESP)
    assert (answer.to, answer.index, answer.reject) == (2, 1, False)


@pytest.mark.parametrize("role", ["follower", "candidate"])
def test_timeouts_are_random_in_their_interval(seed: int, role: str) -> None:
    """The paper: "Election timeouts are chosen randomly from a fixed interval": all of [10, 19], none outside."""
    drawn: Counter[int] = Counter()
    peer = make_peer(seed=seed)
    for term in range(1, 1000):
        if role == "follower":
            peer.node.raft.become_follower(term, 0)
        else:
            peer.node.raft.become_candidate()
        drawn[peer.node.raft.randomized_election_timeout] += 1
    assert set(drawn) == set(range(10, 20))
    assert max(drawn.values()) < 200


def test_random_timeouts_make_split_votes_rare(seed: int) -> None:
    """The paper: "Raft uses randomized election timeouts to ensure that split votes are rare": five nodes, all timers running."""
    conflicts = 0
    for trial in range(200):
        network = Network(range(1, 6), seed=seed * 1000 + trial)
        timeouts = Counter(peer.node.raft.randomized_election_timeout for peer in network.peers.values())
        conflicts += timeouts[min(timeouts)] > 1
    assert conflicts < 100, f"in {conflicts} of 200 clusters two nodes would campaign at once"


def test_a_cluster_without_a_leader_elects_one(seed: int) -> None:
    network = Network(range(1, 6), seed=seed)
    for _ in range(100):
        network.tick()
        if network.leader():
            break
    leader = network.leader()
    assert leader
    assert {peer.node.status().lead for peer in network.peers.values()} == {leader}


def test_heartbeats_keep_the_peace() -> None:
    """A leader that is heard is not challenged, however long it lasts."""
    network = Network()
    network.elect(2)
    network.tick(200)
    assert [peer.node.status().term for peer in network.peers.values()] == [1, 1, 1]
    assert network.leader() == 2


def test_a_lost_leader_is_replaced_and_follows_when_it_returns() -> None:
    network = Network()
    network.elect(1)
    network.isolate(1)
    network.tick(60)
    successor = network.leader()
    assert successor in (2, 3)
    assert network[1].status().raft_state == StateType.LEADER, "it doesn't know yet"
    network.heal()
    network.tick(3)
    status = network[1].status()
    assert (status.raft_state, status.lead) == (StateType.FOLLOWER, successor)


def test_without_a_majority_there_is_no_leader() -> None:
    network = Network(range(1, 6))
    network.isolate(1, 2)
    network.tick(200, ids=(1, 2))
    assert network.leader() == 0


def test_a_leader_ignores_the_call_to_campaign() -> None:
    leader = make_leader()
    leader.node.campaign()
    assert not leader.node.has_ready()
    assert leader.node.status().term == 1


def test_a_node_that_is_no_voter_never_campaigns() -> None:
    peer = make_peer(4, voters=(1, 2, 3))
    for _ in range(100):
        peer.node.tick()
    peer.node.campaign()
    assert not peer.node.has_ready()
    assert peer.node.status().term == 0


def test_but_it_votes() -> None:
    """etcd#10998: it may be a voter already, and not know it yet; the election may need it."""
    peer = make_peer(4, voters=(1, 2, 3))
    peer.node.step(Message(MSG_VOTE, to=4, from_=1, term=2))
    (answer,) = drain(peer)
    assert not answer.reject


def test_who_has_no_leader_refuses_proposals() -> None:
    peer = make_peer()
    with pytest.raises(ProposalDroppedError, match="no leader"):
        peer.node.propose(b"x")
    peer.node.campaign()
    drain(peer)
    with pytest.raises(ProposalDroppedError, match="no leader"):
        peer.node.propose(b"x")


def test_the_same_seed_makes_the_same_timeouts() -> None:
    drawn = []
    for _ in range(2):
        peer = make_peer(seed=random.Random(5).randrange(100))
        for term in range(1, 20):
            peer.node.raft.become_follower(term, 0)
            drawn.append(peer.node.raft.randomized_election_timeout)
    assert drawn[:19] == drawn[19:]
