"""engines/coding.py: integers and slices as bytes (reference: LevelDB's util/coding.cc)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.coding import (
    DecodeError,
    get_slice,
    get_varint32,
    get_varint64,
    put_slice,
    put_varint,
    u32,
    u64,
)

GOLDEN = [
    (0, "00"),
    (1, "01"),
    (127, "7f"),
    (128, "80 01"),
    (300, "ac 02"),
    (16_383, "ff 7f"),
    (16_384, "80 80 01"),
    ((1 << 32) - 1, "ff ff ff ff 0f"),
    (1 << 32, "80 80 80 80 10"),
    ((1 << 63) - 1, "ff ff ff ff ff ff ff ff 7f"),
    ((1 << 64) - 1, "ff ff ff ff ff ff ff ff ff 01"),
]


@pytest.mark.parametrize(("value", "encoded"), GOLDEN)
def test_varints_are_these_bytes(value: int, encoded: str) -> None:
    """Base 128, low 7 bits first, a set high bit says that more follows."""
    assert put_varint(value) == bytes.fromhex(encoded)
    assert get_varint64(bytes.fromhex(encoded), 0) == (value, len(bytes.fromhex(encoded)))


def test_fixed_integers_are_little_endian() -> None:
    """fixed32 and fixed64."""
    assert u32.pack(300).hex(" ") == "2c 01 00 00"
    assert u64.pack(300).hex(" ") == "2c 01 00 00 00 00 00 00"
    assert (u32.size, u64.size) == (4, 8)


def test_slices_follow_their_length() -> None:
    """A varint length, then that many bytes; the empty slice is one byte."""
    assert put_slice(b"hi").hex(" ") == "02 68 69"
    assert put_slice(b"") == b"\x00"
    assert put_slice(b"x" * 300)[:3].hex(" ") == "ac 02 78"
    assert get_slice(bytes.fromhex("02 68 69 ff"), 0) == (b"hi", 3)


@given(st.integers(0, (1 << 64) - 1), st.binary(max_size=5), st.binary(max_size=5))
def test_a_varint_comes_back_from_anywhere(value: int, before: bytes, after: bytes) -> None:
    """Whatever lies around it, from bytes and from a view of them, and it takes as few bytes as it can."""
    encoded = put_varint(value)
    buffer = before + encoded + after
    end = len(before) + len(encoded)
    assert get_varint64(buffer, len(before)) == (value, end)
    assert get_varint64(memoryview(buffer), len(before)) == (value, end)
    assert len(encoded) == max(1, (value.bit_length() + 6) // 7)


@given(st.integers(0, (1 << 64) - 1))
def test_32_bits_are_a_limit(value: int) -> None:
    """get_varint32 refuses what get_varint64 takes, from 2**32 on."""
    if value < 1 << 32:
        assert get_varint32(put_varint(value), 0) == (value, len(put_varint(value)))
    else:
        with pytest.raises(DecodeError):
            get_varint32(put_varint(value), 0)


@given(st.integers(0, (1 << 64) - 1))
def test_every_truncation_of_a_varint_is_an_error(value: int) -> None:
    """A decoder never reads past its buffer."""
    encoded = put_varint(value)
    for size in range(len(encoded)):
        with pytest.raises(DecodeError):
            get_varint64(encoded[:size], 0)


@given(st.binary(max_size=300), st.binary(max_size=5))
def test_a_slice_comes_back_and_no_truncation_of_it_does(data: bytes, after: bytes) -> None:
    """The length is never believed: what isn't there is an error."""
    encoded = put_slice(data)
    assert get_slice(encoded + after, 0) == (data, len(encoded))
    for size in range(len(encoded)):
        with pytest.raises(DecodeError):
            get_slice(encoded[:size], 0)


def test_a_huge_length_costs_nothing() -> None:
    """A length of 4 GiB in front of three bytes is refused before anything of that size is made."""
    with pytest.raises(DecodeError, match="a slice of 4294967295 bytes begins at byte 5, but only 8 bytes are there"):
        get_slice(put_varint((1 << 32) - 1) + b"abc", 0)
    with pytest.raises(DecodeError):
        get_slice(put_varint(1 << 32) + b"abc", 0)


@pytest.mark.parametrize("decode", [get_varint32, get_varint64, get_slice])
@pytest.mark.parametrize("offset", [-1, -3, 3, 4, 1 << 40])
def test_an_offset_outside_of_the_buffer_is_an_error(
    decode: Callable[[bytes, int], tuple[object, int]], offset: int
) -> None:
    """Never an IndexError, and never the byte from the other end."""
    with pytest.raises(DecodeError):
        decode(b"\x01\x01\x01", offset)


@pytest.mark.parametrize(
    ("decode", "encoded"),
    [
        (get_varint32, "ff ff ff ff 1f"),  # bit 32 is set
        (get_varint32, "80 80 80 80 80 00"),  # a sixth byte, although it adds nothing
        (get_varint64, "ff ff ff ff ff ff ff ff ff 02"),  # bit 64 is set
        (get_varint64, "80 80 80 80 80 80 80 80 80 80 00"),  # an eleventh byte
        (get_varint64, "ff" * 100),
    ],
)
def test_a_varint_that_is_too_long_is_an_error(decode: Callable[[bytes, int], object], encoded: str) -> None:
    """At most 5 bytes for 32 bits, and 10 for 64; a loop over what somebody else wrote has an end."""
    with pytest.raises(DecodeError, match="does not fit in"):
        decode(bytes.fromhex(encoded), 0)


def test_a_longer_spelling_than_needed_is_read() -> None:
    """LevelDB writes none, and reads them."""
    assert get_varint32(bytes.fromhex("81 00"), 0) == (1, 2)
    assert get_varint64(bytes.fromhex("80 80 80 80 80 80 80 80 80 00"), 0) == (0, 10)


@given(st.binary(max_size=12), st.integers(0, 12))
def test_no_bytes_make_a_decoder_fail_otherwise(buffer: bytes, offset: int) -> None:
    """An answer within the buffer, or DecodeError."""
    for decode in (get_varint32, get_varint64, get_slice):
        try:
            _, end = decode(buffer, offset)
        except DecodeError:
            continue
        assert offset < end <= len(buffer)
