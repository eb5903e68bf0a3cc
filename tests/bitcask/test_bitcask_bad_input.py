"""What the world may put into a directory: locks of the dead and the living, foreign files, lengths that lie, no space.

A typed error or a right answer, each time.
"""

from __future__ import annotations

import errno
import os
import random
import struct
import subprocess
import sys
from pathlib import Path

import pytest

import engines
from engines import CorruptionError, StoreFailed, StoreLocked
from engines.bitcask.record import encode_record
from engines.bitcask.store import BitcaskStore
from engines.env import real_env
from engines.faultenv import FaultEnv
from engines.simenv import Policy, SimEnv
from tests.bitcask.riak_files import PATH, content, data_path, open_sim, put_file

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


def test_foreign_files_are_let_alone() -> None:
    """Names that are nearly ours, directories that are called like a data file, Riak's other files."""
    env = SimEnv()
    foreign = [
        "README",
        "0.bitcask.data",
        "01.bitcask.data",
        "-1.bitcask.data",
        "x.bitcask.data",
        "1.bitcask.data.bak",
        "12345678901.bitcask.data",
        "1.bitcask.hintx",
        "merge.txt",
        "bitcask.create.lock",
    ]
    for name in foreign:
        put_file(env, name, b"not ours")
    env.makedirs(f"{PATH}/7.bitcask.data", "test")
    put_file(env, "3.bitcask.data", encode_record(1, b"k", b"v"))
    with open_sim(env) as store:
        for number in range(20):
            store.put(b"l", b"w" * 40 + b"%d" % number)
        store.compact()
        assert store.check() == []
    assert content(env) == {b"k": b"v", b"l": b"w" * 40 + b"19"}
    assert all(env.files()[f"{PATH}/{name}"] == b"not ours" for name in foreign)
    assert env.is_dir(f"{PATH}/7.bitcask.data")


@pytest.mark.parametrize("key_size", [0, 1, 5, 0xFFFF])
@pytest.mark.parametrize("value_size", [0, 2, 1 << 20, 0x7FFF_FFFF, 0xFFFF_FFFF])
def test_a_length_that_lies_is_not_believed(key_size: int, value_size: int) -> None:
    """In a closed file, by its neighbour: damage. In the newest file: no more than a torn tail."""
    good, rest = encode_record(1, b"a", b"1"), encode_record(1, b"bb", b"22")
    lying = rest[:8] + struct.pack(">HI", key_size, value_size) + rest[14:]
    env = SimEnv()
    put_file(env, "1.bitcask.data", good + lying)
    assert content(env.crash(Policy.EVERYTHING, random.Random(0))) == {b"a": b"1"}
    put_file(env, "2.bitcask.data", encode_record(1, b"c", b"3"))
    with pytest.raises(CorruptionError, match=r"may end in a torn record|a torn record is cut off") as caught:
        open_sim(env)
    assert (caught.value.path, caught.value.offset) == (data_path(1), len(good))


def test_a_value_that_was_damaged_behind_our_back_is_an_error_and_no_answer() -> None:
    """With a hint that is right, the record isn't read until it is asked for."""
    env = SimEnv()
    with open_sim(env) as store:
        for number in range(9):
            store.put(b"key%d" % number, b"value")
    with open_sim(env) as store:
        data = env.files()[data_path(1)]
        env.poke(data_path(1), data[:20] + b"!" + data[21:])
        with pytest.raises(CorruptionError, match="fails its checksum") as caught:
            store.get(b"key0")
        assert (caught.value.path, caught.value.offset) == (data_path(1), 0)
        with pytest.raises(CorruptionError):
            list(store.scan())
        assert store.get(b"key1") == b"value", "the others are not affected"
        assert store.check() != []


def test_a_full_disk_is_an_error_and_space_makes_the_store_usable_again() -> None:
    """From whichever call on the space is gone: what was acknowledged is there, and goes on."""
    for number in range(1, 60):
        env = SimEnv()
        full = FaultEnv(env, number, errno.ENOSPC, forever=True)
        kept: dict[bytes, bytes] = {}
        asked: dict[bytes, bytes] = {}
        store = None
        try:
            store = BitcaskStore(PATH, env=full, max_file_size=300)
            for at in range(40):
                asked = {**kept, b"key%02d" % at: b"v" * 20}
                store.put(b"key%02d" % at, b"v" * 20)
                kept = asked
        except OSError as error:
            assert error.errno == errno.ENOSPC
        if store is not None and store.failure is not None:
            with pytest.raises(StoreFailed):
                store.put(b"more", b"")
            with pytest.raises(StoreFailed):
                store.get(b"key00")
            store.close()
        elif store is not None:
            full.fail_at = 1 << 60
            store.close()
        with open_sim(env) as again:
            assert dict(again.scan()) in (kept, asked)
            again.put(b"space", b"again")
            kept = dict(again.scan())
        assert content(env) == kept


def test_a_damaged_intent_file_is_refused() -> None:
    """Whether the old or the new files count is what it says; guessing would mix two contents."""
    env = SimEnv()
    put_file(env, "1.bitcask.data", encode_record(1, b"k", b"v"))
    put_file(env, "bitcask.metcd.load", b"metcd load\nnew 7\nvoid 1\ncrc32 00000000\n")
    with pytest.raises(CorruptionError, match="the list of files that a load has written is damaged"):
        open_sim(env)


def test_ids_beyond_four_bytes_are_refused() -> None:
    """A v2 tombstone has four bytes for them."""
    env = SimEnv()
    put_file(env, "4294967295.bitcask.data", encode_record(1, b"k", b"v"))
    with open_sim(env) as store:
        assert store.get(b"k") == b"v"
        with pytest.raises(OverflowError, match="file ids end at"):
            store.put(b"l", b"w")


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
