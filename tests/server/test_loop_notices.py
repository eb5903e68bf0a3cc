"""The leader's notices wait a moment, and travel with the next entries: what leaves when, and in which order."""

import math

import pytest

from raft.raftpb import MSG_APP, MSG_HEARTBEAT, MSG_PROP, Entry, Message
from server.loop_notices import EAGER_S, HOLD_S, HeldNotices
from tests.server.local_nodes import LocalCluster


class Peers:
    """The outbox under test, its clock, and what has left."""

    def __init__(self):
        self.left = []
        self.time = 100.0
        self.settled = True
        self.outbox = HeldNotices(self.left.append, lambda: self.time, lambda: self.settled)

    def send(self, *messages):
        """What leaves at once."""
        self.left.clear()
        self.outbox.send(list(messages))
        return [message for batch in self.left for message in batch]

    def flushed(self):
        self.left.clear()
        self.outbox.flush()
        return [message for batch in self.left for message in batch]


def notice(to, commit):
    return Message(MSG_APP, to=to, from_=1, term=1, log_term=1, index=commit, commit=commit)


def entries(to, index):
    return Message(MSG_APP, to=to, from_=1, term=1, log_term=1, index=index - 1, entries=[Entry(1, index)])


def heartbeat(to):
    return Message(MSG_HEARTBEAT, to=to, from_=1, term=1)


@pytest.fixture
def peers():
    return Peers()


def test_a_notice_is_left_out_when_entries_go_to_its_follower(peers):
    assert peers.send(notice(2, 7), notice(3, 7)) == []
    assert peers.send(entries(2, 8), entries(3, 8)) == [entries(2, 8), entries(3, 8)]
    assert peers.outbox.due == math.inf
    peers.time += 1
    assert peers.flushed() == []


def test_a_notice_leaves_by_itself_when_nothing_else_does(peers):
    peers.send(notice(2, 7), notice(3, 7))
    assert peers.outbox.due == peers.time + HOLD_S
    assert peers.flushed() == []
    peers.time += HOLD_S
    assert peers.flushed() == [notice(2, 7), notice(3, 7)]
    assert peers.outbox.due == math.inf


def test_a_newer_notice_takes_the_place_of_an_older_one_and_waits_no_longer(peers):
    peers.send(notice(2, 7))
    due = peers.outbox.due
    peers.time += HOLD_S / 2
    assert peers.send(notice(2, 8)) == []
    assert peers.outbox.due == due
    peers.time = due
    assert peers.flushed() == [notice(2, 8)]


def test_what_is_no_notice_leaves_after_the_notice_that_was_there_first(peers):
    """An answer to a reader on that follower names an index that the notice is about."""
    peers.send(notice(2, 7), notice(3, 7))
    assert peers.send(heartbeat(2)) == [notice(2, 7), heartbeat(2)]
    assert peers.send(heartbeat(3), notice(3, 8)) == [notice(3, 7), heartbeat(3)]
    peers.time += 1
    assert peers.flushed() == [notice(3, 8)]


def test_within_one_batch_a_notice_before_entries_is_left_out(peers):
    assert peers.send(notice(2, 7), entries(2, 8), notice(3, 7)) == [entries(2, 8)]
    peers.time += 1
    assert peers.flushed() == [notice(3, 7)]


def test_a_follower_that_passes_on_writes_is_told_at_once(peers):
    """It answers them when it has applied them."""
    peers.outbox.heard([Message(MSG_PROP, to=1, from_=2, entries=[Entry(0, 0)])])
    assert peers.send(notice(2, 7), notice(3, 7)) == [notice(2, 7)]
    peers.time += EAGER_S
    peers.flushed()
    assert peers.send(notice(2, 8)) == []


def test_while_a_membership_change_is_on_its_way_nothing_is_held(peers):
    """The notice that commits it is the last that a removed member hears."""
    peers.send(notice(2, 7))
    peers.settled = False
    assert peers.send(notice(3, 8)) == [notice(2, 7), notice(3, 8)]
    assert peers.outbox.due == math.inf


def test_followers_of_a_quiet_leader_have_applied_everything_in_a_moment(tmp_path):
    """No entry, and in this cluster no heartbeat, would tell them; reads on them come to an end, too."""
    with LocalCluster(tmp_path, heartbeat_tick=1_000, election_tick=2_000) as cluster:
        cluster.nodes[1].later(cluster.nodes[1]._raft.campaign)
        leader = cluster.leader()
        cluster.put(leader, b"k", b"v")
        assert cluster.converged()
        assert cluster.read(cluster.follower(), b"k") == b"v"
