"""Compressed tables of real LevelDBs: Mojang's (PyPI's amulet-leveldb) and Google's with Snappy (plyvel); and real zstd."""

from __future__ import annotations

import importlib
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import engines
from engines.coding import DecodeError
from engines.lsm import compression
from engines.lsm.compression import compress, decompress, name_of
from engines.lsm.core import Core
from engines.lsm.store import LsmStore

SMALL: dict[str, Any] = {"write_buffer_bytes": 20_000, "max_file_bytes": 10_000, "level_base_bytes": 40_000}
Content = dict[bytes, bytes]

# Both libraries have a C++ LevelDB of their own, which are best kept in processes of their own.
MOJANGS = """
import leveldb, sys
path, verb = sys.argv[1:]
db = leveldb.LevelDB(path, create_if_missing=True)
for line in sys.stdin:
    words = [bytes.fromhex(word) for word in line.strip().split(" ")]
    db.put(*words) if len(words) == 2 else db.delete(words[0])
if verb == "compact":
    db.compact()
for key, value in db.iterate():
    assert db.get(key) == value
    print(key.hex(), value.hex())
db.close()
"""
GOOGLES = """
import plyvel, sys
path, verb = sys.argv[1:]
options = {"paranoid_checks": True, "write_buffer_size": 65_536, "compression": None if verb == "plain" else "snappy"}
with plyvel.DB(path, create_if_missing=True, **options) as db:
    for line in sys.stdin:
        words = [bytes.fromhex(word) for word in line.strip().split(" ")]
        db.put(*words) if len(words) == 2 else db.delete(words[0])
    if verb == "compact":
        db.compact_range(start=b"", stop=b"\\xff")
    for key, value in db:
        assert db.get(key) == value
        print(key.hex(), value.hex())
"""


def real(program: str, path: Path, verb: str, operations: list[tuple[bytes, bytes | None]]) -> Content:
    """What the real library sees after the operations."""
    pytest.importorskip("leveldb" if program == MOJANGS else "plyvel")
    lines = [key.hex() if value is None else f"{key.hex()} {value.hex()}" for key, value in operations]
    ended = subprocess.run(
        [sys.executable, "-c", program, str(path), verb],
        input="".join(f"{line}\n" for line in lines),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.returncode == 0, ended.stderr
    pairs = [line.split(" ") for line in ended.stdout.splitlines()]
    return {bytes.fromhex(key): bytes.fromhex(value) for key, value in pairs}


def some(rng: random.Random, content: Content) -> list[tuple[bytes, bytes | None]]:
    """Operations on few keys; `content` becomes what they make of it."""
    made: list[tuple[bytes, bytes | None]] = []
    for number in range(400):
        key = b"%04d" % rng.randrange(500)
        if rng.random() < 0.25:
            made.append((key, None))
            content.pop(key, None)
        else:
            content[key] = b"%d " % number * rng.randrange(1, 80)
            made.append((key, content[key]))
    return made


def opened(path: Path, **options: Any) -> LsmStore:
    store = engines.open(path, "lsm", **SMALL, **options)
    assert isinstance(store, LsmStore)
    return store


def kinds(store: LsmStore) -> set[str | None]:
    """The compression of every data block of every table."""
    tables = [store.core.tables.get(file) for _, file in store.core.state.version.files()]
    return {table.block_compression(number) for table in tables for number in range(table.blocks)}


def levels(store: LsmStore) -> list[int]:
    return [len(files) for files in store.core.state.version.levels]


@pytest.mark.parametrize(("program", "kind"), [(MOJANGS, "deflate"), (GOOGLES, "snappy")], ids=["Mojang", "Google"])
def test_a_store_written_in_turns_keeps_its_compression(
    tmp_path: Path, rng: random.Random, program: str, kind: str
) -> None:
    """Both flush, both compact, and both read what the other has made of it."""
    content: Content = {}
    assert real(program, tmp_path / "db", "compact", some(rng, content)) == content
    for turn in range(4):
        with opened(tmp_path / "db") as store:
            assert dict(store.scan()) == content
            assert kind in kinds(store), "the real one compresses"
            assert all(store.get(b"%04d" % number) == content.get(b"%04d" % number) for number in range(500))
            for key, value in some(rng, content):
                store.delete(key) if value is None else store.put(key, value)
            if turn % 2:
                store.compact()
                assert sum(map(bool, levels(store))) == 1
                assert store.stats().engine["compacted_bytes"] > 0
                assert kinds(store) <= {kind, None}, "a block that hardly shrinks is stored as it is"
                assert kind in kinds(store)
            assert store.check() == []
            assert dict(store.scan(reverse=True)) == content
        verb = "compact" if turn % 2 else "look"
        assert real(program, tmp_path / "db", verb, some(rng, content)) == content


def test_mojangs_leveldb_reads_our_zlib_too(
    tmp_path: Path, rng: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The compression 2 of older worlds, which it doesn't write any more: as if we kept that of such a world."""
    monkeypatch.setattr(Core, "deepest_compression", lambda core: "zlib")
    content: Content = {}
    with opened(tmp_path / "db") as store:
        for key, value in some(rng, content):
            store.delete(key) if value is None else store.put(key, value)
        store.flush()
        assert "zlib" in kinds(store)
    assert real(MOJANGS, tmp_path / "db", "look", []) == content


def test_a_store_that_mojangs_leveldb_has_opened_can_be_given_back_to_googles(
    tmp_path: Path, rng: random.Random
) -> None:
    """Its mere opening makes a store unreadable for any other LevelDB: compression=None and compact() undo it."""
    content: Content = {}
    # not Snappy, which Mojang's can't read
    assert real(GOOGLES, tmp_path / "db", "plain", some(rng, content)) == content
    assert real(MOJANGS, tmp_path / "db", "look", []) == content
    with pytest.raises(AssertionError, match="bad block type"):
        real(GOOGLES, tmp_path / "db", "look", [])
    with opened(tmp_path / "db", compression=None) as store:
        assert "deflate" in kinds(store)
        store.compact()
        assert kinds(store) == {None}
    assert real(GOOGLES, tmp_path / "db", "compact", []) == content


def test_cramjams_snappy_and_ours_agree(rng: random.Random) -> None:
    """Both decoders on what the compressor makes."""
    cramjam = pytest.importorskip("cramjam")
    for _ in range(200):
        data = bytes(rng.choices(b"abc", k=rng.randrange(200))) * rng.randrange(1, 50)
        assert compression.snappy.decompress_here(bytes(cramjam.snappy.compress_raw(data))) == data
        assert decompress(1, compress(data, "snappy")[0]) == data


def test_real_zstd(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its frames are told from zlib's streams, cut ones are damage, and what comes out is bounded."""
    if all(importlib.util.find_spec(name.partition(".")[0]) is None for name in ("backports", "compression")):
        pytest.skip("no zstd")
    data = bytes(range(256)) * 100 + bytes(20_000)
    made, kind = compress(data, "zstd")
    assert (kind, name_of(kind, made)) == (2, "zstd")
    assert decompress(kind, made) == data
    for cut in (0, 3, 4, len(made) // 2, len(made) - 1):
        with pytest.raises(DecodeError):
            decompress(kind, made[:cut])
    monkeypatch.setattr(compression, "LEAST_LIMIT", len(data) - 1)
    monkeypatch.setattr(compression, "RATIO", 1)
    with pytest.raises(DecodeError, match="the most that is allowed"):
        decompress(kind, made)
