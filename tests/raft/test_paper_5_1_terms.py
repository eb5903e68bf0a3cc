"""Section 5.1 of the paper: terms are a clock that everybody follows.

"If one server's current term is smaller than the other's, then it updates its current term to the larger value. If a
candidate or leader discovers that its term is out of date, it immediately reverts to follower state. If a server
receives a request with a stale term number, it rejects the request."
"""

from __future__ import annotations

import pytest

from raft import Entry, Message
from raft.kinds import MessageType, StateType
from raft.raftpb import (
    MSG_APP,
    MSG_APP_RESP,
    MSG_HEARTBEAT,
    MSG_HEARTBEAT_RESP,
    MSG_SNAP,
    MSG_VOTE,
    MSG_VOTE_RESP,
)
from tests.raft.network import Peer
from tests.raft.nodes import drain, make_leader, make_peer, terms_of


def make(role: str) -> Peer:
    """A node in this role at term 1."""
    if role == "leader":
        return make_leader()
    peer = make_peer(term=0 if role == "candidate" else 1)
    if role == "candidate":
        peer.node.campaign()
        drain(peer)
    return peer


@pytest.mark.parametrize("role", ["follower", "candidate", "leader"])
@pytest.mark.parametrize(
    ("kind", "lead"),
    [
        (MSG_APP, 2),
        (MSG_HEARTBEAT, 2),
        (MSG_SNAP, 2),
        (MSG_APP_RESP, 0),
        (MSG_HEARTBEAT_RESP, 0),
        (MSG_VOTE, 0),
        (MSG_VOTE_RESP, 0),
    ],
)
def test_a_higher_term_makes_a_follower_of_it(role: str, kind: MessageType, lead: int) -> None:
    """Whatever carries it; only a leader's own messages say who leads."""
    peer = make(role)
    peer.node.step(Message(kind, to=1, from_=2, term=9))
    status = peer.node.status()
    assert (status.raft_state, status.term, status.lead) == (StateType.FOLLOWER, 9, lead)


@pytest.mark.parametrize("role", ["follower", "candidate", "leader"])
@pytest.mark.parametrize("kind", [MSG_APP, MSG_HEARTBEAT, MSG_APP_RESP, MSG_VOTE, MSG_VOTE_RESP, MSG_SNAP])
def test_a_stale_term_changes_nothing(role: str, kind: MessageType) -> None:
    peer = make(role)
    peer.node.step(Message(MSG_HEARTBEAT, to=1, from_=3, term=5))
    drain(peer)
    before, log = peer.node.status(), peer.log()
    peer.node.step(Message(kind, to=1, from_=2, term=4, index=9, log_term=4, commit=9, entries=[Entry(4, 10)]))
    assert (peer.node.status(), peer.log()) == (before, log)
    assert drain(peer) == []


def test_a_vote_is_forgotten_with_its_term_and_no_sooner() -> None:
    """One vote for each term: a new term has a new one, the same term has not."""
    peer = make_peer()
    peer.node.step(Message(MSG_VOTE, to=1, from_=2, term=3))
    assert peer.node.status().vote == 2
    peer.node.step(Message(MSG_HEARTBEAT, to=1, from_=3, term=3))
    assert peer.node.status().vote == 2
    peer.node.step(Message(MSG_HEARTBEAT, to=1, from_=3, term=4))
    assert peer.node.status().vote == 0


def test_the_leader_does_not_touch_its_own_log_when_it_falls_behind() -> None:
    """Leader Append-Only, and what follows it: the new leader decides what goes."""
    peer = make_leader(terms=(1, 1))
    assert terms_of(peer) == [1, 1, 2]
    peer.node.step(Message(MSG_HEARTBEAT, to=1, from_=2, term=9))
    drain(peer)
    assert terms_of(peer) == [1, 1, 2]
