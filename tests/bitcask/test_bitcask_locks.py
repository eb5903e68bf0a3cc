"""Locks: of the dead and the living, ours and Riak's."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

import engines
from engines import (
    StoreLocked,
)
from engines.bitcask.record import (
    encode_record,
)
from engines.bitcask.store import BitcaskStore
from engines.simenv import Policy, SimEnv
from tests.bitcask.riak_files import PATH, content, open_sim, put_file

LOCKS = ["bitcask.write.lock", "bitcask.merge.lock"]


@pytest.mark.parametrize("name", LOCKS)
def test_a_riak_that_lives_keeps_us_out(name: str) -> None:
    """Its lock file says its pid and the file it writes to; nothing is changed by being refused."""
    env = SimEnv()
    put_file(env, "1.bitcask.data", encode_record(1, b"k", b"v"))
    env.alive.add(4711)
    put_file(env, name, b"4711 /db/2.bitcask.data\n")
    before = env.files()
    with pytest.raises(
        StoreLocked, match=r"if Riak has crashed and its number is another process's now, remove the lock"
    ):
        open_sim(env)
    del env.files()["/db/bitcask.metcd.lock"]
    assert {path: data for path, data in env.files().items() if "metcd" not in path} == before
    env.alive.discard(4711)
    assert content(env) == {b"k": b"v"}, "and when it has died, it doesn't"


@pytest.mark.parametrize("name", LOCKS)
@pytest.mark.parametrize(
    "left",
    [b"", b"99", b"99 ", b"garbage\xff\n", b"99 /db/1.bitcask.data\n", b"1000 /db/x\nmetcd\n", b"9" * 5000],
    ids=["empty", "torn", "torn later", "garbage", "dead", "ours", "long"],
)
def test_a_lock_that_nobody_holds_is_cleared_away(name: str, left: bytes) -> None:
    """Riak would refuse the directory for ever if the dead process's pid is somebody's again (basho/bitcask#255)."""
    env = SimEnv()
    put_file(env, "1.bitcask.data", encode_record(1, b"k", b"v"))
    put_file(env, name, left)
    assert content(env) == {b"k": b"v"}
    assert f"{PATH}/{name}" not in env.files()


def test_our_own_lock_of_a_pid_that_lives_again_is_stale() -> None:
    """A killed store of ours leaves its files; their pid may be a stranger's by now."""
    env = SimEnv()
    store = open_sim(env)
    store.put(b"k", b"v")
    image = env.crash(Policy.EVERYTHING, random.Random(0))
    image.alive.add(env.own_pid)
    assert content(image) == {b"k": b"v"}


def test_a_store_that_is_open_is_locked(tmp_path: Path) -> None:
    """Against this process and against another; against Riak by its own files."""
    with BitcaskStore(str(tmp_path)) as store:
        store.put(b"k", b"v")
        for name in LOCKS:
            assert (tmp_path / name).read_text().startswith(f"{os.getpid()} ")
        with pytest.raises(StoreLocked):
            BitcaskStore(str(tmp_path))
        code = "import sys, engines\ntry: engines.open(sys.argv[1], 'bitcask')\nexcept engines.StoreLocked: sys.exit(7)"
        child = subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=Path(engines.__file__).parents[1])
        assert child.returncode == 7
    assert sorted(path.name for path in tmp_path.glob("*.lock")) == ["bitcask.metcd.lock"]
