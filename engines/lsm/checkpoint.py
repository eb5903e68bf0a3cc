"""checkpoint(): a second store with the same content, made of hard links: a backup in the time of a flush.

    store/000012.ldb ──┐
                       ├── the same bytes; tables are never changed, so neither store notices the other
    copy/000012.ldb  ──┘         copy/MANIFEST, copy/CURRENT: new, of one snapshot edit

1. The copy is complete and durable when CURRENT is in it, which is written last. A crash before leaves a directory
   that is refused as damaged, never one that opens as a part.
2. Both directories are on one file system (the links say EXDEV otherwise, as OSError).
3. Nothing stands still for it: a version is pinned for as long as linking takes.

RocksDB has the same under the same name; LevelDB has nothing.
"""

from __future__ import annotations

from engines.errors import InvalidOption
from engines.kvstore import Stats
from engines.lifetime import holding
from engines.lsm.core import Core
from engines.lsm.files import table_name
from engines.lsm.manifest import VersionSet
from engines.lsm.version import Version, VersionEdit

__all__ = ["checkpoint"]


def checkpoint(core: Core, path: str) -> None:
    """Makes the store at `path`, which must not exist or be empty. Requires: what it is to contain is in tables.

    Raises InvalidOption if something is there, OSError. O(tables).
    """
    env = core.env
    env.makedirs(path, "lsm.checkpoint.mkdir")
    if env.list(path):
        raise InvalidOption(f"a checkpoint needs an empty directory, and {path} has {env.list(path)[0]} in it")
    copy = VersionSet(env, path, Stats())
    version, last_sequence = holding(core.versions.lock, _begin, core.versions, copy)
    for _, file in version.files():
        name = core.tables.get(file).path.rpartition("/")[2]
        env.link(f"{core.directory}/{name}", f"{path}/{table_name(file.number)}")
    copy.current = version
    try:
        copy.begin_manifest(VersionEdit(log_number=0, last_sequence=last_sequence), copy.new_number())
    finally:
        copy.close()


def _begin(versions: VersionSet, copy: VersionSet) -> tuple[Version, int]:
    """Gives the copy the current numbers. Returns the version and the last sequence that belong to them."""
    copy.next_file_number = versions.next_file_number
    copy.compact_pointers = dict(versions.compact_pointers)
    return versions.current, versions.last_sequence
