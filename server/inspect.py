"""`metcd check`, `dump`, `which` and `repair`: the files of a store or of a node that isn't running.

    path                             what is looked at
    ──────────────────────────────   ──────────────────────────────────────────────────────────────────────
    a node's directory               wal/, every snapshot of snap/, the store engine/, and whether they fit together
    wal/, *.snap                     that part of a node alone
    a store                          everything, by the engine that recognises it, or by --engine
    etcd's member directory          nothing: a sentence says what it is, and which of its files can be checked

1. **Check, dump and which only look.** Stores are opened with `read_only=True`; nothing here writes, creates, renames or
   removes, and a lock is shared, where there is a lock's file to share. So a check works on a read-only medium, and on
   another program's files.
2. **What nobody recognises is told, not opened.** A node of the memory engine is recognised by an engine/ in which
   nothing but the lock lies. Any other engine/ that no engine recognises is damaged, or of an engine of one's own.
3. **The parts of a node must fit**: the engine has applied no entry that the log hasn't, and whatever the log no longer
   has is in the engine or in a snapshot. So an engine that was lost, and a log that was lost, are found even where each
   file by itself is whole.

An engine of one's own whose constructor has no `read_only` is checked on a copy, made in a temporary directory.
Left out: nodes that run (their locks keep this out), and repairing a node's engine: see `repair`.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any

import engines
from engines import CorruptionError, ForeignFormat, KVStore, NoSuchStore, StoreError
from engines.env import Env, StorePath, real_env
from engines.log_tools import dump_log
from raft.raftpb import SnapshotMetadata
from server import snapshot, wal, wal_replay
from server.statemachine import StateMachine
from server.wal_segment import SegmentName

__all__ = ["NotRecognised", "check", "dump", "repair", "what_is"]

NAMES_SHOWN = 3


class NotRecognised(StoreError):
    """Nobody here knows what lies at the path; the sentence says what was looked for, or what it is instead."""


# ---- what is at a path ----------------------------------------------------------------------------------------------


def _place(path: StorePath, env: Env) -> str:
    """The absolute path of what is to be looked at. Raises NoSuchStore, NotRecognised if it is etcd's."""
    absolute = env.absolute(path)
    if not env.exists(absolute):
        raise NoSuchStore(f"there is nothing at {absolute}")
    for member in (absolute, f"{absolute}/member", absolute.removesuffix("/wal"), absolute.removesuffix("/snap")):
        if _is_etcds(member, env):
            raise NotRecognised(
                f"{absolute} is etcd's: its log and its snapshots are in etcd's own formats, for etcdutl to read; "
                f"the database is a bolt file: metcd check {member}/snap/db --engine btree"
            )
    return absolute


def _is_etcds(path: str, env: Env) -> bool:
    """True for etcd's member directory. Its log's names are like ours; its first record is of another form."""
    if not env.is_dir(f"{path}/wal"):
        return False
    if env.exists(f"{path}/snap/db"):
        return True
    for name in filter(SegmentName.parse, env.list(f"{path}/wal")):
        with contextlib.closing(env.open(f"{path}/wal/{name}", "r")) as file:
            head = file.pread(10, 0)
        # a length in 8 bytes, less than 256, padded to a multiple of 8; then walpb.Record{type: crcType}
        return len(head) == 10 and head[1:7] == bytes(6) and head[8:] == b"\x08\x04"
    return False


def _is_node(path: str, env: Env) -> bool:
    """True for a node's directory: two of its three parts are enough, because one may be what is missing."""
    segments = env.is_dir(f"{path}/wal") and any(map(SegmentName.parse, env.list(f"{path}/wal")))
    parts = [env.is_dir(f"{path}/wal"), env.is_dir(f"{path}/snap"), env.exists(f"{path}/engine")]
    return segments or sum(parts) >= 2


def _is_log(path: str, env: Env) -> bool:
    return env.is_dir(path) and any(map(SegmentName.parse, env.list(path)))


def what_is(path: StorePath, env: Env | None = None) -> str:
    """What lies at the path, in words: "lsm", "a node's directory, on the engine 'lsm'". Raises NotRecognised."""
    env = env or real_env()
    path = _place(path, env)
    if _is_node(path, env):
        engine = _engine_of_node(path, env)
        return f"a node's directory, on {f'the engine {engine!r}' if engine else 'an engine that is not recognised'}"
    if _is_log(path, env):
        return "a node's log"
    engine = engines.which(path, env)
    if engine is None:
        raise NotRecognised(_nobodys(path, env))
    return engine


