"""Nodes lose their disks and come back with empty ones: the safe way back, as a driver around RawNode goes it.

    the node with the empty disk                 the leader                                         the others
    asks, with its id and its disk's number ──▶  is it a member, with another disk?
                                                 proposes `readmit`: a learner, with this number ─▶ commit it without the node
    is heard from here on ◀───────────────────── applies it, and knows nothing of what it has ────▶ apply it: it is heard
    gets snapshot and log ◀──────────────────────
    has everything up to `readmit` ────────────▶ proposes `promote`: a voter again ───────────────▶ commit it without the node
    votes, campaigns, counts

Why that is safe. Node 3 with its lost disk and node 3 with the empty one are two nodes, A and B. `readmit` takes A out of
the configuration and adds B as a learner; `promote` makes B a voter. Each is a change of one voter, and between them one
node at least is in every two majorities, as in any change of the membership (thesis 4.1). What Raft itself doesn't see,
because both have the same id, the drivers guarantee:

 1. Nobody takes B for A: a node's messages count only where the applied book names its disk (book.py, `may_talk`). So a
    majority without B has committed `readmit`, and with it everything that A had helped to commit; who lacks it in his log
    gets no majority any more, whatever A had promised, and however late A's last messages arrive.
 2. Nobody takes A for B: when `readmit` is applied, the leader forgets what A had acknowledged. In terms of RawNode: the
    change is put in force as two, the node's removal and its return as a learner. (One change from voter to learner would
    keep the leader's `match`, and the next heartbeat would tell B of a commit index that its log doesn't reach.)
 3. B doesn't move by itself before it has applied `readmit`: its clock doesn't tick, or, with the first configuration that
    an empty disk begins with, it would campaign. From there on it is a learner, which the library keeps from campaigning.
 4. `promote` is proposed when the leader knows that B has the log up to `readmit`. Everything that was committed when B
    asked stands before that entry. No leader has to remember when that was: the book says which entry it is.

 5. B passes over a heartbeat with a commit index that its log doesn't reach, until it has applied `readmit`: that was made
    for A, and sent late. Afterwards it would mean that B's log is lost, too.

B answers vote requests as every node does, voter in its own view or not (etcd#10998). Only who has applied `promote` asks
it. If B refused until it had itself applied its promotion, the death of the leader at that moment would leave a cluster of
three without a majority that is there.

A majority that has lost its disks never comes back so: nothing is committed without it. Left out: two nodes with the same
id at the same time.
"""

from __future__ import annotations

import contextlib

from raft.errors import ProposalDroppedError
from raft.kinds import ConfChangeType
from raft.raftpb import MSG_HEARTBEAT, ConfChange, ConfChangeV2, ConfState, Message
from raft.rawnode import SNAPSHOT_FAILURE
from raft.simulation.application import Application
from raft.simulation.book import Book, BookApplication, Card, may_talk, promotion, readmission
from raft.simulation.disk import Disk
from raft.simulation.invariants import Invariants
from raft.simulation.losses import can_do_without
from raft.simulation.peer import Peer
from raft.simulation.plan import TICK, USUAL, Kind, Profile, Step
from raft.simulation.readmission_rules import ReadmissionRules
from raft.simulation.simulation import Simulation
from raft.state import STATE_LEADER

__all__ = ["DISK_PROFILES", "Readmission", "ReturningPeer"]

ASK_EVERY = 2 * TICK
_WEIGHTS = {**USUAL, Kind.LOSE_DISK: 6, Kind.CRASH: 8, Kind.PARTITION: 10}
DISK_PROFILES = {
    "disks": Profile(weights=_WEIGHTS, ticks=200),
    "disks-five": Profile((4, 5), steps=140, ticks=200, weights={**_WEIGHTS, Kind.LOSE_DISK: 10, Kind.CRASH: 14}),
    "disks-snapshots": Profile((3, 5), ticks=200, weights={**_WEIGHTS, Kind.SNAPSHOT: 14}),
    "disks-members": Profile((3, 4), 2, steps=140, ticks=200, weights={**_WEIGHTS, Kind.CHANGE: 16}),
}
"""Kinds of runs in which disks are lost."""


