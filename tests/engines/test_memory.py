"""engines/memory.py: the undo maps of its snapshots, judged by dicts that are copied; and its lock."""

from __future__ import annotations

import gc
import random
from pathlib import Path

import pytest

from engines import StoreLocked
from engines.memory import CHUNKS, MemorySnapshot, MemoryStore

KEYS = [b"%02d" % number for number in range(12)]


def assert_invariants(
    store: MemoryStore, snapshots: list[tuple[MemorySnapshot, dict[bytes, bytes], set[bytes]]]
) -> None:
    """The module's invariants 1 and 2, for each snapshot with its content and the keys written since it was taken."""
    for snapshot, content, written in snapshots:
        for key in KEYS:
            value = snapshot.undo[key] if key in snapshot.undo else store._values.get(key)
            assert value == content.get(key), "1: the undo map, or else the store, has the value of that moment"
        assert set(snapshot.undo) <= written, "2: an undo map holds only keys that were written since"
        assert dict(snapshot.scan()) == content
        assert dict(snapshot.scan(reverse=True)) == content


def test_undo_maps_keep_every_moment(rng: random.Random) -> None:
    """Random puts, deletes and loads, with up to five snapshots that are taken and closed in any order."""
    with MemoryStore() as store:
        model: dict[bytes, bytes] = {}
        snapshots: list[tuple[MemorySnapshot, dict[bytes, bytes], set[bytes]]] = []
        for number in range(1_500):
            touched = {rng.choice(KEYS)}
            match rng.choices(["put", "delete", "load", "take", "close"], [40, 30, 2, 10, 8])[0]:
                case "put":
                    (key,) = touched
                    model[key] = b"%d" % number
                    store.put(key, model[key])
                case "delete":
                    (key,) = touched
                    model.pop(key, None)
                    store.delete(key)
                case "load":
                    loaded = dict.fromkeys(rng.sample(KEYS, 5), b"loaded %d" % number)
                    touched = {*model, *loaded}
                    model = loaded
                    store.load(sorted(loaded.items()))
                case "take" if len(snapshots) < 5:
                    snapshots.append((store.snapshot(), dict(model), set()))
                    touched = set()
                case "close" if snapshots:
                    snapshots.pop(rng.randrange(len(snapshots)))[0].close()
                    touched = set()
            for _, _, written in snapshots:
                written |= touched
            assert_invariants(store, snapshots)
            assert dict(store.scan()) == model
        assert store.check() == []


def test_check_compares_the_map_with_its_counter_and_its_order() -> None:
    with MemoryStore() as store:
        store.load([(b"a", b"1"), (b"b", b"2")])
        store._values[b"c"] = b"3"
        assert store.check() == ["the map holds 6 bytes, and the counter says 4"]
        store._values._list._lists[0].reverse()  # type: ignore[attr-defined]
        assert "the map's keys don't ascend" in store.check()


def test_a_snapshot_costs_nothing_until_something_is_written() -> None:
    """Taking one is O(1); each key written since costs one entry, once."""
    with MemoryStore() as store:
        store.load((b"%05d" % number, b"") for number in range(2_000))
        snapshot = store.snapshot()
        assert len(snapshot.undo) == 0
        for _ in range(3):
            store.put(b"00001", b"again")
            store.delete(b"00002")
        assert dict(snapshot.undo) == {b"00001": b"", b"00002": b""}


def test_writes_do_not_pay_for_snapshots_that_are_gone() -> None:
    """Closed or collected, it is no longer looked at; a scan's own snapshot ends with the scan."""
    with MemoryStore() as store:
        for number in range(10):
            store.put(b"%d" % number, b"")
        closed, dropped, scan = store.snapshot(), store.snapshot(), store.scan()
        next(scan)
        assert store.describe()["snapshots"] == 3
        closed.close()
        del dropped, scan
        gc.collect()
        assert store.describe()["snapshots"] == 0
        assert len(list(store.scan())) == 10
        gc.collect()
        assert store.describe()["snapshots"] == 0


@pytest.mark.parametrize("size", [CHUNKS[0] - 1, CHUNKS[0], CHUNKS[0] + 1, 3 * CHUNKS[1]])
def test_chunks_meet_without_gap_or_overlap(size: int, rng: random.Random) -> None:
    """Invariant 3: a scan fetches a chunk of pairs at a time, and between two chunks anything may be written: what is added is
    not seen, what is deleted still is, also where a chunk is all undo map or all store."""
    with MemoryStore() as store:
        before = {b"%06d" % (number * 2): b"old" for number in range(size)}
        store.load(sorted(before.items()))
        forwards, backwards = store.scan(), store.scan(reverse=True)
        found, found_backwards = [], []
        for number, (pair, other) in enumerate(zip(forwards, backwards, strict=True)):
            found.append(pair)
            found_backwards.append(other)
            if number % 100 == 0:
                with store.batch() as batch:
                    for _ in range(200):
                        batch.put(b"%06d" % (rng.randrange(size) * 2 + 1), b"new between")
                        batch.delete(b"%06d" % (rng.randrange(size) * 2))
        assert found == sorted(before.items())
        assert found_backwards == found[::-1]


def test_live_bytes_are_those_of_the_content(rng: random.Random) -> None:
    """Stats.live_bytes, kept as it changes and not counted each time."""
    with MemoryStore() as store:
        for _ in range(300):
            key = rng.choice(KEYS)
            if rng.random() < 0.6:
                store.put(key, rng.randbytes(rng.randrange(20)))
            else:
                store.delete(key)
            assert store.stats().live_bytes == sum(len(key) + len(value) for key, value in store.scan())
        store.load([(b"a", b"12345")])
        assert store.stats().live_bytes == 6


def test_a_store_with_a_path_locks_its_directory(tmp_path: Path) -> None:
    """Like any other store's; the directory has nothing but the lock in it."""
    path = str(tmp_path / "some" / "where")
    with MemoryStore(path) as store:
        store.put(b"a", b"1")
        with pytest.raises(StoreLocked, match="this process"):
            MemoryStore(path)
        assert [file.name for file in Path(path).iterdir()] == ["LOCK"]
    with MemoryStore(path) as store:
        assert list(store.scan()) == [], "nothing outlives the object"


def test_a_store_without_a_path_touches_no_disk() -> None:
    """Any number of them, side by side."""
    with MemoryStore() as one, MemoryStore() as two:
        one.put(b"a", b"1")
        assert two.get(b"a") is None
