"""Logs that are gone on with: LevelDB with Options::reuse_logs, as Chromium opens its stores, in turns with ours.

It appends to the log and the manifest that it finds, where a plain LevelDB begins new ones. The log may be one of ours:
from a process that ended in order (it ends in a mark), or from a killed one (it ends in allocated zeros).
"""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from engines.log import LogReader, all_zero
from tests.interop.leveldb_tools import Content, LevelDB, Operation, apply_to, cpp, random_operations
from tests.interop.leveldb_turns import ours


@pytest.fixture(scope="module")
def reusing(tmp_path_factory: pytest.TempPathFactory) -> LevelDB:
    program = cpp(tmp_path_factory.mktemp("leveldb"))
    if program is None:
        pytest.skip("needs g++ and libleveldb-dev")
    return LevelDB((*program.command, "reuse", "paranoid"), program.environment)


def the_log(path: Path) -> Path:
    (log,) = path.glob("*.log")
    return log


def killed(path: Path, operations: list[Operation], sync: bool) -> None:
    """Operations by a process of ours, which then dies by kill -9."""
    script = """
import engines, os, signal, sys
store = engines.open(sys.argv[1], "lsm", sync=sys.argv[2] == "True")
for key, value in eval(sys.stdin.read()):
    store.delete(key) if value is None else store.put(key, value)
os.kill(os.getpid(), signal.SIGKILL)
"""
    command = [sys.executable, "-c", script, str(path), str(sync)]
    ended = subprocess.run(command, input=repr(operations), text=True, check=False, timeout=60)
    assert ended.returncode == -signal.SIGKILL


def test_a_log_of_leveldb_that_was_gone_on_with(tmp_path: Path, reusing: LevelDB, rng: random.Random) -> None:
    """One log and one manifest over several lives of LevelDB."""
    content: Content = {}
    for _ in range(4):
        reusing.apply(tmp_path, random_operations(rng, content, 50))
    assert the_log(tmp_path).name == "000003.log" and (tmp_path / "MANIFEST-000001").exists()
    with ours(tmp_path) as store:
        assert dict(store.scan()) == content and store.check() == []
    assert reusing.dump(tmp_path) == content


def test_a_log_of_ours_that_was_gone_on_with(tmp_path: Path, reusing: LevelDB, rng: random.Random) -> None:
    """By turns: ours begins a new log at each open, ends it in a mark, and LevelDB writes after the mark."""
    content: Content = {}
    for _ in range(4):
        with ours(tmp_path) as store:
            apply_to(store, random_operations(rng, content, 50))
        log = the_log(tmp_path)
        before = log.read_bytes()
        reusing.apply(tmp_path, random_operations(rng, content, 50))
        assert the_log(tmp_path) == log and log.read_bytes().startswith(before) and log.stat().st_size > len(before)
        assert reusing.dump(tmp_path) == content
        with ours(tmp_path, read_only=True) as store:
            assert dict(store.scan()) == content and store.check() == []


@pytest.mark.parametrize("sync", [True, False])
def test_a_log_of_a_killed_process_of_ours_that_was_gone_on_with(
    tmp_path: Path, reusing: LevelDB, rng: random.Random, sync: bool
) -> None:
    """The hole: LevelDB goes on after a mebibyte that is mostly zeros. Several times, and with one put or many."""
    content: Content = {}
    for turn in range(4):
        killed(tmp_path, random_operations(rng, content, (0, 1, 30, 900)[turn]), sync)
        log = the_log(tmp_path)
        before = log.read_bytes()
        assert turn == 0 or (before.endswith(bytes(1000)) and len(before) == 1 << 20)
        reusing.apply(tmp_path, random_operations(rng, content, 20))
        reusing.apply(tmp_path, random_operations(rng, content, 20))
        after = the_log(tmp_path).read_bytes()
        assert the_log(tmp_path) == log and after.startswith(before) and not all_zero(after, len(before))
        if turn:
            reader = LogReader(after, "log", goes_on=lambda record: True)
            assert list(reader) and len(reader.holes) == 1, "the scene must have what it is about"
        with ours(tmp_path, read_only=True) as store:
            assert dict(store.scan()) == content
        assert reusing.dump(tmp_path) == content
        with ours(tmp_path) as store:
            assert dict(store.scan()) == content and store.check() == []
