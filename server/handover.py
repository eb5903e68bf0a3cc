"""Handing over the leadership: to a node that somebody names, and to the best follower before a clean shutdown.

    POST /_/leader/3 ──▶ Handover.ask ──▶ RawNode.transfer_leadership ──▶ … ──▶ node 3 leads ──▶ who asked is told
    SIGTERM ───────────▶ Handover.leave ─▶ the voter that has most of the log ─▶ the same

While it is under way the leader takes no proposals; they wait (server/outstanding.py) and are proposed to the new leader,
so a client sees some milliseconds more. An answer says what is so now: that node leads. One that doesn't come in time says
that it didn't happen yet; Raft gives it up after an election timeout.

Follows etcd's Server.MoveLeader and TransferLeadership (server/etcdserver/server.go). For the node's thread, but for
`transfer`, which is for any other.
"""

from __future__ import annotations

from collections.abc import Callable

from raft import ProgressState, RawNode
from server.errors import NodeStopped, NoLeader, NotAVoter
from server.reads import Waiter

__all__ = ["Handover"]


class Handover:
    """Who waits for which node to lead."""

    def __init__(self, raft: RawNode, later: Callable[[Callable[[], object]], None], leader: Callable[[], int]) -> None:
        """later: has a function called in the node's thread. leader: who leads, for any thread."""
        self._raft = raft
        self._later = later
        self._leader = leader
        self._waiting: list[tuple[int, Waiter]] = []

    def transfer(self, node_id: int, timeout_s: float) -> int:
        """Returns the term in which this node leads. Raises NodeError: NoLeader if it doesn't come to that in time."""
        waiter = Waiter()
        self._later(lambda: self.ask(node_id, waiter))
        term = waiter.wait(timeout_s)
        if term is None:
            raise NoLeader(f"node {node_id} did not take over within {timeout_s:g} s, and node {self._leader()} leads")
        return term

    def ask(self, node_id: int, waiter: Waiter) -> None:
        """Has the leader hand over to this node; `waiter` is told the term in which it leads, or why it can't."""
        raft = self._raft
        voters = raft.raft.tracker.voters.ids()
        if node_id not in voters:
            names = ", ".join(map(str, sorted(voters)))
            waiter.resolve(NotAVoter(f"node {node_id} can't lead, because it has no vote here: the voters are {names}"))
        elif raft.lead == node_id:
            waiter.resolve(raft.term)
        elif not raft.lead:
            waiter.resolve(NoLeader("no leader is known that could hand over: try again soon"))
        else:
            self._waiting.append((node_id, waiter))
            raft.transfer_leadership(node_id)

    def leave(self, waiter: Waiter) -> None:
        """If this node leads, has it hand over to the follower that has most of the log; `waiter` is told when another
        leads, or when nobody else can."""
        raft = self._raft
        own = raft.raft.id
        voters = raft.raft.tracker.voters.ids()
        progress = raft.status().progress
        able = [
            (peer.match, node_id)
            for node_id, peer in progress.items()
            if node_id != own and node_id in voters and peer.recent_active and peer.state == ProgressState.REPLICATE
        ]
        if raft.lead != own or not able:
            waiter.resolve(raft.term)
        else:
            self.ask(max(able)[1], waiter)

    def look(self) -> None:
        """Tells those whose node leads now, and forgets those who have given up. O(who waits)."""
        if not self._waiting:
            return
        raft = self._raft
        for node_id, waiter in self._waiting:
            if raft.lead == node_id:
                waiter.resolve(raft.term)
        self._waiting = [(at, waiter) for at, waiter in self._waiting if raft.lead != at and not waiter.given_up]

    def close(self, stopped: NodeStopped) -> None:
        """The node stops: nobody waits any longer."""
        for _, waiter in self._waiting:
            waiter.resolve(stopped)
        self._waiting = []
