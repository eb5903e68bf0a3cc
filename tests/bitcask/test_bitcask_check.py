"""check() finds what is wrong; describe() and stats() account for every byte."""

from __future__ import annotations

from engines.simenv import Call, SimEnv
from tests.bitcask.riak_files import open_sim, sealed_ids


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
