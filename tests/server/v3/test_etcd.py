"""What a node does for revisions: it has them begin, and compacts; directories of before there were any."""

from __future__ import annotations

import threading

import pytest

from engines.coding import DecodeError
from server.errors import NodeError
from server.mvcc import Revision
from server.mvcc_rows import HISTORY, PUT, USER
from server.v3.apply import apply
from server.v3.etcd import Etcd
from server.v3.rpc import CompactionRequest, InternalRaftRequest, PutRequest
from server.v3.status import Code, Status
from tests.server.local_nodes import LocalCluster, eventually

THREE = ("lsm", "btree", "bitcask")


def test_revisions_begin_before_the_first_write_of_a_cluster(tmp_path):
    """So the first write is revision 2, as in etcd, also if it waits for the first leader; each entry counts once."""
    with LocalCluster(tmp_path) as cluster:
        written: list[int] = []

        def write(node_id: int) -> None:
            written.append(cluster.put(cluster.nodes[node_id], b"%d" % node_id, b"first"))

        writers = [threading.Thread(target=write, args=(node_id,)) for node_id in cluster.nodes]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        cluster.converged()
        for node in cluster.nodes.values():
            with node.machine.view() as view:
                assert view.revision == 4
                assert sorted(record.mod for record in view.range(b"", None)) == [2, 3, 4]


def test_a_request_is_evaluated_on_every_node_and_answered_by_the_one_that_was_asked(tmp_path):
    with LocalCluster(tmp_path, THREE) as cluster:
        cluster.put(cluster.leader(), b"a", b"1")
        follower = cluster.follower()
        response = follower.etcd.request(InternalRaftRequest(put=PutRequest(key=b"a", value=b"2", prev_kv=True)))
        assert response.prev_kv.value == b"1"
        assert (response.header.revision, response.header.member_id) == (3, follower.id)
        with pytest.raises(Status) as refused:
            follower.etcd.request(InternalRaftRequest(compaction=CompactionRequest(revision=9)))
        assert refused.value.code == Code.OUT_OF_RANGE
        assert cluster.values() == {b"a": b"2"}


def test_a_bug_that_one_node_meets_while_evaluating_ends_that_node_and_no_other(tmp_path, lines, monkeypatch):
    """If it became a refusal, that node would go on with other content than the rest."""
    with LocalCluster(tmp_path) as cluster:
        cluster.put(cluster.leader(), b"a", b"1")
        leader, hurt = cluster.leader(), cluster.follower()

        def fails(etcd, index, term, request, writes):
            assert etcd is not hurt.etcd, "a bug"
            return apply(etcd, index, term, request, writes)

        monkeypatch.setattr("server.v3.etcd.apply", fails)
        leader.etcd.request(InternalRaftRequest(put=PutRequest(key=b"a", value=b"2")))
        assert hurt.stopped.wait(10)
        assert isinstance(hurt.failure, AssertionError)
        assert leader.machine.lookup(b"a") == b"2"
        assert any("stops, because of AssertionError: a bug" in line for line in lines)
        assert any("can't be evaluated, so the node stops" in line for line in lines)


def test_a_row_that_cannot_be_read_ends_its_node_and_no_other(tmp_path, lines):
    """The others do what this one could only refuse; so it must not go on as if it had done the same."""
    with LocalCluster(tmp_path, THREE) as cluster:
        cluster.put(cluster.leader(), b"a", b"1")
        cluster.converged()
        leader, hurt = cluster.leader(), cluster.follower()
        hurt.machine.store.put(USER + b"a", PUT)  # a row that is cut off
        leader.etcd.request(InternalRaftRequest(put=PutRequest(key=b"a", value=b"2")))
        assert hurt.stopped.wait(10)
        assert isinstance(hurt.failure, DecodeError)
        assert leader.machine.lookup(b"a") == b"2"
        assert any("stops, because of DecodeError" in line for line in lines)


def test_metrics_of_leases_streams_and_watches_are_among_the_nodes(tmp_path):
    with LocalCluster(tmp_path, ("memory",)) as cluster:
        assert {"leases", "streams", "watchers", "watch_events_total"} <= cluster.leader().metrics().keys()


