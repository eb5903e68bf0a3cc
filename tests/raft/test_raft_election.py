"""Campaigns and votes (raft/election.py). tests/raft/test_paper_5_2_elections.py has the paper's rules, one by one."""

from __future__ import annotations

import pytest

from raft import ConfChange, ConfState, Message, ProposalDroppedError
from raft.kinds import ConfChangeType, EntryType, StateType
from raft.raftpb import MSG_PROP, MSG_READ_INDEX, MSG_TIMEOUT_NOW, MSG_VOTE, MSG_VOTE_RESP, Entry
from tests.raft.network import Peer
from tests.raft.nodes import drain, make_peer, make_raft, of_type


def test_a_candidate_asks_every_voter_of_both_configurations_and_no_learner() -> None:
    peer = Peer(1, ConfState((1, 2), (5,), (1, 3, 4)))
    peer.node.campaign()
    requests = of_type(drain(peer), MSG_VOTE)
    assert [(m.to, m.term, m.index, m.log_term, m.context) for m in requests] == [
        (node_id, 1, 0, 0, b"") for node_id in (2, 3, 4)
    ]


def test_a_joint_election_needs_both_majorities() -> None:
    peer = Peer(1, ConfState((1, 2, 3), (), (1, 4, 5)))
    peer.node.campaign()
    drain(peer)
    for voter, role in ((2, StateType.CANDIDATE), (3, StateType.CANDIDATE), (4, StateType.LEADER)):
        peer.node.step(Message(MSG_VOTE_RESP, to=1, from_=voter, term=1))
        assert peer.node.role == role


@pytest.mark.parametrize("change_at", [1, 2, 3])
def test_a_committed_change_that_is_not_applied_is_found_wherever_it_is(change_at: int) -> None:
    """The entries are looked through a page at a time (etcd#7280, #12133)."""
    peer = make_peer(terms=(1, 1, 1), max_committed_size_per_ready=1)
    change = ConfChange(ConfChangeType.ADD_NODE, 4).encode()
    peer.storage.append(
        [Entry(1, i, EntryType.CONF_CHANGE, change) if i == change_at else Entry(1, i) for i in range(change_at, 4)]
    )
    r = peer.node.raft
    r.log.commit_to(change_at - 1)
    peer.node.campaign()
    assert r.state == StateType.CANDIDATE
    r.become_follower(r.term, 0)
    r.log.commit_to(change_at)
    peer.node.campaign()
    assert r.state == StateType.FOLLOWER


def test_a_candidate_refuses_proposals_and_drops_the_rest() -> None:
    r = make_raft(StateType.CANDIDATE)
    with pytest.raises(ProposalDroppedError, match="node 1 has no leader at term 2"):
        r.step(Message(MSG_PROP, from_=1, entries=[Entry(0, 0)]))
    for kind in (MSG_READ_INDEX, MSG_TIMEOUT_NOW):
        r.step(Message(kind, from_=2, term=2, entries=[Entry(0, 0)]))
    assert (r.state, r.messages, r.pending_read_index_messages) == (StateType.CANDIDATE, [], [])
