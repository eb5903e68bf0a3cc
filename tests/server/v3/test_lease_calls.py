"""Keepalives on any node (server/v3/lease_calls.py): nodes without Raft, whose messages the test delivers."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from raft.raftpb import Message
from server.errors import NoLeader
from server.guards import check
from server.limits import LEASE_CALLS_MAX
from server.v3 import status
from server.v3.lease_calls import GONE, UNHEARD_S, Around, Known, LeaseCalls
from server.v3.status import Status
from tests.server.v3.lease_nodes import Member, Sim


class Node:
    """One node's LeaseCalls, and what it wants of the node around it."""

    def __init__(self, node_id: int, member: Member, sim: Sim) -> None:
        self.id = node_id
        self.member = member
        self.raft = SimpleNamespace(lead=0, term=1)
        self.sent: list[Message] = []
        self.later: list[Callable[[], object]] = []
        self.reads: list[Any] = []
        self.stopping = False
        self.told: list[Known | Status] = []
        around = Around(self.later.append, self.sent.extend, self.reads.append, lambda: sim.now, lambda: self.stopping)
        self.calls = LeaseCalls(node_id, 1000 + node_id, self.raft, member.leases, member.keeper, around)

    def run(self) -> None:
        """What waits for the node's thread."""
        while self.later:
            self.later.pop(0)()

    def confirm(self, leads: bool = True) -> None:
        for waiter in self.reads:
            waiter.resolve(7 if leads else NoLeader("no leader"))
            waiter.resolve(8)
        self.reads.clear()

    def outcome(self) -> tuple[int, str] | Known:
        [told] = self.told
        self.told.clear()
        return (told.code, told.sentence) if isinstance(told, Status) else told


class Nodes:
    """Three of them; node 1 leads."""

    def __init__(self) -> None:
        self.sim = Sim()
        self.nodes = {at: Node(at, member, self.sim) for at, member in enumerate(self.sim.members, 1)}
        self.lead(1)

    def __getitem__(self, node_id: int) -> Node:
        return self.nodes[node_id]

    def lead(self, node_id: int) -> None:
        for node in self.nodes.values():
            node.raft.lead = node_id
        if node_id:
            self.sim.elect(self.nodes[node_id].member)

    def deliver(self) -> None:
        for node in self.nodes.values():
            messages, node.sent[:] = list(node.sent), []
            for message in messages:
                check(message, node.id)
                self.nodes[message.to].calls.hear(Message.decode(message.encode()))

    def tick(self, seconds: float) -> None:
        self.sim.now += seconds
        for node in self.nodes.values():
            node.calls.tick(self.sim.now)


def test_the_leader_answers_once_it_is_confirmed() -> None:
    nodes = Nodes()
    nodes.sim.grant(77, 60)
    nodes.sim.run(30.5)
    one = nodes[1]
    one.calls.look(77, 7.0, one.told.append)
    one.run()
    assert not one.told
    one.confirm()
    assert one.outcome() == Known(29, 60)
    one.calls.renew(77, 7.0, one.told.append)
    one.run()
    one.confirm()
    assert one.outcome() == Known(60, 60)
    assert one.member.keeper.remaining(77) == 60


def test_a_follower_asks_the_leader() -> None:
    nodes = Nodes()
    nodes.sim.grant(77, 60)
    nodes.sim.run(30)
    two = nodes[2]
    for lease, renewed in ((77, Known(60, 60)), (-78, GONE)):
        two.calls.renew(lease, 7.0, two.told.append)
        two.run()
        nodes.deliver()
        nodes[1].confirm()
        nodes.deliver()
        assert two.outcome() == renewed
    assert nodes[1].member.keeper.remaining(77) == 60


def test_a_leader_that_another_has_replaced_keeps_nothing_alive() -> None:
    """It isn't confirmed; the question is asked again, and the next leader answers."""
    nodes = Nodes()
    nodes.sim.grant(77, 60)
    two = nodes[2]
    two.calls.renew(77, 7.0, two.told.append)
    two.run()
    nodes.deliver()
    nodes[1].confirm(False)
    nodes.deliver()
    assert not two.told
    nodes.lead(3)
    nodes.tick(0.05)
    nodes.deliver()
    nodes[3].confirm()
    nodes.deliver()
    assert two.outcome() == Known(60, 60)


def test_a_question_that_got_lost_is_asked_again() -> None:
    nodes = Nodes()
    nodes.sim.grant(77, 60)
    two = nodes[2]
    two.calls.renew(77, 7.0, two.told.append)
    two.run()
    two.sent.clear()
    nodes.tick(UNHEARD_S / 2)
    assert not two.sent
    nodes.tick(UNHEARD_S / 2)
    nodes.deliver()
    nodes[1].confirm()
    nodes.deliver()
    assert two.outcome() == Known(60, 60)


def test_who_is_asked_and_does_not_lead_says_so_at_once() -> None:
    """The next tick asks who leads then, and not only after the time in which nothing was heard."""
    nodes = Nodes()
    nodes.sim.grant(77, 60)
    two = nodes[2]
    two.raft.lead = 3  # it has not heard yet that node 1 leads
    two.calls.renew(77, 7.0, two.told.append)
    two.run()
    nodes.deliver()
    nodes.deliver()
    assert not nodes[3].reads
    two.raft.lead = 1
    nodes.tick(0.05)
    nodes.deliver()
    nodes[1].confirm()
    nodes.deliver()
    assert two.outcome() == Known(60, 60)


