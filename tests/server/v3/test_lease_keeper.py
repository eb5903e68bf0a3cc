"""When leases expire (server/v3/lease_keeper.py): by a clock that the test turns, on nodes without Raft."""

from __future__ import annotations

import random

import pytest

from server.v3.lease_keeper import EXPIRIES_MAX, EXPIRIES_PER_S, RENEWALS_WAITING_MAX, RETRY_S, STEP_MAX_S
from tests.server.v3.lease_nodes import ELECTION_S, Sim


def test_a_lease_expires_when_its_time_is_over_and_not_before() -> None:
    sim = Sim()
    sim.grant(77, 10)
    sim.put(b"a", 77)
    sim.run(9.9)
    assert [member.leases.ids() for member in sim.members] == [[77]] * 3
    assert sim.leader.keeper.remaining(77) == 0
    sim.run(0.2)
    assert [member.leases.ids() for member in sim.members] == [[]] * 3
    assert [member.writes.keys for member in sim.members] == [{}] * 3
    assert sim.leader.keeper.remaining(77) is None


def test_a_lease_that_is_kept_alive_stays() -> None:
    sim = Sim()
    sim.grant(77, 2)
    sim.grant(78, 2)
    sim.run(20, 77)
    assert sim.leader.leases.ids() == [77]
    assert sim.renew(77) == 2
    assert sim.renew(78) == 0


@pytest.mark.parametrize("late_s", [0.04, 0.3, STEP_MAX_S, 3.0])
@pytest.mark.parametrize("granted", [False, True])
def test_a_lease_has_its_whole_time_however_long_the_last_tick_was_ago(granted: bool, late_s: float) -> None:
    """A client that was told of two seconds lost its lock a moment earlier: as long as the node's thread was busy before."""
    sim = Sim()
    sim.grant(77, 2)
    sim.run(1)
    sim.now += late_s  # no tick in this time, which the next one counts
    if granted:
        sim.grant(77 + 1, 2)
    else:
        assert sim.renew(77) == 2
    sim.run(1.9)
    assert 77 + granted in sim.leader.leases.ids()
    sim.run(STEP_MAX_S + 0.2)
    assert 77 + granted not in sim.leader.leases.ids()


def test_a_new_leader_gives_every_lease_its_whole_time() -> None:
    """And an election timeout more, as etcd's Promote is called."""
    sim = Sim()
    sim.grant(77, 10)
    sim.run(9)
    sim.elect(sim.members[1])
    assert sim.leader.keeper.remaining(77) == int(10 + ELECTION_S)
    sim.run(10 + ELECTION_S - 0.1)
    assert sim.leader.leases.ids() == [77]
    sim.run(0.2)
    assert sim.leader.leases.ids() == []


def test_the_same_leader_in_a_new_term_is_a_new_leader() -> None:
    """It lost its office between two ticks; another may have led meanwhile."""
    sim = Sim()
    sim.grant(77, 10)
    sim.run(9)
    sim.term += 1
    sim.leader.term = sim.term
    sim.run(5)
    assert sim.leader.leases.ids() == [77]


def test_who_does_not_lead_keeps_nothing_alive_and_expires_nothing() -> None:
    sim = Sim()
    sim.grant(77, 2)
    told: list[int | None] = []
    sim.members[1].keeper.renew(77, told.append)
    assert told == [None]
    sim.members[1].keeper.count(100)
    assert not sim.members[1].decided


def test_a_leader_that_stood_still_expires_nothing_that_was_alive() -> None:
    """SIGSTOP for an hour: who wanted to keep its lease alive still waits to be heard."""
    sim = Sim()
    sim.grant(77, 10)
    sim.run(5)
    sim.now += 3600
    sim.leader.tick(sim.now)
    assert not sim.leader.decided
    assert sim.renew(77) == 10
    sim.now += 3600
    sim.run(9 - STEP_MAX_S)
    assert sim.leader.leases.ids() == [77]


def test_what_a_deposed_leader_decides_is_void() -> None:
    """It doesn't know yet that another one leads, who has kept the lease alive; its proposal is proposed again there."""
    sim = Sim()
    sim.grant(77, 10)
    sim.put(b"a", 77)
    old = sim.leader
    sim.elect(sim.members[1], notices=False)
    sim.run(10.1, 77)
    assert old.decided, "it has counted its ten seconds"
    sim.commit_decided(old)
    assert sim.leader.leases.ids() == [77]
    assert sim.leader.writes.keys == {b"a": 77}


def test_nobody_is_told_that_a_lease_lives_whose_expiry_is_on_its_way() -> None:
    sim = Sim()
    sim.grant(77, 10)
    sim.leader.tick(sim.now)
    sim.leader.keeper.count(10)
    told: list[int | None] = []
    sim.leader.keeper.renew(77, told.append)
    assert told == []
    sim.commit_decided(sim.leader)
    assert told == [0]


def test_who_waits_for_an_expiry_is_told_when_another_node_leads() -> None:
    sim = Sim()
    sim.grant(77, 10)
    sim.leader.tick(sim.now)
    sim.leader.keeper.count(10)
    told: list[int | None] = []
    keeper = sim.leader.keeper
    keeper.renew(77, told.append)
    sim.elect(sim.members[2])
    assert told == [None]
    sim.commit_decided(sim.members[0])
    assert sim.leader.leases.ids() == [77]


