"""The calls of clients that wait, without a thread: begun in the node's loop, and answered by it.

    begin ── write ─▶ Begins.write: the proposal goes into the inbox ─▶ … ─▶ applied here ──▶ BegunWrite.resolve ─▶ answer
          └─ read ──▶ Begins.read: a waiter goes into the inbox ──────▶ … ─▶ confirmed ─────▶ BegunRead.resolve ──▶ answer

server/waits.py has the same for threads, and the invariants, which hold here too: where a thread would wait for a
`Waiter`'s lock, the waiter itself makes the answer when it is resolved. It is resolved by the node's thread, once; whoever
holds it looks at its `deadline` and calls `expired`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from engines.kvstore import Operation
from server.answers import Answer, Call, Node, Serving
from server.errors import NodeError, NodeStopped, NoLeader, OutcomeUnknown
from server.evaluation import Evaluated, Request
from server.loop import Loop
from server.principal import Principal
from server.proposals import Proposal, Proposals
from server.reads import Outcome, Waiter
from server.routes import DELETE, GET, PUT, answer_found, failure_answer, perform
from server.sessions import Serial
from server.waits import Asked

__all__ = ["Begins", "Begun", "LoopNode", "Serves", "Then", "begin", "is_simple"]

TIMEOUT_S = 5.0  # as server/waits.py has it for a thread

Then = Callable[[Answer | None], object]  # None: a thread is to begin the call again


class Begins:
    """The clients' side of one node, as `Waits` is, for callers that don't wait. For the node's thread."""

    def __init__(self, proposals: Proposals, asked: Asked) -> None:
        self._proposals = proposals
        self._asked = asked

    def write(
        self, operations: Sequence[Operation | Serial | Principal | Request], begun: Begun, timeout_s: float = TIMEOUT_S
    ) -> None:
        """What `Waits.propose` does, up to its wait. Raises the same; then `begun` is resolved by nobody."""
        self._asked.require_member()
        sequence, data = self._proposals.add(operations, begun)
        begun.deadline = self._asked.now() + timeout_s
        begun.forget = lambda: self._proposals.forget(sequence)
        self._asked.propose(Proposal(data, begun.deadline))

    def read(self, begun: Begun, consistency: str = "linearizable", timeout_s: float = TIMEOUT_S) -> None:
        """What `Waits.read_barrier` does, up to its wait; not for "stale", which waits for nothing. Raises the same; then
        `begun` is resolved by nobody."""
        self._asked.require_member()
        if self._asked.stopping():
            raise NodeStopped("the node has stopped")
        begun.deadline = self._asked.now() + timeout_s
        asked = self._asked.for_leases() if consistency == "lease" else self._asked
        asked.read(begun)


class Serves(Serving, Protocol):
    """Who serves, with a node in whose loop calls can begin."""

    @property
    def begins(self) -> Begins: ...


class LoopNode(Node, Protocol):
    """The part of server.node.Node that the two forms of the front end ask. loop: None in the plain form."""

    @property
    def loop(self) -> Loop | None: ...
    @property
    def begins(self) -> Begins: ...


class Begun(Waiter):
    """A call that has begun. `then` is given its answer by `resolve`, once, unless it was given up or has expired."""

    __slots__ = ("_then", "deadline", "forget")

    def __init__(self, then: Then) -> None:  # no lock: nobody sleeps
        self._then = then
        self._outcome = None
        self.given_up = False
        self.deadline = 0.0
        self.forget: Callable[[], object] = _nothing

    def resolve(self, outcome: Outcome) -> None:
        if self.given_up or self._outcome is not None:
            return
        self._outcome = outcome
        self.forget()
        self._then(self.answer(outcome))

    def give_up(self) -> None:
        """Nobody waits for it any more."""
        self.given_up = True
        self.forget()

    def expired(self) -> Answer:
        """Gives it up, because its deadline has passed; what the client is told."""
        self.give_up()
        return failure_answer(self.too_late(), "a call in the loop")

    def answer(self, outcome: Outcome) -> Answer | None:
        """What the client is told; None if nothing was done, and a thread is to begin it again."""
        raise NotImplementedError

    def too_late(self) -> NodeError:
        """What a thread would raise whose wait was too long (server/waits.py)."""
        raise NotImplementedError


def _nothing() -> None:
    pass


class BegunWrite(Begun):
    """A PUT or DELETE on its way."""

    __slots__ = ()

    def answer(self, outcome: Outcome) -> Answer:
        if isinstance(outcome, NodeError):
            return failure_answer(outcome, "a write")
        assert not isinstance(outcome, Evaluated)
        return Answer(204, b"", b"X-Metcd-Index: %d\r\n" % outcome)

    def too_late(self) -> NodeError:
        return OutcomeUnknown(
            f"the write was not applied within {TIMEOUT_S:g} s and may still be: read the key to find out"
        )


class BegunRead(Begun):
    """A GET that waits until what is applied here is recent enough."""

    __slots__ = ("_key", "_server")

    def __init__(self, then: Then, server: Serving, key: bytes) -> None:
        super().__init__(then)
        self._server = server
        self._key = key

    def answer(self, outcome: Outcome) -> Answer | None:
        if isinstance(outcome, NodeError):
            return failure_answer(outcome, "a read")
        if self._server.node.etcd.auth.enabled:  # since it began: a thread asks who that is
            return None
        try:
            return answer_found(self._server, self._key)
        except Exception as error:
            return failure_answer(error, "a read")

    def too_late(self) -> NodeError:
        return NoLeader(f"no leader confirmed the read within {TIMEOUT_S:g} s: try again, or read stale")


def is_simple(call: Call) -> bool:
    """True if `begin` takes the call: it is about one key, and blocks nowhere."""
    return call.route is GET or call.route is PUT or call.route is DELETE


def begin(server: Serves, call: Call, body: bytes, then: Then) -> Answer | Begun:
    """Begins a simple call: the answer if there is nothing to wait for, else what will give it to `then`.

    `then` is never called before this has returned. Whatever goes wrong becomes an answer, as in `perform`.
    """
    options = call.options
    try:
        if call.route is GET:
            consistency = options.get("consistency", "linearizable") if options else "linearizable"
            if consistency == "stale":
                return perform(server, call, body)
            read = BegunRead(then, server, call.key)
            server.begins.read(read, consistency)
            return read
        if options and not options.get("wait", True):
            return perform(server, call, body)
        write = BegunWrite(then)
        operation = call.key, body if call.route is PUT else None
        serial = options.get("serial") if options else None
        server.begins.write([operation] if serial is None else [serial, operation], write)
        return write
    except Exception as error:
        return failure_answer(error, "a call in the loop")
