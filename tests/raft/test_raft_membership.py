"""Learners and joint consensus (raft/membership.py, raft/confchange/; paper section 6, thesis chapter 4)."""

from __future__ import annotations

import pytest

from raft import (
    ConfChange,
    ConfChangeError,
    ConfChangeSingle,
    ConfChangeTransition,
    ConfChangeType,
    ConfChangeV2,
    ConfState,
    Entry,
    Message,
    StateType,
)
from raft.raftpb import ENTRY_CONF_CHANGE_V2, MSG_VOTE
from tests.raft.network import Network, Peer
from tests.raft.nodes import acknowledge, drain, make_leader

ADD, LEARNER, REMOVE = ConfChangeType.ADD_NODE, ConfChangeType.ADD_LEARNER_NODE, ConfChangeType.REMOVE_NODE


def change(
    *singles: tuple[ConfChangeType, int], transition: ConfChangeTransition = ConfChangeTransition.AUTO
) -> ConfChangeV2:
    return ConfChangeV2(transition, tuple(ConfChangeSingle(kind, node_id) for kind, node_id in singles))


def cluster(*joining: int, **options: bool) -> Network:
    """Nodes 1, 2 and 3, led by 1, and others that start empty, with the first configuration."""
    network = Network(**options)
    for node_id in joining:
        network.peers[node_id] = Peer(node_id, ConfState(network.voters), **options)
    network.elect(1)
    return network


def conf_states(network: Network) -> set[ConfState]:
    return {peer.node.status().conf_state for peer in network.peers.values()}


def test_a_learner_gets_the_log_and_does_not_count() -> None:
    network = cluster(4)
    network[1].propose_conf_change(ConfChange(LEARNER, 4))
    network.settle()
    network.propose(1, b"a")
    assert network.peers[4].application.data == [b"a"]
    assert network[1].status().conf_state == ConfState((1, 2, 3), (4,))
    assert network[1].status().progress[4].is_learner
    network.isolate(1, 4)
    network.propose(1, b"b")
    assert network[1].commit_index == 3, "two of four have it, but only one voter"


def test_a_learner_does_not_campaign_and_does_vote() -> None:
    """etcd#10998: it may have become a voter without knowing it."""
    learner = Peer(3, ConfState((1, 2), learners=(3,)))
    learner.node.campaign()
    for _ in range(40):
        learner.node.tick()
    assert (learner.node.role, learner.node.term) == (StateType.FOLLOWER, 0)
    learner.node.step(Message(MSG_VOTE, to=3, from_=1, term=1))
    assert [m.reject for m in drain(learner)] == [False]


def test_several_changes_at_once_go_through_a_joint_configuration_and_out_of_it() -> None:
    network = cluster(4, 5)
    network[1].propose_conf_change(change((ADD, 4), (ADD, 5), (REMOVE, 3)))
    network.settle()
    assert conf_states(network) == {ConfState((1, 2, 4, 5))}


def test_one_change_of_the_new_kind_takes_no_joint_configuration() -> None:
    network = cluster(4)
    network[1].propose_conf_change(change((ADD, 4)))
    network.settle()
    assert conf_states(network) == {ConfState((1, 2, 3, 4))}


def test_an_explicit_change_is_left_when_it_is_told_so() -> None:
    network = cluster(4)
    network[1].propose_conf_change(change((ADD, 4), transition=ConfChangeTransition.JOINT_EXPLICIT))
    network.settle()
    network.tick(20)
    joint = ConfState((1, 2, 3, 4), voters_outgoing=(1, 2, 3))
    assert conf_states(network) == {joint}
    network[1].propose_conf_change(change((ADD, 5)))
    network.settle()
    assert conf_states(network) == {joint}, "another change has to wait"
    network[1].propose_conf_change(ConfChangeV2())
    network.settle()
    assert conf_states(network) == {ConfState((1, 2, 3, 4))}


def test_while_it_is_joint_both_sets_decide() -> None:
    network = cluster(4, 5)
    network[1].propose_conf_change(
        change((ADD, 4), (ADD, 5), (REMOVE, 2), (REMOVE, 3), transition=ConfChangeTransition.JOINT_EXPLICIT)
    )
    network.settle()
    for cut_off in ((2, 3), (4, 5)):
        before = network[1].commit_index
        network.isolate(*cut_off)
        network.propose(1, b"x")
        assert network[1].commit_index == before, f"without {cut_off}, one of the two sets has no majority"
        network.heal()
        network.tick(3)
        assert network[1].commit_index > before


