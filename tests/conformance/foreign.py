"""Stores as other programs leave them, in the engines' formats: made by hand on any Env, from the lowest builders.

The table is open: when you learn of another program's habit, add a scene, and every test of reading only and of foreign
keys runs on it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from engines.bitcask.hint import encode_entry
from engines.bitcask.record import encode_record
from engines.btree import BTreeStore
from engines.env import Env
from engines.log import LogWriter
from engines.lsm.keys import Row
from engines.lsm.options import Options
from engines.lsm.table_builder import TableBuilder
from engines.lsm.version import COMPARATOR, FileMeta, VersionEdit
from engines.lsm.wal import encode_batch
from engines.simenv import SimEnv
from tests.conformance.golden import BOLT_FILES, LEVELDB_STORES, unpack

__all__ = ["FOREIGN", "Scene"]


@dataclass(frozen=True)
class Scene:
    """A store of another program: how it is made at a path, what it holds, the options that it is opened with.

    pairs: None for a store that is only looked at here; with `refused`, opening it raises ForeignFormat.
    """

    name: str
    make: Callable[[Env, str], None]
    pairs: dict[bytes, bytes] | None
    options: dict[str, Any] = field(default_factory=dict)
    refused: bool = False

    def __str__(self) -> str:
        return self.name


def write(env: Env, path: str, content: bytes) -> None:
    """A durable file."""
    file = env.open(path, "w")
    file.append(content)
    file.sync("test")
    file.close()


def set_mode(env: Env, path: str, mode: int) -> None:
    """What chmod does."""
    if isinstance(env, SimEnv):
        env.poke(path, env.files()[path], mode)
    else:
        os.chmod(path, mode)


LONG = b"long" * 10_000  # 40,000 bytes: LevelDB's keys may have any length
LEVELDBS = {b"": b"of the empty key", b"a": b"1", LONG: b"of the long key", LONG + b"b": b"in the log", b"z": b"2"}


def leveldbs(env: Env, path: str, *, comparator: bytes = COMPARATOR, listed: int = 1) -> None:
    """A table with the empty key and a long one, and a log after it: LevelDB takes them, our put doesn't."""
    env.makedirs(path, "test")
    in_table = sorted(pair for pair in LEVELDBS.items() if pair[0] != LONG + b"b")
    file = env.open(f"{path}/000004.ldb", "w")
    builder = TableBuilder(file, Options(filter=None, table_statistics=False), None)
    for number, (key, value) in enumerate(in_table, 1):
        builder.add(Row.of(key, number, value))
    edit = VersionEdit(comparator, log_number=6, next_file_number=20, last_sequence=10)
    edit.added += [(1, FileMeta.of(4, builder.finish("test")))] * listed
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


def riaks_without_modes(env: Env, path: str) -> None:
    """Copied from a file system without modes: each file may be executed, which is Riak's mark of a file to be deleted."""
    riaks(env, path)
    set_mode(env, f"{path}/1.bitcask.data", 0o755)


def riaks_torn(env: Env, path: str) -> None:
    """Riak leaves the end that a crash has torn, with a hint that was never closed, and begins the next file."""
    riaks(env, path)
    write(env, f"{path}/2.bitcask.hint", encode_entry(2, 16, 0, b"b"))
    write(env, f"{path}/2.bitcask.data", encode_record(2, b"b", b"2") + encode_record(2, b"c", b"3")[:-1])
    write(env, f"{path}/3.bitcask.data", encode_record(3, b"c", b"4"))


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
    "lsm": [
        Scene("leveldb", leveldbs, LEVELDBS),
        Scene("goleveldb, a table listed twice", partial(leveldbs, listed=2), LEVELDBS),
        Scene("chromium's indexeddb", partial(leveldbs, comparator=b"idb_cmp1"), None, refused=True),
        Scene("rocksdb", rocksdbs, None, refused=True),
    ],
    "btree": [Scene("bolt", bolts, {b"a": b"1", b"z": b"2"}, {"bucket": b"key"})],
    "bitcask": [
        Scene("riak", riaks, RIAKS),
        Scene("riak, torn", riaks_torn, RIAKS | {b"b": b"2", b"c": b"4"}),
        Scene("riak, without modes", riaks_without_modes, None),
    ],
}

# and what the real programs have written, to be looked at
FOREIGN["lsm"] += [Scene(f"{golden.name}, real", partial(unpack, golden), None) for golden in LEVELDB_STORES]
FOREIGN["btree"] += [Scene(f"{golden.name}, real", partial(unpack, golden), None) for golden in BOLT_FILES]
