"""Opening: what a power cut left is cut off, what is damaged is refused, and a right hint is believed."""

from __future__ import annotations

import random

import pytest

from engines import CorruptionError
from engines.bitcask.record import HEADER_BYTES, MARK_BYTES, encode_record, encode_tombstone, read_records
from engines.bitcask.scan import scan_entries
from engines.bitcask.segment import MARK_EVERY_BYTES
from engines.simenv import Policy, SimEnv
from tests.bitcask.riak_files import PATH, content, data_path, open_sim, put_file


def killed(env: SimEnv) -> SimEnv:
    return env.crash(Policy.EVERYTHING, random.Random(0))


def test_a_segment_cut_at_every_byte_is_a_prefix_of_history() -> None:
    """The active segment of a killed store: no cut loses more than what is behind it, and none invents anything."""
    env = SimEnv()
    store = open_sim(env, max_file_size=4000)
    history = [(0, {})]
    model: dict[bytes, bytes] = {}
    for number in range(12):
        with store.batch() as batch:
            for key in (b"a", b"b%d" % number)[: 1 + number % 2]:
                batch.put(key, b"%d" % number)
                model[key] = b"%d" % number
        active = store.core.log.active
        assert active is not None
        history.append((active.end, dict(model)))
    image = killed(env)
    data = image.files()[data_path(1)]
    for size in (*range(history[-1][0] + 20), len(data)):
        cut = killed(image)
        cut.poke(data_path(1), data[:size])
        expected = [state for end, state in history if end <= size][-1]
        assert content(cut) == expected, f"cut to {size} bytes"


def test_a_closed_segment_that_was_cut_is_refused() -> None:
    """Its hint says how long it was; without the hint, the file behind it says that it was whole."""
    env = SimEnv()
    with open_sim(env) as store:
        for number in range(12):
            store.put(b"key%d" % number, b"v" * 20)
    data = env.files()[data_path(1)]
    for with_hint in (True, False):
        image = killed(env)
        if not with_hint:
            image.unlink(f"{PATH}/1.bitcask.hint")
        for size in range(1, len(data)):
            image.poke(data_path(1), data[:size])
            try:
                found = open_sim(killed(image))
            except CorruptionError as error:
                assert error.path == data_path(1)
            else:
                found.close()
                assert not with_hint
                assert scan_entries(data, size, 1)[1] == size, "only whole records can be missed, without a hint"


def test_damage_before_what_was_synced_is_told_from_a_torn_tail() -> None:
    """A mark behind it says that it was on the disk: not a shorter history, but an error."""
    env = SimEnv()
    store = open_sim(env, max_file_size=1 << 20)
    for number in range(2 * MARK_EVERY_BYTES // 100):
        store.put(b"key%03d" % number, b"v" * 100)
    image = killed(env)
    data = image.files()[data_path(1)]
    image.poke(data_path(1), data[:50] + b"\xff" + data[51:])
    with pytest.raises(CorruptionError, match="a later mark says that all before byte") as caught:
        open_sim(image)
    assert caught.value.offset == 0


def test_a_batch_is_whole_or_absent_at_every_cut() -> None:
    """Three records behind a mark: the last byte decides."""
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


def test_the_later_position_wins_whatever_the_timestamps_say() -> None:
    """As bitcask:open does it: files ascending, offsets ascending."""
    env = SimEnv()
    put_file(env, "9.bitcask.data", encode_record(900, b"k", b"nine") + encode_record(800, b"k", b"nine again"))
    put_file(env, "10.bitcask.data", encode_record(1, b"k", b"ten") + encode_record(900, b"j", b"j"))
    assert content(env) == {b"k": b"ten", b"j": b"j"}


def test_timestamps_never_go_backwards() -> None:
    """Not when the clock does, and not across a reopening: Riak's merge would drop the younger value."""
    env = SimEnv()
    future = 4_000_000_000
    put_file(env, "1.bitcask.data", encode_record(future, b"k", b"from the future"))
    with open_sim(env) as store:
        store.put(b"k", b"now")
        store.delete(b"k")
        store.put(b"k", b"at last")
    data = env.files()[data_path(2)]
    timestamps = [timestamp for _, timestamp, _, _ in read_records(data, 0, len(data)) if timestamp]
    assert len(timestamps) >= 3 and min(timestamps) >= future


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
