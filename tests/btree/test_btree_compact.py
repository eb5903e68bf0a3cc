"""Compaction: the database in a fresh file, which takes the old one's name, mode and owner."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from engines.btree import BTreeStore


def test_a_compacted_file_has_no_free_pages(store: BTreeStore) -> None:
    """And its pages are full."""
    for number in range(2_000):
        store.put(b"%04d" % (number * 7 % 2_000), b"v" * 50)
    before = store.stats()
    store.compact()
    after = store.stats()
    assert (after.engine["free_pages"], after.engine["pending_pages"]) == (0, 0)
    assert after.engine["pages"] < before.engine["pages"] and after.engine["keys"] == before.engine["keys"]
    assert after.engine["fill_percent"] >= 90


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o755])
def test_compaction_keeps_link_mode_and_owner(tmp_path: Path, mode: int) -> None:
    """The file is replaced where it is, and not the symbolic link that leads to it; it stays who it belonged to.

    Without the right to give files away, the owner is the user who compacts: only root is tried with another one here.
    """
    (tmp_path / "disk").mkdir()
    real, link = tmp_path / "disk" / "real.db", tmp_path / "link.db"
    link.symlink_to(Path("disk") / "real.db")
    with BTreeStore(link) as store:  # and so is a file made where the link leads
        store.put(b"a", b"1")
        os.chmod(real, mode)
        if os.geteuid() == 0:
            os.chown(real, 12_345, 54_321)
        before = real.stat()
        store.compact()
        after = real.stat()
        assert after.st_ino != before.st_ino
        assert (after.st_uid, after.st_gid, stat.S_IMODE(after.st_mode)) == (before.st_uid, before.st_gid, mode)
        store.put(b"b", b"2")
    assert link.is_symlink() and sorted(os.listdir(tmp_path)) == ["disk", "link.db"]
    assert os.listdir(tmp_path / "disk") == ["real.db"]
    with BTreeStore(real, read_only=True) as store:
        assert dict(store.scan()) == {b"a": b"1", b"b": b"2"}
