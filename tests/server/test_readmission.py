"""A node that has lost its disk comes back by itself: readmitted as a learner, and a voter again once it has everything."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import shutil

import pytest

from engines.env import real_env
from engines.errors import StoreError
from engines.faultenv import FaultEnv
from raft.raftpb import MSG_APP, MSG_HEARTBEAT, MSG_SNAP, Message
from server.errors import DirectoryRefused, NoLeader
from server.identity import read_identity, write_identity
from server.node import Node
from server.readmission import Readmission
from tests.server.local_nodes import LocalCluster, eventually, free_ports

ENGINES = ("lsm", "btree", "memory")


@pytest.fixture
def cluster(tmp_path):
    with LocalCluster(tmp_path, ENGINES) as running:
        yield running


@pytest.fixture
def never_back(monkeypatch):
    """Nobody is promoted, until it is called."""
    monkeypatch.setattr(Readmission, "_is_back", lambda *_: False)
    return monkeypatch.undo


def lose(cluster: LocalCluster, node_id: int) -> None:
    cluster.stop(node_id)
    shutil.rmtree(cluster.configs[node_id].data_dir)


def number(cluster: LocalCluster, node_id: int) -> int:
    return read_identity(cluster.configs[node_id].data_dir).number


def votes_again(cluster: LocalCluster, node_id: int) -> None:
    """All running nodes have it as a voter, with the directory that it has now."""

    def known() -> bool:
        members = [node.members.book.members[node_id] for node in cluster.nodes.values()]
        back = all(each.number == number(cluster, node_id) and not each.learner for each in members)
        return back and not any(node.status()["readmission"] for node in cluster.nodes.values())

    eventually(f"node {node_id} votes again", known)


def learns(cluster: LocalCluster, node_id: int) -> None:
    def known() -> bool:
        members = [node.members.book.members[node_id] for node in cluster.nodes.values()]
        return all(each.number == number(cluster, node_id) and each.learner for each in members)

    eventually(f"node {node_id} is a learner", known)


def others(cluster: LocalCluster, *known: int) -> list[int]:
    return [node_id for node_id in cluster.configs if node_id not in known]


@pytest.mark.parametrize("options", [{}, {"snapshot_entries": 16, "catch_up_entries": 0}], ids=["log", "snapshot"])
def test_a_lost_disk_comes_back_by_itself_and_counts_again(tmp_path, options, lines) -> None:
    """Then another node goes, and only with the first one's vote are there two of three."""
    with LocalCluster(tmp_path, ENGINES, **options) as cluster:
        leader = cluster.leader()
        written = {b"%d" % at: b"value %d" % at for at in range(50)}
        for key, value in written.items():
            cluster.put(leader, key, value)
        victim, other = others(cluster, leader.id)
        lose(cluster, victim)
        cluster.start(victim)
        votes_again(cluster, victim)

        def told(node_id: int, what: str) -> int:
            return sum(line.startswith(f"node {node_id}: node {victim} ") and what in line for line in lines)

        for node_id in cluster.configs:
            assert told(node_id, "has lost its disk, and is readmitted at entry") <= 1
            if node_id != victim:  # and each says so once it has applied that
                eventually("it votes again", lambda at=node_id: told(at, "has everything again, and votes again") == 1)
        cluster.stop(other)
        cluster.put(cluster.leader(), b"after", b"1")
        for key, value in written.items():
            assert cluster.read(cluster.nodes[victim], key) == value


def test_the_leader_comes_back_too(cluster) -> None:
    leader = cluster.leader()
    cluster.put(leader, b"key", b"value")
    lose(cluster, leader.id)
    cluster.start(leader.id)
    votes_again(cluster, leader.id)
    assert cluster.read(cluster.nodes[leader.id], b"key") == b"value"


def test_all_three_disks_are_lost_one_after_the_other(cluster) -> None:
    cluster.put(cluster.leader(), b"key", b"value")
    for node_id in cluster.configs:
        lose(cluster, node_id)
        cluster.start(node_id)
        votes_again(cluster, node_id)
    assert cluster.read(cluster.leader(), b"key") == b"value"


