"""engines/lsm/sstable.py: gets, scans and damage, of the plain table and of the fast one."""

from __future__ import annotations

import random
import struct
from typing import Any

import pytest

from engines.errors import CorruptionError, ForeignFormat
from engines.lsm import snappy
from engines.lsm.cache import BlockCache
from engines.lsm.fast.sstable import FastTable
from engines.lsm.keys import ABSENT
from engines.lsm.merge import visible
from engines.lsm.sstable import Table, add_trailer
from engines.lsm.statistics import Counters
from engines.simenv import SimEnv
from tests.lsm.tables import History, build, opened, rows_of, visible_at

# LevelDB's bytes (tests/interop compares whole tables): "a"@2 deleted, "apple"@1 = red, "b"@3 = "", a block for two
GOLDEN_TABLE = (
    "00 09 00 61 00 02 00 00 00 00 00 00 01 0c 03 70 70 6c 65 01 01 00 00 00 00 00 00 72 65 64 00 00 00 00 01 00 00 00"
)


@pytest.fixture(params=[Table, FastTable], ids=["plain", "fast"])
def table_class(request: pytest.FixtureRequest) -> type[Table]:
    """Both are asked the same questions."""
    chosen: type[Table] = request.param
    return chosen


TABLES: dict[str, dict[str, Any]] = {
    "as it comes": {},
    "a block for each entry": {"block_bytes": 1, "filter": "leveldb"},
    "every key in full": {"block_restart_interval": 1, "block_bytes": 200},
    "one restart point": {"block_restart_interval": 1024, "filter": None},
    "LevelDB's bytes": {"block_bytes": 100, "filter": "leveldb", "table_statistics": False},
    "no cache": {"block_bytes": 300},
}
if snappy.can_compress():
    TABLES["snappy"] = {"compression": "snappy", "block_bytes": 300}


@pytest.mark.parametrize("name", TABLES)
def test_a_table_answers_as_a_list_of_versions(name: str, table_class: type[Table], rng: random.Random) -> None:
    """table_test.cc: gets (cold, warm and hot), scans both ways with bounds, rows; as of every sequence."""
    history: History = [
        (b"k%02d" % (rng.randrange(30) * 2), at, rng.choice((None, b"v" * rng.randrange(40)))) for at in range(1, 250)
    ]
    env = SimEnv()
    info = build(env, history, **TABLES[name])
    table = opened(env, cache_bytes=0 if name == "no cache" else 1 << 20, table=table_class)
    rows = rows_of(history)
    assert list(table.all_rows()) == rows
    assert (info.smallest, info.largest) == (rows[0].internal_key, rows[-1].internal_key)
    for moment in (0, 1, 90, 200, 249, 300):
        wanted = visible_at(history, moment)
        for _ in range(3):
            for key in [b"k%02d" % number for number in range(62)]:
                assert table.get(key, moment) == wanted.get(key, ABSENT)
        for start, stop in ((b"", None), (b"k10", b"k30"), (b"k11", b"k31"), (b"k20", b"k20"), (b"z", None)):
            pairs = [(key, value) for key, value in sorted(wanted.items()) if start <= key and (not stop or key < stop)]
            for reverse in (False, True):
                assert list(visible(table.rows(start, stop, reverse), moment)) == pairs[:: -1 if reverse else 1]


def test_a_tables_bytes() -> None:
    """Golden: two data blocks, metaindex, index and footer, as LevelDB writes them."""
    env = SimEnv()
    build(
        env,
        [(b"a", 2, None), (b"apple", 1, b"red"), (b"b", 3, b"")],
        filter=None,
        table_statistics=False,
        block_bytes=36,
    )
    first = bytes.fromhex(GOLDEN_TABLE)
    second = bytes.fromhex("00 09 00 62 01 03 00 00 00 00 00 00 00 00 00 00 01 00 00 00")
    meta = bytes.fromhex("00 00 00 00 01 00 00 00")
    # the separator "apple"@1 can't be shortened below "b": it ends the block as it is; "b"@3 ends the table
    index = bytes.fromhex(
        "00 0d 02 61 70 70 6c 65 01 01 00 00 00 00 00 00 00 26 "
        "00 09 02 62 01 03 00 00 00 00 00 00 2b 14 00 00 00 00 12 00 00 00 02 00 00 00"
    )
    footer = bytes.fromhex("44 08 51 2c") + bytes(36) + bytes.fromhex("57 fb 80 8b 24 75 47 db")
    assert env.files()["/t"] == b"".join([*(add_trailer(block, 0) for block in (first, second, meta, index)), footer])


def test_a_scan_stops_in_time(table_class: type[Table]) -> None:
    """No block after the bound is read."""
    env = SimEnv()
    build(env, [(b"%05d" % at, at + 1, b"v" * 90) for at in range(4_000)])
    table = opened(env, table=table_class)
    counted = table.counters.blocks_read
    assert len(list(table.rows(b"00001", b"00009"))) == 8
    assert table.counters.blocks_read - counted <= 2


