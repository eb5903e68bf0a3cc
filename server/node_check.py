"""`metcd check` of a node's directory: its identity, its log, its snapshots, its store, and whether they fit together.

    identity   which node's, of which cluster, on which engine, how often started           server/identity.py
    wal/       the log: it must be that of the identity, and not an older one               server/wal_replay.py
    snap/      every snapshot file
    engine     the store: it has applied no entry that the log hasn't, and whatever the log no longer has is in it,
               or in a snapshot                                                             server/storage.py
               its keys and their history tell the same                                     server/mvcc_check.py

So an engine that was lost, and a log that was lost, are found even where each file by itself is whole. Which engine it
was: the identity says it; in a directory of an earlier version, which has none, the files do. The memory engine leaves
nothing but the lock's file. The name of an engine of one's own is told and not followed: looking at a directory must not
run a program that the directory names.

Nothing is changed, and a node that runs keeps this out by its locks.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field

import engines
from engines import CorruptionError, StoreError
from engines.env import Env
from raft.raftpb import SnapshotMetadata
from server import snapshot
from server.errors import DirectoryRefused
from server.identity import FILE_NAME, Identity, read_identity
from server.mvcc_check import check_rows
from server.statemachine import StateMachine
from server.store_check import check_store, nobodys, opened_to_read
from server.wal import Promised
from server.wal_replay import Recovery, replay
from server.wal_segment import SegmentName

__all__ = ["check_node", "engine_of_node", "is_node"]


def is_node(path: str, env: Env) -> bool:
    """True for a node's directory: by its identity, by its log, or by two of its three parts, one of which was lost."""
    segments = env.is_dir(f"{path}/wal") and any(map(SegmentName.parse, env.list(f"{path}/wal")))
    parts = [env.is_dir(f"{path}/wal"), env.is_dir(f"{path}/snap"), env.exists(f"{path}/engine")]
    return segments or sum(parts) >= 2 or (env.exists(f"{path}/{FILE_NAME}") and env.exists(f"{path}/LOCK"))


def engine_of_node(path: str, env: Env) -> str | None:
    """The engine that a node ran on: as its identity says, or as its files do; None if nobody can say."""
    with contextlib.suppress(StoreError):
        if (identity := read_identity(path, env)) is not None:
            return identity.engine
    store_path = f"{path}/engine"
    found = engines.which(store_path, env)
    return "memory" if found is None and _is_memorys(store_path, env) else found


def _is_memorys(store_path: str, env: Env) -> bool:
    return env.is_dir(store_path) and env.list(store_path) in ([], ["LOCK"])


@dataclass
class _Node:
    """What was found so far."""

    path: str
    env: Env
    found: list[str] = field(default_factory=list)
    identity: Identity | None = None
    recovery: Recovery | None = None  # None: the log can't be read
    snapshots: list[SnapshotMetadata] = field(default_factory=list)  # those that are whole
    applied: tuple[int, int] | None = (0, 0)  # index and term of the engine; None: it can't be read


def check_node(path: str, engine: str | None, env: Env) -> list[str]:
    """Everything that is wrong with a node's directory, in sentences. engine: as --engine gave it.

    Raises StoreLocked for a node that runs, UnknownEngine, OSError. O(bytes).
    """
    _check_not_running(path, env)
    node = _Node(path, env)
    _check_identity(node)
    _check_log(node)
    _check_snapshots(node)
    _check_engine(node, engine)
    if node.recovery is not None:
        _check_fit(node, node.recovery)
    return node.found


def _check_not_running(path: str, env: Env) -> None:
    """Raises StoreLocked if a node has the directory, or the memory engine, which leaves nothing else to be opened."""
    for lock in (f"{path}/LOCK", f"{path}/engine/LOCK"):
        with contextlib.suppress(FileNotFoundError, NotADirectoryError, PermissionError):
            env.lock(lock, shared=True).close()


def _check_identity(node: _Node) -> None:
    try:
        node.identity = read_identity(node.path, node.env)
    except StoreError as error:
        node.found.append(str(error))
    if node.identity is not None and node.identity.lost:
        node.found.append(f"{node.path}: {node.identity.lost}")


def _check_log(node: _Node) -> None:
    """Reads the log, and asks whether it is the one that the identity knows."""
    path, identity = f"{node.path}/wal", node.identity
    if not node.env.is_dir(path):
        if identity is None or identity.starts:
            node.found.append(f"{path} is missing: a part of the node is gone")
        node.recovery = Recovery()
        return
    try:
        if identity is None:
            node.recovery = replay(path, node.env)
            if node.recovery.start is not None and not node.env.exists(f"{node.path}/{FILE_NAME}"):
                node.found.append(f"{node.path}/{FILE_NAME} is missing: the log says that there was one")
        else:
            node.recovery = replay(path, node.env, identity.node_id, identity.cluster_id)
            Promised(identity.number, identity.starts, identity.segment).check(path, node.recovery)
    except (StoreError, DirectoryRefused) as error:
        node.found.append(str(error))


