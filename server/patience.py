"""Time for those who apply a long entry: nobody loses the leadership, or campaigns, because all are busy with the same.

    deleterange of 100,000 keys, committed
    leader      ├── applies for 2.0 s: no heartbeat ──────────┤ heartbeats
    follower    ├── applies for 1.4 s ────────┤ waits for 1.4 s more before its ticks go on
                                              └ without that: an election timeout after this, it campaigns

An entry is applied as a whole, in the thread that also ticks (server/node.py), and on every node at about the same time. Who
is done first hears nothing of the others for as long as they need longer. So what took a node long gives the others as
long again:

1. A follower of a leader doesn't tick meanwhile. What it hears from the leader in this time counts as ever.
2. A leader begins its count of who answers it anew, so many ticks later, unless it is handing over, for which it has the same
   count. Its heartbeats go on.
3. Only what took longer than half an election timeout counts, and WAIT_S_MAX at most: so much later an election begins, should the
   leader have failed in this very time.
4. Nothing that is promised depends on it: who is asked for its vote in this time is bound by its lease for longer, not for less
   (raft/lease.py), and a leader's lease has a count of its own.

Left out, as in etcd: to apply a long entry in parts. It wouldn't be atomic for readers, or every engine would need it.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from raft import RawNode
from server.config import NodeConfig

__all__ = ["WAIT_S_MAX", "Patience"]

WAIT_S_MAX = 10.0


class Patience:
    """The ticks of one node's Raft. For the node's thread."""

    def __init__(
        self, config: NodeConfig, raft: RawNode, longest_s: Callable[[], float], now: Callable[[], float]
    ) -> None:
        """longest_s: what the longest batch took that was applied since the last call. now: seconds, by the node's clock."""
        self._config = config
        self._raft = raft
        self._longest_s = longest_s
        self._now = now
        self._until = -math.inf  # a follower waits for its leader

    def tick(self) -> None:
        """A unit of time has passed: Raft's tick, unless this node waits for a leader that applies the same as it has."""
        raft, config, busy_s = self._raft, self._config, self._longest_s()
        if busy_s > config.election_tick * config.tick_s / 2 and raft.lead:
            wait_s = min(busy_s, WAIT_S_MAX)
            self._until = self._now() + wait_s
            if raft.lead == config.id and not raft.raft.lead_transferee:
                raft.wait_for_followers(int(wait_s / config.tick_s))
        if raft.lead in (0, config.id) or self._now() >= self._until:
            raft.tick()
