"""What is read back of Raft's write-ahead log: what is a torn tail, and what is damage.

Many of the cases are those of etcd's server/storage/wal: TestOpenOnTornWrite, TestLastRecordLengthExceedFileEnd.
"""

import pytest

from engines.errors import CorruptionError
from engines.log import BLOCK_BYTES, encode_record
from engines.simenv import SimEnv
from raft.raftpb import Entry, HardState
from server.errors import WAY_OUT
from server.wal import check
from server.wal_segment import ENTRIES, encode_entries, prefix
from tests.server.wal_files import (
    ROOT,
    content,
    entries,
    filled,
    indexes,
    killed,
    log_end,
    opened,
    records,
    reopened,
    segments,
)


@pytest.fixture
def env() -> SimEnv:
    return SimEnv(seed=0)


def last_segment(env: SimEnv) -> str:
    return f"{ROOT}/{segments(env)[-1]}"


def test_a_log_cut_anywhere_keeps_the_saves_that_are_whole(env: SimEnv):
    """What was cut is reported; the log goes on in a new segment, and is whole again."""
    wal, _ = opened(env)
    for i in range(1, 6):
        wal.save(None, entries(i, i, data=b"x" * 100), must_sync=True)
    killed(env, wal)
    path = last_segment(env)
    ends = [offset for offset, _ in records(env, segments(env)[0])][1:]
    whole = env.files()[path]
    end = log_end(whole)
    for size in range(ends[0], end, 11):
        image = SimEnv(0)
        image.makedirs(ROOT, "test")
        file = image.open(path, "w")
        file.append(whole[:size])
        file.close()
        kept = sum(start <= size for start in [*ends[1:], end])
        wal, state = opened(image)
        assert indexes(state) == list(range(1, kept + 1))
        is_torn = size not in ends
        assert (state.repaired is not None) == is_torn and len(segments(image)) == 1 + is_torn
        if state.repaired:
            assert path in state.repaired and "torn tail" in state.repaired
        wal.save(None, entries(kept + 1, kept + 2, term=2), must_sync=True)
        state = reopened(image, wal)
        assert indexes(state) == list(range(1, kept + 3)) and state.repaired is None


def test_a_hole_between_two_unsynced_saves_takes_both(env: SimEnv):
    """A crash may lose the first of them and keep the second."""
    wal, _ = opened(env)
    wal.save(None, entries(1, 1), must_sync=True)
    first = wal.stats()["last_segment_bytes"]
    wal.save(None, entries(2, 2), must_sync=False)
    second = wal.stats()["last_segment_bytes"]
    wal.save(None, entries(3, 3), must_sync=False)
    killed(env, wal)
    data = env.files()[last_segment(env)]
    env.poke(last_segment(env), data[:first] + bytes(second - first) + data[second:])
    wal, state = opened(env)
    assert indexes(state) == [1] and state.repaired is not None
    wal.close()


def test_a_hole_before_a_save_that_came_after_a_sync_is_damage(env: SimEnv):
    wal, _ = opened(env)
    wal.save(None, entries(1, 1), must_sync=True)
    first = wal.stats()["last_segment_bytes"]
    wal.save(None, entries(2, 2), must_sync=True)
    second = wal.stats()["last_segment_bytes"]
    wal.save(None, entries(3, 3), must_sync=False)
    killed(env, wal)
    data = env.files()[last_segment(env)]
    env.poke(last_segment(env), data[:first] + bytes(second - first) + data[second:])
    with pytest.raises(CorruptionError) as caught:
        opened(env)
    assert caught.value.offset == first and "no torn tail" in caught.value.why
    assert check(ROOT, env) == [str(caught.value)]


def test_a_save_that_rotted_to_zeros_up_to_the_blocks_end_is_damage(env: SimEnv):
    """engines/log.py, rule 8: what the LSM tree's log reads past, because others may write to it. Raft's log has no others,
    and the record after the zeros is valid: reading on would be a log without an acknowledged entry."""
    wal, _ = opened(env)
    wal.save(None, entries(1, 1), must_sync=True)
    first = wal.stats()["last_segment_bytes"]
    probe = SimEnv(seed=0)
    other, _ = opened(probe)
    other.save(None, entries(1, 1), must_sync=True)
    other.save(None, entries(2, 2, data=bytes(20_000)), must_sync=True)
    size = 20_000 + BLOCK_BYTES - other.stats()["last_segment_bytes"]
    killed(probe, other)
    wal.save(None, entries(2, 2, data=bytes(size)), must_sync=True)
    assert wal.stats()["last_segment_bytes"] == BLOCK_BYTES, "it ends where its block does"
    wal.save(None, entries(3, 3), must_sync=True)
    killed(env, wal)
    data = env.files()[last_segment(env)]
    env.poke(last_segment(env), data[:first] + bytes(BLOCK_BYTES - first) + data[BLOCK_BYTES:])
    with pytest.raises(CorruptionError) as caught:
        opened(env)
    assert caught.value.offset == first and "no torn tail" in caught.value.why


def test_a_value_that_holds_a_log_testifies_to_nothing(env: SimEnv):
    """The search after a torn record finds whole valid records in its data; they don't belong where they are."""
    wal, _ = opened(env)
    wal.save(None, entries(1, 5, data=b"x" * 50), must_sync=True)
    start = wal.stats()["last_segment_bytes"]
    stolen = env.files()[last_segment(env)][:start]
    wal.save(None, [Entry(1, 6, 0, stolen * 3)], must_sync=True)
    killed(env, wal)
    data = env.files()[last_segment(env)]
    env.poke(last_segment(env), data[:start] + bytes(7) + data[start + 7 :])
    wal, state = opened(env)
    assert indexes(state) == [1, 2, 3, 4, 5] and state.repaired is not None
    wal.close()


