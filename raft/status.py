"""What a node can say about itself to people and metrics.

Follows etcd-io/raft: status.go.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from raft.core import Core
from raft.kinds import ProgressState, StateType
from raft.raftpb import ConfState

__all__ = ["PeerStatus", "Status", "get_status"]


@dataclass(frozen=True, slots=True)
class PeerStatus:
    """One member as its leader sees it. state: StateProbe, StateReplicate or StateSnapshot."""

    match: int
    next: int
    state: ProgressState
    paused: bool
    recent_active: bool
    inflight: int
    is_learner: bool = False
    pending_snapshot: int = 0


@dataclass(frozen=True, slots=True)
class Status:
    """A copy: it doesn't change with the node.

    raft_state: StateFollower, StateCandidate or StateLeader.
    lead: 0 if no leader is known. lead_transferee: whom this leader hands over to; 0 is nobody.
    progress: by id, ascending, with this node's own; empty on all but the leader.
    """

    id: int
    term: int
    vote: int
    commit: int
    applied: int
    last_index: int
    lead: int
    raft_state: StateType
    conf_state: ConfState
    progress: Mapping[int, PeerStatus]
    lead_transferee: int = 0


def get_status(r: Core) -> Status:
    """O(members)."""
    progress = {}
    if r.state == StateType.LEADER:
        for node_id, pr in r.tracker.progress.items():
            inflight = len(pr.inflights)
            progress[node_id] = PeerStatus(
                pr.match,
                pr.next,
                pr.state,
                pr.is_paused(),
                pr.recent_active,
                inflight,
                pr.is_learner,
                pr.pending_snapshot,
            )
    return Status(
        id=r.id,
        term=r.term,
        vote=r.vote,
        commit=r.log.committed,
        applied=r.log.applied,
        last_index=r.log.last_index(),
        lead=r.lead,
        raft_state=r.state,
        conf_state=r.tracker.conf_state(),
        progress=progress,
        lead_transferee=r.lead_transferee,
    )
