"""Sound stores of other programs: refused with a sentence that says whose they are and what to do; or read.

The files are made by hand, but for RocksDB's manifest. tests/interop has the real goleveldb.
"""

from __future__ import annotations

import dataclasses

import pytest

import engines
from engines.errors import CorruptionError, ForeignFormat
from engines.lsm.keys import VALUE, internal_key
from engines.lsm.store import LsmStore
from engines.lsm.version import FileMeta, VersionEdit
from tests.lsm.hand_made import Directory, good

# rocksdict 0.3.29 (RocksDB 9.8.4), in raw mode: put a and b, flush, put c, close; the whole MANIFEST-000005
ROCKSDB_MANIFEST = bytes.fromhex(
    "3f88300827000181402461323232393835392d656238352d346236382d613733312d383834383433313631373965052b28430000"
    "0135403f88200001011a6c6576656c64622e4279746577697365436f6d70617261746f7289400101f4030c5a04000102000400fc"
    "2c26f9060001090003060400da61eebf56000102080900030a0402670009af080961010100000000000009620102000000000000"
    "01020505e4f8a7d8060605e4f8a7d8060d010107000807556e6b6e6f776e0c108f1d5f7885fbbd180589316d1ee95e890f028808"
    "01a5229b110800010900030a0a0804027800f5b3560001020a0900030c040367000ba20809630103000000000000096301030000"
    "0000000003030505e4f8a7d8060605e4f8a7d8060d010207000807556e6b6e6f776e0c108f1d5f7885fbbd180789316d1ee95e89"
    "0f02880801e25757b10800010900030c0a0a0403"
)


def refused(made: Directory, why: str) -> ForeignFormat:
    """The same for reading and for writing, twice, and not a byte is changed, LOCK neither."""
    before = made.env.files()
    for read_only in (False, True, False):
        with pytest.raises(ForeignFormat, match=why) as caught:
            engines.open("/db", "lsm", env=made.env, background=False, read_only=read_only)
        assert {path: content for path, content in made.env.files().items() if path != "/db/LOCK"} == before
    assert made.env.open_files == 0
    return caught.value


def rocksdb() -> Directory:
    made = Directory()
    made.write("MANIFEST-000005", ROCKSDB_MANIFEST)
    made.write("CURRENT", b"MANIFEST-000005\n")
    made.write("IDENTITY", b"a22298859-eb85-4b68-a731-884843161799")
    made.write("OPTIONS-000007", b"[Version]\n  rocksdb_version=9.8.4\n")
    made.write("000009.sst", bytes(100) + bytes.fromhex("f7cff485b741e288"))
    return made


# ---- RocksDB --------------------------------------------------------------------------------------------------------


def test_a_store_of_rocksdb_is_said_to_be_one() -> None:
    """By OPTIONS-000007, which it writes at each open; nobody claims the directory, and not even LOCK is made."""
    made = rocksdb()
    assert engines.which("/db", made.env) is None
    error = refused(made, r"a store of RocksDB \(it has OPTIONS-000007\), not of LevelDB: open it with RocksDB")
    assert error.path == "/db" and "/db/LOCK" not in made.env.files()


def test_a_store_of_rocksdb_without_its_options_is_known_by_its_manifest() -> None:
    """Its tags: 8193 (the database's id) here, 103 (a new table) in older ones."""
    made = rocksdb()
    made.env.unlink("/db/OPTIONS-000007")
    assert refused(made, "a manifest of RocksDB .the tag 8193 .* copy its pairs").path == "/db/MANIFEST-000005"


@pytest.mark.parametrize("tag", [10, 100, 102, 103, 200, 201, 202, 203, 300, 400, 8193, 8201])
def test_each_of_rocksdbs_tags_is_known(tag: int) -> None:
    """db/version_edit.h, enum Tag."""
    made = good()
    record = bytes((tag,)) if tag < 128 else bytes((tag & 127 | 128, tag >> 7))
    made.manifest(made.edit.encode(), record + b"\0")
    refused(made, f"a manifest of RocksDB .the tag {tag} ")


def test_a_table_of_rocksdb_among_leveldbs_is_said_to_be_one() -> None:
    made = good()
    made.manifest()
    content = made.env.files()["/db/000004.ldb"]
    made.env.poke("/db/000004.ldb", content[:-8] + bytes.fromhex("f7cff485b741e288"))
    with made.open() as store, pytest.raises(ForeignFormat, match=r"000004\.ldb: this is a table of RocksDB"):
        store.get(b"c")


