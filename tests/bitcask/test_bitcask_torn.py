"""A torn end in an older file: Riak leaves them behind, and begins the next file. Damage is told from it."""

from __future__ import annotations

import random

import pytest

from engines import CorruptionError
from engines.bitcask.hint import encode_entry, encode_hint
from engines.bitcask.record import BadRecord, Mark, encode_mark, encode_record, encode_tombstone
from engines.bitcask.torn import DataFile, why_damage
from engines.simenv import Policy, SimEnv
from tests.bitcask.riak_files import PATH, content, data_path, open_sim, put_file

NEXT = encode_record(9, b"next", b"file")
FIRST, SECOND = encode_record(5, b"a", b"1" * 20), encode_record(6, b"b", b"2" * 20)


def entry(offset: int, record: bytes, key: bytes) -> bytes:
    return encode_entry(5, len(record), offset, key)


OPEN_HINT = entry(0, FIRST, b"a") + entry(len(FIRST), SECOND, b"b")  # as Riak's is until it closes it


def two_files(data: bytes, hint: bytes | None = OPEN_HINT) -> SimEnv:
    """The file of a crash, and the one that Riak began after it."""
    env = SimEnv()
    put_file(env, "1.bitcask.data", data)
    if hint is not None:
        put_file(env, "1.bitcask.hint", hint)
    put_file(env, "2.bitcask.data", NEXT)
    return env


def test_a_torn_end_of_riaks_is_cut_off_at_every_byte() -> None:
    """Also where the hint lists the record already: Riak writes it after the data, and a power cut keeps either."""
    for size in range(len(FIRST), len(FIRST) + len(SECOND)):
        env = two_files((FIRST + SECOND)[:size])
        assert content(env) == {b"a": b"1" * 20, b"next": b"file"}, size
        assert env.files()[data_path(1)] == FIRST
        assert content(env) == {b"a": b"1" * 20, b"next": b"file"}, "with the hint that it has now"


def test_torn_ends_in_several_files_are_cut_off() -> None:
    """Riak crashed three times; the first file has nothing but a torn record."""
    env = SimEnv()
    for file_id, data in ((1, SECOND[:-1]), (2, FIRST + SECOND[:9]), (3, NEXT + FIRST[:-3])):
        put_file(env, f"{file_id}.bitcask.data", data)
        put_file(env, f"{file_id}.bitcask.hint", b"")
    assert content(env) == {b"a": b"1" * 20, b"next": b"file"}
    assert data_path(1) not in env.files()


@pytest.mark.parametrize("torn", [b"", SECOND[:9], SECOND[:-1]], ids=["nothing", "a header", "all but a byte"])
def test_what_a_killed_store_of_ours_leaves_may_be_followed_by_riaks_file(torn: bytes) -> None:
    """Zeros after the records: the file was allocated, and never closed."""
    env = two_files(FIRST + torn + bytes(len(SECOND) - len(torn) + 30), None)
    assert content(env) == {b"a": b"1" * 20, b"next": b"file"}


def test_half_a_batch_and_half_an_overwrite_go_as_a_whole() -> None:
    """They were being written when we were killed; then Riak came."""
    key_of_older = encode_tombstone(0, b"a", 1)
    batch = FIRST + SECOND
    mark = encode_mark(5, Mark(2, len(NEXT), 0, 2, len(batch), 0))
    for torn in (key_of_older, key_of_older + SECOND[:5], mark + FIRST, mark + FIRST + SECOND[:-1]):
        env = SimEnv()
        put_file(env, "1.bitcask.data", FIRST)
        put_file(env, "2.bitcask.data", NEXT + torn + bytes(100))
        put_file(env, "3.bitcask.data", encode_record(9, b"c", b"3"))
        assert content(env) == {b"a": b"1" * 20, b"next": b"file", b"c": b"3"}


CLOSED_HINT = encode_hint([entry(0, FIRST, b"a"), entry(len(FIRST), SECOND, b"b")])
FLIPPED = FIRST[:-1] + b"?"
LONGER = FIRST[:10] + (10_000).to_bytes(4) + FIRST[14:]  # the damaged length leads beyond the end of the file


