"""The durable side of a node, step by step: which snapshot file a restart takes, and what happens when two come."""

import collections
import queue
import threading

import pytest

import engines
from engines.env import RealEnv
from engines.memory import MemoryStore
from raft import Ready
from raft.raftpb import MSG_SNAP, ConfState, Entry, HardState, Message, Snapshot, SnapshotMetadata
from server.config import NodeConfig
from server.directory import open_directory
from server.errors import DirectoryRefused, Overloaded
from server.identity import read_identity
from server.snapshot import write_snapshot
from server.statemachine import StateMachine, encode_proposal
from server.storage import SNAPSHOTS_KEPT, NodeStorage
from tests.server.local_nodes import PATIENCE_S

MEMBERS = ConfState(voters=(1, 2, 3))
PEERS = {1: ("127.0.0.1", 1), 2: ("127.0.0.1", 2), 3: ("127.0.0.1", 3)}


def entries(first: int, last: int, term: int = 1, value_bytes: int = 1) -> list[Entry]:
    return [
        Entry(term, index, data=encode_proposal(1, index, [(b"key", b"v" * value_bytes)]))
        for index in range(first, last + 1)
    ]


def ready(*new: Entry, snapshot: SnapshotMetadata | None = None, term: int = 1, commit: int = 0) -> Ready:
    return Ready(
        soft_state=None,
        hard_state=HardState(term, 0, commit),
        read_states=[],
        entries=list(new),
        snapshot=None if snapshot is None else Snapshot(snapshot),
        committed_entries=[],
        messages=[],
        must_sync=True,
    )


def state_at(index: int, term: int = 1) -> StateMachine:
    """A machine elsewhere in the cluster that has applied entries up to `index`."""
    machine = StateMachine(MemoryStore())
    machine.apply([*entries(1, index - 1), *entries(index, index, term)], MEMBERS)
    return machine


class Desk:
    """One node's storage; what its jobs report is done by `run_a_call`, as a node's thread does."""

    def __init__(self, directory) -> None:
        self.env = RealEnv()
        self.data = f"{directory}/node"
        self.snap = f"{self.data}/snap"
        self.elsewhere = f"{directory}/elsewhere"
        self.calls = queue.SimpleQueue()
        self.env.makedirs(self.data, "test")
        self.env.makedirs(self.elsewhere, "test")
        self.open()

    def open(self) -> None:
        self.machine = StateMachine(MemoryStore())
        self.storage = NodeStorage(open_directory(NodeConfig(1, PEERS, self.data)), self.machine)
        self.memory = self.storage.recovered(self.machine.conf_state or MEMBERS)

    def reopen(self) -> None:
        self.storage.close()
        self.open()

    def run_a_call(self) -> None:
        self.calls.get(timeout=PATIENCE_S)()

    def write(self, index: int, term: int = 1) -> SnapshotMetadata:
        """Writes a snapshot's file, as if it had been received; its metadata."""
        metadata, view = state_at(index, term).snapshot()
        write_snapshot(self.snap, metadata, view.scan(), self.env)
        return metadata

    def content(self, index: int, term: int = 1) -> tuple[SnapshotMetadata, bytes]:
        """The bytes of a snapshot's file, as a leader sends them."""
        metadata, view = state_at(index, term).snapshot()
        path = write_snapshot(self.elsewhere, metadata, view.scan(), self.env)
        with open(path, "rb") as file:
            return metadata, file.read()

    def receive(self, index: int, term: int = 1) -> SnapshotMetadata:
        metadata, content = self.content(index, term)
        self.storage.receive_snapshot(metadata, iter([content]))
        return metadata

    def files(self) -> list[int]:
        return sorted(int(name[17:33], 16) for name in self.env.list(self.snap) if name.endswith(".snap"))


@pytest.fixture
def desk(tmp_path):
    desk = Desk(tmp_path)
    yield desk
    desk.storage.close()


# ---- what a restart takes -------------------------------------------------------------------------------------------


def test_a_file_whose_mark_was_lost_is_not_taken_for_the_logs_own(desk):
    """The leader's snapshot of entry 8 was on disk, and the power went before its mark. The log has an entry 8, but of
    an old leader, and never committed: to begin after it would keep the old leader's entries for committed ones."""
    desk.storage.persist(ready(*entries(1, 10), commit=3))
    desk.write(8, term=2)
    desk.reopen()
    assert desk.machine.applied_index == 0
    assert desk.files() == []


