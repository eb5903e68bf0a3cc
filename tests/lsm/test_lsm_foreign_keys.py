"""The empty key and keys above 32,768 bytes, which LevelDB takes: through log, memtables, tables, scans and compactions."""

from __future__ import annotations

import random
from typing import Any

import pytest

import engines
from engines.errors import InvalidKey
from engines.lsm.store import LsmStore
from engines.lsm.version import VersionEdit
from engines.lsm.wal import encode_batch
from engines.simenv import SimEnv
from tests.lsm.hand_made import Directory

LONG = b"k" * 40_000
KEYS = [b"", b"\x00", b"a", b"k", LONG, LONG + b"\x00", LONG + b"x", b"l", b"z"]
SMALL: dict[str, Any] = {"write_buffer_bytes": 2_000, "max_file_bytes": 2_000, "block_bytes": 100, "background": False}


def of_leveldb() -> tuple[SimEnv, dict[bytes, bytes]]:
    """A log that LevelDB has left behind: every key twice, the newer one counts."""
    made, content = Directory(), {}
    made.edit = VersionEdit(made.edit.comparator, log_number=6, next_file_number=20, last_sequence=0)
    content = {key: b"new %d" % at for at, key in enumerate(KEYS)}
    made.log(6, encode_batch(1, [(key, b"old") for key in KEYS]), encode_batch(1 + len(KEYS), list(content.items())))
    made.manifest()
    return made.env, content


@pytest.mark.parametrize("memtable", ["skiplist", "sorted"])
@pytest.mark.parametrize("filter_name", ["bloom", "leveldb", None])
def test_they_are_read_scanned_and_deleted(rng: random.Random, memtable: str, filter_name: str | None) -> None:
    """In any order, with flushes and compactions in between, by snapshots too, and after every reopening."""
    env, content = of_leveldb()
    options: dict[str, Any] = SMALL | {"memtable": memtable, "filter": filter_name}
    order = rng.sample(KEYS, len(KEYS))
    while order:
        with engines.open("/db", "lsm", env=env, **options) as store:
            assert isinstance(store, LsmStore)
            snapshot, before = store.snapshot(), dict(content)
            for key in [order.pop() for _ in range(min(3, len(order)))]:
                store.delete(key)
                content.pop(key)
                for settle in (lambda: None, store.flush, store.compact):
                    settle()
                    for reader, wanted in ((store, content), (snapshot, before)):
                        pairs = sorted(wanted.items())
                        assert list(reader.scan()) == pairs
                        assert list(reader.scan(reverse=True)) == pairs[::-1]
                        assert [reader.get(each) for each in KEYS] == [wanted.get(each) for each in KEYS]
                        for bound in KEYS:
                            assert list(reader.scan(bound)) == [pair for pair in pairs if pair[0] >= bound]
                            assert list(reader.scan(b"", bound, reverse=True)) == [
                                pair for pair in pairs[::-1] if pair[0] < bound
                            ]
                    assert store.check() == []
            snapshot.close()
    with engines.open("/db", "lsm", env=env, **options) as store:
        store.compact()
        assert all(store.stats().engine[f"level{level}_files"] == 0 for level in range(7)), "their tombstones go, too"
        assert list(store.scan()) == []


def test_none_is_written() -> None:
    """put and load refuse them; a batch that deletes them doesn't."""
    env, content = of_leveldb()
    with engines.open("/db", "lsm", env=env, **SMALL) as store:
        for key in (b"", LONG):
            with pytest.raises(InvalidKey, match="a key must have 1 to 32,768 bytes"):
                store.put(key, b"")
            with pytest.raises(InvalidKey, match="a key must have 1 to 32,768 bytes"):
                store.load([(key, b"")])
        assert dict(store.scan()) == content
        with store.batch() as batch:
            for key in KEYS:
                batch.delete(key)
        assert list(store.scan()) == []
