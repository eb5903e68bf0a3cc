"""Raft's write-ahead log: what comes back, what is a torn tail, what is damage, and what it costs.

Many of the cases are those of etcd's server/storage/wal: TestRecover, TestSaveWithCut, TestReleaseLockTo,
TestOpenOnTornWrite, TestLastRecordLengthExceedFileEnd, TestValidSnapshotEntries. Power cuts are in tests/crash.
"""

import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from engines.env import RealEnv
from engines.errors import CorruptionError, StoreClosed, StoreFailed, StoreLocked
from engines.faultenv import FaultEnv
from engines.log import BLOCK_BYTES, LogReader, encode_record
from engines.simenv import SimEnv
from raft.raftpb import ConfState, Entry, HardState, SnapshotMetadata
from server.errors import WAY_OUT
from server.wal import Wal, WalMismatch, WalState, check, dump
from server.wal_segment import ENTRIES, Head, SegmentName, encode_entries, prefix

ROOT = "/disk/wal"
NONE = SnapshotMetadata()
VOTERS = ConfState((1, 2, 3))


def opened(env: SimEnv, **options: int) -> tuple[Wal, WalState]:
    return Wal.open(ROOT, env, **{"node_id": 1, "cluster_id": 2, **options})


def entries(first: int, last: int, term: int = 1, data: bytes = b"data") -> list[Entry]:
    return [Entry(term, index, 0, data) for index in range(first, last + 1)]


def mark(index: int, term: int = 1) -> SnapshotMetadata:
    return SnapshotMetadata(index, term, VOTERS)


def reopened(env: SimEnv, wal: Wal, **options: int) -> WalState:
    wal.close()
    wal, state = opened(env, **options)
    wal.close()
    return state


def killed(env: SimEnv, wal: Wal) -> None:
    """The process ends without closing; the lock goes with it."""
    wal._lock.close()


def segments(env: SimEnv) -> list[str]:
    return [name for name in env.list(ROOT) if name.endswith(".wal")]


def content(env: SimEnv, name: str) -> bytes:
    return env.files()[f"{ROOT}/{name}"]


def records(env: SimEnv, name: str) -> list[tuple[int, bytes]]:
    return list(LogReader(content(env, name), name))


def log_end(data: bytes) -> int:
    reader = LogReader(data, "test.wal")
    assert list(reader) and reader.torn is None
    return reader.end


def indexes(state: WalState) -> list[int]:
    return [entry.index for entry in state.entries]


@pytest.fixture
def env() -> SimEnv:
    return SimEnv(seed=0)


# ---- what comes back ------------------------------------------------------------------------------------------------


def test_a_new_log_is_empty_and_says_that_it_is_new(env: SimEnv):
    wal, state = opened(env)
    assert state == WalState(HardState(), [], NONE, is_new=True, repaired=None)
    assert reopened(env, wal) == WalState(HardState(), [], NONE, is_new=False, repaired=None)


def test_what_was_saved_comes_back(tmp_path: Path):
    """On the real disk, with entries of many sizes."""
    path = str(tmp_path / "wal")
    saved = [Entry(1, i, 0, bytes([i % 256]) * size) for i, size in enumerate((0, 1, 50, 40_000, 200_000, 7), start=1)]
    wal, _ = Wal.open(path, node_id=1, cluster_id=2)
    wal.save(HardState(1, 2, 0), saved[:3], must_sync=True)
    wal.save(None, saved[3:], must_sync=True)
    wal.save(HardState(1, 2, 5), [], must_sync=False)
    wal.close()
    wal, state = Wal.open(path, node_id=1, cluster_id=2)
    wal.close()
    assert state == WalState(HardState(1, 2, 5), saved, NONE, is_new=False, repaired=None)
    assert check(path) == []


def test_entries_overwrite_those_of_the_same_index_and_all_behind(env: SimEnv):
    wal, _ = opened(env)
    wal.save(None, entries(1, 10), must_sync=True)
    wal.save(None, entries(5, 6, term=2), must_sync=True)
    wal.save(None, entries(7, 7, term=3), must_sync=True)
    state = reopened(env, wal)
    assert [(entry.term, entry.index) for entry in state.entries] == [(1, i) for i in range(1, 5)] + [
        (2, 5),
        (2, 6),
        (3, 7),
    ]


