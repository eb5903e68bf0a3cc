"""Peers: stores of others, behind the calls that a workload makes.

    name           package      what a put is
    plyvel         plyvel       LevelDB's Put; its own settings, snappy included
    plyvel-bloom   plyvel       the same, with a bloom filter of 10 bits a key
    rocksdict      rocksdict    RocksDB's Put, raw mode
    lmdb           lmdb         a transaction of its own
    lsm-db         lsm-db       SQLite 4's lsm1
    sqlite3        Python       INSERT OR REPLACE, committed by itself; WITHOUT ROWID, journal_mode=WAL
    semidbm        semidbm      an append, and a dictionary
    dbm            Python       the first of dbm.sqlite3, dbm.gnu, dbm.ndbm and dbm.dumb that this Python has

Each adapter is as thin as it can be: native methods are bound as they are, and a peer is opened with its own settings. What
differs from them is that `sync` is said, as it is for our engines: without it, a put has to reach the operating system at
least, where the peer offers that (dbm.dumb writes its index at the end); with it, the disk.

Left out: peers of one long transaction, whose puts survive nothing before its end.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from typing import Any

from bench.calls import Calls
from engines.kvstore import Pair

__all__ = ["PEERS", "Peer", "installed"]

# in the order in which dbm.open looks for them; the modules stand on others in C, which may be missing
DBM = {"dbm.sqlite3": "_sqlite3", "dbm.gnu": "_gdbm", "dbm.ndbm": "_dbm", "dbm.dumb": ""}
LMDB_MAP_BYTES = 16 << 30  # address space and a sparse file, no memory: 10^7 pairs fit

Open = Callable[[str, bool], Calls]


@dataclass(frozen=True)
class Peer:
    """One peer. package: its name where packages are installed from, "" for a part of Python; module: what is imported."""

    package: str
    module: str
    open: Open

    @property
    def installed(self) -> bool:
        """Whether its module is there; nothing is imported."""
        return importlib.util.find_spec(self.module) is not None

    @property
    def version(self) -> str:
        """The package's version; of Python for a part of Python, and which library it stands on."""
        try:
            return version(self.package) if self.package else _python(self.module)
        except PackageNotFoundError:
            return "?"


def installed() -> list[str]:
    """The peers that can be measured here."""
    return [name for name, peer in PEERS.items() if peer.installed]


def _python(module: str) -> str:
    if module == "sqlite3":
        return f"SQLite {importlib.import_module(module).sqlite_version}, Python {platform.python_version()}"
    return f"{next(name for name, below in DBM.items() if _both(name, below))}, Python {platform.python_version()}"


def _both(name: str, below: str) -> bool:
    found = importlib.util.find_spec
    return found(name) is not None and (not below or found(below) is not None)


def _plyvel(bloom_bits: int) -> Open:
    def open_plyvel(path: str, sync: bool) -> Calls:
        settings = {"bloom_filter_bits": bloom_bits} if bloom_bits else {}
        store = importlib.import_module("plyvel").DB(path, create_if_missing=True, **settings)
        put, delete, iterator, write_batch = store.put, store.delete, store.iterator, store.write_batch

        def batch(pairs: Sequence[Pair]) -> None:
            with write_batch(sync=sync) as written:
                add = written.put
                for key, value in pairs:
                    add(key, value)

        return Calls(
            put=(lambda key, value: put(key, value, sync=True)) if sync else put,
            get=store.get,
            delete=(lambda key: delete(key, sync=True)) if sync else delete,
            batch=batch,
            scan=iterator,
            seek=lambda key, count: list(islice(iterator(start=key), count)),
            close=store.close,
            put_beside=lambda: put,
        )

    return open_plyvel


def _rocksdict(path: str, sync: bool) -> Calls:
    module = importlib.import_module("rocksdict")
    store = module.Rdict(path, module.Options(raw_mode=True))
    if sync:
        synced = module.WriteOptions()
        synced.sync = True
        store.set_write_options(synced)
    items, new_batch, write = store.items, module.WriteBatch, store.write

    def batch(pairs: Sequence[Pair]) -> None:
        written = new_batch(raw_mode=True)
        add = written.put
        for key, value in pairs:
            add(key, value)
        write(written)

    return Calls(
        put=store.put, get=store.get, delete=store.delete, batch=batch, scan=items,
        seek=lambda key, count: list(islice(items(from_key=key), count)), close=store.close,
        put_beside=lambda: store.put,
    )  # fmt: skip


def _lmdb(path: str, sync: bool) -> Calls:
    environment = importlib.import_module("lmdb").open(path, map_size=LMDB_MAP_BYTES, sync=sync, metasync=sync)
    begin = environment.begin

    def put(key: bytes, value: bytes) -> None:
        with begin(write=True) as transaction:
            transaction.put(key, value)

    def get(key: bytes) -> bytes | None:
        with begin() as transaction:
            found: bytes | None = transaction.get(key)
            return found

    def delete(key: bytes) -> None:
        with begin(write=True) as transaction:
            transaction.delete(key)

    def batch(pairs: Sequence[Pair]) -> None:
        with begin(write=True) as transaction:
            transaction.cursor().putmulti(pairs)

    def scan() -> Iterator[Pair]:
        with begin() as transaction:
            yield from transaction.cursor()

    def seek(key: bytes, count: int) -> Sequence[Pair]:
        with begin() as transaction:
            cursor = transaction.cursor()
            return list(islice(cursor.iternext(), count)) if cursor.set_range(key) else []

    return Calls(
        put=put, get=get, delete=delete, batch=batch, scan=scan, seek=seek, close=environment.close,
        put_beside=lambda: put,
    )  # fmt: skip


