"""The contract, third part: snapshots, and `load`, which replaces everything after they were taken."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from engines import InvalidKey, InvalidValue, KVStore, StoreClosed
from engines.kvstore import Pair
from tests.conformance.engine_table import OpenStore
from tests.conformance.layouts import ITEMS

NEW = {b"b": b"loaded", b"c": b"loaded", b"z": b""}


def assert_holds(reader: object, items: dict[bytes, bytes]) -> None:
    """Every way of reading shows exactly `items`."""
    in_order = sorted(items.items())
    probes = sorted({*ITEMS, *NEW, *items, b"never"})
    assert list(reader.scan()) == in_order  # type: ignore[attr-defined]
    assert list(reader.scan(reverse=True)) == in_order[::-1]  # type: ignore[attr-defined]
    assert [reader.get(key) for key in probes] == [items.get(key) for key in probes]  # type: ignore[attr-defined]
    assert reader.multi_get(probes) == [items.get(key) for key in probes]  # type: ignore[attr-defined]
    assert [key in reader for key in probes] == [key in items for key in probes]  # type: ignore[operator]


def test_a_snapshot_is_frozen(full: KVStore) -> None:
    """KVStore.snapshot: a frozen view of the moment, whatever is put, overwritten or deleted after it."""
    with full.snapshot() as snapshot:
        full.put(b"new", b"new")
        full.put(b"a", b"overwritten")
        full.delete(b"b")
        full.delete(b"never")
        with full.batch() as batch:
            batch.put(b"a", b"overwritten again")
            batch.delete(b"\x00")
            batch.put(b"\x00", b"back")
        assert_holds(snapshot, ITEMS)
        assert snapshot.get(b"new", b"instead") == b"instead"
        changed = ITEMS | {b"new": b"new", b"a": b"overwritten again", b"\x00": b"back"}
        del changed[b"b"]
        assert_holds(full, changed)


def test_a_snapshot_survives_flush_and_compaction(full: KVStore) -> None:
    """Snapshot: keeps what it needs on disk, although compaction would give it back."""
    with full.snapshot() as snapshot:
        for key in ITEMS:
            full.put(key, b"overwritten")
        full.flush()
        for key in list(ITEMS)[::2]:
            full.delete(key)
        full.flush()
        full.compact()
        assert_holds(snapshot, ITEMS)
        full.compact()
        assert_holds(snapshot, ITEMS)
    full.compact()
    assert_holds(full, dict.fromkeys(list(ITEMS)[1::2], b"overwritten"))
    assert full.check() == []


def test_each_snapshot_shows_its_own_moment(store: KVStore) -> None:
    """KVStore.snapshot: several at once, closed in any order; closing one leaves the others whole."""
    snapshots, contents = [], []
    content: dict[bytes, bytes] = {}
    for number in range(8):
        for key in (b"always", b"number %d" % number):
            content[key] = b"%d" % number
            store.put(key, b"%d" % number)
        if number >= 4:
            del content[b"number %d" % (number - 4)]
            store.delete(b"number %d" % (number - 4))
        snapshots.append(store.snapshot())
        contents.append(dict(content))
        if number % 3 == 2:
            store.flush()
    for closing in (3, 0, 7, 5):
        snapshots[closing].close()
        store.compact()
        for number, snapshot in enumerate(snapshots):
            if number not in (3, 0, 7, 5):
                assert_holds(snapshot, contents[number])
    assert_holds(store, content)
    for snapshot in snapshots:
        snapshot.close()


def test_a_snapshot_of_nothing_stays_empty(store: KVStore) -> None:
    """KVStore.snapshot, of an empty store."""
    with store.snapshot() as snapshot:
        for key in ITEMS:
            store.put(key, b"new")
        store.flush()
        assert_holds(snapshot, {})


def test_a_closed_snapshot_refuses_every_call(full: KVStore) -> None:
    """Snapshot: closing it twice is fine; every other call after `close()` raises StoreClosed."""
    with full.snapshot() as snapshot:
        begun, fresh = snapshot.scan(), snapshot.scan(reverse=True)
        next(begun)
        scan_of_the_store = full.scan()
    snapshot.close()
    for call in (
        lambda: snapshot.get(b"a"),
        lambda: snapshot.multi_get([b"a"]),
        lambda: b"a" in snapshot,
        lambda: snapshot.scan(),
        lambda: next(begun),
        lambda: next(fresh),
    ):
        with pytest.raises(StoreClosed):
            call()
    assert list(scan_of_the_store) == sorted(ITEMS.items()), "closing a snapshot is nothing to a scan of the store"
    assert_holds(full, ITEMS)


def test_a_forgotten_snapshot_is_in_nobodys_way(full: KVStore) -> None:
    """Snapshot: one that is dropped unclosed harms neither the store nor its close."""
    forgotten = full.snapshot()
    assert forgotten.get(b"a") == ITEMS[b"a"]
    full.put(b"a", b"new")
    del forgotten
    gc.collect()
    full.compact()
    assert_holds(full, ITEMS | {b"a": b"new"})
    full.snapshot()
    full.close()


def test_load_replaces_everything(full: KVStore) -> None:
    """KVStore.load: replaces the whole content."""
    full.load(sorted(NEW.items()))
    for settle in (lambda: None, full.flush, full.compact):
        settle()
        assert_holds(full, NEW)
    full.put(b"a", b"after")
    full.delete(b"b")
    assert_holds(full, {b"a": b"after", b"c": b"loaded", b"z": b""})
    assert full.check() == []


def test_an_empty_load_empties_the_store(full: KVStore) -> None:
    """KVStore.load, of nothing."""
    full.load([])
    assert_holds(full, {})
    full.compact()
    assert_holds(full, {})
    full.put(b"a", b"after")
    assert_holds(full, {b"a": b"after"})


def test_load_leaves_snapshots_and_scans_in_their_moment(full: KVStore) -> None:
    """Contract 4, for the write that replaces everything; twice, so that a snapshot lies between two loads."""
    before = full.scan()
    with full.snapshot() as first:
        full.load(sorted(NEW.items()))
        full.put(b"a", b"between")
        between = full.scan(reverse=True)
        with full.snapshot() as second:
            full.load([(b"only", b"pair")])
            full.compact()
            assert_holds(first, ITEMS)
            assert_holds(second, NEW | {b"a": b"between"})
        assert list(before) == sorted(ITEMS.items())
        assert list(between) == sorted((NEW | {b"a": b"between"}).items(), reverse=True)
    assert_holds(full, {b"only": b"pair"})


@pytest.mark.parametrize(
    ("pairs", "error"),
    [
        ([(b"b", b"1"), (b"a", b"2")], InvalidKey),
        ([(b"a", b"1"), (b"b", b"2"), (b"b", b"3")], InvalidKey),
        ([(b"a", b"1"), (b"", b"2")], InvalidKey),
        ([(b"", b"1"), (b"a", b"2")], InvalidKey),
        ([(b"a", b"1"), ("b", b"2")], InvalidKey),
        ([(b"a", b"1"), (b"b", None)], InvalidValue),
        ([(b"a", b"1"), (b"b", "text")], InvalidValue),
    ],
    ids=["descending", "twice", "empty-last", "empty-first", "str", "None", "str-value"],
)
def test_a_load_that_is_refused_leaves_the_old_content(full: KVStore, pairs: list[Pair], error: type) -> None:
    """KVStore.load: if it isn't sorted, the old content stays; the store goes on."""
    with pytest.raises(error):
        full.load(pairs)
    with pytest.raises(error):
        full.load([(b"\x00%04d" % i, b"v" * 50) for i in range(500)] + pairs)
    assert_holds(full, ITEMS)
    full.put(b"a", b"new")
    full.compact()
    assert_holds(full, ITEMS | {b"a": b"new"})
    assert full.check() == []


