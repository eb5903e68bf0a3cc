"""A node's data directory: whether it is the one that the node has to have, and whether it still has all it promised.

    data_dir/
      LOCK           one node at a time
      identity       whose it is (server/identity.py)
      wal/           the log; it says the same (server/wal.py)
      snap/          snapshot files
      engine         the state machine's store

A node that votes or acknowledges promises something, and its log is where the promise is kept. A node that has lost its
log and goes on under the same id votes again: an entry that a majority had is then in no majority any more, and is gone.
So a directory takes part only if it is whole, or if it has never promised anything.

Invariants:

1. A new directory gets, each on disk before the next: the identity (starts 0), the log with its first START, the identity
   again (starts 1); only then snapshots and an engine. So an engine or snapshots without a log are never what a crash
   leaves, and an identity with starts 0 has promised nothing.
2. Every later start is counted in the log, then in the identity, and then a peer may hear of it.
3. A new segment of the log is noted in the identity before anything that is in it is promised to a peer.
4. Nothing is changed in a directory that is refused, and nothing is ever deleted in order to begin anew.
5. A directory that was found to have lost what it promised (`condemn`) says so in its identity, and is refused from then
   on, before it can vote.

A directory of an earlier version has a log and no identity. It gets one at its next start; its log's heads have the id
that all clusters had (wal_replay, CLUSTER_ID_BEFORE).

For any thread, once it is open.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping
from dataclasses import replace

import engines
from engines.env import Env, Lock
from server.config import Joining, NodeConfig
from server.errors import WAY_OUT, DirectoryRefused
from server.identity import Identity, Met, address_list, cluster_id, read_identity, write_identity
from server.wal import Promised, Wal, WalState
from server.wal_replay import replay
from server.wal_segment import SegmentName

__all__ = ["Directory", "open_directory"]


class Directory:
    """An open data directory: its lock, its identity, its log and what that held. Made by `open_directory`."""

    def __init__(self, path: str, env: Env, lock: Lock, identity: Identity, log: tuple[Wal, WalState]) -> None:
        self.path = path
        self.env = env
        self.wal, self.state = log
        self._lock = lock
        self._identity = identity
        self._guard = threading.Lock()

    @property
    def identity(self) -> Identity:
        """What the directory says of itself now."""
        return self._identity

    def remember(self, met: dict[int, Met]) -> None:
        """Notes how members' directories were seen, which hear this node now; on disk when it returns. Raises OSError."""
        with self._guard:
            self._write(self._identity.remembering(met))

    def keep_out(self, why: str) -> None:
        """Notes what a member has said against this directory, so that it is kept out after a restart, too. Raises OSError."""
        with self._guard:
            self._write(replace(self._identity, kept_out=why))

    def remove(self, why: str) -> None:
        """Notes that this node was removed, so that this directory never takes part again. Raises nothing."""
        with self._guard, contextlib.suppress(OSError, engines.StoreError):
            self._write(replace(self._identity, removed=why))

    def admit(self, index: int) -> None:
        """Notes a later entry that has let this directory in, so that nobody's earlier word counts. Raises OSError."""
        with self._guard:
            self._write(replace(self._identity, admitted=index, kept_out=""))

    def note_segment(self) -> None:
        """Notes a new segment of the log (invariant 3). Raises OSError. O(1) if there is none."""
        if self.wal.segment != self._identity.segment:
            with self._guard:
                self._write(replace(self._identity, segment=self.wal.segment))

    def condemn(self, why: str) -> str:
        """Notes that the log contradicts the leader's, so that this directory never takes part again (invariant 5).

        Returns the sentence that it is refused with from now on. Raises nothing: the disk may be why the node stops.
        """
        sentence = (
            f"{why}; this directory takes no part any more: move it away and keep it, since it may have what the others "
            "have lost, and start the node with an empty one: the leader readmits it, as long as the others are a majority"
        )
        with self._guard, contextlib.suppress(OSError, engines.StoreError):
            self._write(replace(self._identity, lost=sentence))
        return sentence

    def _write(self, identity: Identity) -> None:
        write_identity(self.path, identity, self.env)
        self._identity = identity

    def close(self) -> None:
        """Closes the log, and gives up the lock. Twice is fine. Raises OSError."""
        try:
            self.wal.close()
        finally:
            self._lock.close()


def open_directory(config: NodeConfig) -> Directory:
    """Opens the node's data directory, or makes it, and counts the start.

    Raises UnknownEngine; DirectoryRefused and WalMismatch for one that this node must not take part with;
    CorruptionError, StoreLocked, OSError. O(bytes of the log).
    """
    env = config.env
    engines.engine_class(config.engine)  # a name that nobody knows must not become a part of the identity
    path = env.absolute(config.data_dir)
    env.makedirs(path, "server.node.mkdir")
    lock = env.lock(f"{path}/LOCK")
    try:
        return _open(path, env, lock, config)
    except BaseException:
        lock.close()
        raise


