"""The proposals of one node: those that wait to be taken by the node's thread, and the threads that wait for an outcome.

    any thread      add ──▶ the inbox ──▶ take ──▶ Raft ──▶ … ──▶ answer: applied at this index
    node's thread                                   ├──────────▶ refuse: surely not written, send it again
                                                    ├──────────▶ unknown: a snapshot has hidden what became of it
                                                    └──────────▶ close: it may be in somebody's log: unknown

Invariants:

1. A waiter is known here before its proposal is in the inbox, so that no outcome can come too early for it.
2. A client that is refused may send its write again blindly. So `refuse` is only for proposals that are in no log and on no
   way into one; server/outstanding.py knows which those are, and proposes the others again.
3. After `close` nothing is added: no thread waits for a node that has stopped.
4. What waits is bounded in number and, as long as the node's thread hasn't taken it, in bytes; also the proposals that
   nobody waits for.
"""

from __future__ import annotations

import itertools
import struct
import threading
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from engines.errors import InvalidKey
from engines.kvstore import Operation, check_key, check_value
from server.errors import NodeError, NodeStopped, OutcomeUnknown, Overloaded, TooLarge
from server.evaluation import Request
from server.forwards import PROPOSAL_BYTES_MAX
from server.limits import PROPOSALS_WAITING_MAX, UNTAKEN_BYTES_MAX
from server.metrics import Metrics, describe
from server.principal import Principal
from server.reads import Waiter
from server.sessions import Serial
from server.statemachine import MAX_KEY_BYTES, MAX_VALUE_BYTES, Applied, encode_proposal

__all__ = ["PROPOSAL_BYTES_MAX", "Proposal", "Proposals"]


describe(
    {
        "proposals_waiting": "Clients' writes whose outcome is awaited on this node.",
        "proposals_untaken_bytes": "Bytes of writes that the node's thread has not taken yet.",
    }
)

_HEAD = struct.Struct("<QQ")  # how a proposal begins: origin and sequence


class Proposal(NamedTuple):
    """A proposal on its way to Raft: its bytes, and until when it is wanted, by this node's clock. A tuple for speed."""

    data: bytes
    deadline: float


class Proposals:
    """What one node has proposed and nobody has answered yet. `add` and `forget` are for any thread."""

    def __init__(self, origin: int) -> None:
        """`origin` tells this node's proposals in the log from all others, those of its earlier runs among them."""
        self.origin = self._origin = origin
        self._sequences = itertools.count(1)
        self._waiting: dict[int, Waiter] = {}  # sequence → who waits for that proposal
        self._untaken_bytes = 0
        self._untaken = 0
        self._closed = False
        self._guard = threading.Lock()

    def __len__(self) -> int:
        """How many threads wait for an outcome."""
        return len(self._waiting)

    def metrics(self) -> Metrics:
        """What waits."""
        return {"proposals_waiting": len(self._waiting), "proposals_untaken_bytes": self._untaken_bytes}

    def add(
        self, operations: Sequence[Operation | Serial | Principal | Request], waiter: Waiter | None
    ) -> tuple[int, bytes]:
        """Encodes a proposal and notes who waits for it; its sequence, and what goes into the inbox. O(bytes).

        Raises InvalidKey, InvalidValue, TooLarge, Overloaded, NodeStopped: then it is not added.
        """
        for operation in operations:
            if isinstance(operation, Serial | Principal | Request):
                continue
            key, value = operation
            check_key(key)
            if len(key) > MAX_KEY_BYTES:
                raise InvalidKey(f"a key has at most {MAX_KEY_BYTES:,} bytes here, and this one has {len(key):,}")
            if value is not None:
                check_value(value, MAX_VALUE_BYTES)
        sequence = next(self._sequences)
        data = encode_proposal(self._origin, sequence, operations)
        size = len(data)
        if size > PROPOSAL_BYTES_MAX:
            raise TooLarge(f"one proposal may have {PROPOSAL_BYTES_MAX:,} bytes, and this one has {size:,}: split it")
        with self._guard:
            if self._closed:
                raise NodeStopped("the node has stopped")
            if max(len(self._waiting), self._untaken) >= PROPOSALS_WAITING_MAX:
                raise Overloaded(f"{PROPOSALS_WAITING_MAX:,} proposals are waiting already: try again later")
            if self._untaken_bytes + size > UNTAKEN_BYTES_MAX:
                raise Overloaded(f"{self._untaken_bytes:,} bytes of proposals are waiting already: try again later")
            self._untaken += 1
            self._untaken_bytes += size
            if waiter is not None:
                self._waiting[sequence] = waiter
        return sequence, data

    def forget(self, sequence: int) -> None:
        """The thread that waited for this proposal doesn't wait any more."""
        self._waiting.pop(sequence, None)

    def awaited(self, sequence: int) -> bool:
        """Whether somebody waits for this proposal."""
        return sequence in self._waiting

    def take(self, proposals: Sequence[Proposal]) -> None:
        """These have left the inbox."""
        with self._guard:
            self._untaken -= len(proposals)
            self._untaken_bytes -= sum([len(proposal.data) for proposal in proposals])

    def answer(self, applied: Iterable[Applied]) -> None:
        """Wakes those whose proposals were applied here, with the outcome: the index of the entry, an error, or a response.

        applied: all proposals of a batch, also other nodes' (another origin), those of an earlier run of this node, and
        those that nobody waits for any more. Called by the node's thread, after the engine has the batch. O(proposals).
        """
        waiting, ours = self._waiting, self._origin
        for outcome, origin, sequence in applied:
            if origin == ours:
                waiter = waiting.get(sequence)
                if waiter is not None:
                    waiter.resolve(outcome)

    def refuse(self, datas: Iterable[bytes], error: NodeError) -> None:
        """Wakes those whose proposals were surely not written, with the error.

        datas: the proposals' bytes, or the first 16 of them (`_HEAD`: origin and sequence). Others' are passed over, and
        those that nobody waits for. The caller guarantees that none of them is in any log. O(proposals).
        """
        for data in datas:
            origin, sequence = _HEAD.unpack_from(data)
            waiter = self._waiting.get(sequence) if origin == self._origin else None
            if waiter is not None:
                waiter.resolve(error)

    def unknown(self, datas: Iterable[bytes]) -> None:
        """Wakes those whose proposals may have been applied or not, and nobody here will ever see which.

        It goes the way of `refuse`, with an error that says the opposite.
        """
        sentence = (
            "a snapshot took the place of what this node would have applied, so it doesn't know whether the write"
        )
        self.refuse(datas, OutcomeUnknown(f"{sentence} was in it: read the key to find out"))

    def close(self, error: NodeError) -> None:
        """Wakes everybody who waits with `error`, and lets nobody in any more: `add` raises NodeStopped from now on.

        `_closed` is written, and who waits is read, under `_guard`: no `add` may come between the two. O(waiters).
        """
        with self._guard:
            self._closed = True
            waiters = list(self._waiting.values())
        for waiter in waiters:
            waiter.resolve(error)
