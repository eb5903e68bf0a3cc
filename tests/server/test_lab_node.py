"""What a node of a lab is told in lines: its links, its disk, and what it does at once."""

import json
import socket
import threading

import pytest

from raft.raftpb import MSG_SNAP, Message, Snapshot, SnapshotMetadata
from server import transport as transport_module
from server.lab_node import LINE_BYTES_MAX, PEERS_MAX, Breakable, LabNode
from tests.server.local_nodes import LocalCluster, eventually
from tests.server.transports import PATIENCE_S, heartbeat

NOBODY = frozenset()


def told(**faults):
    return json.dumps(faults).encode() + b"\n"


@pytest.fixture
def node():
    """A lab's node of which only the links are there: `cuts` are the calls of its transport."""
    lab = LabNode()
    lab.cuts = []
    lab.attach(Breakable(lambda *links: lab.cuts.append(links), None, None, None, None))
    return lab


# ---- lines ----------------------------------------------------------------------------------------------------------


def test_a_line_is_all_faults_and_the_node_has_begun_with_the_first(node):
    assert not node.begun.is_set() and node.cuts.pop() == (NOBODY, NOBODY)
    env = node.env()
    assert not env.faults()
    node.take(told(mute=[2], deaf=[2, 3], sync_delay_s=0.25))
    assert node.begun.is_set()
    assert node.cuts.pop() == ({2}, {2, 3}) and env.faults() == {"sync_delay_s": 0.25}
    node.take(told(mute=[3]))
    assert node.cuts.pop() == ({3}, NOBODY) and env.faults() == {"sync_delay_s": 0}


def test_faults_that_come_before_the_node_is_there_are_its_first():
    lab = LabNode()
    lab.take(told(mute=[2]))
    cuts = []
    lab.attach(Breakable(lambda *links: cuts.append(links), None, None, None, None))
    assert cuts == [({2}, NOBODY)]


def test_lines_come_in_any_pieces(node):
    for byte in told(mute=[2]) + told(deaf=[3]):
        node.take(bytes([byte]))
    assert node.cuts == [(NOBODY, NOBODY), ({2}, NOBODY), (NOBODY, {3})]


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{",
        b"[]",
        b"\xff",
        b"[" * LINE_BYTES_MAX,
        b'{"x": 1}',
        b'{"mute": 2}',
        b'{"mute": ["2"]}',
        b'{"mute": [true]}',
        b'{"mute": %b}' % str(list(range(PEERS_MAX + 1))).encode(),
        b'{"sync_delay_s": "1"}',
        b'{"sync_delay_s": true}',
        b'{"sync_delay_s": -1}',
        b'{"sync_delay_s": 11}',
        b'{"sync_delay_s": NaN}',
        b'{"do": "explode"}',
        b'{"do": ["compact"]}',
        b'{"do": "compact", "mute": []}',
        b'{"mute": []}'.ljust(LINE_BYTES_MAX + 1),
    ],
)
def test_any_other_line_is_told_in_the_log_and_changes_nothing(node, lines, line):
    node.take(told(mute=[2], sync_delay_s=0.5))
    node.cuts.clear()
    node.take(line + b"\n")
    assert not node.cuts and node.env().faults() == {"sync_delay_s": 0.5}
    assert len(lines) == 1 and lines[0].startswith("a line of the lab is passed over: ")
    node.take(told(mute=[3]))
    assert node.cuts == [({3}, NOBODY)], "the next one counts"


def test_a_line_without_an_end_is_not_kept(node, lines):
    for _ in range(10):
        node.take(b"x" * LINE_BYTES_MAX)
    assert len(node._buffer) <= LINE_BYTES_MAX and lines


# ---- links ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["who sends", "who hears"])
def test_a_link_that_is_cut_at_either_end_carries_nothing_and_the_other_direction_does(pair, end):
    transports, inboxes = pair

    def cut(peers):
        if end == "who sends":
            transports[1].cut(peers, NOBODY)
        else:
            transports[2].cut(NOBODY, frozenset(3 - peer for peer in peers))

    def lost():
        transports[1].send([heartbeat(9)])
        return not inboxes[1].losses.empty()

    transports[1].send([heartbeat(1)])
    assert inboxes[2].messages.get(timeout=PATIENCE_S).commit == 1
    cut(frozenset({2}))
    eventually("the sender hears that its peer is unreachable", lost)
    eventually("it has no connection", lambda: transports[1].connected() == {2: False})
    while not inboxes[2].messages.empty():  # what was on its way
        inboxes[2].messages.get()
    inboxes[1].losses.get(timeout=PATIENCE_S)
    eventually("the next call fails, too", lost)
    assert inboxes[2].messages.empty()
    transports[2].send([heartbeat(2, from_=2, to=1)])
    assert inboxes[1].messages.get(timeout=PATIENCE_S).commit == 2

    cut(NOBODY)

    def arrives():
        transports[1].send([heartbeat(10)])
        return not inboxes[2].messages.empty()

    eventually("the healed link carries", arrives)