def test_the_leader_compacts_by_itself_and_goes_on_while_nobody_writes(tmp_path, monkeypatch):
    """All nodes have the same rows all the time, deleted ones too."""
    monkeypatch.setattr("server.mvcc_compaction.STEP_ROWS_MAX", 7)
    with LocalCluster(tmp_path, THREE, retention=20) as cluster:
        leader = cluster.leader()
        for number in range(60):
            cluster.put(leader, b"%d" % (number % 3), b"%d" % number)

        def compacted() -> bool:
            with cluster.leader().machine.view() as view:
                return view.compacted > view.revision - 40 and view.walked == view.compacted

        eventually("it is compacted, and its rows are gone", compacted)
        rows = cluster.converged()
        assert 20 <= sum(key.startswith(HISTORY) for key, _ in rows) <= 45
        with cluster.nodes[2].machine.view() as view:
            oldest = view.compacted
            assert len(list(view.range(b"", None, oldest))) == 3
            assert [change.main for change in view.changes(Revision(oldest, 0))] == list(range(oldest, 62))


def test_one_step_of_compaction_is_on_its_way_at_a_time(tmp_path, monkeypatch):
    """A disk that stands still would find one for each tick."""
    monkeypatch.setattr("server.v3.etcd.BEGIN_AGAIN_S", 1000.0)
    with LocalCluster(tmp_path, ("memory",), retention=0) as cluster:
        node = cluster.leader()
        for number in range(10):
            cluster.put(node, b"a", b"%d" % number)
        proposed: list[object] = []
        monkeypatch.setattr(node.etcd, "_propose", proposed.append)
        node.etcd.request(InternalRaftRequest(compaction=CompactionRequest(revision=9)))
        for _ in range(5):
            done = threading.Event()
            node.later(lambda done=done: (node.etcd.tick(), done.set()))
            assert done.wait(10)
        assert [request.data for request in proposed if not request.data] == [b""]


def test_without_retention_nothing_is_compacted(tmp_path):
    with LocalCluster(tmp_path, ("memory",), retention=0) as cluster:
        node = cluster.leader()
        for number in range(30):
            cluster.put(node, b"a", b"%d" % number)
        for _ in range(5):  # each has been through the node's thread
            done = threading.Event()
            node.later(lambda done=done: (node.etcd.tick(), done.set()))
            assert done.wait(10)
        assert node.machine.newest.compacted == -1


def test_directories_of_before_revisions_begin_them_at_one_entry(tmp_path, monkeypatch):
    """Three nodes that were stopped at different entries, with the log and the rows that earlier versions wrote."""
    with monkeypatch.context() as earlier:
        earlier.setattr(Etcd, "first", lambda self: None)
        with LocalCluster(tmp_path, THREE, snapshot_entries=30, catch_up_entries=5) as cluster:
            for number in range(50):
                cluster.put(cluster.leader(), b"%02d" % (number % 20), b"=%d" % number)
            away = cluster.follower().id
            cluster.stop(away)
            for number in range(50, 120):
                cluster.put(cluster.leader(), b"%02d" % (number % 20), b"=%d" % number)
            before = cluster.values()
            assert {key[:1] for key, _ in cluster.converged()} == {b"k", b"m"}
    with cluster:  # entered again: all nodes start on what is there
        cluster.put(cluster.leader(), b"new", b"1")
        rows = dict(cluster.converged())
        assert cluster.values() == {**before, b"new": b"1"}
        assert rows[b"k00"] == b"==100"  # as it was
        with cluster.nodes[away].machine.view() as view:
            assert view.revision == 2
            assert {record.mod for record in view.range(b"", None, 1)} == {1}
            assert view.get(b"new").create == 2


def test_a_request_that_nobody_can_read_gets_into_no_log(tmp_path):
    """forwards.fault: a request that doesn't decode gets into no log."""
    with LocalCluster(tmp_path) as cluster:
        follower = cluster.follower()
        with pytest.raises(NodeError, match="can't read"):
            follower._waits.request(b"\xff\xff", 5.0)
        cluster.put(cluster.leader(), b"a", b"1")
        cluster.converged()
