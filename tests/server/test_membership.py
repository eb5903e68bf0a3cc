"""Members that come, go and change while the cluster runs: nodes in one process, on loopback."""

from __future__ import annotations

import dataclasses
import logging
import threading

import pytest

from server.changes import ADD, LEARNER, MOVE, PROMOTE, REMOVE, Wish
from server.config import NodeConfig
from server.errors import ChangeRefused, DirectoryRefused, NodeError, NodeRemoved
from server.identity import read_identity
from server.joining import JoinRefused, joining_of
from server.node import Node
from tests.server.local_nodes import LocalCluster, eventually, free_ports


@pytest.fixture
def lines():
    seen: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: seen.append(record.getMessage())
    logging.getLogger("metcd").addHandler(handler)
    yield seen
    logging.getLogger("metcd").removeHandler(handler)


@pytest.fixture
def cluster(tmp_path):
    with LocalCluster(tmp_path, ("memory", "lsm", "btree")) as running:
        running.leader()
        yield running


def change(cluster: LocalCluster, kind: str, node: int, address=None, by: Node | None = None) -> int:
    """A change that is asked for again for as long as the cluster says that it can't be made just now."""

    def attempt() -> int:
        try:
            return (by or cluster.leader()).change_members(Wish(kind, node, address))
        except ChangeRefused as error:
            if "not caught up" in str(error) or "not heard" in str(error):
                return 0
            raise
        except NodeError:
            return 0

    return int(eventually(f"{kind} {node}", attempt))


def joins(cluster: LocalCluster, node_id: int, directory, engine: str = "bitcask", **changes) -> Node:
    """A node with an empty directory, as `metcd serve --join` starts it."""
    cluster.leader().read_barrier()
    joining = joining_of(cluster.leader().describe_members(), node_id)
    config = NodeConfig(node_id, {}, str(directory), engine, tick_s=0.02, joining=joining, **changes)
    cluster.configs[node_id] = dataclasses.replace(config, joining=None)
    node = Node(config)
    node.start()
    cluster.nodes[node_id] = node
    return node


def ids(node: Node) -> dict[int, bool]:
    return {each["id"]: each["learner"] for each in node.describe_members()["members"]}


def test_a_fourth_comes_as_a_learner_votes_and_the_first_leader_goes(cluster, tmp_path, lines):
    """From any node; on another engine; the removed one says so, and its directory is refused from then on."""
    first = cluster.leader()
    cluster.put(first, b"before", b"1")
    where = ("127.0.0.1", free_ports(1)[0])
    change(cluster, LEARNER, 4, where, by=cluster.follower())
    with_it = {1: False, 2: False, 3: False, 4: True}
    eventually("the leader has applied it, too", lambda: ids(cluster.leader()) == with_it)
    fourth = joins(cluster, 4, tmp_path / "node4")
    eventually("it has what was written before", lambda: fourth.machine.lookup(b"before") == b"1")
    change(cluster, PROMOTE, 4, by=fourth)
    assert ids(fourth) == {1: False, 2: False, 3: False, 4: False}
    change(cluster, REMOVE, first.id, by=fourth)
    assert first.stopped.wait(30)
    assert isinstance(first.failure, NodeRemoved)
    del cluster.nodes[first.id]
    says = f"node {first.id}: stops: node {first.id} was removed from cluster"
    assert len([line for line in lines if line.startswith(says)]) == 1
    assert "was removed" in first._membership.removed
    assert "was removed" in read_identity(first.config.data_dir).removed
    with pytest.raises(DirectoryRefused, match="its directory takes no part any more"):
        Node(first.config)
    cluster.put(cluster.leader(), b"after", b"2")
    cluster.converged()
    for node in list(cluster.nodes):  # nobody needs the first list any more
        cluster.stop(node)
    for node in cluster.configs.keys() - {first.id}:
        cluster.start(node, peers={})
    assert cluster.read(cluster.leader(), b"after") == b"2"
    assert ids(cluster.leader()).keys() == {1, 2, 3, 4} - {first.id}


def test_who_was_removed_while_it_was_away_hears_it_when_it_comes_back(cluster):
    away = cluster.follower().id
    cluster.stop(away)
    change(cluster, REMOVE, away)
    node = cluster.start(away)
    assert node.stopped.wait(30)
    del cluster.nodes[away]
    assert isinstance(node.failure, NodeRemoved)
    assert f"node {away} was removed from cluster" in str(node.failure)
    assert "as node" in str(node.failure)
    with pytest.raises(DirectoryRefused):
        cluster.start(away)


