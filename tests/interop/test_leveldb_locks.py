"""Who sees whom on one store's LOCK: ours, LevelDB in C++ (fcntl's lock) and goleveldb (flock), writing and only reading."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

import engines
from engines.env import real_env
from engines.errors import StoreLocked
from engines.lsm.store import LsmStore
from tests.interop.leveldb_tools import LevelDB, cpp, goleveldb
from tests.interop.leveldb_turns import ours


@pytest.fixture(scope="module", params=[goleveldb, cpp], ids=["goleveldb", "LevelDB"])
def theirs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LevelDB:
    program: LevelDB | None = request.param(tmp_path_factory.mktemp("program"))
    if program is None:
        pytest.skip(f"{request.param.__name__} needs its compiler and Debian's package of the library")
    return program


@pytest.fixture(scope="module")
def go(tmp_path_factory: pytest.TempPathFactory) -> LevelDB:
    program = goleveldb(tmp_path_factory.mktemp("goleveldb"))
    if program is None:
        pytest.skip("needs golang-go and golang-github-syndtr-goleveldb-dev")
    return program


def everything(path: Path) -> dict[str, tuple[object, ...]]:
    """Name → what a look must leave alone."""
    found: dict[str, tuple[object, ...]] = {}
    for each in [path, *path.iterdir()]:
        status = each.stat()
        data = each.read_bytes() if each.is_file() else b""
        found[each.name] = status.st_mode, status.st_ino, status.st_mtime_ns, status.st_ctime_ns, data
    return found


def test_they_are_kept_out_of_what_we_have_open(tmp_path: Path, theirs: LevelDB) -> None:
    """For writing and for reading only; they open it for writing in any case. Afterwards they get in."""
    theirs.apply(tmp_path, [(b"a", b"1")])
    for options in ({}, {"read_only": True}):
        with ours(tmp_path, **options) as store:
            ended = theirs.ended("dump", tmp_path)
            assert ended.returncode != 0
            assert "temporarily unavailable" in ended.stderr + ended.stdout
            assert store.get(b"a") == b"1"
    assert theirs.dump(tmp_path) == {b"a": b"1"}


def test_goleveldb_at_work_is_seen_and_left_alone(tmp_path: Path, go: LevelDB) -> None:
    """A Go program has the store open: a check, a look and an opening for writing are refused, nothing is made or
    changed, and what it writes afterwards is there. It once lost 1,000 acknowledged writes by such a check."""
    go.apply(tmp_path, [(b"%03d" % number, b"first") for number in range(100)])
    command = [*go.command, "hold", str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdin is not None and holder.stdout is not None
        assert holder.stdout.readline() == b"open\n"
        before = everything(tmp_path)
        for options in ({"read_only": True}, {}):
            with pytest.raises(StoreLocked, match=f"LOCK is locked by process {holder.pid}: "):
                ours(tmp_path, **options)
        assert engines.which(tmp_path) == "lsm"
        assert list(LsmStore.dump(str(tmp_path), real_env())), "the dump needs no lock"
        assert everything(tmp_path) == before
        holder.stdin.close()
        assert holder.wait() == 0
    go.apply(tmp_path, [(b"after", b"second")])
    with ours(tmp_path, read_only=True) as store:
        assert len(list(store.scan())) == 101
    assert len(go.dump(tmp_path)) == 101


def test_a_store_of_theirs_can_be_read_without_its_lock_file(tmp_path: Path, theirs: LevelDB) -> None:
    """A copy of a directory often has no LOCK; reading only makes none."""
    theirs.apply(tmp_path, [(b"a", b"1"), (b"b", None)])
    (tmp_path / "LOCK").unlink()
    before = everything(tmp_path)
    with ours(tmp_path, read_only=True) as store:
        assert dict(store.scan()) == {b"a": b"1"}
        assert store.check() == []
    assert everything(tmp_path) == before
