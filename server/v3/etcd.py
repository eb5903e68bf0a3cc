"""One node's part of the v3 interface: its tables, its services, and what the node tells them.

    the node's thread ──▶ tick, changes                  the log ──▶ evaluate: one request, on every node
    a service, any thread ──▶ request (through the log), view and barrier (a read)

Revisions begin with the first request in the log (server/mvcc.py). So a leader proposes an empty one before anything else
if there was none; the same is how it takes compaction on while nobody writes, and it proposes to compact by itself, down to
`retention` revisions, once there are twice as many (why so rarely: server/mvcc_compaction.py).

Follows etcd's server/etcdserver/server.go, and for compaction server/etcdserver/api/v3compactor/revision.go, which compacts
every five minutes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

from engines.coding import DecodeError
from raft import RawNode, raftpb
from server.address_book import AddressBook
from server.config import NodeConfig
from server.errors import NodeError, OutcomeUnknown, UndecodableEntry
from server.evaluation import Request
from server.intake import Intake
from server.lease_reads import BothReads
from server.limits import BODY_BYTES_MAX
from server.logs import logger
from server.metrics import Metrics
from server.mvcc import Change, View, Writes
from server.mvcc_compaction import backlog, due
from server.mvcc_rows import Revision, State
from server.proposals import Proposal, Proposals
from server.statemachine import OwnKeys, StateMachine
from server.statemachine_fast import FastMachine, SimplePuts
from server.v3 import status
from server.v3.apply import apply
from server.v3.auth import Around as AuthAround
from server.v3.auth import Auth
from server.v3.failures import DEADLINE, patiently
from server.v3.fast_put import put_in_entry
from server.v3.leases import Leases
from server.v3.leasing import Leasing
from server.v3.messages import Message
from server.v3.method import Caller
from server.v3.rpc import CompactionRequest, InternalRaftRequest, PutResponse, RequestHeader, ResponseHeader
from server.v3.simple_writes import Guarding
from server.v3.standing import Standing
from server.v3.status import Code, Status
from server.v3.subscription import Subscription
from server.v3.watching import Watching
from server.v3.wire import decode, encode
from server.waits import Waits

__all__ = ["Around", "Etcd", "Inside", "Table"]

BEGIN_AGAIN_S = 2.0  # after which a leader proposes again that revisions begin, or a step of compaction
COMPACT_AGAIN_S = 10.0  # the same for what compacts
IDLE_TICKS = 2  # without a new revision, and compaction is taken on
REQUEST_S = 7.0  # etcd's own timeout of a request: 5 s, and two election timeouts


class Around(Protocol):
    """The part of server.node.Node that is asked here; its docstrings say what each call promises."""

    id: int

    @property
    def machine(self) -> StateMachine: ...
    @property
    def config(self) -> NodeConfig: ...
    @property
    def members(self) -> AddressBook: ...
    def read_barrier(self, consistency: str = "linearizable", timeout_s: float = 5.0) -> int: ...
    def later(self, call: Callable[[], object]) -> None: ...
    def send(self, messages: list[raftpb.Message]) -> None: ...
    def alive(self) -> bool: ...


class Inside(NamedTuple):
    """The parts of the node that its thread owns, and what makes proposals. now: seconds by the node's clock."""

    cluster_id: int
    raft: RawNode
    proposals: Proposals
    intake: Intake
    waits: Waits
    reads: BothReads
    now: Callable[[], float]


class Table(Protocol):
    """What is beside the keys, and changed by requests: leases, users. All of it is in the engine as well (OwnKeys)."""

    def begin(self) -> None:
        """A request is about to be evaluated."""

    def undo(self) -> None:
        """It is refused: all that has changed since `begin` is as it was."""


