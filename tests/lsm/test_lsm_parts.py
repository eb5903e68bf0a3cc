"""The parts of the LSM engine, each on its own: skiplist, memtables, blocks, filters, snappy, keys, batches, edits."""

from __future__ import annotations

import itertools
import math
import random
import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.coding import DecodeError
from engines.lsm import snappy
from engines.lsm.block import BlockBuilder, decode, decode_entries, find_raw
from engines.lsm.bloom import (
    BlockedBloom,
    BlockedBloomBuilder,
    LevelDBBloom,
    LevelDBBloomBuilder,
    leveldb_hash,
)
from engines.lsm.keys import ABSENT, DELETION, MAX_SEQUENCE, VALUE, internal_key, order, separator, successor
from engines.lsm.memtable import REPRESENTATIONS, MemTable
from engines.lsm.skiplist import HEAD, LEVELS, LINKS, SkipList
from engines.lsm.version import FileMeta, Version, VersionEdit
from engines.lsm.wal import decode_batch, encode_batch, encode_put

KEYS = st.binary(max_size=12)
GOLDEN_FILTER = (
    "0108000080000000000000040000000000000000000000000000000000601000"
    "0010000000200000000001004080001000000400001000000000000000000008"
)


# ---- keys -----------------------------------------------------------------------------------------------------------


def test_internal_keys_put_the_newest_version_first() -> None:
    """dbformat_test.cc: user key ascending, sequence descending; their bytes are not in this order."""
    ordered = [internal_key(b"a", 9, VALUE), internal_key(b"a", 4, DELETION), internal_key(b"a\x00", 7, VALUE)]
    assert sorted(ordered, key=order) == ordered
    assert sorted(ordered) != ordered


@pytest.mark.parametrize(
    ("last", "first", "expected"),
    [
        (b"foo", b"foo", None),
        (b"foo", b"bar", None),
        (b"foo", b"hello", b"g"),
        (b"foo", b"foobar", None),
        (b"foobar", b"foo", None),
        (b"abc1", b"abc3", None),
        (b"abc12", b"abc3", b"abc2"),
        (b"a\xffz", b"b", None),
        (b"", b"b", None),
    ],
)
def test_separators_are_leveldbs(last: bytes, first: bytes, expected: bytes | None) -> None:
    """dbformat_test.cc, InternalKeyShortSeparator: shortened only if there is room between the two keys."""
    key = internal_key(last, 100, VALUE)
    found = separator(key, internal_key(first, 100, VALUE))
    assert found == (key if expected is None else internal_key(expected, MAX_SEQUENCE, VALUE))


def test_successors_are_leveldbs() -> None:
    """dbformat_test.cc, InternalKeyShortestSuccessor."""
    assert successor(internal_key(b"foo", 100, VALUE)) == internal_key(b"g", MAX_SEQUENCE, VALUE)
    assert successor(internal_key(b"\xff\xff", 100, VALUE)) == internal_key(b"\xff\xff", 100, VALUE)
    assert successor(internal_key(b"\xff\x01\x02", 1, VALUE)) == internal_key(b"\xff\x02", MAX_SEQUENCE, VALUE)


@given(KEYS, KEYS, st.integers(1, 50), st.integers(1, 50))
def test_a_separator_lies_between_its_keys(one: bytes, two: bytes, first: int, second: int) -> None:
    last, following = sorted((internal_key(one, first, VALUE), internal_key(two, second + 50, VALUE)), key=order)
    assert order(last) <= order(separator(last, following)) < order(following)
    assert order(last) <= order(successor(last))


# ---- skiplist and memtables -----------------------------------------------------------------------------------------


@given(st.lists(KEYS, max_size=60))
def test_a_skiplist_is_sorted_and_equal_keys_are_newest_first(keys: list[bytes]) -> None:
    """skiplist_test.cc, InsertAndLookup."""
    skiplist = SkipList(random.Random(1))
    for sequence, key in enumerate(keys, 1):
        skiplist.insert(key, sequence, b"%d" % sequence)
    expected = sorted(((key, sequence) for sequence, key in enumerate(keys, 1)), key=lambda pair: (pair[0], -pair[1]))
    assert [(key, sequence) for key, sequence, _ in skiplist] == expected
    assert len(skiplist) == len(keys)
    for key in [*keys, b"", b"\xff" * 13]:
        node = skiplist.seek(key)
        at_or_after = [pair for pair in expected if pair[0] >= key]
        assert (node == HEAD) == (not at_or_after)
        if node != HEAD:
            assert (skiplist.cells[node], skiplist.cells[node + 1]) == at_or_after[0]


