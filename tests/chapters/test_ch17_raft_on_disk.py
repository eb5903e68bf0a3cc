"""Chapter 17: what a node has promised outlives a power cut, each entry is applied once, and the log doesn't grow for ever."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import pairwise

import pytest

import engines
from engines.errors import CorruptionError
from engines.kvstore import KVStore, WriteBatch
from engines.simdisk import Policy
from engines.simenv import SimEnv
from raft import RawNode
from raft.raftpb import (
    CONF_CHANGE_ADD_NODE,
    ENTRY_CONF_CHANGE,
    MSG_APP,
    MSG_APP_RESP,
    MSG_SNAP,
    MSG_VOTE,
    MSG_VOTE_RESP,
    ConfChange,
    ConfState,
    Entry,
    HardState,
    Message,
    Snapshot,
    SnapshotMetadata,
)
from server.config import NodeConfig
from server.errors import DirectoryRefused, UndecodableEntry
from server.snapshot import find_snapshots, read_snapshot, write_snapshot
from server.statemachine import Applied, StateMachine, encode_proposal
from server.wal import Wal, WalState
from server.wal_replay import overwrite
from tests.chapters.kit import History, power_cuts, rounds
from tests.chapters.replicas import Cluster, Replica
from tests.conformance.engine_table import TINY
from tests.crash.raft_subjects import SnapshotSubject, WalSubject

MEMBERS = ConfState((1, 2, 3))
ENGINES = ("memory", "lsm", "btree", "bitcask")


def entry(index: int, term: int = 1, *operations: tuple[bytes, bytes | None]) -> Entry:
    """An entry whose proposal is these operations, or one put that tells the entry from all others."""
    operations = operations or ((b"key", b"%d of term %d" % (index, term)),)
    return Entry(term, index, data=encode_proposal(7, index, operations))


def places(entries: Sequence[Entry]) -> list[tuple[int, int]]:
    return [(each.index, each.term) for each in entries]


# ---- the log --------------------------------------------------------------------------------------------------------


@contextmanager
def a_log(disk: SimEnv, segment_bytes: int = 1 << 20) -> Iterator[tuple[Wal, WalState]]:
    wal, state = Wal.open("/wal", disk, node_id=1, cluster_id=9, segment_bytes=segment_bytes)
    with closing(wal):
        yield wal, state


def test_new_entries_take_the_place_of_old_ones(rng: random.Random) -> None:
    """A new leader's log wins: paper section 5.3, figure 7. And entries may come that begin before all that is kept."""
    for _ in range(rounds(400)):
        first = rng.randint(1, 5)
        kept = [entry(index) for index in range(first, first + rng.randint(0, 6))]
        begin = rng.randint(max(1, first - 2), kept[-1].index + 1) if kept else first
        new = [entry(index, 2) for index in range(begin, begin + rng.randint(1, 4))]
        expected = [old for old in places(kept) if old[0] < begin] + places(new)
        before = places(kept)
        overwrite(kept, new)
        assert places(kept) == expected, f"{before} and then {places(new)}: expected {expected}, found {places(kept)}"


def test_what_was_saved_is_there_after_a_restart() -> None:
    disk = SimEnv()
    state = HardState(term=3, vote=2, commit=1)
    with a_log(disk) as (wal, _):
        wal.save(None, [entry(1)], must_sync=True)
        wal.save(state, [entry(2, 3), entry(3, 3)], must_sync=True)
        wal.save(None, [entry(3, 4)], must_sync=True)
    with a_log(disk) as (_, found):
        assert found.hard_state == state
        assert places(found.entries) == [(1, 1), (2, 3), (3, 4)], "the entry of term 4 has replaced that of term 3"


def test_a_save_costs_one_write_and_at_most_one_sync() -> None:
    """Hard state and entries of a Ready share an fsync: it is what a write costs. A commit index alone is worth none."""
    calls: list[str] = []
    disk = SimEnv()
    with a_log(disk) as (wal, _):
        wal.save(None, [entry(1)], must_sync=True)  # the first one has space allocated
        disk.after_call = lambda call: calls.append(call.kind)
        wal.save(HardState(1, 1, 0), [entry(2), entry(3)], must_sync=True)
        assert calls == ["pwrite", "sync"], f"one save of entries and hard state made the calls {calls}"
        calls.clear()
        wal.save(HardState(1, 1, 3), [], must_sync=False)
        assert calls == ["pwrite"], f"a save that needn't be synced made the calls {calls}"
        calls.clear()
        wal.save(None, [], must_sync=False)
        assert calls == [], f"a save of nothing made the calls {calls}"


