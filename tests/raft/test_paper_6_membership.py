"""Section 6 of the paper and 4.1 of the thesis: changing the membership, one node at a time."""

from __future__ import annotations

import random

import pytest

from raft import (
    ConfChange,
    ConfChangeError,
    Config,
    ConfState,
    Entry,
    MemoryStorage,
    Message,
    ProposalDroppedError,
    RawNode,
)
from raft.kinds import ProgressState, StateType
from raft.raftpb import (
    CONF_CHANGE_ADD_NODE,
    CONF_CHANGE_REMOVE_NODE,
    CONF_CHANGE_UPDATE_NODE,
    ENTRY_CONF_CHANGE,
    ENTRY_CONF_CHANGE_V2,
    ENTRY_NORMAL,
    MSG_PROP,
)
from tests.raft.network import Network, Peer
from tests.raft.nodes import acknowledge, drain, make_leader, make_peer


def add(node_id: int) -> ConfChange:
    return ConfChange(CONF_CHANGE_ADD_NODE, node_id)


def remove(node_id: int) -> ConfChange:
    return ConfChange(CONF_CHANGE_REMOVE_NODE, node_id)


def voters(network: Network) -> list[tuple[int, ...]]:
    return [peer.node.status().conf_state.voters for peer in network.peers.values()]


def change(network: Network, conf_change: ConfChange) -> None:
    network[network.leader()].propose_conf_change(conf_change)
    network.settle()
    network.tick(3)


def test_a_node_is_added_and_catches_up() -> None:
    network = Network()
    network.elect(1)
    network.propose(1, b"before")
    # The new node starts with the first configuration, and isn't in it.
    network.peers[4] = Peer(4, ConfState((1, 2, 3)))
    change(network, add(4))
    network.propose(1, b"after")
    network.tick()
    assert voters(network) == [(1, 2, 3, 4)] * 4
    assert network.applied() == [[b"before", b"after"]] * 4
    assert network[1].status().progress[4].state == ProgressState.REPLICATE


def test_an_added_node_counts_for_the_majority() -> None:
    network = Network()
    network.elect(1)
    network.peers[4] = Peer(4, ConfState((1, 2, 3)))
    change(network, add(4))
    network.isolate(1, 2)
    network.propose(1, b"two of four")
    assert network.applied()[0] == []
    network.isolate(1, 2, 4)
    network.tick(3)
    assert network.applied()[0] == [b"two of four"]


def test_a_removed_node_counts_no_longer() -> None:
    """With two of three gone for good, nothing can be committed; with one of them removed before, it can."""
    network = Network()
    network.elect(1)
    change(network, remove(3))
    assert voters(network)[:2] == [(1, 2)] * 2
    network.isolate(3)
    network.propose(1, b"two of two")
    assert network.applied()[0] == [b"two of two"]
    assert 3 not in network[1].status().progress


def test_a_smaller_majority_commits_what_waited_for_the_larger() -> None:
    """The removal itself may be what lets earlier entries of the term be committed."""
    leader = make_leader(voters=(1, 2))
    acknowledge(leader, 2, 1)
    leader.node.propose_conf_change(remove(2))
    leader.node.propose(b"waits")
    drain(leader)
    acknowledge(leader, 2, 2)
    assert leader.node.status().commit == 3, "the leader alone is the majority as soon as the removal is applied"
    assert leader.application.data == [b"waits"]


def test_a_removed_leader_takes_no_proposals() -> None:
    network = Network()
    network.elect(1)
    change(network, remove(1))
    assert voters(network)[0] == (2, 3)
    with pytest.raises(ProposalDroppedError, match="no longer a member"):
        network[1].propose(b"x")
    network.peers[1].up = False
    network.tick(60)
    assert network.leader() in (2, 3)
    network.propose(network.leader(), b"goes on")
    network.tick()
    assert network.applied()[1:] == [[b"goes on"]] * 2


def test_one_change_at_a_time() -> None:
    """Thesis 4.1: the second is committed as an empty entry, until the first is applied."""
    leader = make_leader()
    acknowledge(leader, 2, 1)
    leader.node.propose_conf_change(add(4))
    leader.node.propose_conf_change(add(5))
    kinds = [entry.type for entry in leader.node.raft.log.entries(2, 1 << 20)]
    assert kinds == [ENTRY_CONF_CHANGE, ENTRY_NORMAL]
    drain(leader)
    acknowledge(leader, 2, 3)
    assert leader.node.status().conf_state.voters == (1, 2, 3, 4)
    leader.node.propose_conf_change(add(5))
    drain(leader)
    for node_id in (2, 3):
        acknowledge(leader, node_id, 4)
    assert leader.node.status().conf_state.voters == (1, 2, 3, 4, 5)


