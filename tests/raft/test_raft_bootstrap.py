"""A new cluster whose members are in its log (raft/bootstrap.py)."""

from __future__ import annotations

import pytest

from raft import ConfChangeType, ConfState, Entry, HardState, MemoryStorage, Peer, RawNode, StateType
from raft.raftpb import ENTRY_CONF_CHANGE, ConfChange
from tests.raft.network import Peer as Member
from tests.raft.nodes import drain


def bootstrapped(*peers: Peer) -> Member:
    member = Member(1, ConfState())
    member.node.bootstrap(peers)
    return member


def test_the_first_ready_has_the_members_as_committed_entries() -> None:
    member = bootstrapped(Peer(1, b"one"), Peer(2), Peer(3))
    changes = [ConfChange(ConfChangeType.ADD_NODE, 1, b"one")]
    changes += [ConfChange(ConfChangeType.ADD_NODE, node_id) for node_id in (2, 3)]
    member.take()
    assert member.ready is not None
    expected = [Entry(1, index, ENTRY_CONF_CHANGE, change.encode()) for index, change in enumerate(changes, 1)]
    assert member.ready.entries == member.ready.committed_entries == expected
    assert (member.ready.hard_state, member.ready.must_sync) == (HardState(1, 0, 3), True)
    member.write()
    member.finish()
    assert member.node.status().conf_state == ConfState((1, 2, 3)), "applied again, which changes nothing"


def test_a_member_campaigns_once_it_has_applied_them() -> None:
    """Before that, it would count by changes that aren't applied (etcd#12133)."""
    member = bootstrapped(Peer(1))
    member.node.campaign()
    assert member.node.role == StateType.FOLLOWER
    drain(member)
    member.node.campaign()
    drain(member)
    assert (member.node.role, member.node.term) == (StateType.LEADER, 2)


def test_it_needs_peers_and_an_empty_storage() -> None:
    with pytest.raises(ValueError, match="at least one peer"):
        bootstrapped()
    with pytest.raises(ValueError, match="must not be 0"):
        bootstrapped(Peer(1), Peer(0))
    member = Member(1, ConfState((1,)))
    member.storage.append([Entry(1, 1)])
    node = RawNode(member.node.raft.config)
    with pytest.raises(ValueError, match="can't be bootstrapped"):
        node.bootstrap([Peer(1)])
    assert isinstance(member.storage, MemoryStorage)