def test_no_power_cut_takes_a_synced_save(seed: int, history: History) -> None:
    """A save is there as a whole or not at all; marks, conflicts and released segments are in the workload."""
    with a_log(SimEnv()) as (wal, _):
        wal.save(HardState(1, 1, 0), [entry(1)], must_sync=True)
    power_cuts(WalSubject(rounds(60) + 20), seed, history, probe_share=0.05, second_cut_share=0.0)


def test_a_mark_keeps_what_follows_it_only_if_the_log_agrees() -> None:
    """A log that kept entries after a snapshot of another history would never match its leader's again
    (hashicorp/raft#697)."""
    for term, kept in ((1, [(4, 1), (5, 1)]), (2, [])):
        disk = SimEnv()
        with a_log(disk) as (wal, _):
            wal.save(HardState(2, 0, 1), [entry(index) for index in range(1, 6)], must_sync=True)
            wal.save_snapshot(SnapshotMetadata(3, term, MEMBERS))
        with a_log(disk) as (_, found):
            told = f"entries 1 to 5 of term 1, and a mark at 3 of term {term}"
            assert (found.snapshot.index, found.snapshot.term) == (3, term), told
            assert places(found.entries) == kept, f"{told}: expected the entries {kept}, found {places(found.entries)}"


def test_segments_go_when_a_mark_covers_them(rng: random.Random) -> None:
    """Oldest first, never the last, and never one with an entry after the mark, whatever index is released."""
    for _ in range(rounds(40)):
        disk = SimEnv()
        with a_log(disk, segment_bytes=400) as (wal, _):
            for index in range(1, 41):
                wal.save(None, [entry(index)], must_sync=True)
            before = segments(disk)
            mark = rng.randint(1, 40)
            wal.save_snapshot(SnapshotMetadata(mark, 1, MEMBERS))
            removed: list[str] = []
            disk.after_call = lambda call, to=removed: to.append(call.path) if call.kind == "unlink" else None
            wal.release(rng.choice((mark, 100)))
            assert removed == sorted(removed), f"the oldest segment goes first, and these went in this order: {removed}"
            after = segments(disk)
        assert after == sorted(after) and after[-1] >= before[-1], "the last segment stays"
        needed = [name for name, following in pairwise(before) if int(following[17:33], 16) - 1 > mark]
        assert set(needed) <= set(after), f"a mark at {mark}, and segments with later entries are gone"
        assert len(after) <= len(needed) + 2, f"a mark at {mark} of 40, and of {len(before)} segments {len(after)} stay"
        with a_log(disk) as (_, found):
            assert places(found.entries) == [(index, 1) for index in range(mark + 1, 41)]


def segments(disk: SimEnv) -> list[str]:
    return [name for name in disk.list("/wal") if name.endswith(".wal")]


# ---- the state machine and its snapshots ----------------------------------------------------------------------------


def machine_on(engine: str, disk: SimEnv | None = None, path: str = "/engine") -> StateMachine:
    return StateMachine(engines.open(path, engine, env=disk or SimEnv(), sync=False, **TINY.get(engine, {})))


class Counting:
    """Stands before a store, and notes its writes."""

    def __init__(self, store: KVStore) -> None:
        self.store = store
        self.writes: list[tuple[dict[bytes, bytes | None], bool | None]] = []

    def __getattr__(self, name: str) -> object:
        return getattr(self.store, name)

    def write(self, batch: WriteBatch, *, sync: bool | None = None) -> None:
        self.writes.append((dict(batch.operations), sync))
        self.store.write(batch, sync=sync)


def test_effect_and_applied_index_are_one_batch() -> None:
    """etcd 3.5.0 to 3.5.2 wrote the two apart, and after a crash a node could have one without the other (etcd#13766)."""
    store = Counting(engines.open("/m", "memory", env=SimEnv()))
    machine = StateMachine(store)  # type: ignore[arg-type]
    machine.apply([entry(1, 1, (b"a", b"1"), (b"b", b"2")), entry(2, 1, (b"a", None))], MEMBERS)
    assert len(store.writes) == 1, (
        f"two entries were applied by {len(store.writes)} writes of the engine, and not by one"
    )
    operations, sync = store.writes[0]
    assert sync is False, "the engine isn't synced for entries: the Raft log has them"
    assert {b"ka", b"kb", b"mapplied", b"mconf_state"} <= operations.keys()
    assert (machine.applied_index, machine.applied_term, machine.conf_state) == (2, 1, MEMBERS)
    assert list(machine.scan()) == [(b"b", b"2")]
    reopened = StateMachine(store.store)
    assert (reopened.applied_index, reopened.conf_state) == (2, MEMBERS), "the engine says the same as the machine"


