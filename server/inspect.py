"""`metcd check`, `dump`, `which` and `repair`: the files of a store or of a node that isn't running.

    path                             what is looked at
    ──────────────────────────────   ──────────────────────────────────────────────────────────────────────
    a node's directory               its parts, and whether they fit together (server/node_check.py)
    wal/, *.snap                     that part of a node alone; a snapshot that was saved, under any name
    a store                          everything, by the engine that recognises it, or by --engine
    etcd's member directory          nothing: a sentence says what it is, and which of its files can be checked

1. **Check, dump and which only look.** Stores are opened with `read_only=True`; nothing here writes, creates, renames or
   removes, and a lock is shared, where there is a lock's file to share. So a check works on a read-only medium, and on
   another program's files.
2. **What nobody recognises is told, not opened**, with exit status 1.

Left out: nodes that run (their locks keep check out; dump shows them), and repairing a node's engine: see `repair`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import engines
from engines import CorruptionError, ForeignFormat, NoSuchStore, StoreError, StoreLocked
from engines.env import Env, StorePath, real_env
from engines.log_tools import dump_log
from server import snapshot, snapshot_hash, wal
from server.node_check import check_node, engine_of_node, is_node
from server.store_check import NotRecognised, check_store, nobodys, opened_to_read
from server.wal_segment import SegmentName

__all__ = ["NotRecognised", "check", "dump", "repair", "what_is"]

# ---- what is at a path ----------------------------------------------------------------------------------------------


def _place(path: StorePath, env: Env) -> str:
    """The absolute path of what is to be looked at. Raises NoSuchStore, NotRecognised if it is etcd's."""
    absolute = env.absolute(path)
    if not env.exists(leads_to := env.resolve(absolute)):
        where = absolute if leads_to == absolute else f"{leads_to}, where the link {absolute} leads"
        raise NoSuchStore(f"there is nothing at {where}")
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


def _is_log(path: str, env: Env) -> bool:
    return env.is_dir(path) and any(map(SegmentName.parse, env.list(path)))


def _is_snapshot(path: str, env: Env) -> bool:
    """True for a snapshot's name, and for what `metcd snapshot save` has saved under any name that isn't a log's."""
    if env.is_dir(path) or path.endswith((".log", ".wal")):
        return False
    return path.endswith(".snap") or snapshot.is_snapshot(path, env)


def what_is(path: StorePath, env: Env | None = None) -> str:
    """What lies at the path, in words: "lsm", "a node's directory, on the engine 'lsm'". Raises NotRecognised."""
    env = env or real_env()
    path = _place(path, env)
    if is_node(path, env):
        engine = engine_of_node(path, env)
        return f"a node's directory, on {f'the engine {engine!r}' if engine else 'an engine that is not recognised'}"
    if _is_log(path, env):
        return "a node's log"
    if _is_snapshot(path, env):
        return "a snapshot of a cluster's state"
    engine = engines.which(path, env)
    if engine is None:
        raise NotRecognised(nobodys(path, env))
    return engine


# ---- check ----------------------------------------------------------------------------------------------------------


def check(path: StorePath, engine: str | None = None, env: Env | None = None) -> list[str]:
    """Everything that is wrong at the path, in sentences; [] is OK. Changes nothing.

    Raises NotRecognised, NoSuchStore, StoreLocked if it is in use, UnknownEngine, OSError. O(bytes).
    """
    env = env or real_env()
    path = _place(path, env)
    if engine is None and is_node(path, env):
        return check_node(path, None, env)
    if engine is not None and env.is_dir(f"{path}/wal"):
        return check_node(path, engine, env)
    if _is_log(path, env):
        return wal.check(path, env)
    if _is_snapshot(path, env):
        return _check_snapshot(path, env)
    engine = engine or engines.which(path, env)
    if engine is None:
        return _check_anothers(path, env)
    return check_store(path, engine, env, engines.engine_class(engine).look_options)


def _check_anothers(path: str, env: Env) -> list[str]:
    """The check of another program's files by the engine that knows their format, if it can open them to look."""
    claim = engines.claimed(path, env)
    options = engines.engine_class(claim[0]).look_options if claim is not None else {}
    if claim is None or not options:
        raise NotRecognised(nobodys(path, env))
    try:
        with opened_to_read(path, claim[0], env, options) as store:
            return store.check()
    except ForeignFormat as error:
        raise NotRecognised(str(error)) from None
    except CorruptionError as error:
        return [str(error)]


def _check_snapshot(path: str, env: Env) -> list[str]:
    try:
        snapshot_hash.saved(path, env)
    except CorruptionError as error:
        return [str(error)]
    return []


# ---- dump, repair ---------------------------------------------------------------------------------------------------


def dump(path: StorePath, engine: str | None = None, env: Env | None = None) -> Iterator[str]:
    """A file, a store or a node's log as lines, damage in its place. Takes no lock and changes nothing.

    Raises NotRecognised for what nobody can show, NoSuchStore, UnknownEngine, OSError.
    """
    env = env or real_env()
    path = _place(path, env)
    if engine is not None:
        return engines.engine_class(engine).dump(path, env)
    if _is_snapshot(path, env):
        return snapshot_hash.dump(path, env)
    if is_node(path, env):
        return wal.dump(f"{path}/wal", env) if env.is_dir(f"{path}/wal") else iter([f"{path}/wal is missing"])
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
        if node and is_node(node, env):
            raise StoreError(
                f"{node} is a node's directory: a repaired engine may lack what the node has promised to others; "
                f"copy {node}/engine to another place and repair the copy, to see what is in it"
            )
    if engine is None:
        engine = engines.which(path, env)
    if engine is None:
        claim = engines.claimed(path, env)
        if claim is None or isinstance(claim[1], ForeignFormat | StoreLocked):  # sound, or nobody can say yet
            raise NotRecognised(nobodys(path, env))
        engine = claim[0]
    return engines.engine_class(engine).repair(path, env)
