"""Writes under way: over any change of leaders, each is applied once at most, and what is told of it is true."""

import math
import random
from dataclasses import replace

import pytest

from raft.raftpb import MSG_PROP, MSG_SNAP, MSG_TIMEOUT_NOW, Message
from server.errors import NodeStopped, NoLeader, OutcomeUnknown, Overloaded
from server.forwards import NO_LEADER, refusal
from server.outstanding import Outstanding
from server.proposals import Proposal, Proposals
from server.reads import Waiter
from server.statemachine import Applied
from tests.chapters.kit import History
from tests.chapters.replicas import Cluster
from tests.conftest import SEED

ORIGIN = 7


class Told(Waiter):
    """A waiter that keeps what it was told."""

    def __init__(self):
        super().__init__()
        self.outcome = None

    def resolve(self, outcome):
        if self.outcome is None:
            self.outcome = outcome


class Desk:
    """An Outstanding with some proposals that Raft took in term 3, and who waits for them."""

    def __init__(self, count=1, deadline=math.inf):
        self.proposals = Proposals(ORIGIN)
        self.outstanding = Outstanding(self.proposals)
        self.told = [Told() for _ in range(count)]
        added = [self.proposals.add([(b"k", b"v")], waiter) for waiter in self.told]
        self.sequences = [sequence for sequence, _ in added]
        self.made = [Proposal(data, deadline) for _, data in added]
        self.outstanding.proposed(self.made, 3)

    def kinds(self):
        return [type(waiter.outcome) for waiter in self.told]


def test_an_entry_of_a_later_term_frees_what_was_not_applied_before_it():
    desk = Desk(3)
    desk.outstanding.answer([Applied(9, ORIGIN, desk.sequences[1])])
    for term in (2, 3):
        desk.outstanding.settle(term)
        assert not desk.outstanding.holds, "its own term's leader may still commit it"
    desk.outstanding.settle(4)
    assert desk.outstanding.take_held() == [desk.made[0], desk.made[2]]
    assert [waiter.outcome for waiter in desk.told] == [None, 9, None]
    assert len(desk.outstanding) == 0


def test_what_a_snapshot_hides_is_unknown_once_it_is_known_that_it_can_not_be_seen():
    for snapshot_term, later in ((3, 4), (4, 4)):
        desk = Desk()
        desk.outstanding.hide(snapshot_term)
        if snapshot_term == 3:
            assert desk.told[0].outcome is None, "the leader of its term may still commit it"
        desk.outstanding.settle(later)
        assert desk.kinds() == [OutcomeUnknown]
        assert not desk.outstanding.holds
    applied = Desk()
    applied.outstanding.hide(3)
    applied.outstanding.answer([Applied(12, ORIGIN, applied.sequences[0])])
    assert applied.told[0].outcome == 12
    earlier = Desk()
    earlier.outstanding.hide(2)
    earlier.outstanding.settle(4)
    assert earlier.outstanding.holds, "nothing of term 3 is in a snapshot of term 2"


def test_a_refusal_says_nothing_about_another_terms_copy():
    """It was under way for so long that the write was proposed again meanwhile."""
    desk = Desk()
    data = desk.made[0].data
    desk.outstanding.returned([data[:16]], 2)
    desk.outstanding.refused([data[:16]], 4, Overloaded("full"))
    assert not desk.outstanding.holds and desk.told[0].outcome is None
    desk.outstanding.returned([data[:16]], 3)
    assert desk.outstanding.take_held() == desk.made
    desk.outstanding.proposed(desk.made, 5)
    desk.outstanding.refused([data[:16]], 5, Overloaded("full"))
    assert desk.kinds() == [Overloaded]


def test_what_nobody_waits_for_any_more_is_not_proposed_again():
    desk = Desk(2)
    desk.proposals.forget(desk.sequences[0])
    desk.outstanding.settle(4)
    assert desk.outstanding.take_held() == [desk.made[1]]


