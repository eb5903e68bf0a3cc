"""Our store and the real LevelDB (plyvel) on the same files: byte for byte, in both directions, and in turns."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from engines.env import real_env
from engines.errors import CorruptionError, ForeignFormat, StoreLocked
from engines.lsm import job
from engines.lsm.cache import BlockCache
from engines.lsm.files import listed
from engines.lsm.keys import Row
from engines.lsm.options import Options
from engines.lsm.repair import repair
from engines.lsm.sstable import Table
from engines.lsm.statistics import Counters
from engines.lsm.table_builder import TableBuilder
from tests.interop.leveldb_tools import level_numbers
from tests.interop.leveldb_turns import copied, ours

plyvel = pytest.importorskip("plyvel")

Content = dict[bytes, bytes]
SMALL: dict[str, Any] = {
    "write_buffer_bytes": 20_000,
    "max_file_bytes": 10_000,
    "level_base_bytes": 40_000,
    "sync": False,
}
# with these, what we write is what LevelDB writes
IDENTICAL: dict[str, Any] = {"filter": None, "table_statistics": False, "background": False}


def leveldb(path: Path, **options: Any) -> Any:
    """The real LevelDB, which looks at everything it reads, and creates what isn't there."""
    return plyvel.DB(str(path), **{"create_if_missing": True, "paranoid_checks": True, **options})


def churn(rng: random.Random, content: Content, operations: int) -> list[tuple[bytes, bytes | None]]:
    """Operations on few keys of different lengths; `content` becomes what they make of it."""
    made: list[tuple[bytes, bytes | None]] = []
    for number in range(operations):
        key = b"%d" % rng.randrange(800) * rng.choice((1, 1, 1, 3))
        if rng.random() < 0.3:
            made.append((key, None))
            content.pop(key, None)
        else:
            content[key] = b"%d:" % number + b"abcdefgh" * rng.randrange(12)
            made.append((key, content[key]))
    return made


def write(db: Any, operations: list[tuple[bytes, bytes | None]]) -> None:
    for key, value in operations:
        db.delete(key) if value is None else db.put(key, value)


def opened_table(path: Path, number: int) -> Table:
    file = real_env().open(str(path / f"{number:06d}.ldb"), "r")
    return Table(file, file.size(), BlockCache(0), Counters())


def compressions(path: Path) -> set[int]:
    """The compression of every data block of every table."""
    found = set()
    for numbers in level_numbers(path).values():
        for number in numbers:
            table, content = opened_table(path, number), (path / f"{number:06d}.ldb").read_bytes()
            found |= {content[offset + size] for offset, size in table.handles}
    return found


def files(path: Path, kind: str) -> dict[str, bytes]:
    """Name → bytes of the files of a kind."""
    return {name: (path / name).read_bytes() for each, _, name in listed(real_env(), str(path)) if each == kind}


def compact(db: Any, path: Path) -> None:
    """LevelDB's compaction of everything. plyvel's compact_range() without `stop` compacts nothing: its end is then the
    empty key. That it took place is asserted from the files: what was on level 0 is deeper, in other tables or moved."""
    db.compact_range(start=b"", stop=b"\xff" * 8)
    levels = level_numbers(path)
    assert levels and 0 not in levels, levels


# ---- byte for byte --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("filter_name", [None, "leveldb"])
@pytest.mark.parametrize("restart_interval", [1, 16, 128])
@pytest.mark.parametrize("block_bytes", [1024, 4096])
def test_a_flushed_table_is_leveldbs_byte_for_byte(
    tmp_path: Path,
    rng: random.Random,
    monkeypatch: pytest.MonkeyPatch,
    filter_name: str | None,
    restart_interval: int,
    block_bytes: int,
) -> None:
    """All versions of many keys in one memtable, replayed from one log by both. (LevelDB has no blocks below 1 KiB.) A flush
    of ours would leave out the older ones of so many."""
    monkeypatch.setattr(job, "CROWDED", 1_000)
    options = {"block_restart_interval": restart_interval, "block_size": block_bytes, "compression": None}
    if filter_name:
        options["bloom_filter_bits"] = 10
    operations = churn(rng, {}, 3_000)
    with leveldb(tmp_path / "theirs", write_buffer_size=64 << 20) as db:
        write(db, operations)
    with ours(tmp_path / "ours", sync=False, write_buffer_bytes=64 << 20, **IDENTICAL) as store:
        write(store, operations)
    with leveldb(tmp_path / "theirs", **options):
        pass  # replays the log into a table
    changed = IDENTICAL | {
        "filter": filter_name,
        "block_bytes": block_bytes,
        "block_restart_interval": restart_interval,
    }
    with ours(tmp_path / "ours", level0_files=100, level0_slowdown_files=100, level0_stop_files=100, **changed):
        pass
    (theirs,) = files(tmp_path / "theirs", "ldb").values()
    (mine,) = files(tmp_path / "ours", "ldb").values()
    assert mine == theirs
    assert len(mine) > 20_000


