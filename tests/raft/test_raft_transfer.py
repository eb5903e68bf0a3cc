"""Leadership transfer (raft/transfer.py; thesis section 3.10): the leader hands over, and nobody waits for a timeout."""

from __future__ import annotations

import pytest

from raft import ConfChange, ConfState, Message, ProposalDroppedError
from raft.election import CAMPAIGN_TRANSFER
from raft.kinds import ConfChangeType, StateType
from raft.raftpb import MSG_APP, MSG_TIMEOUT_NOW, MSG_VOTE, ConfChangeSingle, ConfChangeV2
from tests.raft.network import Network, Peer
from tests.raft.nodes import acknowledge, drain, make_leader, make_peer, of_type

ELECTION_TICKS = 10


def open_leader(**options: bool) -> Peer:
    """A leader whose followers have everything."""
    leader = make_leader(**options)
    for node_id in (2, 3):
        acknowledge(leader, node_id, 1)
    return leader


@pytest.mark.parametrize("options", [{}, {"pre_vote": True}, {"pre_vote": True, "check_quorum": True}])
@pytest.mark.parametrize("asked", [1, 3], ids=["the leader", "a follower"])
def test_the_named_node_leads_in_the_next_term(options: dict[str, bool], asked: int) -> None:
    """One term later, at once, with leases and pre-votes in force; a follower passes the wish on."""
    network = Network(**options)
    network.elect(1)
    network[asked].transfer_leadership(2)
    network.settle()
    assert (network.leader(), network[2].term) == (2, 2)
    assert network[1].status().lead_transferee == 0


def test_a_complete_follower_is_told_to_campaign_at_once() -> None:
    leader = open_leader()
    leader.node.transfer_leadership(2)
    assert [(m.type, m.to) for m in drain(leader)] == [(MSG_TIMEOUT_NOW, 2)]
    assert leader.node.status().lead_transferee == 2


def test_a_follower_that_lacks_entries_gets_them_first() -> None:
    leader = open_leader()
    leader.node.propose(b"x")
    drain(leader)
    leader.node.report_unreachable(2)
    leader.node.transfer_leadership(2)
    sent = drain(leader)
    assert [(m.type, m.to, len(m.entries)) for m in sent] == [(MSG_APP, 2, 1)]
    assert [m.to for m in of_type(acknowledge(leader, 2, 2), MSG_TIMEOUT_NOW)] == [2]


def test_proposals_are_refused_while_it_lasts() -> None:
    """They would keep the other's log incomplete for ever."""
    leader = open_leader()
    leader.node.transfer_leadership(2)
    with pytest.raises(ProposalDroppedError, match="node 2"):
        leader.node.propose(b"x")


def test_it_is_given_up_after_an_election_timeout() -> None:
    leader = open_leader()
    leader.node.transfer_leadership(2)
    for _ in range(ELECTION_TICKS - 1):
        leader.node.tick()
    assert leader.node.status().lead_transferee == 2
    leader.node.tick()
    assert leader.node.status().lead_transferee == 0
    leader.node.propose(b"x")


def test_a_second_wish_replaces_the_first_and_the_same_one_does_not_prolong_it() -> None:
    leader = open_leader()
    leader.node.transfer_leadership(2)
    drain(leader)
    for _ in range(5):
        leader.node.tick()
    leader.node.transfer_leadership(2)
    assert of_type(drain(leader), MSG_TIMEOUT_NOW) == []
    assert leader.node.raft.election_elapsed == 5
    leader.node.transfer_leadership(3)
    assert [m.to for m in of_type(drain(leader), MSG_TIMEOUT_NOW)] == [3]
    assert leader.node.raft.election_elapsed == 0


@pytest.mark.parametrize("transferee", [1, 9], ids=["itself", "a stranger"])
def test_wishes_that_mean_nothing_are_ignored(transferee: int) -> None:
    leader = open_leader()
    leader.node.transfer_leadership(transferee)
    assert drain(leader) == []
    leader.node.propose(b"x")


def test_a_learner_is_no_heir() -> None:
    leader = open_leader()
    leader.node.apply_conf_change(ConfChange(ConfChangeType.ADD_LEARNER_NODE, 4))
    drain(leader)
    leader.node.transfer_leadership(4)
    assert leader.node.status().lead_transferee == 0


@pytest.mark.parametrize("kind", [ConfChangeType.REMOVE_NODE, ConfChangeType.ADD_LEARNER_NODE])
def test_a_removed_or_demoted_heir_ends_it(kind: ConfChangeType) -> None:
    """etcd#11326: proposals would be refused in vain."""
    leader = open_leader()
    leader.node.transfer_leadership(2)
    leader.node.apply_conf_change(ConfChangeV2(changes=(ConfChangeSingle(kind, 2),)))
    assert leader.node.status().lead_transferee == 0


def test_a_campaign_for_a_transfer_skips_the_question_and_says_so() -> None:
    """canonical/raft#203: with a pre-vote it would be ignored by all who hear the leader."""
    peer = make_peer(term=1, terms=(1,), pre_vote=True, check_quorum=True)
    peer.node.step(Message(MSG_TIMEOUT_NOW, to=1, from_=2, term=1))
    sent = drain(peer)
    assert [(m.type, m.term, m.context) for m in sent] == [(MSG_VOTE, 2, CAMPAIGN_TRANSFER)] * 2


def test_who_may_not_campaign_does_not_for_a_transfer_either() -> None:
    learner = Peer(3, ConfState((1, 2), (3,)))
    learner.node.step(Message(MSG_TIMEOUT_NOW, to=3, from_=1, term=1))
    drain(learner)
    assert learner.node.role == StateType.FOLLOWER


def test_a_new_leader_knows_of_no_transfer() -> None:
    network = Network()
    network.elect(1)
    network.drop = lambda m: m.type == MSG_TIMEOUT_NOW
    network[1].transfer_leadership(2)
    network.settle()
    network.elect(3)
    network.heal()
    network.elect(1)
    assert network[1].status().lead_transferee == 0
    network.propose(1, b"x")
    assert network.applied() == [[b"x"]] * 3
