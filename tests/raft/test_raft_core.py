"""What a node is (raft/core.py): the roles, the steps between them, and what each step forgets."""

from __future__ import annotations

import pytest

from raft import ConfState, Message, RaftPanic
from raft.kinds import MessageType, StateType
from raft.raftpb import MSG_APP_RESP, MSG_HEARTBEAT, MSG_PROP, MSG_READ_INDEX, MSG_VOTE, MSG_VOTE_RESP
from tests.raft.network import Peer
from tests.raft.nodes import make_leader, make_peer, make_raft

FOLLOWER, CANDIDATE, LEADER, PRE_CANDIDATE = StateType


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
    r = make_raft(role)
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


@pytest.mark.parametrize(
    ("kind", "term", "sent_term", "waits"),
    [
        (MSG_HEARTBEAT, 0, 1, False),
        (MSG_APP_RESP, 0, 1, True),
        (MSG_VOTE, 2, 2, False),
        (MSG_VOTE_RESP, 2, 2, True),
        (MSG_PROP, 0, 0, False),
        (MSG_READ_INDEX, 0, 0, False),
    ],
)
def test_a_message_is_completed_and_a_promise_waits_for_the_disk(
    kind: MessageType, term: int, sent_term: int, waits: bool
) -> None:
    """The term is the node's, but votes name theirs, and requests that are passed on have none."""
    r = make_raft(FOLLOWER)
    r.send(Message(kind, to=2, term=term))
    (message,) = r.messages_after_append if waits else r.messages
    assert not (r.messages if waits else r.messages_after_append)
    assert (message.from_, message.term) == (1, sent_term)


def test_a_vote_is_kept_within_its_term_only() -> None:
    """Invariant 1: `vote` changes once in a term at most."""
    r = make_peer(term=3, vote=2).node.raft
    r.become_follower(3, 2)
    assert r.vote == 2
    r.become_follower(4, 0)
    assert r.vote == 0
