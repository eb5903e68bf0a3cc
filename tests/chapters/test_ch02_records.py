"""Chapter 2, records that survive a torn write: the bytes of one record, and what is said about bytes that are none.

The golden bytes were written by the real Bitcask (erlang-bitcask, its clock held at 1).
"""

from __future__ import annotations

import random
import struct
import tracemalloc
from collections.abc import Callable
from typing import Any, TypeVar
from zlib import crc32

import pytest

from engines.bitcask.place import CutRecord, read_record
from engines.bitcask.record import (
    HEADER_BYTES,
    BadRecord,
    claimed_size,
    decode_record,
    encode_record,
    encode_tombstone,
    is_tombstone,
    read_records,
    refuse_tombstone,
    tombstone_file,
)
from engines.errors import ReservedValue
from tests.chapters.kit import rounds

REAL = [  # 1.bitcask.data of the real Bitcask, which put a=1, b=22, c=333
    (b"a", b"1", "e623e973 00000001 0001 00000001 61 31"),
    (b"b", b"22", "e8e1ff16 00000001 0001 00000002 62 3232"),
    (b"c", b"333", "04ebcf96 00000001 0001 00000003 63 333333"),
]
REAL_TOMBSTONE = "9c43b7b5 00000001 0001 00000016 61 626974636173 6b5f746f6d6273746f6e6532 00000001"

HUGE = 0xFFFF_FFFF

Refusal = TypeVar("Refusal", bound=Exception)


def bits_flipped(data: bytes) -> list[tuple[str, bytes]]:
    """The data with each bit flipped in turn, and where that was."""
    return [
        (f"bit {bit} of byte {at}", data[:at] + bytes((data[at] ^ 1 << bit,)) + data[at + 1 :])
        for at in range(len(data))
        for bit in range(8)
    ]


def refused(error: type[Refusal], what: str, call: Callable[..., object], *arguments: Any) -> Refusal:
    """The error with which a call is refused; says which call it was, if there is none."""
    try:
        call(*arguments)
    except error as raised:
        return raised
    raise AssertionError(f"{what} has to raise {error.__name__}, and raised nothing")


def sizes_of(record: bytes) -> tuple[int, int]:
    """Those of key and value, as the header says."""
    key_size, value_size = struct.unpack_from(">HI", record, 8)
    return key_size, value_size