def test_an_apply_that_fails_is_not_counted() -> None:
    """The applied index in memory follows the engine's, so a write that raises moves neither."""

    class Full(Counting):
        def write(self, batch: WriteBatch, *, sync: bool | None = None) -> None:
            raise OSError("the disk is full")

    machine = StateMachine(Full(engines.open("/m", "memory", env=SimEnv())))  # type: ignore[arg-type]
    with pytest.raises(OSError, match="the disk is full"):
        machine.apply([entry(1)], MEMBERS)
    found = (machine.applied_index, machine.applied_term, machine.conf_state)
    assert found == (0, 0, None), f"the write of entry 1 has failed, and index, term and members are {found}"


def test_a_store_is_of_one_cluster() -> None:
    """The cluster's id is in the first batch, so that neither the store nor its snapshot is taken for another's."""
    store = engines.open("/m", "memory", env=SimEnv())
    machine = StateMachine(store, 9)
    machine.apply([entry(1)], MEMBERS)
    with pytest.raises(DirectoryRefused):
        StateMachine(store, 8)
    other = StateMachine(engines.open("/m", "memory", env=SimEnv()), 8)
    other.apply([entry(1), entry(2)], MEMBERS)
    before = list(other.store.scan())
    metadata, view = machine.snapshot()
    with pytest.raises(DirectoryRefused):
        other.recover_from_snapshot(metadata, view.scan())
    assert list(other.store.scan()) == before, "a snapshot of another cluster was refused, and must leave all as it was"


def test_every_entry_counts_and_only_proposals_are_told() -> None:
    """A new leader's empty entry and a membership change move the applied index, too: the next entry follows on them."""
    machine = machine_on("memory")
    applied = machine.apply([Entry(1, 1), entry(2), Entry(2, 3, ENTRY_CONF_CHANGE, b"\x00"), entry(4, 2)], MEMBERS)
    assert applied == [Applied(2, 7, 2), Applied(4, 7, 4)], "index, origin and sequence of each proposal, in order"
    assert machine.applied_index == 4
    machine.apply([Entry(3, 5)])
    assert (machine.applied_index, machine.applied_term) == (5, 3)
    assert machine.conf_state == MEMBERS, "members that weren't given haven't changed"


def test_a_value_is_what_the_user_gave() -> None:
    """Also one that begins like Bitcask's tombstone, or like our escape: all engines have to take what one takes."""
    for value in (b"", b"=", b"==x", b"bitcask_tombstone", b"bitcask_tombstone2abcd", b"plain"):
        for engine in ("memory", "bitcask"):
            machine = machine_on(engine)
            machine.apply([entry(1, 1, (b"k", value))], MEMBERS)
            found = machine.lookup(b"k")
            assert found == value, f"{value!r} was put on {engine}, and {found!r} is read"


def test_an_entry_that_can_not_be_read_changes_nothing() -> None:
    """The node must stop: what it did next would make it differ from the others."""
    machine = machine_on("memory")
    machine.apply([entry(1)], MEMBERS)
    with pytest.raises(UndecodableEntry):
        machine.apply([entry(2, 1, (b"other", b"x")), Entry(1, 3, data=b"nobody's")])
    assert machine.applied_index == 1
    assert [key for key, _ in machine.scan()] == [b"key"]


def test_a_snapshot_file_is_whole_or_not_there(seed: int, history: History) -> None:
    """Temporary name, sync, rename, sync of the directory: what has a snapshot's name can be trusted after any crash."""
    disk = SimEnv()
    disk.makedirs("/snap", "test")
    path = write_snapshot("/snap", SnapshotMetadata(3, 1, MEMBERS), [(b"a", b"1")], disk)
    assert [found.path for found in find_snapshots("/snap", disk)] == [path]
    power_cuts(SnapshotSubject(rounds(60) + 12), seed, history, probe_share=0.05, second_cut_share=0.0)


