"""The Changer: one configuration and some changes in, the next configuration and its progress out.

It never touches what it was given, so that a refused change leaves the node as it was.

Follows etcd-io/raft: confchange/confchange.go.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable

from raft.errors import ConfChangeError
from raft.quorum import JointConfig, MajorityConfig
from raft.raftpb import (
    CONF_CHANGE_ADD_LEARNER_NODE,
    CONF_CHANGE_ADD_NODE,
    CONF_CHANGE_REMOVE_NODE,
    ConfChangeSingle,
)
from raft.tracker import Progress, ProgressTracker, TrackerConfig
from raft.util import NONE

__all__ = ["Changer"]

Result = tuple[TrackerConfig, dict[int, Progress]]


class Changer:
    """Changes for the configuration of `tracker`. `last_index` is where probing a new node starts. O(n log n) each."""

    __slots__ = ("last_index", "tracker")

    def __init__(self, tracker: ProgressTracker, last_index: int) -> None:
        self.tracker = tracker
        self.last_index = last_index

    def simple(self, changes: Iterable[ConfChangeSingle]) -> Result:
        """Makes changes that alter the set of voters by one node at most.

        Raises `ConfChangeError` for more than one, for the removal of the last voter, and in a joint configuration.
        """
        draft = _Draft(self.tracker, self.last_index)
        if draft.outgoing:
            raise ConfChangeError("can't apply simple config change in joint config")
        before = set(draft.incoming)
        draft.apply(changes)
        if len(before ^ draft.incoming) > 1:
            raise ConfChangeError("more than one voter changed without entering joint config")
        return draft.finished()

    def enter_joint(self, auto_leave: bool, changes: Iterable[ConfChangeSingle]) -> Result:
        """The voters so far become the outgoing ones; the changes are made to the incoming ones.

        Raises `ConfChangeError` in a joint configuration, and for the removal of the last voter.
        """
        draft = _Draft(self.tracker, self.last_index)
        if draft.outgoing:
            raise ConfChangeError("config is already joint")
        if not draft.incoming:
            raise ConfChangeError("can't make a zero-voter config joint")
        draft.outgoing = set(draft.incoming)
        draft.apply(changes)
        draft.auto_leave = auto_leave
        return draft.finished()

    def leave_joint(self) -> Result:
        """The incoming voters decide alone from here on. Raises `ConfChangeError` outside of a joint configuration."""
        draft = _Draft(self.tracker, self.last_index)
        if not draft.outgoing:
            raise ConfChangeError("can't leave a non-joint config")
        draft.leave()
        return draft.finished()


class _Draft:
    """A configuration in the making."""

    def __init__(self, tracker: ProgressTracker, last_index: int) -> None:
        config = tracker.config
        self.tracker = tracker
        self.last_index = last_index
        self.incoming = set(config.voters.incoming)
        self.outgoing = set(config.voters.outgoing)
        self.learners = set(config.learners)
        self.learners_next = set(config.learners_next)
        self.auto_leave = config.auto_leave
        self.progress = dict(tracker.progress)

    def apply(self, changes: Iterable[ConfChangeSingle]) -> None:
        """Makes the changes in order. Node 0 stands for one that the driver has withdrawn; an update changes nothing
        here, but lets an application send word of itself through the log."""
        for change in changes:
            node_id = change.node_id
            if node_id == NONE:
                continue
            if change.type == CONF_CHANGE_ADD_NODE:
                self._make_voter(node_id)
            elif change.type == CONF_CHANGE_ADD_LEARNER_NODE:
                self._make_learner(node_id)
            elif change.type == CONF_CHANGE_REMOVE_NODE:
                self._remove(node_id)
        if not self.incoming:
            raise ConfChangeError("removed all voters")

    def leave(self) -> None:
        """Forgets the outgoing voters, but for those that stay in another part."""
        for node_id in self.learners_next:
            self._mark(node_id, is_learner=True)
        self.learners |= self.learners_next
        self.learners_next.clear()
        for node_id in self.outgoing - self.incoming - self.learners:
            del self.progress[node_id]
        self.outgoing.clear()
        self.auto_leave = False

    def _make_voter(self, node_id: int) -> None:
        if node_id not in self.progress:
            self._add(node_id, is_learner=False)
        self._mark(node_id, is_learner=False)
        self.learners.discard(node_id)
        self.learners_next.discard(node_id)
        self.incoming.add(node_id)

    def _make_learner(self, node_id: int) -> None:
        if node_id not in self.progress:
            self._add(node_id, is_learner=True)
            self.learners.add(node_id)
            return
        progress = self.progress[node_id]
        if progress.is_learner:
            return
        self._remove(node_id)
        self.progress[node_id] = progress
        if node_id in self.outgoing:
            # It still decides as one of the old voters, and nobody is both: it becomes a learner when they go.
            self.learners_next.add(node_id)
        else:
            self._mark(node_id, is_learner=True)
            self.learners.add(node_id)

    def _remove(self, node_id: int) -> None:
        self.incoming.discard(node_id)
        self.learners.discard(node_id)
        self.learners_next.discard(node_id)
        if node_id not in self.outgoing:  # one of the old voters is still needed until the change is over
            self.progress.pop(node_id, None)

    def _add(self, node_id: int, is_learner: bool) -> None:
        """A new node starts by being probed at the end of the log."""
        progress = self.tracker.new_progress(0, max(self.last_index, 1), is_learner)
        # It counts as seen, or it would be held for dead before its first message can arrive.
        progress.recent_active = True
        self.progress[node_id] = progress

    def _mark(self, node_id: int, is_learner: bool) -> None:
        """In a copy: the progress of the configuration in force stays as it is."""
        if self.progress[node_id].is_learner != is_learner:
            progress = self.progress[node_id] = copy.copy(self.progress[node_id])
            progress.is_learner = is_learner

    def finished(self) -> Result:
        """The configuration, checked against the invariants of tracker/config.py."""
        voters = self.incoming | self.outgoing
        assert not voters & self.learners, "a learner is no voter"
        assert self.learners_next <= self.outgoing, "who is to be a learner is an outgoing voter"
        assert voters | self.learners == self.progress.keys(), "there is progress for all, and only for them"
        assert self.outgoing or not (self.learners_next or self.auto_leave), "only a joint configuration is left"
        config = TrackerConfig(
            JointConfig(MajorityConfig(self.incoming), MajorityConfig(self.outgoing)),
            tuple(sorted(self.learners)),
            tuple(sorted(self.learners_next)),
            self.auto_leave,
        )
        return config, dict(sorted(self.progress.items()))