def test_an_id_comes_back_with_an_empty_directory_only_if_it_is_let_in_anew(cluster, tmp_path):
    """And the old directory doesn't come back with it."""
    gone = cluster.follower().id
    old = cluster.configs[gone]
    cluster.stop(gone)
    with pytest.raises(JoinRefused, match="is one of those that the cluster began with"):
        joining_of(cluster.leader().describe_members(), gone)
    change(cluster, REMOVE, gone)
    with pytest.raises(JoinRefused, match=f"node {gone} is not a member: add it first"):
        joining_of(cluster.leader().describe_members(), gone)
    change(cluster, LEARNER, gone, old.peers[gone])
    node = joins(cluster, gone, tmp_path / "anew")
    change(cluster, PROMOTE, gone)
    cluster.put(cluster.leader(), b"key", b"value")
    cluster.converged()
    cluster.stop(gone)
    node = Node(old)
    node.start()
    assert node.stopped.wait(30)
    assert isinstance(node.failure, NodeRemoved)
    assert "was let in anew at entry" in str(node.failure)
    again = cluster.start(gone)
    cluster.put(cluster.leader(), b"key", b"another")
    eventually("it goes on", lambda: again.machine.lookup(b"key") == b"another")


def test_what_must_not_be_changed_is_refused_with_the_leaders_reason(cluster):
    """From a follower, so that the reason comes back over the network."""
    follower, leader = cluster.follower(), cluster.leader()
    other = next(node for node in (1, 2, 3) if node not in (follower.id, leader.id))
    free = ("127.0.0.1", free_ports(1)[0])
    taken = cluster.configs[other].peers[other]

    def says(kind: str, node: int, address=None) -> str:
        with pytest.raises(ChangeRefused) as refused:
            follower.change_members(Wish(kind, node, address))
        return str(refused.value)

    assert says(REMOVE, 9) == "there is no node 9"
    assert says(PROMOTE, 9) == "there is no node 9"
    assert says(PROMOTE, other) == f"node {other} is a voter already"
    assert says(LEARNER, 4, taken) == f"http://127.0.0.1:{taken[1]} is the address of node {other}"
    assert says(LEARNER, other, free).startswith(f"there is a node {other} already, at 127.0.0.1:{taken[1]}")
    change(cluster, LEARNER, 4, free, by=follower)
    assert says(PROMOTE, 4) == "node 4 is not heard: start it, and promote it when it has caught up"
    change(cluster, REMOVE, 4, by=follower)
    assert says(REMOVE, 4).startswith("node 4 was removed already, at entry")
    cluster.stop(other)
    eventually("it is missed", lambda: not leader.describe_members()["members"][other - 1]["reachable"])
    silent = ", ".join(f"node {node}" for node in sorted((4, other)))
    assert says(ADD, 4, free) == (
        f"3 of the 4 voters that there would be have to answer, and {silent} are not heard: "
        "add node 4 as a learner, start it, and promote it then"
    )
    assert says(REMOVE, follower.id).startswith("2 of the 2 voters that there would be have to answer, and node")
    change(cluster, REMOVE, other)  # who is away may go: the two that are left are enough


def test_the_last_voter_stays(tmp_path):
    with LocalCluster(tmp_path, ("memory",)) as one:
        with pytest.raises(ChangeRefused, match="node 1 is the last voter: without it there is no cluster"):
            one.leader().change_members(Wish(REMOVE, 1))
        with pytest.raises(ChangeRefused, match="add node 2 as a learner, start it, and promote it then"):
            one.leader().change_members(Wish(ADD, 2, ("127.0.0.1", free_ports(1)[0])))


def test_a_member_moves_to_another_address(cluster):
    moving = cluster.follower().id
    where = ("127.0.0.1", free_ports(1)[0])
    cluster.stop(moving)
    change(cluster, MOVE, moving, where)
    node = cluster.start(moving, listen_peer=where)
    cluster.put(cluster.leader(), b"key", b"value")
    eventually("it is reached there", lambda: node.machine.lookup(b"key") == b"value")
    assert node.describe_members()["members"][moving - 1]["peer_url"] == f"http://127.0.0.1:{where[1]}"


def test_all_three_are_replaced_one_after_the_other_under_load(cluster, tmp_path):
    """No write fails for good: who asks again, at any node, gets it done."""
    over = threading.Event()
    written: list[int] = []

    def load() -> None:
        while not over.is_set():
            number = len(written)
            for node in list(cluster.nodes.values()):
                try:
                    node.propose([(b"n%d" % number, b"%d" % number)])
                except NodeError:
                    continue
                written.append(number)
                break

    worker = threading.Thread(target=load)
    worker.start()
    try:
        for at, old in enumerate((1, 2, 3)):
            new = 4 + at
            change(cluster, LEARNER, new, ("127.0.0.1", free_ports(1)[0]))
            joins(cluster, new, tmp_path / f"node{new}", ("lsm", "btree", "bitcask")[at])
            change(cluster, PROMOTE, new)
            leaving = cluster.nodes[old]
            change(cluster, REMOVE, old, by=cluster.nodes[new])
            assert leaving.stopped.wait(30)
            del cluster.nodes[old]
    finally:
        over.set()
        worker.join()
    assert len(written) > 20
    cluster.put(cluster.leader(), b"last", b"one")
    values = cluster.values()
    assert [number for number in written if values.get(b"n%d" % number) != b"%d" % number] == []
    assert all(ids(node) == {4: False, 5: False, 6: False} for node in cluster.nodes.values())
