"""A cluster for tests: peers of the simulator, and a network that does what it is told, without a clock or chance.

Peer      one RawNode with its disk and its application (raft/simulation/peer.py)
Network   peers and the messages between them, delivered in order, unless a filter or a partition drops them
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterable
from typing import Any

from raft import SNAPSHOT_FAILURE, SNAPSHOT_FINISH, ConfState, Message, RawNode, StepPeerNotFoundError
from raft.kinds import StateType
from raft.raftpb import MSG_SNAP
from raft.simulation.application import Application
from raft.simulation.disk import Disk
from raft.simulation.peer import Peer as SimulatedPeer

__all__ = ["Application", "Disk", "Network", "Peer"]


class Peer(SimulatedPeer):
    """A simulated node whose chance is Python's, and whose crashes lose everything that wasn't synced."""

    def __init__(self, node_id: int, conf_state: ConfState, seed: int = 0, **config: Any) -> None:
        super().__init__(node_id, conf_state, random.Random, seed, **config)

    def crash(self, rng: random.Random | None = None) -> None:
        super().crash(rng or random.Random(0))

    def restart(self) -> None:
        self.crash()
        self.start()


class Network:
    """Peers, and the messages under way in the order in which they were sent. `drop` decides which never arrive."""

    def __init__(self, ids: Iterable[int] = (1, 2, 3), seed: int = 0, **config: Any) -> None:
        self.voters = tuple(ids)
        self.peers = {node_id: Peer(node_id, ConfState(self.voters), seed, **config) for node_id in self.voters}
        self.flying: list[Message] = []
        self.drop: Callable[[Message], bool] = lambda m: False

    def __getitem__(self, node_id: int) -> RawNode:
        return self.peers[node_id].node

    def isolate(self, *ids: int) -> None:
        """Cuts these nodes off from the others, together."""
        self.drop = lambda m: (m.to in ids) != (m.from_ in ids)

    def heal(self) -> None:
        self.drop = lambda m: False

    def collect(self) -> bool:
        """Lets every node that has a Ready process it. False if none had."""
        busy = False
        for peer in self.peers.values():
            while peer.up and peer.node.has_ready():
                busy = True
                self.flying.extend(peer.process())
        return busy

    def deliver(self) -> None:
        """Delivers what is under way now, through its encoding."""
        flying, self.flying = self.flying, []
        for message in flying:
            peer = self.peers.get(message.to)
            arrives = peer is not None and peer.up and not self.drop(message)
            if message.type == MSG_SNAP and self.peers[message.from_].up:
                self[message.from_].report_snapshot(message.to, SNAPSHOT_FINISH if arrives else SNAPSHOT_FAILURE)
            if peer is None or not arrives:
                continue
            with contextlib.suppress(StepPeerNotFoundError):
                peer.node.step(Message.decode(message.encode()))

    def settle(self) -> None:
        """Processes and delivers until nothing happens any more."""
        for _ in range(1000):
            if not self.collect() and not self.flying:
                return
            self.deliver()
        raise AssertionError("the network doesn't come to rest")

    def tick(self, count: int = 1, ids: Iterable[int] | None = None) -> None:
        for _ in range(count):
            for node_id in ids or self.peers:
                if self.peers[node_id].up:
                    self.peers[node_id].node.tick()
            self.settle()

    def elect(self, node_id: int) -> None:
        """Has a node campaign, and win."""
        self[node_id].campaign()
        self.settle()
        assert self[node_id].status().raft_state == StateType.LEADER, f"node {node_id} didn't win"

    def leader(self) -> int:
        """The leader of the highest term, 0 if there is none."""
        leaders = [peer.node.status() for peer in self.peers.values() if peer.up]
        leaders = [status for status in leaders if status.raft_state == StateType.LEADER]
        return max(leaders, key=lambda status: status.term).id if leaders else 0

    def propose(self, node_id: int, *datas: bytes) -> None:
        self[node_id].propose_batch(datas)
        self.settle()

    def applied(self) -> list[list[bytes]]:
        """What each application has, in order of id."""
        return [peer.application.data for peer in self.peers.values()]
