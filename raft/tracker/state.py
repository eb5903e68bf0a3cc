"""The three states in which a leader sees a follower.

                    rejected, unreachable
            ┌──────────────────────────────────┐
            ▼          accepted                │
         PROBE ────────────────────────► REPLICATE
          │  ▲                                 │
          │  │ sent, failed                    │ what it needs
          │  │ or applied                      │ is cut away
          ▼  │                                 │
        SNAPSHOT ◄─────────────────────────────┘

    PROBE      its last entry isn't known: one message at a time, until one is accepted.
    REPLICATE  it follows: entries are sent ahead of its answers, up to the window of inflights.py.
    SNAPSHOT   it is being sent a snapshot: no entries until that has ended.

Follows etcd-io/raft: tracker/state.go.
"""

from __future__ import annotations

from typing import Final

__all__ = ["STATE_NAMES", "STATE_PROBE", "STATE_REPLICATE", "STATE_SNAPSHOT"]

# Plain ints, compared for every message that a leader gets or sends.
STATE_PROBE: Final = 0
STATE_REPLICATE: Final = 1
STATE_SNAPSHOT: Final = 2

STATE_NAMES: Final = ("StateProbe", "StateReplicate", "StateSnapshot")