def test_a_load_whose_stream_raises_leaves_the_old_content(full: KVStore) -> None:
    """KVStore.load: if `pairs` raises, the old content stays, and the caller gets the exception."""

    def broken_stream() -> Iterator[Pair]:
        for number in range(700):
            yield b"%04d" % number, b"v" * 50
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        full.load(broken_stream())
    assert_holds(full, ITEMS)
    full.load(sorted(NEW.items()))
    assert_holds(full, NEW)
    assert full.check() == []


def test_a_load_can_stream_from_the_store_itself(full: KVStore) -> None:
    """Contract 4: readers don't wait for a load, so that its pairs may come from a scan of the store that it fills."""
    full.load((key, full.get(key, b"") + b", and of " + value) for key, value in full.scan())
    assert_holds(full, {key: value + b", and of " + value for key, value in ITEMS.items()})


def test_load_takes_more_than_any_buffer_holds(store: KVStore) -> None:
    """KVStore.load: streams; from a generator, over many files or pages."""
    store.load((b"%06d" % i, b"old %d" % i) for i in range(500))
    store.load((b"%06d" % i, b"%d" % i) for i in range(0, 8_000, 2))
    assert list(store.scan()) == [(b"%06d" % i, b"%d" % i) for i in range(0, 8_000, 2)]
    assert store.multi_get([b"000001", b"007998"]) == [None, b"7998"]
    assert store.check() == []


@pytest.mark.persistent
def test_a_refused_load_leaves_no_file_behind(open_store: OpenStore) -> None:
    """KVStore.load: what it has written of the new content is no longer on disk after the next compaction."""
    store = open_store()
    store.put(b"a", b"1")
    store.compact()
    before = store.stats().disk_bytes
    for _ in range(3):
        with pytest.raises(InvalidKey):
            store.load([(b"%04d" % i, b"v" * 200) for i in range(1_000)] + [(b"0000", b"")])
    store.compact()
    assert store.stats().disk_bytes <= before + 100_000, "of 600,000 bytes that were refused"
    assert list(store.scan()) == [(b"a", b"1")]
