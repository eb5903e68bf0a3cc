"""New files of an existing store have its owner and its permissions: root's visit locks nobody out of a store."""

from __future__ import annotations

import os
from pathlib import Path

from engines.bitcask.record import encode_record
from engines.bitcask.store import BitcaskStore

STRANGER = 12_345  # a user's id that only root can give


def made_by(directory: Path) -> tuple[int, int]:
    """A store of somebody else's, as far as this process can make one; its owner and permissions."""
    for file_id in (1, 2):
        path = directory / f"{file_id}.bitcask.data"
        path.write_bytes(encode_record(5, b"key%d" % file_id, b"value"))
        path.chmod(0o640)
        if os.geteuid() == 0:
            os.chown(path, STRANGER, STRANGER)
    return path.stat().st_uid, 0o640


def owners(directory: Path) -> set[tuple[int, int]]:
    return {(path.stat().st_uid, path.stat().st_mode & 0o7777) for path in directory.iterdir()}


def test_data_hints_and_locks_have_the_stores_owner(tmp_path: Path) -> None:
    """While it is open, after rotation, a merge, a load, and when it is closed."""
    expected = made_by(tmp_path)
    with BitcaskStore(tmp_path, max_file_size=100, merge="manual") as store:
        for number in range(20):
            store.put(b"key%d" % number, b"v" * 20)
        names = {path.name for path in tmp_path.iterdir()}
        assert {"bitcask.metcd.lock", "bitcask.write.lock", "bitcask.merge.lock", "2.bitcask.hint"} < names
        assert owners(tmp_path) == {expected}
        store.merge()
        assert owners(tmp_path) == {expected}
        store.load([(b"a", b"1")])
        store.put(b"b", b"2")
        assert owners(tmp_path) == {expected}
    assert owners(tmp_path) == {expected}


def test_what_repair_writes_has_the_stores_owner(tmp_path: Path) -> None:
    """The file without its damage, and the one that is kept aside."""
    expected = made_by(tmp_path)
    with open(tmp_path / "1.bitcask.data", "r+b") as file:
        file.seek(15)
        file.write(b"?")
    with BitcaskStore(tmp_path, repair=True) as store:
        assert dict(store.scan()) == {b"key2": b"value"}
    assert (tmp_path / "1.bitcask.data.damaged").exists()
    assert owners(tmp_path) == {expected}
