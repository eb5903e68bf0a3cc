"""Opening: what a power cut left is cut off, what is damaged is refused, and a right hint is believed."""

from __future__ import annotations

import random
import struct

import pytest

from engines import (
    CorruptionError,
)
from engines.bitcask.record import (
    encode_record,
)
from engines.bitcask.scan import scan_entries
from engines.bitcask.segment import MARK_EVERY_BYTES
from engines.simenv import Policy, SimEnv
from tests.bitcask.riak_files import PATH, content, data_path, killed, open_sim, put_file


def test_a_segment_cut_at_every_byte_is_a_prefix_of_history() -> None:
    """The active segment of a killed store: no cut loses more than what is after it, and none invents anything."""
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
    """Its hint says how long it was; without the hint, the file after it says that it was whole."""
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
    """A mark after it says that it was on the disk: not a shorter history, but an error."""
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


def test_the_later_position_wins_whatever_the_timestamps_say() -> None:
    """As bitcask:open does it: files ascending, offsets ascending."""
    env = SimEnv()
    put_file(env, "9.bitcask.data", encode_record(900, b"k", b"nine") + encode_record(800, b"k", b"nine again"))
    put_file(env, "10.bitcask.data", encode_record(1, b"k", b"ten") + encode_record(900, b"j", b"j"))
    assert content(env) == {b"k": b"ten", b"j": b"j"}


@pytest.mark.parametrize("key_size", [0, 1, 5, 0xFFFF])
@pytest.mark.parametrize("value_size", [0, 2, 1 << 20, 0x7FFF_FFFF, 0xFFFF_FFFF])
def test_a_length_that_lies_is_not_believed(key_size: int, value_size: int) -> None:
    """In a closed file, by its neighbour: damage. In the newest file: no more than a torn tail."""
    good, rest = encode_record(1, b"a", b"1"), encode_record(1, b"bb", b"22")
    lying = rest[:8] + struct.pack(">HI", key_size, value_size) + rest[14:]
    env = SimEnv()
    put_file(env, "1.bitcask.data", good + lying)
    assert content(env.crash(Policy.EVERYTHING, random.Random(0))) == {b"a": b"1"}
    put_file(env, "2.bitcask.data", encode_record(1, b"c", b"3"))
    with pytest.raises(CorruptionError, match=r"may end in a torn record|a torn record is cut off") as caught:
        open_sim(env)
    assert (caught.value.path, caught.value.offset) == (data_path(1), len(good))


def test_a_power_cut_leaves_a_store_that_check_finds_well() -> None:
    """What recovery leaves on the disk is a directory like any other."""
    env = SimEnv()
    store = open_sim(env)
    for number in range(40):
        store.put(b"key%d" % (number % 9), b"%d" % number, sync=number % 3 == 0)
    for policy in Policy:
        content(env.crash(policy, random.Random(3)))
