"""Keeping a lease alive, and asking what remains of it, on any node: the leader answers, and a follower asks it.

    a thread of a client        this node's thread                                   the leader's thread
    renew, look ───────────▶ leads? ─ yes ─▶ confirmed as the leader? ─▶ keeper ─▶ answered
                               │ no
                               ├─ a leader is known ─▶ ASK ══ a frame of Raft's messages ══▶ the same there
                               │                        ◀═══════════ ANSWER ════════════════┘
                               └─ none ─▶ again in a tick, until the call's time is over: no leader

A question goes through neither log nor disk. It is a message between nodes as Raft's are, on the same connections, after
the same handshake and secret, of a type that Raft has for itself and never sends (server/guards.py); one entry for each:

    ASK      1 kind    8 origin    8 sequence    8 lease
    ANSWER   1 known   8 origin    8 sequence    8 seconds    8 seconds that were granted

Invariants:

1. A leader answers only after it was confirmed as the leader since it was asked: by its lease among the nodes, if it has
   one, else by a majority (server/lease_reads.py); and after everything that was committed then is applied here. So no
   lease is kept alive by a leader that another one has replaced, and one that was just granted elsewhere is known.
2. A question may be asked twice, of two leaders even: keeping alive again does no harm.
3. Each call is answered, once, by its deadline at the latest. What waits is bounded.

`renew` and `look` are for any thread, the rest for the node's. Follows etcd's server/lease/leasehttp and LeaseRenew in
server/etcdserver/v3_server.go; invariant 1 is what etcd has since 3.5.13.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable
from typing import NamedTuple, Protocol

from raft.raftpb import Entry, Message
from server.errors import NodeError
from server.evaluation import Evaluated
from server.guards import LEASE_ANSWER, LEASE_ASK
from server.limits import LEASE_CALLS_MAX
from server.reads import Waiter
from server.v3 import status
from server.v3.lease_keeper import LeaseKeeper
from server.v3.leases import Leases
from server.v3.status import Status

__all__ = ["Around", "Known", "LeaseCalls"]

RENEW, LOOK = range(2)
UNHEARD_S = 1.0  # a question of which nothing was heard is asked again

_ASK = struct.Struct("<BQQq")
_ANSWER = struct.Struct("<BQQqq")


class Known(NamedTuple):
    """What the leader says of a lease: seconds (remaining, or granted anew), and what was granted. None of it: no lease."""

    seconds: int
    granted: int


GONE = Known(0, 0)

Answered = Callable[["Known | Status"], object]


class Leading(Protocol):
    """The part of a RawNode that is asked here: who leads (0: unknown), and in which term."""

    @property
    def lead(self) -> int: ...
    @property
    def term(self) -> int: ...


class Around(NamedTuple):
    """What LeaseCalls asks of the node around it.

    later: has a function called in the node's thread. send: hands messages to the transport. confirm: begins a read that the
    leader's lease may answer. now: seconds. stopping: whether the node's thread may have ended.
    """

    later: Callable[[Callable[[], object]], None]
    send: Callable[[list[Message]], None]
    confirm: Callable[[Waiter], None]
    now: Callable[[], float]
    stopping: Callable[[], bool]


class _Call:
    """One call, until it is answered."""

    __slots__ = ("answered", "asked_at", "kind", "lease", "until")

    def __init__(self, kind: int, lease: int, until: float, answered: Answered) -> None:
        self.kind = kind
        self.lease = lease
        self.until = until
        self.answered = answered
        self.asked_at: float | None = None


class _Confirmed(Waiter):
    """A waiter without a thread: who waits is called."""

    __slots__ = ("_then",)

    def __init__(self, then: Callable[[bool], object]) -> None:
        super().__init__()
        self._then: Callable[[bool], object] | None = then

    def resolve(self, outcome: int | NodeError | Evaluated) -> None:
        then, self._then = self._then, None
        if then is not None:
            then(not isinstance(outcome, NodeError))


class LeaseCalls:
    """One node's questions about leases, and its answers to those of the others."""

    def __init__(
        self, node_id: int, origin: int, raft: Leading, leases: Leases, keeper: LeaseKeeper, around: Around
    ) -> None:
        """`origin` tells this node's questions from those of all others, earlier runs of this node among them."""
        self._node_id = node_id
        self._origin = origin
        self._raft = raft
        self._leases = leases
        self._keeper = keeper
        self._around = around
        self._sequences = itertools.count(1)
        self._calls: dict[int, _Call] = {}  # by sequence
        self._closed = False

    # ---- for any thread ---------------------------------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        """How many calls wait for an answer."""
        return len(self._calls)

    def renew(self, lease: int, timeout_s: float, answered: Answered) -> None:
        """Keeps a lease alive; `answered` is called in the node's thread, with GONE if there is no such lease."""
        self._begin(RENEW, lease, timeout_s, answered)

    def look(self, lease: int, timeout_s: float, answered: Answered) -> None:
        """What remains of a lease; as `renew`, except that it stays as it is."""
        self._begin(LOOK, lease, timeout_s, answered)

    def _begin(self, kind: int, lease: int, timeout_s: float, answered: Answered) -> None:
        call = _Call(kind, lease, self._around.now() + timeout_s, answered)
        if self._around.stopping():
            answered(Status(*status.STOPPED))
        else:
            self._around.later(lambda: self._take(call))

    # ---- for the node's thread --------------------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """Time passes: what was not heard is asked again, and whose time is over is told so. O(calls that wait)."""
        for sequence, call in list(self._calls.items()):
            if call.until <= now:
                self._answer(sequence, Status(*(status.TIMEOUT if self._raft.lead else status.NO_LEADER)))
            elif call.asked_at is None or now - call.asked_at >= UNHEARD_S:
                self._ask(sequence, call)

    def hear(self, message: Message) -> None:
        """Takes questions of a peer, or its answers. Requires: server/guards.py has looked at it."""
        if message.type == LEASE_ASK:
            for entry in message.entries:
                self._hear_question(message.from_, entry.data)
            return
        for entry in message.entries:
            known, origin, sequence, seconds, granted = _ANSWER.unpack(entry.data)
            call = self._calls.get(sequence) if origin == self._origin else None
            if call is None:
                continue
            if known:
                self._answer(sequence, Known(seconds, granted))
            else:
                call.asked_at = None  # the next tick asks who leads then

    def close(self) -> None:
        """The node stops: nobody is told anything any more."""
        self._closed = True
        for sequence in list(self._calls):
            self._answer(sequence, Status(*status.STOPPED))

    def _take(self, call: _Call) -> None:
        if self._closed:
            call.answered(Status(*status.STOPPED))
        elif len(self._calls) >= LEASE_CALLS_MAX:
            call.answered(Status(*status.TOO_MANY_REQUESTS))
        else:
            sequence = next(self._sequences)
            self._calls[sequence] = call
            self._ask(sequence, call)

    def _ask(self, sequence: int, call: _Call) -> None:
        raft = self._raft
        if not raft.lead:
            return
        call.asked_at = self._around.now()
        if raft.lead == self._node_id:

            def known(found: Known | None) -> None:
                if found is not None:
                    self._answer(sequence, found)
                else:
                    call.asked_at = None

            self._as_leader(call.kind, call.lease, known)
            return
        data = _ASK.pack(call.kind, self._origin, sequence, call.lease)
        self._send(LEASE_ASK, raft.lead, data)

    def _hear_question(self, peer: int, data: bytes) -> None:
        kind, origin, sequence, lease = _ASK.unpack(data)

        def known(found: Known | None) -> None:
            self._send(LEASE_ANSWER, peer, _ANSWER.pack(found is not None, origin, sequence, *(found or GONE)))

        self._as_leader(kind, lease, known)

    def _as_leader(self, kind: int, lease: int, known: Callable[[Known | None], object]) -> None:
        """Has the question answered if this node leads; None: it doesn't."""

        def confirmed(leads: bool) -> None:
            keeper = self._keeper
            if not leads or not keeper.leads or self._raft.lead != self._node_id:
                known(None)
            elif kind == RENEW:
                keeper.renew(lease, lambda ttl: known(None if ttl is None else Known(ttl, ttl)))
            else:
                granted, remaining = self._leases.granted(lease), keeper.remaining(lease)
                known(GONE if granted is None or remaining is None else Known(remaining, granted.ttl))

        if self._raft.lead != self._node_id:
            known(None)
        else:
            self._around.confirm(_Confirmed(confirmed))

    def _send(self, kind: int, to: int, data: bytes) -> None:
        entries = [Entry(0, 0, data=data)]
        self._around.send([Message(kind, to=to, from_=self._node_id, term=self._raft.term, entries=entries)])  # type: ignore[arg-type]

    def _answer(self, sequence: int, outcome: Known | Status) -> None:
        call = self._calls.pop(sequence, None)
        if call is not None:
            call.answered(outcome)
