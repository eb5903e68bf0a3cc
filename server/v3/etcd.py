"""One node's part of the v3 interface: its tables, its services, and what the node tells them.

    the node's thread ──▶ tick, changes                  the log ──▶ evaluate: one request, on every node
    a service, any thread ──▶ request (through the log), view and barrier (a read), later

Revisions begin with the first request in the log (server/mvcc.py). So a leader proposes an empty one before anything else
if there was none; the same is how it takes compaction on while nobody writes, and it proposes to compact by itself once
there are `retention` revisions and a tenth more.

Follows etcd's server/etcdserver/server.go, and for compaction server/etcdserver/api/v3compactor/revision.go, which compacts
every five minutes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

from raft import RawNode
from raft.raftpb import Message
from server.config import NodeConfig
from server.errors import NodeError
from server.evaluation import Request
from server.intake import Intake
from server.lease_reads import BothReads
from server.mvcc import Change, View, Writes
from server.mvcc_compaction import backlog
from server.proposals import Proposal, Proposals
from server.statemachine import OwnKeys, StateMachine
from server.v3.leasing import Leasing
from server.v3.wire import encode
from server.waits import Waits

__all__ = ["Around", "Etcd", "Inside"]

BEGIN_AGAIN_S = 2.0  # after which a leader proposes again that revisions begin
IDLE_TICKS = 2  # without a new revision, and compaction is taken on
REQUEST_S = 7.0  # etcd's own timeout of a request: 5 s, and two election timeouts


class Around(Protocol):
    """The part of server.node.Node that is asked here; its docstrings say what each call promises."""

    id: int

    @property
    def machine(self) -> StateMachine: ...
    @property
    def config(self) -> NodeConfig: ...
    def read_barrier(self, consistency: str = "linearizable", timeout_s: float = 5.0) -> int: ...
    def later(self, call: Callable[[], object]) -> None: ...
    def send(self, messages: list[Message]) -> None: ...
    def alive(self) -> bool: ...


class Inside(NamedTuple):
    """The parts of the node that its thread owns, and what makes proposals. now: seconds by the node's clock."""

    raft: RawNode
    proposals: Proposals
    intake: Intake
    waits: Waits
    reads: BothReads
    now: Callable[[], float]


class Etcd:
    """What one node has for the v3 interface. `first`, `tick` and `changes` are for the node's thread, the rest for any."""

    def __init__(self, retention: int = 0) -> None:
        """retention: how many revisions the leader keeps; 0: all."""
        self._retention = retention
        self._node: Around | None = None
        self._inside: Inside | None = None
        self._idle = 0  # ticks without a new revision
        self._seen = 0
        self._begun_at: tuple[int, float] | None = None  # the term in which this node proposed to begin, and when
        self.leasing = Leasing()
        self.own_keys: list[OwnKeys] = [self.leasing.table]

    def attach(self, node: Around, inside: Inside) -> None:
        """The node is there, with its state machine; it is about to start."""
        self._node, self._inside = node, inside
        node.machine.evaluate = self.evaluate
        node.machine.changes_taps.append(self.changes)
        self.leasing.attach(node, inside, lambda request: self._propose(Request(encode(request))))

    @property
    def node(self) -> Around:
        """The node around this."""
        assert self._node is not None
        return self._node

    @property
    def inside(self) -> Inside:
        """The parts of the node."""
        assert self._inside is not None
        return self._inside

    # ---- for services, any thread -------------------------------------------------------------------------------

    def view(self) -> AbstractContextManager[View]:
        """All keys and revisions of one moment."""
        return self.node.machine.view()

    def barrier(self, timeout_s: float = 7.0) -> None:
        """Returns once what is applied here is recent enough for a linearizable read. Raises NodeError."""
        self.node.read_barrier("linearizable", timeout_s)

    # ---- while applying -----------------------------------------------------------------------------------------

    def evaluate(self, index: int, term: int, data: bytes, writes: Writes) -> object:
        """Evaluates one request of the log (server/evaluation.py)."""
        raise NotImplementedError

    # ---- for the node's thread ----------------------------------------------------------------------------------

    def first(self) -> None:
        """The node is about to propose something. If it leads, and revisions have not begun, that comes first."""
        if self.node.machine.revisions is None and self._leads():
            term, now = self.inside.raft.term, self.inside.now()
            if self._begun_at is None or self._begun_at[0] != term or self._begun_at[1] + BEGIN_AGAIN_S < now:
                self._begun_at = term, now
                self._propose(Request(b""))

    def tick(self) -> None:
        """A tick of the node: a leader has revisions begin, has compaction go on while nobody writes, and leases expire."""
        self.leasing.tick()
        self.first()
        state = self.node.machine.revisions
        if state is None or not self._leads():
            return
        self._idle = self._idle + 1 if state.revision == self._seen else 0
        self._seen = state.revision
        if self._idle >= IDLE_TICKS and backlog(state):
            self._propose(Request(b""))

    def changes(self, changes: list[Change]) -> None:
        """A batch with these changes is in the engine."""

    def close(self) -> None:
        """The node has stopped."""
        self.leasing.close()

    def _leads(self) -> bool:
        return self.inside.raft.lead == self.node.id

    def _propose(self, request: Request) -> None:
        """Proposes what nobody waits for. What is refused is tried again in its time."""
        inside = self.inside
        with contextlib.suppress(NodeError):
            proposal = Proposal(inside.proposals.add([request], None)[1], inside.now() + REQUEST_S)
            inside.proposals.take([proposal])
            inside.intake.propose([proposal])