class Etcd:
    """What one node has for the v3 interface. `evaluate`, `first`, `tick`, `changes` and `close` are for the node's thread,
    the rest for any."""

    def __init__(self, retention: int = 0) -> None:
        """retention: how many revisions the leader keeps at least; 0: all."""
        self._retention = retention
        self._node: Around | None = None
        self._inside: Inside | None = None
        self._idle = 0  # ticks without a new revision
        self._seen = 0
        self._begun_at: tuple[int, float] | None = None  # the term in which this node proposed to begin, and when
        self._stepped: tuple[Revision | None, float] = None, 0.0  # from where the last step was proposed, and when
        self._compacting: tuple[int, float] = 0, 0.0  # the revision to which this node proposed to compact, and when
        self.leasing = Leasing()
        self.leases: Leases = self.leasing.table
        self.standing = Standing()
        self.alarms, self.attributes = self.standing.alarms, self.standing.attributes
        self.auth = Auth(
            AuthAround(
                now=lambda: self.inside.now(),
                applied_index=lambda: self.node.machine.applied_index,
                barrier=self.barrier,
                leased=self.leases.keys,
                leased_now=lambda lease: self.leases.keys_in(self.node.machine.store, lease),
            )
        )
        self.watching = Watching(self)
        self.streams, self.hub, self.watches = self.watching.streams, self.watching.hub, self.watching.watches
        self.guarding = Guarding(self.auth, self.alarms)
        self.own_keys: list[OwnKeys] = [self.leases, self.auth, self.hub, *self.standing.own_keys, self.guarding]
        self.tables: list[Table] = [self.leases, self.auth, self.alarms]

    def attach(self, node: Around, inside: Inside) -> None:
        """The node is there, with its state machine; it is about to start."""
        self._node, self._inside = node, inside
        node.machine.evaluate = self.evaluate
        self.auth.tokens.restart(inside.raft.raft.log.last_index())
        if isinstance(node.machine, FastMachine):
            node.machine.simple_puts = SimplePuts(put_in_entry, self.put_response)
        self.guarding.attach(node.machine)
        node.machine.changes_taps.append(self.changes)
        self.watching.attach(node.machine)
        self.leasing.attach(node, inside, self._propose_request)
        self.standing.attach(node, self._propose_request)

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

    def header(self, revision: int) -> ResponseHeader:
        """What every answer begins with."""
        inside = self.inside
        return ResponseHeader(inside.cluster_id, self.node.id, revision, inside.raft.term)

    def identify(self, caller: Caller) -> Caller:
        """The caller with the name that its token stands for. Raises Status, NodeError. May wait for a token's entry to be
        applied here, unless `auth.ready` says that it won't."""
        return self.auth.identify(caller)

    def has_leader(self) -> bool:
        """Whether this node knows of a leader."""
        return self.inside.raft.lead != 0

    def subscribe(self, key: bytes, range_end: bytes = b"", start_revision: int = 0) -> Subscription:
        """The changes of a key or a range from a revision on, 0: those that come from here on (server/v3/subscription.py)."""
        return self.watching.subscribe(key, range_end, start_revision)

    def request(self, request: InternalRaftRequest, timeout_s: float = REQUEST_S) -> Message:
        """Has a request go through the log and evaluated on every node; returns what it came to here.

        Raises Status if it was refused then, or is too large for a request; NodeError as `Waits.propose` does: NoLeader,
        Overloaded, NodeStopped, TooLarge, OutcomeUnknown. Waits.
        """
        data = encode(request)
        if len(data) > BODY_BYTES_MAX:
            raise Status(*status.REQUEST_TOO_LARGE)
        answer = self.inside.waits.request(data, timeout_s)
        if isinstance(answer, Exception):
            raise answer
        assert isinstance(answer, Message)
        return answer

    def is_deleted(self, revision: int) -> bool:
        """Whether this node has deleted what nobody needs who reads at this revision or later."""
        state = self.node.machine.revisions
        return state is not None and state.walked.main >= revision

    def take_compaction_on(self, timeout_s: float = REQUEST_S) -> None:
        """Has every node delete some of the rows that were compacted. Waits; raises NodeError."""
        self.inside.waits.request(b"", timeout_s)

    def ask(self, caller: Caller, field: str, message: Message, timeout_s: float = REQUEST_S) -> Message:
        """Has a caller's request go through the log, as member `field`; waits for a leader if there is none. Raises Status,
        and NodeError as `request` does."""
        who = RequestHeader(username=caller.username, auth_revision=caller.auth_revision)
        asked = InternalRaftRequest(header=who)
        setattr(asked, field, message)
        try:
            return patiently(lambda left_s: self.request(asked, left_s), caller, timeout_s)
        except OutcomeUnknown:
            if self.has_leader():
                raise
            raise Status(Code.UNKNOWN, DEADLINE) from None

    # ---- while applying -----------------------------------------------------------------------------------------

    def evaluate(self, index: int, term: int, data: bytes, writes: Writes) -> object:
        """Evaluates one request of the log (server/evaluation.py): a response, or a Status.

        Only a Status is what the request comes to, on every node. Anything else that is raised ends the node: it may have met
        this one alone (a row that can't be read, memory, a bug), and the others do what this one could only refuse.
        Raises UndecodableEntry for a request that this version of the program doesn't know; another version may.
        """
        try:
            request = decode(InternalRaftRequest, data)
        except DecodeError as error:
            raise UndecodableEntry(index, term, str(error)) from None
        for table in self.tables:
            table.begin()
        try:
            response = apply(self, index, term, request, writes)
        except Status as refused:
            for table in self.tables:
                table.undo()
            return refused
        except Exception:
            logger().exception("the request of entry %d can't be evaluated, so the node stops", index)
            raise
        self.guarding.settle()
        return response

    def put_response(self, revision: int) -> PutResponse:
        """The response to a put that has made this revision."""
        return PutResponse(header=self.header(revision))

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
        self.standing.tick(self.inside.now(), self.inside.raft.lead)
        state = self.node.machine.revisions
        if state is None or not self._leads():
            return
        self._idle = self._idle + 1 if state.revision == self._seen else 0
        self._seen = state.revision
        if self._idle >= IDLE_TICKS and backlog(state) and self._may_step(state):
            self._propose(Request(b""))
        self._compact(state)

    def _may_step(self, state: State) -> bool:
        """Whether the step of compaction that was proposed last has been applied, or is taken for lost: one at a time."""
        now, (walked, at) = self.inside.now(), self._stepped
        if state.walked == walked and now < at + BEGIN_AGAIN_S:
            return False
        self._stepped = state.walked, now
        return True

    def _compact(self, state: State) -> None:
        """Proposes to compact, if it is time."""
        oldest, now = due(state, self._retention), self.inside.now()
        if not oldest:
            return
        asked, at = self._compacting
        if asked <= state.compacted or at + COMPACT_AGAIN_S < now:
            self._compacting = oldest, now
            self._propose(Request(encode(InternalRaftRequest(own_compaction=CompactionRequest(oldest)))))

    def changes(self, changes: Sequence[Change]) -> None:
        """A batch with these changes is in the engine."""
        self.hub.applied(changes)

    def metrics(self) -> Metrics:
        """Leases, streams and watches."""
        return {**self.leasing.metrics(), **self.watching.metrics()}

    def close(self) -> None:
        """The node has stopped."""
        self.watching.close()
        self.leasing.close()

    def _leads(self) -> bool:
        return self.inside.raft.lead == self.node.id

    def _propose_request(self, request: InternalRaftRequest) -> None:
        self._propose(Request(encode(request)))

    def _propose(self, request: Request) -> None:
        """Proposes what nobody waits for. What is refused is tried again in its time."""
        inside = self.inside
        with contextlib.suppress(NodeError):
            proposal = Proposal(inside.proposals.add([request], None)[1], inside.now() + REQUEST_S)
            inside.proposals.take([proposal])
            inside.intake.propose([proposal])
