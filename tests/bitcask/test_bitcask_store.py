"""The store: rotation, open files, counters, the picture of itself, and what its format can't hold."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines import InvalidOption, InvalidValue, ReservedValue, WriteBatch
from engines.bitcask.record import TOMBSTONE
from engines.bitcask.store import BitcaskStore
from engines.simenv import Call, Policy, SimEnv
from tests.bitcask.riak_files import PATH, content, data_path, open_sim, sealed_ids


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


def test_a_get_is_one_read_exactly() -> None:
    """Of the active segment, of closed ones, of a snapshot; a key that is absent costs none."""
    env = SimEnv()
    with open_sim(env, max_open_files=1) as store:
        for number in range(30):
            store.put(b"key%02d" % number, b"value")
        before = store.stats()
        for number in range(30):
            store.get(b"key%02d" % number)
        store.get(b"absent")
        after = store.stats()
        assert after.reads - before.reads == 30
        assert after.gets - before.gets == 31
        assert after.bytes_read - before.bytes_read == 30 * (14 + 5 + 5)
        with store.snapshot() as snapshot:
            snapshot.get(b"key00")
        assert store.stats().reads - after.reads == 1
        list(store.scan(b"key10", b"key20"))
        assert store.stats().reads - after.reads == 11
        assert store.stats().gets - after.gets == 1, "a scan is no get"


def test_every_byte_is_accounted_for() -> None:
    """live + dead = the records on the disk; fsyncs are those that the disk has seen."""
    syncs: list[Call] = []
    env = SimEnv(after_call=lambda call: syncs.append(call) if call.kind.startswith("sync") else None)
    with open_sim(env) as store:
        opened = len(syncs)
        for number in range(20):
            store.put(b"key%d" % (number % 7), b"%d" % number)
        store.delete(b"key3")
        with store.batch() as batch:
            batch.put(b"a", b"1")
            batch.put(b"b", b"2")
        store.compact()
        stats = store.stats()
        assert stats.fsyncs == len(syncs) - opened
        assert stats.live_bytes == sum(14 + len(key) + len(value) for key, value in store.scan())
        assert stats.dead_bytes == 0
        store.delete(b"a")
        stats = store.stats()
        assert stats.dead_bytes == 16 + 37, "the value and its tombstone"
        records = sum(segment["data_bytes"] for segment in store.describe()["segments"])
        assert records == stats.live_bytes + stats.dead_bytes
        assert (stats.puts, stats.deletes) == (22, 2)
        store.flush()
        store.close()
    reopened = open_sim(env)
    data_and_hints = sum(len(data) for path, data in env.files().items() if path.endswith((".data", ".hint")))
    assert reopened.stats().disk_bytes == data_and_hints
    reopened.close()


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


def test_the_picture_tells_each_segments_garbage() -> None:
    """A segment of 5 records of which 3 are dead is garbage to 60 %."""
    env = SimEnv()
    with open_sim(env) as store:
        for number in range(5):
            store.put(b"k%02d" % number, b"v" * 23)
        for number in range(3):
            store.put(b"k%02d" % number, b"")
        picture = store.describe()
        assert picture["keys"] == 5 and picture["snapshots"] == 0
        [first, second] = picture["segments"]
        assert (first["live_bytes"], first["garbage_share"], first["state"]) == (80, 0.6, "sealed")
        assert second["state"] == "active" and second["live_bytes"] == 3 * 17
        with store.snapshot():
            store.merge([first["id"]])
            retired = [s for s in store.describe()["segments"] if s["state"] == "retired"]
            assert [(s["id"], s["garbage_share"]) for s in retired] == [(first["id"], 1.0)]
        assert first["id"] not in sealed_ids(store)


@given(st.binary(max_size=40))
def test_a_value_that_would_be_a_deletion_is_refused(rest: bytes) -> None:
    """Riak stores it, answers not_found, and forgets it at the next opening; there is no escape in the format."""
    env = SimEnv()
    with open_sim(env) as store:
        store.put(b"k", b"kept")
        batch = WriteBatch()
        batch.put(b"other", b"1")
        batch.put(b"k", TOMBSTONE + rest)
        for attempt in (
            lambda: store.put(b"k", TOMBSTONE + rest),
            lambda: store.write(batch),
            lambda: store.load([(b"k", TOMBSTONE + rest)]),
        ):
            with pytest.raises(ReservedValue, match="is a deletion"):
                attempt()
        store.put(b"fine", TOMBSTONE[:-1] + b"?" + rest)
    assert content(env) == {b"k": b"kept", b"fine": TOMBSTONE[:-1] + b"?" + rest}
    assert issubclass(ReservedValue, InvalidValue)


@pytest.mark.parametrize(
    "options",
    [
        {"merge": "sometimes"},
        {"max_file_size": 63},
        {"max_open_files": 0},
        {"garbage_share": 0.0},
        {"garbage_share": 1.5},
        {"dead_bytes": 0},
    ],
    ids=str,
)
def test_options_without_sense_are_refused(options: dict[str, object]) -> None:
    env = SimEnv()
    with pytest.raises(InvalidOption):
        open_sim(env, **options)
    assert not env.exists(PATH), "before anything is created"


def test_merging_in_a_thread_keeps_everything(tmp_path: Path) -> None:
    """The background thread merges what rotation leaves, while this one writes; close waits for it."""
    model = {}
    with BitcaskStore(str(tmp_path), sync=False, max_file_size=4000, merge="thread") as store:
        for number in range(4000):
            key = b"key%02d" % (number % 50)
            model[key] = b"%d" % number * 3
            store.put(key, model[key])
    with BitcaskStore(str(tmp_path), sync=False) as store:
        assert dict(store.scan()) == model
        assert store.check() == []


def test_a_power_cut_leaves_a_store_that_check_finds_well() -> None:
    """What recovery leaves on the disk is a directory like any other."""
    env = SimEnv()
    store = open_sim(env)
    for number in range(40):
        store.put(b"key%d" % (number % 9), b"%d" % number, sync=number % 3 == 0)
    for policy in Policy:
        content(env.crash(policy, random.Random(3)))


def test_check_finds_wrong_counts_and_places() -> None:
    """Live bytes too many or too few, a key that points elsewhere, a key too many."""
    with open_sim(SimEnv()) as store:
        store.put(b"a", b"1")
        store.put(b"b", b"2")
        assert store.check() == []
        [segment] = store.core.table.live.values()
        for wrong in (1, -1):
            segment.live_bytes += wrong
            assert any("live bytes, and the store counts" in sentence for sentence in store.check())
            segment.live_bytes -= wrong
        places = store.core.keydir.places
        places[b"a"], places[b"b"] = places[b"b"], places[b"a"]
        assert len(store.check()) == 2
        places[b"a"], places[b"b"] = places[b"b"], places[b"a"]
        places[b"c"] = places[b"a"]
        assert any("b'c'" in sentence for sentence in store.check())
        del places[b"c"]


def test_a_load_that_a_killed_process_left_is_finished_whatever_happens() -> None:
    """Its list may be in the page cache only; the power is cut after every call of the opening that finishes it."""
    env = SimEnv()
    with open_sim(env) as store:
        store.put(b"old", b"1")
    left: list[SimEnv] = []

    def kill(call: Call) -> None:
        if call.kind == "rename" and call.path.endswith("bitcask.metcd.load"):
            left.append(env.crash(Policy.EVERYTHING, random.Random(0)))

    with open_sim(env) as store:
        env.after_call = kill
        store.load([(b"new", b"2")])
    [killed] = left
    images: list[SimEnv] = []

    def cut(call: Call) -> None:
        images.extend(killed.crash(policy, random.Random(f"{call} {n}")) for policy in Policy for n in range(4))

    killed.after_call = cut
    open_sim(killed).close()
    killed.after_call = None
    found = [content(image) for image in images]
    assert all(each in ({b"old": b"1"}, {b"new": b"2"}) for each in found)
    assert content(killed) == {b"new": b"2"}
