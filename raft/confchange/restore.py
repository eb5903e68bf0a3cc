"""From a ConfState, which is what logs and snapshots keep, back to a configuration with progress.

Follows etcd-io/raft: confchange/restore.go, which does it by replaying changes through the Changer; so does this.
"""

from __future__ import annotations

from raft.confchange.confchange import Changer
from raft.errors import ConfChangeError
from raft.quorum import JointConfig, MajorityConfig
from raft.raftpb import CONF_CHANGE_ADD_NODE, ConfChangeSingle, ConfState
from raft.tracker import Progress, ProgressTracker

__all__ = ["restore"]


def restore(empty: ProgressTracker, conf_state: ConfState, last_index: int) -> tuple[JointConfig, dict[int, Progress]]:
    """The configuration and fresh progress for every node of `conf_state`. O(n² log n), n small.

    Requires: `empty` has no members; it says how wide the window to each node is. Raises `ConfChangeError` if there
    are learners or a joint configuration in `conf_state`.
    """
    if conf_state.learners or conf_state.learners_next:
        raise ConfChangeError(f"{conf_state} has learners, which are not supported yet")
    if conf_state.voters_outgoing or conf_state.auto_leave:
        raise ConfChangeError(f"{conf_state} is a joint configuration, which is not supported yet")
    voters, progress = empty.voters, empty.progress
    for node_id in conf_state.voters:
        changer = Changer(voters, progress, last_index, empty.new_progress)
        voters, progress = changer.simple([ConfChangeSingle(CONF_CHANGE_ADD_NODE, node_id)])
    if voters.incoming != MajorityConfig(conf_state.voters):
        raise ConfChangeError(f"{conf_state} has a voter 0, which stands for no node")
    return voters, progress