class ReturningPeer(Peer):
    """A node that knows the number of its disk, and has the book. Numbers are counted for each node, from 0."""

    disk_number = 0
    application: BookApplication

    def new_application(self) -> Application:
        return BookApplication()

    @property
    def book(self) -> Book:
        """As applied here."""
        return self.application.book

    @property
    def card(self) -> Card:
        """What it shows to those that it meets."""
        return Card(self.id, self.disk_number, self.book)

    def knows_itself(self) -> bool:
        """Whether the book, as applied here, names this node's own disk."""
        return self.book.names(self.id, self.disk_number)

    def replace_disk(self, conf_state: ConfState) -> None:
        """Comes with an empty disk from here on, and with the first configuration. Requires: the node is down."""
        self.disk_number += 1
        self.disk = Disk(conf_state)
        self.storage = self.disk.replay()
        self.application = BookApplication()

    def put_in_force(self, change: ConfChange | ConfChangeV2) -> None:
        """A readmission in two steps: what the leader knew of the old disk goes with the node, and the node comes anew."""
        if change.context.startswith(b"readmit"):
            node_id = change.as_v2().changes[0].node_id
            self.node.apply_conf_change(ConfChange(ConfChangeType.REMOVE_NODE, node_id))
        self.node.apply_conf_change(change)