def _engine_of_node(path: str, env: Env) -> str | None:
    """The name of the engine in a node's directory; None if its files are nobody's."""
    store_path = f"{path}/engine"
    found = engines.which(store_path, env)
    if found is None and env.is_dir(store_path) and env.list(store_path) in ([], ["LOCK"]):
        return "memory"  # it leaves nothing but the lock's file
    return found


def _nobodys(path: str, env: Env) -> str:
    """Why no engine recognises what is at the path: the engine's own words where it finds its damaged or foreign files."""
    if (claim := engines.claimed(path, env)) is not None:
        return str(claim[1])
    what = "is a file that"
    if env.is_dir(path):
        names = env.list(path)
        more = "" if len(names) <= NAMES_SHOWN else ", …"
        what = f"has {', '.join(names[:NAMES_SHOWN])}{more} in it, which" if names else "is an empty directory, which"
    return (
        f"{path} {what} is neither a node's nor a store of {', '.join(engines.ENGINES)}: "
        "if it is of an engine of your own, say --engine path/to/file.py:Class"
    )


# ---- check ----------------------------------------------------------------------------------------------------------


def check(path: StorePath, engine: str | None = None, env: Env | None = None) -> list[str]:
    """Everything that is wrong at the path, in sentences; [] is OK. Changes nothing.

    Raises NotRecognised, NoSuchStore, StoreLocked if it is in use, UnknownEngine, OSError. O(bytes).
    """
    env = env or real_env()
    path = _place(path, env)
    if engine is None and _is_node(path, env):
        return _check_node(path, None, env)
    if engine is not None and env.is_dir(f"{path}/wal"):
        return _check_node(path, engine, env)
    if _is_log(path, env):
        return wal.check(path, env)
    if path.endswith(".snap") and not env.is_dir(path):
        return _check_snapshot(path, env)[0]
    engine = engine or engines.which(path, env)
    if engine is None:
        raise NotRecognised(_nobodys(path, env))
    return _check_store(path, engine, env, engines.engine_class(engine).look_options)


def _check_store(path: str, engine: str, env: Env, options: Mapping[str, Any]) -> list[str]:
    try:
        with _opened_to_read(path, engine, env, options) as store:
            return store.check()
    except (CorruptionError, ForeignFormat) as error:
        return [str(error)]


def _applied_index(path: str, engine: str, env: Env) -> int | None:
    """The last entry that a node's store has applied; None if it can't be read."""
    try:
        with _opened_to_read(path, engine, env, {}) as store:
            return StateMachine(store).applied_index
    except (CorruptionError, ForeignFormat):
        return None


@contextlib.contextmanager
def _opened_to_read(path: str, engine: str, env: Env, options: Mapping[str, Any]) -> Iterator[KVStore]:
    make: Any = engines.engine_class(engine)  # an engine's constructor is its own
    if "read_only" in engines.options(engine):
        with make(path, env=env, read_only=True, **options) as store:
            yield store
        return
    with tempfile.TemporaryDirectory(prefix="metcd-check-") as directory:
        copy = f"{directory}/copy"
        if env.is_dir(path):
            shutil.copytree(path, copy, symlinks=True)
        else:
            shutil.copyfile(path, copy)
        with make(copy, env=env) as store:
            yield store


def _check_node(path: str, engine: str | None, env: Env) -> list[str]:
    store_path = f"{path}/engine"
    engine = engine or _engine_of_node(path, env)
    applied: int | None = None
    found: list[str] = []
    if not env.exists(store_path):
        found = [f"{store_path} is missing: the node's store is gone"]
    elif engine is None:
        found = [_nobodys(store_path, env)]
    elif engine == "memory":
        applied = 0
        _check_not_running(store_path, env)
    else:
        found = _check_store(store_path, engine, env, {})  # a node's store has what a node writes
        applied = _applied_index(store_path, engine, env)
    snapshots: list[SnapshotMetadata] = []
    for part in ("wal", "snap"):
        if not env.is_dir(f"{path}/{part}"):
            found.append(f"{path}/{part} is missing: a part of the node is gone")
    for name in env.list(f"{path}/snap") if env.is_dir(f"{path}/snap") else []:
        if name.endswith(".snap"):
            wrong, metadata = _check_snapshot(f"{path}/snap/{name}", env)
            found += wrong
            snapshots += [metadata] if metadata is not None else []
    if env.is_dir(f"{path}/wal"):
        found += _check_log(path, applied, snapshots, env)
    return found