def _or_none(fetch: Callable[[bytes], bytes]) -> Callable[[bytes], bytes | None]:
    """A get, of what raises KeyError for a key that isn't there."""

    def get(key: bytes) -> bytes | None:
        try:
            return fetch(key)
        except KeyError:
            return None

    return get


def _lsm_db(path: str, sync: bool) -> Calls:
    module = importlib.import_module("lsm")
    os.makedirs(path, exist_ok=True)
    safety = module.SAFETY_FULL if sync else module.SAFETY_NORMAL
    store = module.LSM(os.path.join(path, "store.lsm"), multiple_processes=False, write_safety=safety)
    put, fetch = store.insert, store.fetch

    def batch(pairs: Sequence[Pair]) -> None:
        with store.transaction():
            for key, value in pairs:
                put(key, value)

    def scan() -> Iterator[Pair]:
        with store.cursor() as cursor:
            yield from cursor

    def seek(key: bytes, count: int) -> Sequence[Pair]:
        return list(islice(store[key:], count))

    return Calls(
        put=put, get=_or_none(fetch), delete=store.delete, batch=batch, scan=scan, seek=seek, close=store.close
    )


def _sqlite3(path: str, sync: bool) -> Calls:
    module = importlib.import_module("sqlite3")
    os.makedirs(path, exist_ok=True)
    file = os.path.join(path, "store.sqlite")

    def connect() -> Any:
        connection = module.connect(file, isolation_level=None)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(f"PRAGMA synchronous={'FULL' if sync else 'NORMAL'}")
        return connection

    connection = connect()
    connection.execute("CREATE TABLE IF NOT EXISTS pairs (key BLOB PRIMARY KEY, value BLOB) WITHOUT ROWID")
    execute = connection.execute

    def put(key: bytes, value: bytes) -> None:
        execute("INSERT OR REPLACE INTO pairs VALUES (?, ?)", (key, value))

    def get(key: bytes) -> bytes | None:
        row = execute("SELECT value FROM pairs WHERE key = ?", (key,)).fetchone()
        return row[0] if row else None

    def batch(pairs: Sequence[Pair]) -> None:
        execute("BEGIN")
        connection.executemany("INSERT OR REPLACE INTO pairs VALUES (?, ?)", pairs)
        execute("COMMIT")

    def seek(key: bytes, count: int) -> Sequence[Pair]:
        found = execute("SELECT key, value FROM pairs WHERE key >= ? ORDER BY key LIMIT ?", (key, count))
        rows: list[Pair] = found.fetchall()
        return rows

    def put_beside() -> Callable[[bytes, bytes], Any]:
        other = connect()  # a connection is for the thread that made it
        return lambda key, value: other.execute("INSERT OR REPLACE INTO pairs VALUES (?, ?)", (key, value))

    return Calls(
        put=put, get=get, delete=lambda key: execute("DELETE FROM pairs WHERE key = ?", (key,)), batch=batch,
        scan=lambda: execute("SELECT key, value FROM pairs ORDER BY key"), seek=seek, close=connection.close,
        put_beside=put_beside,
    )  # fmt: skip


def _semidbm(path: str, sync: bool) -> Calls:
    store = importlib.import_module("semidbm").open(path, "c")

    def delete(key: bytes) -> None:
        if key in store:  # a deletion of what isn't there leaves a file that can't be opened again
            remove(key)

    remove = store.__delitem__
    return _dictionary(store, delete, sync)


def _dbm(path: str, sync: bool) -> Calls:
    os.makedirs(path, exist_ok=True)
    store = importlib.import_module("dbm").open(os.path.join(path, "store"), "c")
    remove = store.__delitem__

    def delete(key: bytes) -> None:
        try:
            remove(key)
        except KeyError:
            return

    return _dictionary(store, delete, sync)


def _dictionary(store: Any, delete: Callable[[bytes], None], sync: bool) -> Calls:
    """The calls of a store that is a dictionary on disk, without an order."""
    put, fetch = store.__setitem__, store.__getitem__
    to_disk = getattr(store, "sync", lambda: None)  # dbm.ndbm and dbm.sqlite3 have none

    def synced_put(key: bytes, value: bytes) -> None:
        put(key, value)
        to_disk()

    def synced_delete(key: bytes) -> None:
        delete(key)
        to_disk()

    def batch(pairs: Sequence[Pair]) -> None:
        for key, value in pairs:
            put(key, value)
        if sync:
            to_disk()

    def scan() -> Iterator[Pair]:
        return ((key, fetch(key)) for key in list(store.keys()))

    return Calls(
        put=synced_put if sync else put, get=_or_none(fetch), delete=synced_delete if sync else delete, batch=batch, scan=scan,
        seek=None, close=store.close,
    )  # fmt: skip


PEERS: dict[str, Peer] = {
    "plyvel": Peer("plyvel", "plyvel", _plyvel(0)),
    "plyvel-bloom": Peer("plyvel", "plyvel", _plyvel(10)),
    "rocksdict": Peer("rocksdict", "rocksdict", _rocksdict),
    "lmdb": Peer("lmdb", "lmdb", _lmdb),
    "lsm-db": Peer("lsm-db", "lsm", _lsm_db),
    "sqlite3": Peer("", "sqlite3", _sqlite3),
    "semidbm": Peer("semidbm", "semidbm", _semidbm),
    "dbm": Peer("", "dbm", _dbm),
}