class CountingKey(bytes):
    """A key that counts how often it is compared."""

    compared = 0

    def __lt__(self, other: bytes) -> bool:
        CountingKey.compared += 1
        return bytes.__lt__(self, other)

    def __ge__(self, other: bytes) -> bool:
        CountingKey.compared += 1
        return bytes.__ge__(self, other)


@pytest.mark.parametrize("count", [1_000, 8_000])
def test_a_skiplist_compares_log_n_keys(count: int, rng: random.Random) -> None:
    """Pugh, section 2: with p = 1/4, L(n)/p = 4 log4(n) comparisons on average; sequential keys need one."""
    skiplist = SkipList(rng)
    keys = [CountingKey(b"%08d" % number) for number in range(count)]
    rng.shuffle(keys)
    CountingKey.compared = 0
    for sequence, key in enumerate(keys):
        skiplist.insert(key, sequence, b"")
    assert CountingKey.compared / count <= 4 * math.log(count, 4)
    skiplist, ascending = SkipList(rng), sorted(keys)
    CountingKey.compared = 0
    for sequence, key in enumerate(ascending):
        skiplist.insert(key, sequence, b"")
    assert CountingKey.compared <= count + count // 32  # one, and for each node of the lane another one


def test_a_skiplists_heights_fall_by_four(rng: random.Random) -> None:
    """Each level has about a quarter of the nodes of the one below; the lane stands for all levels above the links."""
    skiplist = SkipList(rng)
    for number in range(8_000):
        skiplist.insert(b"%05d" % rng.randrange(100_000), number, b"")
    counts = []
    for link in range(LINKS, LINKS + LEVELS):
        node, count = skiplist.cells[HEAD + link], 0
        while node != HEAD:
            node, count = skiplist.cells[node + link], count + 1
        counts.append(count)
    counts.append(len(skiplist._lane_nodes))
    assert counts[0] == 8_000
    assert [skiplist.cells[node] for node in skiplist._lane_nodes] == skiplist._lane_keys == sorted(skiplist._lane_keys)
    for below, above in itertools.pairwise(counts):
        assert 0.15 < above / below < 0.4, counts


@pytest.fixture(params=REPRESENTATIONS)
def new_memtable(request: pytest.FixtureRequest) -> Callable[[], MemTable]:
    """Both representations are asked the same questions."""
    return lambda: REPRESENTATIONS[request.param](random.Random(1))


