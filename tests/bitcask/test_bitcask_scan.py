"""A data file from end to end: a batch and an overwrite are whole, or not there."""

from __future__ import annotations

from engines.bitcask.hint import TOMBSTONE_BIT
from engines.bitcask.record import (
    HEADER_BYTES,
    MARK_BYTES,
    encode_record,
    encode_tombstone,
)
from engines.bitcask.scan import scan_entries
from engines.simenv import SimEnv
from tests.bitcask.riak_files import content, data_path, killed, open_sim, put_file


def test_a_batch_is_whole_or_absent_at_every_cut() -> None:
    """Three records after a mark: the last byte decides."""
    env = SimEnv()
    store = open_sim(env, max_file_size=2000)
    store.put(b"before", b"1")
    with store.batch() as batch:
        batch.put(b"a", b"1")
        batch.put(b"b", b"2")
        batch.delete(b"before")
    active = store.core.log.active
    assert active is not None
    image = killed(env)
    data = image.files()[data_path(1)]
    for size in range(active.end - 3 * HEADER_BYTES - MARK_BYTES, active.end):
        cut = killed(image)
        cut.poke(data_path(1), data[:size])
        assert content(cut) == {b"before": b"1"}
    assert content(image) == {b"a": b"1", b"b": b"2"}


def test_an_overwrite_is_whole_or_absent() -> None:
    """The tombstone that Riak wants before a new value doesn't delete the old one by itself."""
    whole = encode_tombstone(0, b"k", 1) + encode_record(5, b"k", b"new")
    for size in range(len(whole)):
        env = SimEnv()
        put_file(env, "1.bitcask.data", encode_record(5, b"k", b"old"))
        put_file(env, "2.bitcask.data", whole[:size])
        assert content(env) == {b"k": b"old"}, size
    env = SimEnv()
    put_file(env, "1.bitcask.data", encode_record(5, b"k", b"old"))
    put_file(env, "2.bitcask.data", whole)
    assert content(env) == {b"k": b"new"}


def test_a_half_that_was_moved_stands_for_itself() -> None:
    """Riak's merges may copy the tombstone of an overwrite without its value; what follows it is another key's."""
    moved = encode_tombstone(0, b"a", 1)
    for rest, expected in (
        (encode_tombstone(5, b"b", 1), {}),
        (encode_tombstone(0, b"b", 1) + encode_record(5, b"b", b"new"), {b"b": b"new"}),
        (encode_tombstone(0, b"b", 1), {b"a": b"old", b"b": b"old"}),  # the merge was cut off: its inputs still count
        (encode_tombstone(5, b"b", 1) + encode_record(6, b"c", b"3")[:-1], {}),
    ):
        env = SimEnv()
        put_file(env, "1.bitcask.data", encode_record(5, b"a", b"old") + encode_record(5, b"b", b"old"))
        put_file(env, "3.bitcask.data", moved + rest)
        assert content(env) == expected


def test_the_last_record_of_each_key_is_listed() -> None:
    """As a hint lists it, tombstones with their bit; marks have the empty key."""
    old, other, new = encode_record(1, b"k", b"1"), encode_record(2, b"other", b""), encode_record(3, b"k", b"22")
    dead = encode_tombstone(4, b"other", 1)
    data = old + other + new + dead
    entries, end = scan_entries(data, len(data), 1)
    assert end == len(data)
    assert entries == [
        (3, len(new), len(old + other), b"k"),
        (4, len(dead), len(old + other + new) | TOMBSTONE_BIT, b"other"),
    ]
