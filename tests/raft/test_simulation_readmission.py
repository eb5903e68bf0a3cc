"""Nodes that lose their disks come back with empty ones, and nothing that was committed is lost; each rule is needed for it."""

from __future__ import annotations

import os
import random

import pytest

from raft.kinds import ConfChangeType
from raft.raftpb import (
    ENTRY_CONF_CHANGE_V2,
    MSG_APP,
    MSG_VOTE,
    MSG_VOTE_RESP,
    ConfChangeSingle,
    ConfChangeV2,
    ConfState,
    Entry,
    Message,
)
from raft.simulation.book import Book, BookApplication, Card, Member, may_talk, promotion, readmission
from raft.simulation.invariants import Violation
from raft.simulation.plan import TICK
from raft.simulation.readmission import DISK_PROFILES, Readmission, ReturningPeer
from raft.simulation.readmission_rules import ReadmissionRules
from raft.simulation.simulation import play
from raft.simulator import command, plan_of
from raft.state import STATE_FOLLOWER, STATE_LEADER

SEED = int(os.environ.get("METCD_SEED", "0"))
FEW, MANY = 10, 2_000


def seeds(count: int) -> range:
    return range(SEED * 1_000_000, SEED * 1_000_000 + count)


def play_all(profile: str, numbers: range) -> tuple[int, int]:
    """How many disks were lost, and how many nodes were a leader's voters again."""
    lost = returned = 0
    for seed in numbers:
        simulation = Readmission(plan_of(seed, profile), random.Random)
        try:
            play(simulation)
        except Violation as violation:
            pytest.fail(f"{violation}\n{command(simulation.plan)}")
        lost += simulation.lost
        returned += simulation.returned
    return lost, returned


@pytest.mark.parametrize("profile", DISK_PROFILES)
def test_nodes_with_empty_disks_come_back_and_break_nothing(profile: str) -> None:
    """All properties of invariants.py and readmission_rules.py; and at the end, each node is what it was."""
    lost, returned = play_all(profile, seeds(FEW))
    assert lost > 2 * FEW, lost
    assert returned > FEW, returned


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, MANY, 250))
@pytest.mark.parametrize("profile", DISK_PROFILES)
def test_nodes_with_empty_disks_break_nothing_in_8000_runs(profile: str, first: int) -> None:
    play_all(profile, seeds(MANY)[first : first + 250])


def test_a_seed_repeats_its_run() -> None:
    first, again = (play(Readmission(plan_of(SEED, "disks"), random.Random)) for _ in range(2))
    assert (first.history, first.events) == (again.history, again.events)


