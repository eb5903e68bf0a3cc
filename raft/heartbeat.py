"""Heartbeats: the leader is there, and what it has committed.

Follows etcd-io/raft: raft.go (bcastHeartbeat, sendHeartbeat).
"""

from __future__ import annotations

from raft.config import READ_ONLY_LEASE_BASED
from raft.core import Core
from raft.raftpb import MSG_HEARTBEAT, Message

__all__ = ["broadcast_heartbeat"]


def broadcast_heartbeat(r: Core) -> None:
    """To every follower, with the position of the last read that waits, or of this round if it prolongs a lease.

    The commit index in it is no more than the follower is known to have, so it can be taken without looking at the log.
    """
    if r.config.read_only_option == READ_ONLY_LEASE_BASED:
        r.read_only.open_round(r.id, r.config.election_tick)
    context = r.read_only.heartbeat_context()
    for node_id, progress in r.tracker.progress.items():
        if node_id != r.id:
            commit = min(progress.match, r.log.committed)
            r.send(Message(MSG_HEARTBEAT, to=node_id, commit=commit, context=context))
            progress.sent_commit = commit
