"""The calls of clients that wait: a write until it is applied here, a read until what is applied here is recent enough.

    a client's thread                              the node's thread
    propose ────── proposal ──▶ inbox ──▶ Raft ──▶ … ──▶ committed ──▶ applied here ──▶ Proposals.answer ─┐
       wait  ◀────────────────────────────────────────────────── its index ────────────────────────────────┘
    read_barrier ─ waiter ────▶ inbox ──▶ a round in which a majority confirms the leader ──▶ ReadRounds.answer ─┐
       wait  ◀────────────────────────────────────── applied up to there ─────────────────────────────────────────┘

Invariants:

1. A write is acknowledged after it is applied here, so after a majority has it on disk; never before.
2. Whoever stops to wait is told that the outcome is unknown: the entry may be in somebody's log, and may be applied yet.
   Never that it failed.
3. A linearizable read is answered after a round that began after the call.

How a thread waits is handed in (`new_waiter`), so that a test needs no clock. For any thread.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from engines.kvstore import Operation
from server.errors import NodeStopped, NoLeader, OutcomeUnknown
from server.evaluation import Request
from server.principal import Principal
from server.proposals import Proposal, Proposals
from server.reads import Waiter
from server.sessions import Serial

__all__ = ["Asked", "Waits"]

UNWAITED_S = 5.0  # how long a proposal is wanted that nobody waits for: as long as the others
CONSISTENCIES = ("linearizable", "lease", "stale")


class Asked(NamedTuple):
    """What Waits asks of the node around it; all of it is for any thread.

    propose, read: put something into the node's inbox. leader: its id, 0 if none is known. require_member: raises NoLeader
    if the node is kept out of its cluster. lease: as read, for reads that the leader's lease may answer; None if there are
    no leases. applied_index: of the engine here. stopping: whether the node's thread may
    have ended, so that nobody takes from the inbox any more. now: seconds, by the clock of the proposals' deadlines.
    """

    propose: Callable[[Proposal], None]
    read: Callable[[Waiter], None]
    leader: Callable[[], int]
    require_member: Callable[[], None]
    applied_index: Callable[[], int]
    stopping: Callable[[], bool]
    now: Callable[[], float]
    lease: Callable[[Waiter], None] | None = None

    def for_leases(self) -> Asked:
        """The same for lease reads: they go to `lease`, where there is one."""
        return self if self.lease is None else self._replace(read=self.lease)


class Waits:
    """The clients' side of one node."""

    def __init__(self, proposals: Proposals, asked: Asked, new_waiter: Callable[[], Waiter] = Waiter) -> None:
        self._proposals = proposals
        self._asked = asked
        self._new_waiter = new_waiter

    def propose(self, operations: Sequence[Operation | Serial | Principal], timeout_s: float = 5.0) -> int:
        """Replicates puts (key, value) and deletes (key, None) as one; returns the log index once applied here.

        The waiter is known to `Proposals.add` before the proposal, with its deadline of `timeout_s` from now, goes to
        `asked.propose`. Whatever comes of it, the proposal's sequence is forgotten (`Proposals.forget`) when this returns.
        Raises InvalidKey, InvalidValue, TooLarge, NoLeader, Overloaded, NodeStopped, and the errors of a session
        (NumberPassed, SessionExpired): then this did nothing. Raises OutcomeUnknown, also if `Waiter.wait` gives None, after
        `timeout_s`: it may have been written, or may be yet.
        """
        self._asked.require_member()
        waiter = self._new_waiter()
        sequence, data = self._proposals.add(operations, waiter)
        self._asked.propose(Proposal(data, self._asked.now() + timeout_s))
        try:
            index = waiter.wait(timeout_s)
        finally:
            self._proposals.forget(sequence)
        if index is None:
            raise OutcomeUnknown(
                f"the write was not applied within {timeout_s:g} s and may still be: read the key to find out"
            )
        return index

    def request(self, data: bytes, timeout_s: float) -> object:
        """Has a request evaluated where it is applied (server/evaluation.py), and returns what it came to: a response, or
        an exception for its client. Waits, and raises, as `propose` does."""
        self._asked.require_member()
        waiter = self._new_waiter()
        sequence, encoded = self._proposals.add([Request(data)], waiter)
        self._asked.propose(Proposal(encoded, self._asked.now() + timeout_s))
        try:
            evaluated = waiter.wait_evaluated(timeout_s)
        finally:
            self._proposals.forget(sequence)
        if evaluated is None:
            raise OutcomeUnknown(f"the request was not applied within {timeout_s:g} s and may still be")
        return evaluated.answer

    def propose_nowait(self, operations: Sequence[Operation | Serial | Principal]) -> None:
        """Proposes and doesn't wait, as raftexample does: whether it will be applied is anybody's guess, for some seconds.

        Raises InvalidKey, InvalidValue, TooLarge, NoLeader, Overloaded, NodeStopped.
        """
        self._asked.require_member()
        if not self._asked.leader():
            raise NoLeader("no leader is known, so the write was not proposed: try again soon")
        _, data = self._proposals.add(operations, None)
        self._asked.propose(Proposal(data, self._asked.now() + UNWAITED_S))

    def read_barrier(self, consistency: str = "linearizable", timeout_s: float = 5.0) -> int:
        """Returns an applied index, once what this node has applied is recent enough to be read.

        "linearizable" and "lease" (the same here: a node has another Waits for lease reads, whose `asked` is
        `Asked.for_leases`): everything acknowledged anywhere before this call is visible; a new waiter goes to
        `asked.read`, and what it is resolved with is the answer. "stale": `asked.applied_index` at once, without a
        waiter; the answer may be of any earlier time.
        Raises ValueError for any other word; NoLeader if the node is kept out, if no leader is known, and when `timeout_s`
        passes; NodeStopped, also if `asked.stopping` says so after the waiter was handed over, because nobody may be
        there then to resolve it.
        """
        if consistency not in CONSISTENCIES:
            raise ValueError(f"consistency must be linearizable, lease or stale, and not {consistency!r}")
        waiter = self._new_waiter()
        if consistency != "stale":
            self._asked.require_member()
            self._asked.read(waiter)
        if self._asked.stopping():
            raise NodeStopped("the node has stopped")
        if consistency == "stale":
            return self._asked.applied_index()
        index = waiter.wait(timeout_s)
        if index is None:
            raise NoLeader(f"no leader confirmed the read within {timeout_s:g} s: try again, or read stale")
        return index
