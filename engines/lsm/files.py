"""The names in a store's directory. One series of numbers serves logs, tables and manifests alike.

    CURRENT            the name of the manifest that counts, and a newline
    MANIFEST-000005    what the store consists of (engines/lsm/version.py)
    000006.log         batches that are in no table yet (engines/lsm/wal.py)
    000004.ldb         a table (engines/lsm/sstable.py); old LevelDB called it .sst, which is read as well
    000005.dbtmp       what will be CURRENT
    000007.ldb.4711    a table that a worker process is writing (engines/lsm/worker.py)
    LOCK               empty; a program that has the store open holds a lock on it
    LOG, LOG.old       LevelDB's diary; we write none

Files with any other name are left alone. Follows LevelDB's db/filename.cc.
"""

from __future__ import annotations

import re
from typing import Final

from engines.env import Env, File, Mode

__all__ = [
    "CURRENT",
    "LOCK",
    "begin_file",
    "current_temp_name",
    "keep_owner",
    "listed",
    "log_name",
    "manifest_name",
    "parse",
    "repair_advice",
    "table_name",
]

CURRENT: Final = "CURRENT"
LOCK: Final = "LOCK"

_NUMBERED: Final = re.compile(r"(\d+)\.(log|ldb|sst|dbtmp|ldb\.\d+)|MANIFEST-(\d+)", re.ASCII)


def table_name(number: int) -> str:
    """Of a table that we write."""
    return f"{number:06d}.ldb"


def log_name(number: int) -> str:
    """Of a log."""
    return f"{number:06d}.log"


def manifest_name(number: int) -> str:
    """Of a manifest."""
    return f"MANIFEST-{number:06d}"


def current_temp_name(number: int) -> str:
    """Of what becomes CURRENT and points to manifest `number`."""
    return f"{number:06d}.dbtmp"


def begin_file(env: Env, path: str, mode: Mode = "w") -> File:
    """An empty file of a store, with the owner and the permissions of its CURRENT, if there is one yet.

    So that a user is not locked out of a store of LevelDB's because root has opened it here. Raises OSError.
    """
    file = env.open(path, mode)
    try:
        keep_owner(env, path)
    except BaseException:
        file.close()
        raise
    return file


def keep_owner(env: Env, path: str) -> None:
    """Gives a file that was just created in a store's directory the owner and the permissions of CURRENT."""
    current = f"{path.rpartition('/')[0]}/{CURRENT}"
    if env.exists(current):
        env.adopt(path, current)


def parse(name: str) -> tuple[str, int] | None:
    """(kind, number) of a numbered name: "log", "ldb", "sst", "dbtmp", "part" or "manifest"; None for others."""
    match = _NUMBERED.fullmatch(name)
    if match is None:
        return None
    number, kind, manifest = match.groups()
    if manifest:
        return "manifest", int(manifest)
    return ("part" if kind.startswith("ldb.") else kind), int(number)


def listed(env: Env, directory: str) -> list[tuple[str, int, str]]:
    """(kind, number, name) of each numbered file, in the order of numbers."""
    found = []
    for name in env.list(directory):
        if (parsed := parse(name)) is not None:
            found.append((parsed[1], parsed[0], name))
    return [(kind, number, name) for number, kind, name in sorted(found)]


def repair_advice(directory: str) -> str:
    """The sentence that follows on damage that `repair` can mend."""
    return f"`metcd repair {directory}` makes a store of what is whole"