class Slices:
    """Bytes that note the size of every slice that is taken of them."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.taken: list[int] = []

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int | slice) -> int | bytes:
        if isinstance(index, slice):
            start, stop, _ = index.indices(1 << 40)  # as it was asked for, whatever is there
            self.taken.append(stop - start)
        return self.data[index]


# ---- one record -------------------------------------------------------------------------------------------------------


def test_a_record_begins_with_its_checksum_time_and_sizes() -> None:
    """bitcask.hrl: crc32, timestamp 32 bits, key size 16, value size 32, all big-endian; then the key, then the value."""
    record = encode_record(0x01020304, b"key", b"value")
    assert record[4:] == struct.pack(">IHI", 0x01020304, 3, 5) + b"keyvalue", "what follows the checksum"
    assert record[:4] == struct.pack(">I", crc32(record[4:])), "the checksum covers all that follows it"


@pytest.mark.parametrize(("key", "value", "golden"), REAL, ids=["a=1", "b=22", "c=333"])
def test_a_record_has_the_bytes_of_the_real_bitcask(key: bytes, value: bytes, golden: str) -> None:
    expected = bytes.fromhex(golden)
    assert encode_record(1, key, value).hex(" ") == expected.hex(" ")
    assert decode_record(expected, 0) == (len(expected), 1, key, value)


def test_a_decoded_record_is_what_was_encoded(rng: random.Random) -> None:
    """Anywhere in the bytes; empty keys and values, too."""
    for _ in range(rounds(400)):
        key, value = rng.randbytes(rng.choice((0, 1, 9))), rng.randbytes(rng.choice((0, 1, 30, 4_000)))
        timestamp, before, after = rng.randrange(1 << 32), rng.randbytes(5), rng.randbytes(20)
        record = encode_record(timestamp, key, value)
        decoded = decode_record(before + record + after, len(before))
        assert decoded == (len(before) + len(record), timestamp, key, value), f"{key!r}, {len(value)} bytes of value"


def test_a_record_that_is_cut_anywhere_is_not_decoded() -> None:
    """What a crash leaves of a write may end in the checksum, the sizes, the key or the value: None, and no error."""
    before, record = b"before", encode_record(7, b"key", b"value")
    for size in range(len(record)):
        assert decode_record(before + record[:size], len(before)) is None, f"cut to {size} of {len(record)} bytes"
    assert decode_record(record, len(record)) is None, "there is nothing at the end"


def test_a_flipped_bit_anywhere_is_noticed() -> None:
    """In the checksum itself, in the time, in the sizes, in key or value."""
    record = encode_record(7, b"key", b"value")
    for where, damaged in bits_flipped(record):
        try:
            decoded = decode_record(damaged, 0)
        except BadRecord as bad:
            assert bad.offset == 0
        else:
            # a size that has grown leads beyond the end: then there is nothing that could be verified
            assert decoded is None and len(record) < HEADER_BYTES + sum(sizes_of(damaged)), f"{where} is believed"


def test_zeros_are_no_record() -> None:
    """A file whose space was allocated and never written is full of them."""
    refused(BadRecord, "decode_record of 40 zeros", decode_record, bytes(40), 0)


# ---- a file of records ------------------------------------------------------------------------------------------------


def test_records_follow_each_other_without_a_gap(rng: random.Random) -> None:
    """Through windows of any size, so that a record may begin in one and end in another."""
    for _ in range(rounds(80)):
        written, data = [], rng.randbytes(7)
        for _ in range(20):
            key, value = rng.randbytes(rng.choice((0, 1, 9))), rng.randbytes(rng.choice((0, 1, 30, 400)))
            written.append((len(data), 5, key, value))
            data += encode_record(5, key, value)
        window_bytes = rng.choice((14, 15, 40, 400, 1 << 20))
        found = list(read_records(data + b"what follows", 7, len(data), window_bytes))
        assert found == written, f"with a window of {window_bytes} bytes"


def test_a_torn_last_record_is_told_apart_from_the_ones_before() -> None:
    """Those have been handed out, and the error says where the bad one begins: that is where a file is cut."""
    first, last = encode_record(7, b"a", b"one"), encode_record(7, b"b", b"two")
    torn = [(f"cut to {size} bytes", last[:size]) for size in range(1, len(last))]
    for what, end in torn + bits_flipped(last):
        records = read_records(first + end, 0, len(first + end))
        assert next(records) == (0, 7, b"a", b"one")
        bad = refused(BadRecord, f"reading the last record, {what},", next, records)
        assert bad.offset == len(first), f"the last record, {what}, begins at byte {len(first)}"


def test_a_huge_length_is_not_believed() -> None:
    """A few damaged bits can announce 4 GiB of value. Nothing is asked for that isn't there."""
    header = struct.pack(">IIHI", 1, 1, 1, HUGE) + b"k"
    data = Slices(header + b"some bytes of a value")
    tracemalloc.start()
    with pytest.raises(BadRecord) as caught:
        list(read_records(data, 0, len(data)))  # type: ignore[arg-type]
    assert decode_record(header, 0) is None
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert caught.value.offset == 0
    assert max(data.taken) <= len(data), f"{max(data.taken):,} bytes were asked for, and the file has {len(data)}"
    assert peak_bytes < 1 << 20, f"{peak_bytes:,} bytes were allocated for a record of {len(data)}"


def test_a_claimed_size_fits_into_what_is_left() -> None:
    record = encode_record(7, b"key", b"v" * 1_000)
    window = record[:HEADER_BYTES]
    assert claimed_size(window, 100, 100 + len(record)) == len(record), "the file ends with the record"
    assert claimed_size(window, 100, 9_999) == len(record), "more follows it"
    for stop in (100 + len(record) - 1, 100 + HEADER_BYTES):
        what = f"claimed_size of a record of {len(record):,} bytes, of which {stop - 100:,} are left,"
        assert refused(BadRecord, what, claimed_size, window, 100, stop).offset == 100, "where the record begins"
    for size in range(HEADER_BYTES):
        what = f"claimed_size of {size} bytes, after which nothing is left,"
        assert refused(BadRecord, what, claimed_size, record[:size], 100, 100 + size).offset == 100


