"""Read rounds: which reads share one, and what may answer them."""

import sys
from types import SimpleNamespace

import pytest

from raft.state import ReadState
from server.errors import NodeStopped, NoLeader
from server.reads import RETRY_TICKS, ReadRounds, Waiter
from server.ready import ReadyLoop


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


def let_it_be_overdue(rounds):
    for _ in range(RETRY_TICKS + 1):
        rounds.tick()


def test_an_overdue_round_is_asked_for_again_and_any_answer_confirms_it(rounds, asked):
    """On a link of half a second every answer takes longer than RETRY_TICKS: if it is thrown away, no read is done."""
    [waiter] = add(rounds)
    rounds.begin(1, asked.append)
    for _ in range(2):
        let_it_be_overdue(rounds)
        rounds.begin(1, asked.append)
    assert len(set(asked)) == 3
    rounds.confirm(asked[0], 3)
    rounds.answer(99)
    assert waiter.wait(0) == 99
    assert (rounds.reads, rounds.rounds) == (1, 3)


def test_no_answer_to_an_overdue_round_confirms_a_read_that_came_later(rounds, asked):
    """A context that is used twice lets the answer to the first request confirm the second (etcd#20418)."""
    [early] = add(rounds)
    rounds.begin(1, asked.append)
    let_it_be_overdue(rounds)
    [late] = add(rounds)
    rounds.begin(1, asked.append)
    rounds.confirm(asked[0], 3)
    rounds.begin(1, asked.append)
    for context in asked[:2]:
        rounds.confirm(context, 3)
    rounds.answer(99)
    assert early.wait(0) == 99
    assert late.wait(0) is None
    rounds.confirm(asked[2], 4)
    rounds.answer(99)
    assert late.wait(0) == 99


def test_reads_that_were_given_up_are_forgotten(rounds, asked):
    """A leader that is cut off from the others leads on, and nobody confirms it: the reads must not pile up."""
    for _ in range(3):
        [waiter] = add(rounds)
        rounds.begin(1, asked.append)
        assert waiter.wait(0) is None
        rounds.tick()
        assert sys.getrefcount(waiter) == 2  # this function's, and getrefcount's own


def test_an_overdue_round_without_a_leader_is_refused(rounds, asked):
    [waiter] = add(rounds)
    rounds.begin(1, asked.append)
    let_it_be_overdue(rounds)
    rounds.begin(0, asked.append)
    with pytest.raises(NoLeader):
        waiter.wait(0)


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


@pytest.mark.parametrize("installing", [False, True])
def test_reads_of_what_is_applied_do_not_wait_for_a_flush(rounds, asked, installing):
    """While an engine is flushed nothing is applied, for as long as its disk takes; reads need nothing to be applied."""
    storage = SimpleNamespace(engine_busy=True, installing=installing)
    outside = SimpleNamespace(confirmed=lambda: None)
    loop = ReadyLoop(None, storage, SimpleNamespace(applied_index=7), (None, rounds), outside, None, None)
    for index in (7, 8):
        [waiter] = add(rounds)
        rounds.begin(1, asked.append)
        loop.confirm_reads([ReadState(index, asked[-1])])
        assert waiter.wait(0) == (7 if index == 7 and not installing else None)