def test_the_dump_shows_what_it_can_of_rocksdb() -> None:
    lines = "\n".join(LsmStore.dump("/db", rocksdb().env))
    assert "CURRENT: MANIFEST-000005" in lines
    assert "an edit of RocksDB: the tag 103" in lines
    assert "FOREIGN: /db/MANIFEST-000005: this is a manifest of RocksDB" in lines
    assert "DAMAGED" not in lines
    (line,) = LsmStore.dump("/db/000009.sst", rocksdb().env)
    assert line.startswith("FOREIGN: /db/000009.sst: this is a table of RocksDB")


# ---- another comparator ---------------------------------------------------------------------------------------------


def test_keys_in_chromiums_order_are_said_to_be_chromiums() -> None:
    made = good()
    made.edit.comparator = b"idb_cmp1"
    made.manifest()
    refused(made, r"ordered by b'idb_cmp1' \(Chromium's IndexedDB\), but only .* open the store with the program that")


def test_keys_in_an_order_that_nobody_knows_are_refused() -> None:
    made = good()
    made.edit.comparator = b"leveldb.Reverse"
    made.manifest()
    refused(made, "ordered by b'leveldb.Reverse', but only b'leveldb.BytewiseComparator' is known here: open the store")


def test_the_dump_shows_a_store_with_another_comparator() -> None:
    """The edits and the logs' batches need no order."""
    made = good()
    made.edit.comparator = b"idb_cmp1"
    made.manifest()
    lines = "\n".join(LsmStore.dump("/db", made.env))
    assert "comparator idb_cmp1" in lines and "level 1 gets 4" in lines and "put 'l' => '12'" in lines
    assert "FOREIGN: " in lines and "DAMAGED" not in lines


# ---- goleveldb ------------------------------------------------------------------------------------------------------


def test_a_table_that_is_added_twice_is_one_table() -> None:
    """goleveldb begins a manifest with a record of the edit that adds the replayed table, and of all tables after it."""
    made = good()
    again = VersionEdit(added=[(0, made.edit.added[1][1]), (0, made.edit.added[1][1])])
    made.manifest(made.edit.encode(), again.encode())
    with made.open() as store:
        assert [file.number for file in store.core.versions.current.levels[0]].count(5) == 1
        assert dict(store.scan()) == {b"a": b"new", b"c": b"3", b"l": b"12", b"x": b"11"}
        assert store.check() == []
        store.compact()
        assert dict(store.scan()) == {b"a": b"new", b"c": b"3", b"l": b"12", b"x": b"11"}


@pytest.mark.parametrize("change", ["size", "smallest", "largest"])
def test_a_table_that_is_added_twice_and_not_alike_is_damage(change: str) -> None:
    made = good()
    _, file = made.edit.added[1]
    values = {"size": file.size_bytes, "smallest": file.smallest, "largest": file.largest}
    values[change] = {"size": 1, "smallest": internal_key(b"A", 1, VALUE), "largest": internal_key(b"z", 1, VALUE)}[
        change
    ]
    made.edit.added.append((0, FileMeta(5, *values.values())))  # type: ignore[arg-type]
    made.manifest()
    with pytest.raises(CorruptionError, match="a table is listed twice, and not alike"):
        made.open()


@pytest.mark.parametrize("level", [7, 8, 40])
@pytest.mark.parametrize("what", ["added", "deleted", "compact_pointers"])
def test_levels_below_leveldbs_last_are_said_to_be_goleveldbs(level: int, what: str) -> None:
    made = good()
    entry = {"added": made.edit.added[0][1], "deleted": 4, "compact_pointers": internal_key(b"a", 1, VALUE)}[what]
    edit = dataclasses.replace(VersionEdit(), **{what: [(level, entry)]})
    made.manifest(made.edit.encode(), edit.encode())
    refused(
        made, f"level {level}, which only goleveldb makes .LevelDB's levels are 0 to 6.: open the store with goleveldb"
    )
    lines = "\n".join(LsmStore.dump("/db", made.env))
    assert f"level {level} " in lines and "FOREIGN: " in lines and "DAMAGED" not in lines