# ---- one record of a known key ----------------------------------------------------------------------------------------


def test_a_record_is_read_at_its_place_in_one_read() -> None:
    """The place says where and how long; one slice, exactly of that size: no header first and value then."""
    record = encode_record(7, b"key", b"value")
    view = Slices(b"before" + record + b"after")
    assert read_record(view, 6, len(record), b"key") == record  # type: ignore[arg-type]
    assert view.taken == [len(record)], "one slice of exactly the record is asked for"


def test_a_record_is_verified_whenever_it_is_read() -> None:
    """A disk may give back other bytes than it was given, years later: the checksum is checked at each read."""
    record = encode_record(7, b"key", b"value")
    for where, damaged in bits_flipped(record):
        bad = refused(
            BadRecord, f"a record with {where} flipped", read_record, b"before" + damaged, 6, len(record), b"key"
        )
        assert bad.offset == 6, f"{where} is flipped in the record at byte 6"
        assert not isinstance(bad, CutRecord), f"all bytes are there, with {where} flipped: this is no CutRecord"
    for size in range(len(record)):
        what = f"a record of which {size} of {len(record)} bytes are there"
        refused(CutRecord, what, read_record, b"before" + record[:size], 6, len(record), b"key")


def test_a_record_of_another_key_is_not_taken() -> None:
    """Its checksum is right, and it is not what was asked for: a write that went to the wrong place leaves that."""
    record = encode_record(7, b"key", b"value")
    for other in (b"kex", b"ke", b"keyv"):  # the latter two fit the bytes: only the size of the key tells
        what = f"a record of b'key' that is read for {other!r}"
        bad = refused(BadRecord, what, read_record, record, 0, len(record), other)
        assert not isinstance(bad, CutRecord), "all bytes are there: this is no CutRecord"


# ---- tombstones -------------------------------------------------------------------------------------------------------


def test_a_tombstone_has_the_bytes_of_the_real_bitcask() -> None:
    """Of a deletion of "a", whose value was in file 1."""
    assert encode_tombstone(1, b"a", 1).hex(" ") == bytes.fromhex(REAL_TOMBSTONE).hex(" ")


def test_tombstones_of_every_generation_are_known() -> None:
    """bitcask.hrl: v0, v1 and v2. A value that only resembles one is a value."""
    for value in (
        b"bitcask_tombstone",
        b"bitcask_tombstone1\x00\x00\x00\x05",
        b"bitcask_tombstone2\x00\x00\x00\x05",
        b"bitcask_tombstone and more",
    ):
        assert is_tombstone(value), f"{value!r} is a tombstone"
    for value in (b"", b"bitcask_tombston", b"a bitcask_tombstone", b"Bitcask_tombstone"):
        assert not is_tombstone(value), f"{value!r} is a value"


def test_only_a_tombstone_of_today_names_a_file() -> None:
    for file_id in (1, 5, HUGE):
        _, _, _, value = decode_record(encode_tombstone(9, b"k", file_id), 0) or (0, 0, b"", b"")
        assert tombstone_file(value) == file_id
    for value in (
        b"bitcask_tombstone",
        b"bitcask_tombstone1\x00\x00\x00\x05",
        b"bitcask_tombstone2\x00\x00\x05",
        b"bitcask_tombstone2\x00\x00\x00\x05more",
        b"a value of 22 bytes...",
    ):
        assert tombstone_file(value) is None, f"{value!r} names no file"


def test_a_value_that_reads_as_a_deletion_is_refused() -> None:
    """The format has no way to write it: the real Bitcask stores such a value, and then says that there is none."""
    for value in (b"bitcask_tombstone", b"bitcask_tombstone of a user"):
        why = refused(ReservedValue, f"refuse_tombstone({value!r})", refuse_tombstone, value)
        assert str(why), "the error has a sentence that says what was wrong"
    for value in (b"", b"bitcask_tombston", b" bitcask_tombstone"):
        refuse_tombstone(value)
