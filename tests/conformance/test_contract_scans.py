"""The contract, second part: scans, forwards and backwards, of every range, while the store is being written to."""

from __future__ import annotations

import gc
import itertools
import random

import pytest

from engines import InvalidKey, KVStore
from tests.conformance.engine_table import Engine, OpenStore
from tests.conformance.layouts import ITEMS
from tests.conformance.model import expected_scan

STARTS = [
    b"",
    b"\x00",
    b"\x00\x00",
    b"a",
    b"a\x00",
    b"a\xfe",
    b"a\xff",
    b"b\x01",
    b"\xff",
    b"\xff\xff\xff",
    b"k" * 40_000,
]
STOPS = [None, b"", b"\x00", b"a", b"a\x00", b"a\xff", b"ab", b"b", b"b\x00\x00", b"\xff\xff", b"\xff\xff\x00"]
PREFIXES = [None, b"", b"\x00", b"a", b"a\xff", b"a\xff\xff", b"b", b"c", b"\xff", b"\xff\xff", b"\xff\xff\xff"]


@pytest.mark.parametrize("reverse", [False, True], ids=["forwards", "backwards"])
def test_a_scan_shows_its_range_in_order(full: KVStore, reverse: bool) -> None:
    """Reader.scan: start <= key < stop that begins with `prefix`, in key order or against it; every combination,
    start beyond stop and bounds that are no valid keys included."""
    for start, stop, prefix in itertools.product(STARTS, STOPS, PREFIXES):
        found = list(full.scan(start, stop, prefix=prefix, reverse=reverse))
        asked = f"scan({start[:9]!r}, {stop!r}, prefix={prefix!r}, reverse={reverse})"
        assert found == expected_scan(ITEMS, start, stop, prefix, reverse), asked


@pytest.mark.parametrize("reverse", [False, True], ids=["forwards", "backwards"])
def test_a_snapshot_scans_like_a_store(full: KVStore, reverse: bool) -> None:
    """Reader.scan, of a snapshot, after which everything has changed."""
    with full.snapshot() as snapshot:
        for key in ITEMS:
            full.put(key, b"since")
        full.delete(b"a")
        full.put(b"new", b"new")
        for start, stop, prefix in itertools.product(STARTS[::2], STOPS[::2], PREFIXES[::2]):
            found = list(snapshot.scan(start, stop, prefix=prefix, reverse=reverse))
            asked = f"scan({start[:9]!r}, {stop!r}, prefix={prefix!r}, reverse={reverse})"
            assert found == expected_scan(ITEMS, start, stop, prefix, reverse), asked


def test_order_is_that_of_unsigned_bytes(store: KVStore, rng: random.Random) -> None:
    """Contract 1: byte by byte, unsigned; a prefix comes before what it begins."""
    keys = [bytes([byte]) for byte in range(256)]
    keys += [bytes([rng.randrange(256), byte]) for byte in range(0, 256, 5)]
    keys += [rng.randbytes(rng.randrange(3, 9)) for _ in range(100)]
    keys = list(dict.fromkeys(keys))
    rng.shuffle(keys)
    for key in keys:
        store.put(key, key)
    for settle in (lambda: None, store.flush, store.compact):
        settle()
        assert [key for key, _ in store.scan()] == sorted(keys)
        assert [key for key, _ in store.scan(reverse=True)] == sorted(keys, reverse=True)