def test_a_snapshot_that_is_given_up_leaves_no_file() -> None:
    def pairs() -> Iterator[tuple[bytes, bytes]]:
        yield b"a", b"1"
        raise ConnectionError("the peer is gone")

    disk = SimEnv()
    disk.makedirs("/snap", "test")
    with pytest.raises(ConnectionError):
        write_snapshot("/snap", SnapshotMetadata(3, 1, MEMBERS), pairs(), disk)
    assert disk.list("/snap") == [], "neither under the snapshot's name nor under another one"


@pytest.mark.parametrize("engine", ENGINES)
def test_any_engine_takes_the_snapshot_of_any_other(engine: str) -> None:
    """A snapshot is a stream of sorted pairs, so an LSM leader can send it to a B+tree follower."""
    disk = SimEnv()
    disk.makedirs("/snap", "test")
    for other in ENGINES:
        source = machine_on(engine)
        source.apply([entry(index, 1, (b"k%d" % index, b"v" * index)) for index in range(1, 30)], MEMBERS)
        metadata, view = source.snapshot()
        path = write_snapshot("/snap", metadata, view.scan(), disk)
        target = machine_on(other)
        target.apply([entry(1, 1, (b"gone", b"x"))], MEMBERS)
        target.recover_from_snapshot(*read_snapshot(path, disk))
        told = f"a snapshot of {engine} in {other}"
        assert list(target.store.scan()) == list(source.store.scan()), told
        assert (target.applied_index, target.conf_state) == (29, MEMBERS), told
        with pytest.raises(CorruptionError):
            target.recover_from_snapshot(SnapshotMetadata(30, 1, MEMBERS), read_snapshot(path, disk)[1])


# ---- a node ---------------------------------------------------------------------------------------------------------


def app(term: int, prev: tuple[int, int], entries: Sequence[Entry], commit: int, leader: int = 2) -> Message:
    """A leader's MsgApp to node 1; prev: term and index of the entry before these."""
    log_term, index = prev
    return Message(
        MSG_APP, to=1, from_=leader, term=term, log_term=log_term, index=index, entries=list(entries), commit=commit
    )


def test_a_restart_knows_term_vote_log_and_commit() -> None:
    disk = SimEnv()
    replica = Replica(1, "btree", disk)
    replica.step(app(4, (0, 0), [entry(1, 3), entry(2, 4)], commit=1))
    replica.step(app(4, (4, 2), [entry(3, 4)], commit=2))
    replica.step(app(4, (4, 3), [], commit=3))
    again = Replica(1, "btree", disk.crash(Policy.NOTHING, random.Random(0)))
    hard_state, members = again.storage.memory.initial_state()
    assert hard_state.term == 4
    assert again.log() == [(1, 3), (2, 4), (3, 4)]
    assert members == MEMBERS
    assert again.machine.applied_index <= hard_state.commit <= 3
    kept = Replica(1, "btree", disk.crash(Policy.EVERYTHING, random.Random(0)))
    assert kept.machine.applied_index == 3
    assert kept.storage.memory.initial_state()[0].commit == 3, (
        "what the engine has applied was committed, whatever the log says of it"
    )


def test_a_commit_index_alone_is_not_written() -> None:
    """It is in the next save, and the leader tells it again after a restart. An fsync for it would double the cost."""
    disk = SimEnv()
    replica = Replica(1, "memory", disk)
    replica.step(app(2, (0, 0), [entry(1, 2)], commit=0))
    saves = replica.storage.stats()["saves"]
    replica.step(app(2, (2, 1), [], commit=1))
    assert replica.machine.applied_index == 1, "it was heard of"
    assert replica.storage.stats()["saves"] == saves, "a commit index that moved was written for itself"
    replica.step(app(2, (2, 1), [entry(2, 2)], commit=1))
    again = Replica(1, "memory", disk.crash(Policy.NOTHING, random.Random(0)))
    assert again.storage.memory.initial_state()[0].commit == 1, "the next save has the commit index"