def test_those_who_wait_for_expiries_are_limited() -> None:
    sim = Sim(1)
    sim.grant(77, 10)
    sim.leader.tick(sim.now)
    sim.leader.keeper.count(10)
    told: list[int | None] = []
    for _ in range(RENEWALS_WAITING_MAX + 1):
        sim.leader.keeper.renew(77, told.append)
    assert told == [None]
    sim.commit_decided(sim.leader)
    assert told == [None] + [0] * RENEWALS_WAITING_MAX
    sim.grant(78, 10)
    sim.leader.keeper.count(10)
    told.clear()
    sim.leader.keeper.renew(78, told.append)
    assert told == [], "there is room again, and it waits"


def test_a_lease_that_is_granted_again_is_another_one() -> None:
    """Revoked and granted in one batch, while an expiry of the first is on its way."""
    sim = Sim()
    sim.grant(77, 10)
    sim.leader.tick(sim.now)
    sim.leader.keeper.count(10)
    told: list[int | None] = []
    sim.leader.keeper.renew(77, told.append)
    sim.log.append((sim.term, lambda leases, writes, index, term: leases.revoke(77, writes)))
    sim.grant(77, 30)
    sim.commit_decided(sim.leader)
    assert sim.leader.leases.ids() == [77]
    assert told == [0]
    assert sim.renew(77) == 30
    sim.run(29)
    assert sim.leader.leases.ids() == [77]


def test_expiries_are_paced() -> None:
    sim = Sim(1)
    for lease in range(1, 3 * EXPIRIES_MAX):
        sim.log.append((1, lambda leases, writes, index, term, lease=lease: leases.grant(lease, 10, index)))
    sim.leader.apply()
    sim.run(9.9)
    keeper, leader = sim.leader.keeper, sim.leader
    keeper.count(0.2)
    assert len(leader.decided) == EXPIRIES_MAX, "that many may be under way"
    keeper.count(0.05)
    assert len(leader.decided) == EXPIRIES_MAX
    sim.commit_decided(leader)
    keeper.count(0.05)
    assert len(leader.decided) == 2 * EXPIRIES_PER_S * 0.05, "and so many a second"
    sim.commit_decided(leader)
    sim.run(2)
    assert leader.leases.ids() == []
    assert keeper.expired == 3 * EXPIRIES_MAX - 1


def test_an_expiry_that_got_lost_is_proposed_again() -> None:
    sim = Sim(1)
    sim.grant(77, 10)
    sim.leader.tick(sim.now)
    sim.leader.keeper.count(10)
    assert len(sim.leader.decided) == 1
    sim.leader.decided.clear()
    sim.leader.keeper.count(RETRY_S - 0.1)
    assert not sim.leader.decided
    sim.leader.keeper.count(0.2)
    assert len(sim.leader.decided) == 1


def test_a_lease_that_was_kept_alive_twice_in_one_moment_expires_once() -> None:
    sim = Sim()
    sim.grant(77, 2)
    sim.run(1)
    assert sim.renew(77) == sim.renew(77) == 2
    sim.leader.keeper.count(3)
    assert len(sim.leader.decided) == 1


def test_another_table_is_begun_anew() -> None:
    """A snapshot was installed: what it has, a later leader knows, and gives the whole time."""
    sim = Sim(2)
    sim.grant(77, 10)
    late = sim.members[1]
    late.leases.read(sim.leader.store)
    late.applied = sim.leader.applied
    sim.elect(late)
    sim.run(10)
    assert late.leases.ids() == [77]
    late.tick(sim.now)
    late.leases.read(sim.members[0].store)
    sim.now += 0.05
    late.tick(sim.now)
    assert late.keeper.remaining(77) == 10


def test_leases_are_listed_as_they_expire_or_where_nobody_knows_as_they_were_granted() -> None:
    sim = Sim(2)
    sim.grant(9, 60)
    sim.grant(3, 60)
    sim.grant(5, 10)
    assert sim.members[0].keeper.in_order() == [5, 9, 3]
    assert sim.members[1].keeper.in_order() == [9, 3, 5]


def test_renewals_leave_no_memory() -> None:
    sim = Sim(1)
    sim.grant(77, 10)
    for _ in range(10_000):
        sim.renew(77)
    assert len(sim.leader.keeper._queue) < 200


def test_whatever_happens_no_lease_that_is_kept_alive_expires_and_every_other_does(seed: int) -> None:
    """Leaders come and go, some don't notice, some stand still; what they decided comes late, or never."""
    for number in range(40):
        rng = random.Random(f"leases {seed} {number}")
        sim = Sim()
        for lease in range(1, 7):
            sim.grant(lease, rng.randint(2, 6))
            sim.put(b"%d" % lease, lease)
        kept = (1, 2, 3)
        for _ in range(30):
            what = rng.randrange(6)
            if what == 0:
                sim.elect(rng.choice(sim.members), notices=rng.random() < 0.5)
            elif what == 1:
                sim.now += rng.random() * 30  # nobody ran
            elif what == 2:
                sim.commit_decided(*rng.sample(sim.members, 2))
            elif what == 3:
                rng.choice(sim.members).decided.clear()
            else:
                sim.run(rng.random() * 1.5, *kept)
        assert set(kept) <= set(sim.leader.leases.ids())
        sim.run(20, *kept)
        for member in sim.members:
            assert member.leases.ids() == list(kept)
            assert member.writes.keys == {b"%d" % lease: lease for lease in kept}
