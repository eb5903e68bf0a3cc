"""Proposals: who is told what, and what is refused before it waits."""

import pytest

from engines import InvalidKey
from server import proposals as proposals_module
from server.errors import NodeStopped, NoLeader, OutcomeUnknown, Overloaded, TooLarge
from server.proposals import PROPOSAL_BYTES_MAX, Proposal, Proposals
from server.reads import Waiter
from server.statemachine import Applied, decode_proposal

ORIGIN = 7
PUT = [(b"k", b"v")]


@pytest.fixture
def proposals():
    return Proposals(ORIGIN)


def test_each_proposal_is_told_apart_from_every_other(proposals):
    (first, data), (second, _) = (proposals.add(PUT, None) for _ in range(2))
    assert first != second
    assert decode_proposal(data) == (ORIGIN, first, PUT)


def test_an_outcome_reaches_the_one_who_waits_for_it(proposals):
    waiters = [Waiter() for _ in range(3)]
    added = [proposals.add(PUT, waiter) for waiter in waiters]
    proposals.answer([Applied(17, ORIGIN, added[0][0])])
    proposals.refuse([added[1][1]], NoLeader("none"))
    assert waiters[0].wait(0) == 17
    with pytest.raises(NoLeader):
        waiters[1].wait(0)
    assert waiters[2].wait(0) is None


def test_what_others_proposed_wakes_nobody_here(proposals):
    """A leader applies, and a node in between drops, what other nodes proposed, with sequences of their own."""
    waiter = Waiter()
    sequence, _ = proposals.add(PUT, waiter)
    other = Proposals(ORIGIN + 1)
    other_sequence, data = other.add(PUT, None)
    assert other_sequence == sequence
    proposals.answer([Applied(17, ORIGIN + 1, sequence)])
    proposals.refuse([data], Overloaded("full"))
    assert waiter.wait(0) is None


def test_when_it_closes_everybody_is_told_and_nobody_gets_in(proposals):
    waiter = Waiter()
    proposals.add(PUT, waiter)
    proposals.close(OutcomeUnknown("?"))
    with pytest.raises(OutcomeUnknown):
        waiter.wait(0)
    with pytest.raises(NodeStopped):
        proposals.add(PUT, Waiter())


def test_who_has_given_up_is_forgotten(proposals):
    sequence, _ = proposals.add(PUT, Waiter())
    assert len(proposals) == 1
    proposals.forget(sequence)
    assert len(proposals) == 0


def test_a_proposal_is_measured_with_what_frames_it(proposals):
    """Four bytes of a key cost nine more in the log: a limit on keys and values alone lets three times as much in."""
    proposals.add([(b"k", bytes(4 << 20))], None)
    with pytest.raises(TooLarge):
        proposals.add([(b"key%d" % (number % 10), b"") for number in range(PROPOSAL_BYTES_MAX // 12)], None)


def test_what_is_refused_at_the_door_leaves_nobody_waiting(proposals):
    for operations, error in [([(b"", b"v")], InvalidKey), ([(b"k", bytes(5 << 20))], TooLarge)]:
        with pytest.raises(error):
            proposals.add(operations, Waiter())
    assert len(proposals) == 0


def test_proposals_that_nobody_waits_for_are_bounded_too(proposals, monkeypatch):
    """A client that never waits, and a disk that takes a second: without a bound the inbox takes all memory."""
    monkeypatch.setattr(proposals_module, "PROPOSALS_WAITING_MAX", 2)
    data = [proposals.add(PUT, None)[1] for _ in range(2)]
    with pytest.raises(Overloaded):
        proposals.add(PUT, None)
    proposals.take([Proposal(each, 0.0) for each in data])
    proposals.add(PUT, None)


def test_their_bytes_are_bounded_until_they_are_taken(proposals, monkeypatch):
    monkeypatch.setattr(proposals_module, "UNTAKEN_BYTES_MAX", 100)
    _, data = proposals.add([(b"k", bytes(60))], None)
    with pytest.raises(Overloaded):
        proposals.add(PUT, None)
    proposals.take([Proposal(data, 0.0)])
    proposals.add(PUT, None)
