"""Tables, the two caches, and the merge of many sources: what a read goes through between the memtable and the disk."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.coding import DecodeError
from engines.errors import CorruptionError, ForeignFormat
from engines.kvstore import Stats
from engines.lsm import snappy
from engines.lsm.cache import BlockCache, TableCache
from engines.lsm.files import parse
from engines.lsm.iterator import merge_chunks, merge_rows, whole_keys
from engines.lsm.keys import ABSENT, DELETION, VALUE, internal_key, order
from engines.lsm.memtable import Chunk, Rows
from engines.lsm.options import Options
from engines.lsm.sstable import Table, seal_block
from engines.lsm.statistics import Counters, TableInfo, TableStatistics
from engines.lsm.table_builder import TableBuilder
from engines.lsm.version import FileMeta
from engines.simenv import SimEnv

History = list[tuple[bytes, int, bytes | None]]  # user key, sequence, value or None

# LevelDB's bytes (tests/interop compares whole tables): "a"@2 deleted, "apple"@1 = red, "b"@3 = "", a block for two
GOLDEN_TABLE = (
    "00 09 00 61 00 02 00 00 00 00 00 00 01 0c 03 70 70 6c 65 01 01 00 00 00 00 00 00 72 65 64 00 00 00 00 01 00 00 00"
)


def rows_of(history: History) -> Rows:
    """The rows of a table, in order."""
    ordered = sorted(
        (
            (key, internal_key(key, at, DELETION if value is None else VALUE), value or b"")
            for key, at, value in history
        ),
        key=lambda row: order(row[1]),
    )
    return [row[0] for row in ordered], [row[1] for row in ordered], [row[2] for row in ordered]


def build(env: SimEnv, history: History, path: str = "/t", **options: Any) -> TableInfo:
    """Writes a table."""
    file = env.open(path, "w")
    builder = TableBuilder(file, Options(**options), None, compression=options.get("compression"))
    keys, internal_keys, values = rows_of(history)
    at = 0
    while at < len(keys):
        at = builder.add(keys, internal_keys, values, at)
    info = builder.finish("test")
    file.close()
    return info


def opened(env: SimEnv, path: str = "/t", cache_bytes: int = 1 << 20) -> Table:
    """Opens it, with counters of its own."""
    file = env.open(path, "r")
    try:
        return Table(file, file.size(), BlockCache(cache_bytes), Counters())
    except BaseException:
        file.close()
        raise


def visible(history: History, moment: int) -> dict[bytes, bytes | None]:
    """Of each key the newest version not above `moment`."""
    return {key: value for key, at, value in sorted(history, key=lambda row: row[1]) if at <= moment}


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
def test_a_table_answers_as_a_list_of_versions(name: str, rng: random.Random) -> None:
    """table_test.cc: gets (cold, warm and hot), scans both ways with bounds, rows; as of every sequence."""
    history: History = [
        (b"k%02d" % (rng.randrange(30) * 2), at, rng.choice((None, b"v" * rng.randrange(40)))) for at in range(1, 250)
    ]
    env = SimEnv()
    info = build(env, history, **TABLES[name])
    table = opened(env, cache_bytes=0 if name == "no cache" else 1 << 20)
    assert [row for _, rows, _ in table.row_chunks() for row in rows] == rows_of(history)[1]
    assert (info.smallest, info.largest) == (rows_of(history)[1][0], rows_of(history)[1][-1])
    for moment in (0, 1, 90, 200, 249, 300):
        wanted = visible(history, moment)
        for _ in range(3):
            for key in [b"k%02d" % number for number in range(62)]:
                assert table.get(key, moment) == wanted.get(key, ABSENT)
        for start, stop in ((b"", None), (b"k10", b"k30"), (b"k11", b"k31"), (b"k20", b"k20"), (b"z", None)):
            pairs = [(key, value) for key, value in sorted(wanted.items()) if start <= key and (not stop or key < stop)]
            for reverse in (False, True):
                got = [
                    pair for chunk in table.chunks(start, stop, moment, reverse) for pair in zip(*chunk, strict=True)
                ]
                assert got == pairs[:: -1 if reverse else 1]


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
    assert env.files()["/t"] == b"".join([*(seal_block(block, 0) for block in (first, second, meta, index)), footer])


def test_a_blocks_trailer() -> None:
    """Golden: the compression's byte, and the masked checksum of both."""
    assert seal_block(b"abc", 0).hex(" ") == "61 62 63 00 00 54 1b bf"