def test_promises_leave_after_the_disk_and_requests_before() -> None:
    """A leader's MsgApp may overtake its own fsync (thesis 10.2.1); an answer that promises something may not."""
    events: list[str] = []
    disk = SimEnv()
    replica = Replica(1, "memory", disk, on_send=lambda message: events.append(message.type), pre_vote=False)
    disk.after_call = lambda call: events.append("disk") if call.site == "server.wal.append" else None
    replica.step(Message(MSG_VOTE, to=1, from_=2, term=5, log_term=0, index=0))
    assert events == ["disk", MSG_VOTE_RESP], (
        f"a vote has to be on disk before it leaves, and what happened is {events}"
    )
    events.clear()
    replica.step(app(5, (0, 0), [entry(1, 5)], commit=0))
    assert events == ["disk", MSG_APP_RESP], f"an entry has to be on disk before it is acknowledged: {events}"
    replica.campaign()
    term = replica.raft.term
    events.clear()
    replica.step(Message(MSG_VOTE_RESP, to=1, from_=3, term=term))
    assert events[:2] == [MSG_APP, MSG_APP], (
        f"a leader's MsgApp needn't wait for its own disk, and what happened is {events}"
    )
    assert "disk" in events


def test_members_that_changed_stay_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine is told of them, Raft is told before `advance`, and after a restart they count, not the older mark's."""
    disk = SimEnv(1)
    node = Replica(1, "btree", disk, snapshot_entries=3, catch_up_entries=0)
    node.step(app(1, (0, 0), [entry(index) for index in range(1, 4)], commit=3))
    assert node.storage.memory.snapshot().metadata.index == 3, "three entries were applied, so the log is cut"
    events: list[str] = []
    advance, change = RawNode.advance, RawNode.apply_conf_change

    def advanced(raft: RawNode) -> None:
        events.append("advance")
        advance(raft)

    def changed(raft: RawNode, one: ConfChange) -> ConfState:
        events.append("change")
        return change(raft, one)

    monkeypatch.setattr(RawNode, "advance", advanced)
    monkeypatch.setattr(RawNode, "apply_conf_change", changed)
    added = ConfChange(CONF_CHANGE_ADD_NODE, 4).encode()
    node.step(app(1, (1, 3), [Entry(1, 4, ENTRY_CONF_CHANGE, added)], commit=4))
    at = events.index("change")
    assert events[at : at + 2] == ["change", "advance"] and events.count("change") == 1, (
        f"a membership change is put in force in the Ready that has it, before that is advanced: {events}"
    )
    members = ConfState((1, 2, 3, 4))
    assert node.machine.conf_state == members, f"node 4 was added, and the machine has {node.machine.conf_state}"
    again = Replica(1, "btree", disk.crash(Policy.EVERYTHING, random.Random(0)))
    found = again.storage.memory.initial_state()[1]
    assert found == members, f"node 4 was added after the mark, and after a restart the members are {found}"


def test_what_could_not_be_written_is_not_in_memory() -> None:
    """Raft reads `memory`: what is in there may be promised, so it comes after the disk."""
    disk = SimEnv()
    node = Replica(1, "memory", disk)

    def full(call: object) -> None:
        raise OSError("the disk is broken")

    disk.after_call = full
    with pytest.raises(OSError, match="the disk is broken"):
        node.step(app(2, (0, 0), [entry(1, 2)], commit=0))
    memory = node.storage.memory
    assert (memory.last_index(), memory.initial_state()[0].term) == (0, 0), (
        "the save has failed: its entry is not there"
    )


def test_the_directory_hears_of_each_new_segment() -> None:
    """After a save and after a mark: the directory then refuses a log whose newest segment is gone. Segments go last."""
    events: list[str] = []
    disk = SimEnv(1)
    node = Replica(1, "memory", disk, (1,))
    node.campaign()
    note, release = node.directory.note_segment, node.directory.wal.release

    def noted() -> None:
        events.append("note")
        note()

    def released(index: int) -> None:
        events.append("release")
        release(index)

    node.directory.note_segment, node.directory.wal.release = noted, released  # type: ignore[method-assign]
    sites = {"server.wal.append": "save", "server.wal.mark": "mark"}
    disk.after_call = lambda call: events.append(sites[call.site]) if call.site in sites else None
    node.propose((b"k", b"1"))
    assert events[:2] == ["save", "note"], f"after a save, `note_segment`: {events}"
    events.clear()
    node.storage.cut(SnapshotMetadata(2, 1, ConfState((1,))), NodeConfig(1, {}, ""))
    assert events == ["mark", "note", "release"], f"mark, `note_segment`, `release`, in this order: {events}"


