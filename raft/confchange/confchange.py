"""The Changer: one configuration and one change in, the next configuration and its progress out.

It never touches what it was given, so that a refused change leaves the node as it was.

Follows etcd-io/raft: confchange/confchange.go (Simple).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from raft.errors import ConfChangeError
from raft.quorum import JointConfig, MajorityConfig
from raft.raftpb import (
    CONF_CHANGE_ADD_LEARNER_NODE,
    CONF_CHANGE_ADD_NODE,
    CONF_CHANGE_REMOVE_NODE,
    ConfChange,
    ConfChangeSingle,
)
from raft.tracker import Progress
from raft.util import NONE

__all__ = ["Changer", "check_supported"]


def check_supported(change: ConfChange | ConfChangeSingle) -> None:
    """Raises `ConfChangeError` if this version can't make the change. Node 0 stands for a change that was withdrawn."""
    if change.type == CONF_CHANGE_ADD_LEARNER_NODE:
        raise ConfChangeError(f"node {change.node_id} can't be added as a learner: learners are not supported yet")


class Changer:
    """Changes for one configuration. `last_index` is where probing a new node starts."""

    __slots__ = ("last_index", "new_progress", "progress", "voters")

    def __init__(
        self,
        voters: JointConfig,
        progress: Mapping[int, Progress],
        last_index: int,
        new_progress: Callable[[int, int], Progress],
    ) -> None:
        self.voters = voters
        self.progress = progress
        self.last_index = last_index
        self.new_progress = new_progress

    def simple(self, changes: Sequence[ConfChangeSingle]) -> tuple[JointConfig, dict[int, Progress]]:
        """Makes changes that alter the set of voters by one node at most.

        Raises `ConfChangeError` for more than one, for the removal of the last voter, for learners, and inside of a
        joint configuration. O(n log n).
        """
        if self.voters.outgoing:
            raise ConfChangeError("a simple change can't be made inside of a joint configuration")
        before = set(self.voters.incoming)
        voters = set(before)
        for change in changes:
            check_supported(change)
            if change.node_id == NONE:
                continue
            if change.type == CONF_CHANGE_ADD_NODE:
                voters.add(change.node_id)
            elif change.type == CONF_CHANGE_REMOVE_NODE:
                voters.discard(change.node_id)
        if not voters:
            raise ConfChangeError("the last voter can't be removed")
        if len(before ^ voters) > 1:
            raise ConfChangeError("more than one voter changes: that takes joint consensus, which is not supported yet")
        config = MajorityConfig(voters)
        return JointConfig(config), {node_id: self._progress(node_id) for node_id in config}

    def _progress(self, node_id: int) -> Progress:
        """The node's progress so far, or a new one that starts by probing at the end of the log."""
        progress = self.progress.get(node_id)
        if progress is None:
            progress = self.new_progress(0, max(self.last_index, 1))
            # A new node counts as seen, or it would be held for dead before its first message can arrive.
            progress.recent_active = True
        return progress
