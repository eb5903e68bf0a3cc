"""Chapter 6: a sorted table. Blocks with restart points, an index of separators, and checksums over everything."""

from __future__ import annotations

import random
import struct
from bisect import bisect_left
from itertools import pairwise

import pytest
from crc32c import crc32c

from engines.coding import DecodeError, put_varint
from engines.errors import CorruptionError
from engines.log import mask
from engines.lsm.block import Block, BlockBuilder, encode_entry
from engines.lsm.cache import NoBlockCache
from engines.lsm.keys import ABSENT, MAX_SEQUENCE, VALUE, Row, internal_key, order, separator
from engines.lsm.options import Options
from engines.lsm.sstable import Table, add_trailer
from engines.lsm.statistics import Counters
from engines.lsm.table_builder import TableBuilder
from engines.simenv import Policy, SimEnv
from tests.chapters.kit import rounds
from tests.chapters.lsm_parts import real_table, require_same_bytes, rows

Version = tuple[bytes, int, bytes | None]

# what tests/lsm/golden/README.md says that LevelDB was told
REAL_VERSIONS: list[Version] = [
    *(
        (b"%s:%04d" % (kind, number), 100 * group + number + 1, b"%d " % place**2 * (1 + place % 9))
        for group, kind in enumerate((b"city", b"river", b"town"))
        for number in range(100)
        for place in [100 * group + number]
    ),
    (b"river:0050", 301, None),
]


def build(env: SimEnv, versions: list[Version], path: str = "/t", **options: object) -> None:
    """Writes a table, without filter and statistics unless `options` say otherwise."""
    file = env.open(path, "w")
    builder = TableBuilder(file, Options(**{"filter": None, "table_statistics": False, **options}), None)  # type: ignore[arg-type]
    for row in rows(versions):
        builder.add(row)
    builder.finish("test")
    file.close()


def opened(env: SimEnv, path: str = "/t") -> Table:
    """Opens a table without a cache, so that each block is read when it is needed."""
    file = env.open(path, "r")
    try:
        return Table(file, file.size(), NoBlockCache(0), Counters())
    except BaseException:
        file.close()
        raise


def with_file(content: bytes) -> SimEnv:
    """A disk on which /t has the content."""
    env = SimEnv()
    file = env.open("/t", "w")
    file.append(content)
    file.close()
    return env


def content_of(versions: list[Version], **options: object) -> bytes:
    """The bytes of a table."""
    env = SimEnv()
    build(env, versions, **options)
    return env.files()["/t"]


