"""Segments: ids, mappings, and the order in which things reach the disk."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from engines.bitcask.record import (
    encode_record,
)
from engines.bitcask.segment import Segment, SegmentTable
from engines.bitcask.store import BitcaskStore
from engines.kvstore import Stats
from engines.simenv import Call, SimEnv
from tests.bitcask.riak_files import PATH, data_path, open_sim, put_file


def test_ids_beyond_four_bytes_are_refused() -> None:
    """A v2 tombstone has four bytes for them."""
    env = SimEnv()
    put_file(env, "4294967295.bitcask.data", encode_record(1, b"k", b"v"))
    with open_sim(env) as store:
        assert store.get(b"k") == b"v"
        with pytest.raises(OverflowError, match="file ids end at"):
            store.put(b"l", b"w")


def test_opening_and_closing_leaves_no_segments() -> None:
    env = SimEnv()
    for _ in range(3):
        open_sim(env).close()
    assert [path for path in env.files() if "bitcask.data" in path] == []


def test_the_data_is_on_the_disk_before_its_hint_is_made() -> None:
    """Riak has that order wrong: after a power cut its hint can list what was never written."""
    calls: list[Call] = []
    env = SimEnv(after_call=calls.append)
    with open_sim(env) as store:
        store.put(b"k", b"v", sync=False)
    kinds = [(call.kind, call.path, call.site) for call in calls]
    assert kinds.index(("sync", data_path(1), "bitcask.seal")) < kinds.index(("create", f"{PATH}/1.bitcask.hint", ""))


def test_few_files_are_open_however_many_there_are(tmp_path: Path) -> None:
    """Every key is read, in any order, through at most `max_open_files` mappings."""
    before = len(os.listdir("/proc/self/fd"))
    with BitcaskStore(str(tmp_path), sync=False, max_file_size=64, max_open_files=5, merge="manual") as store:
        for number in range(300):
            store.put(b"key%03d" % number, b"v" * 50)
        assert store.stats().engine["segments"] == 300
        keys = [b"key%03d" % number for number in range(300)]
        random.Random(1).shuffle(keys)
        for key in keys:
            assert store.get(key) == b"v" * 50
            assert store.stats().engine["open_files"] <= 5
        assert len(os.listdir("/proc/self/fd")) - before < 12
        assert len(list(store.scan())) == 300
        store.compact()
        assert store.check() == []
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_file_with_tombstones_goes_when_the_removals_before_it_are_on_the_disk() -> None:
    """Invariant 4: else a value could come back after a power cut, and its tombstone not."""
    calls: list[Call] = []
    env = SimEnv()
    table = SegmentTable(env, PATH, Stats(), 10)
    for file_id in (1, 2, 3):
        put_file(env, f"{file_id}.bitcask.data", b"")
        table.live[file_id] = Segment(file_id)
    table.live[3].tombstone_bytes = 36
    table.retire({1, 2, 3})
    env.after_call = calls.append
    table.remove_retired(oldest_epoch=0)
    assert calls == [], "a snapshot of the epoch in which they were retired needs them"
    table.remove_retired(oldest_epoch=1)
    assert [(call.kind, call.path) for call in calls] == [
        ("unlink", data_path(1)),
        ("unlink", data_path(2)),
        ("sync_dir", PATH),
        ("unlink", data_path(3)),
    ]
    assert table.file_ids() == set()


def test_a_sealed_segment_has_the_size_of_its_records(rng: random.Random) -> None:
    """The active one is longer, by the space that is allocated ahead."""
    env = SimEnv()
    env.makedirs(PATH, "test")
    table = SegmentTable(env, PATH, Stats(), 10)
    active = table.create(1 << 20)
    data = rng.randbytes(100_000)
    active.reserve(len(data))
    assert active.allocated == len(env.files()[data_path(1)]) == 1 << 17, "twice what it was"
    active.map[: len(data)] = data
    active.end = len(data)
    table.seal(active, b"the hint")
    assert env.files() == {data_path(1): data, f"{PATH}/1.bitcask.hint": b"the hint"}
    assert list(table.sealed()) == [1] and table.disk_bytes() == len(data) + 8