def test_a_voter_that_becomes_a_learner_keeps_its_vote_until_the_joint_configuration_is_left() -> None:
    network = cluster()
    network[1].propose_conf_change(change((LEARNER, 3), transition=ConfChangeTransition.JOINT_EXPLICIT))
    network.settle()
    assert conf_states(network) == {ConfState((1, 2), (), (1, 2, 3), (3,))}
    network[1].propose_conf_change(ConfChangeV2())
    network.settle()
    assert conf_states(network) == {ConfState((1, 2), (3,))}


def test_a_new_leader_leaves_the_joint_configuration_that_the_old_one_could_not() -> None:
    """etcd#12136: the proposal to leave it was lost with the leader."""
    network = Network()
    for node_id in network.voters:
        joint = ConfState(network.voters, voters_outgoing=(1, 2), auto_leave=True)
        network.peers[node_id] = Peer(node_id, joint)
    network.elect(2)
    assert conf_states(network) == {ConfState(network.voters)}


def test_each_entry_that_is_applied_is_an_occasion_to_leave() -> None:
    leader = make_leader()
    acknowledge(leader, 2, 1)
    leader.node.apply_conf_change(change((ADD, 2), transition=ConfChangeTransition.JOINT_IMPLICIT))
    leader.node.propose(b"the next entry that is applied")
    drain(leader)
    acknowledge(leader, 2, 2)
    last = leader.node.raft.log.entries(3, 1 << 20)
    assert [(entry.type, entry.data) for entry in last] == [(ENTRY_CONF_CHANGE_V2, b"")]


def test_a_transfer_only_delays_the_leaving() -> None:
    leader = make_leader()
    acknowledge(leader, 2, 1)
    leader.node.apply_conf_change(change((ADD, 2), transition=ConfChangeTransition.JOINT_IMPLICIT))
    leader.node.propose(b"a")
    drain(leader)
    leader.node.transfer_leadership(3)
    acknowledge(leader, 2, 2)
    assert leader.node.status().last_index == 2
    for _ in range(10):
        leader.node.tick()
    leader.node.propose(b"b")
    drain(leader)
    acknowledge(leader, 2, 3)
    assert leader.node.raft.log.entries(4, 1 << 20)[0].type == ENTRY_CONF_CHANGE_V2


@pytest.mark.parametrize(("disabled", "kept"), [(False, False), (True, True)])
def test_validation_can_be_switched_off(disabled: bool, kept: bool) -> None:
    leader = make_leader(disable_conf_change_validation=disabled)
    acknowledge(leader, 2, 1)
    leader.node.propose_conf_change(ConfChangeV2())
    (entry,) = leader.node.raft.log.entries(2, 1 << 20)
    assert (entry == Entry(1, 2, ENTRY_CONF_CHANGE_V2)) is kept


@pytest.mark.parametrize(("steps_down", "role"), [(True, StateType.FOLLOWER), (False, StateType.LEADER)])
def test_a_leader_that_is_removed_steps_down_if_it_is_told_to(steps_down: bool, role: StateType) -> None:
    network = cluster(step_down_on_removal=steps_down)
    network[1].propose_conf_change(ConfChange(REMOVE, 1))
    network.settle()
    assert network[1].role == role


def test_changes_that_break_the_rules_are_refused_whole() -> None:
    peer = Peer(1, ConfState((1, 2, 3)))
    for bad in (
        ConfChangeV2(),
        change((REMOVE, 1), (REMOVE, 2), (REMOVE, 3)),
    ):
        with pytest.raises(ConfChangeError):
            peer.node.apply_conf_change(bad)
    assert peer.node.status().conf_state == ConfState((1, 2, 3))
    peer.node.apply_conf_change(change((ADD, 4), (ADD, 5)))
    with pytest.raises(ConfChangeError, match="already joint"):
        peer.node.apply_conf_change(change((ADD, 6), (ADD, 7)))
    with pytest.raises(ConfChangeError, match="simple config change in joint"):
        peer.node.apply_conf_change(ConfChange(ADD, 6))
    assert peer.node.status().conf_state == ConfState((1, 2, 3, 4, 5), (), (1, 2, 3), (), True)


def test_a_promotion_keeps_what_is_known_of_the_learner() -> None:
    leader = Peer(1, ConfState((1,), learners=(2,)))
    leader.node.campaign()
    drain(leader)
    acknowledge(leader, 2, 1)
    leader.node.apply_conf_change(ConfChange(ADD, 2))
    progress = leader.node.status().progress[2]
    assert (progress.match, progress.is_learner) == (1, False)
