"""Stores as other programs leave them, in the engines' formats: made by hand on any Env, from the lowest builders.

The table is open: an engine's own tests add scenes. `pairs` is what the store holds for an engine that can read it, and
None if it must refuse it (ForeignFormat) or if it can't be known.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from engines.bitcask.record import encode_record
from engines.btree import BTreeStore
from engines.env import Env
from engines.log import LogWriter
from engines.lsm.keys import VALUE, internal_key
from engines.lsm.options import Options
from engines.lsm.table_builder import TableBuilder
from engines.lsm.version import COMPARATOR, FileMeta, VersionEdit
from engines.lsm.wal import encode_batch

__all__ = ["FOREIGN", "Scene"]


@dataclass(frozen=True)
class Scene:
    """A store of another program: how it is made at a path, the options that it is opened with, what it holds."""

    name: str
    make: Callable[[Env, str], None]
    pairs: dict[bytes, bytes] | None
    options: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name


def write(env: Env, path: str, content: bytes) -> None:
    """A durable file."""
    file = env.open(path, "w")
    file.append(content)
    file.sync("test")
    file.close()


LONG = b"long" * 10_000  # 40,000 bytes: LevelDB's keys may have any length
LEVELDBS = {b"": b"of the empty key", b"a": b"1", LONG: b"of the long key", LONG + b"b": b"in the log", b"z": b"2"}


def leveldbs(env: Env, path: str) -> None:
    """A table with the empty key and a long one, and a log behind it: LevelDB takes them, our put doesn't."""
    env.makedirs(path, "test")
    in_table = sorted(pair for pair in LEVELDBS.items() if pair[0] != LONG + b"b")
    keys = [internal_key(key, number, VALUE) for number, (key, _) in enumerate(in_table, 1)]
    file = env.open(f"{path}/000004.ldb", "w")
    builder = TableBuilder(file, Options(filter=None, table_statistics=False), None)
    at = 0
    while at < len(keys):
        at = builder.add([key for key, _ in in_table], keys, [value for _, value in in_table], at)
    edit = VersionEdit(COMPARATOR, log_number=6, next_file_number=20, last_sequence=10)
    edit.added.append((1, FileMeta.of(4, builder.finish("test"))))
    file.close()
    for name, record in (
        ("MANIFEST-000002", edit.encode()),
        ("000006.log", encode_batch(11, [(LONG + b"b", b"in the log")])),
    ):
        log = env.open(f"{path}/{name}", "w")
        LogWriter(log).append_many([record])
        log.close()
    write(env, f"{path}/CURRENT", b"MANIFEST-000002\n")
    write(env, f"{path}/LOCK", b"")
    write(env, f"{path}/LOG", b"2026/11/27-12:00:00.000000 1 Recovering log #3\n")


RIAKS = {b"": b"of the empty key", b"a": b"1", b"k" * 40_000: b"of the long key", b"z": b"2"}


def riaks(env: Env, path: str) -> None:
    """A data file without its hint, as Riak leaves it when it is killed; its keys have 0 to 65,535 bytes."""
    env.makedirs(path, "test")
    write(env, f"{path}/1.bitcask.data", b"".join(encode_record(1, key, value) for key, value in RIAKS.items()))


def bolts(env: Env, path: str) -> None:
    """Another program's bucket, in a bolt file."""
    with BTreeStore(path, env=env, bucket=b"key") as store:
        store.put(b"a", b"1")
        store.put(b"z", b"2")


def rocksdbs(env: Env, path: str) -> None:
    """RocksDB's directory, by the names and tags that only it has."""
    env.makedirs(path, "test")
    write(env, f"{path}/CURRENT", b"MANIFEST-000005\n")
    write(env, f"{path}/IDENTITY", b"a22298859-eb85-4b68-a731-884843161799")
    write(env, f"{path}/OPTIONS-000007", b"[Version]\n  rocksdb_version=10.4.2\n")
    write(env, f"{path}/000009.sst", bytes(100) + bytes.fromhex("f7cff485b741e288"))


# engine → what other programs leave in its format
FOREIGN: dict[str, list[Scene]] = {
    "lsm": [Scene("leveldb", leveldbs, LEVELDBS), Scene("rocksdb", rocksdbs, None)],
    "btree": [Scene("bolt", bolts, {b"a": b"1", b"z": b"2"}, {"bucket": b"key"})],
    "bitcask": [Scene("riak", riaks, RIAKS)],
}
