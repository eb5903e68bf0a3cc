"""Hand-made bad directories: every trap of LevelDB's format is refused when the store is opened, or found by `check`.

LevelDB refuses some of these, and of others it loses or hides data without a word: a table's number given out again, a
last sequence that is too low, ranges that are too narrow, older data above newer. Here each is CorruptionError at open
(then the directory is as it was, byte for byte) or a sentence of `check` (then every table is still there as it was).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

import engines
from engines.coding import put_varint
from engines.errors import CorruptionError, NoSuchStore
from engines.lsm.keys import ABSENT, VALUE, internal_key
from engines.lsm.sstable import add_trailer
from engines.lsm.state import Scan
from engines.lsm.version import FileMeta, VersionEdit
from engines.lsm.wal import encode_batch
from engines.simenv import SimEnv
from tests.lsm.hand_made import Directory, good


def test_a_hand_made_directory_that_is_right_is_read() -> None:
    """Otherwise the traps below would show nothing."""
    made = good()
    made.manifest()
    with made.open() as store:
        assert dict(store.scan()) == {b"a": b"new", b"c": b"3", b"l": b"12", b"x": b"11"}
        assert store.check() == []


# ---- refused at open ------------------------------------------------------------------------------------------------


def _without(name: str) -> Callable[[Directory], None]:
    def spoil(made: Directory) -> None:
        made.manifest(dataclasses.replace(made.edit, **{name: None}).encode())

    return spoil


def _current(content: bytes) -> Callable[[Directory], None]:
    def spoil(made: Directory) -> None:
        made.manifest()
        made.env.poke("/db/CURRENT", content)

    return spoil


def _edit(**changes: Any) -> Callable[[Directory], None]:
    def spoil(made: Directory) -> None:
        made.edit = dataclasses.replace(made.edit, **changes)
        made.manifest()

    return spoil


def _appended(record: bytes) -> Callable[[Directory], None]:
    def spoil(made: Directory) -> None:
        made.manifest(made.edit.encode(), record)

    return spoil


def _gone(name: str) -> Callable[[Directory], None]:
    def spoil(made: Directory) -> None:
        made.manifest()
        made.env.unlink(f"/db/{name}")

    return spoil


def _file(level: int, number: int, smallest: bytes, largest: bytes) -> Callable[[Directory], None]:
    def spoil(made: Directory) -> None:
        made.edit.added.append((level, FileMeta(number, 10, smallest, largest)))
        made.write(f"{number:06d}.ldb", b"0123456789")
        made.manifest()

    return spoil


def _table_becomes_a_log(made: Directory) -> None:
    """LevelDB looks for any file of the number."""
    made.manifest()
    made.env.rename("/db/000005.ldb", "/db/000005.log")


def _log(*records: bytes, number: int = 6) -> Callable[[Directory], None]:
    def spoil(made: Directory) -> None:
        made.log(number, *records)
        made.manifest()

    return spoil


def _damaged_log(made: Directory) -> None:
    made.log(6, *[encode_batch(12 + at, [(b"k%d" % at, b"v" * 20)]) for at in range(9)])
    made.manifest()
    content = made.env.files()["/db/000006.log"]
    made.env.poke("/db/000006.log", content[:30] + b"\xff" + content[31:])


def _damaged_manifest(made: Directory) -> None:
    made.manifest(made.edit.encode(), VersionEdit(log_number=6).encode())
    content = made.env.files()["/db/MANIFEST-000001"]
    made.env.poke("/db/MANIFEST-000001", content[:30] + b"\xff" + content[31:])


def _lost_log(made: Directory) -> None:
    """Log 6 says 12 and 13, log 7 is gone, log 8 goes on with 20."""
    made.log(8, encode_batch(20, [(b"m", b"20")]))
    made.manifest()


KEY_A, KEY_C, KEY_X = (internal_key(key, 5, VALUE) for key in (b"a", b"c", b"x"))
REFUSED: dict[str, tuple[Callable[[Directory], None], str]] = {
    "CURRENT without a newline": (_current(b"MANIFEST-000001"), "a newline were expected"),
    "an empty CURRENT": (_current(b""), "a newline were expected"),
    "a CURRENT of zeros": (_current(bytes(16)), "a newline were expected"),
    "CURRENT points to a log": (_current(b"000006.log\n"), "the name of a manifest"),
    "CURRENT points outside": (_current(b"../MANIFEST-000001\n"), "the name of a manifest"),
    "CURRENT points to nothing": (_current(b"MANIFEST-000077\n"), "which does not exist"),
    "CURRENT is gone": (_gone("CURRENT"), "it is missing, although 000004.ldb is there"),
    "the manifest is gone": (_gone("MANIFEST-000001"), "which does not exist"),
    "no next file number": (_without("next_file_number"), "no meta-nextfile entry"),
    "no log number": (_without("log_number"), "no meta-lognumber entry"),
    "no last sequence": (_without("last_sequence"), "no last-sequence-number entry"),
    "an empty manifest": (lambda made: made.manifest(b""), "no meta-nextfile entry"),
    "a tag of nobody's": (_appended(b"\x08\x01"), "the tag 8"),
    "a tag of ours": (_appended(put_varint(150) + b"\x00"), "the tag 150"),
    "an edit that is cut": (_appended(b"\x07\x00\x05"), "the version edit is damaged"),
    "a damaged manifest": (_damaged_manifest, "the checksum"),
    "a table is gone": (_gone("000005.ldb"), "1 missing files, for example table 5"),
    "a log has the table's number": (_table_becomes_a_log, "1 missing files, for example table 5"),
    "a table on two levels": (_file(2, 4, KEY_A, KEY_C), "listed twice"),
    "the next number is a table's": (_edit(next_file_number=5), "the next flush would overwrite it"),
    "overlapping tables": (_file(1, 7, KEY_C, KEY_X), "files of a level must not overlap"),
    "a table around another one": (_file(1, 7, KEY_A, KEY_X), "files of a level must not overlap"),
    "a key without a trailer": (_file(2, 7, b"short", KEY_X), "5 bytes, at least 8 are needed"),
    "a table that ends before it begins": (_file(2, 7, KEY_X, KEY_A), "after its end"),
    "the log number is too high": (_edit(log_number=9), "000009.log does not exist, although the manifest asks"),
    "the log is gone": (_gone("000006.log"), "000006.log does not exist"),
    "a batch counts wrong": (
        _log(encode_batch(12, [(b"a", b"1")])[:8] + b"\x02" + encode_batch(12, [(b"a", b"1")])[9:]),
        "announces 2 operations, and has 1",
    ),
    "a record too short for a batch": (_log(b"eleven byte"), "at least 12 bytes"),
    "an operation of a third kind": (_log(encode_batch(12, [])[:8] + b"\x01\x00\x00\x00\x02\x01a"), "0 .delete. or 1"),
    "a damaged log": (_damaged_log, "no torn tail"),
    "a gap in the log": (
        _log(encode_batch(12, [(b"a", b"1")]), encode_batch(14, [(b"a", b"1")])),
        "sequence 13 was expected",
    ),
    "the log begins too late": (_log(encode_batch(13, [(b"a", b"1")])), "the log goes on at sequence 13, but 12"),
    "a log between two logs is gone": (_lost_log, "the log goes on at sequence 20, but 14"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_and_left_as_it_is(name: str) -> None:
    """CorruptionError, with a path in the directory; not a byte is changed; and the same again at the next try."""
    spoil, why = REFUSED[name]
    made = good()
    spoil(made)
    before = made.content()
    for read_only in (False, True, False):
        with pytest.raises(CorruptionError, match=why) as caught:
            engines.open("/db", "lsm", env=made.env, background=False, read_only=read_only)
        assert caught.value.path.startswith("/db/")
        assert made.content() == before
    assert made.env.open_files == 0


def test_where_nothing_is_nothing_is_made() -> None:
    env = SimEnv()
    for options in ({"create": False}, {"read_only": True}):
        with pytest.raises(NoSuchStore):
            engines.open("/db", "lsm", env=env, **options)
        assert env.files() == {}
        assert not env.exists("/db")


# ---- found by check -------------------------------------------------------------------------------------------------


def _last_sequence_too_low(made: Directory) -> None:
    """LevelDB: every second entry invisible. Without statistics, as LevelDB writes its tables."""
    made.table(2, 7, [(b"k%02d" % at, 20 + at, b"v") for at in range(10)], table_statistics=False)


def _narrow_first(made: Directory) -> None:
    level, file = made.edit.added[0]
    made.edit.added[0] = level, FileMeta(4, file.size_bytes, internal_key(b"b", 2, VALUE), file.largest)


def _narrow_last(made: Directory) -> None:
    level, file = made.edit.added[0]
    made.edit.added[0] = level, FileMeta(4, file.size_bytes, file.smallest, internal_key(b"b", 2, VALUE))


def _older_above(made: Directory) -> None:
    """Level 0: table 7 is read before table 5, and has an older "x"."""
    made.table(0, 7, [(b"x", 9, b"older")])


def _older_level_above(made: Directory) -> None:
    made.table(3, 7, [(b"c", 8, b"newer, and two levels below")])


def _same_version_twice(made: Directory) -> None:
    """As if an input of a compaction had outlived it."""
    made.table(2, 7, [(b"c", 3, b"3")])


def _out_of_order(made: Directory) -> None:
    made.table(2, 7, [(b"m", 5, b"1"), (b"o", 5, b"2"), (b"n", 5, b"3"), (b"p", 5, b"4")], sort=False)


def _twice_the_same(made: Directory) -> None:
    made.table(2, 7, [(b"m", 5, b"1"), (b"m", 5, b"2"), (b"p", 5, b"4")], sort=False)


def _forgetful_filter(kind: str) -> Callable[[Directory], None]:
    """LevelDB's get() finds nothing of the table, and its iterator everything."""

    def spoil(made: Directory) -> None:
        made.table(2, 7, [(b"m%02d" % at, 5, b"1") for at in range(50)], forget=True, filter=kind)

    return spoil