def test_a_read_is_answered_as_soon_as_its_index_is_applied() -> None:
    """After the apply and not before it, or it waits for the next write, which may never come."""
    node = Replica(1, "memory", SimEnv(1), (1,))
    node.campaign()
    answered: list[int] = []
    node.reads.answer = answered.append  # type: ignore[assignment, method-assign]
    for number in range(3):
        node.propose((b"k", b"%d" % number))
        last = node.machine.applied_index
        assert answered and answered[-1] == last, (
            f"{last} entries are applied, and reads were answered up to {answered}"
        )


Story = list[Callable[[Replica], object]]


def follower_story() -> tuple[Story, list[list[tuple[int, int]]]]:
    """What happens to node 1, and its log after each step: entries, an election, and a new leader's log that wins."""
    one = [entry(index, 1) for index in range(1, 6)]
    two = [entry(index, 3) for index in range(4, 7)]
    story: Story = [
        lambda node: node.step(Message(MSG_VOTE, to=1, from_=2, term=1)),
        lambda node: node.step(app(1, (0, 0), one[:2], commit=0)),
        lambda node: node.step(app(1, (1, 2), one[2:], commit=2)),
        lambda node: node.step(app(1, (1, 5), [], commit=3)),
        lambda node: node.step(Message(MSG_VOTE, to=1, from_=3, term=3, log_term=1, index=5)),
        lambda node: node.step(app(3, (1, 3), two, commit=3, leader=3)),
        lambda node: node.step(app(3, (3, 6), [], commit=6, leader=3)),
    ]
    logs = [[], places(one[:2]), places(one), places(one), places(one), places(one[:3] + two), places(one[:3] + two)]
    return story, logs


def effect(upto: int) -> list[tuple[bytes, bytes]]:
    """What the story's entries make of the state: each puts the same key."""
    return [(b"key", b"%d of term %d" % (upto, 1 if upto <= 3 else 3))] if upto else []


class Ledger:
    """What a follower has promised so far: its terms, its votes, and how far in the story it has acknowledged the log."""

    def __init__(self) -> None:
        self.term = 0
        self.votes: dict[int, int] = {}
        self.step = -1  # which of the story is going on
        self.acknowledged = -1  # the last one whose log was acknowledged

    def sent(self, message: Message) -> None:
        self.term = max(self.term, message.term)
        if message.type == MSG_VOTE_RESP and not message.reject:
            self.votes[message.term] = message.to
        if message.type == MSG_APP_RESP and not message.reject:
            self.acknowledged = self.step


@pytest.mark.parametrize("engine", ENGINES)
def test_a_power_cut_between_any_two_steps_takes_no_promise(engine: str, rng: random.Random, history: History) -> None:
    """After every call of the disk and after every message: what was promised is there, and each entry is applied once."""
    story, logs = follower_story()
    ledger = Ledger()
    disk = SimEnv(rng.getrandbits(32))
    policies = list(Policy) if rounds(8) == 8 else [Policy.EVERYTHING, Policy.NOTHING]

    def look(what: str) -> None:
        history.note(what)
        for policy in policies:
            judge(engine, disk.crash(policy, rng), ledger, logs, f"{what}; on the disk stays {policy.meaning}")

    def on_send(message: Message) -> None:
        ledger.sent(message)
        look(f"the power is cut after {message.type} to node {message.to} was sent")

    node = Replica(1, engine, disk, on_send=on_send)
    disk.after_call = lambda call: look(f"the power is cut after {call.kind} {call.path} {call.site}")
    for ledger.step, happens in enumerate(story):
        history.do(f"step {ledger.step} of the story")
        happens(node)
    assert node.content() == effect(6)


def judge(engine: str, disk: SimEnv, ledger: Ledger, logs: list[list[tuple[int, int]]], when: str) -> None:
    """Starts the node again after a power cut, and holds it against what it has promised."""
    again = Replica(1, engine, disk)
    hard_state = again.storage.memory.initial_state()[0]
    assert hard_state.term >= ledger.term, f"{when}: it has spoken of term {ledger.term}, and knows {hard_state.term}"
    voted = ledger.votes.get(hard_state.term)
    assert voted in (None, hard_state.vote), f"{when}: in term {hard_state.term} its vote went to {voted}"
    possible = (
        logs[max(ledger.acknowledged, 0) : ledger.step + 1]
        if ledger.acknowledged >= 0
        else [[], *logs[: ledger.step + 1]]
    )
    assert again.log() in possible, f"{when}: it has the log {again.log()}, and may have one of {possible}"
    applied = again.machine.applied_index
    assert again.content() == effect(applied), (
        f"{when}: the engine says that it has applied {applied} entries, and has {again.content()}"
    )


