"""The configuration in force, and for each node in it what the leader knows of it.

Invariant: `progress` has exactly the ids of `voters`, in ascending order, so that every walk over it is the same in
every run.

Learners will stand next to `voters` here, and in `progress` with a mark.

Follows etcd-io/raft: tracker/tracker.go.
"""

from __future__ import annotations

from raft.quorum import JointConfig, MajorityConfig, VoteResult
from raft.raftpb import ConfState
from raft.tracker.inflights import Inflights
from raft.tracker.progress import Progress

__all__ = ["ProgressTracker"]


class ProgressTracker:
    """All followers of a leader; in other nodes only the configuration and, in a candidate, the votes mean something."""

    __slots__ = ("max_inflight_bytes", "max_inflight_msgs", "progress", "voters", "votes")

    def __init__(self, max_inflight_msgs: int, max_inflight_bytes: int = 0) -> None:
        self.max_inflight_msgs = max_inflight_msgs
        self.max_inflight_bytes = max_inflight_bytes
        self.voters = JointConfig(MajorityConfig())
        self.progress: dict[int, Progress] = {}
        self.votes: dict[int, bool] = {}

    def new_progress(self, match: int, next: int) -> Progress:
        return Progress(match, next, Inflights(self.max_inflight_msgs, self.max_inflight_bytes))

    def empty_copy(self) -> ProgressTracker:
        """A tracker without members that is set up like this one."""
        return ProgressTracker(self.max_inflight_msgs, self.max_inflight_bytes)

    def conf_state(self) -> ConfState:
        return ConfState(voters=self.voters.incoming.ids, voters_outgoing=self.voters.outgoing.ids)

    def committed(self) -> int:
        """The largest index that a quorum has, whatever its term. O(n log n)."""
        return self.voters.committed_index({node_id: pr.match for node_id, pr in self.progress.items()})

    def reset_votes(self) -> None:
        self.votes = {}

    def record_vote(self, node_id: int, granted: bool) -> None:
        """The first vote of a node counts; a repeated message changes nothing."""
        self.votes.setdefault(node_id, granted)

    def tally_votes(self) -> tuple[int, int, VoteResult]:
        """Votes granted, votes refused, and the result (VOTE_WON, VOTE_LOST, VOTE_PENDING)."""
        granted = sum(1 for node_id, vote in self.votes.items() if vote and node_id in self.progress)
        rejected = sum(1 for node_id, vote in self.votes.items() if not vote and node_id in self.progress)
        return granted, rejected, self.voters.vote_result(self.votes)