class Readmission(Simulation):
    """One run. `lost` counts the disks, `returned` the promotions that were proposed."""

    peers: dict[int, ReturningPeer]  # type: ignore[assignment]
    invariants: ReadmissionRules

    def __init__(self, *arguments: object) -> None:
        self.lost = self.returned = 0
        super().__init__(*arguments)  # type: ignore[arg-type]
        self.first = ConfState(self.ids[: self.plan.nodes])
        self.handlers[Kind.LOSE_DISK] = self._lose_disk

    def new_peer(self, node_id: int, conf_state: ConfState) -> Peer:
        return ReturningPeer(node_id, conf_state, self.chance, self.plan.seed, **self.plan.options)

    def new_invariants(self) -> Invariants:
        return ReadmissionRules(self.peers)

    # Losing.

    def _lose_disk(self, peer: Peer, step: Step) -> None:
        """Half of the disks are those of nodes that are on their way back, if there are any."""
        back = [other for other in self.peers.values() if other.up and other.disk_number and not self.votes(other)]
        if back and step.value & 1:
            peer = back[(step.value >> 1) % len(back)]
        if can_do_without(self.peers, peer.id):
            self.crash(peer)
            self.lose_disk(self.peers[peer.id])
            self.after(step.span, self.start, peer)

    def lose_disk(self, peer: ReturningPeer) -> None:
        """A node that is down loses its disk."""
        self.lost += 1
        self.invariants.lose(peer)
        peer.replace_disk(self.first)
        self.invariants.asks(peer)

    def votes(self, peer: ReturningPeer) -> bool:
        """Whether the node knows itself as what it was before."""
        return peer.knows_itself() and not peer.book.of(peer.id).since

    # Who is heard.

    def may_tick(self, peer: Peer) -> bool:
        return super().may_tick(peer) and self.peers[peer.id].knows_itself()

    def _campaign(self, peer: Peer, step: Step) -> None:
        if self.may_tick(peer):
            super()._campaign(peer, step)

    def post(self, delay: int, message: Message) -> None:
        """With the card of the sender at this moment: the process may be another one when it arrives."""
        self.after(delay, self.meet, message, self.peers[message.from_].card)

    def meet(self, message: Message, card: Card) -> None:
        """A message arrives, and counts if the two may talk."""
        receiver = self.peers[message.to]
        pause = self.paused[receiver.id] - self.now
        if pause > 0 and receiver.up:
            self.after(pause, self.meet, message, card)
            return
        if not self.may_talk(card, receiver.card):
            if self.trace is not None:
                self.trace.lost(self.now, message)
            if self.peers[message.from_].disk_number == card.disk:
                self.report(message, SNAPSHOT_FAILURE)
            return
        if not self.is_meant_for_another_disk(message):
            self.arrive(message)
        elif self.trace is not None:
            self.trace.lost(self.now, message)

    def is_meant_for_another_disk(self, message: Message) -> bool:
        """Guarantee 5: a heartbeat that was made when the leader still believed in the old disk."""
        peer = self.peers[message.to]
        beyond = message.type == MSG_HEARTBEAT and message.commit > peer.node.raft.log.last_index()
        return beyond and not peer.knows_itself()

    def may_talk(self, sender: Card, receiver: Card) -> bool:
        """As the drivers judge each other."""
        return may_talk(sender, receiver)

    # Asking, and the leader's part.

    def started(self, peer: Peer) -> None:
        super().started(peer)
        self.after(self.rng.randrange(1, TICK), self._ask, peer, peer.starts)

    def _ask(self, peer: Peer, start: int) -> None:
        """A node with another disk than its first asks all it can reach, again and again: leaders come and go."""
        if peer.starts != start or not peer.up:
            return
        self.after(ASK_EVERY, self._ask, peer, start)
        returning = self.peers[peer.id]
        if not self.votes(returning):
            for other in self.ids:
                if other != peer.id:
                    for delay in self.network.delays(peer.id, other):
                        self.after(delay, self._asked, other, peer.id, returning.disk_number)

    def _asked(self, target: int, node_id: int, disk: int) -> None:
        peer = self.peers[target]
        if self.takes_part(peer) and self.now >= self.paused[target]:
            self.hear(peer, node_id, disk)
            self.wake(peer)

    def hear(self, peer: ReturningPeer, node_id: int, disk: int) -> None:
        """A node is asked by another to be readmitted with this disk: a leader proposes it, others do nothing.

        Only if the node is a member, and no other change is on its way: else it will ask again. A joint configuration has
        to be left first.
        """
        raft = peer.node.raft
        member = raft.tracker.progress.get(node_id)
        if raft.state != STATE_LEADER or member is None or peer.book.names(node_id, disk) or self.changes(peer):
            return
        if raft.tracker.voters.outgoing:
            self.propose(peer, ConfChangeV2())
            return
        votes = not member.is_learner or (bool(peer.book.of(node_id).since) and peer.book.of(node_id).votes)
        self.propose(peer, readmission(node_id, disk, votes))

    def wake(self, peer: Peer) -> None:
        """A leader looks whether somebody on the way back has arrived."""
        if peer.node.raft.state == STATE_LEADER and peer.up:
            self.promote(self.peers[peer.id])
        super().wake(peer)

    def promote(self, peer: ReturningPeer) -> None:
        """Proposes the return of each whose log matches up to its readmission."""
        for node_id, member in peer.book.readmitted():
            progress = peer.node.raft.tracker.progress.get(node_id)
            if progress is not None and self.is_back(progress.match, member.since) and not self.changes(peer):
                self.returned += 1
                self.propose(peer, promotion(node_id, member.disk, member.votes))

    def is_back(self, match: int, since: int) -> bool:
        """Whether a node has everything that was committed when it asked (book.py, invariant 3)."""
        return match >= since

    def changes(self, peer: Peer) -> bool:
        """Whether a change is under way, as far as this leader knows.

        A change that was dropped after the library had noted its index is none: the next one takes that place, empty.
        """
        raft = peer.node.raft
        return bool(raft.log.applied < raft.pending_conf_index <= raft.log.last_index())

    def propose(self, peer: Peer, change: ConfChangeV2) -> None:
        """A leader's proposal; it may be refused, and is made again then."""
        with contextlib.suppress(ProposalDroppedError):
            peer.node.propose_conf_change(change)

    def _change(self, peer: Peer, step: Step) -> None:
        """An operator's change: of a leader, and not while a disk is lost."""
        returning = self.peers[peer.id]
        known = all(returning.book.names(other.id, other.disk_number) for other in self.peers.values())
        if peer.node.raft.state == STATE_LEADER and known and not returning.book.readmitted():
            super()._change(peer, step)

    # The end.

    def end_faults(self) -> None:
        """From here on nodes ask before they campaign: else two of which one doesn't count the other yet may raise their
        terms side by side for long, each too low for the other."""
        for peer in self.peers.values():
            peer.config["pre_vote"] = True
            peer.node.raft.config.pre_vote = True
        super().end_faults()

    def agreed(self, leader: Peer, target: int) -> bool:
        book = self.peers[leader.id].book
        known = all(book.names(each, self.peers[each].disk_number) for each in leader.node.raft.tracker.progress)
        return known and not book.readmitted() and super().agreed(leader, target)