@pytest.mark.parametrize(
    ("data", "hint", "why"),
    [
        (FLIPPED + SECOND, OPEN_HINT, "a torn record is cut off"),
        (FLIPPED + SECOND, None, "a torn record is cut off"),
        (FIRST + SECOND[:-1] + b"?", OPEN_HINT, "a torn record is cut off"),
        (FLIPPED + SECOND + bytes(50), None, "a torn record is cut off"),
        (LONGER + SECOND, OPEN_HINT, f"there is a whole one at byte {len(FIRST)}"),
        (LONGER + SECOND + bytes(20_000), None, "a torn record is cut off|there is a whole one"),
        (FIRST + SECOND[:-1], None, "only the newest file may end in a torn record"),
        (FIRST + SECOND[:-1], CLOSED_HINT, "its hint lists a record that ends at byte"),
        (FLIPPED + SECOND + SECOND, CLOSED_HINT, "its hint, which is whole, lists records up to byte"),
        (FIRST + SECOND[:-1] + b"\x01", None, "a torn record is cut off"),
    ],
)
def test_damage_in_an_older_file_is_told_from_a_torn_end(data: bytes, hint: bytes | None, why: str) -> None:
    """And the sentence names the way out; nothing is changed by being refused."""
    env = two_files(data, hint)
    before = env.files()
    for _ in range(2):
        with pytest.raises(CorruptionError, match=f"({why}).*`metcd repair [^`]+`") as caught:
            open_sim(env)
        assert caught.value.path == data_path(1)
        with pytest.raises(CorruptionError, match=why):
            open_sim(env, read_only=True)
    assert {path: data for path, data in env.files().items() if "lock" not in path} == before


def test_a_value_that_ends_with_zeros_and_is_damaged_is_no_torn_end() -> None:
    """In a file that was closed, and lost its hint: the zeros are the record's own."""
    record = encode_record(5, b"a", b"value" + bytes(40))
    with pytest.raises(CorruptionError, match="a torn record is cut off"):
        open_sim(two_files(record[:16] + b"?" + record[17:], None))


def test_every_flipped_byte_of_an_older_file_of_riaks_is_damage_or_no_loss() -> None:
    """A file that Riak left open, with a newer one: no flip of a byte before its torn end makes a shorter history."""
    rng = random.Random(1)
    records = [encode_record(5 + at, b"key%d" % at, rng.randbytes(30)) for at in range(6)]
    data, hint, offset = b"".join(records), b"", 0
    for at, record in enumerate(records):
        hint += entry(offset, record, b"key%d" % at)
        offset += len(record)
    expected = {b"key%d" % at: record[-30:] for at, record in enumerate(records)} | {b"next": b"file"}
    assert content(two_files(data + SECOND[:20], hint)) == expected
    refused = 0
    last = len(data) - len(records[-1])
    for at in range(len(data)):
        for flip in (1, 128):
            damaged = data[:at] + bytes((data[at] ^ flip,)) + data[at + 1 :]
            env = two_files(damaged + SECOND[:20], hint)
            try:
                found = content(env.crash(Policy.EVERYTHING, rng))
            except CorruptionError:
                refused += 1
                continue
            assert at >= last and found == {k: v for k, v in expected.items() if k != b"key5"}, at
    assert refused > 2 * last - 1


@pytest.mark.parametrize(("size", "filler"), [(300, b"\0"), (70_000, b"\0"), (3 << 20, b"\1"), (17 << 20, b"\x7f")])
def test_a_whole_record_is_found_at_whatever_byte(size: int, filler: bytes) -> None:
    """After a record whose length leads beyond the end: across the windows of the search, and at the very end."""
    head = LONGER[:10] + (size + 1).to_bytes(4) + b"torn"
    for at in (40, size // 2 + 1, (1 << 20) - 3, (1 << 20) + len(head), size - len(SECOND)):
        if at <= size - len(SECOND):
            data = bytearray(filler * (size // len(filler) + 1))[:size]
            data[: len(head)], data[at : at + len(SECOND)] = head, SECOND
            file = DataFile(bytes(data), size, 1, newest=False, left_open=True)
            assert f"a whole one at byte {at:,}" in str(why_damage(file, BadRecord(0, "torn")))
            data[at + 5] ^= 1
            file = DataFile(bytes(data), size, 1, newest=False, left_open=True)
            assert why_damage(file, BadRecord(0, "torn")) is None


def test_a_search_that_would_take_too_long_is_given_up_as_damage() -> None:
    """Every fourth byte begins what might be a record of half a megabyte."""
    data = LONGER[:10] + (9 << 20).to_bytes(4) + b"\0\x08\0\0" * (1 << 18)
    file = DataFile(data, len(data), 1, newest=False, left_open=True)
    assert (
        why_damage(file, BadRecord(0, "torn")) == "what comes after it may be records, at more places than can be tried"
    )


def test_damage_in_an_older_file_is_repaired_and_a_torn_end_behind_it_goes() -> None:
    """The whole record between the two stays."""
    env = two_files(FLIPPED + SECOND + FIRST[:9])
    with pytest.raises(CorruptionError):
        open_sim(env)
    with open_sim(env, repair=True) as store:
        assert dict(store.scan()) == {b"b": b"2" * 20, b"next": b"file"}
    assert content(env) == {b"b": b"2" * 20, b"next": b"file"}
    assert env.files()[f"{PATH}/1.bitcask.data.damaged"] == FLIPPED + SECOND + FIRST[:9]
