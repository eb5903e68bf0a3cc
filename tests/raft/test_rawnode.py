"""RawNode: what a Ready holds, when it must be synced, and the contract with the driver."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest

from raft import (
    STATE_CANDIDATE,
    ConfState,
    Entry,
    HardState,
    MemoryStorage,
    Message,
    ProposalDroppedError,
    RaftPanic,
    RawNode,
    SoftState,
    StepLocalMsgError,
    StepPeerNotFoundError,
)
from raft.kinds import MessageType
from raft.raftpb import (
    MSG_APP,
    MSG_APP_RESP,
    MSG_BEAT,
    MSG_CHECK_QUORUM,
    MSG_HEARTBEAT,
    MSG_HEARTBEAT_RESP,
    MSG_HUP,
    MSG_PRE_VOTE_RESP,
    MSG_SNAP,
    MSG_SNAP_STATUS,
    MSG_STORAGE_APPEND,
    MSG_STORAGE_APPEND_RESP,
    MSG_STORAGE_APPLY,
    MSG_STORAGE_APPLY_RESP,
    MSG_UNREACHABLE,
    MSG_VOTE,
    MSG_VOTE_RESP,
)
from tests.raft.network import Network
from tests.raft.nodes import acknowledge, drain, entries, make_config, make_leader, make_peer


def test_a_new_node_has_nothing_to_do() -> None:
    node = RawNode(make_config())
    assert not node.has_ready()
    node.tick()
    assert not node.has_ready()


def test_a_single_voter_goes_from_nothing_to_a_committed_entry() -> None:
    """Each promise waits for the write of its own Ready: the vote, then the entry, then the commit is applied."""
    peer = make_peer(voters=(1,))
    peer.node.campaign()
    ready = peer.node.ready()
    assert ready.soft_state == SoftState(0, STATE_CANDIDATE)
    assert (ready.hard_state, ready.entries, ready.committed_entries) == (HardState(1, 1, 0), [], [])
    assert ready.must_sync
    peer.node.advance()
    ready = peer.node.ready()
    assert ready.soft_state is not None
    assert ready.soft_state.lead == 1
    assert (ready.hard_state, ready.entries, ready.committed_entries) == (None, [Entry(1, 1)], [])
    assert ready.must_sync
    peer.storage.append(ready.entries)
    peer.node.advance()
    ready = peer.node.ready()
    assert (ready.soft_state, ready.hard_state, ready.entries) == (None, HardState(1, 1, 1), [])
    assert ready.committed_entries == [Entry(1, 1)]
    assert not ready.must_sync, "only the commit index moved"
    peer.node.advance()
    assert not peer.node.has_ready()


def test_a_single_voter_commits_only_after_its_own_write() -> None:
    """etcd#14370: it answered its clients, crashed, and had lost what it had committed."""
    leader = make_leader(voters=(1,))
    leader.node.propose(b"x")
    leader.take()
    assert leader.node.status().commit == 1
    leader.write()
    leader.finish()
    assert leader.node.status().commit == 2


def test_a_leader_counts_itself_only_after_its_own_write() -> None:
    """With one of two followers' acknowledgements there are two of three, but only if the leader's own disk has it."""
    leader = make_leader()
    acknowledge(leader, 2, 1)
    leader.node.propose(b"x")
    leader.take()
    leader.node.step(Message(MSG_APP_RESP, to=1, from_=2, term=1, index=2))
    assert leader.node.status().commit == 1
    leader.write()
    leader.finish()
    assert leader.node.status().commit == 2


def test_a_quorum_of_others_commits_but_nothing_is_applied_before_it_is_written_here() -> None:
    leader = make_leader()
    acknowledge(leader, 2, 1)
    leader.node.propose(b"x")
    leader.take()
    for node_id in (2, 3):
        leader.node.step(Message(MSG_APP_RESP, to=1, from_=node_id, term=1, index=2))
    assert leader.node.status().commit == 2
    assert leader.node.raft.log.next_committed_entries() == []
    leader.write()
    leader.finish()
    ready = leader.node.ready()
    assert [entry.data for entry in ready.committed_entries] == [b"x"]


def test_a_leaders_entries_may_leave_before_its_own_write() -> None:
    """Thesis 10.2.1. Whatever else is in its Ready waits."""
    leader = make_leader()
    for node_id in (2, 3):
        acknowledge(leader, node_id, 1)
    leader.node.propose(b"x")
    assert [(m.type, m.to) for m in leader.take()] == [(MSG_APP, 2), (MSG_APP, 3)]


def test_a_candidates_requests_wait_for_its_term() -> None:
    peer = make_peer()
    peer.node.campaign()
    assert peer.take() == []
    peer.write()
    assert [m.type for m in peer.finish()] == [MSG_VOTE, MSG_VOTE]


def test_what_happens_between_ready_and_advance_is_in_the_next_one() -> None:
    leader = make_leader()
    leader.node.propose(b"a")
    leader.take()
    leader.node.propose(b"b")
    assert leader.ready is not None
    assert [entry.data for entry in leader.ready.entries] == [b"a"]
    leader.write()
    leader.finish()
    assert [entry.data for entry in leader.node.ready().entries] == [b"b"]


