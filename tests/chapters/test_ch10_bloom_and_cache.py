"""Chapter 10: what need not be read, because it is certainly not there, or because it was read a moment ago."""

from __future__ import annotations

import gzip
import random
from pathlib import Path

import pytest

import engines
from engines.lsm.block import Block, BlockBuilder
from engines.lsm.bloom import (
    LEVELDB_NAME,
    NAME,
    BlockedBloom,
    BlockedBloomBuilder,
    LevelDBBloom,
    LevelDBBloomBuilder,
    leveldb_bits,
    leveldb_hash,
    leveldb_match,
)
from engines.lsm.cache import BlockCache
from engines.lsm.files import table_name
from engines.lsm.options import Options
from engines.lsm.sstable import decode_footer, decode_handle
from engines.lsm.store import LsmStore
from engines.lsm.table_builder import filter_builder
from engines.lsm.table_cache import TableCache
from engines.lsm.version import FileMeta
from engines.simenv import SimEnv
from tests.chapters.kit import History, model_run, rounds
from tests.lsm.tables import build, opened

GOLDEN = Path(__file__).parents[1] / "lsm" / "golden" / "filtered.ldb.gz"
SMALL = {"write_buffer_bytes": 4_000, "max_file_bytes": 4_000, "block_bytes": 256}


def a_store(env: SimEnv, **options: object) -> LsmStore:
    store = engines.open("/db", "lsm", env=env, background=False, plain=True, **{**SMALL, **options})
    assert isinstance(store, LsmStore)
    return store


def some_keys(rng: random.Random, count: int) -> list[bytes]:
    """Different ones, of all lengths from nothing to forty bytes."""
    keys = {rng.randbytes(rng.randrange(41)) for _ in range(count)}
    return sorted(keys | {b"%d" % number for number in range(count - len(keys))})


# ---- LevelDB's filter -----------------------------------------------------------------------------------------------


def test_the_hash_is_leveldbs() -> None:
    """LevelDB's util/hash_test.cc, SignedUnsignedIssue; the last two have whole words and a rest."""
    vectors = {
        (b"", 0xBC9F1D34): 0xBC9F1D34,
        (b"\x62", 0xBC9F1D34): 0xEF1345C4,
        (b"\xc3\x97", 0xBC9F1D34): 0x5B663814,
        (b"\xe2\x99\xa5", 0xBC9F1D34): 0x323C078F,
        (b"\xe1\x80\xb9\x32", 0xBC9F1D34): 0xED21633A,
        (bytes.fromhex("01c0000000000000000000000000000014000000000004000000001400000018280000000000000002000000" + "00" * 4), 0x12345678): 0xF333DABB,
    }  # fmt: skip
    for (data, seed), expected in vectors.items():
        found = leveldb_hash(data, seed)
        assert found == expected, f"hash of {data.hex()} is {expected:#010x}, and not {found:#010x}"


