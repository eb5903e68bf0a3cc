"""Repair leaves alone what it can't read: whatever is refused is refused before a byte is written."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

import engines
from engines.env import real_env
from engines.errors import CorruptionError, ForeignFormat, NoSuchStore, StoreLocked
from engines.lsm.repair import LOST, repair
from engines.lsm.sstable import add_trailer
from engines.lsm.store import LsmStore
from engines.lsm.version import VersionEdit
from engines.simenv import SimEnv
from tests.lsm.hand_made import Directory, good


def refused(env: SimEnv, why: str) -> None:
    """By the classmethod and by the function: ForeignFormat, and every file is as it was, with no file besides."""
    before = env.files()
    for _ in range(2):
        with pytest.raises(ForeignFormat, match=why):
            LsmStore.repair("/db", env)
        with pytest.raises(ForeignFormat, match=why):
            repair("/db", env=env)
    assert {path: content for path, content in env.files().items() if path != "/db/LOCK"} == before
    assert not env.exists(f"/db/{LOST}") and env.open_files == 0


def with_kind(made: Directory, name: str, block: str, kind: int) -> None:
    """Gives a block of a table another compression, and the checksum that fits. block: the first of the data, or the index."""
    path = f"/db/{name}"
    content = made.env.files()[path]
    places = [
        (at, size)
        for at in range(len(content) - 48)
        for size in range(8, len(content) - 48 - at - 4)
        if content[at + size] == 0 and content[at : at + size + 5] == add_trailer(content[at : at + size], 0)
    ]
    at, size = {"data": places[0], "index": places[-1]}[block]
    made.env.poke(path, content[:at] + add_trailer(content[at : at + size], kind) + content[at + size + 5 :])


# ---- refused --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lost", ["nothing", "CURRENT", "a table", "a block"])
def test_a_store_in_another_order_is_not_repaired(lost: str) -> None:
    """It would become a bytewise one, which its own program refuses. Whatever else is wrong with it."""
    made = good()
    made.edit.comparator = b"idb_cmp1"
    made.manifest()
    if lost in ("CURRENT", "a table"):
        made.env.unlink({"CURRENT": "/db/CURRENT", "a table": "/db/000004.ldb"}[lost])
    if lost == "a block":
        made.env.poke("/db/000004.ldb", b"\xff" + made.env.files()["/db/000004.ldb"][1:])
    refused(made.env, r"ordered by b'idb_cmp1' .Chromium's IndexedDB., .* open the store with the program that made it")


@pytest.mark.parametrize("block_bytes", [50, 4096])
def test_a_store_in_another_order_whose_manifest_is_lost_is_not_repaired(block_bytes: int) -> None:
    """Nothing names the order any more, but the keys show it: within a block, or from one to the next."""
    made = good()
    made.table(1, 9, [(b"%d" % at, 1, b"v" * 20) for at in range(9, 0, -1)], sort=False, block_bytes=block_bytes)
    refused(made.env, "no manifest is left that names the order: another comparator's store")


def test_a_store_in_our_order_whose_manifest_is_lost_is_repaired() -> None:
    made = good()
    assert LsmStore.repair("/db", made.env) == [
        "/db: a store of 4 pairs was made from 2 tables and 1 logs",
        "lost: CURRENT, which names the manifest: every table and log that is there counts",
        "what was there before is in /db/lost: remove it when nothing is missed",
    ]
    with made.open() as store:
        assert store.get(b"a") == b"new" and store.check() == []


def test_rocksdbs_directory_is_not_repaired() -> None:
    made = good()
    made.manifest()
    made.write("OPTIONS-000007", b"[Version]\n")
    refused(made.env, r"a store of RocksDB .it has OPTIONS-000007.")
    assert "/db/LOCK" not in made.env.files(), "not even a lock was taken"


def test_goleveldbs_deeper_levels_are_not_repaired() -> None:
    made = good()
    made.manifest(made.edit.encode(), VersionEdit(added=[(7, made.edit.added[0][1])]).encode())
    made.env.unlink("/db/CURRENT")
    refused(made.env, "level 7, which only goleveldb makes")


@pytest.mark.parametrize("block", ["data", "index"])
@pytest.mark.parametrize("kind", [3, 9, 255])
@pytest.mark.parametrize("lost", ["nothing", "CURRENT", "another table's block"])
def test_a_block_that_is_whole_and_in_an_unknown_compression_is_not_set_aside(block: str, kind: int, lost: str) -> None:
    """Its checksum is right: somebody can read it, and what he would find afterwards is an empty store."""
    made = good()
    made.manifest()
    with_kind(made, "000004.ldb", block, kind)
    if lost == "CURRENT":
        made.env.unlink("/db/CURRENT")
    if lost == "another table's block":
        made.env.poke("/db/000005.ldb", b"\xff" + made.env.files()["/db/000005.ldb"][1:])
    refused(made.env, r"000004\.ldb")


def test_a_block_that_is_whole_and_no_snappy_is_not_set_aside() -> None:
    """Type 1, a right checksum, and no snappy after it: a writer of another kind, not damage of the disk."""
    made = good()
    made.manifest()
    with_kind(made, "000004.ldb", "data", 1)
    refused(
        made.env,
        r"the block at byte 0 is whole, but can't be read here .*: open the store with the program that made it",
    )


# ---- repaired -------------------------------------------------------------------------------------------------------


def test_a_block_whose_compression_is_damaged_is_lost_and_the_rest_is_not() -> None:
    """The checksum covers the byte that says the compression: a flipped bit in it is damage like any other."""
    made = good()
    made.manifest()
    content = made.env.files()["/db/000004.ldb"]
    size = next(size for size in range(len(content)) if add_trailer(content[:size], 0) == content[: size + 5])
    made.env.poke("/db/000004.ldb", content[:size] + b"\x04" + content[size + 1 :])
    sentences = LsmStore.repair("/db", made.env)
    assert sentences[0] == "/db: a store of 3 pairs was made from 2 tables and 1 logs"
    assert sentences[1].startswith("lost: /db/000004.ldb at byte 0: the block's checksum should be")
    assert sentences[2:] == ["what was there before is in /db/lost: remove it when nothing is missed"]
    with made.open() as store:
        assert dict(store.scan()) == {b"a": b"new", b"l": b"12", b"x": b"11"}


def test_a_store_that_is_well_stays_the_same_store() -> None:
    made = good()
    made.manifest()
    with made.open() as store:
        before = dict(store.scan())
    assert [line for line in LsmStore.repair("/db", made.env) if line.startswith("lost")] == []
    with made.open() as store:
        assert dict(store.scan()) == before and store.check() == []


def test_repair_takes_the_lock_of_both_kinds_of_program() -> None:
    made = good()
    made.manifest()
    with made.open(), pytest.raises(StoreLocked):
        LsmStore.repair("/db", made.env)
    with pytest.raises(NoSuchStore):
        LsmStore.repair("/nothing", made.env)


@pytest.mark.parametrize("name", ["CURRENT", "MANIFEST-000001", "000005.ldb", "000006.log"])
def test_whoever_is_told_of_damage_is_told_the_command(name: str) -> None:
    """The sentence names `metcd repair` with the store's path, and what it says can be done."""
    made = good()
    made.manifest()
    made.env.unlink(f"/db/{name}")
    with pytest.raises(CorruptionError) as caught:
        engines.open("/db", "lsm", env=made.env)
    assert re.search(r"; `metcd repair /db` makes a store of what is whole$", str(caught.value))
    LsmStore.repair("/db", made.env)
    with made.open() as store:
        assert store.get(b"c") == b"3"


def test_a_damaged_record_of_a_log_takes_no_whole_one_with_it(tmp_path: Path) -> None:
    """LevelDB's repair leaves out the rest of 32 KiB; what is left out is told with its size."""
    with engines.open(tmp_path / "db", "lsm") as store:
        for number in range(300):
            store.put(b"k%05d" % number, b"v" * 50)
        shutil.copytree(tmp_path / "db", tmp_path / "killed")
    (log,) = (tmp_path / "killed").glob("*.log")
    content = bytearray(log.read_bytes())
    content[100] ^= 1
    log.write_bytes(content)
    sentences = LsmStore.repair(tmp_path / "killed", real_env())
    assert sentences[:2] == [
        f"{tmp_path}/killed: a store of 299 pairs was made from 0 tables and 1 logs",
        f"lost: {log} at byte 78: the checksum does not match; 78 bytes are left out",
    ]
    with engines.open(tmp_path / "killed", "lsm") as store:
        assert len(list(store.scan())) == 299 and store.check() == []