def test_entries_that_do_not_fit_are_refused_and_nothing_is_written(env: SimEnv):
    wal, _ = opened(env)
    wal.save(None, entries(1, 5), must_sync=True)
    wal.save_snapshot(mark(3))
    before = env.files()
    with pytest.raises(ValueError, match=r"from 4 .* to 6"):
        wal.save(None, entries(7, 7), must_sync=True)
    with pytest.raises(ValueError, match=r"from 4 .* to 6"):
        wal.save(None, entries(3, 6), must_sync=True)
    with pytest.raises(ValueError, match="entry 7 was expected after entry 6"):
        wal.save(None, [*entries(6, 6), *entries(8, 8)], must_sync=True)
    with pytest.raises(ValueError, match="go back"):
        wal.save_snapshot(mark(2))
    assert env.files() == before
    wal.save(None, entries(6, 6), must_sync=True)
    assert indexes(reopened(env, wal)) == [4, 5, 6]


def test_a_save_is_one_write_and_one_sync(env: SimEnv):
    wal, _ = opened(env)
    wal.save(HardState(1, 1, 0), entries(1, 3), must_sync=True)  # allocates
    calls: list[str] = []
    env.after_call = lambda call: calls.append(call.kind)
    wal.save(HardState(1, 1, 3), entries(4, 9), must_sync=True)
    assert calls == ["pwrite", "sync"]
    wal.save(HardState(1, 1, 9), [], must_sync=False)
    assert calls == ["pwrite", "sync", "pwrite"]
    wal.sync()
    wal.sync()
    wal.save(None, [], must_sync=True)
    assert calls == ["pwrite", "sync", "pwrite", "sync"], "nothing is synced twice"
    wal.close()


def test_stats_count(env: SimEnv):
    wal, _ = opened(env, segment_bytes=1000)
    before = wal.stats()
    for i in range(1, 31):
        wal.save(None, entries(i, i, data=b"x" * 60), must_sync=True)
    after = wal.stats()
    assert after["saves"] == 30 and after["segments"] == len(segments(env)) == after["segments_made"] > 2
    assert after["fsyncs"] - before["fsyncs"] == 30 + 2 * (after["segments"] - 1)
    on_disk = sum(log_end(content(env, name)) for name in segments(env))
    assert after["bytes_written"] == on_disk > 30 * 60
    wal.close()


# ---- the bytes ------------------------------------------------------------------------------------------------------


def test_the_bytes_of_a_segment(env: SimEnv):
    """These bytes never change: HEAD, then a STATE with one entry, then a mark."""
    env.rng = random.Random(1)
    salt = random.Random(1).getrandbits(64)
    wal, _ = opened(env)
    wal.save(HardState(3, 1, 0), [Entry(3, 1, 0, b"hello")], must_sync=True)
    wal.save_snapshot(SnapshotMetadata(1, 3, ConfState((1,))))
    killed(env, wal)
    (name,) = segments(env)
    assert name == "0000000000000000-0000000000000001.wal"
    head, state, marked = records(env, name)
    assert salt.to_bytes(8, "little").hex() == "f5b165224a58b791"
    assert head == (
        0,
        bytes.fromhex(
            "01 f5b165224a58b791 0000000000000000"  # HEAD, stamp, synced
            "0100000000000000 0200000000000000 f5b165224a58b791"  # node, cluster, salt
            "0000000000000000 0000000000000000"  # salt and end of the segment before
            "0000000000000000 0000000000000000 0000000000000000"  # hard state
            "0000000000000000 0000000000000000 00 00000000 00000000 00000000 00000000"  # mark
        ),
    )
    assert state == (
        0x79,
        bytes.fromhex(
            "03 6eb265224a58b791 7900000000000000"
            "0300000000000000 0100000000000000 0000000000000000"
            "16000000 00 0300000000000000 0100000000000000 68656c6c6f"
        ),
    )
    assert marked == (
        0xC3,
        bytes.fromhex(
            "04 b8b265224a58b791 c300000000000000"
            "0100000000000000 0300000000000000 00 01000000 00000000 00000000 00000000 0100000000000000"
        ),
    )


def test_space_is_allocated_ahead_and_reads_as_the_end(env: SimEnv):
    wal, _ = opened(env)
    wal.save(None, entries(1, 1), must_sync=True)
    (name,) = segments(env)
    assert len(content(env, name)) == 1 << 20
    wal.save(None, [Entry(1, 2, 0, bytes(3 << 20))], must_sync=True)
    assert len(content(env, name)) == 4 << 20
    killed(env, wal)
    wal, state = opened(env)
    assert indexes(state) == [1, 2] and state.repaired is None
    assert indexes(reopened(env, wal)) == [1, 2]


def test_the_names_of_segments():
    name = SegmentName(3, 2001)
    assert str(name) == "0000000000000003-00000000000007d1.wal" and SegmentName.parse(str(name)) == name
    for other in (
        "3-7d1.wal",
        "0000000000000003-00000000000007d1.wal.tmp",
        "LOCK",
        "0000000000000003-00000000000007D1.wal",
    ):
        assert SegmentName.parse(other) is None


