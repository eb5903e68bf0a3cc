"""Random runs in which nodes lose their logs, or get older copies of them, and are handled as server/roster.py says.

A node's directory is emptied while it is down, or a copy of an earlier time is put back. Its members remember it: each
pair of nodes judges each other with the server's own Roster before a message between them counts, and a node that learns
that it is kept out neither ticks nor sends. What must hold are all properties of raft/simulation/invariants.py, Leader
Completeness and One Vote among them: a node that voted again, or acknowledged without knowing what it has promised,
would break them.

A directory is lost only when every other node has heard of it; server/IDENTITY.md, "What can't be told", is why.
"""

from __future__ import annotations

import copy
import heapq
import random
from dataclasses import dataclass, field

from raft import SNAPSHOT_FAILURE, ConfState, Message
from raft.simulation.application import Application
from raft.simulation.disk import Disk
from raft.simulation.peer import Peer
from raft.simulation.plan import TICK, USUAL, Kind, Plan, Profile, draw_as
from raft.simulation.simulation import Simulation, play
from server.identity import Identity, Met
from server.roster import Roster

__all__ = ["PROFILES", "Forgetful", "forget"]

_WEIGHTS = {**USUAL, Kind.CRASH: 18, Kind.PARTITION: 12, Kind.SNAPSHOT: 0}
PROFILES = {
    "three": Profile(weights=_WEIGHTS),
    "five": Profile((5,), steps=140, weights={**_WEIGHTS, Kind.CRASH: 24}),
    "snapshots": Profile(weights={**_WEIGHTS, Kind.SNAPSHOT: 12}),
}
LOSE_EVERY = 6 * TICK
"""Between two attempts to lose a directory."""


@dataclass
class Directory:
    """What a node has on its disk besides the log, and the node's memory of the others while it runs."""

    identity: Identity
    roster: Roster = field(init=False)
    heard: dict[int, Met] = field(default_factory=dict)  # the directories that its current connections began with
    older: tuple[Disk, Identity] | None = None

    def start(self, session: int) -> None:
        """Another start: counted before anybody hears of it."""
        self.identity = self.identity.started(self.identity.starts + 1, session)
        self.heard = {}
        self.roster = Roster(self.identity, self._remember)

    def _remember(self, met: dict[int, Met]) -> None:
        self.identity = self.identity.remembering(met)


class Forgetful(Simulation):
    """One run. `losses` tells what was lost, for a test that wants to know that something was."""

    def __init__(self, plan: Plan) -> None:
        self.luck = random.Random(f"amnesia/{plan.seed}")
        self.members = tuple(range(1, plan.nodes + 1))
        self.directories = {node_id: Directory(self._new_identity(node_id)) for node_id in self.members}
        for directory in self.directories.values():
            directory.start(self.luck.getrandbits(64))
        self.losses = {"emptied": 0, "older": 0}
        super().__init__(plan, random.Random)
        self.lost = self.invariants.lost

    def _new_identity(self, node_id: int) -> Identity:
        members = {each: f"node{each}:1" for each in self.members}
        return Identity(1, node_id, self.luck.getrandbits(64), "memory", members)

    def run(self) -> None:
        for at in range(LOSE_EVERY, self.plan.length, LOSE_EVERY):
            self.after(at, self._lose_a_directory)
        super().run()

    # Losing.

    def _lose_a_directory(self) -> None:
        """Of a minority of the nodes, ever: they never come back, and the others have to go on."""
        if len(self.lost) == (len(self.ids) - 1) // 2:
            return
        down = [peer for peer in self.peers.values() if not peer.up and peer.id not in self.lost]
        if not down:
            return
        peer = self.luck.choice(down)
        directory = self.directories[peer.id]
        if directory.older is not None and self._is_remembered(directory.older[1], starts=1):
            peer.disk, directory.identity = directory.older
            self._lose_it(peer, "older")
        elif self.luck.random() < 0.3:
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
        self.heap[:] = [event for event in self.heap if not _is_from(peer.id, event[3])]
        heapq.heapify(self.heap)
        peer.storage = peer.disk.replay()
        peer.application = Application()
        if not peer.storage.snapshot().is_empty():
            peer.application.install(peer.storage.snapshot().data)

    # Being kept out.

    def takes_part(self, peer: Peer) -> bool:
        return super().takes_part(peer) and not self.directories[peer.id].roster.kept_out

    def agreed(self, leader: Peer, target: int) -> bool:
        indexes = {peer.application.index for peer in self.peers.values() if peer.id not in self.lost}
        return len(indexes) == 1 and indexes.pop() >= target

    def started(self, peer: Peer) -> None:
        """It introduces itself to all that it reaches, before anything else."""
        super().started(peer)
        if peer.starts == 1:
            return
        self.directories[peer.id].start(self.luck.getrandbits(64))
        for other in self.peers.values():
            if other is not peer and other.up and self._are_connected(peer.id, other.id):
                self._shake_hands(peer.id, other.id)

    def _are_connected(self, one: int, other: int) -> bool:
        return not {(one, other), (other, one)} & self.network.cut

    def _shake_hands(self, one: int, other: int) -> None:
        """A new connection: each says who it is and what it remembers, and judges the other."""
        first, second = self.directories[one], self.directories[other]
        if not second.roster.judge(first.roster.hello()) and not first.roster.judge(second.roster.hello()):
            second.heard[one] = first.roster.hello().met
            first.heard[other] = second.roster.hello().met

    def arrive(self, message: Message) -> None:
        sender, receiver = message.from_, message.to
        if not self._are_connected(sender, receiver):
            self.report(message, SNAPSHOT_FAILURE)  # a connection needs both directions
            return
        if self.peers[receiver].up:
            first, second = self.directories[sender], self.directories[receiver]
            new = second.heard.get(sender) != first.roster.hello().met or first.roster.known() != second.roster.known()
            if new and self.peers[sender].up:
                self._shake_hands(sender, receiver)
            if second.heard.get(sender) != first.roster.hello().met or not self.takes_part(self.peers[receiver]):
                self.report(message, SNAPSHOT_FAILURE)
                return
        super().arrive(message)


def _is_from(node_id: int, arguments: tuple[object, ...]) -> bool:
    return isinstance(arguments[0], Message) and arguments[0].from_ == node_id if arguments else False


def forget(seed: int, profile: str) -> Forgetful:
    """One run from beginning to end."""
    plan = draw_as(seed, random.Random(f"plan/{seed}"), profile, PROFILES[profile])
    simulation = Forgetful(plan)
    play(simulation)
    return simulation