def test_a_tables_statistics() -> None:
    """Golden, and what they say of a table with two versions of a key and one tombstone."""
    assert TableStatistics(300, 2, 1, 1 << 20, 5, 6).encode().hex(" ") == "ac 02 02 01 80 80 40 05 06"
    env = SimEnv()
    build(env, [(b"a", 2, b"xx"), (b"a", 1, b"y"), (b"b", 9, None)])
    statistics = opened(env).statistics
    assert statistics == TableStatistics(3, 1, 1, 9, 3, 3, 1)
    assert TableStatistics.decode(statistics.encode() + b"\x07more of a later version") == statistics
    with pytest.raises(DecodeError):
        TableStatistics.decode(statistics.encode()[:-2])
    assert TableStatistics.decode(statistics.encode()[:-1]) == TableStatistics(3, 1, 1, 9, 3, 3), (
        "of the first versions"
    )


def test_a_key_with_many_versions_lies_in_several_blocks() -> None:
    """Rule 4: every version is found, and each scan has the key once."""
    env = SimEnv()
    history: History = [(b"a", 1, b"first"), *[(b"k", at, b"%d" % at) for at in range(2, 40)], (b"z", 40, b"last")]
    build(env, history, block_bytes=60)
    table = opened(env)
    assert table.blocks > 5
    for moment in range(41):
        wanted = sorted(visible(history, moment).items())
        assert table.get(b"k", moment) == dict(wanted).get(b"k", ABSENT)
        for reverse in (False, True):
            chunks = list(table.chunks(b"", None, moment, reverse))
            assert [pair for chunk in chunks for pair in zip(*chunk, strict=True)] == wanted[:: -1 if reverse else 1]


def test_every_flipped_byte_of_a_table_is_found() -> None:
    """Rule 3. Only the footer's zeros mean nothing: the last byte of a handle may go on into them (0x6e is 0xee 0x00)."""
    env = SimEnv()
    history: History = [(b"%03d" % at, at + 1, b"v" * 9) for at in range(40)]
    build(env, history, block_bytes=200, block_restart_interval=4)
    good = env.files()["/t"]
    rows = list(opened(env).row_chunks())
    unnoticed = []
    for at in range(len(good)):
        env.poke("/t", good[:at] + bytes((good[at] ^ 0x80,)) + good[at + 1 :])
        try:
            assert list(opened(env).row_chunks()) == rows
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
    size = struct.unpack_from("<B", good, len(good) - 48)[0] - 5  # the metaindex begins behind the one data block
    env.poke("/t", seal_block(good[:size], 7) + good[size + 5 :])
    table = opened(env)
    with pytest.raises(ForeignFormat, match=r"/t: the block at byte 0 has the compression 7, and 0 .none., 1 .snappy."):
        table.get(b"a", 5)


def test_a_block_is_decoded_at_its_second_reading() -> None:
    """cache.py, rule 2; and the file is read once."""
    env = SimEnv()
    build(env, [(b"a", 1, b"1"), (b"b", 2, b"2")])
    table = opened(env)
    counters, before = table._counters, table._counters.blocks_read
    cache = table._cache
    for kind in ("bytes", "Block", "Block"):
        assert table.get(b"b", 9) == b"2"
        assert type(cache.find(table._first_key)).__name__ == kind
    assert (counters.blocks_read - before, counters.cache_misses, counters.block_lookups) == (1, 1, 3)


def test_a_filter_saves_reads() -> None:
    """db_test.cc, BloomFilter: N present keys cost at most 1.02 N reads, N missing ones at most 0.03 N."""
    env = SimEnv()
    keys = [b"%05d" % at for at in range(2_000)]
    for kind in ("bloom", "leveldb"):
        build(env, [(key, at + 1, key) for at, key in enumerate(keys)], filter=kind)
        table = opened(env, cache_bytes=0)
        before = table._counters.blocks_read
        assert all(table.get(key, 9_999) == key for key in keys)
        present = table._counters.blocks_read - before
        assert all(table.get(key + b".missing", 9_999) is ABSENT for key in keys)
        missing = table._counters.blocks_read - before - present
        assert len(keys) <= present <= 1.02 * len(keys)
        assert missing <= 0.03 * len(keys)
        assert table._counters.filter_hits == len(keys) - missing