def _lying_statistics(**lies: int) -> Callable[[Directory], None]:
    """What a compaction believes: a table without tombstones, or with older versions than it has."""

    def spoil(made: Directory) -> None:
        made.table(2, 7, [(b"m", 9, b"1"), (b"n", 8, None)], lies=lies)

    return spoil


def _wrong_size(made: Directory) -> None:
    level, file = made.edit.added[0]
    made.edit.added[0] = level, FileMeta(4, file.size_bytes - 1, file.smallest, file.largest)


def _unreadable_compression(made: Directory) -> None:
    """It says zlib, and isn't."""
    content = made.env.files()["/db/000004.ldb"]
    size = next(size for size in range(len(content)) if add_trailer(content[:size], 0) == content[: size + 5])
    made.env.poke("/db/000004.ldb", add_trailer(content[:size], 2) + content[size + 5 :])


def _old_log_again(made: Directory) -> None:
    """The manifest's log number is too low, and a log is there that is in a table already: its versions of "a" and
    "x" become a newer table than the one that has newer versions."""
    made.log(3, encode_batch(1, [(b"a", b"old"), (b"x", b"old")]))
    made.edit.log_number = 3
    made.env.unlink("/db/000006.log")


FOUND: dict[str, tuple[Callable[[Directory], None], str]] = {
    "a last sequence that is too low": (_last_sequence_too_low, "newer versions are invisible"),
    "a range that begins too late": (_narrow_first, "but the manifest says"),
    "a range that ends too soon": (_narrow_last, "but the manifest says"),
    "older data in a newer table": (_older_above, "which is read first"),
    "older data on a higher level": (_older_level_above, "which is read first"),
    "a version in two tables": (_same_version_twice, "which is read first"),
    "keys out of order": (_out_of_order, "is not above the key before it"),
    "a key twice": (_twice_the_same, "is not above the key before it"),
    "our filter denies what is there": (_forgetful_filter("bloom"), "the filter denies"),
    "LevelDB's filter denies what is there": (_forgetful_filter("leveldb"), "the filter denies"),
    "statistics that count wrong": (_lying_statistics(entries=3), "says that it has 3 entries and 1 deletions"),
    "statistics without the tombstones": (_lying_statistics(deletions=0), "says that it has 2 entries and 0 deletions"),
    "statistics that make it older": (_lying_statistics(max_sequence=8), "says that its sequences end at 8"),
    "statistics that make it newer": (_lying_statistics(min_sequence=9), "says that its sequences begin at 9"),
    "a size that is wrong": (_wrong_size, "bytes was expected"),
    "a compression that nobody reads": (_unreadable_compression, "the block's compressed bytes are damaged"),
    "a log that was flushed already": (_old_log_again, "which is read first"),
}


