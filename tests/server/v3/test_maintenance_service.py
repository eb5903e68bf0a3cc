"""server/v3/maintenance_service.py on nodes of each engine: as etcd's maintenance.go answers."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from server.snapshot import read_snapshot
from server.v3 import rpc, status
from server.v3.maintenance_service import BLOB_BYTES, METHODS, alarm_text
from server.v3.method import Call, Caller, Stream, Write
from server.v3.status import Status
from tests.server.local_nodes import LocalCluster, eventually

CALLS: dict[str, Callable[..., Any]] = {
    method.path.rpartition("/")[2]: method.run for method in METHODS if isinstance(method, Call)
}
ALARM = rpc.AlarmRequest.AlarmAction
NOSPACE, CORRUPT = rpc.AlarmType.NOSPACE, rpc.AlarmType.CORRUPT
DOWNGRADE = rpc.DowngradeRequest.DowngradeAction


def ask(node: Any, call: str, request: Any) -> Any:
    return CALLS[call](node.etcd, Caller(), request)


def refused(node: Any, call: str, request: Any) -> tuple[int, str]:
    with pytest.raises(Status) as found:
        ask(node, call, request)
    return found.value.code, found.value.sentence


def put(node: Any, key: bytes, value: bytes) -> Any:
    return node.etcd.request(rpc.InternalRaftRequest(put=rpc.PutRequest(key, value)))


def alarm(node: Any, action: int, member: int = 0, kind: int = 0) -> Any:
    return node.etcd.request(rpc.InternalRaftRequest(alarm=rpc.AlarmRequest(action, member, kind)))


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    with LocalCluster(tmp_path_factory.mktemp("maintenance"), ("lsm", "btree", "bitcask")) as nodes:
        nodes.leader()
        yield nodes


def test_status_is_of_the_node_that_is_asked(cluster: LocalCluster) -> None:
    leader, follower = cluster.leader(), cluster.follower()
    put(leader, b"a", b"1")
    cluster.converged()
    for node in (leader, follower):
        answer = ask(node, "status", rpc.StatusRequest())
        assert (answer.version, answer.leader, answer.isLearner) == ("3.5.1", leader.id, False)
        assert answer.header.member_id == node.id and answer.header.revision == node.machine.revision >= 2
        assert answer.raftTerm == answer.header.raft_term > 0
        assert answer.raftIndex == answer.raftAppliedIndex == node.machine.applied_index
        assert answer.dbSize > 0 < answer.dbSizeInUse and not answer.errors


def test_an_engine_without_files_has_a_size_too(tmp_path) -> None:
    with LocalCluster(tmp_path, ("memory",)) as nodes:
        answer = ask(nodes.leader(), "status", rpc.StatusRequest())
        assert answer.dbSize == answer.dbSizeInUse > 0


def test_an_alarm_is_everywhere_and_told_by_status(cluster: LocalCluster) -> None:
    node = cluster.follower()
    assert alarm(node, ALARM.ACTIVATE, 2, NOSPACE).alarms == [rpc.AlarmMember(2, NOSPACE)]
    try:
        with pytest.raises(Status, match="database space exceeded"):
            put(cluster.leader(), b"b", b"2")
        cluster.converged()
        for each in cluster.nodes.values():
            assert ask(each, "status", rpc.StatusRequest()).errors == ["memberID:2 alarm:NOSPACE "]
    finally:
        answer = alarm(node, ALARM.DEACTIVATE, 2, NOSPACE)
    assert answer.alarms == [rpc.AlarmMember(2, NOSPACE)] and answer.header.revision == node.machine.revision
    assert alarm(node, ALARM.GET).alarms == []
    put(cluster.leader(), b"b", b"2")


def test_an_alarm_in_protobufs_text() -> None:
    assert alarm_text(0, CORRUPT) == "alarm:CORRUPT "
    assert alarm_text(8211, NOSPACE) == "memberID:8211 alarm:NOSPACE "
    assert alarm_text(1, 7) == "memberID:1 alarm:7 "


def test_who_has_the_same_has_the_same_hashes(cluster: LocalCluster) -> None:
    for number in range(20):
        put(cluster.leader(), b"h%d" % (number % 7), b"%d" % number)
    cluster.converged()
    answers = [ask(node, "hash", rpc.HashRequest()) for node in cluster.nodes.values()]
    assert len({answer.hash for answer in answers}) == 1
    revision = answers[0].header.revision
    of_keys = [ask(node, "hashkv", rpc.HashKVRequest(revision)) for node in cluster.nodes.values()]
    assert len({(answer.hash, answer.compact_revision) for answer in of_keys}) == 1
    assert of_keys[0].compact_revision == -1
    put(cluster.leader(), b"h", b"")
    assert ask(cluster.leader(), "hashkv", rpc.HashKVRequest(revision)).hash == of_keys[0].hash
    assert ask(cluster.leader(), "hashkv", rpc.HashKVRequest()).hash != of_keys[0].hash
    assert ask(cluster.leader(), "hashkv", rpc.HashKVRequest(-5)) == ask(
        cluster.leader(), "hashkv", rpc.HashKVRequest()
    )
    assert refused(cluster.leader(), "hashkv", rpc.HashKVRequest(10**9)) == status.FUTURE_REV


def test_a_hash_of_who_has_gone_is_not_finished(cluster: LocalCluster) -> None:
    with pytest.raises(Status, match="context canceled"):
        CALLS["hash"](cluster.leader().etcd, Caller(gone=lambda: True), rpc.HashRequest())


def test_defragmenting_keeps_everything(cluster: LocalCluster) -> None:
    cluster.converged()
    for node in cluster.nodes.values():
        before = list(node.machine.scan())
        assert ask(node, "defragment", rpc.DefragmentRequest()) == rpc.DefragmentResponse()
        assert list(node.machine.scan()) == before


def test_the_leadership_goes_where_it_is_sent(cluster: LocalCluster) -> None:
    leader, follower = cluster.leader(), cluster.follower()
    assert refused(follower, "transfer-leadership", rpc.MoveLeaderRequest(follower.id)) == status.NOT_LEADER
    assert refused(leader, "transfer-leadership", rpc.MoveLeaderRequest(77)) == status.BAD_LEADER_TRANSFEREE
    assert ask(leader, "transfer-leadership", rpc.MoveLeaderRequest(leader.id)) == rpc.MoveLeaderResponse()
    assert ask(leader, "transfer-leadership", rpc.MoveLeaderRequest(follower.id)) == rpc.MoveLeaderResponse()
    assert cluster.leader() is follower


def test_whether_an_older_version_could_go_on(cluster: LocalCluster) -> None:
    """EtcdServer.Downgrade: only to the version before, one at a time."""
    node = cluster.follower()

    def down(action: int, version: str = "") -> rpc.DowngradeRequest:
        return rpc.DowngradeRequest(action, version)

    for version in ("3.4", "3.4.0", "3.4.23", "3.4.0-rc.1"):
        assert ask(node, "downgrade", down(DOWNGRADE.VALIDATE, version)).version == "3.5.0"
    for version in ("3.5", "3.3.0", "4.0.0"):
        assert refused(node, "downgrade", down(DOWNGRADE.VALIDATE, version)) == status.INVALID_DOWNGRADE_TARGET_VERSION
    for version in ("", "3", "three", "3.4.0.1", "3.4\n"):
        assert refused(node, "downgrade", down(DOWNGRADE.VALIDATE, version)) == status.WRONG_DOWNGRADE_VERSION_FORMAT
    assert refused(node, "downgrade", down(DOWNGRADE.CANCEL)) == status.NO_INFLIGHT_DOWNGRADE
    assert ask(node, "downgrade", down(DOWNGRADE.ENABLE, "3.4")).version == "3.5.0"
    cluster.converged()
    assert all(each.etcd.alarms.downgrade == "3.4.0" for each in cluster.nodes.values())
    assert refused(node, "downgrade", down(DOWNGRADE.ENABLE, "3.4")) == status.DOWNGRADE_IN_PROCESS
    assert ask(node, "downgrade", down(DOWNGRADE.CANCEL)).version == "3.5.0"
    assert refused(node, "downgrade", down(7)) == (2, "etcdserver: unknown method")


class Taking:
    """The Out of a snapshot's client, that takes so many messages at a time."""

    def __init__(self, room: Callable[[], bool] = lambda: True) -> None:
        self.messages: list[Any] = []
        self.ended = threading.Event()
        self._room = room

    def job(self, function: Callable[[], object]) -> None:
        function()

    def send(self, message: Any) -> bool:
        self.messages.append(message)
        return True

    def room(self, timeout_s: float) -> bool:
        return self._room()

    def end(self) -> None:
        self.ended.set()