def test_a_disk_is_lost_again_and_the_node_starts_again_on_the_way_back(cluster, never_back) -> None:
    leader = cluster.leader()
    cluster.put(leader, b"key", b"value")
    victim = others(cluster, leader.id)[0]
    for _ in range(2):
        lose(cluster, victim)
        cluster.start(victim)
        learns(cluster, victim)
    said = eventually("it says so", lambda: cluster.nodes[victim].status()["readmission"])
    assert "is being readmitted: has " in said
    cluster.stop(victim)
    cluster.start(victim)
    learns(cluster, victim)
    never_back()
    votes_again(cluster, victim)


def test_who_lives_but_has_not_everything_is_not_promoted(cluster) -> None:
    """It answers heartbeats, and gets no entries."""
    leader = cluster.leader()
    cluster.put(leader, b"key", b"value")
    victim = others(cluster, leader.id)[0]
    lose(cluster, victim)
    node = cluster.start(victim)
    step, heartbeats, blocked = node._intake.step, [], [True]

    def without_entries(messages) -> None:
        heartbeats.extend(m for m in messages if m.type == MSG_HEARTBEAT)
        step([m for m in messages if m.type not in (MSG_APP, MSG_SNAP) or not blocked])

    node._intake.step = without_entries
    eventually("it is a learner", lambda: leader.members.book.members[victim].learner)
    eventually("it has answered for a while", lambda: len(heartbeats) > 30)
    assert leader.members.book.members[victim].learner
    assert re.fullmatch(
        r"is being readmitted: has 0 of \d+ entries, and has no vote until it has them all",
        node.status()["readmission"],
    )
    blocked.clear()
    votes_again(cluster, victim)


def test_without_a_leader_a_node_waits_and_says_so(cluster) -> None:
    leader = cluster.leader()
    cluster.put(leader, b"key", b"value")
    first, second = others(cluster, leader.id)
    cluster.stop(second)
    lose(cluster, first)
    node = cluster.start(first)
    said = eventually("it says so", lambda: node.status()["readmission"])
    eventually(
        "the leader has stepped down", lambda: "no node that it reaches knows a leader" in node.status()["readmission"]
    )
    assert "asks to be readmitted with its empty directory" in said
    with pytest.raises(NoLeader, match=r"is kept out of its cluster: .*; it asks to be readmitted"):
        node.read_barrier()
    cluster.start(second)
    votes_again(cluster, first)


def test_a_majority_that_has_lost_its_disks_does_not_come_back(cluster) -> None:
    leader = cluster.leader()
    cluster.put(leader, b"key", b"value")
    lost = others(cluster, leader.id)
    for node_id in lost:
        cluster.stop(node_id)
    eventually("the last one leads no more", lambda: leader.status()["leader"] == 0)
    committed = leader.status()["commit_index"]
    for node_id in lost:
        shutil.rmtree(cluster.configs[node_id].data_dir)
        node = cluster.start(node_id)
        eventually("it waits", lambda node=node: "there will be none" in node.status()["readmission"])
    asked = [cluster.nodes[node_id]._readmission for node_id in lost]
    times = [each._next for each in asked]
    eventually("they have asked again", lambda: all(each._next > at for each, at in zip(asked, times, strict=True)))
    assert leader.status()["commit_index"] == committed
    assert leader.status()["leader"] == 0