@pytest.mark.parametrize("name", FOUND)
def test_check_finds_it(name: str) -> None:
    """What opens nevertheless is found, and no table is touched. (With a last sequence that fits what the log has.)"""
    spoil, why = FOUND[name]
    made = good()
    made.env.unlink("/db/000006.log")
    made.log(6)
    spoil(made)
    made.manifest()
    before = {path: content for path, content in made.content().items() if path.endswith(".ldb")}
    with made.open() as store:
        findings = store.check()
        assert any(why in finding for finding in findings), findings
    assert before.items() <= made.content().items()


def test_a_table_that_knows_better_than_the_manifest_is_refused_when_it_is_read() -> None:
    """A last sequence that is too low, and a table with statistics: a get raises rather than answers too old."""
    made = good()
    made.table(2, 7, [(b"k", 50, b"v")])
    made.manifest()
    with made.open() as store:
        with pytest.raises(CorruptionError, match="newer versions would be invisible"):
            store.get(b"k")
        assert any("newer versions would be invisible" in finding for finding in store.check())
        assert store.get(b"a") == b"new", "what is elsewhere can be read"


# ---- what looks wrong and is right ----------------------------------------------------------------------------------


def test_a_manifest_without_a_comparator_is_accepted() -> None:
    """LevelDB does, too."""
    made = good()
    made.edit.comparator = None
    made.manifest()
    with made.open() as store:
        assert store.get(b"a") == b"new"


