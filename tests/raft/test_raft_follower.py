"""The follower (raft/follower.py): what it takes from its leader, and what it answers."""

from __future__ import annotations

import pytest

from raft import Message, RaftPanic
from raft.kinds import MessageType
from raft.raftpb import MSG_APP, MSG_APP_RESP, MSG_HEARTBEAT, MSG_TRANSFER_LEADER
from tests.raft.nodes import drain, entries, make_peer


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


@pytest.mark.parametrize(
    ("terms", "prev", "hint"),
    [
        ((1, 1, 2), (7, 3), (3, 2)),  # the log ends before
        ((1, 1, 5, 5), (4, 3), (2, 1)),  # a leader whose entry 4 is of term 3 has none of term 5 before it
        ((1, 2, 3, 3), (4, 2), (2, 2)),
    ],
)
def test_a_refusal_names_the_last_entry_that_may_be_alike(
    terms: tuple[int, ...], prev: tuple[int, int], hint: tuple[int, int]
) -> None:
    """etcd: TestFastLogRejection, the follower's half."""
    peer = make_peer(2, terms=terms)
    peer.node.step(Message(MSG_APP, to=2, from_=1, term=6, index=prev[0], log_term=prev[1]))
    (answer,) = drain(peer)
    assert (answer.reject, answer.index, (answer.reject_hint, answer.log_term)) == (True, prev[0], hint)


def test_a_late_message_is_answered_with_the_commit_index() -> None:
    """Everything up to there is the leader's, so nothing is truncated."""
    peer = make_peer(2, terms=(1, 1, 1, 1), commit=3)
    peer.node.step(Message(MSG_APP, to=2, from_=1, term=1, index=1, log_term=1, entries=entries(2, (1,))))
    (answer,) = drain(peer)
    assert (answer.reject, answer.index, peer.node.raft.log.last_index()) == (False, 3, 4)


def test_what_the_leader_sends_restarts_the_timer() -> None:
    peer = make_peer(2, term=1)
    r = peer.node.raft
    for kind in (MSG_HEARTBEAT, MSG_APP, MessageType.SNAP):
        r.election_elapsed, r.lead = 5, 0
        peer.node.step(Message(kind, to=2, from_=1, term=1))
        assert (r.election_elapsed, r.lead) == (0, 1), kind


def test_a_wish_for_a_transfer_is_passed_on_to_the_leader() -> None:
    peer = make_peer(2, term=1)
    peer.node.transfer_leadership(3)
    assert not peer.node.has_ready(), "nobody to pass it on to"
    peer.node.step(Message(MSG_HEARTBEAT, to=2, from_=1, term=1))
    drain(peer)
    peer.node.transfer_leadership(3)
    (message,) = drain(peer)
    assert (message.type, message.to, message.from_) == (MSG_TRANSFER_LEADER, 1, 3)


def test_entries_that_do_not_follow_the_one_before_them_stop_the_node() -> None:
    """A leader doesn't send such a message, so one of the two is broken."""
    peer = make_peer(2, terms=(1, 2), term=9)
    with pytest.raises(RaftPanic, match="don't follow"):
        peer.node.step(Message(MSG_APP, to=2, from_=1, term=9, index=2, log_term=2, entries=entries(4, (9,))))
