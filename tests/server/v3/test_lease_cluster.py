"""Leases on three nodes with three engines: by their real log, and a clock that the test turns (LeaseKeeper.count)."""

from __future__ import annotations

import queue
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from server.node import Node
from server.v3.lease_calls import GONE, Known
from server.v3.rpc import InternalRaftRequest, LeaseGrantRequest, LeaseRevokeRequest, PutRequest
from server.v3.status import LEASE_NOT_FOUND, Status
from tests.server.local_nodes import LocalCluster, eventually

ENGINES = ("lsm", "btree", "bitcask")


def request(node: Node, **field: Any) -> Any:
    return node.etcd.request(InternalRaftRequest(**field))


def _pair(answer: Any) -> tuple[int, int]:
    return answer.ID, answer.TTL


def grant(node: Node, lease: int, ttl: int) -> None:
    assert (lease, ttl) == _pair(request(node, lease_grant=LeaseGrantRequest(TTL=ttl, ID=lease)))


def put(node: Node, key: bytes, lease: int) -> int:
    return int(request(node, put=PutRequest(key=key, value=b"1", lease=lease)).header.revision)


def in_thread(node: Node, call: Callable[[], Any]) -> Any:
    """What a function returns that the node's thread has called."""
    answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
    node.later(lambda: answers.put(call()))
    return answers.get(timeout=30)


def renew(node: Node, lease: int) -> Any:
    answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
    node.etcd.leasing.calls.renew(lease, 30.0, answers.put)
    return answers.get(timeout=40)


def look(node: Node, lease: int) -> Any:
    answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
    node.etcd.leasing.calls.look(lease, 30.0, answers.put)
    return answers.get(timeout=40)


def pass_time(cluster: LocalCluster, seconds: float) -> None:
    """So many seconds pass for the leases, on every node."""
    for node in cluster.nodes.values():
        in_thread(node, lambda node=node: node.etcd.leasing.pass_time(seconds))


def keys_of(node: Node) -> list[bytes]:
    with node.machine.view() as view:
        return [record.key for record in view.range(b"", None)]


def test_a_lease_ends_on_every_node_with_its_keys_in_one_revision(tmp_path: Path) -> None:
    with LocalCluster(tmp_path, ENGINES) as cluster:
        leader, follower = cluster.leader(), cluster.follower()
        grant(follower, 77, 60)
        grant(leader, 78, 600)
        for key in (b"b", b"a", b"c"):
            put(follower, key, 77)
        put(leader, b"kept", 78)
        follower.propose([(b"c", b"2")])  # a simple PUT takes the lease off
        before = follower.machine.revision  # which has answered, and so has applied it; the leader may be about to
        pass_time(cluster, 59)
        assert renew(follower, 77) == Known(60, 60)
        pass_time(cluster, 59)
        assert leader.etcd.leases.ids() == [77, 78]
        pass_time(cluster, 2)
        for node in cluster.nodes.values():
            eventually("the lease has ended", lambda node=node: keys_of(node) == [b"c", b"kept"])
            assert node.etcd.leases.ids() == [78]
            with node.machine.view() as view:
                gone = [(change.main, change.sub, change.record.key) for change in view.changes((before + 1, 0))]
            assert gone == [(before + 1, 0, b"a"), (before + 1, 1, b"b")]
        assert (renew(leader, 77), look(follower, 77)) == (GONE, GONE)
        with pytest.raises(Status) as refused:
            put(leader, b"a", 77)
        assert (refused.value.code, refused.value.sentence) == LEASE_NOT_FOUND
        cluster.converged()


def test_another_leader_gives_leases_their_whole_time(tmp_path: Path) -> None:
    with LocalCluster(tmp_path, ENGINES) as cluster:
        leader = cluster.leader()
        grant(leader, 77, 60)
        pass_time(cluster, 50)
        assert look(leader, 77).seconds <= 10
        follower = cluster.follower()
        leader.transfer(follower.id)
        assert cluster.leader() is follower
        for node in cluster.nodes.values():
            known = look(node, 77)
            assert 59 <= known.seconds <= 61 and known.granted == 60
        pass_time(cluster, 50)
        assert renew(leader, 77) == Known(60, 60)


def test_leases_outlive_restarts_and_come_with_snapshots(tmp_path: Path) -> None:
    with LocalCluster(tmp_path, ENGINES, snapshot_entries=40, catch_up_entries=10) as cluster:
        leader = cluster.leader()
        away = cluster.follower().id
        grant(leader, 77, 60)
        put(leader, b"a", 77)
        cluster.stop(away)
        grant(leader, 78, 60)
        put(leader, b"b", 78)
        request(leader, lease_revoke=LeaseRevokeRequest(ID=77))
        for number in range(100):
            put(leader, b"n%d" % number, 0)
        back = cluster.start(away)
        eventually("it has what it missed", lambda: back.etcd.leases.ids() == [78])
        assert back.etcd.leases.keys_in(back.machine.store, 78) == [b"b"]
        assert back.etcd.leases.keys_in(back.machine.store, 77) == []
        for node_id in list(cluster.nodes):
            cluster.stop(node_id)
        for node_id in cluster.configs:
            cluster.start(node_id)
        eventually("the lease lives", lambda: isinstance(known := look(cluster.leader(), 78), Known) and known.granted)
        pass_time(cluster, 62)
        for node in cluster.nodes.values():
            eventually("the lease has ended", lambda node=node: b"b" not in keys_of(node))
            assert not node.etcd.leases.ids()
        cluster.converged()