def test_a_new_leader_allows_none_before_its_log_is_applied() -> None:
    """There may be one in it that it doesn't know of yet (openraft#2051)."""
    leader = make_leader(terms=(1, 1))
    leader.node.propose_conf_change(add(4))
    assert leader.node.raft.log.entries(4, 1 << 20)[0].type == ENTRY_NORMAL
    drain(leader)
    acknowledge(leader, 2, 4)
    leader.node.propose_conf_change(add(4))
    assert leader.node.raft.log.entries(5, 1 << 20)[0].type == ENTRY_CONF_CHANGE


def test_who_has_not_applied_a_change_does_not_campaign() -> None:
    """etcd#7280, #12133: it would count majorities that are no longer the right ones."""
    change_entry = Entry(1, 1, ENTRY_CONF_CHANGE, add(4).encode())
    storage = MemoryStorage(ConfState((1, 2, 3)))
    storage.append([change_entry, Entry(1, 2)])
    config = Config(id=1, election_tick=10, heartbeat_tick=1, storage=storage, rng=random.Random(0), max_size_per_msg=0)
    node = RawNode(config)
    node.raft.term = 1
    node.raft.log.commit_to(2)
    node.campaign()
    assert node.status().raft_state == StateType.FOLLOWER
    for _ in range(2):
        ready = node.ready()
        for entry in ready.committed_entries:
            if entry.type == ENTRY_CONF_CHANGE:
                node.apply_conf_change(ConfChange.decode(entry.data))
        node.advance()
    node.campaign()
    assert node.status().raft_state == StateType.CANDIDATE


def test_a_campaign_that_was_refused_is_tried_again_after_a_timeout() -> None:
    """Looking through the log for membership changes costs; not at every tick from then on."""
    peer = make_peer(terms=(1,), commit=1)
    peer.storage.append([Entry(1, 1, ENTRY_CONF_CHANGE, add(4).encode())])
    for _ in range(peer.node.raft.randomized_election_timeout):
        peer.node.tick()
    assert (peer.node.status().raft_state, peer.node.raft.election_elapsed) == (StateType.FOLLOWER, 0)


@pytest.mark.parametrize(
    "conf_state",
    [
        ConfState((1, 0)),
        ConfState((1, 2), learners=(2,)),
        ConfState((1,), learners_next=(2,)),
        ConfState((1,), auto_leave=True),
    ],
)
def test_a_configuration_that_no_changes_lead_to_is_refused(conf_state: ConfState) -> None:
    with pytest.raises(ConfChangeError, match="no valid configuration"):
        Peer(1, conf_state)


@pytest.mark.parametrize(
    "conf_state",
    [
        ConfState((1, 2, 3), learners=(4, 5)),
        ConfState((1, 2, 3), (5,), (1, 2, 4, 6), (4,)),
        ConfState((1,), voters_outgoing=(2,), auto_leave=True),
    ],
)
def test_a_configuration_comes_back_as_it_was_saved(conf_state: ConfState) -> None:
    """etcd's confchange/restore_test.go."""
    assert Peer(1, conf_state).node.status().conf_state == conf_state


@pytest.mark.parametrize(
    "entry",
    [
        Entry(0, 0, ENTRY_CONF_CHANGE_V2, b""),
        Entry(0, 0, ENTRY_CONF_CHANGE, b"not a change"),
    ],
)
def test_a_change_from_a_peer_that_cannot_be_made_is_neutralised(entry: Entry) -> None:
    """In the log it would stop every node that applies it."""
    leader = make_leader()
    acknowledge(leader, 2, 1)
    leader.node.step(Message(MSG_PROP, to=1, from_=2, entries=[entry]))
    assert leader.node.raft.log.entries(2, 1 << 20) == [Entry(1, 2)]


def test_the_last_voter_stays() -> None:
    peer = make_peer(voters=(1,))
    with pytest.raises(ConfChangeError, match="removed all voters"):
        peer.node.apply_conf_change(remove(1))
    assert peer.node.status().conf_state.voters == (1,)


def test_changes_without_effect() -> None:
    """An update is the application's business, node 0 is a change that the driver has withdrawn, and once is enough."""
    peer = make_peer()
    for conf_change in (ConfChange(CONF_CHANGE_UPDATE_NODE, 2, b"url"), add(0), add(2), remove(7)):
        assert peer.node.apply_conf_change(conf_change) == ConfState((1, 2, 3))


def test_progress_survives_a_change() -> None:
    leader = make_leader()
    acknowledge(leader, 2, 1)
    before = leader.node.raft.tracker.progress[2]
    leader.node.apply_conf_change(add(4))
    assert leader.node.raft.tracker.progress[2] is before
    assert list(leader.node.raft.tracker.progress) == [1, 2, 3, 4]
