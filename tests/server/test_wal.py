"""Raft's write-ahead log: what comes back, when segments go, and what it costs.

Many of the cases are those of etcd's server/storage/wal: TestRecover, TestSaveWithCut, TestReleaseLockTo,
TestValidSnapshotEntries. Power cuts are in tests/crash.
"""

import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from engines.env import RealEnv
from engines.errors import StoreClosed, StoreFailed, StoreLocked
from engines.faultenv import FaultEnv
from engines.log import encode_record
from engines.simenv import SimEnv
from raft.raftpb import ConfState, Entry, HardState, SnapshotMetadata
from server.wal import Wal, WalMismatch, WalState, check, dump
from server.wal_segment import Head, SegmentName
from tests.server.wal_files import (
    ROOT,
    content,
    entries,
    filled,
    indexes,
    log_end,
    opened,
    records,
    reopened,
    segments,
)


@pytest.fixture
def env() -> SimEnv:
    return SimEnv(seed=0)


NONE = SnapshotMetadata()


VOTERS = ConfState((1, 2, 3))


def mark(index: int, term: int = 1) -> SnapshotMetadata:
    return SnapshotMetadata(index, term, VOTERS)


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
    """A snapshot from a leader: past the end of the log, or over entries of another term."""
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
    """A removed name may come back after a crash, and with a gap after it."""
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
