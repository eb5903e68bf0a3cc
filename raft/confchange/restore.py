"""From a ConfState, which is what logs and snapshots keep, back to a configuration with progress.

    ConfState   voters (1 2 3), voters_outgoing (1 2 4), learners (5), learners_next (4)
      first     add voters 1, 2, 4, one by one                           voters=(1 2 4)
      then      enter joint: remove 1, 2, 4; add voters 1, 2, 3;         voters=(1 2 3)&&(1 2 4)
                add learners 5, 4                                          learners=(5) learners_next=(4)

Follows etcd-io/raft: confchange/restore.go, which does it by replaying changes through the Changer; so does this.
"""

from __future__ import annotations

from collections.abc import Iterable

from raft.confchange.confchange import Changer
from raft.errors import ConfChangeError
from raft.raftpb import (
    CONF_CHANGE_ADD_LEARNER_NODE,
    CONF_CHANGE_ADD_NODE,
    CONF_CHANGE_REMOVE_NODE,
    ConfChangeSingle,
    ConfChangeType,
    ConfState,
)
from raft.tracker import Progress, ProgressTracker, TrackerConfig

__all__ = ["restore"]


def restore(
    tracker: ProgressTracker, conf_state: ConfState, last_index: int
) -> tuple[TrackerConfig, dict[int, Progress]]:
    """The configuration and fresh progress for every node of `conf_state`. O(n² log n), n small.

    `tracker` says how wide the window to each node is. Raises `ConfChangeError` for a configuration that no changes
    lead to.
    """
    scratch = tracker.empty_copy()

    def adopt(result: tuple[TrackerConfig, dict[int, Progress]]) -> None:
        scratch.config, scratch.progress = result

    outgoing = conf_state.voters_outgoing
    incoming = [
        *_changes(CONF_CHANGE_REMOVE_NODE, outgoing),
        *_changes(CONF_CHANGE_ADD_NODE, conf_state.voters),
        *_changes(CONF_CHANGE_ADD_LEARNER_NODE, conf_state.learners),
        *_changes(CONF_CHANGE_ADD_LEARNER_NODE, conf_state.learners_next),
    ]
    one_by_one = _changes(CONF_CHANGE_ADD_NODE, outgoing) if outgoing else incoming
    try:
        for change in one_by_one:
            adopt(Changer(scratch, last_index).simple([change]))
        if outgoing:
            adopt(Changer(scratch, last_index).enter_joint(conf_state.auto_leave, incoming))
    except ConfChangeError as error:
        raise ConfChangeError(f"{conf_state} is no valid configuration: {error}") from error
    if _sorted(scratch.conf_state()) != _sorted(conf_state):
        raise ConfChangeError(f"{conf_state} is no valid configuration: restored, it is {scratch.conf_state()}")
    return scratch.config, scratch.progress


def _changes(kind: ConfChangeType, ids: Iterable[int]) -> list[ConfChangeSingle]:
    return [ConfChangeSingle(kind, node_id) for node_id in ids]


def _sorted(conf_state: ConfState) -> tuple[object, ...]:
    groups = (conf_state.voters, conf_state.learners, conf_state.voters_outgoing, conf_state.learners_next)
    return (*(sorted(set(group)) for group in groups), conf_state.auto_leave)
