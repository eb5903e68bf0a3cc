"""Files as text: whatever they hold, it is shown, and nothing is opened or locked."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import engines
from engines.bitcask.record import Mark, encode_mark, encode_record, encode_tombstone
from engines.bitcask.store import BitcaskStore
from engines.env import real_env
from server.cli import main

BATCH = encode_mark(1, Mark(4, 0, 0, 2, 53, 0)) + encode_record(1, b"d", b"5") + encode_tombstone(1, b"c", 1)


@pytest.mark.parametrize("of", ["ours", "Riak's"])
def test_a_dump_beside_an_open_store_gives_no_lock_up(of: str, tmp_path: Path) -> None:
    """Another process could open the store for writing then; in a directory of Riak's, from the first moment on."""
    path = tmp_path / "store"
    with engines.open(path, "bitcask") as store:
        store.put(b"a", b"1")
    if of == "Riak's":
        (path / "bitcask.metcd.lock").unlink()
    with engines.open(path, "bitcask"):
        if of == "ours":
            list(BitcaskStore.dump(path, real_env()))
        script = "import engines, sys; engines.open(sys.argv[1], 'bitcask', read_only=True)"
        ran = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, timeout=60)
        assert f"bitcask.metcd.lock is locked by process {os.getpid()}" in ran.stderr


def test_dump_shows_every_record_and_what_is_damaged(tmp_path: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    """`metcd dump` of a directory, of a file, of a damaged one, of a torn one, of a file of nobody's."""
    with BitcaskStore(str(tmp_path), max_file_size=300, merge="manual") as store:
        store.put(b"key", b"old")
        for number in range(8):
            store.put(b"%d" % number, b"." * 30)
        store.put(b"key", b"new")
        with store.batch() as batch:
            batch.delete(b"key")
            batch.put(b"batched", b"x" * 100)
    assert main(["dump", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    for words in (
        "1.bitcask.data, ",
        "a value: key 3, value 3, 20",
        "half of an overwrite: the old value is in file 1",
        "the next 2 records (",
        "a tombstone of a value in file 2: key 3, value 22",
        "… 36 more",
        "the trailer: its checksum is right",
    ):
        assert words in shown
    for name, at in (("1.bitcask.data", 20), ("1.bitcask.hint", 3)):
        data = bytearray((tmp_path / name).read_bytes())
        data[at] ^= 1
        (tmp_path / name).write_bytes(bytes(data[:-1]))
    assert main(["dump", str(tmp_path / "1.bitcask.data")]) == 0
    shown = capsys.readouterr().out
    assert "DAMAGED: the checksum of these bytes is" in shown
    assert "45 bytes, and 44 are left" in shown, "of the 14 + 1 + 30 of the last record"
    assert main(["dump", str(tmp_path / "1.bitcask.hint")]) == 0
    assert "no whole entry" in capsys.readouterr().out
    (tmp_path / "foreign").write_bytes(b"x")
    assert main(["dump", str(tmp_path / "foreign")]) == 1


def test_dump_says_nothing_wrong_about_any_bytes(tmp_path: Path, rng) -> None:  # type: ignore[no-untyped-def]
    """Whatever a file holds, it is shown to its end, and no length is believed."""
    for _ in range(200):
        for name in ("1.bitcask.data", "1.bitcask.hint", "bitcask.metcd.load"):
            (tmp_path / name).write_bytes(rng.randbytes(rng.randrange(200)) + BATCH * rng.randrange(2))
        lines = list(BitcaskStore.dump(str(tmp_path), real_env()))
        assert sum("bitcask" in line and " bytes" in line for line in lines) >= 3
