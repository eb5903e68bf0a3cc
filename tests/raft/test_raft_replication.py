"""A leader and its followers (raft/replication.py): what is sent when, within the window, and how losses are found."""

from __future__ import annotations

import pytest

from raft import (
    SNAPSHOT_FAILURE,
    SNAPSHOT_FINISH,
    ConfState,
    Message,
    SnapshotTemporarilyUnavailableError,
)
from raft.raftpb import MSG_APP, MSG_APP_RESP, MSG_HEARTBEAT_RESP, MSG_SNAP
from raft.tracker import STATE_PROBE, STATE_REPLICATE, STATE_SNAPSHOT, Progress
from tests.raft.network import Peer
from tests.raft.nodes import acknowledge, drain, make_leader, of_type


def propose(peer: Peer, *datas: bytes) -> list[Message]:
    peer.node.propose_batch(datas)
    return drain(peer)


def follower(peer: Peer, node_id: int = 2) -> Progress:
    return peer.node.raft.tracker.progress[node_id]


def beat(peer: Peer, from_: int) -> list[Message]:
    """A heartbeat's answer."""
    term = peer.node.status().term
    peer.node.step(Message(MSG_HEARTBEAT_RESP, to=peer.id, from_=from_, term=term))
    return drain(peer)


def test_a_probed_follower_gets_one_message_until_it_answers() -> None:
    leader = make_leader()
    assert follower(leader).state == STATE_PROBE
    for _ in range(3):
        assert of_type(propose(leader, b"x"), MSG_APP) == []
    sent = of_type(acknowledge(leader, 2, 1), MSG_APP)
    assert [(m.index, len(m.entries)) for m in sent if m.to == 2][-1] == (1, 3)
    assert follower(leader).state == STATE_REPLICATE


def test_a_replicated_follower_is_sent_entries_ahead_of_its_answers() -> None:
    leader = make_leader()
    acknowledge(leader, 2, 1)
    for expected in (2, 3, 4):
        (message,) = [m for m in of_type(propose(leader, b"x"), MSG_APP) if m.to == 2]
        assert [entry.index for entry in message.entries] == [expected]
    assert follower(leader).next == 5


def test_a_full_window_stops_entries_until_an_answer_or_a_heartbeat() -> None:
    """etcd#14633: with all messages of the window lost, the follower would never be sent anything again."""
    leader = make_leader(max_inflight_msgs=2)
    acknowledge(leader, 2, 1)
    propose(leader, b"a")
    propose(leader, b"b")
    assert [m for m in of_type(propose(leader, b"c"), MSG_APP) if m.to == 2] == []
    (probe,) = of_type(beat(leader, 2), MSG_APP)
    assert (probe.index, probe.entries) == (3, []), "an empty message, whose refusal will show what was lost"
    leader.node.step(
        Message(MSG_APP_RESP, to=1, from_=2, term=1, index=3, reject=True, reject_hint=1, log_term=1),
    )
    (again,) = of_type(drain(leader), MSG_APP)
    assert [entry.index for entry in again.entries] == [2, 3, 4]


def test_one_answer_frees_the_window_up_to_it() -> None:
    leader = make_leader(max_inflight_msgs=2)
    acknowledge(leader, 2, 1)
    for data in (b"a", b"b", b"c", b"d"):
        propose(leader, data)
    sent = [m for m in of_type(acknowledge(leader, 2, 2), MSG_APP) if m.entries and m.to == 2]
    assert [[entry.index for entry in m.entries] for m in sent] == [[4, 5]]


def test_messages_are_cut_at_their_size() -> None:
    leader = make_leader(max_size_per_msg=2 * (17 + 10))
    acknowledge(leader, 2, 1)
    sent = [m for m in of_type(propose(leader, *[b"0123456789"] * 5), MSG_APP) if m.to == 2]
    # One message goes with the proposal; the next ones go when the follower answers, as many as the window takes.
    assert [len(m.entries) for m in sent] == [2]
    sent = [m for m in of_type(acknowledge(leader, 2, 3), MSG_APP) if m.entries and m.to == 2]
    assert [len(m.entries) for m in sent] == [2, 1]


def test_a_hint_without_a_term_is_taken_as_it_is() -> None:
    """The follower's log is cut there, so it can't say; the leader must not fall back to the beginning."""
    leader = make_leader(terms=(1, 1, 1, 1))
    leader.node.step(Message(MSG_APP_RESP, to=1, from_=2, term=2, index=4, reject=True, reject_hint=3, log_term=0))
    (message,) = [m for m in of_type(drain(leader), MSG_APP) if m.to == 2]
    assert message.index == 3


def test_an_unreachable_follower_is_probed_again() -> None:
    leader = make_leader()
    acknowledge(leader, 2, 1)
    propose(leader, b"lost")
    leader.node.report_unreachable(2)
    assert (follower(leader).state, follower(leader).next) == (STATE_PROBE, 2)
    (message,) = [m for m in of_type(beat(leader, 2), MSG_APP) if m.to == 2]
    assert [entry.index for entry in message.entries] == [2]