def _open(path: str, env: Env, lock: Lock, config: NodeConfig) -> Directory:
    found = read_identity(path, env)
    _check_whole(path, env, found)
    if found is None and not config.peers and config.joining is None:
        raise DirectoryRefused(
            f"{path} belongs to no cluster yet: begin one with --cluster, or join one that is running with --join"
        )
    identity = found or _new_identity(config)
    _check_ours(path, identity, config)
    if found is None:
        write_identity(path, identity, env)
    wal, state = Wal.open(
        f"{path}/wal",
        env,
        node_id=identity.node_id,
        cluster_id=identity.cluster_id,
        promised=Promised(identity.number, identity.starts, identity.segment),
    )
    try:
        identity = replace(identity.started(state.starts, env.rng.getrandbits(64)), segment=wal.segment)
        write_identity(path, identity, env)
    except BaseException:
        with contextlib.suppress(OSError):
            wal.close()
        raise
    return Directory(path, env, lock, identity, (wal, state))


def _new_identity(config: NodeConfig) -> Identity:
    joining = config.joining
    if joining is not None:
        return Identity(
            cluster_id=joining.cluster_id,
            node_id=config.id,
            number=config.env.rng.getrandbits(64),
            engine=config.engine,
            members=address_list(joining.first),
            token=joining.token,
            admitted=joining.admitted,
            joined=address_list(joining.members),
        )
    return Identity(
        cluster_id=cluster_id(config.peers, config.cluster_token),
        node_id=config.id,
        number=config.env.rng.getrandbits(64),
        engine=config.engine,
        members=address_list(config.peers),
        token=bool(config.cluster_token),
    )


def _check_whole(path: str, env: Env, identity: Identity | None) -> None:
    """Whether the parts that are there can be all that were there. Raises DirectoryRefused, CorruptionError."""
    if _has_log(path, env):
        start = None if identity is not None else replay(f"{path}/wal", env).start
        if start is not None:
            raise DirectoryRefused(
                f"{path}/identity is gone, and the log says that this is directory {start.number:016x}; {WAY_OUT}"
            )
        return
    rest = [name for name in ("snap", "engine") if env.exists(f"{path}/{name}")]
    if rest or (identity is not None and identity.starts):
        there = " and ".join([*(f"{name}/" for name in rest), *(["its identity"] if identity is not None else [])])
        raise DirectoryRefused(
            f"{path} has {there}, but no log in wal/, where this node's votes and acknowledgements are: it must not "
            f"take part without them; {WAY_OUT}"
        )


def _has_log(path: str, env: Env) -> bool:
    return env.exists(f"{path}/wal") and any(SegmentName.parse(name) for name in env.list(f"{path}/wal"))


def _check_ours(path: str, identity: Identity, config: NodeConfig) -> None:
    """Whether the directory is that of this node, this cluster and this engine. Raises DirectoryRefused."""
    if identity.lost:
        raise DirectoryRefused(f"{path}: {identity.lost}")
    if identity.node_id != config.id:
        raise DirectoryRefused(
            f"{path} is the directory of node {identity.node_id}, and this is node {config.id}: give it its own --data, "
            "or the --id that belongs to this one"
        )
    if identity.removed:
        raise DirectoryRefused(f"{path}: {identity.removed}")
    if config.joining is not None:
        _check_joins(path, identity, config.joining)
    elif config.peers and identity.cluster_id != cluster_id(config.peers, config.cluster_token):
        raise DirectoryRefused(_other_cluster(path, identity, config))
    if _canonical(identity.engine) != _canonical(config.engine):
        raise DirectoryRefused(
            f"{path} is a directory of the engine {identity.engine}, and this node was started with {config.engine}: "
            f"start it with --engine {identity.engine}"
        )


def _check_joins(path: str, identity: Identity, joining: Joining) -> None:
    """Whether the directory is the one that was let in. Raises DirectoryRefused."""
    if identity.cluster_id != joining.cluster_id:
        raise DirectoryRefused(
            f"{path} belongs to cluster {identity.cluster_id:016x}, and the node named in --join to cluster "
            f"{joining.cluster_id:016x}: give this node an empty --data"
        )
    if identity.admitted < joining.admitted:
        raise DirectoryRefused(
            f"{path} is the directory with which node {identity.node_id} took part before; entry {joining.admitted} has let "
            "it in anew, with an empty one: give it an empty --data"
        )


def _other_cluster(path: str, identity: Identity, config: NodeConfig) -> str:
    first, now = _named(identity.members), _named(address_list(config.peers))
    if first == now:
        difference = f"with {'a' if identity.token else 'no'} --cluster-token, and this node was started with " + (
            "another" if identity.token and config.cluster_token else "one" if config.cluster_token else "none"
        )
    else:
        difference = f"by the nodes {first}, and this node was started for the nodes {now}"
    return (
        f"{path} belongs to cluster {identity.cluster_id:016x}, which was begun {difference}: start it with the first "
        "--cluster and --cluster-token, on all members alike (members move by metcd member, not by another list); a node "
        "that is meant for another cluster, and has never taken part in that one, needs an empty --data"
    )


def _named(members: Mapping[int, str]) -> str:
    return ", ".join(f"{node} at {address}" for node, address in members.items())


def _canonical(engine: str) -> str:
    """One name for what has several: "lsm" and its module:Class, a file from here and from elsewhere."""
    return engines.ENGINES.get(engine, engine).rpartition("/")[2]
