"""Places: a record is read back as it was written, or not at all."""

from __future__ import annotations

import pytest

from engines.bitcask.place import CutRecord, pack, read_record, unpack
from engines.bitcask.record import BadRecord, encode_record

FIRST, SECOND = encode_record(7, b"a", b"one"), encode_record(7, b"key", b"value")
VIEW = FIRST + SECOND
OFFSET, SIZE = len(FIRST), len(SECOND)


def test_a_place_gives_exactly_its_record() -> None:
    assert read_record(VIEW, OFFSET, SIZE, b"key") == SECOND
    assert read_record(VIEW + b"more", OFFSET, SIZE, b"key") == SECOND


def test_a_flipped_bit_anywhere_is_noticed() -> None:
    for at in range(len(FIRST), len(VIEW)):
        for bit in range(8):
            damaged = VIEW[:at] + bytes((VIEW[at] ^ 1 << bit,)) + VIEW[at + 1 :]
            with pytest.raises(BadRecord, match="fails its checksum") as caught:
                read_record(damaged, OFFSET, SIZE, b"key")
            assert caught.value.offset == len(FIRST)


def test_a_file_that_ends_before_the_record_is_told_apart() -> None:
    """To a reader beside another program it is no damage (engines.bitcask.core)."""
    for size in range(len(VIEW)):
        with pytest.raises(CutRecord, match="the file ends after"):
            read_record(VIEW[:size], OFFSET, SIZE, b"key")


def test_another_keys_record_is_no_answer() -> None:
    with pytest.raises(BadRecord, match=r"the record of b'other' should be here, and it is another key's"):
        read_record(VIEW, OFFSET, SIZE, b"other")


@pytest.mark.parametrize("file_id", [1, 2**32 - 1])
@pytest.mark.parametrize("offset", [0, 1, 2**47 - 1])
@pytest.mark.parametrize("size", [14, 14 + 65_535 + 2**32 - 1])
def test_a_place_holds_the_greatest_numbers_of_the_format(file_id: int, offset: int, size: int) -> None:
    """A file id has 32 bits, a key size 16 and a value size 32."""
    assert unpack(pack(file_id, offset, size)) == (file_id, offset, size)
