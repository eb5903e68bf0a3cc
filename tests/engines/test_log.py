"""The log format: its bytes, every way in which a record can meet the end of a block, and what damage does to it.

The cases from `marginal` on are those of LevelDB's db/log_test.cc, by name. Each damaged log is read by both readers: the
strict one must tell a torn tail from bit rot, and the lenient one must return and drop what LevelDB's reader does.
"""

import random
import struct
from pathlib import Path

import pytest
from crc32c import crc32c
from hypothesis import given
from hypothesis import strategies as st

from engines.env import real_env
from engines.errors import CorruptionError
from engines.log import (
    BLOCK_BYTES,
    HEADER_BYTES,
    LogReader,
    LogWriter,
    encode_record,
    encode_records,
    fragment_checksum,
    mask,
    record_offset,
    unmask,
)
from engines.log_tools import LenientReader, dump_log

FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


def big(text: str, size: int) -> bytes:
    """`text` over and over, cut to `size` bytes."""
    return (text.encode() * (size // len(text) + 1))[:size]


def number(n: int) -> bytes:
    return b"%d." % n


def skewed(rng: random.Random, i: int) -> bytes:
    """A record whose size is small most of the time and large now and then."""
    return big(f"{i}.", rng.randrange(1 << rng.randint(0, 17)))


def strict(data: bytes, **options: object) -> tuple[list[bytes], LogReader]:
    reader = LogReader(data, "test.log", **options)  # type: ignore[arg-type]
    return [payload for _, payload in reader], reader


def lenient(data: bytes) -> tuple[list[bytes], list[str]]:
    reader = LenientReader(data)
    return [payload for _, payload in reader], [drop.why for drop in reader.drops]


def with_type(data: bytes, offset: int, kind: int) -> bytes:
    """The log with another type in the fragment at `offset`, under a right checksum."""
    _, length, _ = struct.unpack_from("<IHB", data, offset)
    body = data[offset + HEADER_BYTES : offset + HEADER_BYTES + length]
    header = struct.pack("<IHB", fragment_checksum(kind, body), length, kind)
    return data[:offset] + header + data[offset + HEADER_BYTES :]


def with_byte(data: bytes, offset: int, byte: int) -> bytes:
    return data[:offset] + bytes((byte,)) + data[offset + 1 :]


def flipped(data: bytes, offset: int) -> bytes:
    return with_byte(data, offset, data[offset] ^ 0x80)


def refused(data: bytes, **options: object) -> CorruptionError:
    with pytest.raises(CorruptionError) as caught:
        strict(data, **options)
    return caught.value


def assert_torn(data: bytes, whole: list[bytes], offset: int, why: str) -> None:
    """The strict reader ends before `offset`, and says why; the lenient one agrees about the records."""
    records, reader = strict(data)
    assert records == whole
    assert reader.end == offset
    assert reader.torn is not None and reader.torn.offset == offset and why in reader.torn.why
    assert reader.torn.size_bytes == len(data) - offset


# ---- the bytes ------------------------------------------------------------------------------------------------------


def test_the_checksum_is_crc32c_as_in_rfc_3720_and_masked_as_in_leveldb():
    """RFC 3720 B.4; LevelDB's util/crc32c_test.cc."""
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(bytes(range(32))) == 0x46DD794E
    crc = crc32c(b"foo")
    assert mask(crc) != crc and mask(mask(crc)) != crc
    assert unmask(mask(crc)) == crc and unmask(unmask(mask(mask(crc)))) == crc


@given(st.integers(0, (1 << 32) - 1))
def test_unmasking_undoes_masking(crc: int):
    assert unmask(mask(crc)) == crc
    assert mask(crc) == (((crc >> 15) | (crc << 17 & 0xFFFFFFFF)) + 0xA282EAD8) & 0xFFFFFFFF


def test_the_bytes_of_small_records():
    """A FULL fragment: masked checksum, length, type, data. These bytes never change."""
    assert encode_record(0, b"hello").hex(" ") == "0b b9 57 58 05 00 01 68 65 6c 6c 6f"
    assert encode_record(0, b"").hex(" ") == "05 2b 28 43 00 00 01"
    assert encode_records(0, [b"hello", b""]) == encode_record(0, b"hello") + encode_record(12, b"")


def test_the_bytes_at_the_end_of_a_block():
    """Exactly 7 bytes left take an empty FIRST; fewer are zeros."""
    assert encode_record(BLOCK_BYTES - 7, b"hi").hex(" ") == "64 51 d0 e9 00 00 02 65 df 64 f5 02 00 04 68 69"
    assert encode_record(BLOCK_BYTES - 7, b"").hex(" ") == "05 2b 28 43 00 00 01"
    assert encode_record(BLOCK_BYTES - 8, b"hi").hex(" ") == "4f 65 a5 bb 01 00 02 68 16 38 c4 5f 01 00 04 69"
    for left in range(1, HEADER_BYTES):
        assert encode_record(BLOCK_BYTES - left, b"hello") == bytes(left) + encode_record(0, b"hello")


def test_a_record_of_many_blocks_is_first_middle_last():
    data = encode_record(100, b"x" * 100_000)
    kinds = []
    at, offset = 0, 100
    while at < len(data):
        _, length, kind = struct.unpack_from("<IHB", data, at)
        kinds.append(kind)
        at += HEADER_BYTES + length
        offset += HEADER_BYTES + length
        assert offset % BLOCK_BYTES == 0 or at == len(data)
    assert kinds == [FIRST, MIDDLE, MIDDLE, LAST]


# ---- writing and reading --------------------------------------------------------------------------------------------


def test_an_empty_log_has_no_records():
    assert strict(b"")[0] == [] and lenient(b"")[0] == []


def test_records_are_read_in_order_with_their_offsets_and_reading_past_the_end_is_nothing():
    """LevelDB's ReadWrite and ReadPastEnd."""
    data = encode_records(0, [b"foo", b"bar", b"", b"xxxx"])
    reader = LogReader(data, "test.log")
    records = iter(reader)
    assert list(records) == [(0, b"foo"), (10, b"bar"), (20, b""), (27, b"xxxx")]
    assert next(records, None) is None and next(records, None) is None
    assert reader.end == len(data) and reader.torn is None


def test_many_blocks_of_small_records():
    payloads = [number(i) for i in range(20_000)]
    assert strict(encode_records(0, payloads))[0] == payloads


def test_fragmentation():
    payloads = [b"small", big("medium", 50_000), big("large", 100_000)]
    data = encode_records(0, payloads)
    assert strict(data)[0] == payloads and lenient(data) == (payloads, [])


@pytest.mark.parametrize("left", range(9))
@pytest.mark.parametrize("second", [b"", b"bar", big("bar", 70_000)])
def test_marginal_trailer_short_trailer_and_aligned_end(left: int, second: bytes):
    """MarginalTrailer (7 left), MarginalTrailer2 (an empty record there), ShortTrailer (4), AlignedEof (0), and the rest."""
    first = big("foo", BLOCK_BYTES - HEADER_BYTES - left)
    data = encode_records(0, [first, second, b"after"])
    reader = LogReader(data, "test.log")
    assert [payload for _, payload in reader] == [first, second, b"after"]
    assert lenient(data) == ([first, second, b"after"], [])
    offsets = [offset for offset, _ in LogReader(data, "test.log")]
    assert offsets[1] == record_offset(BLOCK_BYTES - left) == (BLOCK_BYTES - left if left >= 7 else BLOCK_BYTES)


def test_random_records_are_read_back(rng: random.Random):
    """LevelDB's RandomRead: 500 records of skewed sizes."""
    payloads = [skewed(rng, i) for i in range(500)]
    data = encode_records(0, payloads)
    assert strict(data)[0] == payloads
    assert lenient(data) == (payloads, [])


@given(st.lists(st.integers(0, 3 * BLOCK_BYTES), max_size=8), st.data())
def test_one_write_for_each_record_or_one_for_all_gives_the_same_bytes(sizes: list[int], data: st.DataObject):
    payloads = [big(f"{i}-", size) for i, size in enumerate(sizes)]
    cut = data.draw(st.integers(0, len(payloads)))
    written: list[bytes] = []

    class Collecting:
        def append(self, data: bytes) -> None:
            written.append(data)

    log = LogWriter(Collecting())  # type: ignore[arg-type]
    log.append_many(payloads[:cut])
    for payload in payloads[cut:]:
        log.append(payload)
    assert len(written) == 1 + len(payloads) - cut, "one write for each call"
    assert b"".join(written) == encode_records(0, payloads)
    assert log.offset == len(b"".join(written))


@pytest.mark.parametrize("size", [0, 1, 100, BLOCK_BYTES - 7, BLOCK_BYTES - 10, 40_000, 2 * BLOCK_BYTES - 14])
def test_a_log_can_be_reopened_and_gone_on_with(tmp_path: Path, size: int):
    """LevelDB's OpenForAppend, for several places in the block."""
    path = str(tmp_path / "a.log")
    file = real_env().open(path, "w")
    LogWriter(file).append(big("first", size))
    file.close()
    file = real_env().open(path, "r+")
    reader = LogReader(file, path)
    assert len(list(reader)) == 1
    LogWriter(file, reader.end).append(b"second")
    assert [payload for _, payload in LogReader(file, path)] == [big("first", size), b"second"]
    file.close()
    assert (tmp_path / "a.log").read_bytes() == encode_records(0, [big("first", size), b"second"])


def test_the_zeros_of_preallocated_space_are_a_clean_end():
    data = encode_records(0, [b"foo", b"bar"])
    for zeros in (1, 6, 7, 100, BLOCK_BYTES, 3 * BLOCK_BYTES + 5):
        records, reader = strict(data + bytes(zeros))
        assert records == [b"foo", b"bar"] and reader.end == len(data) and reader.torn is None
    assert lenient(data + bytes(3 * BLOCK_BYTES)) == ([b"foo", b"bar"], [])


@pytest.mark.parametrize("zero_blocks", [0, 1, 3])
@pytest.mark.parametrize("at", [0, 100, BLOCK_BYTES - 7])
def test_a_hole_of_zeros_is_read_past_only_if_the_record_behind_it_goes_on(at: int, zero_blocks: int):
    """Rule 8; db/log_reader.cc reads past any such zeros, because a program may have gone on after allocated space."""
    before = encode_records(0, [bytes(at - HEADER_BYTES)]) if at else b""
    hole = bytes(BLOCK_BYTES - at + zero_blocks * BLOCK_BYTES)
    data = before + hole + encode_records(0, [b"behind", b"last"])
    asked: list[bytes] = []

    def yes(payload: bytes) -> bool:
        asked.append(payload)
        return True

    records, reader = strict(data, goes_on=yes)
    assert records[-2:] == [b"behind", b"last"] and reader.holes == [(at, len(hole))] and reader.torn is None
    assert asked == [b"behind"] and reader.end == len(data)
    assert lenient(data) == (records, [])
    for goes_on in (None, lambda payload: False):
        assert refused(data, goes_on=goes_on).offset == at
        records, reader = strict(data, goes_on=goes_on, testimony=None)
        assert len(records) == bool(at) and reader.torn is not None and reader.torn.offset == at
    assert "zeros up to the end of the block" in "\n".join(dump_log(data))


def test_zeros_that_end_within_a_block_are_no_hole():
    """LevelDB skips the block's rest, and with it the records there; nothing says that they are none."""
    data = encode_records(0, [b"foo"]) + bytes(90)
    data += encode_records(len(data) % BLOCK_BYTES, [b"behind"])
    assert refused(data, goes_on=lambda payload: True).offset == 10


def test_a_hole_inside_a_record_is_damage():
    data = encode_records(0, [b"foo", bytes(2 * BLOCK_BYTES)])
    data = (
        data[:BLOCK_BYTES]
        + bytes(BLOCK_BYTES)
        + data[2 * BLOCK_BYTES :]
        + encode_records(len(data) % BLOCK_BYTES, [b"behind"])
    )
    assert refused(data, goes_on=lambda payload: True).offset == 10


def test_a_hole_behind_which_a_record_is_torn_is_a_torn_tail():
    data = encode_records(0, [b"foo"])
    data += bytes(BLOCK_BYTES - len(data)) + encode_records(0, [b"behind"])[:-1]
    records, reader = strict(data, goes_on=lambda payload: True)
    assert records == [b"foo"] and reader.torn is not None and reader.torn.offset == 10


def test_a_reader_needs_no_open_file(tmp_path: Path):
    path = str(tmp_path / "a.log")
    file = real_env().open(path, "w")
    LogWriter(file).append(b"foo")
    reader = LogReader(file, path)
    file.close()
    assert list(reader) == [(0, b"foo")]


# ---- torn tails -----------------------------------------------------------------------------------------------------


def test_a_log_cut_anywhere_ends_with_its_last_whole_record(rng: random.Random):
    payloads = [skewed(rng, i)[:3000] for i in range(12)]
    ends = [len(encode_records(0, payloads[:n])) for n in range(len(payloads) + 1)]
    data = encode_records(0, payloads)
    for size in range(0, len(data), 7):
        records, reader = strict(data[:size])
        whole = max(n for n, end in enumerate(ends) if end <= size)
        assert records == payloads[:whole] and reader.end == ends[whole]
        assert (reader.torn is None) == (size == ends[whole])
        assert lenient(data[:size]) == (payloads[:whole], []), "a writer that died is nothing to report"


def test_a_truncated_trailing_record_is_ignored():
    data = encode_record(0, b"foo")
    assert_torn(data[:-1], [], 0, "a fragment of 3 bytes was expected, but the block has only 2 more")
    assert lenient(data[:-1]) == ([], [])
    assert_torn(data[:4], [], 0, "4 bytes are no whole header")


def test_a_bad_length_at_the_end_is_ignored():
    data = encode_record(0, b"foo")
    assert_torn(data[:-1], [], 0, "a fragment of 3 bytes")
    longer = with_byte(data, 4, 200)
    assert_torn(longer, [], 0, "a fragment of 200 bytes")
    assert lenient(longer) == ([], [])


def test_a_missing_last_fragment_is_ignored():
    data = encode_record(0, big("bar", BLOCK_BYTES))[:BLOCK_BYTES]
    assert_torn(data, [], 0, "last fragment is missing")
    assert lenient(data) == ([], [])


def test_a_partial_last_fragment_is_ignored():
    data = encode_record(0, big("bar", BLOCK_BYTES))[:-1]
    assert_torn(data, [], 0, "a fragment of 7 bytes was expected")
    assert lenient(data) == ([], [])


def test_a_damaged_last_record_is_a_torn_tail_because_nothing_speaks_against_it():
    data = encode_records(0, [b"foo", b"bar"])
    assert_torn(flipped(data, 18), [b"foo"], 10, "the checksum")
    assert_torn(flipped(data, 18) + bytes(500), [b"foo"], 10, "the checksum")
    assert_torn(data[:10] + b"garbage" * 500, [b"foo"], 10, "was expected")


def test_a_hole_before_a_record_of_the_same_unsynced_group_is_a_torn_tail_if_the_record_says_so():
    """Several records between two syncs: a power cut may take the first and leave the second."""
    start = len(encode_record(0, b"synced"))
    hole = encode_record(0, b"synced") + bytes(len(encode_record(0, b"lost"))) + encode_record(0, b"kept")
    records, reader = strict(hole, testimony=lambda offset, payload: start)
    assert records == [b"synced"] and reader.torn is not None and reader.end == start
    assert str(refused(hole)).startswith(f"test.log at byte {start}: ")
    with pytest.raises(CorruptionError):
        strict(hole, testimony=lambda offset, payload: start + 1)


def test_without_any_testimony_every_damage_is_a_torn_tail():
    data = encode_records(0, [b"foo", b"bar", b"baz"])
    records, reader = strict(flipped(data, 18), testimony=None)
    assert records == [b"foo"] and reader.torn is not None and reader.torn.offset == 10


# ---- damage ---------------------------------------------------------------------------------------------------------


def test_no_flipped_bit_goes_unnoticed(rng: random.Random):
    """Every byte of the log: the records before the damage, then an error; never a wrong record.

    The last record is the exception that the reader's docstring tells: it looks like a torn tail.
    """
    payloads = [big(f"record {i}, ", rng.randrange(200)) for i in range(60)]
    payloads[30] = big("long", 40_000)
    data = encode_records(0, payloads)
    ends = [len(encode_records(0, payloads[:n])) for n in range(len(payloads) + 1)]
    offsets = [*range(ends[30]), *range(ends[30], ends[31], 97), *range(ends[31], len(data))]
    for offset in offsets:
        damaged = with_byte(data, offset, data[offset] ^ 1 << rng.randrange(8))
        hit = max(n for n, end in enumerate(ends) if end <= offset)
        seen = []
        try:
            for _, payload in LogReader(damaged, "test.log"):
                seen.append(payload)
        except CorruptionError as error:
            assert seen == payloads[:hit] and error.offset == ends[hit]
        else:
            assert hit == len(payloads) - 1 and seen == payloads[:hit], f"byte {offset} was flipped unnoticed"


def test_a_damaged_length_does_not_hide_the_records_behind_it():
    """The length is what tells where the next record begins; the search after the damage tries every byte."""
    data = encode_records(0, [b"foo", b"bar", b"baz"])
    for byte in (0, 1, 4, 200, 255):
        error = refused(with_byte(data, 4, byte))
        assert error.offset == 0 and "the record at byte 10" in error.why


def test_damage_in_a_block_is_found_by_a_record_in_a_later_one():
    data = encode_records(0, [big("a", 30_000), b"b" * 10_000, b"c" * 10_000, b"d"])
    error = refused(data[:100] + bytes(BLOCK_BYTES - 100) + data[BLOCK_BYTES:])
    assert error.offset == 0 and error.path == "test.log"
    assert "on disk" in error.why and "restore" in error.why


def test_fragments_whose_start_is_lost_testify_to_nothing():
    """They belong to the damaged record itself, which was one write: a torn tail."""
    data = encode_record(0, big("x", 100_000))
    records, reader = strict(bytes(BLOCK_BYTES) + data[BLOCK_BYTES:])
    assert records == [] and reader.torn is not None and reader.torn.offset == 0


def test_a_bad_record_type():
    data = encode_records(0, [b"foo", b"bar"])
    for kind in (0, 5, 102, 255):
        damaged = with_type(data, 0, kind)
        assert f"this one's is {kind}" in refused(damaged).why
        assert lenient(damaged) == ([b"bar"], [f"type {kind} is unknown"])


def test_a_bad_length():
    """The lenient reader skips the block: the next one is read."""
    first = big("bar", BLOCK_BYTES - HEADER_BYTES)
    data = encode_records(0, [first, b"foo"])
    damaged = with_byte(data, 4, data[4] + 1)
    assert "was expected, but the block has only" in refused(damaged).why
    assert lenient(damaged) == ([b"foo"], ["a length reaches past the end of the block"])


def test_a_checksum_mismatch():
    data = encode_records(0, [b"foo"])
    damaged = with_byte(data, 0, data[0] + 10)
    assert_torn(damaged, [], 0, "the checksum")
    assert lenient(damaged) == ([], ["the checksum does not match"])
    assert "the checksum 0x" in refused(damaged + encode_record(10, b"more")).why
    assert lenient(damaged + encode_record(10, b"more")) == ([], ["the checksum does not match"])


@pytest.mark.parametrize("kind", [MIDDLE, LAST])
def test_an_unexpected_middle_or_last_type(kind: int):
    data = with_type(encode_record(0, b"foo"), 0, kind)
    assert_torn(data, [], 0, "FULL or FIRST was expected")
    assert refused(data + encode_record(10, b"bar")).offset == 0
    assert lenient(data) == ([], ["the start of this record is missing"])


def test_an_unexpected_full_type():
    data = with_type(encode_record(0, b"foo"), 0, FIRST) + encode_record(10, b"bar")
    error = refused(data)
    assert error.offset == 0 and "the rest of the record begun at byte 0 was expected, but at byte 10 is a FULL" in str(
        error
    )
    assert lenient(data) == ([b"bar"], ["a record was begun, but its end is missing"])


def test_an_unexpected_first_type():
    long = big("bar", 100_000)
    data = with_type(encode_record(0, b"foo"), 0, FIRST) + encode_record(10, long)
    assert refused(data).offset == 0
    assert lenient(data) == ([long], ["a record was begun, but its end is missing"])


def test_an_error_joins_no_records():
    """first(R1) last(R1) first(R2) last(R2), with the two in the middle lost: R1's start and R2's end are no record."""
    data = encode_records(0, [big("foo", BLOCK_BYTES), big("bar", BLOCK_BYTES), b"correct"])
    damaged = data[:BLOCK_BYTES] + b"x" * BLOCK_BYTES + data[2 * BLOCK_BYTES :]
    assert refused(damaged).offset == 0
    records, drops = lenient(damaged)
    assert records == [b"correct"] and len(drops) == 3


def test_the_lenient_reader_keeps_what_is_whole_behind_damage_if_it_is_told_to():
    """Not if the length is what is damaged: then nothing whole begins where the fragment is said to end."""
    whole = [encode_record(at * 20, b"%013d" % at) for at in range(3)]
    for byte, kept in ((12, [b"%013d" % 0, b"%013d" % 2]), (4, [b"%013d" % 0])):
        second = bytearray(whole[1])
        second[byte] ^= 1
        damaged = whole[0] + bytes(second) + whole[2]
        damaged += bytes(BLOCK_BYTES - len(damaged))
        reader = LenientReader(damaged, keeps_more=True)
        assert [payload for _, payload in reader] == kept
        assert [drop.offset for drop in reader.drops] == [20]
        assert [payload for _, payload in LenientReader(damaged)] == [b"%013d" % 0]


def test_the_lenient_reader_says_how_much_it_dropped():
    data = encode_records(0, [big("a", 20_000), big("b", 40_000), b"c"])
    reader = LenientReader(flipped(data, 100))
    assert [payload for _, payload in reader] == [b"c"]
    drops = [(drop.offset, drop.size_bytes) for drop in reader.drops]
    second_end = len(encode_records(0, [big("a", 20_000), big("b", 40_000)]))
    assert drops == [(0, BLOCK_BYTES), (BLOCK_BYTES, second_end - BLOCK_BYTES - HEADER_BYTES)]


@given(st.binary(max_size=300), st.integers(0, 3))
def test_whatever_the_bytes_are_reading_ends(tail: bytes, blocks: int):
    """Garbage, alone and after records: no other exception, no endless loop, no record that wasn't written."""
    data = encode_records(0, [b"foo", bytes(blocks * BLOCK_BYTES)]) + tail
    try:
        records, _ = strict(data)
        assert records[:2] == [b"foo", bytes(blocks * BLOCK_BYTES)]
    except CorruptionError:
        pass
    assert lenient(data)[0][:2] == [b"foo", bytes(blocks * BLOCK_BYTES)]
    assert all(isinstance(line, str) for line in dump_log(data))


# ---- the dump -------------------------------------------------------------------------------------------------------


def test_the_dump_shows_every_header():
    data = encode_records(0, [b"hello", b"x" * 20]) + bytes(9)
    assert "\n".join(dump_log(data, describe=lambda payload: f"{len(payload)} letters")) == (
        "00000000  0b b9 57 58  05 00  01  FULL, 5 bytes\n"
        "          68 65 6c 6c 6f                                   hello\n"
        "          = 5 letters\n"
        "0000000c  f7 a7 57 8b  14 00  01  FULL, 20 bytes\n"
        "          78 78 78 78 78 78 78 78 78 78 78 78 78 78 78 78  xxxxxxxxxxxxxxxx\n"
        "          78 78 78 78                                      xxxx\n"
        "          = 20 letters\n"
        "00000027  zeros up to the end, 9 bytes"
    )


def test_the_dump_shows_damage_and_goes_on_at_the_next_block():
    data = encode_records(0, [b"foo", big("x", BLOCK_BYTES), b"end"])
    lines = list(dump_log(flipped(data, 8), data_bytes_max=0))
    assert any("WRONG CHECKSUM" in line for line in lines)
    assert any(line.startswith("00008000") and "LAST" in line for line in lines)
    assert lines[-2].startswith(f"{len(data) - 10:08x}") and "FULL, 3 bytes" in lines[-2]
    assert "no whole header" in next(iter(dump_log(data[:3])))


def test_the_dump_shows_the_unused_end_of_a_block():
    data = encode_records(0, [bytes(BLOCK_BYTES - HEADER_BYTES - 3), b"x"])
    assert "00007ffd  00 00 00  end of the block, unused" in list(dump_log(data))
