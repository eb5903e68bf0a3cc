"""Random runs in which nodes lose their logs, or get older copies of them, and are handled as server/roster.py says.

A node's directory is emptied while it is down, or a copy of an earlier time is put back. Its members remember it: each
pair of nodes judges each other with the server's own Roster before a message between them counts, and a node that learns
that it is kept out neither ticks nor sends. What must hold is all of simulation.py, Leader Completeness and One Vote
among it: a node that voted again, or acknowledged without knowing what it has promised, would break them.

A directory is lost only when every other node has heard of it; server/IDENTITY.md, "What can't be told", is why.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field

from raft import SNAPSHOT_FAILURE, ConfState, Message, RaftError
from server.identity import Identity, Met
from server.roster import Roster
from tests.raft.network import Application, Disk, Peer
from tests.raft.simulation import History, Profile, Simulation, Violation

__all__ = ["PROFILES", "Forgetful", "play"]

PROFILES = {
    "three": Profile(crash=14, start=30, propose=60, partition=12, tick=150),
    "five": Profile(nodes=5, crash=20, start=50, propose=60, partition=14, tick=150),
    "snapshots": Profile(crash=14, start=30, propose=60, partition=12, tick=150, snapshot=8),
}
LOSE_EVERY = 60  # events, about, between two attempts to lose a directory


@dataclass
class Directory:
    """What a node has on its disk besides the log, and the node's memory of the others while it runs."""

    identity: Identity
    roster: Roster = field(init=False)
    heard: dict[int, Met] = field(default_factory=dict)  # the directories that its connections of now began with
    older: tuple[Disk, Identity] | None = None

    def start(self, session: int) -> None:
        """Another start: counted before anybody hears of it."""
        self.identity = self.identity.started(self.identity.starts + 1, session)
        self.heard = {}
        self.roster = Roster(self.identity, self._remember)

    def _remember(self, met: dict[int, Met]) -> None:
        self.identity = self.identity.remembering(met)


class _History(History):
    """A node that is kept out may still vote for itself, before it hears of it; it doesn't matter, for nobody hears it."""

    def __init__(self, lost: set[int]) -> None:
        super().__init__()
        self.lost = lost

    def see_vote(self, node_id: int, term: int, candidate: int) -> None:
        if node_id not in self.lost:
            super().see_vote(node_id, term, candidate)


class Forgetful(Simulation):
    """One run. `losses` tells what was lost, for a test that wants to know that something was."""

    def __init__(self, seed: int, profile: Profile) -> None:
        super().__init__(seed, profile)
        self.directories = {node_id: Directory(self._new_identity(node_id)) for node_id in self.ids}
        for directory in self.directories.values():
            directory.start(self.rng.getrandbits(64))
        self.lost: set[int] = set()
        self.losses = {"emptied": 0, "older": 0}
        self.history = _History(self.lost)

    def _new_identity(self, node_id: int) -> Identity:
        members = {each: f"node{each}:1" for each in self.ids}
        return Identity(1, node_id, self.rng.getrandbits(64), "memory", members)

    def run(self, events: int) -> None:
        for _ in range(events // LOSE_EVERY):
            super().run(LOSE_EVERY)
            self._lose_a_directory()

    # Losing.

    def _lose_a_directory(self) -> None:
        """Of a minority of the nodes, ever: they never come back, and the others have to go on."""
        if len(self.lost) == (len(self.ids) - 1) // 2:
            return
        down = [peer for peer in self.peers.values() if not peer.up and peer.id not in self.lost]
        if not down:
            return
        peer = self.rng.choice(down)
        directory = self.directories[peer.id]
        if directory.older is not None and self._is_remembered(directory.older[1], starts=1):
            peer.disk, directory.identity = directory.older
            self._lose_it(peer, "older")
        elif self.rng.random() < 0.3:
            directory.older = copy.deepcopy((peer.disk, directory.identity))
        elif self._is_remembered(directory.identity, starts=0):
            peer.disk = Disk(ConfState(self.ids))
            directory.identity = self._new_identity(peer.id)
            self._lose_it(peer, "emptied")

    def _is_remembered(self, identity: Identity, starts: int) -> bool:
        """Whether all others know this directory, in a start that came so many after the identity's."""
        others = [each for each in self.directories.values() if each.identity.node_id != identity.node_id]
        met = [each.identity.met.get(identity.node_id) for each in others if each.identity.node_id not in self.lost]
        return all(each is not None and each.starts >= identity.starts + starts for each in met)

    def _lose_it(self, peer: Peer, what: str) -> None:
        self.lost.add(peer.id)
        self.losses[what] += 1
        # Its connections have ended with its process, and what was on them.
        self.flying = [data for data in self.flying if Message.decode(data).from_ != peer.id]
        peer.application = Application()
        snapshot = peer.disk.replay().snapshot()
        if not snapshot.is_empty():
            peer.application.install(snapshot.data)

    # Being kept out.

    def _is_kept_out(self, node_id: int) -> bool:
        return bool(self.directories[node_id].roster.kept_out)

    def _some_peer(self) -> Peer | None:
        peer = super()._some_peer()
        return None if peer is None or self._is_kept_out(peer.id) else peer

    def _drive_peer(self, peer: Peer) -> bool:
        return not self._is_kept_out(peer.id) and super()._drive_peer(peer)

    def _up(self) -> list[Peer]:
        return [peer for peer in super()._up() if not self._is_kept_out(peer.id)]

    def _agreed(self, leader: Peer, target: int) -> bool:
        indexes = {peer.application.index for peer in self.peers.values() if peer.id not in self.lost}
        return len(indexes) == 1 and indexes.pop() >= target

    def _start(self, peer: Peer) -> None:
        """It introduces itself to all that it reaches, before anything else."""
        super()._start(peer)
        self.directories[peer.id].start(self.rng.getrandbits(64))
        for other in self.peers.values():
            if other is not peer and other.up and self.group[other.id] == self.group[peer.id]:
                self._shake_hands(peer.id, other.id)

    def _shake_hands(self, one: int, other: int) -> None:
        """A new connection: each says who it is and what it remembers, and judges the other."""
        first, second = self.directories[one], self.directories[other]
        if not second.roster.judge(first.roster.hello()) and not first.roster.judge(second.roster.hello()):
            second.heard[one] = first.roster.hello().met
            first.heard[other] = second.roster.hello().met

    def _arrive(self, data: bytes) -> None:
        message = Message.decode(data)
        sender, receiver = message.from_, message.to
        if self.peers[receiver].up and self.group[sender] == self.group[receiver]:
            first, second = self.directories[sender], self.directories[receiver]
            new = second.heard.get(sender) != first.roster.hello().met or first.roster.known() != second.roster.known()
            if new and self.peers[sender].up:
                self._shake_hands(sender, receiver)
            if second.heard.get(sender) != first.roster.hello().met or self._is_kept_out(receiver):
                self._report(message, SNAPSHOT_FAILURE)
                return
        super()._arrive(data)


def play(seed: int, profile: Profile, events: int) -> Forgetful:
    """One run from beginning to end, as simulation.play."""
    simulation = Forgetful(seed, profile)
    try:
        simulation.run(events)
        simulation.converge()
    except (RaftError, AssertionError) as error:
        raise Violation(f"seed {seed}: {error}") from error
    return simulation
