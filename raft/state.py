"""What a node is at the moment: its role, and the two kinds of state that a Ready reports besides the hard state.

Follows etcd-io/raft: raft.go (StateType, SoftState) and read_only.go (ReadState).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = [
    "STATE_CANDIDATE",
    "STATE_FOLLOWER",
    "STATE_LEADER",
    "STATE_NAMES",
    "STATE_PRE_CANDIDATE",
    "ReadState",
    "SoftState",
]

# Plain ints with etcd's numbers, compared for every message and tick.
STATE_FOLLOWER: Final = 0
STATE_CANDIDATE: Final = 1
STATE_LEADER: Final = 2
STATE_PRE_CANDIDATE: Final = 3

STATE_NAMES: Final = ("StateFollower", "StateCandidate", "StateLeader", "StatePreCandidate")


@dataclass(frozen=True, slots=True)
class SoftState:
    """Who leads (0 is nobody known) and this node's role: of interest, but never written to disk."""

    lead: int
    raft_state: int


@dataclass(frozen=True, slots=True)
class ReadState:
    """The answer to `RawNode.read_index(request_ctx)`.

    The read is linearizable if it is done on this node once everything up to `index` is applied here.
    """

    index: int
    request_ctx: bytes
