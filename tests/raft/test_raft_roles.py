"""Roles and the steps between them (raft/core.py, raft/raft.py): which there are, and what each change forgets."""

from __future__ import annotations

from typing import Any

import pytest

from raft import ConfState, Message, RaftPanic
from raft.kinds import MessageType, StateType
from raft.raft import Raft
from raft.raftpb import MSG_APP, MSG_APP_RESP, MSG_HEARTBEAT, MSG_SNAP, MSG_VOTE
from tests.raft.network import Peer
from tests.raft.nodes import drain, entries, make_leader, make_peer

FOLLOWER, CANDIDATE, LEADER, PRE_CANDIDATE = StateType


def raft_in(role: StateType, **options: Any) -> Raft:
    """A node that got into a role by the steps between them."""
    r = make_peer(term=1, **options).node.raft
    if role in (CANDIDATE, LEADER):
        r.become_candidate()
    elif role == PRE_CANDIDATE:
        r.become_pre_candidate()
    if role == LEADER:
        r.become_leader()
    return r


@pytest.mark.parametrize(
    ("role", "to", "term", "lead"),
    [
        (FOLLOWER, FOLLOWER, 1, 0),
        (FOLLOWER, PRE_CANDIDATE, 1, 0),
        (FOLLOWER, CANDIDATE, 2, 0),
        (PRE_CANDIDATE, FOLLOWER, 1, 0),
        (PRE_CANDIDATE, PRE_CANDIDATE, 1, 0),
        (PRE_CANDIDATE, CANDIDATE, 2, 0),
        (CANDIDATE, FOLLOWER, 2, 0),
        (CANDIDATE, PRE_CANDIDATE, 2, 0),
        (CANDIDATE, CANDIDATE, 3, 0),
        (CANDIDATE, LEADER, 2, 1),
        (LEADER, FOLLOWER, 2, 0),
        (LEADER, LEADER, 2, 1),
        (FOLLOWER, LEADER, None, None),
        (LEADER, CANDIDATE, None, None),
        (LEADER, PRE_CANDIDATE, None, None),
    ],
)
def test_a_step_between_roles_is_allowed_or_stops_the_node(
    role: StateType, to: StateType, term: int | None, lead: int | None
) -> None:
    """etcd: TestStateTransition. A leader steps down before it campaigns, a follower campaigns before it leads."""
    r = raft_in(role)
    change = {
        FOLLOWER: lambda: r.become_follower(r.term, 0),
        PRE_CANDIDATE: r.become_pre_candidate,
        CANDIDATE: r.become_candidate,
        LEADER: r.become_leader,
    }[to]
    if term is None:
        with pytest.raises(RaftPanic):
            change()
        return
    change()
    assert (r.state, r.term, r.lead) == (to, term, lead)


@pytest.mark.parametrize("role", [FOLLOWER, PRE_CANDIDATE, CANDIDATE, LEADER])
@pytest.mark.parametrize("kind", [MSG_VOTE, MSG_APP])
def test_everybody_follows_a_higher_term(role: StateType, kind: MessageType) -> None:
    """etcd: TestAllServerStepdown: whatever the role, and without losing a log entry."""
    r = raft_in(role)
    last = r.log.last_index()
    r.step(Message(kind, to=1, from_=2, term=3, index=last, log_term=r.log.last_term()))
    assert (r.state, r.term, r.log.last_index()) == (FOLLOWER, 3, last)
    assert r.lead == (2 if kind == MSG_APP else 0), "only a leader's message tells who leads"


@pytest.mark.parametrize(
    ("voters", "learners", "promotable"),
    [((1,), (), True), ((1, 2, 3), (), True), ((), (), False), ((2, 3), (), False), ((2, 3), (1,), False)],
)
def test_who_may_campaign(voters: tuple[int, ...], learners: tuple[int, ...], promotable: bool) -> None:
    """etcd: TestPromotable and TestLearnerPromotion: a voter, by its own configuration."""
    peer = Peer(1, ConfState(voters, learners))
    assert peer.node.raft.promotable() is promotable
    for _ in range(40):
        peer.node.tick()
    assert (peer.node.term > 0) is promotable


def test_a_change_of_role_forgets_what_only_the_role_knows() -> None:
    leader = make_leader()
    leader.node.propose(b"x")
    leader.node.transfer_leadership(2)
    leader.node.read_index(b"r")
    r = leader.node.raft
    r.become_follower(5, 2)
    assert (r.term, r.vote, r.lead, r.lead_transferee, r.uncommitted_size) == (5, 0, 2, 0, 0)
    assert (r.pending_conf_index, r.pending_read_index_messages) == (0, [])
    assert all(pr.match == (r.log.last_index() if node_id == 1 else 0) for node_id, pr in r.tracker.progress.items())


@pytest.mark.parametrize(("commit", "expected"), [(1, 2), (2, 2), (3, 3)])
def test_a_heartbeat_raises_the_commit_index_and_never_lowers_it(commit: int, expected: int) -> None:
    """etcd: TestHandleHeartbeat."""
    peer = make_peer(2, terms=(1, 2, 3), commit=2)
    peer.node.step(Message(MSG_HEARTBEAT, to=2, from_=1, term=3, commit=commit))
    (answer,) = drain(peer)
    assert answer.type == MessageType.HEARTBEAT_RESP
    assert peer.node.commit_index == expected


@pytest.mark.parametrize(
    ("prev", "entry_terms", "leader_commit", "last", "commit", "reject"),
    [
        ((2, 3), (), 3, 2, 0, True),  # another term there
        ((3, 3), (), 3, 2, 0, True),  # nothing there
        ((1, 1), (), 1, 2, 1, False),
        ((0, 0), (2,), 1, 1, 1, False),
        ((2, 2), (2, 2), 3, 4, 3, False),
        ((2, 2), (2,), 4, 3, 3, False),
        ((1, 1), (2,), 4, 2, 2, False),
        ((1, 1), (), 3, 2, 1, False),  # the commit index stays within what the message has shown
        ((1, 1), (2,), 3, 2, 2, False),
        ((2, 2), (), 3, 2, 2, False),
        ((2, 2), (), 4, 2, 2, False),
    ],
)
def test_the_receivers_rules_of_append_entries(
    prev: tuple[int, int], entry_terms: tuple[int, ...], leader_commit: int, last: int, commit: int, reject: bool
) -> None:
    """etcd: TestHandleMsgApp; paper, figure 2: AppendEntries, on a log 1 2."""
    peer = make_peer(2, terms=(1, 2))
    peer.node.step(
        Message(
            MSG_APP,
            to=2,
            from_=1,
            term=2,
            index=prev[0],
            log_term=prev[1],
            entries=entries(prev[0] + 1, entry_terms),
            commit=leader_commit,
        )
    )
    (answer,) = drain(peer)
    assert (answer.type, answer.reject) == (MSG_APP_RESP, reject)
    assert (peer.node.raft.log.last_index(), peer.node.commit_index) == (last, commit)


def test_a_snapshot_at_a_candidate_makes_a_follower_first() -> None:
    """A leader's message ends a campaign of its term, whichever kind it is."""
    peer = make_peer(2, term=1)
    peer.node.campaign()
    drain(peer)
    peer.node.step(Message(MSG_SNAP, to=2, from_=1, term=2))
    assert (peer.node.role, peer.node.lead) == (FOLLOWER, 1)
