"""Who takes part: the voters, jointly while the membership changes, and the learners.

Invariants (confchange.py checks them at every change)
 1. Nobody is a learner and a voter, in whichever of the two sets of voters.
 2. learners_next are in the outgoing voters: they become learners when the joint configuration is left.
 3. Outside of a joint configuration there are no learners_next, and auto_leave is False.

Follows etcd-io/raft: tracker/tracker.go (Config).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from raft.quorum import JointConfig, MajorityConfig
from raft.raftpb import ConfState

__all__ = ["TrackerConfig"]


@dataclass(frozen=True, slots=True)
class TrackerConfig:
    """The configuration in force on a node; never changed, but replaced. The ids are in ascending order."""

    voters: JointConfig = field(default_factory=lambda: JointConfig(MajorityConfig()))
    learners: tuple[int, ...] = ()
    learners_next: tuple[int, ...] = ()
    auto_leave: bool = False

    def conf_state(self) -> ConfState:
        voters = self.voters
        return ConfState(voters.incoming.ids, self.learners, voters.outgoing.ids, self.learners_next, self.auto_leave)

    def __str__(self) -> str:
        text = f"voters={self.voters}"
        if self.learners:
            text += f" learners={MajorityConfig(self.learners)}"
        if self.learners_next:
            text += f" learners_next={MajorityConfig(self.learners_next)}"
        return text + " autoleave" * self.auto_leave
