"""Both kinds of confirmed reads side by side: linearizable ones by a quorum, and `lease` ones by the leader's lease.

    linearizable ──▶ rounds that a quorum confirms, each by an exchange of heartbeats       (server/reads.py)
    lease        ──▶ rounds that the leader answers at once while it has a lease, else as above   (raft/lease.py)

What a lease read gives up: it counts on clocks. The leader's lease is counted in its own ticks: half an election timeout
after the sending of a heartbeat that a quorum has answered. The others promise, for a whole one less a tick by their
clocks, to elect nobody else. With an election timeout of 10 ticks a lease read is as good as a linearizable one as long as
no node's clock runs 1.8 times as fast as the leader's in that half timeout, and it may be stale if one does. A leader
whose process stood still counts what it missed (`RawNode.paused`); a machine that stood still along with its clock can't
know.

The two kinds have contexts of their own, so that no answer to one confirms the other. For the node's thread.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from server.errors import NodeError
from server.metrics import Metrics, describe
from server.reads import ReadRounds, Waiter

__all__ = ["BothReads"]

describe({"lease_reads_total": "Reads that the leader's lease may answer."})


class BothReads(ReadRounds):
    """The rounds of one node's linearizable reads, and beside them those of its lease reads."""

    def __init__(self, origin: int) -> None:
        super().__init__(origin)
        self._lease = ReadRounds((origin + 1) % (1 << 64))

    def add_lease(self, waiter: Waiter) -> None:
        """A read has begun that the leader's lease may answer."""
        self._lease.add(waiter)

    def metrics(self) -> Metrics:
        """How many reads there were of each kind, and how many rounds confirmed the linearizable ones."""
        return {**super().metrics(), "lease_reads_total": self._lease.reads}

    def begin(self, leader: int, read_index: Callable[..., Any]) -> None:
        """Begins rounds of both kinds; read_index: `RawNode.read_index`."""
        super().begin(leader, lambda context: read_index(context, True))
        self._lease.begin(leader, read_index)

    def tick(self) -> None:
        super().tick()
        self._lease.tick()

    def confirm(self, context: bytes, index: int) -> None:
        super().confirm(context, index)
        self._lease.confirm(context, index)

    def answer(self, applied_index: int) -> None:
        super().answer(applied_index)
        self._lease.answer(applied_index)

    def refuse_all(self, error: NodeError) -> None:
        super().refuse_all(error)
        self._lease.refuse_all(error)
