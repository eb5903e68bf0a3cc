"""Section 7 of the paper: log compaction. Snapshots are data here; making and installing them is the driver's."""

from __future__ import annotations

import pytest

from raft import ConfState, HardState, Message, Snapshot, SnapshotMetadata
from raft.kinds import StateType
from raft.raftpb import MSG_APP, MSG_APP_RESP, MSG_SNAP
from tests.raft.network import Application, Network
from tests.raft.nodes import drain, entries, make_peer, terms_of

VOTERS = ConfState((1, 2, 3))


def snapshot_message(index: int, term: int, conf_state: ConfState = VOTERS) -> Message:
    application = Application()
    application.index = index
    metadata = SnapshotMetadata(index, term, conf_state)
    return Message(MSG_SNAP, to=1, from_=2, term=5, snapshot=Snapshot(metadata, application.snapshot()))


def test_a_follower_takes_a_snapshot_that_is_ahead_of_its_log() -> None:
    """The paper: "the follower discards its entire log; it is all superseded by the snapshot"."""
    follower = make_peer(terms=(1, 1))
    follower.node.step(snapshot_message(9, 4, ConfState((1, 2, 4))))
    assert follower.take() == []
    assert follower.ready is not None
    assert follower.ready.snapshot is not None
    assert follower.ready.entries == []
    follower.write()
    assert [(m.type, m.index, m.reject) for m in follower.finish()] == [(MSG_APP_RESP, 9, False)]
    status = follower.node.status()
    assert (status.commit, status.applied, status.last_index) == (9, 9, 9)
    assert status.conf_state.voters == (1, 2, 4)
    assert follower.application.index == 9
    assert follower.node.raft.log.term(9) == 4


def test_the_log_goes_on_behind_a_snapshot() -> None:
    follower = make_peer(terms=(1,))
    follower.node.step(snapshot_message(9, 4))
    follower.node.step(
        Message(MSG_APP, to=1, from_=2, term=5, index=9, log_term=4, entries=entries(10, (5, 5)), commit=10)
    )
    drain(follower)
    assert (follower.node.status().commit, follower.application.index) == (10, 10)
    assert terms_of(follower) == [5, 5]


def test_entries_before_a_snapshot_are_no_conflict() -> None:
    """openraft#511: a late MsgApp starts at an entry that is cut away; it must neither be refused nor truncate."""
    follower = make_peer()
    follower.node.step(snapshot_message(9, 4))
    follower.node.step(Message(MSG_APP, to=1, from_=2, term=5, index=9, log_term=4, entries=entries(10, (5, 5))))
    drain(follower)
    late = Message(MSG_APP, to=1, from_=2, term=5, index=6, log_term=3, entries=entries(7, (4, 4, 4, 5)))
    follower.node.step(late)
    assert [(m.index, m.reject) for m in drain(follower)] == [(9, False)]
    assert terms_of(follower) == [5, 5]


def test_a_follower_that_has_the_last_entry_keeps_its_log() -> None:
    """The paper: "entries following the snapshot are still valid and must be retained"; it may have acknowledged
    them. The commit index is news, though."""
    follower = make_peer(terms=(1, 2, 3, 3))
    follower.node.step(snapshot_message(2, 2))
    assert [(m.index, m.reject) for m in drain(follower)] == [(2, False)]
    assert terms_of(follower) == [1, 2, 3, 3]
    assert follower.node.status().commit == 2


def test_a_log_with_another_entry_there_is_dropped_whole() -> None:
    """hashicorp/raft#697: a conflicting log that was kept made the follower ask for snapshots for ever."""
    follower = make_peer(terms=(1, 3, 3, 3))
    follower.node.step(snapshot_message(2, 2))
    drain(follower)
    assert terms_of(follower) == []
    assert follower.node.status().last_index == 2
    follower.restart()
    assert (terms_of(follower), follower.node.status().last_index) == ([], 2)