def test_when_its_time_is_up_a_held_write_was_surely_not_written():
    desk = Desk(2, deadline=10.0)
    desk.outstanding.returned([desk.made[0].data], 3)
    desk.outstanding.expire(9.9)
    assert len(desk.outstanding) == 2
    desk.outstanding.expire(10.0)
    assert desk.kinds() == [NoLeader, type(None)], "the other one may be in a log"
    assert len(desk.outstanding) == 0


def test_when_the_node_stops_a_held_write_was_surely_not_written():
    desk = Desk(2)
    desk.outstanding.returned([desk.made[0].data], 3)
    desk.outstanding.close(NodeStopped("bye"))
    assert desk.kinds() == [NodeStopped, type(None)]


def test_there_is_room_for_so_much_and_no_more(monkeypatch):
    monkeypatch.setattr("server.outstanding.OUTSTANDING_BYTES_MAX", 60)
    desk = Desk(3)
    assert desk.outstanding.full
    desk.outstanding.settle(4)
    assert desk.outstanding.full
    desk.outstanding.take_held()
    assert not desk.outstanding.full and desk.outstanding._size_bytes == 0


# ---- a cluster ------------------------------------------------------------------------------------------------------


class Run:
    """Three nodes, writes at all of them, and a network that loses, delays, reorders and repeats; leaders come and go.

    Two messages are not repeated: a forwarded proposal, and a refusal of one, because a connection delivers once.
    """

    def __init__(self, seed):
        self.rng = random.Random(seed)
        self.history = History()
        self.cluster = Cluster(["memory"] * 3, seed, self.history, snapshot_entries=15, catch_up_entries=4)
        self.places = {}  # (origin, sequence) → the indexes at which it was applied anywhere
        self.told = {}  # (origin, sequence) → who waits
        self.killed = set()  # origins of nodes that were killed
        for node_id in self.cluster.nodes:
            self.watch(node_id)

    def watch(self, node_id):
        machine = self.cluster.nodes[node_id].machine
        apply = machine.apply

        def noted(entries, conf_state=None):
            applied = apply(entries, conf_state)
            for index, origin, sequence in applied:
                self.places.setdefault((origin, sequence), set()).add(index)
            return applied

        machine.apply = noted

    def write(self, replica):
        waiter = Told()
        sequence, data = replica.proposals.add([(b"k%d" % self.rng.randrange(3), b"%d" % len(self.told))], waiter)
        assert (replica.proposals.origin, sequence) not in self.told
        self.told[replica.proposals.origin, sequence] = waiter
        replica._propose(Proposal(data, math.inf))
        replica.run()

    def turn(self):
        rng, cluster = self.rng, self.cluster
        choice = rng.random()
        senders = list(cluster.waiting())
        if choice < 0.68 and senders:
            sender = rng.choice(senders)
            at = rng.randrange(min(6, len(sender.sent)))
            to, message, snapshot = sender.sent[at]
            if message.type == MSG_PROP and rng.random() < 0.7:
                return  # it stays where it is, while others overtake it
            if message.type not in (MSG_PROP, MSG_SNAP) and rng.random() < 0.1:
                sender.sent.append((to, replace(message), snapshot))
            cluster.deliver(sender, at)
        elif choice < 0.85:
            replica = rng.choice(list(cluster.nodes.values()))
            replica.tick()
            replica.run()
        elif choice < 0.97:
            self.write(rng.choice(list(cluster.nodes.values())))
        elif choice < 0.98:
            self.lead(rng.choice(list(cluster.nodes)))
        elif choice < 0.983 and len(cluster.nodes) == 3:
            victim = rng.choice(list(cluster.nodes))
            self.killed.add(cluster.nodes[victim].proposals.origin)
            cluster.kill(victim)
        elif choice < 0.99:
            cluster.cut_off(rng.choice(list(cluster.names)))
        else:
            self.mend()

    def lead(self, node_id):
        """Has a node campaign as if its leader had asked for it: no lease and no pre-vote is in its way."""
        replica = self.cluster.nodes[node_id]
        if not replica.leads and replica.raft.term:
            other = node_id % 3 + 1
            replica.step(Message(MSG_TIMEOUT_NOW, to=node_id, from_=other, term=replica.raft.term))

    def mend(self):
        self.cluster.heal()
        for node_id in self.cluster.names.keys() - self.cluster.nodes.keys():
            self.cluster.start(node_id)
            self.watch(node_id)

    def play(self, turns):
        for _ in range(turns):
            self.turn()
        self.mend()
        self.cluster.tick(40)
        for node_id in (1, 2):  # a message that was lost leaves its write open until there is a later term
            self.cluster.elect(node_id)
            self.cluster.tick(2)
        self.judge()

    def judge(self):
        for key, waiter in self.told.items():
            places, outcome = self.places.get(key, set()), waiter.outcome
            assert len(places) <= 1, f"{key} was applied at {places}"
            if key[0] in self.killed:
                continue
            assert outcome is not None, f"{key} has no answer, and the network has been whole for long"
            if isinstance(outcome, int):
                assert places == {outcome}, f"{key} was told {outcome}, and was applied at {places}"
            elif not isinstance(outcome, OutcomeUnknown):
                assert not places, f"{key} was told {outcome!r}, and was applied at {places}"
        contents = self.cluster.contents()
        assert all(content == contents[0] for content in contents)


