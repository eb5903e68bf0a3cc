"""A simulated node keeps the driver's contract (raft/rawnode.py), in one step or with two queues (threads.py)."""

from __future__ import annotations

import random

import pytest

from raft import ConfChange, ConfState, Entry, HardState, Message, Snapshot, SnapshotMetadata
from raft.kinds import ConfChangeType, EntryType, MessageType
from raft.simulation.application import Application
from raft.simulation.peer import Peer
from raft.simulation.threads import Threads


def _peer(**options: object) -> Peer:
    return Peer(1, ConfState((1,)), random.Random, **options)


def test_a_ready_is_durable_before_what_promises_it_leaves() -> None:
    """A candidate of two: its request for a vote waits for the write of its own."""
    peer = Peer(1, ConfState((1, 2)), random.Random)
    peer.node.campaign()
    assert peer.take() == []
    assert peer.records() == [HardState(1, 1, 0)]
    assert peer.disk.synced == 0
    peer.write()
    assert peer.records() == []
    assert peer.disk.synced == 1
    assert [message.type for message in peer.finish()] == [MessageType.VOTE]


def test_a_crash_loses_what_was_not_synced_and_what_was_applied() -> None:
    peer = _peer()
    peer.node.campaign()
    while peer.node.has_ready():
        peer.process()
    peer.node.propose(b"x")
    peer.take()
    peer.tear(peer.records()[:1])
    assert len(peer.disk.records) > peer.disk.synced
    peer.crash(random.Random(2))
    assert peer.application.index == 0
    assert not peer.up
    peer.start()
    assert peer.node.term == 1
    assert peer.storage.last_index() in (1, 2)


def test_an_entry_is_not_applied_before_it_is_on_disk() -> None:
    peer = _peer()
    with pytest.raises(AssertionError, match="entry 1 is applied before it is on disk"):
        peer.apply([Entry(1, 1)])


def test_a_change_that_an_installed_snapshot_has_is_not_made_again() -> None:
    """It was in a Ready that the snapshot has overtaken."""
    peer = _peer()
    snapshot = Snapshot(SnapshotMetadata(5, 1, ConfState((1,))), peer.application.snapshot())
    peer.store([snapshot], sync=True)
    peer.install(snapshot)
    peer.application.index = 5
    change = ConfChange(ConfChangeType.ADD_NODE, 2)
    peer.apply([Entry(1, 4, EntryType.CONF_CHANGE, change.encode())])
    assert peer.node.status().conf_state.voters == (1,)


def test_a_change_that_was_handed_out_before_a_snapshot_came_is_not_made_after_it() -> None:
    """A received snapshot puts its configuration in force at once (raft/membership.py; seed 20219 stopped over it)."""
    peer = Peer(1, ConfState((1, 2, 3)), random.Random)
    change = ConfChange(ConfChangeType.ADD_NODE, 4)
    entry = Entry(1, 1, EntryType.CONF_CHANGE, change.encode())
    peer.node.step(Message(MessageType.APP, 1, 2, term=1, entries=[entry], commit=1))
    peer.take()
    peer.write()
    later = ConfState((1, 2))
    snapshot = Snapshot(SnapshotMetadata(9, 1, later), Application().snapshot())
    peer.node.step(Message(MessageType.SNAP, 1, 2, term=1, snapshot=snapshot))
    peer.finish()
    assert peer.node.status().conf_state == later


def test_the_threads_answer_in_order_after_their_work() -> None:
    """Asynchronous storage writes of a single node: election, entry and commit need no advance."""
    peer = _peer(async_storage_writes=True)
    threads = Threads(peer)
    peer.node.campaign()
    handed_out = []
    for _ in range(10):
        while peer.node.has_ready():
            messages, _ = threads.hand_out()
            handed_out += messages
        for queue, work in ((threads.appends, threads.append), (threads.applies, threads.apply)):
            if queue:
                synced = peer.disk.synced
                for message in work():
                    assert work == threads.apply or peer.disk.synced > synced, "answered before it was synced"
                    peer.node.step(message)
    assert handed_out == []
    assert peer.node.commit_index == peer.application.index == 1
    assert peer.disk.hard_state().term == 1


def test_a_torn_write_of_the_append_thread_is_a_prefix_of_its_message() -> None:
    peer = _peer(async_storage_writes=True)
    threads = Threads(peer)
    assert threads.records() == []
    peer.node.campaign()
    threads.hand_out()
    assert threads.records() == [HardState(1, 1, 0)]
    peer.tear(threads.records())
    assert (peer.disk.records, peer.disk.synced) == ([HardState(1, 1, 0)], 0)
