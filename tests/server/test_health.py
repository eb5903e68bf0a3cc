"""Health: healthy is who can do the cluster's work now, and the answer says since when it is so and what is missing."""

import pytest

from server.health import Contact
from tests.server.local_nodes import LocalCluster, eventually

PEERS = {1: ("127.0.0.1", 3380), 2: ("127.0.0.1", 13380), 3: ("::1", 23380)}
EVERYBODY = {2: True, 3: True}


def contact(role, leader):
    """Node 1 as of second 100, begun at 90, in its role since 95, confirmed at 96; an election timeout is a second."""
    known = Contact(1, PEERS, silence_s=1.0, now=90.0)
    known.became(role, leader, 7, 95.0)
    known.became(role, leader, 7, 99.0)
    known.confirmed(96.0)
    return known


def test_a_confirmed_node_is_healthy_and_says_what_it_is():
    known = contact("leader", 1)
    known.heard(2, 99.75)
    healthy, report = known.health(None, EVERYBODY, 100.0)
    assert healthy
    assert report["healthy"] is True and report["role"] == "leader" and report["role_since_s"] == 5.0
    assert report["members"]["2"] == {"url": "http://127.0.0.1:13380", "heard_s_ago": 0.25, "connected": True}
    assert report["members"]["3"]["heard_s_ago"] is None
    assert "error" not in report


@pytest.mark.parametrize(
    ("role", "leader", "heard", "missing", "sentence"),
    [
        ("leader", 1, {2: 98.5}, [2, 3], "This node leads, and no majority has answered it for 4.0 s: "
         "nothing is heard from node 2 or node 3."),
        ("follower", 2, {2: 99.9}, [], "Node 2 leads and is heard, and has not answered this node for 4.0 s: "
         "what this node sends may not arrive, or the leader may have no majority."),
        ("follower", 2, {3: 99.9}, [2], "Node 2 leads, and has neither been heard nor answered for 4.0 s."),
        ("candidate", 0, {2: 99.9, 3: 99.0}, [], "No leader is known, and no read was confirmed for 4.0 s: "
         "every node is heard; why."),
    ],
)  # fmt: skip
def test_a_node_that_is_not_answered_says_what_is_missing(role, leader, heard, missing, sentence):
    known = contact(role, leader)
    for node_id, when in heard.items():
        known.heard(node_id, when)
    healthy, report = known.health("why", EVERYBODY, 100.0)
    assert not healthy and report["healthy"] is False
    assert (report["missing"], report["since_s"], report["error"]) == (missing, 4.0, sentence)


def test_a_node_that_was_never_confirmed_counts_from_its_start():
    known = Contact(1, PEERS, silence_s=1.0, now=90.0)
    assert known.health("why", {}, 100.0).report["since_s"] == 10.0


class Cut:
    """A network that loses messages: `lost` names sender and receiver."""

    def __init__(self, cluster):
        self.lost = set()
        for node in cluster.nodes.values():
            self._hook(node, node._transport.send)

    def _hook(self, node, send):
        node._transport.send = lambda messages: send([m for m in messages if (node.id, m.to) not in self.lost])


def test_a_leader_that_is_cut_off_is_not_healthy_and_the_others_are(tmp_path):
    """It leads no more once nobody has answered it for an election timeout, and says what it misses."""
    with LocalCluster(tmp_path) as cluster:
        network, leader = Cut(cluster), cluster.leader()
        assert leader.health().healthy
        others = [node for node in cluster.nodes.values() if node is not leader]
        network.lost = {(leader.id, node.id) for node in others} | {(node.id, leader.id) for node in others}
        eventually("the old leader isn't healthy", lambda: not leader.health().healthy)
        eventually("the others are", lambda: all(node.health().healthy for node in others))
        eventually("both are missing", lambda: len(leader.health().report["missing"]) == 2)
        report = eventually("it leads no more", lambda: (r := leader.health().report)["role"] != "leader" and r)
        assert report["leader"] == 0 and "No leader is known" in report["error"]
        assert leader.alive()
        network.lost = set()
        eventually("all are healthy", lambda: all(node.health().healthy for node in cluster.nodes.values()))


def test_a_node_that_hears_and_is_not_heard_is_not_healthy(tmp_path):
    """Its outgoing links are dead: heartbeats arrive, nothing that it is asked for can be done."""
    with LocalCluster(tmp_path) as cluster:
        network, follower = Cut(cluster), cluster.follower()
        network.lost = {(follower.id, node_id) for node_id in cluster.nodes}
        eventually("it isn't healthy", lambda: not follower.health().healthy)
        report = eventually("its leader is heard", lambda: (r := follower.health().report)["leader"] and r)
        assert "what this node sends may not arrive" in report["error"]
        assert cluster.leader().health().healthy
        network.lost = set()
        eventually("it is healthy", lambda: follower.health().healthy)


def test_a_node_that_has_stopped_is_not_alive(tmp_path):
    with LocalCluster(tmp_path, ["memory"]) as cluster:
        node = cluster.leader()
        assert node.health().healthy and node.alive()
        node.stop()
        assert not node.alive() and not node.health().healthy


def test_a_node_that_returns_deposes_nobody(tmp_path):
    """While it was cut off it asked whether it would win (PreVote), and raised no term."""
    with LocalCluster(tmp_path) as cluster:
        network, leader, away = Cut(cluster), cluster.leader(), cluster.follower()
        term = leader.status()["term"]
        network.lost = {(away.id, other) for other in cluster.nodes} | {(other, away.id) for other in cluster.nodes}
        eventually("it would be a candidate", lambda: away.status()["role"] == "pre-candidate")
        network.lost = set()
        eventually("it follows again", lambda: away.status()["role"] == "follower")
        assert {node.status()["term"] for node in cluster.nodes.values()} == {term}
        assert cluster.leader() is leader
