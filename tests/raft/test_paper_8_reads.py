"""Section 8 of the paper and 6.4 of the thesis: linearizable reads without writing to the log."""

from __future__ import annotations

from raft import Entry, Message, ReadState
from raft.quorum import JointConfig, MajorityConfig
from raft.raftpb import (
    MSG_APP,
    MSG_APP_RESP,
    MSG_HEARTBEAT,
    MSG_HEARTBEAT_RESP,
    MSG_READ_INDEX,
    MSG_READ_INDEX_RESP,
    MSG_VOTE_RESP,
)
from raft.read_only import MAX_PENDING_READS, ReadOnly
from tests.raft.network import Network, Peer
from tests.raft.nodes import acknowledge, drain, make_leader, make_peer, of_type


def open_leader() -> Peer:
    """A leader whose term is open: its first entry is committed."""
    leader = make_leader()
    acknowledge(leader, 2, 1)
    return leader


def contexts(messages: list[Message]) -> dict[int, bytes]:
    """What the last heartbeat to each node carries."""
    return {m.to: m.context for m in of_type(messages, MSG_HEARTBEAT)}


def respond(leader: Peer, from_: int, context: bytes) -> list[Message]:
    term = leader.node.status().term
    leader.node.step(Message(MSG_HEARTBEAT_RESP, to=1, from_=from_, term=term, context=context))
    return drain(leader)


def test_a_read_is_answered_when_a_quorum_has_confirmed_the_leader() -> None:
    leader = open_leader()
    leader.node.read_index(b"read")
    sent = contexts(drain(leader))
    assert set(sent) == {2, 3}
    assert leader.read_states == []
    respond(leader, 2, sent[2])
    assert leader.read_states == [ReadState(1, b"read")]


def test_one_heartbeat_confirms_all_reads_before_it() -> None:
    leader = open_leader()
    for number in range(5):
        leader.node.read_index(b"%d" % number)
    sent = contexts(drain(leader))
    respond(leader, 3, sent[3])
    assert [state.request_ctx for state in leader.read_states] == [b"0", b"1", b"2", b"3", b"4"]


def test_a_read_remembers_what_was_committed_when_it_was_asked_for() -> None:
    leader = open_leader()
    leader.node.read_index(b"early")
    early = contexts(drain(leader))
    leader.node.propose(b"x")
    drain(leader)
    acknowledge(leader, 2, 2)
    leader.node.read_index(b"late")
    late = contexts(drain(leader))
    respond(leader, 2, early[2])
    assert leader.read_states == [ReadState(1, b"early")]
    respond(leader, 2, late[2])
    assert leader.read_states[1:] == [ReadState(2, b"late")]


def test_a_late_answer_does_not_confirm_a_read_that_is_asked_again() -> None:
    """etcd#20418: heartbeats that answer the first request, and were under way when the second came, say nothing about
    the leader at that time, though the client's context is the same."""
    leader = open_leader()
    leader.node.read_index(b"same")
    first = contexts(drain(leader))
    respond(leader, 2, first[2])
    assert leader.read_states == [ReadState(1, b"same")]
    leader.node.read_index(b"same")
    second = contexts(drain(leader))
    assert second[3] != first[3]
    respond(leader, 3, first[3])
    assert len(leader.read_states) == 1, "a late answer to the first request must not confirm the second"
    respond(leader, 3, second[3])
    assert leader.read_states[1:] == [ReadState(1, b"same")]


def test_a_heartbeat_that_was_lost_is_made_up_for_by_the_next() -> None:
    leader = open_leader()
    leader.node.read_index(b"read")
    drain(leader)
    leader.node.tick()
    sent = contexts(drain(leader))
    respond(leader, 2, sent[2])
    assert leader.read_states == [ReadState(1, b"read")]
    leader.node.tick()
    assert contexts(drain(leader)) == {2: b"", 3: b""}, "nothing waits any more"


def test_no_read_is_answered_before_the_term_is_open() -> None:
    """etcd#7331: a new leader may not know what the last one has committed."""
    leader = make_leader(terms=(1, 1), commit=1)
    assert leader.node.status().commit == 1
    leader.node.read_index(b"early")
    for node_id in (2, 3):
        respond(leader, node_id, b"")
    assert leader.read_states == []
    sent = contexts(acknowledge(leader, 2, 3))
    assert leader.read_states == [], "now the quorum is asked"
    respond(leader, 2, sent[2])
    assert leader.read_states == [ReadState(3, b"early")]


