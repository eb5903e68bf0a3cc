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

from raft.kinds import ProgressState

__all__ = ["STATE_PROBE", "STATE_REPLICATE", "STATE_SNAPSHOT", "ProgressState"]

STATE_PROBE: Final = ProgressState.PROBE
STATE_REPLICATE: Final = ProgressState.REPLICATE
STATE_SNAPSHOT: Final = ProgressState.SNAPSHOT
