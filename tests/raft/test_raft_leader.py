"""The leader (raft/leader.py): how it opens its term, what it does with time, and whom it listens to."""

from __future__ import annotations

import pytest

from raft import Message
from raft.kinds import MessageType, StateType
from raft.raftpb import (
    MSG_APP,
    MSG_APP_RESP,
    MSG_BEAT,
    MSG_CHECK_QUORUM,
    MSG_HEARTBEAT,
    MSG_HEARTBEAT_RESP,
    MSG_TRANSFER_LEADER,
)
from raft.tracker import STATE_PROBE, STATE_REPLICATE
from tests.raft.nodes import acknowledge, drain, make_leader, make_peer, of_type


def test_a_term_is_opened_with_an_empty_entry_that_is_never_refused() -> None:
    """Its commit commits all before it. Limits of size don't hold for it, or the term could not begin."""
    peer = make_peer(voters=(1,), terms=(1, 1), max_uncommitted_entries_size=1)
    peer.node.campaign()
    drain(peer)
    assert peer.log()[2:] == [(3, 2)]
    assert peer.node.raft.log.entries(3, 100)[0].data == b""
    assert peer.node.commit_index == 3


def test_membership_changes_wait_until_what_the_leader_found_is_applied() -> None:
    """One of the entries that it took over may be a change; it doesn't look which."""
    r = make_peer(terms=(1, 1, 1)).node.raft
    r.become_candidate()
    r.become_leader()
    assert r.pending_conf_index == 3


@pytest.mark.parametrize("heartbeat_tick", [1, 3])
def test_heartbeats_come_in_their_rhythm(heartbeat_tick: int) -> None:
    leader = make_leader(heartbeat_tick=heartbeat_tick)
    beats = 0
    for _ in range(9):
        leader.node.tick()
        beats += len(of_type(drain(leader), MSG_HEARTBEAT))
    assert beats == 9 // heartbeat_tick * 2


@pytest.mark.parametrize("kind", [MSG_APP_RESP, MSG_HEARTBEAT_RESP, MSG_TRANSFER_LEADER])
def test_who_is_no_member_has_no_part(kind: MessageType) -> None:
    leader = make_leader()
    leader.node.raft.step(Message(kind, to=1, from_=9, term=1, index=1))
    assert not leader.node.has_ready()
    assert leader.node.raft.lead_transferee == 0


def test_a_leader_is_made_to_beat_or_to_look_at_its_quorum() -> None:
    leader = make_leader(check_quorum=True)
    acknowledge(leader, 2, 1)
    r = leader.node.raft
    r.step(Message(MSG_BEAT, from_=1))
    assert [message.type for message in r.messages] == [MSG_HEARTBEAT, MSG_HEARTBEAT]
    r.step(Message(MSG_CHECK_QUORUM, from_=1))
    assert r.state == StateType.LEADER, "node 2 was heard, and is a quorum with it"
    r.step(Message(MSG_CHECK_QUORUM, from_=1))
    assert r.state == StateType.FOLLOWER, "nobody was heard since"


def test_a_loss_that_is_reported_makes_a_replicated_follower_a_probed_one() -> None:
    leader = make_leader()
    acknowledge(leader, 2, 1)
    leader.node.propose(b"x")
    drain(leader)
    progress = leader.node.raft.tracker.progress[2]
    assert (progress.state, progress.next) == (STATE_REPLICATE, 3)
    leader.node.report_unreachable(2)
    assert (progress.state, progress.next) == (STATE_PROBE, 2)
    leader.node.propose(b"y")
    (append,) = (message for message in of_type(drain(leader), MSG_APP) if message.to == 2)
    assert (append.index, len(append.entries)) == (1, 2), "what may be lost is sent again"
