"""The disk of a node under test: like any other until its control file says otherwise, and again when that is taken back."""

from __future__ import annotations

import errno
import time
from pathlib import Path

import pytest

import engines
from engines.errors import StoreFailed
from tests.cluster.control import break_disk, controlled_env


@pytest.fixture
def control(tmp_path: Path) -> Path:
    return tmp_path / "disk"


@pytest.mark.parametrize("engine", ["lsm", "btree", "bitcask"])
def test_every_engine_lives_on_it_and_meets_a_full_disk(engine: str, control: Path, tmp_path: Path) -> None:
    with engines.open(tmp_path / "db", engine, env=controlled_env(control)) as store:
        store.put(b"a", b"1")
        break_disk(control, full_after_bytes=2_000)
        kept = []
        with pytest.raises((OSError, StoreFailed)):
            for number in range(1_000):
                store.put(b"%d" % number, b"x" * 10_000)
                kept.append(number)
        break_disk(control)
    with engines.open(tmp_path / "db", engine, env=controlled_env(control)) as store:
        assert store.get(b"a") == b"1"
        assert all(store.get(b"%d" % number) == b"x" * 10_000 for number in kept)
        store.put(b"b", b"2")


def test_a_full_disk_takes_what_still_fits_and_then_nothing(control: Path, tmp_path: Path) -> None:
    env = controlled_env(control)
    file = env.open(str(tmp_path / "f"), "x")
    file.append(b"x" * 50)
    break_disk(control, full_after_bytes=30)
    file.append(b"y" * 20)
    with pytest.raises(OSError) as full:
        file.append(b"z" * 20)
    assert full.value.errno == errno.ENOSPC and full.value.filename == file.path
    assert file.pread(100, 0) == b"x" * 50 + b"y" * 20 + b"z" * 10, "a short write, as of a real disk"
    file.pwrite(b"in place", 0)
    for grows in (
        lambda: file.pwrite(b"beyond", 79),
        lambda: file.allocate(200),
        lambda: env.open(f"{tmp_path}/g", "w"),
    ):
        with pytest.raises(OSError, match="No space left"):
            grows()
    break_disk(control)
    file.append(b"there is room again")
    file.close()


def test_a_slow_disk_takes_its_time_at_each_sync(control: Path, tmp_path: Path) -> None:
    env = controlled_env(control)
    file = env.open(str(tmp_path / "f"), "x")
    break_disk(control, sync_delay_s=0.05)
    begin = time.monotonic()
    file.append(b"x")
    file.sync("test")
    env.sync_dir(str(tmp_path), "test")
    assert time.monotonic() - begin >= 0.1
    file.close()
