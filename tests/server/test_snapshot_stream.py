"""`GET /_/snapshot`: the bytes of a snapshot file, as many at a time as there are places, and given back in every case."""

import queue
import threading

import pytest

from engines.errors import CorruptionError
from engines.memory import MemoryStore
from raft.raftpb import ConfState, SnapshotMetadata
from server.errors import NodeStopped, NoLeader, Overloaded
from server.limits import SNAPSHOT_STREAMS_MAX
from server.mvcc_rows import plain_value
from server.snapshot import read_snapshot, save, write_snapshot
from server.snapshot_stream import SnapshotStreams
from server.statemachine import MachineSnapshot
from tests.server.fake_node import Wire
from tests.server.local_nodes import LocalCluster, eventually

METADATA = SnapshotMetadata(7, 3, ConfState((1, 2)))


@pytest.fixture
def store():
    store = MemoryStore()
    for number in range(3000):
        store.put(b"k%04d" % number, b"v" * 50)
    return store


def streams_of(store: MemoryStore) -> SnapshotStreams:
    return SnapshotStreams(lambda call: call(), lambda: MachineSnapshot(METADATA, store.snapshot()))


def test_the_stream_has_the_bytes_of_the_file(store, tmp_path):
    metadata, blocks = streams_of(store).open()
    path = write_snapshot(str(tmp_path), METADATA, store.scan())
    with open(path, "rb") as file:
        assert b"".join(blocks) == file.read()
    assert metadata == METADATA


def test_it_is_of_one_moment(store):
    _, blocks = streams_of(store).open()
    before = list(store.scan())
    next(blocks)
    store.put(b"k0000", b"later")
    store.put(b"k9", b"later")
    data = b"".join(blocks)
    assert b"later" not in data
    assert all(key in data for key, _ in before)


@pytest.mark.parametrize("end", ["read", "broken off", "never begun"])
def test_a_place_is_given_back_however_a_stream_ends(store, end):
    streams = streams_of(store)
    held = [streams.open().blocks for _ in range(SNAPSHOT_STREAMS_MAX)]
    with pytest.raises(Overloaded, match="are being read already"):
        streams.open()
    assert store.describe()["snapshots"] == SNAPSHOT_STREAMS_MAX
    while held:
        blocks = held.pop()
        if end == "read":
            assert len(list(blocks)) > 3
        elif end == "broken off":
            next(blocks)
            next(blocks)
        del blocks
    assert store.describe()["snapshots"] == 0
    for _ in range(SNAPSHOT_STREAMS_MAX):
        held.append(streams.open().blocks)


def test_a_node_that_stops_ends_its_streams(store):
    streams = streams_of(store)
    blocks = streams.open().blocks
    streams.stop()
    with pytest.raises(NodeStopped):
        list(blocks)


def test_a_node_whose_thread_has_ended_is_not_waited_for(store, monkeypatch):
    monkeypatch.setattr("server.snapshot_stream.TAKE_TIMEOUT_S", 0.01)
    calls: queue.SimpleQueue = queue.SimpleQueue()
    streams = SnapshotStreams(calls.put, lambda: pytest.fail("nobody waits for it any more"))
    for _ in range(SNAPSHOT_STREAMS_MAX + 1):
        with pytest.raises(NodeStopped):
            streams.open()
    while not calls.empty():
        calls.get()()


def test_a_node_that_loads_a_snapshot_has_none_to_give(store):
    streams = SnapshotStreams(lambda call: call(), lambda: None)
    for _ in range(SNAPSHOT_STREAMS_MAX + 1):
        with pytest.raises(Overloaded, match="loads a snapshot"):
            streams.open()


# ---- the route ------------------------------------------------------------------------------------------------------


def test_the_route_answers_a_snapshot_file_after_a_barrier(wire, node, tmp_path):
    node.propose([(b"key", b"value")])
    status, fields, body = wire.ask("GET", "/_/snapshot")
    assert status == 200
    assert (fields["x-metcd-index"], fields["x-metcd-term"]) == ("1", "1")
    assert node.barriers == ["linearizable"]
    path = str(tmp_path / "saved")
    assert save(path, [body]).pairs == 1
    assert list(read_snapshot(path)[1]) == [(b"key", b"value")]
    assert wire.ask("HEAD", "/_/snapshot?consistency=stale")[0] == 200
    assert node.barriers == ["linearizable", "stale"]


def test_errors_of_the_route(wire, node, monkeypatch):
    assert wire.ask("GET", "/_/snapshot?consistency=no")[0] == 400
    assert wire.ask("DELETE", "/_/snapshot")[0] == 405
    node.fails = NoLeader("no leader")
    assert wire.ask("GET", "/_/snapshot")[0] == 503
    node.fails = None

    def refuse():
        raise Overloaded("2 snapshots are being read already")

    monkeypatch.setattr(node, "snapshot_stream", refuse)
    status, fields, body = wire.ask("GET", "/_/snapshot")
    assert status == 503
    assert fields["retry-after"] == "1"
    assert b"are being read" in body


def test_what_breaks_off_is_not_taken_for_whole(front, node, monkeypatch, tmp_path):
    """The store fails in the middle: the connection is reset, and what has come fails its own check."""
    for number in range(3000):
        node.machine.store.put(b"%04d" % number, b"v" * 100)
    scan = type(node.machine.store.snapshot()).scan

    def broken(view, *words, **options):
        for number, pair in enumerate(scan(view, *words, **options)):
            if number == 2500:
                raise OSError(5, "simulated")
            yield pair

    monkeypatch.setattr(type(node.machine.store.snapshot()), "scan", broken)
    with Wire(front.address) as wire:
        wire.send(b"GET /_/snapshot HTTP/1.0\r\n\r\n")
        data = wire.rest()
    with pytest.raises(CorruptionError):
        save(str(tmp_path / "saved"), [data.partition(b"\r\n\r\n")[2]])
    assert list(tmp_path.iterdir()) == []


def test_a_snapshot_of_a_node_has_every_write_that_was_answered_before(tmp_path):
    """By the barrier, on a follower too, while others write."""
    with LocalCluster(tmp_path) as cluster:
        cluster.put(cluster.leader(), b"first", b"v")
        stop = threading.Event()

        def write() -> None:
            number = 0
            while not stop.is_set():
                cluster.put(cluster.leader(), b"other%d" % (number % 50), b"%d" % number)
                number += 1

        writer = threading.Thread(target=write)
        writer.start()
        try:
            for number in range(5):
                index = cluster.put(cluster.leader(), b"mine", b"%d" % number)
                follower = cluster.follower()
                eventually("it is confirmed", lambda node=follower: node.read_barrier())
                metadata, blocks = follower.snapshot_stream()
                path = str(tmp_path / "saved")
                assert save(path, blocks).metadata == metadata
                assert metadata.index >= index
                assert plain_value(dict(read_snapshot(path)[1])[b"kmine"]) == b"%d" % number
        finally:
            stop.set()
            writer.join()
