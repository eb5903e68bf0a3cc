"""Linearizable reads: the rounds in which a leader is confirmed, and the threads that wait for them.

A read may be answered here as soon as two things are known: that some node was still the leader after the read had
begun, and that everything which was committed then has been applied here. Raft's ReadIndex gives both in one round of
heartbeats; the round is shared by all reads that gathered while the one before it was on its way.

    reads       a  b        c d e f                g
    rounds         ├──── 1 (a b) ────┤├── 2 (c d e f) ──┤├── 3 (g)
                                     └ confirmed at index 17: a and b are answered once 17 is applied

Invariants:

1. A read never joins a round that has begun: what confirms the round must have been sent after the read began.
2. At most one round is on its way. One that isn't confirmed in RETRY_TICKS may be lost, and is asked for again, with
   another context. Whichever answer comes confirms it: all its reads had begun before the first was asked. On a slow
   link every answer is a late one, and a round that waited for its last context's only would never end.
3. A context is never used twice, in no round, so that nothing confirms reads that began after it (etcd#20418).
4. A read whose thread has given up is forgotten with its round: a leader that is cut off confirms none for hours.

Follows etcd's server/etcdserver/v3_server.go (linearizableReadLoop).
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from server.errors import NodeError, NoLeader
from server.evaluation import Evaluated
from server.metrics import Metrics, describe

__all__ = ["Outcome", "ReadRounds", "Waiter"]

Outcome = int | NodeError | Evaluated  # the index of an entry, an error to be raised, or what a request came to

RETRY_TICKS = 3

describe(
    {
        "reads_total": "Linearizable reads that this node was asked for.",
        "read_rounds_total": "Rounds of ReadIndex by which they were confirmed, repeated ones among them.",
    }
)

_CONTEXT = struct.Struct("<QQ")


class Waiter:
    """What one waiting thread waits for. A bare lock is half the cost of an Event, and there is one for each request."""

    __slots__ = ("_lock", "_outcome", "given_up")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()
        self._outcome: Outcome | None = None
        self.given_up = False

    def resolve(self, outcome: Outcome) -> None:
        """Wakes the waiting thread; the first outcome counts. For one thread, the node's."""
        if self._outcome is None:
            self._outcome = outcome
            self._lock.release()

    def wait(self, timeout_s: float) -> int | None:
        """The index it was resolved with, or None after `timeout_s`; raises the error it was resolved with."""
        if not self._lock.acquire(timeout=timeout_s):
            self.given_up = True
            return None
        assert self._outcome is not None
        if isinstance(self._outcome, NodeError):
            raise self._outcome
        assert not isinstance(self._outcome, Evaluated)
        return self._outcome

    def wait_evaluated(self, timeout_s: float) -> Evaluated | None:
        """The same for a request: what it came to."""
        if not self._lock.acquire(timeout=timeout_s):
            self.given_up = True
            return None
        if isinstance(self._outcome, NodeError):
            raise self._outcome
        assert isinstance(self._outcome, Evaluated)
        return self._outcome


@dataclass(slots=True)
class _Round:
    """Reads that are confirmed together: who waits, by which contexts, and for how long since the last was asked."""

    waiters: list[Waiter]
    contexts: list[bytes] = field(default_factory=list)
    ticks: int = 0


class ReadRounds:
    """The reads of one node, from their arrival to their answer. Only for the node's thread."""

    def __init__(self, origin: int) -> None:
        """`origin` tells this node's contexts from those of all others, earlier runs of this node among them."""
        self._origin = origin
        self._gathered: list[Waiter] = []  # not yet in a round
        self._round: _Round | None = None  # on its way
        self._confirmed: list[tuple[int, list[Waiter]]] = []  # an index to be applied, and who may read then
        self.reads = 0
        self.rounds = 0  # contexts asked for

    def metrics(self) -> Metrics:
        """How many reads, and how many rounds confirmed them."""
        return {"reads_total": self.reads, "read_rounds_total": self.rounds}

    def add(self, waiter: Waiter) -> None:
        """A read has begun."""
        self.reads += 1
        self._gathered.append(waiter)

    def begin(self, leader: int, read_index: Callable[[bytes], object]) -> None:
        """Begins a round for all gathered reads, or asks again for one that is overdue; no leader: they are refused.

        leader: its id, 0 if none is known. Called after every Ready and tick, so most calls have nothing to do:
        while a round is on its way and not overdue (its `ticks` are RETRY_TICKS at most), or if nothing has gathered.
        A new round (`_round`) takes all that has gathered. To ask, for a new or an overdue round: count in `rounds`, make
        a context of `_origin` and that count with `_CONTEXT`, note it in the round's contexts, begin its ticks anew, and
        call `read_index` with it. If no leader is known, everybody in the round is resolved with NoLeader instead, and
        there is no round any more. O(reads that gathered).
        """
        if self._round is None:
            if not self._gathered:
                return
            self._round = _Round(self._gathered)
            self._gathered = []
        elif self._round.ticks <= RETRY_TICKS:
            return
        if not leader:
            waiters, self._round = self._round.waiters, None
            for waiter in waiters:
                waiter.resolve(NoLeader("no leader is known to confirm the read: try again soon, or read stale"))
            return
        self.rounds += 1
        context = _CONTEXT.pack(self._origin, self.rounds)
        self._round.contexts.append(context)
        self._round.ticks = 0
        read_index(context)

    def tick(self) -> None:
        """Time passes; a round that nobody waits for any more has ended."""
        if self._round is not None:
            self._round.ticks += 1
            if all(waiter.given_up for waiter in self._round.waiters):
                self._round = None

    def confirm(self, context: bytes, index: int) -> None:
        """A leader was confirmed for the round of this context, when `index` was committed.

        If it is one of the contexts of the round that is on its way, the round's waiters go to `_confirmed` with the
        index, and no round is on its way any more. Any other context (of an earlier round, or another node's) is passed
        over. O(contexts).
        """
        if self._round is not None and context in self._round.contexts:
            self._confirmed.append((index, self._round.waiters))
            self._round = None

    def answer(self, applied_index: int) -> None:
        """Wakes the confirmed reads whose index has been applied.

        applied_index: of the engine here. Every waiter of a confirmed index up to it is resolved with the applied index,
        once; the others stay. Called after every Ready, so it has to be quick if nobody waits. O(confirmed rounds).
        """
        if not self._confirmed:
            return
        for index, waiters in self._confirmed:
            if index <= applied_index:
                for waiter in waiters:
                    waiter.resolve(applied_index)
        self._confirmed = [(index, waiters) for index, waiters in self._confirmed if index > applied_index]

    def refuse_all(self, error: NodeError) -> None:
        """The node stops: every read that waits gets `error`."""
        for waiters in (self._gathered, self._round.waiters if self._round else [], *(w for _, w in self._confirmed)):
            for waiter in waiters:
                waiter.resolve(error)
