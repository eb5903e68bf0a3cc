"""Snapshots and the configuration in them (raft/snapshots.py): who the receiver is, once it has taken one.

What a snapshot does to the log is in test_paper_7_snapshots.py.
"""

from __future__ import annotations

import pytest

from raft import ConfState, Message, Snapshot, SnapshotMetadata
from raft.raftpb import MSG_APP_RESP, MSG_SNAP
from tests.raft.network import Peer
from tests.raft.nodes import drain, make_peer


def receive(peer: Peer, conf_state: ConfState, index: int = 11, term: int = 11) -> list[Message]:
    """A snapshot from node 1; gives back what its receiver says to it."""
    snapshot = Snapshot(SnapshotMetadata(index, term, conf_state), peer.application.snapshot())
    peer.node.step(Message(MSG_SNAP, to=peer.id, from_=1, term=term, snapshot=snapshot))
    return drain(peer)


@pytest.mark.parametrize(
    ("conf_state", "promotable"),
    [
        (ConfState((1, 2, 3)), True),
        (ConfState((1, 3), (2,)), False),  # demoted while it was away
        (ConfState((1, 3), (), (1, 2, 3)), True),  # one of the old voters, which decide as well
        (ConfState((1, 3), (), (1, 2, 3), (2,)), True),  # a learner only when they go
    ],
)
def test_the_configuration_of_the_snapshot_is_in_force_at_once(conf_state: ConfState, promotable: bool) -> None:
    """etcd: TestRestore, RestoreWithLearner, RestoreWithVotersOutgoing, RestoreVoterToLearner."""
    peer = make_peer(2)
    (answer,) = receive(peer, conf_state)
    assert (answer.type, answer.index, answer.reject) == (MSG_APP_RESP, 11, False)
    assert peer.node.status().conf_state == conf_state
    assert peer.node.raft.promotable() is promotable


def test_a_learner_is_promoted_by_a_snapshot() -> None:
    """etcd: TestRestoreLearnerPromotion. It missed the entry that made it a voter."""
    peer = Peer(2, ConfState((1, 3), (2,)))
    assert not peer.node.raft.promotable()
    receive(peer, ConfState((1, 2, 3)))
    assert peer.node.raft.promotable()


def test_a_snapshot_without_its_receiver_changes_nothing() -> None:
    """The sender knows another configuration than this node will; the log and the answer don't reach past it."""
    peer = make_peer(2, terms=(1,), commit=1)
    (answer,) = receive(peer, ConfState((1, 3)))
    assert (answer.index, peer.log()) == (1, [(1, 1)])
    assert peer.node.status().conf_state == ConfState((1, 2, 3))


@pytest.mark.parametrize("conf_state", [ConfState((), (2,)), ConfState((1, 2), (2,)), ConfState((1,), (), (2,), (1,))])
def test_a_snapshot_of_a_configuration_that_cannot_be_changes_nothing(conf_state: ConfState) -> None:
    """What a peer sends must not stop a node: it is ignored, like a snapshot without its receiver."""
    peer = make_peer(2, terms=(1,), commit=1)
    (answer,) = receive(peer, conf_state)
    assert (answer.index, peer.log()) == (1, [(1, 1)])
    assert peer.node.status().conf_state == ConfState((1, 2, 3))


@pytest.mark.parametrize("index", [1, 2])
def test_a_snapshot_of_what_is_committed_is_ignored(index: int) -> None:
    """etcd: TestRestoreIgnoreSnapshot: late, or sent twice; the answer says how far this log is."""
    peer = make_peer(2, terms=(1, 1, 1), commit=2)
    (answer,) = receive(peer, ConfState((1, 2)), index=index, term=1)
    assert (answer.index, len(peer.log())) == (2, 3)
    assert peer.node.status().conf_state == ConfState((1, 2, 3))


def test_a_snapshot_of_an_entry_that_is_there_only_commits() -> None:
    """Dropping the log would drop entries that this node has acknowledged."""
    peer = make_peer(2, terms=(1, 1, 1), commit=1)
    receive(peer, ConfState((1, 2)), index=2, term=1)
    assert (peer.node.commit_index, len(peer.log())) == (2, 3)
    assert peer.node.status().conf_state == ConfState((1, 2, 3)), "the log brings the changes"