def test_a_table_of_awkward_keys_is_leveldbs(tmp_path: Path) -> None:
    """Keys whose separators can't be shortened: 0xff, prefixes of each other, the empty one; huge values; one block
    for each entry."""
    keys = sorted(
        {b"", b"\x00", b"a", b"a\x00", b"ab", b"ab\xff", b"ac", b"b" * 300, b"\xff", b"\xff\xff", b"\xff\xff\x01"}
    )
    with leveldb(tmp_path / "theirs") as db:
        for key in keys:
            db.put(key, key * 2 + b"v" * 5_000)
    with leveldb(tmp_path / "theirs", compression=None, block_size=1024):
        pass
    (theirs,) = files(tmp_path / "theirs", "ldb").values()
    file = real_env().open(str(tmp_path / "mine"), "x")
    builder = TableBuilder(
        file, Options(**{k: v for k, v in IDENTICAL.items() if k != "background"}, block_bytes=1024), 100
    )
    for number, key in enumerate(keys, 1):
        builder.add(Row.of(key, number, key * 2 + b"v" * 5_000))
    builder.finish("test")
    file.close()
    assert (tmp_path / "mine").read_bytes() == theirs


def test_a_log_is_leveldbs_byte_for_byte(tmp_path: Path, rng: random.Random) -> None:
    """Both sync each write, and are killed: closed, ours has a mark after the last record, and no other difference."""
    operations = churn(rng, {}, 400)
    for number in range(0, 400, 7):
        if (value := operations[number][1]) is not None:
            operations[number] = (operations[number][0], value * 700)  # over several blocks
    with leveldb(tmp_path / "theirs", write_buffer_size=64 << 20) as db, ours(tmp_path / "ours", **IDENTICAL) as store:
        for start in range(0, 400, 4):
            with db.write_batch(sync=True) as theirs, store.batch() as mine:
                write(theirs, operations[start : start + 4])
                write(mine, operations[start : start + 4])
    ((name, theirs),) = files(tmp_path / "theirs", "log").items()
    ((my_name, mine),) = files(tmp_path / "ours", "log").items()
    assert my_name == name
    assert mine.startswith(theirs)
    assert len(mine) - len(theirs) in range(19, 19 + 7)


def test_a_manifest_is_leveldbs_byte_for_byte(tmp_path: Path) -> None:
    """Made, opened again, with tables from two logs: each open writes what LevelDB writes, numbers included."""
    options = {"compression": None, "write_buffer_size": 64 << 20}
    for number in range(3):
        keys = [b"%d-%03d" % (number, at) for at in range(100)]
        with leveldb(tmp_path / "theirs", **options) as db:
            write(db, [(key, key) for key in keys])
        with ours(tmp_path / "ours", **IDENTICAL) as store:
            write(store, [(key, key) for key in keys])
        names = sorted(os.listdir(tmp_path / "ours"))
        assert [name for name in sorted(os.listdir(tmp_path / "theirs")) if not name.startswith("LOG")] == names
        assert files(tmp_path / "ours", "manifest") == files(tmp_path / "theirs", "manifest")
        assert files(tmp_path / "ours", "ldb") == files(tmp_path / "theirs", "ldb")