def test_a_file_of_an_entry_that_the_log_has_is_taken(desk):
    """The power went between the node's own snapshot and its mark: what it holds was committed, and needs no replay."""
    desk.storage.persist(ready(*entries(1, 10), commit=9))
    desk.write(8)
    desk.reopen()
    assert desk.machine.applied_index == 8


def test_a_restart_after_the_mark_loads_the_snapshot(desk):
    desk.storage.persist(ready(*entries(1, 3), commit=3))
    metadata = desk.receive(8, term=2)
    desk.storage.persist(ready(snapshot=metadata, term=2, commit=8))
    desk.reopen()
    assert desk.machine.applied_index == 8
    assert desk.memory.last_index() == 8


def test_the_file_that_a_restart_needs_is_never_purged(desk):
    """Snapshots come from the leader, and each time the power may go before the mark: the marked one is still needed."""
    desk.storage.persist(ready(*entries(1, 3), commit=3))
    desk.storage.persist(ready(snapshot=desk.receive(4), commit=4))
    for index in (8, 9, 10):
        desk.receive(index)
    assert desk.files() == [4, 9, 10]
    desk.reopen()
    assert desk.machine.applied_index == 4


# ---- installing -----------------------------------------------------------------------------------------------------


class SlowMachine:
    """Stands before a machine; each load waits for a permit, and two at once are noted."""

    def __init__(self, machine: StateMachine) -> None:
        self.permits = threading.Semaphore(0)
        self.begun = threading.Semaphore(0)
        self.loading = self.loading_at_once = 0
        self._machine = machine

    def __getattr__(self, name):
        return getattr(self._machine, name)

    def recover_from_snapshot(self, metadata, pairs) -> None:
        self.loading += 1
        self.loading_at_once = max(self.loading_at_once, self.loading)
        self.begun.release()
        assert self.permits.acquire(timeout=PATIENCE_S)
        self._machine.recover_from_snapshot(metadata, pairs)
        self.loading -= 1


def test_a_snapshot_that_comes_while_one_is_loaded_waits_for_its_turn(desk):
    """On a slow engine the leader may have cut its log again before the load is done, and send a newer one."""
    slow = desk.storage._machine = SlowMachine(desk.machine)
    done = []
    for index in (5, 9):
        desk.storage.persist(ready(snapshot=desk.receive(index), commit=index))
        desk.storage.begin_install(desk.calls.put, lambda: done.append(desk.machine.applied_index))
        assert index == 9 or slow.begun.acquire(timeout=PATIENCE_S)
    assert not slow.begun.acquire(timeout=0.05)
    for _ in range(2):
        assert desk.storage.installing
        assert done == []
        slow.permits.release()
        desk.run_a_call()
    assert not desk.storage.installing
    assert done == [9]
    assert slow.loading_at_once == 1


def test_a_slow_sender_does_not_keep_the_node_from_its_own_snapshot(desk):
    """A peer may take as long as it likes over a snapshot's body; the log is cut all the same."""
    desk.storage.persist(ready(*entries(1, 10), commit=10))
    desk.machine.apply(entries(1, 10), MEMBERS)
    metadata, content = desk.content(20)
    begun, resume = threading.Event(), threading.Event()

    def body():
        yield content[:10]
        begun.set()
        assert resume.wait(PATIENCE_S)
        yield content[10:]

    receiver = threading.Thread(target=desk.storage.receive_snapshot, args=(metadata, body()))
    receiver.start()
    try:
        assert begun.wait(PATIENCE_S)
        desk.storage.begin_cut(NodeConfig(1, {}, ""), desk.calls.put)
        desk.run_a_call()
        assert desk.files() == [10]
        with pytest.raises(Overloaded, match="another"):
            desk.receive(30)
    finally:
        resume.set()
        receiver.join()
    assert desk.files() == [10, 20]


# ---- cutting --------------------------------------------------------------------------------------------------------