def test_a_leader_that_was_replaced_answers_nothing() -> None:
    """Without the question to the quorum, it would answer with what it had."""
    network = Network()
    network.elect(1)
    network.tick()
    network.isolate(1)
    network.tick(60, ids=(2, 3))
    network.propose(network.leader(), b"news")
    network[1].read_index(b"stale")
    network.tick(5)
    assert network.peers[1].read_states == []
    network.heal()
    network.tick(5)
    assert network.peers[1].read_states == [], "its term is over, and its reads with it"


def test_answers_of_an_old_term_confirm_nothing() -> None:
    leader = open_leader()
    leader.node.read_index(b"old")
    old = contexts(drain(leader))
    leader.node.step(Message(MSG_APP, to=1, from_=2, term=2, index=1, log_term=1))
    leader.node.campaign()
    drain(leader)
    leader.node.step(Message(MSG_VOTE_RESP, to=1, from_=2, term=3))
    drain(leader)
    acknowledge(leader, 2, 2)
    leader.node.read_index(b"new")
    drain(leader)
    leader.node.step(Message(MSG_HEARTBEAT_RESP, to=1, from_=2, term=1, context=old[2]))
    drain(leader)
    assert leader.read_states == []


def test_a_follower_asks_its_leader() -> None:
    network = Network()
    network.elect(1)
    network.tick()
    network[3].read_index(b"read")
    network.settle()
    assert network.peers[3].read_states == [ReadState(1, b"read")]
    assert network.peers[1].read_states == []


def test_without_a_leader_a_read_is_lost_silently() -> None:
    peer = make_peer()
    peer.node.read_index(b"x")
    assert not peer.node.has_ready()
    peer.node.campaign()
    drain(peer)
    peer.node.read_index(b"x")
    assert not peer.node.has_ready()


def test_a_leader_alone_confirms_itself() -> None:
    leader = make_leader(voters=(1,))
    leader.node.read_index(b"read")
    drain(leader)
    assert leader.read_states == [ReadState(1, b"read")]


def test_malformed_requests_and_answers_are_ignored() -> None:
    """They come from the network."""
    leader = open_leader()
    leader.node.step(Message(MSG_READ_INDEX, to=1, from_=2))
    leader.node.step(Message(MSG_READ_INDEX, to=1, from_=2, entries=[Entry(0, 0), Entry(0, 0)]))
    assert of_type(drain(leader), MSG_HEARTBEAT) == []
    leader.node.read_index(b"read")
    drain(leader)
    for context in (b"x", b"\xff" * 8, bytes(8), b"\xff" * 9):
        respond(leader, 2, context)
    assert leader.read_states == []
    follower = make_peer(2)
    follower.node.step(Message(MSG_READ_INDEX_RESP, to=2, from_=1, term=1, index=3))
    drain(follower)
    assert follower.read_states == []


def test_an_answer_reaches_who_asked() -> None:
    leader = open_leader()
    leader.node.step(Message(MSG_READ_INDEX, to=1, from_=3, entries=[Entry(0, 0, data=b"ctx")]))
    sent = contexts(drain(leader))
    (answer,) = of_type(respond(leader, 2, sent[2]), MSG_READ_INDEX_RESP)
    assert (answer.to, answer.index, answer.entries[0].data) == (3, 1, b"ctx")


def test_waiting_reads_are_bounded() -> None:
    """A leader that is cut off, and doesn't know it, mustn't collect reads without end."""
    reads = ReadOnly()
    for _ in range(MAX_PENDING_READS + 10):
        reads.add_request(1, 1, Message(MSG_READ_INDEX))
    reads.receive_ack(2, reads.heartbeat_context())
    confirmed = reads.advance(JointConfig(MajorityConfig((1, 2, 3))))
    assert len(confirmed) == MAX_PENDING_READS


def test_a_read_waits_for_both_majorities_of_a_joint_configuration() -> None:
    reads = ReadOnly()
    reads.add_request(1, 7, Message(MSG_READ_INDEX))
    voters = JointConfig(MajorityConfig((1, 2, 3)), MajorityConfig((1, 4, 5)))
    reads.receive_ack(2, reads.heartbeat_context())
    assert reads.advance(voters) == []
    reads.receive_ack(5, reads.heartbeat_context())
    assert [index for index, _ in reads.advance(voters)] == [7]


def test_an_acknowledgement_of_entries_is_no_confirmation() -> None:
    leader = open_leader()
    leader.node.read_index(b"read")
    drain(leader)
    leader.node.step(Message(MSG_APP_RESP, to=1, from_=2, term=1, index=1))
    drain(leader)
    assert leader.read_states == []