def test_entries_that_were_replaced_while_they_were_written_are_not_stable() -> None:
    """rabbitmq/ra#637: an acknowledgement covered what the disk didn't have."""
    follower = make_peer(2)
    follower.node.step(Message(MSG_APP, to=2, from_=1, term=1, entries=entries(1, (1, 1, 1))))
    follower.take()
    follower.node.step(Message(MSG_APP, to=2, from_=3, term=2, entries=entries(1, (2, 2, 2)), commit=3))
    follower.write()
    assert [(m.term, m.index) for m in follower.finish()] == [(1, 3)]
    assert follower.node.raft.log.unstable.offset == 1, "of term 2, nothing is written yet"
    assert follower.node.raft.log.next_committed_entries(allow_unstable=False) == []
    follower.take()
    assert follower.ready is not None
    assert [entry.term for entry in follower.ready.entries] == [2, 2, 2]
    assert [entry.term for entry in follower.ready.committed_entries] == [2, 2, 2]
    follower.write()
    assert [(m.term, m.index) for m in follower.finish()] == [(2, 3)]


def test_entries_of_an_old_term_become_stable_with_the_next_ready() -> None:
    """The write was good, but the term that reports it has passed; the new term's Ready reports it again."""
    follower = make_peer(2)
    follower.node.step(Message(MSG_APP, to=2, from_=1, term=1, entries=entries(1, (1, 1))))
    follower.take()
    follower.node.step(Message(MSG_HEARTBEAT, to=2, from_=3, term=2))
    follower.write()
    follower.finish()
    assert len(follower.node.raft.log.unstable.entries) == 2
    drain(follower)
    assert follower.node.raft.log.unstable.entries == []
    assert follower.storage.last_index() == 2


def test_ready_and_advance_alternate() -> None:
    peer = make_peer()
    with pytest.raises(RaftPanic, match="without a ready"):
        peer.node.advance()
    peer.node.campaign()
    peer.node.ready()
    with pytest.raises(RaftPanic, match="again before advance"):
        peer.node.ready()


def test_a_restarted_node_hands_out_what_is_committed_and_not_applied() -> None:
    peer = make_peer(terms=(1, 1, 1), commit=2)
    ready = peer.node.ready()
    assert [entry.index for entry in ready.committed_entries] == [1, 2]
    assert (ready.hard_state, ready.soft_state, ready.must_sync) == (None, None, False)


@pytest.mark.parametrize(("applied", "expected"), [(0, [1, 2]), (1, [2]), (2, []), (3, [])])
def test_what_is_applied_is_not_handed_out_again(applied: int, expected: list[int]) -> None:
    """An application that is ahead of the saved commit index vouches for it: that alone isn't synced."""
    storage = MemoryStorage(ConfState((1, 2, 3)))
    storage.append(entries(1, (1, 1, 1)))
    storage.set_hard_state(HardState(1, 0, 2))
    node = RawNode(make_config(storage=storage, applied=applied))
    assert node.status().commit == max(2, applied)
    assert node.status().applied == applied
    assert [entry.index for entry in node.raft.log.next_committed_entries()] == expected


@pytest.mark.parametrize(("commit", "applied"), [(4, 0), (3, 4)])
def test_a_log_that_was_lost_stops_the_node(commit: int, applied: int) -> None:
    """etcd: "state.commit is out of range"."""
    storage = MemoryStorage(ConfState((1, 2, 3)))
    storage.append(entries(1, (1, 1, 1)))
    storage.set_hard_state(HardState(1, 0, commit))
    with pytest.raises(RaftPanic, match="log ends at 3"):
        RawNode(make_config(storage=storage, applied=applied))


def test_a_heartbeat_beyond_the_log_stops_the_node() -> None:
    """The leader says no more than was acknowledged; so something that was acknowledged is gone."""
    peer = make_peer(terms=(1,))
    with pytest.raises(RaftPanic, match="cut, lost, or replaced by an older one"):
        peer.node.step(Message(MSG_HEARTBEAT, to=1, from_=2, term=1, commit=5))


def test_an_acknowledgement_beyond_the_log_stops_the_leader() -> None:
    leader = make_leader()
    with pytest.raises(RaftPanic, match="node 2 acknowledges entry 5"):
        leader.node.step(Message(MSG_APP_RESP, to=1, from_=2, term=1, index=5))


@pytest.mark.parametrize(
    "kind",
    [
        MSG_HUP,
        MSG_BEAT,
        MSG_UNREACHABLE,
        MSG_SNAP_STATUS,
        MSG_CHECK_QUORUM,
        MSG_STORAGE_APPEND,
        MSG_STORAGE_APPEND_RESP,
        MSG_STORAGE_APPLY,
        MSG_STORAGE_APPLY_RESP,
    ],
)
def test_local_messages_do_not_come_from_peers(kind: MessageType) -> None:
    peer = make_peer()
    with pytest.raises(StepLocalMsgError):
        peer.node.step(Message(kind, to=1, from_=2, term=1))