def test_entries_that_stay_for_slow_followers_are_bounded_in_bytes(desk):
    """5,000 entries of a mebibyte each are not a small thing to keep in memory."""
    limits = NodeConfig(1, {}, "", snapshot_entries=100, snapshot_bytes=10_000, catch_up_entries=50)
    large = entries(1, 100, value_bytes=1000)
    desk.storage.persist(ready(*large, commit=100))
    desk.machine.apply(large, MEMBERS)
    assert desk.storage.wants_cut(large, limits)
    desk.storage.begin_cut(limits, desk.calls.put)
    desk.run_a_call()
    assert desk.memory.first_index() == 92  # nine of them have less than 10,000 bytes


class SlowFlush:
    """Stands before a machine on an engine with files; a flush waits for a permit, and so does a write meanwhile."""

    persistent = True

    def __init__(self, machine: StateMachine) -> None:
        self.permit = threading.Event()
        self.flushing = threading.Event()
        self._machine = machine

    def __getattr__(self, name):
        return getattr(self._machine, name)

    def flush(self) -> None:
        self.flushing.set()
        assert self.permit.wait(PATIENCE_S)


def test_nothing_is_applied_while_the_engine_is_flushed(desk):
    """A write to an engine that is being flushed waits for its fsync, whatever the engine. The node's thread must not:
    a disk that takes longer than an election timeout would cost the leadership at each cut."""
    slow = desk.storage._machine = SlowFlush(desk.machine)
    limits = NodeConfig(1, {}, "", snapshot_entries=5)
    resumed = []
    desk.storage.resume = lambda: resumed.append(desk.storage.engine_busy)
    desk.storage.persist(ready(*entries(1, 10), commit=10))
    desk.machine.apply(entries(1, 10), MEMBERS)
    desk.storage.begin_cut(limits, desk.calls.put)
    assert slow.flushing.wait(PATIENCE_S)
    assert desk.storage.engine_busy
    assert not desk.storage.wants_cut(entries(1, 10), limits)
    slow.permit.set()
    desk.run_a_call()
    assert resumed == [False]
    assert desk.memory.snapshot().metadata.index == 10


def test_a_snapshot_that_comes_while_the_engine_is_flushed_is_loaded_after_that(desk):
    """Else the end of the flush would let entries be applied to the engine while the snapshot is loaded into it."""
    slow = desk.storage._machine = SlowFlush(desk.machine)
    resumed, done = [], []
    desk.storage.resume = lambda: resumed.append(desk.storage.installing)
    desk.storage.persist(ready(*entries(1, 10), commit=10))
    desk.machine.apply(entries(1, 10), MEMBERS)
    desk.storage.begin_cut(NodeConfig(1, {}, "", snapshot_entries=5), desk.calls.put)
    assert slow.flushing.wait(PATIENCE_S)
    desk.storage.persist(ready(snapshot=desk.receive(15), commit=15))
    desk.storage.begin_install(desk.calls.put, lambda: done.append(desk.machine.applied_index))
    assert desk.calls.empty()
    assert desk.machine.applied_index == 10
    slow.permit.set()
    desk.run_a_call()
    assert desk.storage.engine_busy
    assert desk.storage.installing
    assert resumed == done == []
    desk.run_a_call()
    assert (desk.storage.engine_busy, desk.storage.installing) == (False, False)
    assert (resumed, done) == ([], [15])


