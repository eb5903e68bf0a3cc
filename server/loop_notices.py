"""A leader's notices of its commit index wait a moment, and travel with the next entries.

When an entry is committed, Raft tells every follower at once: a MsgApp without entries, which a follower answers. A client
that sends its next PUT as soon as it has the answer to the last is a moment behind that, and its MsgApp says the same. So
the notice is held until something else goes to that follower, for HOLD_S at most, and left out if a MsgApp goes:

    without     MsgApp 7 ──▶ ack     commit 7 ──▶ ack     MsgApp 8 ──▶ ack     commit 8 ──▶ ack
    with        MsgApp 7 ──▶ ack     MsgApp 8, commit 7 ──▶ ack     MsgApp 9, commit 8 ──▶ ack

To Raft it is a message that came late or was lost, which it has to expect anyway (raft/rawnode.py, contract 5). Only who
waits on a follower would notice: a follower that passes on its clients' writes is told at once (EAGER_S), because it
answers them when it has applied them; a read there waits for a message that goes after the notice, in its order. A stale
read there may be HOLD_S staler. And while a membership change is on its way nothing is held: who is removed by it hears
of that by a notice, after which nobody sends it anything.

Measured with one client that PUTs, beside other work: 487 in place of 377 a second, 0.94 ms of CPU time of all nodes for
each in place of 1.22; with 16 clients 2,583 in place of 2,240.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from raft import RawNode
from raft.raftpb import MSG_APP, MSG_PROP, Message
from server.loop import Loop
from server.outbox import Outbox
from server.statemachine import StateMachine
from server.transport import Transport

__all__ = ["HeldNotices", "new_outbox"]

HOLD_S = 0.01
EAGER_S = 1.0


def new_outbox(
    loop: Loop | None, transport: Transport, now: Callable[[], float], machine: StateMachine, raft: RawNode
) -> Outbox:
    """The outbox of a node: in the plain form, which has no loop, the one that holds nothing back."""
    return (Outbox if loop is None else HeldNotices)(
        lambda messages: transport.send(messages),
        now,
        settled=lambda: machine.applied_index >= raft.raft.pending_conf_index,
    )


class HeldNotices(Outbox):
    """The outbox that holds notices back."""

    def __init__(
        self, send: Callable[[Sequence[Message]], object], now: Callable[[], float], settled: Callable[[], bool]
    ) -> None:
        super().__init__(send, now, settled)
        self._held: dict[int, Message] = {}  # the newest for each follower
        self._eager_until: dict[int, float] = {}

    def heard(self, messages: Sequence[Message]) -> None:
        """Who passes writes on is told at once of what is committed, for a while."""
        for message in messages:
            if message.type == MSG_PROP:
                self._eager_until[message.from_] = self._now() + EAGER_S

    def send(self, messages: Sequence[Message]) -> None:
        leaving = []
        held = self._held
        for at, message in enumerate(messages):
            peer = message.to
            if not _is_notice(message):
                notice = held.pop(peer, None)
                if notice is not None and message.type != MSG_APP:
                    leaving.append(notice)
                leaving.append(message)
            elif not any(later.to == peer and later.type == MSG_APP for later in messages[at + 1 :]):
                held[peer] = message
        if held:
            self._let_go(leaving)
        else:
            self.due = math.inf
        if leaving:
            self._send(leaving)

    def _let_go(self, leaving: list[Message]) -> None:
        """Takes out what mustn't be held; sees to when the rest has to leave."""
        now = self._now()
        settled = self._settled()
        for peer in [peer for peer in self._held if not settled or self._eager_until.get(peer, 0.0) > now]:
            leaving.append(self._held.pop(peer))
        if not self._held:
            self.due = math.inf
        elif self.due == math.inf:
            self.due = now + HOLD_S

    def flush(self) -> None:
        if self._now() >= self.due:
            leaving = list(self._held.values())
            self._held.clear()
            self.due = math.inf
            self._send(leaving)


def _is_notice(message: Message) -> bool:
    return message.type == MSG_APP and not message.entries
