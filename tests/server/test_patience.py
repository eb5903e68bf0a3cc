"""server/patience.py: who has applied for long gives the others as long again; a clock that the test moves."""

from __future__ import annotations

from pathlib import Path

import pytest

from engines.memory import MemoryStore
from raft import MemoryStorage, RawNode
from raft.raftpb import MSG_HEARTBEAT, MSG_PRE_VOTE, MSG_PRE_VOTE_RESP, MSG_VOTE_RESP, ConfState, Entry, Message
from server.config import NodeConfig, raft_config
from server.patience import WAIT_S_MAX, Patience
from server.timings import TimedMachine
from tests.server.local_nodes import LocalCluster, eventually

TICK_S = 0.05
ELECTION_TICK = 10


class World:
    """A node of three, 1, whose ticks and messages are the test's."""

    def __init__(self) -> None:
        self.now = 100.0
        self.took_s = 0.0
        config = NodeConfig(1, {1: ("a", 1), 2: ("b", 1), 3: ("c", 1)}, "nowhere", tick_s=TICK_S)
        self.raft = RawNode(raft_config(config, MemoryStorage(ConfState(voters=(1, 2, 3))), 0))
        self.patience = Patience(config, self.raft, self._longest_s, lambda: self.now)
        self.sent: list[Message] = []

    def _longest_s(self) -> float:
        took_s, self.took_s = self.took_s, 0.0
        return took_s

    def applied_for(self, took_s: float) -> None:
        """A batch took so long; the node's thread has not ticked meanwhile."""
        self.now += took_s
        self.took_s = took_s

    def tick(self) -> None:
        self.now += TICK_S
        self.patience.tick()
        while self.raft.has_ready():
            ready = self.raft.ready()
            self.sent += ready.messages
            self.raft.advance()

    def ticks_until(self, type_: object = None, most: int = 1000) -> int:
        """How many ticks pass until a message of this type is sent, or until it doesn't lead any more."""
        self.sent.clear()
        leads = self.raft.lead == 1
        for count in range(1, most):
            self.tick()
            if any(message.type == type_ for message in self.sent) or (leads and self.raft.lead != 1):
                return count
        raise AssertionError("it never happened")

    def hear_leader(self) -> None:
        self.raft.step(Message(MSG_HEARTBEAT, to=1, from_=2, term=1))

    def lead(self) -> None:
        self.raft.campaign()
        for kind in (MSG_PRE_VOTE_RESP, MSG_VOTE_RESP):
            while self.raft.has_ready():
                self.raft.ready()
                self.raft.advance()
            self.raft.step(Message(kind, to=1, from_=2, term=1))
        assert self.raft.lead == 1


def test_a_follower_that_was_busy_waits_as_long_again_for_its_leader() -> None:
    world = World()
    world.hear_leader()
    assert ELECTION_TICK <= world.ticks_until(MSG_PRE_VOTE) < 2 * ELECTION_TICK
    world = World()
    world.hear_leader()
    world.applied_for(2.0)
    for _ in range(20):
        world.tick()
    world.hear_leader()  # sent before the leader began: it tells nothing of what comes
    for _ in range(19):
        world.tick()
    assert not any(message.type == MSG_PRE_VOTE for message in world.sent)
    assert ELECTION_TICK <= world.ticks_until(MSG_PRE_VOTE) <= 2 * ELECTION_TICK + 2


def test_a_leader_that_was_busy_gives_its_followers_as_long_again_to_answer() -> None:
    world = World()
    world.lead()
    assert world.ticks_until() <= 2 * ELECTION_TICK
    world = World()
    world.lead()
    world.applied_for(2.0)
    world.tick()
    for _ in range(40 + ELECTION_TICK - 2):
        world.tick()
    assert world.raft.lead == 1
    assert sum(message.type == MSG_HEARTBEAT for message in world.sent) >= 2 * 20
    assert world.ticks_until() <= 2 * ELECTION_TICK


def test_a_leader_that_hands_over_has_no_more_time_for_that() -> None:
    world = World()
    world.lead()
    world.raft.transfer_leadership(2)
    world.applied_for(2.0)
    world.tick()
    assert world.raft.raft.lead_transferee == 2
    for _ in range(ELECTION_TICK):
        world.tick()
    assert world.raft.raft.lead_transferee == 0


@pytest.mark.parametrize(("took_s", "waits"), [(0.24, False), (0.26, True)])
def test_what_is_short_changes_nothing(took_s: float, waits: bool) -> None:
    world = World()
    world.hear_leader()
    world.applied_for(took_s)
    world.tick()
    assert (world.raft.raft.election_elapsed == 0) is waits


def test_nobody_waits_longer_than_the_limit() -> None:
    world = World()
    world.hear_leader()
    world.applied_for(1000.0)
    assert world.ticks_until(MSG_PRE_VOTE) <= WAIT_S_MAX / TICK_S + 2 * ELECTION_TICK


def test_who_knows_no_leader_waits_for_none() -> None:
    world = World()
    world.applied_for(2.0)
    assert world.ticks_until(MSG_PRE_VOTE) < 2 * ELECTION_TICK


def test_who_waits_and_learns_that_its_leader_is_none_any_more_waits_no_longer() -> None:
    world = World()
    world.hear_leader()
    world.applied_for(WAIT_S_MAX)
    world.tick()
    world.raft.step(Message(MSG_PRE_VOTE_RESP, to=1, from_=3, term=2, reject=True))
    assert world.raft.lead == 0
    assert world.ticks_until(MSG_PRE_VOTE) < 2 * ELECTION_TICK


def test_a_machine_knows_what_its_longest_batch_took_since_it_was_asked() -> None:
    times = iter([0.0, 3.0, 3.0, 4.0, 4.0, 4.5])
    machine = TimedMachine(MemoryStore(), 0, (), (), now=lambda: next(times))
    for index in (1, 2):
        machine.apply([Entry(1, index)])
    assert [machine.take_longest_s(), machine.take_longest_s()] == [3.0, 0.0]
    machine.apply([Entry(1, 3)])
    assert machine.take_longest_s() == 0.5


def test_a_node_asks_its_machine_with_each_tick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a machine that says so of every tick, a node that leads gives its followers time, and those never tick."""
    monkeypatch.setattr(TimedMachine, "take_longest_s", lambda machine: 5.0)
    with LocalCluster(tmp_path) as cluster:
        leader = cluster.leader()
        cluster.put(leader, b"a", b"1")
        eventually("the leader waits", lambda: leader._raft.raft.election_elapsed < -200)
        assert all(node._raft.raft.election_elapsed <= 1 for node in cluster.nodes.values())