def test_a_scan_reads_ahead_and_stops_in_time() -> None:
    """Many blocks with one read; none behind the bound."""
    env = SimEnv()
    build(env, [(b"%05d" % at, at + 1, b"v" * 90) for at in range(4_000)])
    table = opened(env)
    blocks, reads, counted = table.blocks, env.reads, table._counters.blocks_read
    assert sum(len(keys) for keys, _ in table.chunks(b"", None, 9_999, False)) == 4_000
    assert env.reads - reads < blocks / 10
    assert table._counters.blocks_read - counted == blocks > 80
    table = opened(env)
    counted = table._counters.blocks_read
    assert len(list(table.chunks(b"00001", b"00009", 9_999, False))) == 1
    assert table._counters.blocks_read - counted <= 2


def test_offsets_ascend() -> None:
    env = SimEnv()
    info = build(env, [(b"%05d" % at, at + 1, b"v" * 90) for at in range(1_000)])
    table = opened(env)
    offsets = [table.offset_of(b"%05d" % at) for at in range(0, 1_000, 10)]
    assert offsets == sorted(offsets)
    assert offsets[0] == 0
    assert abs(offsets[50] - info.size_bytes / 2) < 0.1 * info.size_bytes
    assert table.offset_of(b"z") >= offsets[-1]


# ---- caches ---------------------------------------------------------------------------------------------------------


def test_the_block_cache_stays_below_its_capacity(rng: random.Random) -> None:
    """Rule 3, whatever is added and asked; and what it counts is what it holds."""
    cache = BlockCache(10_000)
    sizes: dict[int, int] = {}
    for _ in range(2_000):
        key = rng.randrange(300)
        if cache.find(key) is None or rng.random() < 0.2:
            sizes[key] = rng.randrange(1, 900)
            cache.add(key, bytes(sizes[key]))
        assert cache.size_bytes <= 10_000
    held = [key for key in range(300) if cache.find(key) is not None]
    assert cache.size_bytes == sum(sizes[key] for key in held)
    assert len(cache) == len(held)
    assert cache.size_bytes > 8_000


def test_what_is_used_is_not_evicted() -> None:
    """Rule 1: the second chance. What was asked for since the generations changed stays, what was not goes, in turn."""
    cache = BlockCache(1_000)
    for key in range(11):
        cache.add(key, bytes(100))
    assert cache.find(0) is None, "the oldest one goes when the eleventh comes"
    assert cache.find(1) is not None
    for key in range(11, 20):
        cache.add(key, bytes(100))
        assert cache.size_bytes == 1_000
    assert [key for key in range(20) if cache.find(key) is not None] == [1, *range(11, 20)]


def test_a_cache_of_nothing_keeps_nothing() -> None:
    cache = BlockCache(0)
    cache.add(1, b"block")
    assert cache.find(1) is None
    assert (len(cache), cache.size_bytes) == (0, 0)


def test_every_opened_table_has_its_own_place_in_the_cache() -> None:
    """A table that is opened twice, or another one under the same number, must not find the first one's blocks."""
    cache = BlockCache(100)
    assert cache.first_key() < cache.first_key()
    assert cache.first_key() + (1 << 23) < cache.first_key()


def test_the_table_cache_keeps_so_many_files_open() -> None:
    env = SimEnv()
    files = []
    for number in range(6):
        info = build(env, [(b"k", number + 1, b"%d" % number)], f"/{number}")
        files.append(FileMeta.of(number, info))

    def open_table(file: FileMeta) -> Table:
        return opened(env, f"/{file.number}")

    cache = TableCache(2)
    for file in files:
        assert cache.get(file, open_table).get(b"k", 9) == b"%d" % file.number
        assert len(cache) <= 2
        assert env.open_files == len(cache)
    assert [file.number for file in files if file.table is not None] == [4, 5], "the one opened first goes first"
    held = cache.get(files[5], open_table)
    cache.clear()
    assert env.open_files == 1
    assert held.get(b"k", 9) == b"5", "who holds a table can go on reading it"
    del held
    assert env.open_files == 0


# ---- merging --------------------------------------------------------------------------------------------------------

SOURCE = st.dictionaries(st.binary(max_size=2), st.none() | st.binary(max_size=1), max_size=25)


def in_chunks(pairs: list[tuple[bytes, bytes | None]], sizes: random.Random) -> Iterator[Chunk]:
    """The pairs, in lists of chance's length."""
    at = 0
    while at < len(pairs):
        part = pairs[at : at + sizes.randint(1, 6)]
        at += len(part)
        yield [key for key, _ in part], [value for _, value in part]


