"""engines/lsm/bloom.py: our filter and LevelDB's."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.coding import DecodeError
from engines.lsm.bloom import (
    BlockedBloom,
    BlockedBloomBuilder,
    LevelDBBloom,
    LevelDBBloomBuilder,
    leveldb_hash,
)

GOLDEN_FILTER = (
    "0108000080000000000000040000000000000000000000000000000000601000"
    "0010000000200000000001004080001000000400001000000000000000000008"
)


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