def test_a_memtable_answers_as_a_list_of_versions(new_memtable: Callable[[], MemTable], rng: random.Random) -> None:
    """get, chunks both ways with bounds, and rows, as of every sequence."""
    memtable = new_memtable()
    versions: list[tuple[bytes, int, bytes | None]] = []
    for sequence in range(1, 600):
        key = b"%d" % rng.randrange(120)
        value = None if rng.random() < 0.2 else b"%d" % sequence
        memtable.add(sequence, key, value)
        versions.append((key, sequence, value))
        if sequence % 120 == 0:
            for moment in (0, sequence // 3, sequence):
                check_moment(memtable, versions, moment, rng)
    rows = [(key, internal) for keys, internals, _ in memtable.row_chunks() for key, internal in zip(keys, internals)]
    expected = [internal_key(key, seq, VALUE if value is not None else DELETION) for key, seq, value in versions]
    assert [internal for _, internal in rows] == sorted(expected, key=order)
    assert len(memtable) == 599


def check_moment(
    memtable: MemTable, versions: list[tuple[bytes, int, bytes | None]], moment: int, rng: random.Random
) -> None:
    visible: dict[bytes, bytes | None] = {key: value for key, sequence, value in versions if sequence <= moment}
    for number in range(121):
        assert memtable.get(b"%d" % number, moment) == visible.get(b"%d" % number, ABSENT)
    for _ in range(10):
        start, stop = b"%d" % rng.randrange(130), rng.choice((None, b"%d" % rng.randrange(130)))
        wanted = [pair for pair in sorted(visible.items()) if pair[0] >= start and (stop is None or pair[0] < stop)]
        for reverse in (False, True):
            got = [
                pair
                for keys, values in memtable.chunks(start, stop, moment, reverse)
                for pair in zip(keys, values, strict=True)
            ]
            assert got == (wanted[::-1] if reverse else wanted)


def test_a_memtable_takes_the_empty_key(new_memtable: Callable[[], MemTable]) -> None:
    """The store refuses it, but LevelDB doesn't: a log of LevelDB may have it."""
    memtable = new_memtable()
    memtable.add_all(1, [(b"", b"1"), (b"a", b"2"), (b"", b"3")])
    assert memtable.get(b"", 3) == b"3"
    assert memtable.get(b"", 1) == b"1"
    assert list(memtable.chunks(b"", None, 3, False)) == [([b"", b"a"], [b"3", b"2"])]
    assert [pair for keys, values in memtable.chunks(b"", None, 3, True) for pair in zip(keys, values)] == [
        (b"a", b"2"),
        (b"", b"3"),
    ]


# ---- blocks ---------------------------------------------------------------------------------------------------------


def build(keys: list[bytes], values: list[bytes], interval: int) -> bytes:
    builder = BlockBuilder(interval)
    assert builder.fill(keys, values, 0, 1 << 30) == len(keys)
    size = builder.size_bytes
    raw = builder.finish()
    assert len(raw) == size
    return raw


def test_a_blocks_bytes() -> None:
    """Golden: table/block_builder.cc's grammar, two restart points."""
    raw = build([b"apple", b"apply", b"banana"], [b"1", b"2", b"3"], 2)
    assert raw.hex(" ") == (
        "00 05 01 61 70 70 6c 65 31 04 01 01 79 32 00 06 01 62 61 6e 61 6e 61 33 00 00 00 00 0e 00 00 00 02 00 00 00"
    )
    assert build([], [], 16).hex(" ") == "00 00 00 00 01 00 00 00"


@given(st.dictionaries(KEYS, st.binary(max_size=200), max_size=40), st.sampled_from([1, 2, 16, 1024]))
def test_a_block_comes_apart_as_it_was_put_together(pairs: dict[bytes, bytes], interval: int) -> None:
    """table_test.cc, the harness over restart intervals: decoded, and found in the bytes."""
    keys = [internal_key(key, 5, VALUE) for key in sorted(pairs)]
    values = [pairs[key] for key in sorted(pairs)]
    raw = build(keys, values, interval)
    assert decode_entries(raw) == (keys, values)
    block = decode(raw)
    assert (block.keys, block.values, block.internal_keys()) == (sorted(pairs), values, keys)
    assert block.trailer_numbers() == (5 << 8 | VALUE,) * len(keys)
    for key in [*pairs, b"", b"zz", b"\xff" * 13]:
        after = [(stored, value) for stored, value in zip(keys, values) if order(stored) >= (key, 0)]
        assert find_raw(raw, internal_key(key, MAX_SEQUENCE, VALUE)) == (after[0] if after else None)


@given(st.binary(max_size=80))
def test_a_block_of_nonsense_is_refused_or_read(raw: bytes) -> None:
    """No IndexError, no endless loop, nothing beyond the bytes."""
    for read in (decode, decode_entries, lambda raw: find_raw(raw, internal_key(b"k", 1, VALUE))):
        try:
            read(raw)
        except DecodeError:
            continue


@pytest.mark.parametrize("interval", [1, 3, 16])
def test_a_block_ends_at_the_entry_that_fills_it(interval: int) -> None:
    """table_builder.cc: the size, restart points included, is looked at after each entry."""
    keys = [b"%04d" % number for number in range(100)]
    sizes = []
    for count in range(1, 40):
        builder = BlockBuilder(interval)
        for key in keys[:count]:
            builder.add(key, b"v" * 20)
        sizes.append(builder.size_bytes)
        assert len(builder.finish()) == sizes[-1]
    builder = BlockBuilder(interval)
    at = builder.fill(keys, [b"v" * 20] * 100, 0, 256)
    assert at == builder.count == 1 + sum(size < 256 for size in sizes)


# ---- filters --------------------------------------------------------------------------------------------------------


def test_our_filters_bytes() -> None:
    """Golden: three keys, one block of 512 bits. A change of this is a change of the format."""
    builder = BlockedBloomBuilder(10)
    builder.add_all([b"", b"a", b"hello world"])
    raw = builder.finish()
    assert len(raw) == 64
    assert sum(byte.bit_count() for byte in raw) <= 18
    assert raw.hex() == GOLDEN_FILTER


@pytest.mark.parametrize("count", [1, 10, 1_000, 10_000])
def test_our_filter_has_no_false_negatives_and_few_false_positives(count: int) -> None:
    """bloom_test.cc, VaryingLengths: at ten bits a key about 1 %."""
    builder = BlockedBloomBuilder(10)
    keys = [b"%d" % number for number in range(count)]
    builder.add_all(keys)
    bloom = BlockedBloom(builder.finish())
    assert all(map(bloom.may_contain, keys))
    false_positives = sum(bloom.may_contain(b"?%d" % number) for number in range(10_000))
    assert false_positives <= 250


@pytest.mark.parametrize(
    ("data", "seed", "expected"),
    [
        (b"", 0xBC9F1D34, 0xBC9F1D34),
        (b"\x62", 0xBC9F1D34, 0xEF1345C4),
        (b"\xc3\x97", 0xBC9F1D34, 0x5B663814),
        (b"\xe2\x99\xa5", 0xBC9F1D34, 0x323C078F),
        (b"\xe1\x80\xb9\x32", 0xBC9F1D34, 0xED21633A),
    ],
)
def test_leveldbs_hash(data: bytes, seed: int, expected: int) -> None:
    """hash_test.cc, SignedUnsignedIssue."""
    assert leveldb_hash(data, seed) == expected


def test_leveldbs_filter_block() -> None:
    """filter_block_test.cc, MultiChunk: a filter for each 2 KiB of offsets, empty ones for what no block begins in."""
    builder = LevelDBBloomBuilder(10)
    for offset, keys in ((0, [b"foo"]), (2000, [b"bar"]), (3100, [b"box"]), (9000, [b"box", b"hello"])):
        builder.start_block(offset)
        builder.add_all(keys)
    bloom = LevelDBBloom(builder.finish())
    present = {0: {b"foo", b"bar"}, 3100: {b"box"}, 4100: set(), 9000: {b"box", b"hello"}}
    for offset, keys in present.items():
        for key in (b"foo", b"bar", b"box", b"hello"):
            assert bloom.may_contain(offset, key) == (key in keys)
    assert bloom.may_contain(1 << 20, b"beyond the array: no filter, so perhaps")


@given(st.binary(max_size=40))
def test_a_damaged_filter_is_refused_or_read(raw: bytes) -> None:
    for read in (lambda: BlockedBloom(raw).may_contain(b"k"), lambda: LevelDBBloom(raw).may_contain(5_000, b"k")):
        try:
            read()
        except DecodeError:
            continue


# ---- snappy ---------------------------------------------------------------------------------------------------------


def test_snappys_elements() -> None:
    """google/snappy's format_description.txt: literals of both lengths, the three copies, one that overlaps itself."""
    literal = b"\x0cabcd"  # 4 bytes: (4 - 1) << 2
    assert snappy.decompress_here(b"\x04" + literal) == b"abcd"
    assert snappy.decompress_here(b"\x08" + literal + b"\x01\x04") == b"abcdabcd"
    assert snappy.decompress_here(b"\x08" + literal + b"\x0e\x04\x00") == b"abcdabcd"
    assert snappy.decompress_here(b"\x08" + literal + b"\x0f\x04\x00\x00\x00") == b"abcdabcd"
    assert snappy.decompress_here(b"\x08\x00a" + b"\x0d\x01") == b"a" * 8
    assert snappy.decompress_here(b"\xac\x02" + b"\xf4\x2b\x01" + b"x" * 300) == b"x" * 300
    assert snappy.decompress_here(b"\x00") == b""


@pytest.mark.parametrize(
    "damaged",
    [b"", b"\x05\x0cabcd", b"\x03\x0cabcd", b"\x08\x0cabcd\x01\x05", b"\x08\x0cabcd\x01", b"\x04\x0cab", b"\xff" * 9],
)
def test_damaged_snappy_is_refused(damaged: bytes) -> None:
    with pytest.raises(DecodeError):
        snappy.decompress_here(damaged)


# ---- batches and edits ----------------------------------------------------------------------------------------------

OPERATIONS = st.lists(st.tuples(st.binary(max_size=200), st.none() | st.binary(max_size=300)), max_size=8)


def test_a_batchs_bytes() -> None:
    """Golden: write_batch.cc's grammar."""
    assert encode_batch(100, [(b"foo", b"bar"), (b"box", None)]).hex(" ") == (
        "64 00 00 00 00 00 00 00 02 00 00 00 01 03 66 6f 6f 03 62 61 72 00 03 62 6f 78"
    )


@given(st.integers(1, MAX_SEQUENCE - 10), OPERATIONS)
def test_batches_come_back(sequence: int, operations: list[tuple[bytes, bytes | None]]) -> None:
    assert decode_batch(encode_batch(sequence, operations)) == (sequence, operations)
    for key, value in operations:
        if value is not None:
            assert encode_put(sequence, key, value) == encode_batch(sequence, [(key, value)])


@given(st.binary(max_size=40))
def test_a_damaged_batch_is_refused_or_read(record: bytes) -> None:
    for raw in (record, struct.pack("<QI", 5, 2) + record):
        try:
            _, operations = decode_batch(raw)
        except DecodeError:
            continue
        assert len(operations) == int.from_bytes(raw[8:12], "little")


def test_an_edits_bytes() -> None:
    """Golden: version_edit.cc's tags, in LevelDB's order."""
    edit = VersionEdit(b"leveldb.BytewiseComparator", 3, 0, 5, 9)
    edit.compact_pointers = [(1, internal_key(b"p", 1, VALUE))]
    edit.deleted = [(2, 7), (0, 8)]
    edit.added = [(1, FileMeta(4, 300, internal_key(b"a", 2, VALUE), internal_key(b"z", 3, DELETION)))]
    raw = edit.encode()
    assert raw.hex(" ") == (
        "01 1a 6c 65 76 65 6c 64 62 2e 42 79 74 65 77 69 73 65 43 6f 6d 70 61 72 61 74 6f 72 02 03 09 00 03 05 04 09 "
        "05 01 09 70 01 01 00 00 00 00 00 00 06 00 08 06 02 07 "
        "07 01 04 ac 02 09 61 01 02 00 00 00 00 00 00 09 7a 00 03 00 00 00 00 00 00"
    )
    decoded = VersionEdit.decode(raw)
    assert decoded.encode() == raw
    assert repr(decoded.added) == repr(edit.added)


@given(st.binary(max_size=60))
def test_a_damaged_edit_is_refused_or_read(raw: bytes) -> None:
    try:
        VersionEdit.decode(raw)
    except DecodeError:
        return


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"\x08\x00", "tag 8"),
        (b"\x06\x07\x01", "level 7"),
        (b"\x07\x00\x05\x10\x03abc\x03abc", "3 bytes"),
        (b"\x07\x00\x05\x10" + b"\x09z" + bytes(8) + b"\x09a" + bytes(8), "begin"),
    ],
)
def test_what_no_edit_may_say(raw: bytes, why: str) -> None:
    """LevelDB refuses the first two; the others are undefined behaviour there."""
    with pytest.raises(DecodeError, match=why):
        VersionEdit.decode(raw)


def file(number: int, first: bytes, last: bytes, sequence: int = 100, size: int = 10) -> FileMeta:
    return FileMeta(number, size, internal_key(first, sequence, VALUE), internal_key(last, sequence, VALUE))


def test_overlap_on_level_0_is_transitive() -> None:
    """version_set_test.cc: a file that overlaps brings those along that overlap it."""
    version = Version([[file(1, b"a", b"c"), file(2, b"b", b"f"), file(3, b"e", b"h"), file(4, b"x", b"z")], *[[]] * 6])
    assert [found.number for found in version.overlapping(0, b"a", b"a")] == [3, 2, 1]
    assert [found.number for found in version.overlapping(0, b"y", None)] == [4]
    assert version.overlapping(0, b"i", b"w") == []