def test_a_valid_record_of_another_segment_is_not_believed(env: SimEnv):
    """A block that a crash or a disk has left from an older file: torn at the end, damage before it."""
    wal, _ = opened(env)
    wal.save(None, entries(1, 1), must_sync=True)
    end = wal.stats()["last_segment_bytes"]
    killed(env, wal)
    path = last_segment(env)
    data = env.files()[path]
    foreign = encode_record(end, prefix(ENTRIES, 0x1234, end, end) + encode_entries(entries(2, 2, term=9)))
    env.poke(path, data[:end] + foreign + data[end + len(foreign) :])
    wal, state = opened(env)
    assert indexes(state) == [1] and state.repaired is not None and "another place" in state.repaired
    wal.close()


def test_a_repaired_segment_is_never_appended_to(env: SimEnv):
    """What was cut off may come back in a later crash, where a new record was to be; only a new salt tells."""
    wal, _ = opened(env)
    wal.save(None, entries(1, 1), must_sync=True)
    wal.save(None, entries(2, 2), must_sync=True)
    killed(env, wal)
    path = last_segment(env)
    end = log_end(env.files()[path])
    env.poke(path, env.files()[path][: end - 1])
    wal, state = opened(env)
    assert indexes(state) == [1]
    size = len(env.files()[path])
    wal.save(None, entries(2, 3, term=2), must_sync=True)
    assert len(env.files()[path]) == size and last_segment(env) != path
    wal.close()


def test_every_flipped_byte_of_a_closed_log_is_found_or_harmless(env: SimEnv):
    """A closed log has a witness for every save: no damage passes for a torn tail."""
    wal, _ = opened(env, segment_bytes=500)
    for i in range(1, 9):
        wal.save(HardState(1, 1, i - 1), entries(i, i, data=b"x" * 20), must_sync=i % 2 == 0)
    wal.close()
    wal, expected = opened(env)
    wal.close()
    refused = 0
    for path, data in env.files().items():
        for offset in range(min(len(data), 1000)):
            image = SimEnv(0)
            image.makedirs(ROOT, "test")
            for other, bytes_ in env.files().items():
                file = image.open(other, "w")
                file.append(bytes_)
                file.close()
            image.poke(path, data[:offset] + bytes([data[offset] ^ 0x10]) + data[offset + 1 :])
            try:
                wal, state = opened(image)
            except CorruptionError as error:
                assert error.path == path
                assert error.why.endswith(WAY_OUT)  # an older copy of the log would vote again: none is advised
                refused += 1
                continue
            wal.close()
            assert (state.hard_state, state.entries) == (expected.hard_state, expected.entries), f"{path} at {offset}"
    assert refused > 800


def test_a_torn_tail_in_a_segment_that_another_follows_is_damage(env: SimEnv):
    filled(env).close()
    path = f"{ROOT}/{segments(env)[1]}"
    env.poke(path, env.files()[path][:-30])
    with pytest.raises(CorruptionError, match="no crash does that") as caught:
        opened(env)
    assert caught.value.path == path


def test_a_segment_that_was_cut_at_a_record_is_damage(env: SimEnv):
    filled(env).close()
    path = f"{ROOT}/{segments(env)[1]}"
    last, _ = records(env, segments(env)[1])[-1]
    env.poke(path, env.files()[path][:last])
    with pytest.raises(CorruptionError, match="does not follow on") as caught:
        opened(env)
    assert caught.value.path.endswith(segments(env)[2])


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_a_missing_segment_is_damage(env: SimEnv, lost: int):
    filled(env).close()
    env.unlink(f"{ROOT}/{segments(env)[lost]}")
    with pytest.raises(CorruptionError, match="which are gone"):
        opened(env)
    assert len(check(ROOT, env)) == 1


def test_a_segment_from_another_log_is_damage(env: SimEnv):
    filled(env).close()
    other = SimEnv(1)
    filled(other).close()
    name = segments(env)[2]
    env.poke(f"{ROOT}/{name}", content(other, name))
    with pytest.raises(CorruptionError, match="does not follow on"):
        opened(env)


def test_a_segment_without_a_head_is_damage(env: SimEnv):
    filled(env).close()
    for data in (b"", bytes(5000), b"garbage" * 100):
        env.poke(last_segment(env), data)
        with pytest.raises(CorruptionError, match="begins with a valid HEAD"):
            opened(env)


def test_two_segments_of_one_number_are_damage(env: SimEnv):
    filled(env).close()
    first = segments(env)[0]
    env.link(f"{ROOT}/{first}", f"{ROOT}/{first.replace('1.wal', '2.wal')}")
    with pytest.raises(CorruptionError, match="same sequence number"):
        opened(env)


def test_a_log_that_ends_before_its_own_commit_index_is_damage_and_not_torn(env: SimEnv):
    """etcd's check: a node that loses what was committed must not vote."""
    wal, _ = opened(env)
    wal.save(HardState(1, 1, 5), entries(1, 4), must_sync=True)
    wal.close()
    with pytest.raises(CorruptionError, match="ends with entry 4, but says that entry 5 was"):
        opened(env)


def test_a_refused_log_is_left_as_it_is(env: SimEnv):
    filled(env).close()
    env.unlink(f"{ROOT}/{segments(env)[1]}")
    before = env.files()
    with pytest.raises(CorruptionError):
        opened(env)
    assert env.files() == before