def test_a_call_over_a_link_that_is_cut_gets_no_answer_not_even_a_refusal(pair, peers):
    """What a handshake tells, who has met whom and who leads, must not pass either."""
    transports, _ = pair
    head = b"POST /raft/stream HTTP/1.1\r\nHost: localhost\r\nX-Metcd-From: %d\r\nX-Metcd-To: 2\r\n\r\n"
    transports[2].cut(NOBODY, frozenset({1}))
    for node_id, answered in ((1, False), (3, True)):
        with socket.create_connection(peers[2], timeout=PATIENCE_S) as caller:
            caller.sendall(head % node_id)
            assert bool(caller.recv(100)) is answered


@pytest.mark.parametrize("end", ["who sends", "who hears"])
def test_no_snapshot_goes_over_a_link_that_is_cut(monkeypatch, pair, tmp_path, end):
    monkeypatch.setattr(transport_module, "RESUME_DELAYS_S", (0.0,))
    transports, inboxes = pair
    if end == "who sends":
        transports[1].cut(frozenset({2}), NOBODY)
    else:
        transports[2].cut(NOBODY, frozenset({1}))
    file = tmp_path / "snapshot"
    file.write_bytes(b"x" * 10_000)
    message = Message(MSG_SNAP, to=2, from_=1, term=1, snapshot=Snapshot(metadata=SnapshotMetadata(index=5, term=1)))
    transports[1].send_snapshot(message, lambda: str(file))
    assert inboxes[1].sent_snapshots.get(timeout=PATIENCE_S) == (2, False)
    transports[1].cut(NOBODY, NOBODY)
    transports[2].cut(NOBODY, NOBODY)
    transports[1].send_snapshot(message, lambda: str(file))
    assert inboxes[1].sent_snapshots.get(timeout=PATIENCE_S) == (2, True)


# ---- actions --------------------------------------------------------------------------------------------------------


@pytest.fixture
def cluster(tmp_path):
    with LocalCluster(tmp_path) as cluster:
        yield cluster


def lab_of(node):
    lab = LabNode()
    lab.attach(node.breakable())
    return lab


def test_a_leader_that_steps_down_is_followed_by_a_real_election_and_nothing_is_lost(cluster):
    leader = cluster.leader()
    term = leader.status()["term"]
    cluster.put(leader, b"k", b"v")
    lab_of(leader).take(told(do="step_down"))
    eventually("there is a later term", lambda: cluster.leader().status()["term"] > term)
    assert cluster.read(cluster.follower(), b"k") == b"v"
    follower = cluster.follower()
    term = cluster.leader().status()["term"]
    lab_of(follower).take(told(do="step_down"))  # it has nothing to give up
    follower.read_barrier()
    assert cluster.leader().status()["term"] == term


def test_a_campaign_by_hand_deposes_no_leader_that_is_heard_and_elects_where_there_is_none(cluster):
    leader, follower = cluster.leader(), cluster.follower()
    term = leader.status()["term"]
    lab_of(follower).take(told(do="campaign"))
    eventually("it asks", lambda: follower.status()["role"] != "pre-candidate")
    cluster.put(leader, b"k", b"v")
    assert cluster.leader().status()["term"] == term


def test_a_cut_leader_is_replaced_and_catches_up(cluster):
    leader = cluster.leader()
    others = frozenset(node_id for node_id in cluster.nodes if node_id != leader.id)
    leader.breakable().cut(others, others)
    new = eventually(
        "another one leads",
        lambda: next(
            (node for node in cluster.nodes.values() if node.status()["leader"] == node.id != leader.id), None
        ),
    )
    assert new.propose([(b"k", b"v")])
    assert leader.machine.lookup(b"k") is None
    leader.breakable().cut(NOBODY, NOBODY)
    eventually("the healed node catches up", lambda: leader.machine.lookup(b"k") == b"v")


def test_a_compaction_runs_beside_the_node_and_once_at_a_time():
    begun, go_on, runs = threading.Event(), threading.Event(), []

    def compact():
        runs.append(threading.current_thread())
        begun.set()
        assert go_on.wait(PATIENCE_S)
        raise OSError("planted")

    lab = LabNode()
    lab.attach(Breakable(lambda *_: None, compact, None, None, None))
    lab.take(told(do="compact") * 3)
    assert begun.wait(PATIENCE_S)
    lab.take(told(do="compact"))
    assert len(runs) == 1 and runs[0] is not threading.current_thread()
    go_on.set()
    runs[0].join(PATIENCE_S)
    lab.take(told(do="compact"))
    eventually("it runs again, after one that failed too", lambda: len(runs) == 2)
    runs[1].join(PATIENCE_S)