def _check_not_running(store_path: str, env: Env) -> None:
    """Raises StoreLocked if a node of the memory engine has its lock."""
    with contextlib.suppress(FileNotFoundError, PermissionError):
        env.lock(f"{store_path}/LOCK", shared=True).close()


def _check_snapshot(path: str, env: Env) -> tuple[list[str], SnapshotMetadata | None]:
    try:
        return [], snapshot.verify_snapshot(path, env)
    except CorruptionError as error:
        return [str(error)], None


def _check_log(path: str, applied: int | None, snapshots: list[SnapshotMetadata], env: Env) -> list[str]:
    """What is wrong with the log, and between it, the engine's applied index and the snapshots that are whole.

    applied: None for an engine that couldn't be read. The rules are those of NodeStorage's start.
    """
    try:
        history = wal_replay.replay(f"{path}/wal", env).history
    except CorruptionError as error:
        return [str(error)]
    found = []
    if applied is not None and applied > history.last_index:
        found.append(
            f"{path}: the engine has applied entry {applied}, but the log ends at {history.last_index}: the log was "
            "lost or replaced"
        )
    begin = history.snapshot.index
    reached = max((metadata.index for metadata in snapshots if metadata.index <= history.last_index), default=0)
    if applied is not None and applied < begin and reached < begin:
        found.append(
            f"{path}: the log begins after entry {begin}, the engine is at entry {applied}, and no whole snapshot is "
            "between the two: entries are lost"
        )
    return found


# ---- dump, repair ---------------------------------------------------------------------------------------------------


def dump(path: StorePath, engine: str | None = None, env: Env | None = None) -> Iterator[str]:
    """A file, a store or a node's log as lines, damage in its place. Takes no lock and changes nothing.

    Raises NotRecognised for what nobody can show, NoSuchStore, UnknownEngine, OSError.
    """
    env = env or real_env()
    path = _place(path, env)
    if engine is not None:
        return engines.engine_class(engine).dump(path, env)
    if path.endswith(".snap") and not env.is_dir(path):
        return snapshot.dump(path, env)
    if _is_node(path, env):
        return wal.dump(f"{path}/wal", env) if env.is_dir(f"{path}/wal") else iter(())
    if _is_log(path, env):
        return wal.dump(path, env)
    for name in _who_may_show(path, env):
        lines = engines.engine_class(name).dump(path, env)
        if (first := next(lines, None)) is not None:
            return _chained(first, lines)
    if path.endswith((".wal", ".log")) or path.rpartition("/")[2].startswith("MANIFEST-"):
        return _dumped_log(path, env)
    raise NotRecognised(
        f"{path} is none of the files that dump knows: a node's directory, wal/, *.wal, *.snap, *.log, an engine's"
    )


def _who_may_show(path: str, env: Env) -> Iterator[str]:
    """The engine whose store it is or lies in; the one whose format it is; for a file, all that may know its name."""
    above = path.rpartition("/")[0] or "/"
    if (engine := engines.which(path, env) or engines.which(above, env)) is not None:
        yield engine
    elif (claim := engines.claimed(path, env)) is not None:
        yield claim[0]
    elif not env.is_dir(path):
        yield from engines.ENGINES


def _chained(first: str, rest: Iterator[str]) -> Iterator[str]:
    yield first
    yield from rest


def _dumped_log(path: str, env: Env) -> Iterator[str]:
    with contextlib.closing(env.open(path, "r")) as file:
        yield from dump_log(file)


def repair(path: StorePath, engine: str | None = None, env: Env | None = None) -> list[str]:
    """Repairs the store at the path, by the engine that recognises its files or by `engine`: what was done.

    A node's engine is refused: what a repair loses, the node has told others that it has. Raises NotRecognised,
    StoreError before anything is changed if the engine can't, StoreLocked, OSError.
    """
    env = env or real_env()
    path = _place(path, env)
    above, _, name = path.rpartition("/")
    for node in (path, above if name == "engine" else ""):
        if node and _is_node(node, env):
            raise StoreError(
                f"{node} is a node's directory: a repaired engine may lack what the node has promised to others; "
                f"copy {node}/engine to another place and repair the copy, to see what is in it"
            )
    if engine is None:
        engine = engines.which(path, env)
    if engine is None:
        claim = engines.claimed(path, env)
        if claim is None:
            raise NotRecognised(_nobodys(path, env))
        engine = claim[0]
    return engines.engine_class(engine).repair(path, env)