def test_a_last_sequence_ahead_of_the_log_loses_nothing() -> None:
    """LevelDB writes such manifests itself; goleveldb then drops what is in the log (google/leveldb#750)."""
    made = good()
    made.edit.last_sequence = 500
    made.manifest()
    with made.open() as store:
        assert (store.get(b"l"), store.get(b"b")) == (b"12", None)
        store.put(b"l", b"newer")
        assert store.get(b"l") == b"newer"
        assert store.describe()["last_sequence"] == 501
        assert store.check() == []


def test_we_write_exactly_the_last_flushed_sequence() -> None:
    """So that goleveldb reads all of the log: never what is only in the log."""
    made = Directory()
    with made.open() as store:
        for at in range(5):
            store.put(b"%d" % at, b"flushed")
        store.core.rotate()
        for at in range(7):
            store.put(b"%d" % at, b"in the log")
        store.background.do_all()
        assert store.core.frozen == []
        assert store.core.versions.last_sequence == 5
        assert store.describe()["last_sequence"] == 12


def test_numbers_of_any_file_are_not_given_out_again() -> None:
    """A next file number below a log, a manifest or a foreign table: raised, and the names are left to who has them."""
    made = good()
    made.write("000033.log.txt", b"somebody's notes")
    made.write("000099.vlog", b"another engine's")
    made.write("000031.ldb", b"an orphan of a crash")
    made.log(30)
    made.edit.next_file_number = 6
    made.manifest()
    with made.open() as store:
        assert store.core.versions.next_file_number > 31
        assert store.core.log_number > 31
        assert store.get(b"l") == b"12"
    names = {path.rpartition("/")[2] for path in made.content()}
    assert {"000033.log.txt", "000099.vlog"} <= names
    assert not {"000031.ldb", "000006.log", "MANIFEST-000001"} & names, "what nobody needs is deleted"


def test_old_leveldbs_name_of_tables_is_read() -> None:
    made = good()
    made.env.rename("/db/000004.ldb", "/db/000004.sst")
    made.manifest()
    with made.open() as store:
        assert store.get(b"c") == b"3"
        assert store.check() == []
        store.compact()
        assert not made.env.exists("/db/000004.sst")


def test_old_leveldbs_user_key_in_two_tables_is_read() -> None:
    """google/leveldb#320: never written here, but a store of before 2020 may have it."""
    made = Directory()
    made.table(1, 4, [(b"a", 3, b"a3"), (b"k", 9, b"k9"), (b"k", 8, None)])
    made.table(1, 5, [(b"k", 7, b"k7"), (b"k", 2, b"k2"), (b"z", 4, b"z4")])
    made.edit.last_sequence = 9
    made.log(6)
    made.edit.log_number = 6
    made.manifest()
    with made.open() as store:
        expected = {b"a": b"a3", b"k": b"k9", b"z": b"z4"}
        assert dict(store.scan()) == expected
        assert list(store.scan(reverse=True)) == sorted(expected.items(), reverse=True)
        assert store.get(b"k") == b"k9"
        state = store.core.state
        for moment, value in ((9, b"k9"), (8, None), (7, b"k7"), (6, b"k2"), (2, b"k2"), (1, ABSENT)):
            assert store.core.lookup(state, store.core.tables, b"k", moment) == value
            for reverse in (False, True):
                pairs = dict(store.core.pairs(state, Scan(b"k", b"l", moment, reverse), store))
                assert pairs == ({b"k": value} if isinstance(value, bytes) else {})
        assert store.check() == []
        store.compact()
        assert dict(store.scan()) == expected
        files = [file for _, file in store.core.versions.current.files()]
        assert sum(file.first <= b"k" <= file.last for file in files) == 1