@pytest.mark.parametrize("engine", sorted(engines.ENGINES))
def test_the_log_stays_bounded_under_a_long_load(tmp_path, engine):
    """Counted: segments and bytes on disk, snapshot files, entries in memory, of 1,500 entries with 150 KB in all."""
    limits = NodeConfig(
        1, PEERS, f"{tmp_path}/node", engine, snapshot_entries=100, snapshot_bytes=1 << 20, catch_up_entries=40
    )
    calls = queue.SimpleQueue()
    env = RealEnv()
    directory = open_directory(limits)
    directory.wal._segment_bytes = 4096
    machine = StateMachine(engines.open(f"{tmp_path}/node/engine", engine, sync=False))
    storage = NodeStorage(directory, machine, run_job=lambda job: job())
    memory = storage.recovered(MEMBERS)
    most = collections.Counter()
    cuts = 0
    try:
        for first in range(1, 1501, 10):
            new = [
                Entry(1, index, data=encode_proposal(1, index, [(b"key%02d" % (index % 50), b"v" * 50)]))
                for index in range(first, first + 10)
            ]
            storage.persist(ready(*new, commit=first + 9))
            machine.apply(new, MEMBERS if first == 1 else None)
            wal = [name for name in env.list(f"{tmp_path}/node/wal") if name.endswith(".wal")]
            sizes = (tmp_path / "node" / "wal" / name for name in wal)
            most["segments"] = max(most["segments"], len(wal))
            most["bytes"] = max(most["bytes"], sum(path.stat().st_size for path in sizes))
            most["entries"] = max(most["entries"], memory.last_index() - memory.first_index() + 1)
            most["snapshots"] = max(most["snapshots"], len(env.list(f"{tmp_path}/node/snap")))
            if storage.wants_cut(new, limits):
                storage.begin_cut(limits, calls.put)
                calls.get()()
                cuts += 1
    finally:
        storage.close()
        machine.close()
    assert cuts == 15
    assert most["entries"] == 100 + 40  # since the last cut, and for slow followers
    assert 100 * 100 < most["bytes"] < 2 * 100 * 110 + 2 * 4096
    assert most["segments"] <= 7
    assert most["snapshots"] <= (0 if machine.persistent else SNAPSHOTS_KEPT + 1)


def test_entries_after_a_snapshot_that_is_on_its_way_stay(desk):
    """Under load the log would be cut past it before the follower has loaded it, and it would need the next one."""
    limits = NodeConfig(1, {}, "", snapshot_entries=10, catch_up_entries=10)

    def cut_at(first: int, last: int) -> int:
        desk.storage.persist(ready(*entries(first, last), commit=last))
        desk.machine.apply(entries(first, last), MEMBERS)
        desk.storage.begin_cut(limits, desk.calls.put)
        desk.run_a_call()
        return desk.memory.first_index()

    assert cut_at(1, 20) == 11
    message, path = desk.storage.outgoing_snapshot(Message(MSG_SNAP, to=2, from_=1, term=1))
    assert message.snapshot.metadata.index == 20
    assert path().endswith(f"{20:016x}.snap")
    assert [cut_at(first, first + 19) for first in (21, 41, 61, 81)] == [21, 21, 21, 21]
    assert desk.storage.outgoing_snapshot(message)[0].snapshot.metadata.index == 100
    assert cut_at(101, 200) == 191  # too far: memory is bounded, too


# ---- what the directory promises ------------------------------------------------------------------------------------


def test_a_new_segment_is_noted_before_anything_in_it_is_promised(desk):
    """Else a log whose newest segment is gone looks whole, and the node votes without what was in it."""
    desk.storage._wal._segment_bytes = 1  # each save begins a segment
    for index in (1, 2, 3):
        desk.storage.persist(ready(*entries(index, index), commit=index - 1))
        assert read_identity(desk.data).segment == desk.storage._wal.segment
    assert read_identity(desk.data).segment >= 2
    desk.storage._wal._segment_bytes = 1 << 20  # the record that a close ends with promises nothing
    desk.storage.close()
    newest = max(name for name in desk.env.list(f"{desk.data}/wal") if name.endswith(".wal"))
    desk.env.rename(f"{desk.data}/wal/{newest}", f"{desk.elsewhere}/{newest}")
    with pytest.raises(DirectoryRefused, match="the log is older than the directory: it ends with segment"):
        desk.open()
    desk.env.rename(f"{desk.elsewhere}/{newest}", f"{desk.data}/wal/{newest}")
    desk.open()
    assert desk.memory.last_index() == 3


def test_a_snapshot_that_the_log_does_not_lead_to_is_put_aside_and_goes_when_the_log_has_passed_it(desk):
    desk.storage.persist(ready(*entries(1, 10), commit=3))
    metadata = desk.write(8, term=2)
    desk.reopen()
    aside = f"{metadata.term:016x}-{metadata.index:016x}.snap.aside"
    assert desk.env.list(desk.snap) == [aside]
    desk.storage.persist(ready(snapshot=desk.receive(9, term=3), term=3, commit=9))
    desk.receive(12, term=3)
    assert aside not in desk.env.list(desk.snap)