@pytest.mark.parametrize(
    "message",
    [snapshot_message(2, 1), snapshot_message(1, 1), snapshot_message(9, 4, ConfState((2, 3)))],
    ids=["committed already", "before that", "a configuration without this node"],
)
def test_other_snapshots_are_ignored(message: Message) -> None:
    follower = make_peer(terms=(1, 1, 1), commit=2)
    drain(follower)
    follower.node.step(message)
    assert [(m.type, m.index) for m in drain(follower)] == [(MSG_APP_RESP, 2)]
    assert terms_of(follower) == [1, 1, 1]


def test_nobody_campaigns_before_a_snapshot_is_installed() -> None:
    follower = make_peer()
    follower.node.step(snapshot_message(9, 4))
    follower.node.campaign()
    assert follower.node.status().raft_state == StateType.FOLLOWER
    drain(follower)
    follower.node.campaign()
    assert follower.node.status().raft_state == StateType.CANDIDATE


def test_a_snapshot_that_a_newer_term_overtakes_is_installed_all_the_same() -> None:
    """Written and applied in the old term, it is as good in the new one."""
    follower = make_peer()
    follower.node.step(snapshot_message(9, 4))
    follower.take()
    follower.node.step(Message(MSG_APP, to=1, from_=3, term=6, index=9, log_term=4))
    follower.write()
    follower.finish()
    drain(follower)
    assert (follower.node.status().term, follower.node.status().applied) == (6, 9)
    assert follower.node.raft.log.unstable.snapshot is None


def test_a_second_snapshot_waits_for_its_turn() -> None:
    follower = make_peer()
    follower.node.step(snapshot_message(9, 4))
    follower.take()
    follower.node.step(snapshot_message(12, 4))
    follower.write()
    follower.finish()
    assert (follower.node.status().applied, follower.node.status().commit) == (9, 12)
    drain(follower)
    assert (follower.node.status().applied, follower.application.index) == (12, 12)


def test_a_slow_follower_is_brought_back_by_a_snapshot() -> None:
    """End to end, with the leader's log cut; and the follower can lead afterwards."""
    network = Network()
    network.elect(1)
    network.isolate(3)
    for number in range(20):
        network.propose(1, b"%d" % number)
    network.peers[1].take_snapshot(keep=2)
    network.heal()
    network.tick(5)
    expected = [b"%d" % number for number in range(20)]
    assert network.applied() == [expected] * 3
    assert network[3].status().last_index == network[1].status().last_index
    assert network.peers[3].storage.snapshot().metadata.index == 21
    network.elect(3)
    network.propose(3, b"more")
    network.tick()
    assert network.applied() == [[*expected, b"more"]] * 3


def test_a_snapshot_that_is_lost_is_sent_again() -> None:
    network = Network()
    network.elect(1)
    network.isolate(3)
    for number in range(5):
        network.propose(1, b"%d" % number)
    network.peers[1].take_snapshot()
    network.drop = lambda m: m.type == MSG_SNAP
    network.tick(5)
    assert network.applied()[2] == []
    network.heal()
    network.tick(5)
    assert network.applied()[2] == network.applied()[0]


def test_a_node_starts_from_snapshot_and_log() -> None:
    network = Network()
    network.elect(1)
    for number in range(5):
        network.propose(1, b"%d" % number)
    network.peers[1].take_snapshot(keep=2)
    network.propose(1, b"after")
    network.peers[1].restart()
    status = network[1].status()
    assert (status.term, status.applied, status.last_index) == (1, 6, 7)
    network.tick(60)
    assert network.applied()[0] == [b"0", b"1", b"2", b"3", b"4", b"after"]


def test_a_snapshot_is_enough_even_if_the_hard_state_is_behind_it() -> None:
    """A commit index by itself isn't synced, so after a power cut a snapshot can be ahead of it (etcd#10219)."""
    peer = make_peer(terms=(1, 1, 1, 1), commit=1)
    peer.disk.write((Snapshot(SnapshotMetadata(3, 1, VOTERS), b"\x03" + bytes(11)), 2))
    peer.disk.write(HardState(1, 0, 1))
    peer.start()
    assert (peer.node.status().commit, peer.node.status().applied) == (3, 3)