@pytest.mark.parametrize("seed", seeds(8))
def test_a_majority_that_has_lost_its_disks_does_not_come_back_by_itself(seed: int) -> None:
    """And nothing is committed without it, however long the others ask and are asked."""
    simulation = Readmission(plan_of(seed, ("disks", "disks-five")[seed % 2]), random.Random)
    play(simulation)
    leader = simulation.leader()
    assert leader is not None
    voters = leader.node.raft.tracker.voters.incoming.ids
    for node_id in voters[: len(voters) // 2 + 1] if seed & 4 else voters[-(len(voters) // 2 + 1) :]:
        simulation.crash(simulation.peers[node_id])
        simulation.lose_disk(simulation.peers[node_id])
    simulation.heap.clear()
    for peer in simulation.peers.values():
        if peer.up:
            simulation.crash(peer)
        simulation.start(peer)
    committed, returned = simulation.history.commit, simulation.returned
    simulation.run_until(simulation.now + 200 * TICK)
    assert simulation.history.commit == committed
    assert simulation.returned == returned
    assert simulation.leader() is None


# Each rule left out.


class _Keeping(ReturningPeer):
    def replace_disk(self, conf_state):
        """The empty disk says that it is the one that was lost."""
        super().replace_disk(conf_state)
        self.disk_number -= 1


class _Believing(ReturningPeer):
    def put_in_force(self, change):
        """The leader goes on with what the lost disk had acknowledged."""
        self.node.apply_conf_change(change)


class _KeepsTheNumber(Readmission):
    def new_peer(self, node_id, conf_state):
        return _Keeping(node_id, conf_state, self.chance, self.plan.seed, **self.plan.options)


class _BelievesTheLostDisk(Readmission):
    def new_peer(self, node_id, conf_state):
        return _Believing(node_id, conf_state, self.chance, self.plan.seed, **self.plan.options)


class _TalksBefore(Readmission):
    def may_talk(self, sender, receiver):
        """Nobody waits until the readmission is applied."""
        return True


class _VotesAtOnce(Readmission):
    def may_tick(self, peer):
        """The empty node's clock runs from the start."""
        return self.takes_part(peer)

    def may_talk(self, sender, receiver):
        """It is heard by whoever has its readmission in the log, applied or not."""
        return super().may_talk(sender, receiver) or self._in_log(sender, receiver) or self._in_log(receiver, sender)

    def _in_log(self, one, other):
        log = self.peers[one.node_id].node.raft.log
        change = b"readmit %d " % other.disk
        return other.disk > 0 and any(
            change in entry.data for entry in log.slice(log.first_index(), log.last_index() + 1, 1 << 40)
        )


class _CountsAtOnce(Readmission):
    def hear(self, peer, node_id, disk):
        """The readmission makes a voter of it."""
        raft = peer.node.raft
        if raft.state == STATE_LEADER and not peer.book.names(node_id, disk) and not self.changes(peer):
            single = ConfChangeSingle(ConfChangeType.ADD_NODE, node_id)
            self.propose(peer, ConfChangeV2(changes=(single,), context=b"readmit %d 1" % disk))


class _PromotesAtOnce(Readmission):
    def is_back(self, match, since):
        """Nobody looks how far its log is."""
        return True


class _AsksAnybody(Readmission):
    def hear(self, peer, node_id, disk):
        """A candidate takes it in by itself."""
        super().hear(peer, node_id, disk)
        if peer.node.raft.state != STATE_LEADER and peer.node.raft.lead == 0 and not peer.book.names(node_id, disk):
            peer.application.book = peer.book.at(peer.application.index, readmission(node_id, disk, True))


class _HearsOldHeartbeats(Readmission):
    def is_meant_for_another_disk(self, message):
        return False


class _BothBooksDecide(Readmission):
    def may_talk(self, sender, receiver):
        """A node that was away during the readmission never hears the one that came back, not even as its leader."""
        return super().may_talk(sender, receiver) and receiver.book.names(sender.node_id, sender.disk)


MUTANTS: dict[type[Readmission], tuple[str, int]] = {
    _KeepsTheNumber: ("disks", 60),
    _TalksBefore: ("disks", 60),
    _VotesAtOnce: ("disks", 60),
    _CountsAtOnce: ("disks", 60),
    _PromotesAtOnce: ("disks", 60),
    _AsksAnybody: ("disks", 60),
    _BelievesTheLostDisk: ("disks", 400),
    _HearsOldHeartbeats: ("disks", 400),
    _BothBooksDecide: ("disks-five", 200),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_rule_that_is_left_out_is_found(mutant: type[Readmission]) -> None:
    profile, within = MUTANTS[mutant]
    for seed in seeds(within):
        try:
            play(mutant(plan_of(seed, profile), random.Random))
        except Violation:
            return
    pytest.fail("nobody noticed")


@pytest.mark.parametrize("mutant", [_KeepsTheNumber, _TalksBefore, _AsksAnybody])
def test_without_the_rule_what_was_committed_is_lost(
    mutant: type[Readmission], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by the paper's own properties, with those of readmission_rules.py left out."""
    monkeypatch.setattr(ReadmissionRules, "check_whole", lambda *_: None)
    monkeypatch.setattr(ReadmissionRules, "check_order", lambda *_: None)
    for seed in seeds(400):
        try:
            play(mutant(plan_of(seed, "disks"), random.Random))
        except Violation as violation:
            if str(violation).startswith(("Leader Completeness", "Committed Immutable", "State Machine", "Election")):
                return
    pytest.fail("nobody noticed")


# The book.


def _card(node_id: int, disk: int, version: int = 0, **members: Member) -> Card:
    return Card(node_id, disk, Book(version, {int(name[1:]): member for name, member in members.items()}))


def test_the_newer_book_decides_who_may_talk() -> None:
    empty, lagging = _card(3, 7), _card(2, 0)
    learns, votes = Member(7, since=41), Member(7)
    assert may_talk(_card(1, 0), lagging)
    assert not may_talk(empty, lagging), "no book names the empty disk"
    assert may_talk(_card(1, 0, 41, n3=learns), empty), "the empty node believes who names it"
    assert not may_talk(_card(1, 0, 41, n3=learns), _card(3, 0)), "the lost disk's last messages come too late"
    assert not may_talk(_card(3, 7, 41, n3=learns), lagging), "on its way back it is heard only by those that know it"
    assert may_talk(_card(3, 7, 58, n3=votes), lagging), "afterwards also by those that were away"


def test_the_book_travels_in_snapshots() -> None:
    application, other = BookApplication(), BookApplication()
    application.book = Book(58, {3: Member(7), 2: Member(9, 58, votes=False)})
    other.install(application.snapshot())
    assert other.book == application.book


def test_a_promotion_is_of_the_disk_that_it_names() -> None:
    book = Book().at(41, readmission(3, 7, True)).at(50, readmission(3, 8, True))
    assert book.at(58, promotion(3, 7, True)) is book
    assert book.at(58, promotion(3, 8, True)) == Book(58, {3: Member(8)})
    assert book.readmitted() == [(3, Member(8, 50, votes=True))]


def test_a_node_whose_promotion_is_not_applied_there_yet_votes() -> None:
    """The leader of three dies when the promotion is in force on node 2: with node 3's vote, two of three go on."""
    three = ReturningPeer(3, ConfState((1, 2, 3)), random.Random)
    three.replace_disk(three.disk.conf_state)
    three.start()
    entry = Entry(1, 1, ENTRY_CONF_CHANGE_V2, readmission(3, 1, True).encode())
    three.node.step(Message(MSG_APP, to=3, from_=1, term=1, entries=[entry], commit=1))
    while three.node.has_ready():
        three.process()
    assert three.knows_itself()
    assert three.node.status().conf_state == ConfState((1, 2), (3,))
    three.node.step(Message(MSG_VOTE, to=3, from_=2, term=2, index=2, log_term=1))
    [answer] = three.process()
    assert (answer.type, answer.to, answer.reject) == (MSG_VOTE_RESP, 2, False)
    for _ in range(50):
        three.node.tick()
    assert three.node.role == STATE_FOLLOWER
