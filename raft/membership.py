"""Changes of the membership, from the proposal to the configuration in force.

    proposed ──► refused? a harmless empty entry ──► committed ──► applied by the driver ──► in force on this node
                 (refusal)                                         (apply_conf_change)

A change takes effect when it is applied, not when it is appended as in the paper, so a node's configuration is always
one that is committed. Two rules keep that safe: one change is under way at most, and nobody campaigns with a committed
change that isn't applied (election.py).

Follows etcd-io/raft: raft.go (MsgProp, applyConfChange, switchToConfig); paper section 6, thesis chapter 4.
"""

from __future__ import annotations

from raft.confchange import Changer
from raft.core import Core
from raft.errors import DecodeError
from raft.raftpb import ConfChange, ConfChangeSingle, ConfChangeV2, ConfState, Entry
from raft.replication import broadcast_append, maybe_commit, maybe_send_append
from raft.state import STATE_LEADER
from raft.util import NONE

__all__ = ["apply_conf_change", "checked"]


def checked(r: Core, entry: Entry, index: int) -> Entry:
    """The entry of a membership change as the leader appends it at `index`: an empty one if it must not be made now.

    An empty entry and not an error, because the proposal may have come from a follower, together with others. The
    driver sees the change commit without having an effect.
    """
    change: ConfChange | ConfChangeV2 | None = None
    try:
        change = entry.conf_change()
        reason = "" if r.config.disable_conf_change_validation else _refusal(r, change)
    except DecodeError as error:
        reason = str(error)
    if reason:
        if r.logger is not None:
            text = repr(entry.data) if change is None else _text(change)
            r.logger.info("%x ignoring conf change %s at config %s: %s", r.id, text, r.tracker.config, reason)
        return Entry(0, 0)
    r.pending_conf_index = index
    return entry


def _refusal(r: Core, change: ConfChange | ConfChangeV2) -> str:
    """Why a membership change can't be made now; empty if it can. The configuration that it is checked against is the
    one in force, which may not be the last one that is committed; so the check errs on the safe side."""
    if r.pending_conf_index > r.log.applied:
        return f"possible unapplied conf change at index {r.pending_conf_index} (applied to {r.log.applied})"
    joint = bool(r.tracker.voters.outgoing)
    leaves = not change.as_v2().changes
    if joint and not leaves:
        return "must transition out of joint config first"
    if not joint and leaves:
        return "not in joint state; refusing empty conf change"
    return ""


def _text(change: ConfChange | ConfChangeV2) -> str:
    """As etcd's log lines have it."""

    def single(one: ConfChangeSingle | ConfChange) -> str:
        return f"type:{one.type} node_id:{one.node_id}"

    if isinstance(change, ConfChange):
        return single(change)
    return " ".join((f"transition:{change.transition}", *(f"changes:{{{single(one)}}}" for one in change.changes)))


def apply_conf_change(r: Core, change: ConfChangeV2) -> ConfState:
    """Puts a committed change in force. Raises `ConfChangeError`; then nothing is changed."""
    if r.log.unstable.snapshot is not None:
        # The change was handed out before the snapshot came. The snapshot's configuration is in force already, and later
        # (etcd#11510); with the change made on top of it, this node would count other majorities than its leader.
        return r.tracker.conf_state()
    changer = Changer(r.tracker, r.log.last_index())
    auto_leave = change.enter_joint()
    if change.leave_joint():
        config, progress = changer.leave_joint()
    elif auto_leave is not None:
        config, progress = changer.enter_joint(auto_leave, change.changes)
    else:
        config, progress = changer.simple(change.changes)
    r.set_configuration(config, progress)
    if r.state == STATE_LEADER:
        _react(r)
    return r.tracker.conf_state()


def _react(r: Core) -> None:
    """A leader may now have a quorum for more, new nodes to send to, or no part in the cluster any more."""
    own = r.tracker.progress.get(r.id)
    if own is None or own.is_learner:
        # It goes on leading, without counting itself, until another is elected: it may be the only one to know that its
        # removal is committed. With step_down_on_removal the others find out from an election.
        if r.config.step_down_on_removal:
            r.become_follower(r.term, NONE)
        return
    if maybe_commit(r):
        broadcast_append(r)
    else:
        for node_id, progress in r.tracker.progress.items():
            if node_id != r.id:
                maybe_send_append(r, node_id, progress, send_if_empty=False)
    if r.lead_transferee not in r.tracker.voters:
        # Removed or demoted, it can't take over, and proposals would be refused in vain (etcd#11326).
        r.lead_transferee = NONE
