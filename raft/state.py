"""What a node is at the moment: its role, and the two kinds of state that a Ready reports besides the hard state.

Follows etcd-io/raft: raft.go (StateType, SoftState) and read_only.go (ReadState).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from raft.kinds import StateType

__all__ = [
    "STATE_CANDIDATE",
    "STATE_FOLLOWER",
    "STATE_LEADER",
    "STATE_PRE_CANDIDATE",
    "ReadState",
    "SoftState",
    "StateType",
]

STATE_FOLLOWER: Final = StateType.FOLLOWER
STATE_CANDIDATE: Final = StateType.CANDIDATE
STATE_LEADER: Final = StateType.LEADER
STATE_PRE_CANDIDATE: Final = StateType.PRE_CANDIDATE


@dataclass(frozen=True, slots=True)
class SoftState:
    """Who leads (0 is nobody known) and this node's role: of interest, but never written to disk."""

    lead: int
    raft_state: StateType


@dataclass(frozen=True, slots=True)
class ReadState:
    """The answer to `RawNode.read_index(request_ctx)`.

    The read is linearizable if it is done on this node once everything up to `index` is applied here.
    """

    index: int
    request_ctx: bytes
