"""The configuration in force, and for each node in it what the leader knows of it.

Invariant: `progress` has exactly the ids of the voters and learners, in ascending order, so that every walk over it is
the same in every run.

Follows etcd-io/raft: tracker/tracker.go.
"""

from __future__ import annotations

from raft.quorum import VOTE_WON, JointConfig, VoteResult
from raft.raftpb import ConfState
from raft.tracker.config import TrackerConfig
from raft.tracker.inflights import Inflights
from raft.tracker.progress import Progress

__all__ = ["ProgressTracker"]


class ProgressTracker:
    """All followers of a leader; in other nodes only the configuration and, in a candidate, the votes mean something."""

    __slots__ = ("config", "max_inflight_bytes", "max_inflight_msgs", "progress", "votes")

    def __init__(self, max_inflight_msgs: int, max_inflight_bytes: int = 0) -> None:
        self.max_inflight_msgs = max_inflight_msgs
        self.max_inflight_bytes = max_inflight_bytes
        self.config = TrackerConfig()
        self.progress: dict[int, Progress] = {}
        self.votes: dict[int, bool] = {}

    @property
    def voters(self) -> JointConfig:
        return self.config.voters

    def new_progress(self, match: int, next: int, is_learner: bool = False) -> Progress:
        return Progress(match, next, Inflights(self.max_inflight_msgs, self.max_inflight_bytes), is_learner)

    def empty_copy(self) -> ProgressTracker:
        """A tracker without members that is set up like this one."""
        return ProgressTracker(self.max_inflight_msgs, self.max_inflight_bytes)

    def conf_state(self) -> ConfState:
        return self.config.conf_state()

    def committed(self) -> int:
        """The largest index that a quorum of the voters has, whatever its term. O(n log n)."""
        return self.config.voters.committed_index({node_id: pr.match for node_id, pr in self.progress.items()})

    def quorum_active(self) -> bool:
        """Whether a quorum of the voters was heard from since recent_active was last reset (check_quorum)."""
        active = {node_id: pr.recent_active for node_id, pr in self.progress.items() if not pr.is_learner}
        return self.config.voters.vote_result(active) == VOTE_WON

    def reset_votes(self) -> None:
        self.votes = {}

    def record_vote(self, node_id: int, granted: bool) -> None:
        """The first vote of a node counts; a repeated message changes nothing."""
        self.votes.setdefault(node_id, granted)

    def tally_votes(self) -> tuple[int, int, VoteResult]:
        """Votes granted, votes refused, and the result (VOTE_WON, VOTE_LOST, VOTE_PENDING). Learners' don't count."""
        voters = [node_id for node_id, pr in self.progress.items() if not pr.is_learner and node_id in self.votes]
        granted = sum(self.votes[node_id] for node_id in voters)
        return granted, len(voters) - granted, self.config.voters.vote_result(self.votes)
