"""What must hold in addition when nodes lose their disks and come back with empty ones (readmission.py).

One Vote             of a disk: what the node promised on the lost one is gone
Committed On Quorum  of the disks that the leader's book names: a lost one counts with what it had, as long as the
                     leader counts it
Back With Everything a node with another disk than its first is a voter, anywhere, and votes for anybody, only with
                     everything on that disk that was committed when it was first asked for
Back In Order        such a node campaigns and leads only after it has applied its own promotion
"""

from __future__ import annotations

from typing import Any

from raft.simulation.invariants import Invariants, Violation
from raft.simulation.peer import Peer
from raft.state import STATE_FOLLOWER
from raft.storage import MemoryStorage

__all__ = ["ReadmissionRules"]


class ReadmissionRules(Invariants):
    """`peers` are ReturningPeers: readmission.py builds on this module, so they can't be named here."""

    peers: Any

    def __init__(self, peers: Any) -> None:
        super().__init__(peers)
        self.lost_disks: dict[tuple[int, int], MemoryStorage] = {}
        self.asked: dict[tuple[int, int], int] = {}  # node and disk → what was committed when it first asked

    def lose(self, peer: Any) -> None:
        """A disk is lost; what it had is kept here, to be held against what a leader believes."""
        self.lost_disks[peer.id, peer.disk_number] = peer.storage

    def asks(self, peer: Any) -> None:
        """An empty disk is there, and will ask."""
        self.asked[peer.id, peer.disk_number] = self.history.commit

    def has_written(self, leader: Any, other: Any, index: int, term: int) -> bool:
        disk = leader.book.of(other.id).disk
        if disk == other.disk_number:
            return bool(other.has_on_disk(index, term))
        return holds(self.lost_disks[other.id, disk], index, term)

    def voted(self, node_id: int, term: int, candidate: int) -> None:
        peer = self.peers[node_id]
        self.history.see_vote(node_id, term, candidate, peer.disk_number)
        self.check_whole(peer, f"votes for node {candidate} in term {term}")

    def after_event(self, peer: Any) -> None:
        super().after_event(peer)
        self.check_order(peer)

    def check_order(self, peer: Any) -> None:
        """Whether a node that does more than to follow has applied its own promotion."""
        if peer.disk_number and peer.node.raft.state != STATE_FOLLOWER:
            member = peer.book.of(peer.id)
            if member.disk != peer.disk_number or member.since:
                raise Violation(f"Back In Order: node {peer.id} campaigns, and its book says {member}")

    def applied(self, peer: Peer) -> None:
        super().applied(peer)
        self.counted(peer)

    def counted(self, peer: Any) -> None:
        """Whoever counts as a voter on this node has come back with everything."""
        if not self.asked:
            return
        for node_id in peer.node.raft.tracker.voters.ids():
            other = self.peers[node_id]
            if other.disk_number and peer.book.of(node_id).disk == other.disk_number:
                self.check_whole(other, f"is counted by node {peer.id}")

    def check_whole(self, peer: Any, what: str) -> None:
        """Whether a node's disk has everything that was committed when it was first asked for."""
        asked = self.asked.get((peer.id, peer.disk_number), 0)
        if asked and not peer.has_on_disk(asked, self.history.committed[asked][0]):
            raise Violation(
                f"Back With Everything: node {peer.id} {what}, and its disk hasn't entry {asked}, which was committed "
                "when it asked"
            )


def holds(storage: MemoryStorage, index: int, term: int) -> bool:
    """Whether a disk that was lost had an entry."""
    if storage.snapshot().metadata.index >= index:
        return True
    return storage.last_index() >= index and storage.term(index) == term