@given(st.lists(SOURCE, max_size=5), st.booleans(), st.integers())
def test_a_merge_is_a_dict_laid_over_dicts(
    sources: list[dict[bytes, bytes | None]], reverse: bool, chance: int
) -> None:
    """Rules 1 to 3, in both directions: newest first, each key once, in order, tombstones included."""
    expected: dict[bytes, bytes | None] = {}
    for source in reversed(sources):
        expected |= source
    sizes = random.Random(chance)
    chunks = [in_chunks(sorted(source.items(), reverse=reverse), sizes) for source in sources]
    merged = [pair for keys, values in merge_chunks(chunks, reverse) for pair in zip(keys, values, strict=True)]
    assert merged == sorted(expected.items(), reverse=reverse)


def test_a_source_that_nobody_meets_is_passed_on_as_it_is() -> None:
    """The rule for compacted data: the lists of the cache, without a copy."""
    low, high = ([b"a", b"b"], [b"1", b"2"]), ([b"x", b"y"], [b"3", b"4"])
    merged = list(merge_chunks([iter([high]), iter([low])], False))
    assert merged[0][0] is low[0]
    assert merged[1][0] is high[0] or merged[1][0] == high[0]


@given(st.lists(st.lists(st.tuples(st.binary(max_size=1), st.integers(1, 9)), max_size=30), max_size=4), st.integers())
def test_rounds_of_a_compaction_hold_whole_keys(runs: list[list[tuple[bytes, int]]], chance: int) -> None:
    """merge_rows over whole_keys: every row once, a user key in one round, rounds in order, pieces newest source first."""
    sizes = random.Random(chance)

    def chunks(run: list[tuple[bytes, int]], source: int) -> Iterator[Rows]:
        rows = sorted(((key, internal_key(key, at, VALUE)) for key, at in set(run)), key=lambda row: order(row[1]))
        while rows:
            size = sizes.randint(1, 5)
            part, rows = rows[:size], rows[size:]
            yield [key for key, _ in part], [stored for _, stored in part], [b"%d" % source] * len(part)

    seen: list[bytes] = []
    keys_before: set[bytes] = set()
    for pieces in merge_rows([whole_keys(chunks(run, number)) for number, run in enumerate(runs)]):
        keys = {key for piece in pieces for key in piece[0]}
        assert not keys_before or min(keys) > max(keys_before)
        assert [piece[2][0] for piece in pieces] == sorted(piece[2][0] for piece in pieces)
        keys_before = keys
        seen += [stored for piece in pieces for stored in piece[1]]
    assert sorted(seen) == sorted(internal_key(key, at, VALUE) for run in runs for key, at in set(run))


# ---- names ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("100.log", ("log", 100)),
        ("0.log", ("log", 0)),
        ("0.sst", ("sst", 0)),
        ("000007.ldb", ("ldb", 7)),
        ("MANIFEST-2", ("manifest", 2)),
        ("000005.dbtmp", ("dbtmp", 5)),
        ("000007.ldb.4711", ("part", 7)),
        ("18446744073709551615.log", ("log", 18446744073709551615)),
        *[(name, None) for name in ("CURRENT", "LOCK", "LOG", "LOG.old", "", "foo", "foo-dx-100.log", ".log", "100")],
        *[
            (name, None)
            for name in ("manifest", "MANIFEST", "MANIFEST-", "XMANIFEST-3", "MANIFEST-3x", "100.", "100.lop")
        ],
        *[(name, None) for name in ("\u0661.log", "7.ldb.", "7.log\n")],
    ],
)
def test_names_of_files(name: str, expected: tuple[str, int] | None) -> None:
    """filename_test.cc."""
    assert parse(name) == expected


def test_stats_have_the_tables_counters() -> None:
    counters = Counters()
    counters.block_lookups, counters.cache_misses, counters.filter_hits = 10, 3, 4
    counters.blocks_read, counters.bytes_read, counters.tombstones = 5, 600, 2
    stats = Stats()
    counters.add_to(stats)
    assert (stats.reads, stats.bytes_read) == (5, 600)
    assert stats.engine == {
        "block_lookups": 10,
        "block_cache_hits": 7,
        "block_cache_misses": 3,
        "filter_hits": 4,
        "tombstones_stepped_over": 2,
    }
