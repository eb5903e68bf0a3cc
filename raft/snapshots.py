"""Snapshots in place of entries that are cut away: the leader sends one, a follower takes it.

    leader    needs entry 7 for a follower, but its log begins at 20   ──► MsgSnap, the follower's progress: SNAPSHOT
    follower  the log becomes the snapshot, with its configuration     ──► MsgAppResp at its index

The state itself is the driver's: to send (it may send a newer one), and to install before it applies anything else.

Follows etcd-io/raft: raft.go (maybeSendSnapshot, handleSnapshot, restore); paper section 7.
"""

from __future__ import annotations

from raft import confchange
from raft.core import Core
from raft.errors import ConfChangeError, RaftPanic, SnapshotTemporarilyUnavailableError
from raft.raftpb import MSG_APP_RESP, MSG_SNAP, ConfState, Message, Snapshot
from raft.state import STATE_FOLLOWER
from raft.tracker import Progress

__all__ = ["handle_snapshot", "maybe_send_snapshot"]


def maybe_send_snapshot(r: Core, to: int, progress: Progress) -> bool:
    """Sends the newest snapshot to a follower that was heard from; one that is down doesn't get one again and again.

    A follower ignores a snapshot of a configuration without it. If it was added since, it would be sent the same one
    for ever (etcd#13741), so it waits for a newer one, like a follower whose snapshot is still being made.
    """
    if not progress.recent_active:
        if r.logger is not None:
            r.logger.debug("ignore sending snapshot to %x since it is not recently active", to)
        return False
    try:
        snapshot = r.log.snapshot()
    except SnapshotTemporarilyUnavailableError:
        if r.logger is not None:
            r.logger.debug("%x failed to send snapshot to %x because snapshot is temporarily unavailable", r.id, to)
        return False
    assert not snapshot.is_empty(), "entries are cut away, but there is no snapshot of them"
    metadata = snapshot.metadata
    if not _takes_part(to, metadata.conf_state):
        return False
    if r.logger is not None:
        r.logger.debug(
            "%x [firstindex: %d, commit: %d] sent snapshot[index: %d, term: %d] to %x [%s]",
            *(r.id, r.log.first_index(), r.log.committed, metadata.index, metadata.term, to, progress),
        )
    progress.become_snapshot(metadata.index)
    if r.logger is not None:
        r.logger.debug("%x paused sending replication messages to %x [%s]", r.id, to, progress)
    r.send(Message(MSG_SNAP, to=to, snapshot=snapshot))
    return True


def handle_snapshot(r: Core, m: Message) -> None:
    """A follower's answer: how far its log is the leader's now, whether or not the snapshot was of use."""
    snapshot = m.snapshot or Snapshot()
    restored = _restore(r, snapshot)
    if r.logger is not None:
        r.logger.info(
            "%x [commit: %d] %s snapshot [index: %d, term: %d]",
            *(r.id, r.log.committed, "restored" if restored else "ignored"),
            *(snapshot.metadata.index, snapshot.metadata.term),
        )
    r.send(Message(MSG_APP_RESP, to=m.from_, index=r.log.last_index() if restored else r.log.committed))


def _restore(r: Core, snapshot: Snapshot) -> bool:
    """Takes a snapshot in place of the log. False if it isn't needed, or not meant for this node.

    The configuration changes at once. A log that has the snapshot's last entry already is kept, and only learns that
    everything up to there is committed: dropping it would drop entries after it that this node has acknowledged. A log
    with another entry there is dropped whole; what conflicts with the snapshot would be sent snapshots for ever
    (hashicorp#697).
    """
    metadata = snapshot.metadata
    if metadata.index <= r.log.committed:
        r.log.require_same(metadata.index, metadata.term, (), r.lead)
        return False
    if r.state != STATE_FOLLOWER:
        raise RaftPanic("a snapshot reached a node that isn't a follower")
    if not _takes_part(r.id, metadata.conf_state):
        if r.logger is not None:
            r.logger.warning(
                "%x attempted to restore snapshot but it is not in the ConfState %s; should never happen",
                *(r.id, metadata.conf_state),
            )
        return False
    if r.log.match_term(metadata.index, metadata.term):
        _explain(r, "fast-forwarded commit to", metadata.index, metadata.term)
        r.log.commit_to(metadata.index)
        return False
    try:
        # Restored before anything is changed, so that one that can't be taken leaves the node as it was.
        config, progress = confchange.restore(r.tracker.empty_copy(), metadata.conf_state, metadata.index)
    except ConfChangeError as error:
        if r.logger is not None:
            r.logger.error("%x can't restore snapshot [index: %d]: %s", r.id, metadata.index, error)
        return False
    r.log.restore(snapshot)
    r.set_configuration(config, progress)
    _explain(r, "restored", metadata.index, metadata.term)
    return True


def _explain(r: Core, what: str, index: int, term: int) -> None:
    if r.logger is not None:
        r.logger.info(
            "%x [commit: %d, lastindex: %d, lastterm: %d] %s snapshot [index: %d, term: %d]",
            *(r.id, r.log.committed, r.log.last_index(), r.log.last_term(), what, index, term),
        )


def _takes_part(node_id: int, conf_state: ConfState) -> bool:
    # learners_next needn't be looked at: they are in voters_outgoing.
    return any(node_id in ids for ids in (conf_state.voters, conf_state.learners, conf_state.voters_outgoing))
