"""Our store and the real goleveldb (Debian's, of 2020) on the same files, in both directions and in turns."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from engines.env import real_env
from engines.errors import ForeignFormat, StoreLocked
from engines.log import LogReader
from engines.lsm.manifest import manifest_path
from engines.lsm.store import LsmStore
from engines.lsm.version import VersionEdit
from tests.interop.leveldb_tools import Content, LevelDB, goleveldb, random_operations
from tests.interop.leveldb_turns import Turns, copied, ours

SMALL: dict[str, Any] = {
    "write_buffer_bytes": 8_000,
    "max_file_bytes": 4_000,
    "level_base_bytes": 12_000,
    "sync": False,
}


@pytest.fixture(scope="module")
def go(tmp_path_factory: pytest.TempPathFactory) -> LevelDB:
    program = goleveldb(tmp_path_factory.mktemp("goleveldb"))
    if program is None:
        pytest.skip("needs golang-go and golang-github-syndtr-goleveldb-dev")
    return program


def added_twice(path: Path) -> bool:
    """True if the manifest adds a table to its level more than once, without having taken it away in between."""
    manifest = manifest_path(real_env(), str(path))
    counts: Counter[tuple[int, int]] = Counter()
    for _, record in LogReader(Path(manifest).read_bytes(), manifest):
        edit = VersionEdit.decode(record)
        for level, number in edit.deleted:
            counts[level, number] = 0
        counts.update((level, file.number) for level, file in edit.added)
    return any(count > 1 for count in counts.values())


def deepest_level(path: Path) -> int:
    """Of the tables in the manifest; levels that only goleveldb knows count."""
    manifest = manifest_path(real_env(), str(path))
    edits = [VersionEdit.decode(record, 1_000) for _, record in LogReader(Path(manifest).read_bytes(), manifest)]
    return max(level for edit in edits for level, _ in edit.added)


def test_open_put_close_again_and_again(tmp_path: Path, go: LevelDB) -> None:
    """Each open replays the log into a table, which the new manifest's first record then has twice (session_util.go,
    newManifest). Ours opens a copy after each turn, as goleveldb does, and finds the same."""
    expected: Content = {}
    for turn in range(7):
        key = b"key%d" % turn
        go.apply(tmp_path / "db", [(key, b"%d" % turn), (b"same", b"%d" % turn)])
        expected |= {key: b"%d" % turn, b"same": b"%d" % turn}
        copy = copied(tmp_path / "db", tmp_path / f"copy{turn}")
        assert added_twice(copy) == (turn > 0), "the scene must have what it is about"
        with ours(copy, read_only=True) as store:
            assert dict(store.scan()) == expected
        with ours(copy) as store:
            assert dict(store.scan()) == expected and store.multi_get(expected) == list(expected.values())
            numbers = [file.number for _, file in store.core.versions.current.files()]
            assert len(numbers) == len(set(numbers))
            assert store.check() == []
        assert go.dump(copy) == expected
    assert go.dump(tmp_path / "db") == expected


def test_a_store_of_ours_that_goleveldb_has_opened_once(tmp_path: Path, go: LevelDB) -> None:
    with ours(tmp_path) as store:
        store.put(b"ours", b"1")
        store.flush()
        store.put(b"in the log", b"2")
    go.run("touch", tmp_path)
    assert added_twice(tmp_path)
    with ours(tmp_path) as store:
        assert dict(store.scan()) == {b"ours": b"1", b"in the log": b"2"}
        assert store.check() == []


def test_writers_take_turns(tmp_path: Path, go: LevelDB, rng: random.Random) -> None:
    """Flushes and compactions of both, over several levels; after each turn both read all of it alike."""
    turns = Turns(tmp_path, go, SMALL, ("-buffer", "8000", "-table", "4000"))
    turns.play(rng, turns=8, operations=600, their_compaction=5)


def test_its_deeper_levels_are_said_to_be_its_own(tmp_path: Path, go: LevelDB, rng: random.Random) -> None:
    """A level that is full makes the next one, for ever: with levels of 4,000 bytes each, 40 kB need more than seven."""
    content: Content = {}
    deepest = 0
    for _ in range(40):
        flags = "-shallow", "-buffer", "4000", "-table", "1000"
        go.apply(tmp_path, random_operations(rng, content, 800, keys=3_000), *flags)
        deepest = deepest_level(tmp_path)
        if deepest > 6:
            break
    assert deepest > 6, "the scene must have what it is about"
    before = {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)}
    for read_only in (True, False):
        with pytest.raises(ForeignFormat, match=r"which only goleveldb makes .*: open the store with goleveldb"):
            ours(tmp_path, read_only=read_only)
    with pytest.raises(ForeignFormat, match="which only goleveldb makes"):
        LsmStore.repair(str(tmp_path), real_env())
    assert {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)} == before
    assert f"level {deepest} gets" in "\n".join(LsmStore.dump(str(tmp_path), real_env()))
    assert go.dump(tmp_path) == content


def test_each_refuses_what_the_other_has_open(tmp_path: Path, go: LevelDB) -> None:
    """goleveldb locks with flock and LevelDB with fcntl; ours takes both, for writing and (shared) for reading."""
    with ours(tmp_path) as store:
        store.put(b"a", b"1")
        refused = go.ended("touch", tmp_path)
        assert refused.returncode != 0 and "temporarily unavailable" in refused.stderr
    with ours(tmp_path, read_only=True):
        assert go.ended("touch", tmp_path).returncode != 0
    with subprocess.Popen(
        [*go.command, "hold", str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        assert process.stdout.readline() == b"open\n"
        for read_only in (True, False):
            with pytest.raises(StoreLocked):
                ours(tmp_path, read_only=read_only)
        process.stdin.close()
        process.wait()
    with ours(tmp_path) as store:
        assert store.get(b"a") == b"1"


def test_only_its_strict_journal_refuses_the_zeros_of_a_killed_log(tmp_path: Path, go: LevelDB) -> None:
    """kill -9 leaves the space that our log has allocated: "zero header" for opt.StrictJournal, which is off by default."""
    script = """
import engines, os, signal, sys
store = engines.open(sys.argv[1], "lsm")
for number in range(5):
    store.put(b"%d" % number, b"ours")
os.kill(os.getpid(), signal.SIGKILL)
"""
    ended = subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False, timeout=60)
    assert ended.returncode == -signal.SIGKILL
    (log,) = tmp_path.glob("*.log")
    assert log.stat().st_size == 1 << 20 and log.read_bytes().endswith(bytes(1000))
    refused = go.ended("-strict", "dump", tmp_path)
    assert refused.returncode != 0 and "zero header" in refused.stderr
    assert go.dump(tmp_path) == {b"%d" % number: b"ours" for number in range(5)}
    with ours(tmp_path) as store:
        assert dict(store.scan()) == {b"%d" % number: b"ours" for number in range(5)}
