"""Small stores of real programs (golden/README.md has the commands): where these aren't installed, they stand in for
tests/interop."""

from __future__ import annotations

import os
import shutil
import tarfile
from pathlib import Path

import pytest

import engines
from engines.env import real_env
from engines.errors import ForeignFormat
from engines.lsm.store import LsmStore

GOLDEN = Path(__file__).parent / "golden"
CONTENT: dict[str, dict[bytes, bytes]] = {
    "goleveldb": {b"k1": b"v1", b"k2": b"v2", b"k3": b"v3", b"same": b"v3"},
    "repaired": {b"0": b"new", b"a": b"new", b"z": b"new"},
    "reused": {b"k0": b"their", b"k2": b"ours", b"k3": b"ours", b"k4": b"ours", b"their": b"1"},
    "classic-level": {b"%03d" % (n % 120): b"value %d " % n * 5 for n in range(200) if n % 120 != 7} | {b"last": b"1"},
}
FINDINGS = {"repaired": 2}  # of check(): LevelDB's get would believe the older of two tables


def unpacked(name: str, path: Path) -> str:
    with tarfile.open(GOLDEN / f"{name}.tar.gz") as archive:
        archive.extractall(path, filter="data")
    return str(path)


@pytest.mark.parametrize("name", CONTENT)
@pytest.mark.parametrize("read_only", [True, False])
def test_a_store_of_another_program_is_read(tmp_path: Path, name: str, read_only: bool) -> None:
    expected = CONTENT[name]
    path = unpacked(name, tmp_path)
    assert engines.which(path) == "lsm"
    with engines.open(path, "lsm", read_only=read_only) as store:
        assert dict(store.scan()) == expected
        assert list(store.scan(reverse=True)) == sorted(expected.items(), reverse=True)
        assert store.multi_get(expected) == list(expected.values())
        assert [store.get(key) for key in (b"gone", b"k1" if name == "reused" else b"007")] == [None, None]
        assert len(store.check()) == FINDINGS.get(name, 0)


@pytest.mark.parametrize("name", CONTENT)
def test_a_store_of_another_program_is_gone_on_with(tmp_path: Path, name: str) -> None:
    expected = {**CONTENT[name], b"ours": b"1"}
    path = unpacked(name, tmp_path)
    with engines.open(path, "lsm") as store:
        store.put(b"ours", b"1")
        store.compact()
        assert dict(store.scan()) == expected and store.check() == []
    with engines.open(path, "lsm") as store:
        assert dict(store.scan()) == expected and store.check() == []


def test_rocksdbs_store_is_said_to_be_rocksdbs(tmp_path: Path) -> None:
    """Whatever is asked of it; not a file is changed, and the dump shows what can be shown."""
    path = unpacked("rocksdb", tmp_path)
    before = {name: (tmp_path / name).read_bytes() for name in os.listdir(path)}
    assert engines.which(path) is None
    for read_only in (True, False):
        with pytest.raises(ForeignFormat, match=r"a store of RocksDB \(it has OPTIONS-000007\)"):
            engines.open(path, "lsm", read_only=read_only)
    with pytest.raises(ForeignFormat, match="a store of RocksDB"):
        LsmStore.repair(path, real_env())
    lines = "\n".join(LsmStore.dump(path, real_env()))
    assert "an edit of RocksDB: the tag 103" in lines and "DAMAGED" not in lines
    assert "a table of RocksDB" in "\n".join(LsmStore.dump(f"{path}/000009.sst", real_env()))
    assert {name: (tmp_path / name).read_bytes() for name in os.listdir(path)} == before
    shutil.copytree(path, tmp_path / "without", ignore=shutil.ignore_patterns("OPTIONS-*", "without"))
    with pytest.raises(ForeignFormat, match="a manifest of RocksDB"):
        engines.open(str(tmp_path / "without"), "lsm")