# ---- round trips ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("memtable", ["skiplist", "sorted"])
@pytest.mark.parametrize("filter_name", ["bloom", "leveldb", None])
def test_writers_take_turns(tmp_path: Path, rng: random.Random, memtable: str, filter_name: str | None) -> None:
    """Ours and LevelDB write, flush and compact one store by turns; after each turn, both read all of it alike."""
    content: Content = {}
    for turn in range(6):
        operations = churn(rng, content, 700)
        if turn % 2:
            with leveldb(
                tmp_path, write_buffer_size=20_000, max_file_size=1 << 20, bloom_filter_bits=0 if turn == 3 else 10
            ) as db:
                write(db, operations)
                if turn == 3:
                    before = level_numbers(tmp_path)
                    compact(db, tmp_path)
                    old = {number for numbers in before.values() for number in numbers}
                    assert old and old.isdisjoint(*level_numbers(tmp_path).values()), "every table was written anew"
        else:
            with ours(tmp_path, memtable=memtable, filter=filter_name, **SMALL) as store:
                write(store, operations)
                if turn == 4:
                    store.compact()
        with leveldb(tmp_path, bloom_filter_bits=10) as db:
            assert dict(db.iterator(verify_checksums=True)) == content
            assert [db.get(key) for key in content] == list(content.values())
            assert [db.get(key + b"?") for key in content] == [None] * len(content)
        with ours(tmp_path, memtable=memtable, filter=filter_name, **SMALL) as store:
            assert list(store.scan()) == sorted(content.items())
            assert list(store.scan(reverse=True)) == sorted(content.items(), reverse=True)
            assert store.multi_get(content) == list(content.values())
            assert store.check() == []


def test_leveldbs_snappy_blocks_are_read(tmp_path: Path, rng: random.Random) -> None:
    """plyvel compresses unless told otherwise."""
    content: Content = {}
    with leveldb(tmp_path) as db:
        write(db, churn(rng, content, 4_000))
        compact(db, tmp_path)
    assert compressions(tmp_path) >= {1}
    with ours(tmp_path) as store:
        assert dict(store.scan()) == content
        assert store.multi_get(content) == list(content.values())
        assert store.check() == []


def test_snapshots_that_leveldb_has_compacted_around(tmp_path: Path) -> None:
    """Several versions of one key in tables of LevelDB, split over blocks: the newest one counts."""
    with leveldb(tmp_path, compression=None, block_size=1024) as db:
        kept = []
        for number in range(200):
            db.put(b"key", b"%d" % number * 20)
            db.put(b"kez", b"%d" % number)
            kept.append(db.snapshot())
        compact(db, tmp_path)
        for snapshot in kept:
            snapshot.close()
    ((level, (number,)),) = level_numbers(tmp_path).items()
    table = opened_table(tmp_path, number)
    keys = [row.key for row in table.rows()]
    assert level > 0 and keys == [b"key"] * 200 + [b"kez"] * 200 and table.blocks > 2
    with ours(tmp_path, background=False) as store:
        assert dict(store.scan()) == {b"key": b"199" * 20, b"kez": b"199"}
        assert dict(store.scan(reverse=True)) == {b"key": b"199" * 20, b"kez": b"199"}
        assert store.get(b"key") == b"199" * 20
        assert store.check() == []
        store.compact()
        assert store.stats().live_bytes == 3 + 60 + 3 + 3
        assert dict(store.scan()) == {b"key": b"199" * 20, b"kez": b"199"}


def test_leveldb_reads_what_a_load_has_written(tmp_path: Path) -> None:
    """Tables on the last level only; later writes lie above them."""
    pairs = [(b"%05d" % number, b"%d" % number * 10) for number in range(5_000)]
    with ours(tmp_path, **SMALL) as store:
        store.put(b"old", b"gone")
        store.load(pairs)
        store.put(b"00000", b"new")
        store.delete(b"00001")
    expected = dict(pairs) | {b"00000": b"new"}
    del expected[b"00001"]
    before = level_numbers(tmp_path)
    assert list(before) == [6] and len(before[6]) > 3
    with leveldb(tmp_path) as db:
        assert dict(db) == expected
        compact(db, tmp_path)
        assert dict(db) == expected
    after = level_numbers(tmp_path)
    assert list(after) == [6] and after[6] != before[6], "LevelDB has merged its log's table into ours"
    with ours(tmp_path) as store:
        assert dict(store.scan()) == expected


