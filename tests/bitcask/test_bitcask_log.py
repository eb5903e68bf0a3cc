"""The writing end: what a write appends, and when a segment is full."""

from __future__ import annotations

from zlib import crc32

from engines.bitcask.keydir import Keydir
from engines.bitcask.log import Log
from engines.bitcask.place import pack
from engines.bitcask.record import (
    HALF_TIMESTAMP,
    Mark,
    encode_mark,
    encode_record,
    encode_tombstone,
    read_records,
)
from engines.bitcask.segment import MARK_EVERY_BYTES, SegmentTable
from engines.kvstore import Stats
from engines.simenv import SimEnv
from tests.bitcask.riak_files import PATH, content, data_path, open_sim, put_file


def test_a_segment_is_closed_when_the_next_record_does_not_fit() -> None:
    """Records of 14 + 3 + 23 = 40 bytes, 5 of them in 200; a larger one has a segment of its own."""
    env = SimEnv()
    with open_sim(env) as store:
        for number in range(11):
            store.put(b"k%02d" % number, b"v" * 23)
        assert [(s["data_bytes"], s["state"]) for s in store.describe()["segments"]] == [
            (200, "sealed"),
            (200, "sealed"),
            (40, "active"),
        ]
        store.put(b"large", b"x" * 1000)
        store.put(b"k11", b"v" * 23)
        assert [s["data_bytes"] for s in store.describe()["segments"]] == [200, 200, 40, 1019, 40]
        expected = dict(store.scan())
    assert content(env) == expected


def test_a_batch_fills_a_segment_to_the_last_byte() -> None:
    """2 * 40 bytes, and after them room for a mark of 58 and two records of 31; for one byte more there is none."""
    for value, segments in ((b"v" * 14, 1), (b"v" * 15, 2)):
        with open_sim(SimEnv()) as store:
            for number in range(2):
                store.put(b"k%02d" % number, b"v" * 23)
            with store.batch() as batch:
                batch.put(b"k02", b"v" * 14)
                batch.put(b"k03", value)
            assert store.stats().engine["segments"] == segments


def test_a_synced_put_is_one_sync() -> None:
    """Of an existing segment; the first one also syncs the segment's name."""
    env = SimEnv()
    with open_sim(env, max_file_size=10_000) as store:
        store.put(b"a", b"1")
        before = store.stats().fsyncs
        store.put(b"b", b"2")
        assert store.stats().fsyncs == before + 1
        store.put(b"c", b"3", sync=False)
        assert store.stats().fsyncs == before + 1
        store.flush()
        store.flush()
        assert store.stats().fsyncs == before + 2


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


# ---- what a write appends -------------------------------------------------------------------------------------------


class Written:
    """A log, and what its writes append; the keydir is kept as the writer does it."""

    def __init__(self) -> None:
        self.env = SimEnv()
        self.env.makedirs(PATH, "test")
        self.table = SegmentTable(self.env, PATH, Stats(), 10)
        self.log = Log(self.env, self.table, 1 << 20)
        self.keydir = Keydir()
        self.time = int(self.env.unix_time())

    def __call__(self, operations: dict[bytes, bytes | None], sync: bool = False) -> bytes:
        start = self.log.active.end if self.log.active is not None else 0
        self.keydir.apply(self.log.batch(self.keydir.places, operations, sync), [])
        return b"" if self.log.active is None else self.log.active.map[start : self.log.active.end]


def test_one_operation_is_one_record() -> None:
    """A new value; one whose predecessor is in the same segment; a deletion; and nothing for what is absent."""
    write = Written()
    assert write({b"k": b"1"}) == encode_record(write.time, b"k", b"1")
    assert write({b"k": b"2"}) == encode_record(write.time, b"k", b"2")
    assert write.keydir.places == {b"k": pack(1, 16, 16)}
    assert write({b"k": None}) == encode_tombstone(write.time, b"k", 1)
    assert write.keydir.places == {} and write({b"k": None}) == b""


def test_a_value_that_replaces_one_of_an_older_segment_comes_after_a_tombstone() -> None:
    """Without a time, so that it doesn't count without the value."""
    write = Written()
    write({b"k": b"1"})
    write.log.seal()
    record = encode_record(write.time, b"k", b"2")
    assert write({b"k": b"2"}) == encode_tombstone(HALF_TIMESTAMP, b"k", 1) + record
    assert write.keydir.places == {b"k": pack(2, 37, 16)}
    assert [(segment.id, segment.live_bytes) for segment in write.table.live.values()] == [(1, 0), (2, 16)]


def test_several_operations_come_after_a_mark_that_sums_them() -> None:
    write = Written()
    write({b"old": b"1"})
    body = encode_tombstone(write.time, b"old", 1) + encode_record(write.time, b"new", b"2")
    mark = encode_mark(write.time, Mark(1, 18, 0, 2, len(body), crc32(body)))
    assert write({b"old": None, b"new": b"2"}) == mark + body
    assert write.keydir.places == {b"new": pack(1, 18 + len(mark) + 39, 18)}


def test_a_mark_says_how_far_the_segment_is_synced() -> None:
    """Before the first write after 4 KiB of synced records; and alone never while a user of Riak has the empty key."""
    write = Written()
    write({b"k": bytes(MARK_EVERY_BYTES)}, sync=True)
    synced = write.log.active.end if write.log.active is not None else 0
    mark = encode_mark(write.time, Mark(1, synced, synced, 0, 0, 0))
    assert write({b"a": b"1"}) == mark + encode_record(write.time, b"a", b"1")
    assert write({b"b": b"1"}) == encode_record(write.time, b"b", b"1"), "the next one is due after 4 KiB more"
    write({b"": bytes(MARK_EVERY_BYTES)}, sync=True)
    assert write({b"c": b"1"}) == encode_record(write.time, b"c", b"1")
