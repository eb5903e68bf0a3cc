"""All that one node has to be told."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

from engines.env import Env, real_env
from raft import READ_ONLY_LEASE_BASED, READ_ONLY_SAFE, Config, Storage
from server.limits import UNCOMMITTED_BYTES_MAX

__all__ = ["MESSAGE_BYTES_MAX", "RETENTION", "Joining", "NodeConfig", "Peers", "raft_config"]

MESSAGE_BYTES_MAX = 1 << 20  # of entries in one MsgApp or MsgProp
APPLY_BYTES_MAX = 2 << 20  # of entries that are applied at once; a tick may have to wait for so long
INFLIGHT_MESSAGES_MAX = 256
RETENTION = 100_000  # revisions; etcd keeps all, unless it is told

Peers = dict[int, tuple[str, int]]  # node id → host and port of its peer listener


@dataclass(frozen=True)
class Joining:
    """What a running member has told a node that is to join its cluster with an empty directory.

    cluster_id, token, first: what the cluster began with (server/identity.py). members: where its members are now, this
    node among them. admitted: index of the entry that let this node in.
    """

    cluster_id: int
    token: bool
    first: Peers
    members: Peers
    admitted: int


@dataclass(frozen=True)
class NodeConfig:
    """The configuration of one node.

    id: this node's, 1 or more. peers: the first members' peer listeners, the same on all members, because a new cluster
    begins with them; may be empty where the directory knows them, or `joining`. joining: for the first start of a node
    that joins a running cluster. data_dir: this node's own. engine, engine_options: for `engines.open`.
    tick_s: seconds of a Raft tick; a follower campaigns after election_tick to 2 * election_tick - 1 of them. With 0.1 s, as
    etcd has it, a killed leader cost up to 3.2 s (two that campaign at once have to wait once more) and a deaf one 3.4 s;
    with 0.05 s up to 1.0 and 1.9, and three nodes that are filled through 32 connections on two cores lose no leader.
    pre_vote: a node asks whether it could win before it campaigns, so that one that was cut off deposes nobody.
    check_quorum: a leader that a majority doesn't answer within election_tick steps down, and nobody votes who has heard
    a leader within it: what lease reads (server/lease_reads.py) count on. The same on all members.
    snapshot_entries, snapshot_bytes: the log is cut when either has been applied since the last cut.
    catch_up_entries: how many stay in memory before the cut, so that a follower that was away needn't take a snapshot.
    cluster_token: the same on all members; two clusters with the same peers are told apart by it.
    peer_secret: what all members prove to each other that they have; empty only on loopback.
    listen_peer: where this node listens for peers, if they reach it at another address than it has itself (NAT, a proxy).
    retention: how many revisions a leader keeps: it compacts the rest once there are twice as many; 0: all (server/v3/etcd.py).
    quota_bytes: how large its store may become before this node has the alarm NOSPACE raised; 0: as large as it will
    (server/v3/quota.py).
    name, client_urls: what this node publishes of itself for member/list of the v3 interface; nothing if both are empty.
    skip_entries: committed entries that can't be decoded and are passed over (server/IDENTITY.md says when that is safe).
    """

    id: int
    peers: Peers
    data_dir: str
    engine: str = "memory"
    tick_s: float = 0.05
    election_tick: int = 10
    heartbeat_tick: int = 2
    pre_vote: bool = True
    check_quorum: bool = True
    snapshot_entries: int = 10_000
    snapshot_bytes: int = 64 << 20
    catch_up_entries: int = 5_000
    cluster_token: str = ""
    peer_secret: bytes = field(default=b"", repr=False)
    skip_entries: frozenset[int] = frozenset()
    listen_peer: tuple[str, int] | None = None
    retention: int = RETENTION
    quota_bytes: int = 0
    name: str = ""
    client_urls: tuple[str, ...] = ()
    joining: Joining | None = None
    engine_options: dict[str, Any] = field(default_factory=dict)
    env: Env = field(default_factory=real_env)


def raft_config(config: NodeConfig, storage: Storage, applied: int) -> Config:
    """The same for the Raft node. applied: the index of the last entry that the state machine has applied."""
    return Config(
        id=config.id,
        election_tick=config.election_tick,
        heartbeat_tick=config.heartbeat_tick,
        storage=storage,
        rng=random.Random(config.env.rng.getrandbits(64)),
        applied=applied,
        max_size_per_msg=MESSAGE_BYTES_MAX,
        max_committed_size_per_ready=APPLY_BYTES_MAX,
        max_uncommitted_entries_size=UNCOMMITTED_BYTES_MAX,
        max_inflight_msgs=INFLIGHT_MESSAGES_MAX,
        check_quorum=config.check_quorum,
        read_only_option=READ_ONLY_LEASE_BASED if config.check_quorum else READ_ONLY_SAFE,
        pre_vote=config.pre_vote,
    )