def test_while_nobody_leads_nothing_is_asked_and_a_new_leader_is_asked_at_the_next_tick() -> None:
    nodes = Nodes()
    nodes.sim.grant(77, 60)
    two = nodes[2]
    nodes.lead(0)
    two.calls.renew(77, 7.0, two.told.append)
    two.run()
    nodes.tick(0.05)
    assert not two.sent
    nodes.lead(1)
    nodes.tick(0.05)
    nodes.deliver()
    nodes[1].confirm()
    nodes.deliver()
    assert two.outcome() == Known(60, 60)


def test_what_remains_of_a_lease_is_told_on_every_node() -> None:
    nodes = Nodes()
    nodes.sim.grant(77, 60)
    nodes.sim.run(30.5)
    two = nodes[2]
    two.calls.look(77, 7.0, two.told.append)
    two.run()
    nodes.deliver()
    nodes[1].confirm()
    nodes.deliver()
    assert two.outcome() == Known(29, 60)


def test_an_answer_to_a_question_of_before_the_restart_answers_nothing() -> None:
    """Its sequence number begins again; another lease may be asked for under the same."""
    nodes = Nodes()
    nodes.sim.grant(77, 60)
    two = nodes[2]
    two.calls.renew(77, 7.0, two.told.append)
    two.run()
    nodes.deliver()
    nodes[1].confirm()
    again = Node(2, two.member, nodes.sim)
    again.raft.lead = 1
    again.calls._origin += 1000
    nodes.nodes[2] = again
    again.calls.renew(-78, 7.0, again.told.append)
    again.run()
    nodes.deliver()
    assert again.told == []
    nodes[1].confirm()
    nodes.deliver()
    assert again.outcome() == GONE


def test_who_waits_for_an_expiry_when_its_leader_goes_asks_the_next_one() -> None:
    nodes = Nodes()
    nodes.sim.grant(77, 10)
    one, two = nodes[1], nodes[2]
    one.member.tick(nodes.sim.now)
    one.member.keeper.count(10)
    two.calls.renew(77, 7.0, two.told.append)
    two.run()
    nodes.deliver()
    one.confirm()
    nodes.lead(3)
    nodes.deliver()
    assert two.told == []
    nodes.tick(0.05)
    nodes.deliver()
    nodes[3].confirm()
    nodes.deliver()
    assert two.outcome() == Known(10, 10)


def test_two_answers_to_one_question_are_one() -> None:
    nodes = Nodes()
    nodes.sim.grant(77, 60)
    two = nodes[2]
    two.calls.renew(77, 7.0, two.told.append)
    two.run()
    nodes.tick(UNHEARD_S)
    nodes.deliver()
    nodes[1].confirm()
    nodes.deliver()
    assert two.outcome() == Known(60, 60)


def test_a_call_ends_with_its_time() -> None:
    nodes = Nodes()
    two = nodes[2]
    two.calls.renew(77, 7.0, two.told.append)
    two.run()
    nodes.tick(7.0)
    assert two.outcome() == status.TIMEOUT
    nodes.lead(0)
    two.calls.look(77, 7.0, two.told.append)
    two.run()
    nodes.tick(6.9)
    assert not two.told
    nodes.tick(0.1)
    assert two.outcome() == status.NO_LEADER


def test_a_node_that_has_just_been_elected_answers_when_it_has_its_deadlines() -> None:
    nodes = Nodes()
    nodes.sim.grant(77, 60)
    two = nodes[2]
    two.raft.lead = 2  # Raft knows it, and the keeper's tick is yet to come
    two.calls.renew(77, 7.0, two.told.append)
    two.run()
    two.confirm()
    assert not two.told
    nodes.lead(2)
    nodes.tick(0.05)
    two.confirm()
    assert two.outcome() == Known(60, 60)


def test_a_node_that_stops_says_so() -> None:
    nodes = Nodes()
    two = nodes[2]
    two.calls.renew(77, 7.0, two.told.append)
    two.run()
    two.calls.renew(77, 7.0, two.told.append)
    two.calls.close()
    assert two.outcome() == status.STOPPED
    two.run()
    assert two.outcome() == status.STOPPED
    two.stopping = True
    two.calls.renew(77, 7.0, two.told.append)
    assert two.outcome() == status.STOPPED


def test_what_waits_is_limited() -> None:
    nodes = Nodes()
    two = nodes[2]
    for _ in range(LEASE_CALLS_MAX):
        two.calls.renew(77, 7.0, lambda outcome: None)
    two.calls.renew(77, 7.0, two.told.append)
    two.run()
    assert two.outcome() == status.TOO_MANY_REQUESTS


def test_a_lease_that_has_expired_is_answered_when_it_is_gone() -> None:
    nodes = Nodes()
    nodes.sim.grant(77, 10)
    one = nodes[1]
    one.member.tick(nodes.sim.now)
    one.member.keeper.count(10)
    one.calls.renew(77, 7.0, one.told.append)
    one.run()
    one.confirm()
    assert not one.told
    nodes.sim.commit_decided(one.member)
    assert one.outcome() == GONE
