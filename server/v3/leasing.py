"""One node's part in leases, in one place: the table, the leader's deadlines, and the questions; tied to the node.

    Etcd ── attach ─▶ Leasing ─┬─ table     server/v3/leases.py          what the log says
                               ├─ keeper    server/v3/lease_keeper.py    when they expire, while this node leads
                               └─ calls     server/v3/lease_calls.py     who answers for that, asked on any node

Follows etcd's server/etcdserver/server.go, where it meets the lessor.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from raft.raftpb import Message
from server.config import NodeConfig
from server.intake import Intake
from server.lease_reads import BothReads
from server.metrics import Metrics, describe
from server.statemachine import StateMachine
from server.v3.lease_calls import Around, Leading, LeaseCalls
from server.v3.lease_keeper import LeaseKeeper
from server.v3.leases import Leases
from server.v3.rpc import InternalRaftRequest, LeaseExpireRequest

__all__ = ["LEASE_TTL_MIN_S", "Leasing"]

describe(
    {
        "leases": "Leases that were granted and have not ended.",
        "lease_expiries_total": "Expiries of leases that this node has proposed as the leader.",
        "lease_calls_waiting": "Keepalives and questions about leases that wait for the leader's word.",
    }
)

LEASE_TTL_MIN_S = 2  # etcd's with its own timings: one and a half election timeouts, in whole seconds


class Node(Protocol):
    """The part of server.node.Node that is asked here; its docstrings say what each call promises."""

    id: int

    @property
    def config(self) -> NodeConfig: ...
    @property
    def machine(self) -> StateMachine: ...
    def later(self, call: Callable[[], object]) -> None: ...
    def send(self, messages: list[Message]) -> None: ...
    def alive(self) -> bool: ...


class Inside(Protocol):
    """The parts of the node that its thread owns."""

    @property
    def raft(self) -> Leading: ...
    @property
    def intake(self) -> Intake: ...
    @property
    def reads(self) -> BothReads: ...
    @property
    def now(self) -> Callable[[], float]: ...


class Leasing:
    """`tick` and `close` are for the node's thread; `ttl_min_s` may be set by tests, before the node starts."""

    def __init__(self) -> None:
        self.table = Leases()
        self.ttl_min_s = LEASE_TTL_MIN_S

    def attach(self, node: Node, inside: Inside, propose: Callable[[InternalRaftRequest], object]) -> None:
        """The node is there, and about to start. propose: what nobody waits for."""
        self._node, self._inside = node, inside

        def expire(lease: int, index: int, term: int) -> None:
            propose(InternalRaftRequest(lease_expire=LeaseExpireRequest(ID=lease, index=index, term=term)))

        config = node.config
        self.keeper = LeaseKeeper(self.table, expire, config.election_tick * config.tick_s, inside.now)
        around = Around(node.later, node.send, inside.reads.add_lease, inside.now, lambda: not node.alive())
        self.calls = LeaseCalls(node.id, config.env.rng.getrandbits(64), inside.raft, self.table, self.keeper, around)
        inside.intake.leases = self.calls.hear
        node.machine.lease_moved = self.table.moved

    def tick(self) -> None:
        """A tick of the node."""
        inside, now = self._inside, self._inside.now()
        self.keeper.tick(now, inside.raft.term if inside.raft.lead == self._node.id else 0)
        self.calls.tick(now)

    def pass_time(self, seconds: float) -> None:
        """So many seconds pass for the leases at once; for tests. For the node's thread."""
        self.tick()
        self.keeper.count(seconds)

    def close(self) -> None:
        """The node has stopped."""
        self.calls.close()

    def metrics(self) -> Metrics:
        """Leases, and what is asked about them. For any thread."""
        return {
            "leases": len(self.table),
            "lease_expiries_total": self.keeper.expired,
            "lease_calls_waiting": self.calls.waiting,
        }

    def new_id(self) -> int:
        """An id for a lease whose client names none: 1 to 2^63 - 1. For any thread."""
        return self._node.config.env.rng.getrandbits(62) + 1