def some_versions(rng: random.Random, count: int) -> list[Version]:
    """Few keys, so that many have several versions; some are deleted."""
    return [
        (b"k%03d" % rng.randrange(count // 3), sequence, None if rng.random() < 0.2 else b"%d" % sequence * 3)
        for sequence in range(1, count + 1)
    ]


def block_of_keys(keys: list[bytes], interval: int = 16) -> bytes:
    """A block with a value for each internal key."""
    builder = BlockBuilder(interval)
    for number, key in enumerate(keys):
        builder.add(key, b"%d" % number)
    return builder.finish()


# ---- a block ----------------------------------------------------------------------------------------------------------


def test_a_block_has_leveldbs_bytes() -> None:
    """LevelDB's table_format.md: prefixes are cut away, and the restart points stand at the end."""
    builder = BlockBuilder(2)
    for key, value in ((b"apple", b"1"), (b"apply", b"2"), (b"apricot", b"3"), (b"banana", b"")):
        builder.add(key, value)
    expected = "".join(
        [
            "000501" + b"apple1".hex(),
            "040101" + b"y2".hex(),
            "000701" + b"apricot3".hex(),  # a restart point: nothing is shared
            "000600" + b"banana".hex(),
            struct.pack("<III", 0, 14, 2).hex(),
        ]
    )
    assert builder.finish().hex() == expected
    builder.reset()
    assert builder.finish() == struct.pack("<II", 0, 1), "a block without entries has one restart point, at 0"
    assert encode_entry(3, b"abcd", b"v" * 200) == b"\x03\x01\xc8\x01d" + b"v" * 200


@pytest.mark.parametrize("interval", [1, 2, 16])
def test_every_so_many_keys_one_is_there_in_full(rng: random.Random, interval: int) -> None:
    """Invariant 1 of the block, and what was added comes back."""
    keys = [internal_key(b"key" + b"%05d" % number, rng.randrange(900), VALUE) for number in range(50)]
    raw = block_of_keys(keys, interval)
    block = Block(raw)
    assert list(block.entries()) == [(key, b"%d" % number) for number, key in enumerate(keys)]
    starts = block.restarts[:-1]
    assert len(starts) == -(-50 // interval), f"{len(starts)} restart points for 50 keys, one in {interval}"
    for at, number in zip(starts, range(0, 50, interval), strict=True):
        found = raw[at : at + 3 + len(keys[number])]
        assert found[:1] == b"\x00" and found[3:] == keys[number], (
            f"entry {number} is a restart point, with the key in full"
        )
    assert len(raw) < 50 * (len(keys[0]) + 5) or interval == 1, "the keys share bytes, and the block doesn't"


def test_a_seek_finds_the_first_key_that_is_not_before(rng: random.Random) -> None:
    """The lower bound, in both directions, among keys whose bytes are in another order than the keys are."""
    for count in (1, 2, 16, 17, 100):
        versions = {(bytes(rng.choices(b"ab\x00\xff", k=rng.randint(1, 3))), rng.randint(1, 40)) for _ in range(count)}
        keys = sorted((internal_key(key, sequence, rng.randrange(2)) for key, sequence in versions), key=order)
        block = Block(block_of_keys(keys, rng.choice((1, 3, 16))))
        bounds = [
            *keys,
            *(internal_key(key, rng.randint(0, 50), VALUE) for key in (b"", b"a", b"ab\x00", b"b", b"\xff" * 4)),
        ]
        for bound in bounds:
            at = bisect_left([order(key) for key in keys], order(bound))
            found = [key for key, _ in block.forward(bound)]
            assert found == keys[at:], f"forward({bound!r}) among {count} keys"
            found = [key for key, _ in block.backward(bound)]
            assert found == keys[:at][::-1], f"backward({bound!r}) among {count} keys"
        assert [key for key, _ in block.backward()] == keys[::-1]
    assert list(Block(BlockBuilder(16).finish()).forward(internal_key(b"a", 1, VALUE))) == []
    assert list(Block(BlockBuilder(16).finish()).backward()) == []


class Watched(bytes):
    """Bytes that count how often a part of them is taken."""

    taken = 0

    def __getitem__(self, place):  # type: ignore[no-untyped-def]
        Watched.taken += 1
        return bytes.__getitem__(self, place)


def test_a_seek_decodes_few_entries() -> None:
    """O(log n + restart interval): the restart points are bisected, and one run is walked through."""
    keys = [internal_key(b"%06d" % number, 1, VALUE) for number in range(4_096)]
    block = Block(Watched(block_of_keys(keys)))
    for number in (0, 1, 1_000, 2_047, 4_095):
        Watched.taken = 0
        assert next(block.forward(keys[number]))[0] == keys[number]
        forward = Watched.taken
        Watched.taken = 0
        found = next(block.backward(keys[number]), None)
        assert found is None if number == 0 else found is not None and found[0] == keys[number - 1]
        for direction, taken in (("forward", forward), ("backward", Watched.taken)):
            assert taken <= 400, f"{direction} to key {number} of 4,096 took {taken} parts of the block: 400 are enough"


def test_an_entry_that_can_not_be_is_refused() -> None:
    """Rule 3 of any decoder: no length is believed. The table makes a CorruptionError of it."""
    key = internal_key(b"key", 1, VALUE)
    restarts = struct.pack("<II", 0, 1)
    good = encode_entry(0, key, b"v")
    for entries, why in (
        (encode_entry(1, b"x" + key, b"v"), "the first entry shares a byte, and there is no key before it"),
        (good + put_varint(200) + put_varint(1) + put_varint(0) + b"x", "an entry shares more than the key has"),
        (good[:2] + put_varint(2) + good[3:], "a value reaches into the restart points"),
        (put_varint(0) + put_varint(2**31) + put_varint(0) + key, "a key of 2 GiB"),
    ):
        block = Block(entries + restarts)
        with pytest.raises(DecodeError):
            pytest.fail(f"{why}: DecodeError was expected, and {list(block.entries())} came")


def test_walks_decode_nothing_in_advance() -> None:
    """A damaged entry harms nobody who doesn't come there: both walks are lazy."""
    keys = [internal_key(b"%02d" % number, 1, VALUE) for number in range(40)]
    raw = block_of_keys(keys)
    damaged = Block(raw).restarts[1]
    block = Block(raw[:damaged] + b"\x7f" + raw[damaged + 1 :])
    entries = block.entries()
    assert [next(entries)[0] for _ in range(16)] == keys[:16]
    with pytest.raises(DecodeError):
        next(entries)
    backward = block.backward()
    assert [next(backward)[0] for _ in range(8)] == keys[:31:-1]


# ---- the index --------------------------------------------------------------------------------------------------------


def test_a_separator_lies_between_its_neighbours(rng: random.Random) -> None:
    """Rule 2 of the table: last <= K < first. And it is LevelDB's: one byte after the common prefix, if that is shorter."""
    for last, first, expected in (
        (b"abcdef", b"abzz", b"abd"),
        (b"abc", b"abz", b"abc"),  # no byte would be saved
        (b"abcdef", b"abd", b"abcdef"),  # c + 1 is not below d
        (b"ab\xffq", b"b", b"ab\xffq"),
        (b"a", b"ab", b"a"),  # a prefix of the next one
        (b"same", b"same", b"same"),
    ):
        found = separator(internal_key(last, 7, VALUE), internal_key(first, 5, VALUE))
        assert found[:-8] == expected, (
            f"between {last!r} and {first!r}: {expected!r} was expected, and {found[:-8]!r} found"
        )
        kept = expected == last
        assert found[-8:] == internal_key(b"", 7 if kept else MAX_SEQUENCE, VALUE), (
            "a shortened key has the highest trailer"
        )
    keys = sorted(
        {
            internal_key(bytes(rng.choices(b"ab\x00\xff", k=rng.randint(1, 5))), rng.randint(1, 99), VALUE)
            for _ in range(600)
        },
        key=order,
    )
    for last, first in pairwise(keys):
        found = separator(last, first)
        assert order(last) <= order(found) < order(first), f"{found!r} isn't between {last!r} and {first!r}"
        assert len(found) <= len(last)


def test_the_index_has_a_separator_for_each_block(rng: random.Random) -> None:
    """Of every block, and no block is larger than it has to be."""
    env, versions = SimEnv(), some_versions(rng, 900)
    build(env, versions, block_bytes=256)
    table = opened(env)
    assert table.blocks > 20
    found = []
    for number in range(table.blocks):
        here = list(table.block_rows(number))
        assert table.index_violations(number, here[0].internal_key, here[-1].internal_key) == []
        assert table.handles[number][1] < 256 + 60, f"block {number} has {table.handles[number][1]} bytes"
        found += here
    assert found == rows(versions), "the blocks together have every row once, in order"


# ---- real files -------------------------------------------------------------------------------------------------------


def test_a_table_of_real_leveldb_reads_back() -> None:
    """Golden: LevelDB 1.22 wrote it. Every row, in both directions, and gets of all kinds."""
    table = opened(with_file(real_table()))
    assert table.blocks == 3
    assert list(table.rows()) == rows(REAL_VERSIONS)
    assert list(table.rows(reverse=True)) == rows(REAL_VERSIONS)[::-1]
    for key, sequence, value in REAL_VERSIONS:
        assert table.get(key, sequence) == value, f"get({key!r}) as of {sequence}"
        if sequence not in (151, 301):
            assert table.get(key, sequence - 1) is ABSENT and table.get(key, MAX_SEQUENCE) == value
    assert table.get(b"river:0050", 300) == b"22500 " * 7 and table.get(b"river:0050", 150) is ABSENT
    for key in (b"", b"a", b"city:00990", b"river", b"town:0100", b"\xff"):
        assert table.get(key, MAX_SEQUENCE) is ABSENT


def test_our_table_is_real_leveldbs_byte_for_byte() -> None:
    """The other direction: told the same, we write the same 12,317 bytes."""
    require_same_bytes(content_of(REAL_VERSIONS), real_table())


# ---- damage -----------------------------------------------------------------------------------------------------------


def test_a_trailer_has_the_checksum_of_the_block_and_its_compression() -> None:
    """format.h: five bytes after each block."""
    found = add_trailer(b"block", 0)
    assert found == b"block\x00" + struct.pack("<I", mask(crc32c(b"block\x00")))
    assert add_trailer(b"block", 1)[-4:] != found[-4:], "the compression byte is covered by the checksum"


def test_a_flipped_byte_is_never_read_as_something_else(rng: random.Random) -> None:
    """Every byte of a table in turn: the rows are right, or it is CorruptionError. Only the zeros of the footer may change."""
    versions = some_versions(rng, 60)
    good, expected = content_of(versions, block_bytes=200), rows(versions)
    zeros = len(good) - 48 + len(good[-48:-8].rstrip(b"\x00"))
    step = max(1, 2 // rounds(2))
    for at in range(rng.randrange(step), len(good), step):
        damaged = bytearray(good)
        damaged[at] ^= rng.randrange(1, 256)
        try:
            found = list(opened(with_file(bytes(damaged))).rows())
        except CorruptionError:
            continue
        assert found == expected, f"byte {at} of {len(good)} was changed, and other rows came back"
        assert at >= zeros - 1, f"byte {at} of {len(good)} was changed, and nobody noticed"


def test_a_get_of_a_damaged_block_is_an_error(rng: random.Random) -> None:
    """Not "absent", and not another version: get reads one block, and checks it."""
    versions = [(b"%03d" % number, number + 1, b"value %d" % number) for number in range(100)]
    good = content_of(versions, block_bytes=300)
    offset, size = opened(with_file(good)).handles[2]
    inside = [row.key for row in opened(with_file(good)).block_rows(2)]
    damaged = bytearray(good)
    damaged[offset + rng.randrange(size)] ^= 0x10
    table = opened(with_file(bytes(damaged)))
    for key, sequence, value in versions:
        if key in inside:
            with pytest.raises(CorruptionError):
                pytest.fail(f"get({key!r}) from the damaged block gave {table.get(key, MAX_SEQUENCE)!r}")
        else:
            assert table.get(key, sequence) == value, "the other blocks are whole"


def test_a_table_that_was_cut_is_refused(rng: random.Random) -> None:
    """A power cut may leave any part of a file: google/leveldb issue 333 is a table of no bytes."""
    good = content_of(some_versions(rng, 60), block_bytes=200)
    for size in (0, 1, 47, 48, 100, len(good) - 49, len(good) - 1):
        with pytest.raises(CorruptionError):
            opened(with_file(good[:size]))


def test_a_table_is_on_disk_when_finish_returns(rng: random.Random) -> None:
    """The power is cut after every call: what is found is the whole table or CorruptionError; and after `finish`, the
    whole table."""
    versions = some_versions(rng, 200)
    env = SimEnv()
    images: list[SimEnv] = []

    def cut(call: object) -> None:
        images.extend(env.crash(policy, rng) for policy in Policy)

    env.after_call = cut
    file = env.open("/t", "w")
    env.sync_dir("/", "test")
    builder = TableBuilder(file, Options(filter=None, block_bytes=300), None)
    for row in rows(versions):
        builder.add(row)
    info = builder.finish("test")
    assert info.size_bytes == len(env.files()["/t"]), "`finish` says how large the table is"
    assert list(opened(env.crash(Policy.NOTHING, rng)).rows()) == rows(versions), (
        "the power failed right after `finish`"
    )
    for image in images:
        if "/t" in image.files():
            try:
                found = list(opened(image).rows())
            except CorruptionError:
                continue
            assert found == rows(versions), "half a table was read as a whole one"


# ---- reading ----------------------------------------------------------------------------------------------------------


def test_a_get_sees_the_newest_version_that_is_not_too_new(rng: random.Random) -> None:
    """As of any sequence, though a key's versions lie in several blocks; None for a tombstone."""
    versions = some_versions(rng, 240) + [(b"many", 1_000 + number, b"%d" % number) for number in range(60)]
    env = SimEnv()
    build(env, versions, block_bytes=150)
    table = opened(env)
    for moment in (0, 1, 100, 239, 1_000, 1_030, 1_059, MAX_SEQUENCE):
        visible = {key: value for key, sequence, value in versions if sequence <= moment}
        for key in [b"k%03d" % number for number in range(81)] + [b"many", b"", b"k", b"z"]:
            expected, found = visible.get(key, ABSENT), table.get(key, moment)
            assert found == expected, f"get({key!r}) as of {moment}: {expected!r} was expected, and {found!r} found"


def test_a_get_reads_one_block(rng: random.Random) -> None:
    """Rule 4, counted, and without a cache: one block for each get, whether the key is there or not; the index is in
    memory."""
    versions = some_versions(rng, 600)
    env = SimEnv()
    build(env, versions, block_bytes=200)
    table = opened(env)
    opening = table.counters.blocks_read
    assert opening == 2, f"opening read {opening} blocks: the index and the metaindex were expected"
    for number in range(201):
        for key in (b"k%03d" % number, b"k%03d0" % number):
            before = table.counters.blocks_read
            table.get(key, rng.choice((5, 300, MAX_SEQUENCE)))
            assert table.counters.blocks_read - before <= 1, (
                f"get({key!r}) read {table.counters.blocks_read - before} blocks"
            )
    before = table.counters.blocks_read
    assert table.get(b"z", 9) is ABSENT
    assert table.counters.blocks_read == before, "a key after the last one needs no block"


def test_a_range_comes_in_order_from_any_bound(rng: random.Random) -> None:
    """[start, stop), with bounds that are keys, separators, or neither."""
    versions = some_versions(rng, 300)
    env = SimEnv()
    build(env, versions, block_bytes=150)
    table = opened(env)
    expected = rows(versions)
    bounds = [b"", b"k", b"k010", b"k0100", b"k055", b"k099", b"l"] + [key[:-8] for key in table.separators[::4]]
    for start in bounds:
        for stop in [*bounds, None]:
            wanted = [row for row in expected if row.key >= start and (stop is None or row.key < stop)]
            assert list(table.rows(start, stop)) == wanted, f"rows({start!r}, {stop!r})"
            assert list(table.rows(start, stop, reverse=True)) == wanted[::-1], f"rows({start!r}, {stop!r}), in reverse"


def test_a_scan_reads_blocks_as_they_come(rng: random.Random) -> None:
    """One block to begin with, each of the others when it is reached, and none after the stop."""
    versions: list[Version] = [(b"%04d" % number, 1, b"x" * 20) for number in range(400)]
    env = SimEnv()
    build(env, versions, block_bytes=300)
    table = opened(env)
    opening = table.counters.blocks_read
    scan = table.rows(b"0100", b"0110")
    assert table.counters.blocks_read == opening, "nothing was asked for yet"
    assert next(scan) == Row.of(b"0100", 1, b"x" * 20)
    assert table.counters.blocks_read == opening + 1, "the first row needs one block"
    assert len(list(scan)) == 9
    assert table.counters.blocks_read <= opening + 3, "ten rows lie in two or three blocks"