def test_a_heartbeat_brings_a_probed_follower_back() -> None:
    """It has everything, but the leader doesn't count on it: one empty message finds out."""
    leader = make_leader()
    acknowledge(leader, 2, 1)
    assert of_type(beat(leader, 2), MSG_APP) == [], "it is up to date, and known to be"
    leader.node.report_unreachable(2)
    (probe,) = of_type(beat(leader, 2), MSG_APP)
    assert (probe.index, probe.entries) == (1, [])
    acknowledge(leader, 2, 1)
    assert follower(leader).state == STATE_REPLICATE


def test_a_commit_is_told_once_and_only_to_whom_it_is_of_use() -> None:
    """Without entries to carry it, a commit index costs a message; a follower that was told gets no other."""
    leader = make_leader()
    assert [(m.to, m.commit) for m in of_type(acknowledge(leader, 2, 1), MSG_APP)] == [(2, 1)]
    assert of_type(acknowledge(leader, 2, 1), MSG_APP) == []
    assert [(m.to, m.commit) for m in of_type(acknowledge(leader, 3, 1), MSG_APP)] == [(3, 1)], "a late one"
    assert of_type(acknowledge(leader, 3, 1), MSG_APP) == []


def leader_with_snapshot() -> Peer:
    """A leader that has cut its log at 5; follower 3 needs what is gone."""
    leader = make_leader()
    acknowledge(leader, 2, 1)
    propose(leader, b"a", b"b", b"c", b"d")
    acknowledge(leader, 2, 5)
    leader.take_snapshot()
    return leader


def test_a_follower_that_needs_what_is_cut_gets_the_snapshot() -> None:
    """Paper section 7; but only once it was heard from, for a node that is down can't take it."""
    leader = leader_with_snapshot()
    leader.node.report_unreachable(3)
    leader.node.step(Message(MSG_APP_RESP, to=1, from_=3, term=1, index=0, reject=True, reject_hint=0))
    (message,) = of_type(drain(leader), MSG_SNAP)
    assert message.to == 3
    assert message.snapshot is not None
    assert message.snapshot.metadata.index == 5
    assert follower(leader, 3).state == STATE_SNAPSHOT
    assert [m for m in propose(leader, b"e") if m.to == 3] == [], "nothing else until the snapshot has ended"


@pytest.mark.parametrize(("status", "next"), [(SNAPSHOT_FINISH, 6), (SNAPSHOT_FAILURE, 1)])
def test_the_end_of_a_transfer_resumes_probing(status: int, next: int) -> None:
    leader = leader_with_snapshot()
    leader.node.step(Message(MSG_APP_RESP, to=1, from_=3, term=1, index=0, reject=True, reject_hint=0))
    drain(leader)
    leader.node.report_snapshot(3, status)
    assert (follower(leader, 3).state, follower(leader, 3).next) == (STATE_PROBE, next)
    assert follower(leader, 3).is_paused(), "until the follower's answer or heartbeat"
    assert of_type(drain(leader), MSG_SNAP) == []
    sent = [m for m in beat(leader, 3) if m.to == 3]
    assert [m.type for m in sent] == [MSG_APP if status == SNAPSHOT_FINISH else MSG_SNAP]


def test_an_acknowledgement_ends_the_snapshot_state() -> None:
    """etcd#10308: a follower that has caught up needs no report."""
    leader = leader_with_snapshot()
    leader.node.step(Message(MSG_APP_RESP, to=1, from_=3, term=1, index=0, reject=True, reject_hint=0))
    drain(leader)
    acknowledge(leader, 3, 5)
    assert (follower(leader, 3).state, follower(leader, 3).match) == (STATE_REPLICATE, 5)


def test_a_snapshot_that_is_not_ready_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    leader = leader_with_snapshot()
    storage = leader.storage
    snapshot = storage.snapshot()
    ready = False

    def later(self: object) -> object:
        if not ready:
            raise SnapshotTemporarilyUnavailableError("it is being made")
        return snapshot

    monkeypatch.setattr(type(storage), "snapshot", later)
    leader.node.step(Message(MSG_APP_RESP, to=1, from_=3, term=1, index=0, reject=True, reject_hint=0))
    assert of_type(drain(leader), MSG_SNAP) == []
    ready = True
    assert len(of_type(beat(leader, 3), MSG_SNAP)) == 1


def test_a_snapshot_without_the_follower_is_not_sent_to_it() -> None:
    """etcd#13741: it would be ignored and sent again, for ever."""
    leader = leader_with_snapshot()
    storage = leader.storage
    leader.node.propose(b"one more")
    drain(leader)
    acknowledge(leader, 2, 6)
    storage.create_snapshot(6, ConfState((1, 2)), b"")
    leader.node.step(Message(MSG_APP_RESP, to=1, from_=3, term=1, index=0, reject=True, reject_hint=0))
    assert of_type(drain(leader), MSG_SNAP) == []
