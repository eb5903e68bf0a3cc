"""The way of a message (raft/raft.py): the rules of terms, which hold in every role, and then the role's function."""

from __future__ import annotations

import pytest

from raft import Message
from raft.kinds import MessageType, StateType
from raft.raftpb import MSG_APP, MSG_HEARTBEAT, MSG_PRE_VOTE, MSG_PRE_VOTE_RESP, MSG_SNAP, MSG_VOTE
from tests.raft.nodes import make_raft

FOLLOWER, CANDIDATE, LEADER, PRE_CANDIDATE = StateType


@pytest.mark.parametrize("role", [FOLLOWER, PRE_CANDIDATE, CANDIDATE, LEADER])
@pytest.mark.parametrize("kind", [MSG_VOTE, MSG_APP])
def test_everybody_follows_a_higher_term(role: StateType, kind: MessageType) -> None:
    """etcd: TestAllServerStepdown: whatever the role, and without losing a log entry."""
    r = make_raft(role)
    last = r.log.last_index()
    r.step(Message(kind, to=1, from_=2, term=3, index=last, log_term=r.log.last_term()))
    assert (r.state, r.term, r.log.last_index()) == (FOLLOWER, 3, last)
    assert r.lead == (2 if kind == MSG_APP else 0), "only a leader's message tells who leads"


@pytest.mark.parametrize(
    ("kind", "reject", "term"), [(MSG_PRE_VOTE, False, 1), (MSG_PRE_VOTE_RESP, False, 1), (MSG_PRE_VOTE_RESP, True, 3)]
)
def test_a_term_that_has_not_begun_is_followed_by_nobody(kind: MessageType, reject: bool, term: int) -> None:
    """A pre-vote and its grant are about a later term; a refusal carries the term of its sender, which is real."""
    r = make_raft(FOLLOWER)
    r.step(Message(kind, to=1, from_=2, term=3, reject=reject))
    assert r.term == term


@pytest.mark.parametrize("role", [PRE_CANDIDATE, CANDIDATE])
def test_a_snapshot_at_a_candidate_makes_a_follower_first(role: StateType) -> None:
    """A leader's message ends a campaign of its term, whichever kind it is."""
    r = make_raft(role)
    r.step(Message(MSG_SNAP, to=1, from_=3, term=r.term))
    assert (r.state, r.lead) == (FOLLOWER, 3)


def test_time_makes_a_follower_campaign_and_a_leader_send_heartbeats() -> None:
    follower, leader = make_raft(FOLLOWER), make_raft(LEADER)
    for _ in range(follower.randomized_election_timeout - 1):
        follower.tick()
    assert follower.state == FOLLOWER
    follower.tick()
    assert (follower.state, follower.election_elapsed) == (CANDIDATE, 0)
    leader.tick()
    assert [message.type for message in leader.messages] == [MSG_HEARTBEAT, MSG_HEARTBEAT]
