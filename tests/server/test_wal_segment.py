"""A segment of Raft's write-ahead log: its bytes, its space, its name."""

import random

import pytest

from engines.simenv import SimEnv
from raft.raftpb import ConfState, Entry, HardState, SnapshotMetadata
from server.wal_segment import SegmentName
from tests.server.wal_files import (
    content,
    entries,
    indexes,
    killed,
    opened,
    records,
    reopened,
    segments,
)


@pytest.fixture
def env() -> SimEnv:
    return SimEnv(seed=0)


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