# ---- segments -------------------------------------------------------------------------------------------------------


def filled(env: SimEnv, count: int = 40, segment_bytes: int = 1000, commit_max: int = 1000) -> Wal:
    """A log of `count` entries in several segments."""
    wal, _ = opened(env, segment_bytes=segment_bytes)
    for i in range(1, count + 1):
        wal.save(HardState(1, 1, min(i - 1, commit_max)), entries(i, i, data=b"x" * 60), must_sync=True)
    return wal


def test_a_full_segment_is_followed_by_another(env: SimEnv):
    wal = filled(env)
    names = [SegmentName.parse(name) for name in segments(env)]
    assert [name.sequence for name in names if name] == list(range(len(names))) and len(names) > 3
    for name in segments(env):
        assert len(content(env, name)) < 1000 + 200
        head = Head.decode(records(env, name)[0][1])
        parsed = SegmentName.parse(name)
        assert parsed is not None and (head.node_id, head.cluster_id) == (1, 2)
        assert parsed.first_index == 1 or head.hard_state == HardState(1, 1, parsed.first_index - 2)
    state = reopened(env, wal)
    assert indexes(state) == list(range(1, 41)) and state.hard_state == HardState(1, 1, 39)


def test_a_mark_leaves_the_entries_behind_it(env: SimEnv):
    wal = filled(env)
    wal.save_snapshot(mark(25))
    state = reopened(env, wal)
    assert state.snapshot == mark(25) and indexes(state) == list(range(26, 41))


def test_a_mark_that_the_log_does_not_match_replaces_the_log(env: SimEnv):
    """A snapshot from a leader: behind the end of the log, or over entries of another term."""
    wal = filled(env, commit_max=28)
    wal.save_snapshot(mark(30, term=2))
    wal.save(None, entries(31, 32, term=2), must_sync=True)
    state = reopened(env, wal)
    assert state.snapshot == mark(30, term=2)
    assert [(entry.term, entry.index) for entry in state.entries] == [(2, 31), (2, 32)]
    wal, _ = opened(env)
    wal.save_snapshot(mark(50, term=2))
    wal.save(None, entries(51, 51, term=2), must_sync=True)
    assert indexes(reopened(env, wal)) == [51]


def test_a_mark_knows_whether_entries_stay_after_their_segments_are_gone(env: SimEnv):
    """The entry that tells whether the log matches the mark is in a segment that release removes."""
    wal = filled(env, count=8, segment_bytes=400, commit_max=3)
    wal.save(None, entries(9, 12, data=b""), must_sync=True)
    (last,) = [name for name in map(SegmentName.parse, segments(env)[-1:]) if name]
    first = last.first_index
    assert 3 < first <= 9
    wal.save_snapshot(mark(first - 1, term=2))
    wal.release(first - 1)
    assert segments(env)[0] == str(last), "the segment of the entry that the mark is about is gone"
    assert indexes(reopened(env, wal)) == [], "entries of another history than the snapshot's are back"


def test_release_removes_whole_segments_up_to_the_mark(env: SimEnv):
    wal = filled(env)
    before = segments(env)
    wal.release(40)
    assert segments(env) == before, "without a mark, everything is needed"
    wal.save_snapshot(mark(25))
    wal.release(10)
    firsts = [name.first_index for name in map(SegmentName.parse, segments(env)) if name]
    assert firsts[0] <= 11 < firsts[1], "the segment of entry 11 is the first that stays"
    wal.release(1000)
    firsts = [name.first_index for name in map(SegmentName.parse, segments(env)) if name]
    assert firsts[0] <= 26 < firsts[1]
    state = reopened(env, wal)
    assert state.snapshot == mark(25) and indexes(state) == list(range(26, 41))
    wal, _ = opened(env)
    wal.save_snapshot(mark(40))
    wal.release(40)
    assert len(segments(env)) == 1, "the last one stays"
    wal.save(None, entries(41, 41), must_sync=True)
    assert indexes(reopened(env, wal)) == [41]


def test_segments_that_come_back_are_left_over(env: SimEnv):
    """A removed name may come back after a crash, and with a gap behind it."""
    wal = filled(env)
    old = env.files()
    wal.save_snapshot(mark(30))
    wal.release(30)
    kept = segments(env)
    wal.close()
    returned = sorted(set(old) - set(env.files()))
    assert len(returned) > 2
    for path in returned[::2]:
        file = env.open(path, "w")
        file.append(old[path])
        file.close()
    wal, state = opened(env)
    assert indexes(state) == list(range(31, 41)) and segments(env) == kept
    wal.close()


