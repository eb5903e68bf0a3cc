"""The alarm: who stops when two nodes have applied something else, and that nobody does otherwise."""

from types import SimpleNamespace

import pytest

from raft.raftpb import ConfState, DecodeError, Entry, Message
from server import guards
from server.digest import Point
from server.divergence import PATIENCE, REPORT_EVERY, Diverged, DivergenceAlarm
from server.errors import DirectoryRefused, NodeError
from tests.server.local_nodes import LocalCluster, eventually


class Digest:
    """Stands for a RunningDigest: the same value at every index, unless the node differs."""

    def __init__(self, group, value=7, begin=0):
        self.points, self.group, self.value, self.begin = {}, group, value, begin

    @property
    def now(self):
        return Point(self.begin, self.group.index), self.value

    def note(self, point, value):
        self.points[point] = value


class Group:
    """Alarms whose messages are delivered at once, unless a node is away."""

    def __init__(self, values, leader=1, voters=None, begins=None):
        self.lead, self.term, self.index, self.away = leader, 1, 100, set()
        ids = range(1, len(values) + 1)
        self.voters = list(voters or ids)
        self.stopped = {}
        self.digests = {at: Digest(self, value, (begins or {}).get(at, 0)) for at, value in zip(ids, values)}
        self.alarms = {at: self.alarm(at, ids) for at in ids}

    def alarm(self, node_id, ids):
        members = ConfState(tuple(self.voters), tuple(set(ids) - set(self.voters)))
        machine = SimpleNamespace(digest=self.digests[node_id], conf_state=members)
        return DivergenceAlarm(node_id, machine, self, self.send)

    def send(self, messages):
        for message in messages:
            if not {message.to, message.from_} & (self.away | self.stopped.keys()):
                guards.check(message, message.from_)
                self.guarded(message.to, lambda message=message: self.alarms[message.to].hear(message))

    def guarded(self, node_id, call):
        try:
            call()
        except Diverged as error:
            self.stopped[node_id] = str(error)

    def tick(self, ticks=REPORT_EVERY):
        for _ in range(ticks):
            for node_id, alarm in self.alarms.items():
                if node_id not in self.away | self.stopped.keys():
                    self.guarded(node_id, alarm.tick)
        return self.stopped


def test_nobody_stops_while_all_agree():
    group = Group([7, 7, 7])
    for group.index in range(100, 200):
        assert group.tick() == {}


@pytest.mark.parametrize("wrong", [1, 2, 3])
def test_the_one_that_differs_from_the_majority_stops_within_a_report(wrong):
    """Whether it leads or not. Two reports: one node's came before another's."""
    group = Group([9 if node_id == wrong else 7 for node_id in (1, 2, 3)])
    stopped = group.tick(2 * REPORT_EVERY)
    assert list(stopped) == [wrong]
    assert "from what most of the members have applied" in stopped[wrong]
    group.index += 1
    assert list(group.tick(10 * PATIENCE)) == [wrong], "the others go on"


def test_of_two_nodes_the_one_that_does_not_lead_stops_and_says_that_it_may_be_right():
    stopped = Group([9, 7], leader=1).tick(2 * REPORT_EVERY)
    assert list(stopped) == [2]
    assert "no majority says which of the two is wrong" in stopped[2]


def test_a_third_node_that_is_away_is_waited_for_before_anybody_stops():
    group = Group([9, 7, 7], leader=1)
    group.away = {3}
    assert group.tick(PATIENCE // 2) == {}
    group.away = set()
    assert list(group.tick(2 * REPORT_EVERY)) == [1], "with the third one there is a majority, against the leader"
    group = Group([9, 7, 7], leader=1)
    group.away = {3}
    assert list(group.tick(PATIENCE + 2 * REPORT_EVERY)) == [2], "and without it, the one that doesn't lead stops"


def test_of_three_opinions_the_leaders_stays():
    assert sorted(Group([1, 2, 3], leader=2).tick(2 * REPORT_EVERY)) == [1, 3]


def test_without_a_leader_nobody_stops_where_nothing_can_be_told():
    assert Group([9, 7], leader=0).tick(3 * PATIENCE) == {}


def test_a_learner_has_no_say_and_stops_if_it_differs():
    group = Group([7, 7, 7, 9], voters=[1, 2, 3])
    assert list(group.tick(2 * REPORT_EVERY)) == [4]
    group = Group([9, 7, 9, 9], voters=[1, 2], leader=2)
    assert list(group.tick(2 * REPORT_EVERY)) == [1, 3, 4], "two voters differ, and the leader stays"


def test_digests_that_began_elsewhere_are_not_compared():
    assert Group([7, 7, 9], begins={3: 50}).tick(3 * PATIENCE) == {}


def test_nodes_at_different_entries_are_compared_at_an_equal_one():
    group = Group([7, 7, 9])
    for node_id, digest in group.digests.items():
        digest.begin = 1000 + node_id
    assert group.tick(PATIENCE) == {}
    for digest in group.digests.values():
        digest.points[Point(0, 64)] = digest.value
    assert list(group.tick(2 * REPORT_EVERY)) == [3]


@pytest.mark.parametrize("context", [b"", b"x" * 19, b"x" * 200, b"x" * 21])
def test_a_report_that_nobody_sends_is_refused(context):
    with pytest.raises(DecodeError, match="a report"):
        guards.check(Message(guards.REPORT, to=1, from_=2, term=1, context=context), 2)


# ---- real nodes -------------------------------------------------------------------------------------------------------


def changed(machine, at):
    """One entry has other bytes here than in the log."""
    apply = machine.apply

    def wrong(entries, conf_state=None):
        entries = [Entry(e.term, e.index, e.type, e.data[:-1] + b"!") if e.index == at else e for e in entries]
        return apply(entries, conf_state)

    machine.apply = wrong


def skipped(machine, at):
    """One entry is passed over here only: --skip-entry on one node."""
    proposal_in = machine.proposal_in

    def wrong(entry):
        if entry.index == at:
            machine.passed_over.add(at)
            return None
        return proposal_in(entry)

    machine.proposal_in = wrong


def twice(machine, at):
    """A batch is applied, and applied again: as if the applied index had been lost."""
    apply = machine.apply

    def wrong(entries, conf_state=None):
        applied = apply(entries, conf_state)
        if entries[0].index <= at <= entries[-1].index:
            machine.applied_index = entries[0].index - 1
            apply(entries)
        return applied

    machine.apply = wrong


@pytest.mark.parametrize("break_it", [changed, skipped, twice])
def test_a_node_that_applied_something_else_stops_and_stays_away(tmp_path, break_it):
    """The others go on; its directory says why, and is refused at the next start."""
    with LocalCluster(tmp_path, ("lsm", "btree", "bitcask")) as cluster:
        leader, wrong = cluster.leader(), cluster.follower()
        at = cluster.put(leader, b"k", b"v")
        break_it(wrong.machine, at + 3)
        for number in range(6):
            cluster.put(leader, b"k%d" % number, b"v")
        eventually("the node that differs has stopped", wrong.stopped.is_set)
        assert isinstance(wrong.failure, Diverged)
        cluster.stop(wrong.id)
        with pytest.raises(DirectoryRefused, match="from what most of the members have applied"):
            cluster.start(wrong.id)
        assert cluster.put(leader, b"later", b"v") > 0
        assert all(node.failure is None for node in cluster.nodes.values())
        with pytest.raises(NodeError):
            wrong.propose([(b"k", b"v")])
