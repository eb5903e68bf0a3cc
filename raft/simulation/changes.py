"""Which membership change a step of a plan proposes: of one node or of several, jointly or not, learners among them.

A change never takes away so many voters that those who stay are no majority of those before. If it did, a crash of the
leader right after the commit could end all elections: the nodes that go may have the longest logs, and the nodes that
stay need their votes (changes take effect when they are applied, and not all nodes have applied this one). Only a leader
knows how many voters there are, so followers propose nothing that takes a voter away.
"""

from __future__ import annotations

from collections.abc import Sequence

from raft.kinds import ConfChangeTransition, ConfChangeType
from raft.raftpb import ConfChange, ConfChangeSingle, ConfChangeV2, ConfState

__all__ = ["choose_change"]

_TRANSITIONS = tuple(ConfChangeTransition)


def choose_change(
    conf_state: ConfState, ids: Sequence[int], value: int, leads: bool
) -> ConfChange | ConfChangeV2 | None:
    """A change that `value` chooses for a configuration; None if the choice would be one that must not be made."""
    if conf_state.voters_outgoing:
        return ConfChangeV2() if not conf_state.auto_leave and value & 1 else None
    count = (1, 1, 2, 3)[value & 3]
    singles = tuple(_single(conf_state, ids, value >> (2 + 5 * position)) for position in range(count))
    taken = {one.node_id for one in singles if one.type != ConfChangeType.ADD_NODE and one.node_id in conf_state.voters}
    before = len(conf_state.voters)
    if taken and (not leads or before - len(taken) < before // 2 + 1):
        return None
    if count == 1 and value >> 20 & 1:
        return ConfChange(singles[0].type, singles[0].node_id)
    return ConfChangeV2(_TRANSITIONS[(value >> 21) % 3], singles)


def _single(conf_state: ConfState, ids: Sequence[int], value: int) -> ConfChangeSingle:
    node_id = ids[(value >> 2) % len(ids)]
    if node_id in conf_state.voters:
        kind = (ConfChangeType.REMOVE_NODE, ConfChangeType.ADD_LEARNER_NODE)[value & 1]
    else:
        kind = (ConfChangeType.ADD_NODE, ConfChangeType.ADD_NODE, ConfChangeType.ADD_LEARNER_NODE)[(value & 3) % 3]
    return ConfChangeSingle(kind, node_id)