@pytest.mark.parametrize("round_", range(3))
def test_a_killed_leveldb_writer(tmp_path: Path, round_: int, seed: int) -> None:
    """kill -9 in the middle of its compactions: we recover exactly what LevelDB itself does."""
    script = """
import plyvel, random, sys
rng = random.Random(int(sys.argv[2]))
db = plyvel.DB(sys.argv[1], create_if_missing=True, write_buffer_size=30_000, max_file_size=1 << 20)
print("open", flush=True)
for number in range(10**9):
    with db.write_batch() as batch:
        for _ in range(rng.randrange(1, 9)):
            key = b"%d" % rng.randrange(3000)
            batch.delete(key) if rng.random() < .25 else batch.put(key, b"%d" % number * rng.randrange(40))
    if number % 1000 == 999:
        print(number, flush=True)
"""
    lines = random.Random(f"{seed} {round_}").randrange(4, 9)
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "killed"), str(seed * 10 + round_)], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        for _ in range(lines):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        process.wait()
    copied(tmp_path / "killed", tmp_path / "copy")
    assert any(level > 0 for level in level_numbers(tmp_path / "killed")), "it was killed after some compactions"
    assert files(tmp_path / "killed", "log"), "and with a log"
    with leveldb(tmp_path / "copy") as db:
        expected = dict(db)
    assert expected
    with ours(tmp_path / "killed", sync=False) as store:
        assert dict(store.scan()) == expected
        assert store.check() == []


# ---- repair ---------------------------------------------------------------------------------------------------------


def test_repair_of_what_leveldb_wrote(tmp_path: Path, rng: random.Random) -> None:
    """CURRENT and the manifest are gone; our repair puts the tables back in the order of their sequences."""
    content: Content = {}
    with leveldb(tmp_path, write_buffer_size=20_000) as db:
        write(db, churn(rng, content, 3_000))
        compact(db, tmp_path)
        write(db, churn(rng, content, 50))
    for name in os.listdir(tmp_path):
        if name == "CURRENT" or name.startswith("MANIFEST"):
            (tmp_path / name).unlink()
    with pytest.raises(CorruptionError):
        ours(tmp_path)
    repair(str(tmp_path))
    with ours(tmp_path) as store:
        assert dict(store.scan()) == content
        assert store.check() == []
    with leveldb(tmp_path) as db:
        assert dict(db) == content


def test_leveldbs_repair_of_what_we_wrote(tmp_path: Path) -> None:
    """Without tombstones, so that LevelDB's repair, which puts all tables into level 0, can't bring anything back."""
    pairs = {b"%04d" % number: b"%d" % number * 9 for number in range(2_000)}
    with ours(tmp_path, background=False, **SMALL) as store:
        for key, value in pairs.items():
            store.put(key, value)
    assert len(level_numbers(tmp_path)) > 1
    (tmp_path / "CURRENT").unlink()
    plyvel.repair_db(str(tmp_path))
    assert list(level_numbers(tmp_path)) == [0]
    with leveldb(tmp_path) as db:
        assert dict(db) == pairs
    with ours(tmp_path) as store:
        assert dict(store.scan()) == pairs


# ---- locks ----------------------------------------------------------------------------------------------------------


def test_each_refuses_what_the_other_has_open(tmp_path: Path) -> None:
    """fcntl.lockf is LevelDB's lock. It holds between processes, so one of the two is in another one."""
    script = """
import sys, plyvel
try:
    plyvel.DB(sys.argv[1], create_if_missing=True)
except plyvel.IOError as error:
    print("refused" if "lock" in str(error) else error)
"""
    with ours(tmp_path) as store:
        store.put(b"a", b"1")
        ended = subprocess.run(
            [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True, timeout=60
        )
        assert ended.stdout == "refused\n"
        assert store.get(b"a") == b"1"
    holder = """
import sys, plyvel
db = plyvel.DB(sys.argv[1])
print("open", flush=True)
sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", holder, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        assert process.stdout.readline() == b"open\n"
        with pytest.raises(StoreLocked, match=f"process {process.pid}"):
            ours(tmp_path)
        process.stdin.close()
        process.wait()
    ours(tmp_path).close()


def test_a_foreign_comparator_is_refused(tmp_path: Path) -> None:
    """An order that isn't ours would make every search wrong."""
    leveldb(tmp_path, comparator=lambda a, b: (a < b) - (a > b), comparator_name=b"backwards").close()
    before = {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)}
    with pytest.raises(ForeignFormat, match="backwards"):
        ours(tmp_path)
    assert {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)} == before
