"""engines/lsm/block.py: a block is built, and its entries are found in its bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.coding import DecodeError
from engines.lsm.block import Block, BlockBuilder
from engines.lsm.fast.block import DecodedBlock, FastBlockBuilder, decode, decode_simple, find, shared_prefixes
from engines.lsm.keys import ABSENT, MAX_SEQUENCE, VALUE, internal_key, order

KEYS = st.binary(max_size=12)


def build(keys: list[bytes], values: list[bytes], interval: int) -> bytes:
    """A block of these entries; the fast builder makes the same bytes."""
    builder = BlockBuilder(interval)
    for key, value in zip(keys, values, strict=True):
        builder.add(key, value)
    size, raw = builder.size_bytes, builder.finish()
    assert len(raw) == size
    fast = FastBlockBuilder(interval)
    middle = len(keys) // 2  # in two pieces
    for part in (slice(middle), slice(middle, None)):
        shared = shared_prefixes(fast.last, keys[part])
        assert fast.fill(keys[part], values[part], shared, 0, 1 << 30) == len(keys[part])
    assert (fast.size_bytes, fast.finish()) == (size, raw)
    return raw


def test_a_blocks_bytes() -> None:
    """Golden: table/block_builder.cc's grammar, two restart points."""
    raw = build([b"apple", b"apply", b"banana"], [b"1", b"2", b"3"], 2)
    assert raw.hex(" ") == (
        "00 05 01 61 70 70 6c 65 31 04 01 01 79 32 00 06 01 62 61 6e 61 6e 61 33 00 00 00 00 0e 00 00 00 02 00 00 00"
    )
    assert build([], [], 16).hex(" ") == "00 00 00 00 01 00 00 00"


@pytest.mark.parametrize("kind", [Block, DecodedBlock])
@given(st.dictionaries(KEYS, st.binary(max_size=200), max_size=40), st.sampled_from([1, 2, 16, 1024]))
def test_a_block_has_what_was_put_in(kind: type[Block], pairs: dict[bytes, bytes], interval: int) -> None:
    """table_test.cc, the harness over restart intervals: all entries, and from any key on, forward and backward."""
    keys = [internal_key(key, 5, VALUE) for key in sorted(pairs)]
    entries = [(key, pairs[key[:-8]]) for key in keys]
    block = kind(build(keys, [value for _, value in entries], interval))
    assert list(block.entries()) == entries
    assert list(block.backward()) == entries[::-1]
    for key in [*pairs, b"", b"zz", b"\xff" * 13]:
        wanted = internal_key(key, MAX_SEQUENCE, VALUE)
        assert list(block.forward(wanted)) == [entry for entry in entries if order(entry[0]) >= order(wanted)]
        assert list(block.backward(wanted)) == [entry for entry in entries[::-1] if order(entry[0]) < order(wanted)]


def test_a_walk_begins_at_a_restart_point() -> None:
    """A damaged entry stops the walks that come to it, and no other."""
    keys = [internal_key(b"%03d" % number, 1, VALUE) for number in range(64)]
    raw = bytearray(build(keys, [b""] * 64, 16))
    raw[0] = 5  # what the first entry shares with nothing
    block = Block(bytes(raw))
    assert next(block.forward(keys[20])) == (keys[20], b"")
    assert next(block.backward()) == (keys[63], b"")
    with pytest.raises(DecodeError):
        next(block.entries())
    with pytest.raises(DecodeError):
        list(block.backward())


@pytest.mark.parametrize("kind", [Block, DecodedBlock])
@given(st.binary(max_size=80))
def test_a_block_of_nonsense_is_refused_or_read(kind: type[Block], raw: bytes) -> None:
    """No IndexError, no endless loop, nothing beyond the bytes."""
    for read in (Block.entries, Block.backward, lambda block: block.forward(internal_key(b"k", 1, VALUE))):
        try:
            list(read(kind(raw)))
        except DecodeError:
            continue


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        ("00 00 00", "at least 8 bytes"),
        ("00 00 00 00 00 00 00 00", "0 restart points"),
        ("00 00 00 00 ff ff ff ff", "restart points, in 8 bytes"),
        ("00 01 00 61 01 00 00 00 01 00 00 00", "don't ascend from 0"),
        ("00 01 00 61 00 00 00 00 09 00 00 00 02 00 00 00", "don't ascend from 0"),
    ],
)
def test_restart_points_that_cannot_be(raw: str, why: str) -> None:
    with pytest.raises(DecodeError, match=why):
        Block(bytes.fromhex(raw))


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        ("01 01 00 61 00 00 00 00 01 00 00 00", "shares 1 bytes with a key of 0"),
        ("00 09 00 61 00 00 00 00 01 00 00 00", "ends after the entries do"),
    ],
)
def test_entries_that_cannot_be(raw: str, why: str) -> None:
    with pytest.raises(DecodeError, match=why):
        list(Block(bytes.fromhex(raw)).entries())


@pytest.mark.parametrize("interval", [1, 3, 16])
def test_the_fast_builder_ends_a_block_at_the_entry_that_fills_it(interval: int) -> None:
    """table_builder.cc: the size, restart points included, is looked at after each entry."""
    keys = [b"%04d" % number for number in range(100)]
    builder = BlockBuilder(interval)
    count = 0
    while builder.size_bytes < 256:
        builder.add(keys[count], b"v" * 20)
        count += 1
    fast = FastBlockBuilder(interval)
    assert fast.fill(keys, [b"v" * 20] * 100, shared_prefixes(b"", keys), 0, 256) == fast.count == count
    assert fast.finish() == builder.finish()


def test_values_of_any_length_have_the_same_bytes_and_are_taken_apart_alike() -> None:
    """The lengths at which a varint takes one byte more, and at which the fast forms do something else."""
    sizes = [0, 1, 127, 128, 129, 255, 256, 1_023, 1_024, 16_383, 16_384, 1 << 21]
    for some in (sizes, sizes[:8], sizes[2:4], sizes[8:9]):
        keys = [internal_key(b"%04d" % at, 5, VALUE) for at in range(len(some))]
        values = [b"v" * size for size in some]
        for interval in (1, 16):
            raw = build(keys, values, interval)
            block = Block(raw)
            assert decode(raw, block.end) == (keys, values)
            assert decode_simple(raw, block.end) == ([key[:-8] for key in keys], values)
            assert [find(block, key[:-8], 5) for key in keys] == values
            assert find(block, b"none", 5) is ABSENT


def test_a_length_may_be_longer_than_it_need_be() -> None:
    """82 00 is 2, as for coding.py."""
    raw = bytes.fromhex("00 09 82 00 61 01 05 00 00 00 00 00 00 31 32 00 00 00 00 01 00 00 00")
    assert list(Block(raw).entries()) == list(zip(*decode(raw, 15)))
    assert find(Block(raw), b"a", 5) == b"12"