def snapshot_of(node: Any, out: Any) -> Any:
    [method] = [method for method in METHODS if isinstance(method, Stream)]
    return method.open(node.etcd, Caller(), out)


def test_a_snapshot_is_a_file_in_blobs_and_its_checksum(cluster: LocalCluster, tmp_path) -> None:
    node = cluster.follower()
    for number in range(30):
        put(cluster.leader(), b"s%d" % number, b"x" * 3000)
    cluster.converged()
    out = Taking()
    snapshot_of(node, out).received(rpc.SnapshotRequest())
    *blobs, last = out.messages
    assert out.ended.is_set() and len(blobs) > 2
    whole = b"".join(message.blob for message in blobs)
    assert {len(message.blob) for message in blobs[:-1]} == {BLOB_BYTES}
    assert [message.remaining_bytes for message in blobs] == [
        max(0, len(whole) - BLOB_BYTES * at) for at in range(1, len(blobs) + 1)
    ]
    assert (last.blob, last.remaining_bytes) == (hashlib.sha256(whole).digest(), 0)
    path = tmp_path / "state.snap"
    path.write_bytes(whole)
    metadata, pairs = read_snapshot(str(path))
    assert dict(pairs) == dict(node.machine.store.scan()) and metadata.index == node.machine.applied_index


def test_a_client_that_has_gone_ends_its_snapshot(cluster: LocalCluster) -> None:
    node = cluster.follower()
    incoming: Any = None

    def goes() -> bool:
        incoming.closed()
        return False

    out = Taking(goes)
    incoming = snapshot_of(node, out)
    incoming.received(rpc.SnapshotRequest())
    assert out.messages == [] and not out.ended.is_set()
    eventually("its place is free again", lambda: node.snapshots._places._value == 2)


def test_too_many_snapshots_are_refused(cluster: LocalCluster) -> None:
    node = cluster.follower()
    held = [node.snapshot_stream(), node.snapshot_stream()]
    try:
        with pytest.raises(Status) as found:
            snapshot_of(node, Taking()).received(rpc.SnapshotRequest())
        assert (found.value.code, found.value.sentence) == status.TOO_MANY_REQUESTS
    finally:
        for stream in held:
            stream.blocks.close()


def test_every_call_has_a_kind() -> None:
    assert {method.path for method in METHODS if isinstance(method, Write)} == {"maintenance/alarm"}
