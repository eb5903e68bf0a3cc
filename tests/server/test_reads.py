"""Read rounds: which reads share one, and what may answer them."""

import pytest

from server.errors import NodeStopped, NoLeader
from server.reads import RETRY_TICKS, ReadRounds, Waiter


@pytest.fixture
def asked():
    return []


@pytest.fixture
def rounds():
    return ReadRounds(origin=7)


def add(rounds, count=1):
    waiters = [Waiter() for _ in range(count)]
    for waiter in waiters:
        rounds.add(waiter)
    return waiters


def test_reads_that_gather_share_one_round(rounds, asked):
    waiters = add(rounds, 3)
    rounds.begin(1, asked.append)
    assert len(asked) == 1
    rounds.confirm(asked[0], 17)
    rounds.answer(17)
    assert [waiter.wait(0) for waiter in waiters] == [17, 17, 17]
    assert (rounds.reads, rounds.rounds) == (3, 1)


def test_a_read_that_comes_later_is_not_answered_by_the_round_before_it(rounds, asked):
    """What confirms a read must have been sent after it began."""
    [early] = add(rounds)
    rounds.begin(1, asked.append)
    [late] = add(rounds)
    rounds.begin(1, asked.append)
    assert len(asked) == 1  # one round at a time
    rounds.confirm(asked[0], 5)
    rounds.answer(9)
    assert early.wait(0) == 9
    assert late.wait(0) is None
    rounds.begin(1, asked.append)
    rounds.confirm(asked[1], 9)
    rounds.answer(9)
    assert late.wait(0) == 9


def test_a_confirmed_read_waits_until_its_index_is_applied(rounds, asked):
    [waiter] = add(rounds)
    rounds.begin(1, asked.append)
    rounds.confirm(asked[0], 17)
    rounds.answer(16)
    assert waiter.wait(0) is None
    rounds.answer(18)
    assert waiter.wait(0) == 18


def test_a_lost_round_is_asked_again_and_its_late_answer_confirms_nothing(rounds, asked):
    """A context that is used twice lets the answer to the first request confirm the second (etcd#20418)."""
    [waiter] = add(rounds)
    rounds.begin(1, asked.append)
    for _ in range(RETRY_TICKS + 1):
        rounds.tick()
    rounds.begin(1, asked.append)
    first, second = asked
    assert first != second
    rounds.confirm(first, 3)
    rounds.answer(99)
    assert waiter.wait(0) is None
    rounds.confirm(second, 4)
    rounds.answer(99)
    assert waiter.wait(0) == 99


def test_without_a_leader_reads_are_refused(rounds, asked):
    [waiter] = add(rounds)
    rounds.begin(0, asked.append)
    assert asked == []
    with pytest.raises(NoLeader, match="stale"):
        waiter.wait(0)


def test_when_the_node_stops_every_read_is_told(rounds, asked):
    [confirmed] = add(rounds)
    rounds.begin(1, asked.append)
    rounds.confirm(asked[0], 17)
    [on_its_way] = add(rounds)
    rounds.begin(1, asked.append)
    [gathered] = add(rounds)
    rounds.refuse_all(NodeStopped("bye"))
    for waiter in (confirmed, on_its_way, gathered):
        with pytest.raises(NodeStopped):
            waiter.wait(0)


def test_the_first_outcome_of_a_waiter_counts():
    waiter = Waiter()
    waiter.resolve(1)
    waiter.resolve(2)
    assert waiter.wait(0) == 1
