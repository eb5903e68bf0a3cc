"""Sound files that look like ours and aren't: RocksDB's directory, another order of keys, goleveldb's deeper levels.

    RocksDB             the same CURRENT, logs and manifest's framing; OPTIONS-000007 beside them; tags of its own in the
                        edits (10, 100 to 103, 200 to 203, 300, 400 and above); tables that end in f7cff485b741e288
                        (sstable.py)
    another comparator  LevelDB's files throughout; the manifest's tag 1 has another name than LevelDB's order of bytes
    goleveldb           LevelDB's files throughout; it makes a level 7 when 6 is full, and so on

None of them is damaged, and none can be opened here: ForeignFormat, before anything is changed. Follows RocksDB's
db/version_edit.h and table/format.cc, and goleveldb's session_record.go.
"""

from __future__ import annotations

import re
from contextlib import closing
from typing import Final

from engines.coding import DecodeError
from engines.env import Env
from engines.errors import CorruptionError, ForeignFormat
from engines.log import LogReader
from engines.lsm.files import CURRENT
from engines.lsm.version import COMPARATOR, ForeignEdit, VersionEdit

__all__ = ["decode_edit", "is_leveldbs", "refuse_rocksdb", "rocksdb_name"]

_OPTIONS: Final = re.compile(r"OPTIONS-\d+", re.ASCII)
_OWNERS: Final = {b"idb_cmp1": "Chromium's IndexedDB", b"rocksdb.ReverseBytewiseComparator": "RocksDB's reverse order"}
SHORT: Final = 64  # more than the name of a manifest has
FIRST_BYTES: Final = 1 << 20
_USE_ROCKSDB: Final = "open it with RocksDB, and copy its pairs into a new store to use them here"


def rocksdb_name(env: Env, directory: str) -> str | None:
    """The name of a file that only RocksDB makes; None if there is none. Raises OSError."""
    return next((name for name in sorted(env.list(directory)) if _OPTIONS.fullmatch(name)), None)


def refuse_rocksdb(env: Env, directory: str) -> None:
    """Raises ForeignFormat if `directory` exists and is RocksDB's, OSError."""
    if env.is_dir(directory) and (name := rocksdb_name(env, directory)) is not None:
        raise ForeignFormat(directory, f"this is a store of RocksDB (it has {name}), not of LevelDB: {_USE_ROCKSDB}")


def is_leveldbs(env: Env, directory: str) -> bool:
    """True for a store in LevelDB's format, sound or damaged, whose keys are ordered by their bytes. Raises OSError.

    By CURRENT, and by the first record of the manifest that it names, which says the comparator first of all. One that
    is damaged is LevelDB's, so that the damage is told. At most FIRST_BYTES are read.
    """
    if (
        not env.is_dir(directory)
        or not env.exists(f"{directory}/{CURRENT}")
        or rocksdb_name(env, directory) is not None
    ):
        return False
    with closing(env.open(f"{directory}/{CURRENT}", "r")) as file:
        named = file.pread(SHORT, 0)
    if not named.startswith(b"MANIFEST-"):
        return False
    manifest = f"{directory}/{named.rstrip().decode('latin-1')}"
    try:
        with closing(env.open(manifest, "r")) as file:
            records = LogReader(file.pread(FIRST_BYTES, 0), manifest, None)
        for _, record in records:
            decode_edit(manifest, record)
            break
    except ForeignFormat:
        return False
    except (CorruptionError, DecodeError, OSError, ValueError):  # a name with a NUL in it is a ValueError
        return True
    return True


def decode_edit(path: str, record: bytes) -> VersionEdit:
    """The edit in a record of the manifest at `path`. Raises ForeignFormat if only another program writes it, DecodeError
    for damage. O(bytes)."""
    try:
        edit = VersionEdit.decode(record)
    except ForeignEdit as error:
        raise _of_tags(path, error) from error
    comparator = edit.comparator
    if comparator is None or comparator == COMPARATOR:
        return edit
    owner = f" ({_OWNERS[comparator]})" if comparator in _OWNERS else ""
    raise ForeignFormat(
        path,
        f"the keys are ordered by {comparator!r}{owner}, but only {COMPARATOR!r} is known here: open the store with the "
        "program that made it",
    )


def _of_tags(path: str, error: ForeignEdit) -> ForeignFormat:
    if error.level is not None:
        return ForeignFormat(
            path,
            f"there are tables on level {error.level}, which only goleveldb makes (LevelDB's levels are 0 to 6): open the "
            "store with goleveldb, and copy its pairs into a new store to use them here",
        )
    return ForeignFormat(path, f"this is a manifest of RocksDB ({error}), not of LevelDB: {_USE_ROCKSDB}")
