"""The leadership is handed over: to whom is named, and before a clean shutdown; nobody's write is lost by it."""

import http.client
import json
import threading

import pytest

from server.errors import NodeStopped, NoLeader, NotAVoter
from server.http import FrontEnd
from tests.server.local_nodes import LocalCluster, eventually


@pytest.fixture
def cluster(tmp_path):
    with LocalCluster(tmp_path) as cluster:
        yield cluster


def test_any_node_can_be_asked_and_answers_when_the_other_one_leads(cluster):
    for _ in range(2):
        leader = cluster.leader()
        asked, target = (node for node in cluster.nodes.values() if node is not leader)
        before = leader.status()["term"]
        term = asked.transfer(target.id)
        assert term > before
        assert cluster.leader() is target
        assert target.transfer(target.id) == term, "it leads already"


def test_a_node_without_a_vote_is_refused(cluster):
    cluster.leader()
    with pytest.raises(NotAVoter, match="node 9 can't lead, because it has no vote here: the voters are 1, 2, 3"):
        cluster.follower().transfer(9)


def test_a_node_that_is_away_takes_over_nothing_and_the_leader_goes_on(cluster):
    leader, away = cluster.leader(), cluster.follower()
    cluster.stop(away.id)
    with pytest.raises(NoLeader, match=f"node {away.id} did not take over within 0.05 s"):
        leader.transfer(away.id, timeout_s=0.05)
    cluster.put(leader, b"k", b"v")


def test_writes_go_on_while_leaders_change(cluster):
    """Those of the old leader and those that are forwarded to it: each is answered, by an index of its own."""
    cluster.put(cluster.leader(), b"k", b"v")
    stop, indexes, failures = threading.Event(), [], []

    def write(node, name):
        number = 0
        while not stop.is_set():
            number += 1
            try:
                indexes.append(node.propose([(b"%d-%d" % (name, number), b"v")]))
            except Exception as error:
                failures.append(error)

    threads = [threading.Thread(target=write, args=(node, at)) for at, node in cluster.nodes.items()]
    for thread in threads:
        thread.start()
    try:
        for _ in range(6):
            so_far = len(indexes)
            eventually("some writes are done", lambda so_far=so_far: len(indexes) > so_far + 30)
            cluster.leader().transfer(cluster.follower().id)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not [failure for failure in failures if not isinstance(failure, NoLeader)]
    assert len(set(indexes)) == len(indexes)
    assert len([key for key in cluster.values() if b"-" in key]) == len(indexes)


def test_a_leader_hands_over_before_it_stops(cluster):
    leader = cluster.leader()
    cluster.put(leader, b"k", b"v")
    term = leader.status()["term"]
    leader.hand_over()
    assert leader.status()["leader"] not in (0, leader.id)
    cluster.stop(leader.id)
    assert cluster.leader().status()["term"] == term + 1, "there was one election, and no timeout"


def test_a_node_alone_and_one_that_has_stopped_hand_over_to_nobody(tmp_path):
    with LocalCluster(tmp_path, ["memory"]) as cluster:
        node = cluster.leader()
        term = node.status()["term"]
        node.hand_over(timeout_s=30)
        assert (node.status()["leader"], node.status()["term"]) == (node.id, term), "it goes on leading"
        assert node.propose([(b"key", b"value")]) == node.machine.applied_index
        node.stop()
        node.hand_over(timeout_s=30)
        assert node.failure is None


def test_who_waits_when_the_node_stops_is_told(cluster):
    leader, away = cluster.leader(), cluster.follower()
    cluster.stop(away.id)
    told = []

    def ask_for_it():
        try:
            leader.transfer(away.id, timeout_s=30)
        except (NodeStopped, NoLeader) as error:
            told.append(error)

    thread = threading.Thread(target=ask_for_it)
    thread.start()
    eventually("it waits", lambda: leader._handover._waiting)
    cluster.stop(leader.id)
    thread.join()
    assert len(told) == 1


def test_the_route(cluster):
    front = FrontEnd(cluster.leader(), ("127.0.0.1", 0))
    front.start()
    try:
        target = cluster.follower().id
        status, body = posted(front, f"/_/leader/{target}")
        assert (status, body["leader"]) == (200, target)
        assert posted(front, "/_/leader/9")[0] == 404
        assert posted(front, "/_/leader/three")[0] == 400
        assert posted(front, "/_/leader")[0] == 404
    finally:
        front.stop()


def posted(front, path):
    connection = http.client.HTTPConnection(*front.address)
    try:
        connection.request("POST", path)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()
