"""Bootstrap: a new cluster whose members are in the log, as the first entries of every member's.

The other way, which needs no entries, is to start every member with the same `MemoryStorage(conf_state=…)`.

Follows etcd-io/raft: bootstrap.go.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from raft.core import Core
from raft.membership import apply_conf_change
from raft.raftpb import CONF_CHANGE_ADD_NODE, ENTRY_CONF_CHANGE, ConfChange, Entry
from raft.util import NONE

__all__ = ["Peer", "bootstrap"]


@dataclass(frozen=True, slots=True)
class Peer:
    """A member of a new cluster. `context` is the application's, and goes into the change that adds it."""

    id: int
    context: bytes = b""


def bootstrap(r: Core, peers: Sequence[Peer]) -> None:
    """Appends one change for each peer, at term 1, and counts them as committed; all members do the same.

    The changes are in force at once, so that the node can campaign; the driver gets them among its committed entries
    and applies them again, which changes nothing. Raises `ValueError` without peers, for a peer 0, and for a storage in
    use.
    """
    if not peers:
        raise ValueError("a cluster needs at least one peer")
    if any(peer.id == NONE for peer in peers):
        raise ValueError("a peer's id must not be 0, which stands for no node")
    if r.config.storage.last_index() != 0:
        raise ValueError(f"a node that has {r.config.storage.last_index()} entries can't be bootstrapped")
    r.become_follower(1, NONE)
    changes = [ConfChange(CONF_CHANGE_ADD_NODE, peer.id, peer.context) for peer in peers]
    entries = [Entry(1, index, ENTRY_CONF_CHANGE, change.encode()) for index, change in enumerate(changes, 1)]
    r.log.append(entries)
    r.log.commit_to(len(entries))
    for change in changes:
        apply_conf_change(r, change.as_v2())
