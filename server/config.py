"""All that one node has to be told."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from engines.env import Env, real_env

__all__ = ["NodeConfig", "Peers"]

Peers = dict[int, tuple[str, int]]  # node id → host and port of its peer listener


@dataclass(frozen=True)
class NodeConfig:
    """The configuration of one node.

    id: this node's, 1 or more. peers: every member's peer listener, this node's too; the same on all members, because
    the members of a new cluster come from it. data_dir: this node's own. engine, engine_options: for `engines.open`.
    tick_s: seconds of a Raft tick; a follower campaigns after election_tick to 2 * election_tick - 1 of them.
    snapshot_entries, snapshot_bytes: the log is cut when either has been applied since the last cut.
    catch_up_entries: how many stay in memory behind the cut, so that a follower that was away needn't take a snapshot.
    cluster_id: the same on all members; a node refuses peers and files of another cluster.
    """

    id: int
    peers: Peers
    data_dir: str
    engine: str = "memory"
    tick_s: float = 0.1
    election_tick: int = 10
    heartbeat_tick: int = 1
    snapshot_entries: int = 10_000
    snapshot_bytes: int = 64 << 20
    catch_up_entries: int = 5_000
    cluster_id: int = 0x1000  # as in raftexample
    engine_options: dict[str, Any] = field(default_factory=dict)
    env: Env = field(default_factory=real_env)
