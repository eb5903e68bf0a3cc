"""Snapshots: one moment, whatever is written and merged."""

from __future__ import annotations

import random

from engines.simenv import SimEnv
from tests.bitcask.riak_files import open_sim, sealed_ids


def test_a_queue_that_runs_through_leaves_an_open_view_no_notes() -> None:
    """Each key is absent again, as it was when the view was opened; what the view had, it keeps."""
    with open_sim(SimEnv(), max_file_size=1 << 20) as store:
        store.put(b"kept", b"1")
        with store.snapshot() as snapshot:
            list(snapshot.scan())
            for number in range(500):
                store.put(b"job%d" % number, b"")
                assert snapshot.get(b"job%d" % number) is None
                store.delete(b"job%d" % number)
            assert len(snapshot.moment.undo) == 0
            store.delete(b"kept")
            store.put(b"kept", b"2")
            store.delete(b"kept")
            assert list(snapshot.moment.undo) == [b"kept"]
            assert list(snapshot.scan()) == [(b"kept", b"1")] == list(snapshot.scan(reverse=True))
            assert store.check() == []


def test_snapshots_stay_true_while_merges_and_writes_go_on(rng: random.Random) -> None:
    """Old files stay until the last reader that was there before the merge leaves; then they go."""
    env = SimEnv()
    with open_sim(env) as store:
        model: dict[bytes, bytes] = {}
        views = []
        for turn in range(12):
            for _ in range(12):
                key = b"key%d" % rng.randrange(12)
                if rng.random() < 0.3:
                    store.delete(key)
                    model.pop(key, None)
                else:
                    model[key] = b"%d of turn %d" % (rng.randrange(100), turn)
                    store.put(key, model[key])
            views.append((store.snapshot(), dict(model)))
            ids = sealed_ids(store)
            store.merge(rng.sample(ids, min(len(ids), 3)))
            for snapshot, items in views:
                assert dict(snapshot.scan()) == items
                assert [snapshot.get(key) for key in items] == list(items.values())
            if turn % 3 == 2:
                views.pop(rng.randrange(len(views)))[0].close()
        assert store.stats().engine["retired_segments"] > 0
        while views:
            snapshot, items = views.pop(0)
            assert list(snapshot.scan(reverse=True)) == sorted(items.items(), reverse=True)
            snapshot.close()
        assert store.stats().engine["retired_segments"] == 0
        on_disk = sum(path.endswith(".data") for path in env.files())
        assert on_disk == store.stats().engine["segments"]