def test_a_temporary_segment_is_left_over(env: SimEnv):
    wal = filled(env)
    wal.close()
    env.open(f"{ROOT}/0000000000000063-0000000000000001.wal.tmp", "w").close()
    wal, _ = opened(env)
    assert not [name for name in env.list(ROOT) if name.endswith(".tmp")]
    wal.close()


# ---- torn tails -----------------------------------------------------------------------------------------------------


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
    and the record behind the zeros is valid: reading on would be a log without an acknowledged entry."""
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
    """The search behind a torn record finds whole valid records in its data; they don't belong where they are."""
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


# ---- damage ---------------------------------------------------------------------------------------------------------


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
    """etcd's check: whoever loses what was committed must not vote."""
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


# ---- whose it is, and its end ---------------------------------------------------------------------------------------


def test_another_nodes_log_is_refused_by_name(env: SimEnv):
    filled(env).close()
    with pytest.raises(WalMismatch, match="belongs to node 0x1, and this is node 0x7"):
        opened(env, node_id=7)
    with pytest.raises(WalMismatch, match="belongs to cluster 0x2, and this is cluster 0x9"):
        opened(env, cluster_id=9)
    assert indexes(reopened(env, opened(env)[0])) == list(range(1, 41))


def test_a_second_process_is_refused(tmp_path: Path):
    path = str(tmp_path / "wal")
    wal, _ = Wal.open(path, node_id=1, cluster_id=2)
    with pytest.raises(StoreLocked, match="locked by this process"):
        Wal.open(path, RealEnv(), node_id=1, cluster_id=2)
    wal.close()
    wal.close()
    again, _ = Wal.open(path, node_id=1, cluster_id=2)
    again.close()


def calls_of(wal: Wal) -> Iterator[object]:
    yield lambda: wal.save(None, entries(1, 1), must_sync=True)
    yield lambda: wal.save(None, [], must_sync=False)
    yield lambda: wal.save_snapshot(mark(0))
    yield lambda: wal.release(0)
    yield wal.sync


def expect_all(calls: Sequence[object], error: type[Exception]) -> None:
    for call in calls:
        with pytest.raises(error):
            call()  # type: ignore[operator]


def test_after_a_failed_sync_every_call_refuses(env: SimEnv):
    disk = FaultEnv(env, 1, kinds={"sync"}, forever=False)
    disk.fail_at = 0
    wal, _ = Wal.open(ROOT, disk, node_id=1, cluster_id=2)
    disk.fail_at = disk.calls + 1
    with pytest.raises(OSError, match="Input/output"):
        wal.save(None, entries(1, 1), must_sync=True)
    expect_all(list(calls_of(wal)), StoreFailed)
    wal.close()
    expect_all(list(calls_of(wal)), StoreClosed)


def test_after_a_close_every_call_refuses(env: SimEnv):
    wal, _ = opened(env)
    wal.close()
    expect_all(list(calls_of(wal)), StoreClosed)


# ---- the dump -------------------------------------------------------------------------------------------------------


def test_the_dump_tells_what_each_record_means(env: SimEnv):
    env.rng = random.Random(1)
    wal, _ = opened(env)
    wal.save(HardState(3, 1, 0), entries(1, 2, term=3), must_sync=True)
    wal.save(None, entries(3, 3, term=3), must_sync=False)
    wal.save_snapshot(mark(2, term=3))
    wal.save_snapshot(mark(9, term=4))
    wal.close()
    lines = list(dump(ROOT, env))
    assert lines[0] == f"{ROOT}/0000000000000000-0000000000000001.wal: sequence 0, next entry 1"
    assert [line.split()[1] for line in lines[1:]] == ["HEAD", "STATE", "ENTRIES", "SNAPSHOT", "RESTORE", "END", "end"]
    assert "HardState(term=3, vote=1, commit=0)  entries 1..2 of terms [3], 8 bytes of data" in lines[2]
    assert "index=9, term=4" in lines[5]


def test_the_dump_of_a_damaged_log_goes_on(env: SimEnv):
    filled(env).close()
    path = f"{ROOT}/{segments(env)[0]}"
    env.poke(path, b"\xff" + env.files()[path][1:])
    lines = list(dump(ROOT, env))
    assert "DAMAGED" in lines[1] and sum("HEAD" in line for line in lines) == len(segments(env)) - 1
    for size in (0, 1, 16, 30, 80):
        env.poke(path, encode_record(0, bytes([1] * size)))
        assert any("unknown" in line or "unreadable" in line for line in dump(ROOT, env))