def test_nothing_is_applied_that_is_not_on_disk(rng: random.Random) -> None:
    """A cluster of one node: its own log is the majority, and a power cut at the moment of the apply must not take it."""
    disk = SimEnv(1)
    node = Replica(1, "memory", disk, (1,))
    node.campaign()
    apply = node.machine.apply
    checked: list[int] = []

    def watched(entries: Sequence[Entry], conf_state: ConfState | None = None) -> list[Applied]:
        again = Replica(1, "memory", disk.crash(Policy.NOTHING, rng), (1,))
        found = again.storage.memory.last_index()
        assert found >= entries[-1].index, f"entry {entries[-1].index} is applied, and the disk's log ends at {found}"
        checked.append(entries[-1].index)
        return apply(entries, conf_state)

    node.machine.apply = watched  # type: ignore[method-assign]
    for number in range(5):
        node.propose((b"k", b"%d" % number))
    assert checked == [2, 3, 4, 5, 6], f"each entry is applied once, in order; applied were {checked}"


def applied_by(node: Replica) -> list[int]:
    """The indexes of all entries that the node's machine will be given from now on."""
    applied: list[int] = []
    apply = node.machine.apply

    def watched(entries: Sequence[Entry], conf_state: ConfState | None = None) -> list[Applied]:
        applied.extend(each.index for each in entries)
        return apply(entries, conf_state)

    node.machine.apply = watched  # type: ignore[method-assign]
    return applied


@pytest.mark.parametrize("engine", ENGINES)
def test_a_restart_applies_what_the_engine_lacks(engine: str, rng: random.Random) -> None:
    """An engine on disk may have all, some, or none of it after a power cut; a map in memory has nothing, ever."""
    disk = SimEnv(1)
    node = Replica(1, engine, disk, (1,))
    node.campaign()
    for number in range(5):
        node.propose((b"k", b"%d" % number))
    for policy in Policy:
        again = Replica(1, engine, disk.crash(policy, rng), (1,))
        had = again.machine.applied_index
        applied = applied_by(again)
        again.campaign()
        again.propose((b"k", b"last"))
        assert applied == list(range(had + 1, 9)), f"{had} entries of 8 were in the engine, and applied were {applied}"
        assert again.content() == [(b"k", b"last")]


def test_what_a_snapshot_has_already_is_not_applied_again() -> None:
    """Entries that are committed while a snapshot is loaded wait; if a newer snapshot comes meanwhile, it has them."""
    jobs: list[Callable[[], None]] = []
    node = Replica(1, "memory", SimEnv(1), run_job=jobs.append)
    node.step(app(1, (0, 0), [], commit=0))
    applied = applied_by(node)
    node.take(*snapshot_of(10))
    node.step(app(1, (1, 10), [entry(11), entry(12)], commit=12))
    node.take(*snapshot_of(15))
    node.step(app(1, (1, 15), [entry(16)], commit=16))
    assert applied == [], "nothing is applied while a snapshot is being loaded"
    while jobs:
        jobs.pop(0)()
        node.run()
    assert applied == [16], f"the snapshots have entries 1 to 15, and applied were {applied}"
    assert node.content() == [(b"key", b"16 of term 1")]


def test_what_is_committed_while_a_snapshot_is_loaded_waits() -> None:
    """It comes with several Readies, and each follows on what waits already."""
    jobs: list[Callable[[], None]] = []
    node = Replica(1, "memory", SimEnv(1), run_job=jobs.append)
    node.step(app(1, (0, 0), [], commit=0))
    applied = applied_by(node)
    node.take(*snapshot_of(10))
    node.step(app(1, (1, 10), [entry(11)], commit=11))
    node.step(app(1, (1, 11), [entry(12), entry(13)], commit=13))
    assert applied == [], f"a snapshot is being loaded, and {applied} were applied meanwhile"
    while jobs:
        jobs.pop(0)()
        node.run()
    assert applied == [11, 12, 13], f"the snapshot ends with entry 10, 13 are committed, and applied were {applied}"


