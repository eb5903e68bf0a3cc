"""What became of a proposal (raft/outcomes.py)."""

from __future__ import annotations

from raft import Entry, Message, Outcome, Outcomes, Place
from raft.raftpb import MSG_APP, MSG_HEARTBEAT
from tests.raft.network import Network
from tests.raft.nodes import drain, make_leader, make_peer


def test_a_leader_says_where_a_proposal_is_and_a_follower_does_not_know() -> None:
    leader = make_leader()
    assert leader.node.propose_batch([b"a", b"b"]) == Place(2, 1)
    assert leader.node.propose(b"c") == Place(4, 1)
    follower = make_peer(2, term=1)
    follower.node.step(Message(MSG_HEARTBEAT, to=2, from_=1, term=1))
    assert follower.node.propose(b"d") is None


def test_what_is_applied_at_its_place_is_committed() -> None:
    network = Network()
    network.elect(1)
    outcomes: Outcomes[str] = Outcomes()
    place = network[1].propose(b"a")
    assert place is not None
    outcomes.add(place, "a")
    network.settle()
    entries = network[1].raft.log.entries(1, 1 << 20)
    assert outcomes.applied(entries) == [("a", Outcome.COMMITTED)]
    assert (len(outcomes), outcomes.applied(entries)) == (0, []), "once"


def test_what_another_leader_has_replaced_is_dropped() -> None:
    """Figure 7: the entries of a leader that was cut off give way."""
    leader = make_leader()
    outcomes: Outcomes[int] = Outcomes()
    for number in range(2):
        place = leader.node.propose(b"lost")
        assert place is not None
        outcomes.add(place, number)
    drain(leader)
    winner = [Entry(1, 1), Entry(2, 2), Entry(2, 3, data=b"won")]
    leader.node.step(Message(MSG_APP, to=1, from_=2, term=2, entries=winner, commit=3))
    leader.take()
    assert leader.ready is not None
    assert outcomes.applied(leader.ready.committed_entries) == [(0, Outcome.DROPPED), (1, Outcome.DROPPED)]


def test_a_snapshot_and_the_end_leave_it_unknown() -> None:
    outcomes: Outcomes[str] = Outcomes()
    for index, token in ((9, "late"), (3, "early"), (3, "as early")):
        outcomes.add(Place(index, 1), token)
    assert outcomes.installed(8) == [("early", Outcome.UNKNOWN), ("as early", Outcome.UNKNOWN)]
    assert outcomes.end() == [("late", Outcome.UNKNOWN)]
    assert outcomes.end() == []