@pytest.mark.parametrize(
    "calls", [(3, 9, 14, 22), pytest.param(range(1, 60), marks=pytest.mark.slow)], ids=["few", "many"]
)
def test_a_disk_that_dies_at_any_call_on_the_way_back_leaves_a_node_that_goes_on(cluster, calls) -> None:
    """From that call on nothing reaches the disk any more; the next start finds what did. Nothing of it is refused."""
    leader = cluster.leader()
    written = {b"%d" % at: b"value %d" % at for at in range(20)}
    for key, value in written.items():
        cluster.put(leader, key, value)
    victim = others(cluster, leader.id)[0]
    cluster.stop(victim)
    for call in calls:
        shutil.rmtree(cluster.configs[victim].data_dir)
        disk = FaultEnv(real_env(), call, forever=True)
        with contextlib.suppress(OSError, StoreError):
            node = cluster.start(victim, env=disk)
            eventually("its disk has died, or it is back", lambda disk=disk, node=node: disk.fired or _is_back(node))
        if victim in cluster.nodes:
            with contextlib.suppress(OSError, StoreError):
                cluster.stop(victim)
        cluster.start(victim)
        votes_again(cluster, victim)
        assert {key: cluster.read(cluster.nodes[victim], key) for key in written} == written
        cluster.stop(victim)


def _is_back(node: Node) -> bool:
    own = node.members.book.members[node.id]
    return bool(own.number) and not own.learner and not node.status()["readmission"]


def test_another_process_with_the_same_id_is_not_readmitted_while_the_first_one_lives(cluster, tmp_path, lines) -> None:
    leader = cluster.leader()
    victim = others(cluster, leader.id)[0]
    cluster.put(leader, b"key", b"value")
    before = number(cluster, victim)
    config = dataclasses.replace(
        cluster.configs[victim], data_dir=str(tmp_path / "second"), listen_peer=("127.0.0.1", *free_ports(1))
    )
    second = Node(config)
    second.start()
    try:
        asks = f"node {victim} asks to be readmitted with an empty directory, and isn't: the directory that is known was heard"
        eventually("the leader refuses", lambda: any(asks in line for line in lines))
        assert second.status()["kept_out"]
        assert leader.members.book.members[victim].number in (0, before)
    finally:
        second.stop()
    cluster.put(cluster.leader(), b"key", b"another")


def test_a_directory_that_has_lost_what_it_promised_says_what_to_do_and_that_works(cluster, tmp_path) -> None:
    leader = cluster.leader()
    cluster.put(leader, b"key", b"value")
    victim = others(cluster, leader.id)[0]
    path = cluster.configs[victim].data_dir
    directory = cluster.nodes[victim]._directory
    cluster.stop(victim)
    directory.condemn("entry 2 was acknowledged by this node and is committed, but its log ends at 1")
    with pytest.raises(DirectoryRefused, match=r"move it away and keep it, .* start the node with an empty one"):
        cluster.start(victim)
    shutil.move(path, tmp_path / "moved away")
    cluster.start(victim)
    votes_again(cluster, victim)
    assert cluster.read(cluster.nodes[victim], b"key") == b"value"


def test_a_directory_that_is_not_empty_does_not_ask(cluster, tmp_path) -> None:
    """Another node's, say, with this one's id in it: it has promised something, and nobody knows what."""
    leader = cluster.leader()
    cluster.put(leader, b"key", b"value")
    victim = others(cluster, leader.id)[0]
    cluster.stop(victim)
    path = cluster.configs[victim].data_dir
    identity = read_identity(path)
    write_identity(path, dataclasses.replace(identity, kept_out="node 1 remembers otherwise"), real_env())
    node = cluster.start(victim)
    eventually("it is kept out", lambda: node.status()["role"] == "kept out")
    assert not node.status()["readmission"]
    assert not node._roster.asks


def test_a_heartbeat_that_was_meant_for_the_lost_disk_is_passed_over(cluster) -> None:
    """The new one's log doesn't reach its commit index; Raft would hold it for a log that was lost, and stop."""
    readmission = cluster.leader()._readmission
    last = readmission._raft.raft.log.last_index()
    fits, beyond = Message(MSG_HEARTBEAT, commit=last), Message(MSG_HEARTBEAT, commit=last + 1)
    entries = Message(MSG_APP, commit=last + 1)
    assert readmission.meant_for_another([fits, beyond, entries]) == [fits, entries]
