"""Reads that wait (raft/read_only.py): positions, and what a quorum's answers confirm."""

from __future__ import annotations

import pytest

from raft import Entry, Message
from raft.quorum import JointConfig, MajorityConfig
from raft.raftpb import MSG_READ_INDEX
from raft.read_only import ReadOnly

THREE = JointConfig(MajorityConfig((1, 2, 3)))


def request(name: bytes) -> Message:
    return Message(MSG_READ_INDEX, entries=[Entry(0, 0, data=name)])


def waiting(*names: bytes) -> tuple[ReadOnly, list[bytes]]:
    """Reads of node 1, the leader, at commit indexes 10, 11, …; and the context of a heartbeat after each of them."""
    reads, contexts = ReadOnly(), []
    for index, name in enumerate(names, 10):
        reads.add_request(1, index, request(name))
        contexts.append(reads.heartbeat_context())
    return reads, contexts


def done(reads: ReadOnly, voters: JointConfig = THREE) -> list[tuple[int, bytes]]:
    return [(index, message.entries[0].data) for index, message in reads.advance(voters)]


def test_a_quorums_answers_confirm_all_reads_before_their_heartbeat_in_order() -> None:
    reads, contexts = waiting(b"a", b"b", b"c")
    assert done(reads) == [], "the leader alone is no quorum"
    reads.receive_ack(3, contexts[1])
    assert done(reads) == [(10, b"a"), (11, b"b")]
    reads.receive_ack(2, contexts[2])
    assert done(reads) == [(12, b"c")]
    assert reads.heartbeat_context() == b"", "nothing waits"


def test_late_and_repeated_answers_change_nothing() -> None:
    reads, contexts = waiting(b"a", b"b")
    reads.receive_ack(2, contexts[1])
    reads.receive_ack(2, contexts[0])
    assert done(reads) == [(10, b"a"), (11, b"b")]
    reads.add_request(1, 12, request(b"a"))
    for context in contexts:
        reads.receive_ack(2, context)
        reads.receive_ack(3, context)
    assert done(reads) == [], "the same name again is another read (etcd#20418)"


@pytest.mark.parametrize("context", [b"", b"a", b"12345678", (3).to_bytes(8, "little"), bytes(9)])
def test_what_is_no_position_given_out_here_is_ignored(context: bytes) -> None:
    reads, _ = waiting(b"a", b"b")
    for node_id in (2, 3):
        reads.receive_ack(node_id, context)
    assert done(reads) == []


def test_a_stranger_and_a_learner_confirm_nothing() -> None:
    reads, contexts = waiting(b"a")
    for node_id in (4, 5, 6):
        reads.receive_ack(node_id, contexts[0])
    assert done(reads) == []


def test_a_joint_configuration_confirms_with_both_majorities() -> None:
    joint = JointConfig(MajorityConfig((1, 2, 3)), MajorityConfig((1, 4, 5)))
    reads, contexts = waiting(b"a")
    reads.receive_ack(2, contexts[0])
    assert done(reads, joint) == []
    reads.receive_ack(4, contexts[0])
    assert done(reads, joint) == [(10, b"a")]


def test_a_leader_alone_confirms_itself() -> None:
    reads, _ = waiting(b"a")
    assert done(reads, JointConfig(MajorityConfig((1,)))) == [(10, b"a")]


def test_a_lease_is_counted_from_the_newest_heartbeat_that_a_quorum_has_answered() -> None:
    reads = ReadOnly()
    assert not reads.has_lease(THREE, 5), "nothing was sent yet"
    contexts = []
    for tick in (0, 3):
        reads.ticks = tick
        reads.open_round(1, 10)
        contexts.append(reads.heartbeat_context())
    assert not reads.has_lease(THREE, 5), "nobody has answered yet"
    reads.receive_ack(2, contexts[0])
    reads.ticks = 4
    assert reads.has_lease(THREE, 5)
    reads.ticks = 5
    assert not reads.has_lease(THREE, 5)
    reads.receive_ack(3, contexts[1])
    assert reads.has_lease(THREE, 5)
    reads.lease_is_void = True
    assert not reads.has_lease(THREE, 5)
