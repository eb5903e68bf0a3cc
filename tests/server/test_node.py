"""The driver, with three nodes in one process: what is acknowledged, what is refused, what a restart finds."""

import contextlib
import dataclasses
import errno
import math
import socket
import threading
from types import SimpleNamespace

import pytest

from engines import InvalidKey, InvalidValue, StoreLocked
from engines.env import RealEnv
from engines.memory import MemoryStore
from raft import ProposalDroppedError, RawNode
from raft.raftpb import (
    MSG_APP,
    MSG_HEARTBEAT,
    MSG_HEARTBEAT_RESP,
    MSG_PROP,
    MSG_READ_INDEX,
    MSG_SNAP,
    MSG_VOTE,
    ConfState,
    Entry,
    Message,
    Snapshot,
)
from server import intake as intake_module
from server import logs
from server.addresses import netloc
from server.errors import (
    DirectoryRefused,
    NodeError,
    NodeStopped,
    NoLeader,
    OutcomeUnknown,
    Overloaded,
    TooLarge,
    UndecodableEntry,
)
from server.forwards import Sifted, with_deadlines
from server.node import Node
from server.proposals import Proposal
from server.reads import Waiter
from server.snapshot import write_snapshot
from server.statemachine import MachineSnapshot, StateMachine, encode_proposal
from server.storage import NodeStorage
from tests.server.local_nodes import PATIENCE_S, LocalCluster, cuts_over, eventually, loopbacks


@pytest.fixture
def cluster(tmp_path):
    with LocalCluster(tmp_path) as cluster:
        yield cluster


def test_a_write_through_any_node_is_read_from_every_node(cluster):
    for node_id, node in cluster.nodes.items():
        cluster.put(node, b"key%d" % node_id, b"value")
        for reader in cluster.nodes.values():
            assert cluster.read(reader, b"key%d" % node_id) == b"value"
    index = cluster.put(cluster.follower(), b"key1", b"new")
    assert index > 0
    assert cluster.read(cluster.leader(), b"key1") == b"new"
    assert cluster.values()[b"key1"] == b"new"


def test_operations_of_one_proposal_are_applied_together(cluster):
    leader = cluster.leader()
    leader.propose([(b"a", b"1"), (b"b", b"2"), (b"a", None)])
    assert list(leader.machine.scan()) == [(b"b", b"2")]