def test_many_keys_are_scanned_whole(open_store: OpenStore, rng: random.Random) -> None:
    """Reader.scan over many blocks, pages or segments: 3,000 keys written in random order, a third overwritten."""
    store = open_store()
    items: dict[bytes, bytes] = {}
    numbers = rng.sample(range(100_000), 3_000)
    for at in range(0, len(numbers), 250):
        with store.batch() as batch:
            for number in (*numbers[at : at + 250], *numbers[at // 3 : at // 3 + 60]):
                items[b"%05d" % number] = value = b"%d/%d" % (number, at)
                batch.put(b"%05d" % number, value)
    in_order = sorted(items.items())
    for settle in (lambda: None, store.compact):
        settle()
        assert list(store.scan()) == in_order
        assert list(store.scan(reverse=True)) == in_order[::-1]
        for _ in range(10):
            start, stop = sorted((b"%05d" % rng.randrange(100_000), b"%05d" % rng.randrange(100_000)))
            assert list(store.scan(start, stop)) == expected_scan(items, start, stop)
            assert list(store.scan(start, stop, reverse=True)) == expected_scan(items, start, stop, reverse=True)
    assert store.check() == []


@pytest.mark.parametrize(
    "bound", ["text", 7, bytearray(b"a"), memoryview(b"a")], ids=lambda bound: type(bound).__name__
)
def test_a_bound_that_is_not_bytes_is_refused_at_the_call(full: KVStore, bound: bytes) -> None:
    """Reader.scan: raises InvalidKey at the call, not when the first pair is asked for."""
    with full.snapshot() as snapshot:
        for reader in (full, snapshot):
            with pytest.raises(InvalidKey):
                reader.scan(bound)
            with pytest.raises(InvalidKey):
                reader.scan(b"a", bound)
            with pytest.raises(InvalidKey):
                reader.scan(prefix=bound)


def test_a_scan_without_start_says_bytes_too(full: KVStore) -> None:
    """Reader.scan: only stop and prefix may be None."""
    with pytest.raises(InvalidKey):
        full.scan(None)  # type: ignore[arg-type]


@pytest.mark.parametrize("reverse", [False, True], ids=["forwards", "backwards"])
def test_a_scan_shows_the_moment_of_its_call(full: KVStore, reverse: bool) -> None:
    """Contract 4: what is written between the call and the first pair isn't seen, nor what is written later."""
    expected = expected_scan(ITEMS, reverse=reverse)
    scan = full.scan(reverse=reverse)
    full.put(b"a", b"too late")
    full.delete(b"b")
    full.put(b"a\x80", b"too late")
    found = []
    for number, pair in enumerate(scan):
        found.append(pair)
        for key in ITEMS:
            full.put(key, b"later %d" % number)
        full.put(b"b\xff", b"new, on both sides of the scan")
        full.delete(b"\xff\xff" if number % 2 else b"\x00")
        if number == 3:
            full.flush()
        if number == 5:
            full.compact()
    assert found == expected


def test_a_long_scan_holds_its_moment_through_flush_and_compaction(store: KVStore) -> None:
    """Contract 4, where a scan spans many chunks, and everything it shows is overwritten or deleted before it does."""
    items = {b"%04d" % i: b"first" for i in range(1_500)}
    store.load(sorted(items.items()))
    forwards, backwards = store.scan(), store.scan(reverse=True)
    found_f, found_b = [next(forwards)], [next(backwards)]
    for key in items:
        store.put(key, b"second")
    with store.batch() as batch:
        for key in list(items)[::2]:
            batch.delete(key)
    store.flush()
    found_f += itertools.islice(forwards, 400)
    found_b += itertools.islice(backwards, 400)
    store.compact()
    assert found_f + list(forwards) == sorted(items.items())
    assert found_b + list(backwards) == sorted(items.items(), reverse=True)
    assert list(store.scan()) == [(key, b"second") for key in list(items)[1::2]]


def test_several_scans_run_side_by_side(full: KVStore) -> None:
    """Reader.scan: each scan has its own moment and its own place."""
    scans, expected = [], []
    content = dict(ITEMS)
    for number in range(6):
        reverse = bool(number % 2)
        scans.append(full.scan(reverse=reverse))
        expected.append(expected_scan(content, reverse=reverse))
        content[b"new %d" % number] = b"%d" % number
        full.put(b"new %d" % number, b"%d" % number)
    found: list[list[tuple[bytes, bytes]]] = [[] for _ in scans]
    for pairs in itertools.zip_longest(*scans):
        for number, pair in enumerate(pairs):
            if pair is not None:
                found[number].append(pair)
    assert found == expected


def test_a_scan_can_be_abandoned(full: KVStore) -> None:
    """Reader.scan: pins what it needs until it is exhausted, closed or collected; then nothing is in the way."""
    exhausted, closed, collected, unused = full.scan(), full.scan(), full.scan(reverse=True), full.scan()
    assert list(exhausted) == sorted(ITEMS.items())
    assert next(exhausted, None) is None
    next(closed)
    closed.close()  # type: ignore[attr-defined]
    assert next(closed, None) is None
    next(collected)
    del collected, unused
    gc.collect()
    for key in ITEMS:
        full.put(key, b"new")
    full.flush()
    full.compact()
    assert dict(full.scan()) == dict.fromkeys(ITEMS, b"new")
    assert full.check() == []


def test_a_scan_outlives_the_snapshot_object_that_nobody_holds(full: KVStore) -> None:
    """Reader.scan pins what it needs itself: `store.snapshot().scan()` leaves only the scan in somebody's hands."""
    scan = full.snapshot().scan()
    gc.collect()
    for key in ITEMS:
        full.put(key, b"new")
    full.flush()
    full.compact()
    gc.collect()
    assert list(scan) == sorted(ITEMS.items())


@pytest.mark.persistent
def test_a_scan_reads_no_more_than_is_asked_for(engine: Engine, open_store: OpenStore) -> None:
    """Reader.scan: lazy; what isn't asked for isn't read. Counted in a store whose caches are cold.

    A learner's engine may hold all of its content in memory, and then neither reads anything.
    """
    store = open_store()
    store.load((b"%05d" % i, b"v" * 200) for i in range(2_000))
    store.compact()
    store.close()
    store = open_store()
    opened = store.stats().bytes_read
    scan = store.scan()
    next(scan)
    for_one = store.stats().bytes_read - opened
    assert sum(1 for _ in scan) == 1_999
    for_all = store.stats().bytes_read - opened
    assert for_one * 10 <= for_all
    assert for_all >= 2_000 * 200 or not engine.registered, "a scan of everything fetches every value from the files"