def snapshot_of(upto: int) -> tuple[Message, bytes]:
    """Node 2, the leader of term 1, sends node 1 its state after so many entries, with its file."""
    disk = SimEnv()
    disk.makedirs("/snap", "test")
    machine = machine_on("memory")
    machine.apply([entry(index) for index in range(1, upto + 1)], MEMBERS)
    metadata, view = machine.snapshot()
    path = write_snapshot("/snap", metadata, view.scan(), disk)
    with closing(disk.open(path, "r")) as file:
        content = file.pread(file.size(), 0)
    return Message(MSG_SNAP, to=1, from_=2, term=1, snapshot=Snapshot(metadata)), content


@pytest.mark.parametrize("engine", ENGINES)
def test_the_log_is_bounded(engine: str) -> None:
    """After a cut the log has what follows it, and a few entries in memory for followers that are slow."""
    disk = SimEnv(1)
    node = Replica(1, engine, disk, (1,), snapshot_entries=20, catch_up_entries=5)
    node.campaign()
    for number in range(rounds(160) + 60):
        node.propose((b"k%d" % (number % 7), b"%d" % number))
        assert len(node.log()) <= 20 + 5 + 2, (
            f"after {number + 1} writes the log in memory has {len(node.log())} entries"
        )
    again = Replica(1, engine, disk.crash(Policy.NOTHING, random.Random(0)), (1,))
    assert again.storage.memory.last_index() - again.storage.memory.snapshot().metadata.index <= 20 + 2
    again.campaign()
    assert again.content() == node.content(), "and with what is left of the log nothing is lost"


@pytest.mark.parametrize("engine", ("memory", "btree"))
def test_a_power_cut_while_the_log_is_cut_loses_nothing(engine: str, rng: random.Random) -> None:
    """What survives without the log is durable first; then the mark; and only then does anything go."""
    disk = SimEnv(1)
    node = Replica(1, engine, disk, (1,), snapshot_entries=6, catch_up_entries=0)
    node.campaign()
    written = 0

    def look(what: str) -> None:
        policy = rng.choice(list(Policy))
        again = Replica(1, engine, disk.crash(policy, rng), (1,))
        again.campaign()
        found = dict(again.content())
        missing = [number for number in range(written) if b"%02d" % number not in found]
        assert not missing, (
            f"the power is cut after {what}; on the disk stays {policy.meaning}: writes {missing} are lost"
        )

    disk.after_call = lambda call: look(f"{call.kind} {call.path} {call.site}")
    for number in range(rounds(16) + 14):
        node.propose((b"%02d" % number, b"x"))
        written = number + 1


def test_a_leader_s_newer_snapshot_is_not_undone_by_an_older_cut() -> None:
    """A cut takes its time; when it is done, the leader may have sent a snapshot of a later index."""
    node = Replica(1, "memory", SimEnv(1), (1,))
    node.campaign()
    for number in range(9):
        node.propose((b"k", b"%d" % number))
    limits = NodeConfig(1, {}, "", catch_up_entries=0)
    for index in (7, 4):
        node.storage.cut(SnapshotMetadata(index, 1, ConfState((1,))), limits)
        assert node.storage.memory.snapshot().metadata.index == 7
    assert node.log()[-1] == (10, 1), "what follows the mark stays"


def test_a_lagging_node_catches_up_by_a_snapshot_of_another_engine(seed: int, history: History) -> None:
    """An LSM leader, a B+tree follower that was away while the log was cut, a Bitcask that went on: all the same in the end."""
    cluster = Cluster(["lsm", "btree", "bitcask"], seed, history, snapshot_entries=15, catch_up_entries=5)
    leader = cluster.elect(1)
    leader.propose((b"first", b"1"))
    cluster.settle()
    cluster.kill(2, Policy.NOTHING)
    for number in range(rounds(100) + 30):
        leader.propose((b"k%02d" % (number % 40), b"%d" % number))
        cluster.settle()
    cluster.start(2)
    cluster.tick(4)
    leader.propose((b"last", b"1"))
    cluster.settle()
    assert cluster.snapshots_sent >= 1, "the entries that node 2 lacks were cut from the leader's log"
    contents = cluster.contents()
    assert contents[0] == contents[1] == contents[2], "three engines, one content, byte for byte"
    cluster.kill(2, Policy.NOTHING)
    cluster.start(2)
    cluster.tick(4)
    assert cluster.contents()[2] == cluster.contents()[0], "and it finds all of it again by itself"
    assert next(find_snapshots("/disk/node/snap", cluster.disks[2])).metadata.index > 15
