"""engines/lsm/block.py: a block is built, decoded, and searched in its bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.coding import DecodeError
from engines.lsm.block import BlockBuilder, decode, decode_entries, find_raw
from engines.lsm.keys import MAX_SEQUENCE, VALUE, internal_key, order

KEYS = st.binary(max_size=12)


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