def _check_snapshots(node: _Node) -> None:
    path, env = f"{node.path}/snap", node.env
    if not env.is_dir(path):
        if node.recovery is not None and node.recovery.history.last_index:
            node.found.append(f"{path} is missing: a part of the node is gone")
        return
    for name in env.list(path):
        if name.endswith(".snap"):
            try:
                node.snapshots.append(snapshot.verify_snapshot(f"{path}/{name}", env))
            except CorruptionError as error:
                node.found.append(str(error))


def _check_engine(node: _Node, engine: str | None) -> None:
    """Opens the store for reading, checks it, and reads which entry it has applied last."""
    asked = engine is not None
    path, env = f"{node.path}/engine", node.env
    if not env.exists(env.resolve(path)):
        if node.recovery is not None and not _begins_at_snapshot(node, node.recovery):
            node.found.append(f"{path} is missing: the node's store is gone")
        return
    engine = engine or engine_of_node(node.path, env)
    if engine == "memory" and _is_memorys(path, env):
        return
    if (why := _why_not(path, engine, asked, env)) is not None or engine is None:
        node.found.append(why or nobodys(path, env))
        node.applied = None
        return
    node.found += check_store(path, engine, env)
    node.applied = _applied(node, engine)


def _begins_at_snapshot(node: _Node, recovery: Recovery) -> bool:
    """True if the node has never had anything that isn't in a whole snapshot: it is new, or was restored."""
    begin = recovery.history.snapshot.index
    whole = not begin or any(each.index == begin for each in node.snapshots)
    return whole and recovery.history.last_index == begin


def _why_not(path: str, engine: str | None, asked: bool, env: Env) -> str | None:
    """Why the store of a node isn't opened with this engine; None if it is. asked: somebody has named the engine."""
    recognised = engines.which(path, env)
    if engine is None or recognised == engine:
        return None
    if engine not in engines.ENGINES:
        return (
            None if asked else f"{path}: the node ran on an engine of somebody's own: check it with --engine {engine}"
        )
    if recognised is not None:
        return f"{path}: the node ran on the engine {engine!r}, and these are files of {recognised!r}"
    if engines.claimed(path, env) is not None:
        return nobodys(path, env)
    names = ", ".join(env.list(path)) if env.is_dir(path) else "a file"
    return f"{path}: the node ran on the engine {engine!r}, whose files are gone: {names or 'nothing'} is there"


def _applied(node: _Node, engine: str) -> tuple[int, int] | None:
    """Index and term of the last entry that the store has applied; None, and a sentence, if they can't be read."""
    cluster = node.identity.cluster_id if node.identity is not None else 0
    try:
        with opened_to_read(f"{node.path}/engine", engine, node.env) as store:
            machine = StateMachine(store, cluster)
            if not node.found:  # else the rows can't be better than the files
                node.found += [f"{node.path}/engine: {sentence}" for sentence in check_rows(store)]
            return machine.applied_index, machine.applied_term
    except (StoreError, DirectoryRefused) as error:
        if str(error) not in node.found:  # as it is if the store can't be opened at all
            node.found.append(str(error))
        return None


def _check_fit(node: _Node, recovery: Recovery) -> None:
    """Between the log, the engine and the snapshots: the rules of NodeStorage's start."""
    if node.applied is None:
        return
    index, term = node.applied
    history, begin = recovery.history, recovery.history.snapshot.index
    if index > history.last_index:
        node.found.append(
            f"{node.path}: the engine has applied entry {index}, but the log ends at {history.last_index}: one of the "
            "two was lost or replaced"
        )
        return
    terms = {history.snapshot.index: history.snapshot.term} | {entry.index: entry.term for entry in recovery.entries}
    if index and terms.get(index, term) != term:
        node.found.append(
            f"{node.path}: entry {index}, the last that the engine has applied, is of term {terms[index]} in the log and "
            f"of {term} in the engine: the two are of different nodes or times"
        )
    reached = (each.index for each in node.snapshots if terms.get(each.index) == each.term)
    if index < begin and max(reached, default=0) < begin:
        node.found.append(
            f"{node.path}: the log begins after entry {begin}, the engine is at entry {index}, and no whole snapshot is "
            "between the two: entries are lost"
        )