def test_a_filter_of_a_few_keys_has_these_bits() -> None:
    """Six bits for each key at most, at least 64 bits in all, lowest bit of a byte first."""
    assert leveldb_bits([], 10, 6) == bytes(8)
    for count, size in ((1, 8), (6, 8), (7, 9), (100, 125)):
        bits = leveldb_bits([b"%d" % number for number in range(count)], 10, 6)
        assert len(bits) == size, f"{count} keys of 10 bits"
        assert 0 < sum(byte.bit_count() for byte in bits) <= 6 * count
    hashed = leveldb_hash(b"k")
    bits = leveldb_bits([b"k"], 10, 1)
    assert [i for i in range(64) if bits[i // 8] >> i % 8 & 1] == [hashed % 64], "one probe is at the hash itself"


def test_leveldbs_filter_never_denies_a_key_that_is_there(rng: random.Random) -> None:
    """bloom_test.cc: every length of keys, every number of probes."""
    for _ in range(rounds(120)):
        keys = some_keys(rng, rng.choice((1, 2, 10, 60)))
        bits_per_key, probes = rng.randint(1, 20), rng.randint(1, 30)
        bits = leveldb_bits(keys, bits_per_key, probes)
        denied = [key for key in keys if not leveldb_match(bits, probes, key)]
        assert not denied, f"{bits_per_key} bits a key, {probes} probes: {denied[:3]} of {len(keys)} keys are denied"


def test_leveldbs_filter_denies_most_of_what_is_not_there() -> None:
    """bloom_test.cc, VaryingLengths: at ten bits a key, about one in a hundred gets through."""
    for count in (20, 400):
        bits = leveldb_bits([b"%d" % number for number in range(count)], 10, 6)
        asked = rounds(16_000)
        passed = sum(leveldb_match(bits, 6, b"?%d" % number) for number in range(asked)) / asked
        assert 0.001 < passed < 0.025, f"{count} keys: {passed:.2%} of absent keys get through"


def test_a_filter_covers_two_kib_of_the_file() -> None:
    """filter_block_test.cc, MultiChunk: by the offset of the data block; empty ones for what no block begins in."""
    builder = LevelDBBloomBuilder(10)
    for offset, keys in ((0, [b"foo"]), (2000, [b"bar"]), (3100, [b"box"]), (9000, [b"box", b"hello"])):
        builder.start_block(offset)
        builder.add_all(keys)
    raw = builder.finish()
    bloom = LevelDBBloom(raw)
    present = {0: {b"foo", b"bar"}, 3100: {b"box"}, 4100: set[bytes](), 9000: {b"box", b"hello"}}
    for offset, expected in present.items():
        found = {key for key in (b"foo", b"bar", b"box", b"hello") if bloom.may_contain(offset, key)}
        assert found == expected, f"the filter of the block at {offset}"
    assert raw[-1] == 11 and len(raw) == 3 * 9 + 6 * 4 + 1, (
        "three filters of 8 bytes and k, five offsets, the array's, 11"
    )


def test_the_filter_block_is_leveldbs_byte_for_byte() -> None:
    """The real LevelDB wrote the table, with a block of 9,000 bytes among small ones; its filter is made again here."""
    raw = gzip.decompress(GOLDEN.read_bytes())
    env = SimEnv()
    file = env.open("/t", "w")
    file.append(raw)
    file.close()
    table = opened(env)
    (offset, size), _ = decode_footer(raw[-48:])
    handles = {name: decode_handle(handle) for name, handle in Block(raw[offset : offset + size]).entries()}
    at, size = handles[LEVELDB_NAME]
    builder = LevelDBBloomBuilder(10)
    for number, (begin, length) in enumerate(table.handles):
        builder.start_block(begin)
        builder.add_all([row.key for row in table.block_rows(number)])
        builder.start_block(begin + length + 5)
    assert builder.finish().hex(" ") == raw[at : at + size].hex(" ")
    assert all(table.may_contain(b"key%03d" % number) for number in range(120))
    assert sum(table.may_contain(b"no%03d" % number) for number in range(500)) < 25


# ---- ours -----------------------------------------------------------------------------------------------------------


def test_our_filter_has_these_bytes() -> None:
    """Three keys, one block of 512 bits. Another result is another format."""
    builder = BlockedBloomBuilder(10)
    builder.add_all([b"", b"a", b"hello world"])
    expected = (
        "0108000080000000000000040000000000000000000000000000000000601000"
        "0010000000200000000001004080001000000400001000000000000000000008"
    )
    assert builder.finish().hex() == expected


def test_our_filter_is_cut_into_blocks() -> None:
    """Ten bits a key, rounded up to blocks of 64 bytes, and at least one."""
    for count, blocks in ((0, 1), (51, 1), (52, 2), (1_000, 20)):
        builder = BlockedBloomBuilder(10)
        builder.add_all([b"%d" % number for number in range(count)])
        assert len(builder.finish()) == blocks * 64, f"{count} keys"


def test_our_filter_never_denies_a_key_and_denies_most_others(rng: random.Random) -> None:
    """Zero false negatives; 1 % of false positives at ten bits a key, some more with few blocks."""
    for count in (1, 60, 2_000):
        keys = some_keys(rng, count)
        builder = BlockedBloomBuilder(10)
        builder.add_all(keys)
        bloom = BlockedBloom(builder.finish())
        assert all(map(bloom.may_contain, keys)), f"of {count} keys, one is denied"
        asked = rounds(40_000)
        passed = sum(bloom.may_contain(b"?%d" % number) for number in range(asked)) / asked
        assert passed < (0.025 if count > 1_000 else 0.1), f"{count} keys: {passed:.2%} of absent keys get through"
        assert passed > 0.002 or count < 1_000, (
            f"{passed:.2%}: a filter that says no too often isn't one of ten bits a key"
        )


# ---- filters in tables ----------------------------------------------------------------------------------------------


def test_a_table_gets_the_filter_that_was_asked_for() -> None:
    """filter_builder: by the option, with so many bits a key."""
    assert filter_builder(Options(filter=None)) is None
    sizes = {}
    for name, format_name in (("bloom", NAME), ("leveldb", LEVELDB_NAME)):
        for bits in (10, 40):
            env = SimEnv()
            build(env, [(b"%03d" % n, n + 1, b"") for n in range(200)], filter=name, bloom_bits_per_key=bits)
            assert opened(env).filters == [format_name.decode()]
            sizes[name, bits] = len(env.files()["/t"])
    for name in ("bloom", "leveldb"):
        more = sizes[name, 40] - sizes[name, 10]
        assert 600 < more < 900, f"{name}: 30 bits more for each of 200 keys are about 750 bytes, and not {more}"


@pytest.mark.parametrize("name", ["bloom", "leveldb"])
def test_a_store_reads_next_to_nothing_for_absent_keys(name: str, rng: random.Random) -> None:
    """At least nine in ten block reads are saved, and not one key that is there is missed."""
    reads = {}
    for chosen in (None, name):
        env = SimEnv()
        with a_store(env, filter=chosen, cache_bytes=0) as store:
            keys = [b"%04d" % number for number in range(0, 800, 2)]
            for key in rng.sample(keys, len(keys)):
                store.put(key, key * 4)
            store.flush()
            assert [store.get(key) for key in keys] == [key * 4 for key in keys]
            before = store.stats().engine["block_lookups"]
            assert [store.get(b"%04d" % number) for number in range(1, 801, 2)] == [None] * 400
            reads[chosen] = store.stats().engine["block_lookups"] - before
            if chosen:
                assert store.stats().engine["filter_hits"] > 350
                assert store.check() == [], "check asks the filters for every key"
    assert reads[None] >= 350, "without filters, each get of an absent key within the range reads a block"
    assert reads[name] <= reads[None] // 10, f"{reads[name]} block reads with filters, {reads[None]} without"


def test_versions_and_tombstones_are_in_the_filter() -> None:
    """A filter holds user keys: a snapshot asks for an older version under the same name, and a tombstone must be found."""
    env = SimEnv()
    with a_store(env) as store:
        store.put(b"k", b"old")
        store.flush()
        snapshot = store.snapshot()
        store.delete(b"k")
        store.flush()
        assert (snapshot.get(b"k"), store.get(b"k")) == (b"old", None)
        assert filter_builder(Options()) is not None


# ---- the caches -----------------------------------------------------------------------------------------------------


def a_block(memory_bytes: int) -> Block:
    made = Block(BlockBuilder(16).finish())
    made.memory_bytes = memory_bytes
    return made


def test_the_cache_stays_below_its_capacity(rng: random.Random) -> None:
    """Whatever is added and asked; what it says about its size is what it holds, also when a block is replaced."""
    cache = BlockCache(10_000)
    sizes: dict[int, int] = {}
    for _ in range(rounds(8_000)):
        key = rng.randrange(300)
        if cache.find(key) is None or rng.random() < 0.2:
            sizes[key] = rng.randrange(1, 900)
            cache.add(key, a_block(sizes[key]))
        assert cache.size_bytes <= 10_000
    held = [key for key in range(300) if cache.find(key) is not None]
    assert cache.size_bytes == sum(sizes[key] for key in held), "size_bytes isn't the sum of what is there"
    assert len(cache) == len(held), "a block is there twice"
    assert cache.size_bytes > 8_000, "there is room for more"


def test_what_was_asked_for_is_not_evicted() -> None:
    """The second chance: of ten that were there when the eleventh came, those that were asked for since then stay."""
    cache = BlockCache(1_000)
    for key in range(11):
        cache.add(key, a_block(100))
    assert cache.find(0) is None, "the one that came first goes first"
    asked = (1, 4, 7)
    assert all(cache.find(key) is not None for key in asked)
    for key in range(11, 17):
        cache.add(key, a_block(100))
        assert cache.size_bytes == 1_000
    held = [key for key in range(17) if cache.find(key) is not None]
    assert held == [*asked, 10, *range(11, 17)]


def test_a_block_goes_when_nothing_is_young() -> None:
    """evict: all that is there may go, one after the other, and then it is empty."""
    cache = BlockCache(1_000)
    for key in range(5):
        cache.add(key, a_block(100))
    sizes = []
    for _ in range(5):
        cache.evict()
        sizes.append(cache.size_bytes)
    assert sizes == [400, 300, 200, 100, 0]
    assert [cache.find(key) for key in range(5)] == [None] * 5


def test_what_does_not_fit_is_not_kept() -> None:
    """A cache of no bytes keeps nothing, and a block larger than the cache doesn't stay."""
    for capacity, size in ((0, 5), (1_000, 1_001)):
        cache = BlockCache(capacity)
        cache.add(1, a_block(size))
        assert (cache.find(1), cache.size_bytes) == (None, 0)
    cache.add(2, a_block(1_000))
    assert cache.find(2) is not None


def test_a_block_is_read_once(rng: random.Random) -> None:
    """Blocks read from the file, by the store's counters: none for what is in the cache, some if it is too small."""
    keys = [b"%04d" % number for number in range(600)]
    reads = {}
    for cache_bytes in (1 << 20, 8_000):
        with a_store(SimEnv(), cache_bytes=cache_bytes, filter=None) as store:
            for key in keys:
                store.put(key, b"x" * 40)
            store.flush()
            assert len(list(store.scan())) == 600
            before = store.stats()
            for key in rng.sample(keys, 600):
                assert store.get(key) == b"x" * 40
            after = store.stats()
            reads[cache_bytes] = after.reads - before.reads
            assert after.engine["block_cache_hits"] - before.engine["block_cache_hits"] == 600 - reads[cache_bytes]
    assert reads[1 << 20] == 0, "all blocks were read by the scan"
    assert 100 < reads[8_000] <= 600, "a cache of 8,000 bytes can't have them all"


def test_so_many_tables_are_open_and_no_more() -> None:
    """keep: the one opened first goes first; who still reads it can go on, and its file is closed when nobody does."""
    env = SimEnv()
    files = []
    for number in range(6):
        info = build(env, [(b"k", number + 1, b"%d" % number)], f"/{table_name(number)}", filter=None)
        files.append(FileMeta(number, info.size_bytes, info.smallest, info.largest))
    cache = TableCache(env, "", 2, BlockCache(1_000), lambda: 9)
    held = cache.get(files[0])
    for file in files:
        assert cache.get(file).get(b"k", 9) == b"%d" % file.number
        assert len(cache) <= 2, f"{len(cache)} tables are kept open, 2 are allowed"
    assert list(cache.opened) == [4, 5], "the one opened first goes first"
    assert env.open_files == 3 and held.get(b"k", 9) == b"0"
    assert cache.get(files[4]) is cache.opened[4], "a table that is open isn't opened again"


def test_a_store_with_tiny_caches_and_either_filter_is_right(rng: random.Random, history: History) -> None:
    """Every operation against a dict: a cache that evicts at every step, two open tables, both filters."""
    for number in range(rounds(16)):
        options = {"filter": ("bloom", "leveldb")[number % 2], "cache_bytes": rng.choice((0, 600, 3_000))}
        model_run(
            lambda env, options=options: a_store(env, max_open_files=2, **{"write_buffer_bytes": 600, **options}),  # type: ignore[misc]
            rng,
            history,
            steps=200,
        )
