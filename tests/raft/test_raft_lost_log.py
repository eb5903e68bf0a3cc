"""What a follower does when it and its leader know different things as committed: it stops, and says which.

etcd-io/raft answers a message before the commit index as if it were right, and refuses another entry at it for ever.
"""

from __future__ import annotations

import pytest

from raft import ConfState, Entry, LogLostError, Message
from raft.raftpb import MSG_APP, MSG_SNAP, Snapshot, SnapshotMetadata
from tests.raft.nodes import drain, make_peer, terms_of

Previous = tuple[int, int]  # index and term
Sent = tuple[Previous, ...]


def append(previous: Previous, sent: Sent) -> Message:
    """From the leader of term 3, which has committed three entries."""
    return Message(
        MSG_APP,
        to=1,
        from_=2,
        term=3,
        index=previous[0],
        log_term=previous[1],
        commit=3,
        entries=[Entry(term, index) for index, term in sent],
    )


@pytest.mark.parametrize(
    ("previous", "sent"),
    [
        ((1, 1), ()),
        ((0, 0), ((1, 1), (2, 1))),
        ((2, 1), ((3, 2), (4, 2))),
        ((3, 2), ((4, 3),)),  # what isn't committed here may be another
    ],
)
def test_a_late_message_that_says_what_is_committed_changes_nothing(previous: Previous, sent: Sent) -> None:
    peer = make_peer(terms=(1, 1, 2, 2), term=3, commit=3)
    peer.node.step(append(previous, sent))
    [answer] = drain(peer)
    assert not answer.reject
    assert terms_of(peer)[:3] == [1, 1, 2]


@pytest.mark.parametrize(
    ("previous", "sent"),
    [
        ((2, 2), ()),  # before the commit index
        ((1, 1), ((2, 3),)),
        ((0, 0), ((1, 1), (2, 1), (3, 3))),
        ((3, 3), ()),  # at the commit index
        ((3, 3), ((4, 3),)),
        ((2, 1), ((3, 3),)),
    ],
)
def test_a_leader_with_another_committed_entry_stops_the_node(previous: Previous, sent: Sent) -> None:
    """Leader Completeness is broken: one of the two has lost something, and going on would hide it."""
    peer = make_peer(terms=(1, 1, 2, 2), term=3, commit=3)
    with pytest.raises(
        LogLostError, match=r"node 2, the leader, has an entry \d of term \d, but here entry \d of term"
    ):
        peer.node.step(append(previous, sent))
    assert terms_of(peer) == [1, 1, 2, 2]


@pytest.mark.parametrize(("index", "term"), [(2, 1), (3, 2), (3, 3), (2, 2)])
def test_a_late_snapshot_is_late_only_if_it_ends_with_the_same_entry(index: int, term: int) -> None:
    peer = make_peer(terms=(1, 1, 2, 2), term=3, commit=3)
    metadata = SnapshotMetadata(index, term, ConfState((1, 2, 3)))
    message = Message(MSG_SNAP, to=1, from_=2, term=3, snapshot=Snapshot(metadata))
    if (index, term) in ((2, 1), (3, 2)):
        peer.node.step(message)
        assert [answer.index for answer in drain(peer)] == [3]
    else:
        with pytest.raises(LogLostError, match=f"has an entry {index} of term {term}, but here"):
            peer.node.step(message)
    assert terms_of(peer) == [1, 1, 2, 2]


def test_entries_that_are_cut_away_can_not_be_compared() -> None:
    """A late message about them is late, and no more."""
    peer = make_peer(terms=(1, 1, 2, 2), term=3, commit=3)
    drain(peer)
    peer.take_snapshot()
    peer.restart()
    peer.node.step(append((1, 1), ((2, 9),)))
    [answer] = drain(peer)
    assert not answer.reject