@pytest.mark.parametrize("part", range(12))
def test_no_write_is_applied_twice_and_no_answer_is_wrong(part):
    run = Run(SEED * 1000 + part)
    run.play(900)
    answered = [waiter.outcome for waiter in run.told.values()]
    assert sum(isinstance(outcome, int) for outcome in answered) > 20


def test_a_write_on_its_way_to_a_dead_leader_is_proposed_to_the_next_one():
    """Its client waits a little longer, and is told the index."""
    run = Run(SEED)
    cluster = run.cluster
    old = cluster.elect(1)
    follower = cluster.nodes[2]
    run.write(follower)
    assert [message.type for _, message, _ in follower.sent] == [MSG_PROP]
    cluster.kill(1)
    cluster.tick(60)
    [waiter] = run.told.values()
    assert isinstance(waiter.outcome, int)
    assert old is not cluster.nodes.get(2)
    run.judge()


def test_a_deposed_leaders_own_writes_are_proposed_to_the_next_one():
    run = Run(SEED)
    cluster = run.cluster
    old = cluster.elect(1)
    cluster.cut_off(1)
    run.write(old)
    cluster.settle()
    cluster.elect(2)
    cluster.tick(30)
    [waiter] = run.told.values()
    assert waiter.outcome is None, "nothing can be known yet"
    cluster.heal()
    cluster.tick(5)
    assert isinstance(waiter.outcome, int)
    run.judge()


def test_a_message_for_an_earlier_term_is_refused_by_the_leader_of_a_later_one():
    """It was on its way while leaders came and went, and the write was proposed again meanwhile."""
    run = Run(SEED)
    cluster = run.cluster
    cluster.elect(1)
    origin = cluster.nodes[2]
    run.write(origin)
    [late] = origin.sent
    origin.sent.clear()
    cluster.elect(3)
    cluster.elect(1)
    cluster.tick(2)
    [waiter] = run.told.values()
    assert isinstance(waiter.outcome, int)
    origin.sent.append(late)
    cluster.settle()
    cluster.tick(2)
    run.judge()


def test_a_node_that_does_not_lead_passes_no_proposal_on():
    run = Run(SEED)
    cluster = run.cluster
    cluster.elect(1)
    run.write(cluster.nodes[2])
    to, message, _ = cluster.nodes[2].sent.pop()
    assert to == 1
    cluster.nodes[3].take(replace(message, to=3))
    [(to, answer, _)] = cluster.nodes[3].sent
    heads = refusal(message.entries, 3, 2, NO_LEADER, cluster.nodes[2].raft.term)
    assert (to, answer.entries, answer.context, answer.reject) == (2, heads.entries, heads.context, True)


def test_what_a_snapshot_hid_is_forgotten_once_it_is_applied():
    desk = Desk(2)
    desk.outstanding.hide(3)
    desk.outstanding.answer([Applied(9, ORIGIN, sequence) for sequence in desk.sequences])
    assert [waiter.outcome for waiter in desk.told] == [9, 9]
    assert not desk.outstanding._hidden
