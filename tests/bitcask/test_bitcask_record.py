"""Records: their bytes, what they mean, and what is said about bytes that are none."""

from __future__ import annotations

import random
import struct
from zlib import crc32

import pytest

from engines.bitcask import record as record_module
from engines.bitcask.record import (
    BadRecord,
    Mark,
    encode_mark,
    encode_record,
    encode_tombstone,
    half_of_overwrite,
    is_tombstone,
    parse_mark,
    read_records,
    tombstone_file,
)


def read_all(data: bytes) -> list[tuple[int, int, bytes, bytes]]:
    return list(read_records(data, 0, len(data)))


def test_a_record_is_a_big_endian_header_key_and_value() -> None:
    """bitcask.hrl: crc32, tstamp 32, ksz 16, vsz 32; the checksum covers all that follows it."""
    body = struct.pack(">IHI", 0x01020304, 3, 5) + b"key" + b"value"
    assert encode_record(0x01020304, b"key", b"value") == struct.pack(">I", crc32(body)) + body


@pytest.mark.parametrize("window_bytes", [14, 20, 1 << 20])
def test_what_was_written_is_read(rng: random.Random, monkeypatch: pytest.MonkeyPatch, window_bytes: int) -> None:
    """Through windows that hold a header only, as large as some, and larger than all."""
    monkeypatch.setattr(record_module, "WINDOW_BYTES", window_bytes)
    written, data = [], b"before"
    for _ in range(60):
        key, value = rng.randbytes(rng.choice((0, 1, 9))), rng.randbytes(rng.choice((0, 1, 30, 400)))
        timestamp = rng.randrange(1 << 32)
        written.append((len(data), timestamp, key, value))
        data += encode_record(timestamp, key, value)
    assert list(read_records(data + b"behind", len(b"before"), len(data))) == written


def test_every_flipped_bit_is_noticed_where_its_record_begins() -> None:
    first, second = encode_record(7, b"a", b"one"), encode_record(7, b"b", b"two")
    for at in range(len(second)):
        for bit in range(8):
            damaged = second[:at] + bytes((second[at] ^ 1 << bit,)) + second[at + 1 :]
            with pytest.raises(BadRecord) as caught:
                read_all(first + damaged)
            assert caught.value.offset == len(first)


def test_every_cut_is_noticed() -> None:
    first, second = encode_record(7, b"a", b"one"), encode_record(7, b"b", b"two")
    for size in range(1, len(second)):
        with pytest.raises(BadRecord, match=r"are left") as caught:
            read_all(first + second[:size])
        assert caught.value.offset == len(first)


def test_a_damaged_length_is_not_believed() -> None:
    """4 GiB of value are announced and not there: no attempt is made to read them."""
    with pytest.raises(BadRecord, match=r"4,294,967,309 bytes, and 14 are left"):
        read_all(struct.pack(">IIHI", 1, 1, 0, 0xFFFF_FFFF))


def test_zeros_are_told_from_a_wrong_checksum() -> None:
    """The checksum of an empty body isn't 0, so allocated space is no record."""
    with pytest.raises(BadRecord, match="zeros"):
        read_all(bytes(40))


def test_all_generations_of_tombstones_are_known() -> None:
    """bitcask.hrl: v0, v1 ("before file n"), v2 ("at file n")."""
    v2 = encode_tombstone(9, b"k", 5)[15:]
    assert v2 == b"bitcask_tombstone2\x00\x00\x00\x05"
    for value in (b"bitcask_tombstone", b"bitcask_tombstone1\x00\x00\x00\x05", v2, b"bitcask_tombstone and more"):
        assert is_tombstone(value)
    assert not is_tombstone(b"bitcask_tombston") and not is_tombstone(b"a bitcask_tombstone")
    assert tombstone_file(v2) == 5
    assert tombstone_file(b"bitcask_tombstone1\x00\x00\x00\x05") is None, "a v1 doesn't name the file of the value"
    assert tombstone_file(b"bitcask_tombstone2\x00") is None


def test_half_of_an_overwrite_has_no_time_and_an_older_file() -> None:
    tombstone = encode_tombstone(0, b"k", 5)[15:]
    assert half_of_overwrite(0, tombstone, 6)
    assert not half_of_overwrite(1, tombstone, 6)
    assert not half_of_overwrite(0, tombstone, 5), "a batch deletes what it has just written"
    assert not half_of_overwrite(0, b"bitcask_tombstone", 6)
    assert not half_of_overwrite(0, b"a value", 6)


def test_a_mark_comes_back_and_nothing_else_is_one() -> None:
    mark = Mark(3, 1 << 40, 77, 2, 99, 0xDEADBEEF)
    [(_, _, key, value)] = read_all(encode_mark(5, mark))
    assert parse_mark(key, value) == mark
    assert parse_mark(b"k", value) is None
    assert parse_mark(b"", value + b"x") is None
    assert parse_mark(b"", b"x" + value[1:]) is None