def test_a_blocks_trailer() -> None:
    """Golden: the compression's byte, and the masked checksum of both."""
    assert add_trailer(b"abc", 0).hex(" ") == "61 62 63 00 00 54 1b bf"


def test_a_key_with_many_versions_lies_in_several_blocks(table_class: type[Table]) -> None:
    """Rule 4: every version is found, and each scan has the key once."""
    env = SimEnv()
    history: History = [(b"a", 1, b"first"), *[(b"k", at, b"%d" % at) for at in range(2, 40)], (b"z", 40, b"last")]
    build(env, history, block_bytes=60)
    table = opened(env, table=table_class)
    assert table.blocks > 5
    for moment in range(41):
        wanted = sorted(visible_at(history, moment).items())
        assert table.get(b"k", moment) == dict(wanted).get(b"k", ABSENT)
        for reverse in (False, True):
            found = list(visible(table.rows(reverse=reverse), moment))
            assert found == wanted[:: -1 if reverse else 1]


def test_every_flipped_byte_of_a_table_is_found(table_class: type[Table]) -> None:
    """Rule 3. Only the footer's zeros mean nothing: the last byte of a handle may go on into them (0x6e is 0xee 0x00)."""
    env = SimEnv()
    history: History = [(b"%03d" % at, at + 1, b"v" * 9) for at in range(40)]
    build(env, history, block_bytes=200, block_restart_interval=4)
    good = env.files()["/t"]
    rows = list(opened(env, table=table_class).rows())
    unnoticed = []
    for at in range(len(good)):
        env.poke("/t", good[:at] + bytes((good[at] ^ 0x80,)) + good[at + 1 :])
        try:
            assert list(opened(env, table=table_class).rows()) == rows
            unnoticed.append(at)
        except CorruptionError as error:
            assert error.path == "/t"
    handles_end = len(good) - 48 + len(good[-48:-8].rstrip(b"\x00"))
    assert unnoticed == list(range(handles_end - 1, len(good) - 8))
    assert env.open_files == 0


def test_a_cut_or_extended_table_is_refused() -> None:
    """google/leveldb#333: a table of no bytes after a power cut."""
    env = SimEnv()
    build(env, [(b"a", 1, b"1")])
    good = env.files()["/t"]
    for bad in (b"", good[:-1], good[:40], good + b"\x00"):
        env.poke("/t", bad)
        with pytest.raises(CorruptionError):
            opened(env)
        with pytest.raises(CorruptionError, match=f"a table of {len(good)} bytes was expected"):
            file = env.open("/t", "r")
            try:
                Table(file, len(good), BlockCache(0), Counters())
            finally:
                file.close()


def test_an_unknown_compression_is_refused() -> None:
    """Not as damage: the checksum is right."""
    env = SimEnv()
    build(env, [(b"a", 1, b"1")], filter=None, table_statistics=False)
    good = env.files()["/t"]
    size = struct.unpack_from("<B", good, len(good) - 48)[0] - 5  # the metaindex begins after the one data block
    env.poke("/t", add_trailer(good[:size], 7) + good[size + 5 :])
    table = opened(env)
    with pytest.raises(ForeignFormat, match=r"/t: the block at byte 0 has the compression 7, and 0 .none., 1 .snappy."):
        table.get(b"a", 5)


def test_a_filter_saves_reads(table_class: type[Table]) -> None:
    """db_test.cc, BloomFilter: N present keys cost at most 1.02 N reads, N missing ones at most 0.03 N."""
    env = SimEnv()
    keys = [b"%05d" % at for at in range(2_000)]
    for kind in ("bloom", "leveldb"):
        build(env, [(key, at + 1, key) for at, key in enumerate(keys)], filter=kind)
        table = opened(env, cache_bytes=0, table=table_class)
        before = table.counters.blocks_read
        assert all(table.get(key, 9_999) == key for key in keys)
        present = table.counters.blocks_read - before
        assert all(table.get(key + b".missing", 9_999) is ABSENT for key in keys)
        missing = table.counters.blocks_read - before - present
        assert len(keys) <= present <= 1.02 * len(keys)
        assert missing <= 0.03 * len(keys)
        assert table.counters.filter_hits == len(keys) - missing


def test_offsets_ascend() -> None:
    env = SimEnv()
    info = build(env, [(b"%05d" % at, at + 1, b"v" * 90) for at in range(1_000)])
    table = opened(env)
    offsets = [table.offset_of(b"%05d" % at) for at in range(0, 1_000, 10)]
    assert offsets == sorted(offsets)
    assert offsets[0] == 0
    assert abs(offsets[50] - info.size_bytes / 2) < 0.1 * info.size_bytes
    assert table.offset_of(b"z") >= offsets[-1]
