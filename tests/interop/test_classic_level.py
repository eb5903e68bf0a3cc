"""Our store and npm's classic-level on the same files: a real LevelDB (1.20, patched) that runs in node."""

from __future__ import annotations

import os
import random
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from engines.env import real_env
from engines.lsm.cache import BlockCache
from engines.lsm.sstable import Table
from engines.lsm.statistics import Counters
from engines.lsm.store import LsmStore
from tests.interop.leveldb_tools import Content, LevelDB, apply_to, level_numbers, node, random_operations
from tests.interop.leveldb_turns import Turns, copied, ours

SMALL: dict[str, Any] = {
    "write_buffer_bytes": 20_000,
    "max_file_bytes": 10_000,
    "level_base_bytes": 40_000,
    "sync": False,
}


@pytest.fixture(scope="module")
def classic() -> LevelDB:
    program = node()
    if program is None:
        pytest.skip("needs node, and classic-level, which `make interop` installs")
    return program


def blocks_are_compressed(path: Path) -> bool:
    """True if some table of the directory has a data block of another size than what is in it."""
    for name in sorted(os.listdir(path)):
        if name.endswith(".ldb"):
            file = real_env().open(str(path / name), "r")
            table = Table(file, file.size(), BlockCache(0), Counters())
            for number in range(table.blocks):
                offset, size = table.handles[number]
                if file.pread(1, offset + size) == b"\x01":
                    return True
    return False


def test_writers_take_turns(tmp_path: Path, classic: LevelDB, rng: random.Random) -> None:
    """Logs, flushes and compactions of both; after each turn both read all of it alike."""
    Turns(tmp_path, classic, SMALL).play(rng, turns=6, operations=1_500, their_compaction=3)


def test_its_compressed_blocks_are_read(tmp_path: Path, classic: LevelDB, rng: random.Random) -> None:
    """It compresses with snappy unless told otherwise."""
    content: Content = {}
    classic.apply(tmp_path, random_operations(rng, content, 1_500))
    classic.run("compact", tmp_path)
    assert blocks_are_compressed(tmp_path)
    Turns(tmp_path, classic, SMALL).both_read(content)


@pytest.mark.parametrize("round_", range(3))
def test_a_killed_node_process(tmp_path: Path, classic: LevelDB, round_: int, seed: int) -> None:
    """kill -9 in the middle of its writes: we recover exactly what classic-level itself does, and go on with it."""
    lines = random.Random(f"{seed} {round_}").randrange(2, 6)
    with subprocess.Popen(
        [*classic.command, "write", str(tmp_path / "killed"), str(seed * 10 + round_ + 1)],
        stdout=subprocess.PIPE,
        env={**os.environ, **classic.environment},
    ) as process:
        assert process.stdout is not None
        for _ in range(lines):
            assert process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert level_numbers(tmp_path / "killed"), "it was killed after some flushes"
    expected = classic.dump(copied(tmp_path / "killed", tmp_path / "copy"))
    assert expected
    with ours(tmp_path / "killed", sync=False) as store:
        assert dict(store.scan()) == expected and store.check() == []
        store.put(b"ours", b"1")
    assert classic.dump(tmp_path / "killed") == expected | {b"ours": b"1"}


def test_its_repair_of_ours_and_ours_of_its(tmp_path: Path, classic: LevelDB, rng: random.Random) -> None:
    """Without CURRENT. No deletes: RepairDB brings back what a dropped tombstone has hidden."""
    content = {b"%04d" % number: rng.randbytes(30) for number in range(2_000)}
    with ours(tmp_path / "ours", **SMALL) as store:
        apply_to(store, content.items())
    (tmp_path / "ours" / "CURRENT").unlink()
    classic.run("repair", tmp_path / "ours")
    assert list(level_numbers(tmp_path / "ours")) == [0]
    assert classic.dump(tmp_path / "ours") == content
    with ours(tmp_path / "ours") as store:
        assert dict(store.scan()) == content and store.check() == []
    classic.apply(tmp_path / "theirs", content.items())
    (tmp_path / "theirs" / "CURRENT").unlink()
    LsmStore.repair(str(tmp_path / "theirs"), real_env())
    assert list(level_numbers(tmp_path / "theirs")) == [6]
    assert classic.dump(tmp_path / "theirs") == content