def test_many_threads_share_fsyncs(cluster):
    """Draining makes batches: 200 writes by 20 threads cost far fewer than 200 fsyncs."""
    leader = cluster.leader()
    before = leader.metrics()["wal_fsyncs_total"]
    threads = [
        threading.Thread(target=lambda t=t: [leader.propose([(b"%d-%d" % (t, n), b"v")]) for n in range(10)])
        for t in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(list(leader.machine.scan())) == 200
    assert leader.metrics()["wal_fsyncs_total"] - before < 200


def test_what_arrives_while_the_inbox_is_drained_is_not_lost(tmp_path):
    """An event that is taken out and not looked at is a write that nobody answers."""
    cluster = LocalCluster(tmp_path, ["memory"])
    node = Node(cluster.configs[1])
    called = []
    node.later(lambda: (called.append("a"), node.later(lambda: called.append("c"))))
    node.later(lambda: called.append("b"))
    node._drain(0)
    node._drain(0)
    assert called == ["a", "b", "c"]
    node.stop()


def test_a_new_leader_is_found_and_the_old_one_catches_up(cluster):
    cluster.put(cluster.leader(), b"before", b"1")
    old = cluster.leader().id
    cluster.stop(old)
    survivor = cluster.leader()
    assert survivor.id != old
    cluster.put(survivor, b"after", b"2")
    cluster.start(old)
    assert cluster.values() == {b"after": b"2", b"before": b"1"}


def test_a_whole_cluster_on_memory_engines_restarts_with_everything(cluster):
    """The lesson's homework: how does a map in memory lose nothing?"""
    for number in range(50):
        cluster.put(cluster.leader(), b"%02d" % number, b"v%d" % number)
    for node_id in (1, 2, 3):
        cluster.stop(node_id)
    for node_id in (1, 2, 3):
        cluster.start(node_id)
    reader = cluster.follower()
    assert cluster.read(reader, b"49") == b"v49"
    assert list(reader.machine.scan()) == [(b"%02d" % number, b"v%d" % number) for number in range(50)]


def test_without_a_majority_a_write_is_unknown_and_a_read_is_refused(cluster):
    leader = cluster.leader()
    cluster.put(leader, b"key", b"old")
    for node_id in {1, 2, 3} - {leader.id}:
        cluster.stop(node_id)
    with pytest.raises(OutcomeUnknown, match="may still be"):
        leader.propose([(b"key", b"new")], timeout_s=0.05)
    with pytest.raises(NoLeader):
        leader.read_barrier(timeout_s=0.05)
    assert leader.read_barrier("stale") > 0
    assert leader.machine.lookup(b"key") == b"old"


def test_the_unknown_write_is_applied_when_a_majority_is_back(cluster):
    """With one of the others: only those two can elect a leader now, and the write's log is the longer one."""
    leader = cluster.leader()
    others = {1, 2, 3} - {leader.id}
    for node_id in others:
        cluster.stop(node_id)
    with pytest.raises(OutcomeUnknown):
        leader.propose([(b"key", b"late")], timeout_s=0.05)
    cluster.start(min(others))
    eventually("the entry is committed", lambda: leader.machine.lookup(b"key") == b"late")


@pytest.mark.parametrize("host", loopbacks())
def test_nodes_speak_both_internet_protocols(tmp_path, host):
    with LocalCluster(tmp_path, host=host) as cluster:
        cluster.put(cluster.follower(), b"key", b"value")
        assert cluster.read(cluster.follower(), b"key") == b"value"
        assert cluster.leader().status()["peers"]["1"].startswith(f"http://{netloc(host, 0)[:-1]}")


def test_a_node_alone_knows_no_leader(tmp_path):
    cluster = LocalCluster(tmp_path)
    node = cluster.start(1)
    try:
        assert not node.health().healthy
        with pytest.raises(NoLeader):
            node.propose([(b"k", b"v")])
        with pytest.raises(NoLeader):
            node.propose_nowait([(b"k", b"v")])
        with pytest.raises(NoLeader):
            node.read_barrier()
    finally:
        cluster.stop(1)


def test_bad_proposals_are_refused_and_write_nothing(tmp_path):
    with LocalCluster(tmp_path, ["memory"]) as cluster:
        node = cluster.leader()
        index = cluster.put(node, b"k", b"v")
        for operations, error in [
            ([(b"", b"v")], InvalidKey),
            ([(b"x" * 32_768, b"v")], InvalidKey),
            ([("str", b"v")], InvalidKey),
            ([(b"k", "str")], InvalidValue),
            ([(b"k", b"x" * (5 << 20))], TooLarge),
        ]:
            with pytest.raises(error):
                node.propose(operations)
        with pytest.raises(ValueError, match="consistency"):
            node.read_barrier("strong")
        assert cluster.put(node, b"k", b"v") == index + 1


def test_a_single_node_is_a_cluster(tmp_path):
    with LocalCluster(tmp_path, ["memory"]) as cluster:
        cluster.put(cluster.leader(), b"k", b"v")
        cluster.stop(1)
        node = cluster.start(1)
        assert cluster.read(node, b"k") == b"v"


def test_the_log_is_cut_and_a_restart_begins_at_the_snapshot(tmp_path):
    with LocalCluster(tmp_path, snapshot_entries=20, catch_up_entries=5) as cluster:
        for number in range(100):
            cluster.put(cluster.leader(), b"%03d" % number, b"v")
        for node_id in (1, 2, 3):
            snapshots = list((tmp_path / f"node{node_id}" / "snap").iterdir())
            eventually(
                "a snapshot is there", lambda node_id=node_id: any((tmp_path / f"node{node_id}" / "snap").iterdir())
            )
            assert len(snapshots) <= 3
        for node_id in (1, 2, 3):
            cluster.stop(node_id)
        for node_id in (1, 2, 3):
            cluster.start(node_id)
        cluster.put(cluster.leader(), b"after", b"v")
        assert len(cluster.values()) == 101


@pytest.mark.parametrize("engine", ["memory", "btree"])
def test_a_follower_that_was_away_for_less_than_stays_in_the_log_needs_no_snapshot(tmp_path, engine):
    """Counted: the log is cut several times meanwhile, and the entries that it kept for slow followers are enough."""
    with LocalCluster(tmp_path, [engine] * 3, snapshot_entries=20, catch_up_entries=100) as cluster:
        leader = cluster.leader()
        index = cluster.put(leader, b"first", b"v")
        away = cluster.follower().id
        cluster.stop(away)
        for number in range(80):
            cluster.put(leader, b"%03d" % number, b"v")
            cuts_over(leader)
        assert leader._storage.memory.snapshot().metadata.index > index + 40
        cluster.start(away)
        cluster.put(leader, b"last", b"v")
        cluster.converged()
        metrics = [node.metrics() for node in cluster.nodes.values()]
        assert [each["snapshots_sent_total"] + each["snapshots_received_total"] for each in metrics] == [0, 0, 0]


def test_a_follower_that_was_away_too_long_gets_a_snapshot(tmp_path):
    with LocalCluster(tmp_path, snapshot_entries=20, catch_up_entries=5) as cluster:
        cluster.put(cluster.leader(), b"first", b"v")
        away = cluster.follower().id
        cluster.stop(away)
        for number in range(100):
            cluster.put(cluster.leader(), b"%03d" % number, b"v")
        cluster.start(away)
        cluster.put(cluster.leader(), b"last", b"v")
        assert len(cluster.values()) == 102
        # and it finds all of it again by itself
        cluster.stop(away)
        cluster.start(away)
        cluster.put(cluster.leader(), b"again", b"v")
        assert len(cluster.values()) == 103


@pytest.mark.parametrize("kind", ["full", "unread"])
def test_a_node_whose_lines_can_not_be_written_loads_a_snapshot_all_the_same(tmp_path, monkeypatch, kind):
    """Standard error on a full disk, and a pipe that nobody reads: a line is lost, and nothing else."""
    room = threading.Event()

    def write(descriptor, data):
        if kind == "unread":
            room.wait(PATIENCE_S)
        raise OSError(errno.ENOSPC, "simulated")

    try:
        with LocalCluster(tmp_path, snapshot_entries=20, catch_up_entries=5) as cluster:
            cluster.put(cluster.leader(), b"first", b"v")
            monkeypatch.setattr(logs._ERR, "_write", write)
            away = cluster.follower().id
            cluster.stop(away)
            for number in range(100):
                cluster.put(cluster.leader(), b"%03d" % number, b"v")
            cluster.start(away)
            cluster.put(cluster.leader(), b"last", b"v")
            assert len(cluster.values()) == 102
            room.set()
            eventually("it is counted", lambda: cluster.leader().metrics()["log_lines_dropped_total"] > 0)
    finally:
        room.set()


def test_a_node_stops_in_the_middle_of_a_snapshot_file(tmp_path, monkeypatch):
    """Of a large store it takes longer than anybody waits after Ctrl-C; what is left of the file is no file."""
    with LocalCluster(tmp_path, ["memory"], snapshot_entries=5) as cluster:
        node = cluster.leader()
        begun, gate, given_up = threading.Event(), threading.Event(), []
        pairs = MachineSnapshot.pairs
        stop_writing = NodeStorage.stop_writing

        def slowly(snapshot):
            for pair in pairs(snapshot):
                begun.set()
                gate.wait(PATIENCE_S)
                yield pair
            given_up.append(False)

        monkeypatch.setattr(MachineSnapshot, "pairs", slowly)
        monkeypatch.setattr(NodeStorage, "stop_writing", lambda storage: (stop_writing(storage), gate.set()))
        for number in range(6):
            cluster.put(node, b"%d" % number, b"v")
        assert begun.wait(PATIENCE_S)
        cluster.stop(1)
        assert given_up == []
        monkeypatch.undo()
        assert not [path for path in (tmp_path / "node1" / "snap").iterdir() if path.name.endswith(".snap")]
        assert cluster.read(cluster.start(1), b"5") == b"v"


def test_a_node_that_is_stopped_at_once_waits_for_no_peer(tmp_path, monkeypatch):
    """The first thing it does is to call them, and one that is paused doesn't answer."""
    monkeypatch.setattr("server.peer_sender.CALL_TIMEOUT_S", 1000.0)
    cluster = LocalCluster(tmp_path, election_tick=10_000)
    with contextlib.ExitStack() as paused:
        for peer in (2, 3):
            paused.enter_context(socket.create_server(cluster.configs[1].peers[peer]))
        node = cluster.start(1)
        eventually("it calls them", lambda: len(node._transport._dialer.calls) == 2)
        stopper = threading.Thread(target=cluster.stop, args=(1,), daemon=True)
        stopper.start()
        assert node.stopped.wait(PATIENCE_S)
        stopper.join()


def test_a_snapshot_whose_transfer_failed_is_sent_again(tmp_path, monkeypatch):
    """Neither a follower that refuses it nor a leader that can't write the file makes it the last attempt."""
    with LocalCluster(tmp_path, snapshot_entries=20, catch_up_entries=5) as cluster:
        cluster.put(cluster.leader(), b"first", b"v")
        away = cluster.follower().id
        cluster.stop(away)
        for number in range(100):
            cluster.put(cluster.leader(), b"%03d" % number, b"v")
        failures = ["receive_rest", "_write"]
        outgoing_snapshot = NodeStorage.outgoing_snapshot

        def no_file_is_there(storage, message):
            """Else the one with which the log was cut, now or after any write, is sent, and none is written."""
            if "_write" in failures:
                storage._replace_outgoing(None)
            return outgoing_snapshot(storage, message)

        monkeypatch.setattr(NodeStorage, "outgoing_snapshot", no_file_is_there)
        for name in ("receive_rest", "_write"):
            monkeypatch.setattr(NodeStorage, name, _failing_once(getattr(NodeStorage, name), failures))
        cluster.start(away)
        cluster.put(cluster.leader(), b"last", b"v")
        assert len(cluster.values()) == 102
        assert failures == []


def _failing_once(method, failures):
    """The method, whose first call fails in its turn; not for the snapshots that a node writes for itself."""

    def call(*words):
        ours = threading.current_thread().name != "snapshot-job"
        if ours and failures and failures[-1] == method.__name__:
            failures.pop()
            raise OSError(errno.EIO, "simulated")
        return method(*words)

    return call


def test_a_node_whose_disk_was_emptied_stops_and_says_why(tmp_path, capfd):
    """It has forgotten its vote and what it acknowledged, so it must not take part under its old id (etcd#10817).

    A leader tells it of no more commits than it has acknowledged: here, five.
    """
    with LocalCluster(tmp_path) as cluster:
        for other in (2, 3):
            cluster.stop(other)
        node = cluster.nodes[1]
        node.receive([Message(MSG_HEARTBEAT, to=1, from_=2, term=100, commit=5)])
        assert node.stopped.wait(PATIENCE_S)
        assert "commit" in str(node.failure)
    assert "node 1: stops" in capfd.readouterr().err


def test_a_lost_snapshot_is_an_error_and_not_an_empty_store(tmp_path):
    """What the log no longer has, and no snapshot has, must not be silently absent."""
    with LocalCluster(tmp_path, snapshot_entries=20, catch_up_entries=5) as cluster:
        for number in range(60):
            cluster.put(cluster.leader(), b"%03d" % number, b"v")
        lost = cluster.follower().id
        eventually("it has a snapshot", lambda: any((tmp_path / f"node{lost}" / "snap").iterdir()))
        cluster.stop(lost)
        for path in (tmp_path / f"node{lost}" / "snap").iterdir():
            path.unlink()
        with pytest.raises(DirectoryRefused, match="there is no whole snapshot between the two; nothing was deleted"):
            cluster.start(lost)


def test_a_second_node_on_the_same_directory_is_refused(cluster):
    config = cluster.configs[1]
    with pytest.raises(StoreLocked, match="this process"):
        Node(config)
    cluster.stop(1)
    cluster.start(1)  # and the lock goes with its holder


def test_a_node_that_can_not_be_made_leaves_nothing_open(tmp_path):
    cluster = LocalCluster(tmp_path, ["memory"])
    with pytest.raises(ValueError, match="election"):
        Node(dataclasses.replace(cluster.configs[1], election_tick=1))
    node = Node(cluster.configs[1])  # the locks and the port are free
    node.stop()
    node.stop()


def test_after_a_stall_there_is_one_tick_and_then_the_usual_pace(tmp_path, monkeypatch):
    """Two ticks at once after each pause bring an election twice as near."""

    class Clock(RealEnv):
        time_s = 0.0

        def now(self):
            return self.time_s

    clock = Clock()
    node = Node(dataclasses.replace(LocalCluster(tmp_path, ["memory"]).configs[1], env=clock, tick_s=1))
    ticks = []
    stalls = [0, 0, 0.25, 0, 7.5, 0, 0]

    def drain(timeout_s):
        clock.time_s += max(timeout_s, 0) + stalls.pop(0)
        node._stopping = not stalls

    monkeypatch.setattr(node, "_drain", drain)
    monkeypatch.setattr(RawNode, "tick", lambda _: ticks.append(clock.time_s))
    node._run()
    assert ticks == [1, 2, 3.25, 4, 12.5, 13.5, 14.5]


def test_a_leader_that_stood_still_knows_it_before_it_hears_a_followers_lease_read(tmp_path):
    """The read came while the leader stood still, and others may have elected another one and written since its lease ended."""
    node = Node(dataclasses.replace(LocalCluster(tmp_path, ["memory"]).configs[1], tick_s=1))
    happened = []
    core, node._raft = node._raft, SimpleNamespace(paused=lambda ticks: happened.append(ticks))
    node._intake.step = lambda messages: happened.append(messages[0].type)
    node.receive([Message(MSG_READ_INDEX, to=1, from_=2)])
    node._tick_at = node._env.now() - 7.5
    node._drain(0.0)
    assert happened == [7, MSG_READ_INDEX]
    node._raft = core
    node.stop()


def test_a_write_that_was_answered_unknown_is_not_applied_later(cluster, monkeypatch):
    """It would replace what was acknowledged meanwhile: the leader drops what its origin doesn't wait for any more."""
    leader, follower = cluster.leader(), cluster.follower()
    cluster.put(follower, b"key", b"before")
    held = []
    step = leader._intake.step

    def hold_proposals(messages):
        held.extend(message for message in messages if message.type == MSG_PROP)
        step([message for message in messages if message.type != MSG_PROP])

    monkeypatch.setattr(leader._intake, "step", hold_proposals)
    while not held:  # a follower that is too busy passes on nothing that has become too late
        with pytest.raises(OutcomeUnknown):
            follower.propose([(b"key", b"late")], timeout_s=0.1)
    late = list(held)
    assert leader.propose([(b"key", b"after")]) > 0
    monkeypatch.undo()
    leader.receive(late)
    cluster.put(leader, b"other", b"v")
    assert cluster.read(leader, b"key") == b"after"
    assert leader.metrics()["proposals_expired_total"] >= len(late)
    assert cluster.put(follower, b"key", b"v") > 0  # what is in time goes on as ever


def test_a_write_that_its_own_node_was_too_busy_for_is_not_proposed_later(tmp_path):
    with LocalCluster(tmp_path, ["memory"]) as cluster:
        node = cluster.leader()
        index = cluster.put(node, b"k", b"v")
        gate = threading.Event()
        node.later(lambda: gate.wait(PATIENCE_S))
        with pytest.raises(OutcomeUnknown):
            node.propose([(b"k", b"late")], timeout_s=0.02)
        gate.set()
        assert cluster.put(node, b"other", b"v") == index + 1
        assert node.machine.lookup(b"k") == b"v"


NOT_APPLICABLE = {
    "nothing": b"",
    "no proposal": b"harmless",
    "an unknown operation": encode_proposal(1, 1, [(b"k", b"v")])[:20] + b"\x07" + bytes(9),
    "an empty key": encode_proposal(1, 1, [(b"", b"v")]),
    "a long key": encode_proposal(1, 1, [(b"x" * 40_000, b"v")]),
    "something after it": encode_proposal(1, 1, [(b"k", b"v")]) + b"x",
}


@pytest.mark.parametrize("name", NOT_APPLICABLE)
def test_a_forwarded_proposal_that_no_node_could_apply_becomes_no_entry(cluster, name):
    """It would be committed, and end every node, and again at each restart."""
    leader, follower = cluster.leader(), cluster.follower()
    index = cluster.put(leader, b"k", b"v")
    good = Entry(0, 0, data=encode_proposal(5, 5, [(b"good", b"v")]))
    bad = Entry(0, 0, data=NOT_APPLICABLE[name])
    context = with_deadlines([math.inf, math.inf], leader.status()["term"])
    leader.receive([Message(MSG_PROP, to=leader.id, from_=follower.id, entries=[bad, good], context=context)])
    assert cluster.put(follower, b"k", b"w") == index + 2
    assert cluster.read(leader, b"good") == b"v"
    assert leader.metrics()["proposals_unreadable_total"] == 1


def test_a_proposal_that_the_leader_refuses_is_answered_at_once(cluster, monkeypatch):
    """Not after the timeout, and not as unknown: it is in nobody's log."""
    leader, follower = cluster.leader(), cluster.follower()
    cluster.put(follower, b"k", b"v")
    monkeypatch.setattr(intake_module, "fault", lambda entry: "tried")
    monkeypatch.setattr(intake_module, "sift", lambda message, now: Sifted([], message.entries, 0))
    with pytest.raises(NodeError, match="same version") as refused:
        follower.propose([(b"k", b"w")], timeout_s=PATIENCE_S)
    assert not isinstance(refused.value, OutcomeUnknown)
    monkeypatch.undo()
    step = RawNode.step

    def full(raft, message):
        if raft is leader._raft and message.type == MSG_PROP:
            raise ProposalDroppedError("simulated")
        step(raft, message)

    monkeypatch.setattr(RawNode, "step", full)
    with pytest.raises(Overloaded, match="leader refused"):
        follower.propose([(b"k", b"w")], timeout_s=PATIENCE_S)


def test_a_term_that_no_number_of_elections_leads_to_is_not_believed(cluster):
    """A member that was cut off comes back some thousands of terms ahead; with 2^62 every cluster would be at its end."""
    leader, follower = cluster.leader(), cluster.follower()
    cluster.put(leader, b"k", b"v")
    term = leader.status()["term"]
    far = [term + (1 << 32) + 1, 1 << 62]
    leader.receive([Message(MSG_VOTE, to=leader.id, from_=follower.id, term=at, index=9, log_term=1) for at in far])
    eventually("both are refused", lambda: leader.metrics()["messages_refused_total"] == 2)
    assert leader.status()["term"] == term
    heard = Message(
        MSG_HEARTBEAT_RESP, to=leader.id, from_=follower.id, term=term + 5000
    )  # a vote is ignored: it leads
    leader.receive([heard])
    eventually("it is believed", lambda: cluster.leader().status()["term"] >= term + 5000)
    cluster.put(cluster.leader(), b"k", b"w")


def test_what_the_transport_could_not_send_is_looked_at_by_the_nodes_own_thread(tmp_path):
    """The transport's threads report losses; who waits is told, or the write proposed again, by one thread."""
    node = Node(LocalCluster(tmp_path, ["memory"]).configs[1])
    waiter = Waiter()
    _, data = node._proposals.add([(b"k", b"v")], waiter)
    node._outstanding.proposed([Proposal(data, math.inf)], 3)
    node.unreachable(2, [Message(MSG_PROP, to=2, entries=[Entry(0, 0, data=data)], context=with_deadlines([1.0], 3))])
    assert not node._outstanding.holds
    node._drain(0)
    node._drain(0)
    assert node._outstanding.take_held() == [Proposal(data, math.inf)]
    assert waiter.wait(0) is None
    node.stop()


def test_a_read_that_comes_while_the_node_stops_is_told_so(tmp_path, monkeypatch):
    """After the last look at the inbox nobody would ever answer it."""
    node = Node(LocalCluster(tmp_path, ["memory"]).configs[1])

    class Inbox:
        def put(self, event):
            monkeypatch.undo()
            node.stop()

    monkeypatch.setattr(node, "_inbox", Inbox())
    with pytest.raises(NodeStopped):
        node.read_barrier(timeout_s=60)


def test_what_was_committed_while_a_snapshot_was_loaded_is_applied_when_it_is(tmp_path):
    """Not with the next message: there may be none for a while, and reads wait for it."""
    node = Node(LocalCluster(tmp_path).configs[1])
    leader = StateMachine(MemoryStore())
    data = encode_proposal(1, 1, [(b"k", b"v")])
    leader.apply([Entry(1, index, data=data) for index in range(1, 6)], ConfState(voters=(1, 2, 3)))
    metadata, view = leader.snapshot()
    write_snapshot(f"{tmp_path}/node1/snap", metadata, view.scan())
    node._intake.step([Message(MSG_SNAP, to=1, from_=2, term=1, snapshot=Snapshot(metadata))])
    node._intake.step([Message(MSG_APP, to=1, from_=2, term=1, index=5, log_term=1, entries=[Entry(1, 6)], commit=6)])
    node._loop.run()
    assert node.machine.applied_index < 6
    eventually("all is applied", lambda: node._drain(0) or node.machine.applied_index == 6)
    node.stop()


class FullDisk(RealEnv):
    """A disk on which, once `full` is set, no sync of the log succeeds."""

    full = False

    def open(self, path, mode):
        file = super().open(path, mode)
        if "/wal/" not in path:
            return file
        return _FullFile(self, file)


class _FullFile:
    def __init__(self, env, file):
        self._env = env
        self._file = file

    def __getattr__(self, name):
        return getattr(self._file, name)

    def sync(self, site):
        if self._env.full:
            raise OSError(errno.EIO, "simulated")
        self._file.sync(site)


def test_a_failed_fsync_of_the_log_stops_the_node_and_acknowledges_nothing(tmp_path, capfd):
    """After a failed fsync the pages may be gone: nothing may be acknowledged, and nothing retried."""
    env = FullDisk()
    with LocalCluster(tmp_path, ["memory"], env=env) as cluster:
        node = cluster.leader()
        cluster.put(node, b"k", b"v")
        env.full = True
        with pytest.raises((OutcomeUnknown, NodeStopped)):
            node.propose([(b"k", b"lost")])
        assert node.stopped.wait(10)
        assert isinstance(node.failure, OSError)
        assert not node.health().healthy
        with pytest.raises(NodeStopped):
            node.propose([(b"k", b"x")])
        with pytest.raises(NodeStopped):
            node.read_barrier()
    assert "simulated" in capfd.readouterr().err


def test_a_taken_peer_port_leaves_nothing_locked(tmp_path):
    cluster = LocalCluster(tmp_path)
    with socket.socket() as taken:
        taken.bind(cluster.configs[1].peers[1])
        taken.listen()
        with pytest.raises(OSError, match="in use"):
            Node(cluster.configs[1])
    Node(cluster.configs[1]).stop()


def test_a_committed_entry_that_can_not_be_decoded_stops_the_node_at_each_start_and_has_a_way_out(tmp_path):
    """The way out is for all members alike: one that passed over what another applies would hold other data."""
    with LocalCluster(tmp_path, ["memory"]) as cluster:
        node = cluster.leader()
        cluster.put(node, b"key", b"before")
        node.later(lambda: node._raft.propose_batch([b"what nobody can read"]))
        assert node.stopped.wait(PATIENCE_S)
        assert isinstance(node.failure, UndecodableEntry)
        index = node.failure.index
        assert str(node.failure).startswith(
            f"entry {index} of term 1 is committed, and this version of metcd can't decode"
        )
        assert f"all members with --skip-entry {index}, which passes over it" in str(node.failure)
        again = cluster.start(1)
        assert again.stopped.wait(PATIENCE_S)
        assert str(again.failure).startswith(f"entry {index} of term 1")
        out = cluster.start(1, skip_entries=frozenset((index,)))
        assert cluster.read(out, b"key") == b"before"
        cluster.put(out, b"key", b"after")
        assert cluster.read(out, b"key") == b"after"