def test_a_message_without_a_term_is_no_message_of_a_peer() -> None:
    """Term 0 would make it local, and pass by all checks of terms."""
    peer = make_peer(term=3)
    for kind in (MSG_APP, MSG_HEARTBEAT, MSG_VOTE, MSG_SNAP):
        with pytest.raises(StepLocalMsgError):
            peer.node.step(Message(kind, to=1, from_=2))


@pytest.mark.parametrize("kind", [MSG_APP_RESP, MSG_HEARTBEAT_RESP, MSG_VOTE_RESP, MSG_PRE_VOTE_RESP])
def test_answers_of_strangers_are_refused(kind: MessageType) -> None:
    peer = make_peer()
    with pytest.raises(StepPeerNotFoundError, match="node 9"):
        peer.node.step(Message(kind, to=1, from_=9, term=1))


def test_a_message_for_another_node_is_refused() -> None:
    """A vote that went astray must not be counted."""
    peer = make_peer()
    with pytest.raises(StepPeerNotFoundError, match="for node 2"):
        peer.node.step(Message(MSG_VOTE_RESP, to=2, from_=3, term=1))


@pytest.mark.parametrize("role", ["follower", "candidate", "leader"])
@pytest.mark.parametrize("sender", [0, 1])
def test_a_message_of_nobody_or_of_the_node_itself_is_ignored(sender: int, role: str) -> None:
    """A peer with a wrong id, or none, would make a node follow itself, or send messages to itself."""
    peer = make_leader() if role == "leader" else make_peer(term=1)
    if role == "candidate":
        peer.node.campaign()
        drain(peer)
    term, lead = peer.node.term, peer.node.lead
    for kind in MessageType:
        message = Message(kind, to=1, from_=sender, term=term, reject=True, entries=[Entry(0, 0)])
        with contextlib.suppress(StepLocalMsgError, StepPeerNotFoundError, ProposalDroppedError):
            peer.node.step(message)
        assert (peer.node.term, peer.node.lead) == (term, lead)
    drain(peer)


@pytest.mark.parametrize("role", ["follower", "candidate", "leader"])
def test_every_kind_of_message_is_taken_or_ignored(role: str) -> None:
    """Nothing that a peer can send, empty as it may be, does more than the documented errors say."""
    for kind in MessageType:
        peer = make_leader() if role == "leader" else make_peer(term=1)
        if role == "candidate":
            peer.node.campaign()
            drain(peer)
        term = peer.node.term
        with contextlib.suppress(StepLocalMsgError, ProposalDroppedError):
            peer.node.step(Message(kind, to=1, from_=2, term=term))
        drain(peer)


@pytest.mark.parametrize("role", ["follower", "leader"])
def test_a_proposal_of_something_else_than_bytes_is_refused_before_it_is_appended(role: str) -> None:
    """In the log it would stop every later write of it, also on other nodes."""
    peer = make_leader() if role == "leader" else make_peer(term=1)
    last, size = peer.node.status().last_index, peer.node.raft.uncommitted_size
    text: Any = "text"
    with pytest.raises(TypeError, match="bytes-like object"):
        peer.node.propose_batch([b"a", text])
    assert (peer.node.status().last_index, peer.node.raft.uncommitted_size) == (last, size)


def test_committed_entries_are_handed_out_in_bounded_portions() -> None:
    storage = MemoryStorage(ConfState((1, 2, 3)))
    storage.append([Entry(1, index, data=b"x" * 83) for index in range(1, 11)])
    storage.set_hard_state(HardState(1, 0, 10))
    node = RawNode(make_config(storage=storage, max_committed_size_per_ready=250))
    portions = []
    while node.has_ready():
        portions.append([entry.index for entry in node.ready().committed_entries])
        node.advance()
    assert portions == [[1, 2], [3, 4], [5, 6], [7, 8], [9, 10]]


def test_a_limit_of_zero_still_lets_entries_through() -> None:
    """One in each message and one in each Ready; nothing would be applied if 0 meant no room at all."""
    network = Network(max_size_per_msg=0)
    network.elect(1)
    network.propose(1, b"a", b"b", b"c")
    network.tick()
    assert network.applied() == [[b"a", b"b", b"c"]] * 3


class Recorder:
    """A logger that keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def debug(self, template: str, /, *args: Any) -> None:
        self.lines.append(template % args)

    info = warning = debug


def test_a_logger_is_told_of_elections_and_snapshots() -> None:
    """Every template fits its arguments."""
    recorder = Recorder()
    network = Network(logger=recorder)
    network.elect(1)
    network.isolate(3)
    network.propose(1, b"a")
    network.peers[1].take_snapshot()
    network.heal()
    network.tick(3)
    network[2].campaign()
    network.settle()
    make_peer(4, logger=recorder).node.campaign()
    text = "\n".join(recorder.lines)
    for words in (
        "became follower at term 0",
        "1 became candidate at term 1",
        "1 became leader at term 1",
        "cast MsgVote for 1",
        "restored snapshot [index: 2, term: 1]",
        "with higher term from 2 [term: 2]",
        "4 is unpromotable and can not campaign",
    ):
        assert words in text
