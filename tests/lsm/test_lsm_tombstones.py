"""Ranges full of tombstones: how many of them scans step over, by the store's own counter, and that scans stay right."""

from __future__ import annotations

import random
import sys
import threading
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

import engines
from engines import MappingView
from engines.lsm.fast import FAST, tombstones
from engines.lsm.fast.memtable import FastMemTable
from engines.lsm.fast.tombstones import MAX_BACK, MAX_RANGES, WORTH_NOTING, EmptyRanges
from engines.lsm.store import LsmStore
from engines.simenv import SimEnv

JOBS = 2000
AT_MOST = 2 * WORTH_NOTING  # tombstones for one scan: what isn't worth noting yet, and what is left of a chunk


class FastStore(LsmStore):
    """Ranges are skipped by the fast scan, whatever METCD_PLAIN says."""

    parts = FAST


def opened(**options: Any) -> LsmStore:
    return FastStore("/db", env=SimEnv(0), background=False, sync=False, **options)


def filled(prefixes: tuple[bytes, ...] = (b"job",), **options: Any) -> LsmStore:
    store = opened(**options)
    with store.batch() as batch:
        for number in range(JOBS):
            for prefix in prefixes:
                batch.put(b"%s%06d" % (prefix, number), b"x" * 50)
    return store


def stepped_over(store: LsmStore) -> int:
    return store.core.tables.counters.tombstones


def take(store: LsmStore, at: int = 0, **scan: Any) -> bytes:
    """Takes pair number `at` of a scan, and deletes it."""
    found = store.scan(**scan)
    for _ in range(at):
        next(found)
    key = next(found)[0]
    store.delete(key)
    return key


# ---- the cost -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scan", [{}, {"reverse": True}, {"prefix": b"job"}, {"prefix": b"job", "reverse": True}])
def test_a_queue_steps_over_few_tombstones(scan: dict[str, Any]) -> None:
    """The first job, or the last one, again and again: LevelDB steps over those of all jobs done."""
    with filled() as store:
        order = [b"job%06d" % number for number in range(JOBS)]
        for key in reversed(order) if scan.get("reverse") else order:
            before = stepped_over(store)
            assert take(store, **scan) == key
            assert stepped_over(store) - before <= AT_MOST
        assert list(store.scan()) == []
        assert store.stats().engine["tombstones_stepped_over"] <= JOBS * AT_MOST


@pytest.mark.parametrize("scan", [{}, {"reverse": True}])
def test_a_job_that_stays_at_the_head_changes_nothing(scan: dict[str, Any]) -> None:
    """The run of tombstones is in the middle of the scan then, which steps over a chunk or two of the memtable's."""
    with filled() as store:
        for _ in range(JOBS - 1):
            take(store, at=1, **scan)
        assert len(list(store.scan())) == 1
        assert stepped_over(store) <= JOBS * 100


def test_several_queues_in_one_store() -> None:
    """A range for each."""
    queues = tuple(b"queue%d/" % number for number in range(8))
    with filled(queues) as store:
        for number in range(JOBS):
            for prefix in queues:
                before = stepped_over(store)
                assert take(store, prefix=prefix) == b"%s%06d" % (prefix, number)
                assert stepped_over(store) - before <= AT_MOST


def test_producers_and_a_consumer() -> None:
    """New jobs after the others; and urgent ones, in the range that was empty, which are taken first."""
    with filled() as store:
        for number in range(JOBS):
            store.put(b"job%06d" % (JOBS + number), b"later")
            if number % 3 == 2:
                urgent = b"job%06d/urgent" % (number // 2)
                store.put(urgent, b"now")
                assert take(store) == urgent
            before = stepped_over(store)
            assert take(store) == b"job%06d" % number
            assert stepped_over(store) - before <= AT_MOST


def test_a_rotation_costs_one_crossing() -> None:
    """What is known ends with the memtable: the next scan steps over what is left, once, and not each time."""
    with filled(write_buffer_bytes=60_000) as store:
        for number in range(JOBS):
            assert take(store) == b"job%06d" % number
        flushes = store.stats().engine["flushes"]
        assert flushes > 1
        assert stepped_over(store) <= JOBS * AT_MOST + flushes * JOBS


@pytest.mark.parametrize("empty", ["popitem", "clear"])
def test_emptying_a_mapping_is_linear(empty: str) -> None:
    """popitem() takes the first pair; clear() may call it for each."""
    with filled() as store:
        view = MappingView(store)
        if empty == "clear":
            view.clear()
        else:
            for _ in range(JOBS):
                view.popitem()
        assert list(store.scan()) == []
        assert stepped_over(store) <= JOBS * AT_MOST


def test_with_a_snapshot_held() -> None:
    """Which keeps the deleted pairs from being dropped, and sees them."""
    with filled() as store, store.snapshot() as snapshot:
        for _ in range(JOBS):
            before = stepped_over(store)
            take(store)
            assert stepped_over(store) - before <= AT_MOST
        assert len(list(snapshot.scan())) == JOBS
        assert len(list(snapshot.scan(reverse=True))) == JOBS
        assert list(store.scan()) == []


class CountingList(list[Any]):
    """A list that counts its reads."""

    reads = 0

    def __getitem__(self, at: Any) -> Any:
        self.reads += 1
        return super().__getitem__(at)


@pytest.mark.parametrize("reverse", [False, True])
def test_a_key_that_is_overwritten_all_the_time_is_one_step(reverse: bool) -> None:
    """A counter: its older versions lie after the newest in the memtable, and a scan searches its way past them."""
    memtable = FastMemTable(0)
    memtable.add(1, b"a", b"first")
    for sequence in range(2, 5000):
        memtable.add(sequence, b"counter", b"%d" % sequence)
    memtable.add(5000, b"z", b"last")
    values = memtable._values = CountingList(memtable._values)
    pairs = [pair for chunk in memtable.chunks(b"", None, 5000, reverse) for pair in zip(*chunk)]
    expected = [(b"a", b"first"), (b"counter", b"4999"), (b"z", b"last")]
    assert pairs == (expected[::-1] if reverse else expected)
    assert values.reads < 200


@pytest.mark.parametrize("options", [{}, {"memtable": "sorted"}, {"compaction_process": True, "background": True}])
def test_a_flush_leaves_out_what_a_counter_was_before(tmp_path: Path, options: dict[str, Any]) -> None:
    """Otherwise a table of level 0 would be its older versions, and a scan would step over all of them; what a snapshot
    sees is kept, and the same when a log is replayed."""
    given = {"background": False, "sync": False, **options}
    with engines.open(tmp_path, "lsm", **given) as store:
        assert isinstance(store, LsmStore)
        store.put(b"a", b"first")
        store.put(b"z", b"last")
        for number in range(500):
            store.put(b"counter", b"%d" % number)
        snapshot = store.snapshot()
        for number in range(500, 1000):
            store.put(b"counter", b"%d" % number)
        store.delete(b"a")
        store.flush()
        assert entries(store) == [(b"a", 2), (b"counter", 501), (b"z", 1)], "what is newer than a snapshot is kept, too"
        assert dict(snapshot.scan()) == {b"a": b"first", b"counter": b"499", b"z": b"last"}
        assert dict(store.scan()) == {b"counter": b"999", b"z": b"last"}
        snapshot.close()
        for number in range(1000):
            store.put(b"counter", b"%d" % number)
    with engines.open(tmp_path, "lsm", **given) as store:
        assert isinstance(store, LsmStore)
        assert entries(store)[1] == (b"counter", 502), "one more"
        assert dict(store.scan()) == {b"counter": b"999", b"z": b"last"}
        assert store.check() == []


def entries(store: LsmStore) -> list[tuple[bytes, int]]:
    """How many versions of each key the tables have."""
    tables = [store.core.tables.get(file) for _, file in store.core.state.version.files()]
    return sorted(Counter(row.key for table in tables for row in table.rows()).items())


# ---- the facts ------------------------------------------------------------------------------------------------------


def ranges_of(memtable: FastMemTable) -> tuple[EmptyRanges, list[tuple[bytes, bytes | None]]]:
    """Ten tombstones from "b" on, noted as a range up to "m"."""
    for sequence in range(1, 11):
        memtable.add(sequence, b"b%d" % sequence, None)
    ranges = EmptyRanges(memtable, 0)
    ranges.note(b"b", b"m", 10, 20)
    return ranges, []


def known(ranges: EmptyRanges) -> list[tuple[bytes, bytes | None]]:
    return [(start, stop) for start, stop, _ in ranges.known[2]] if ranges.known is not None else []


def test_a_scan_begins_behind_an_empty_range() -> None:
    ranges, _ = ranges_of(FastMemTable(0))
    assert ranges.narrow(b"b", None, 10, False) == (b"m", None)
    assert ranges.narrow(b"c", b"x", 10, False) == (b"m", b"x")
    assert ranges.narrow(b"a", None, 10, False) == (b"a", None), "something may live between a and b"
    assert ranges.narrow(b"m", None, 10, False) == (b"m", None), "the range ends before m"
    assert ranges.narrow(b"c", b"d", 10, False) is None
    assert ranges.narrow(b"", b"m", 10, True) == (b"", b"b")
    assert ranges.narrow(b"", b"n", 10, True) == (b"", b"n")
    assert ranges.narrow(b"c", b"e", 10, True) is None
    assert ranges.narrow(b"", b"b", 10, True) == (b"", b"b")


def test_a_range_without_a_bound() -> None:
    """A scan that met nothing but tombstones up to the end."""
    ranges = EmptyRanges(FastMemTable(0), 0)
    ranges.note(b"q", None, 0, 20)
    assert ranges.narrow(b"r", None, 0, False) is None
    assert ranges.narrow(b"", None, 0, True) == (b"", b"q")
    assert ranges.narrow(b"", b"z", 0, True) == (b"", b"q")


def test_a_put_splits_a_range() -> None:
    """It is found among the arrivals when the next scan asks; deletes change nothing."""
    memtable = FastMemTable(0)
    ranges, _ = ranges_of(memtable)
    memtable.add(11, b"d", None)
    memtable.add(12, b"f", b"alive")
    memtable.add(13, b"z", b"elsewhere")
    memtable.add(14, b"h", b"not yet seen")
    assert ranges.narrow(b"b", None, 13, False) == (b"f", None)
    assert known(ranges) == [(b"b", b"f"), (b"f\x00", b"m")]
    assert ranges.narrow(b"g", None, 13, False) == (b"m", None), "as of 13, h isn't there"
    assert ranges.narrow(b"g", None, 14, False) == (b"h", None)


def test_an_older_scan_uses_nothing_newer() -> None:
    ranges, _ = ranges_of(FastMemTable(0))
    assert ranges.narrow(b"b", None, 9, False) == (b"b", None)
    before = ranges.known
    ranges.note(b"m", b"p", 9, 20)
    assert ranges.known == before


def test_a_snapshot_older_than_the_memtable_notes_nothing() -> None:
    """What was put between the two is in another memtable, where no later scan would look for it."""
    ranges = EmptyRanges(FastMemTable(0), 7)
    ranges.note(b"b", b"m", 6, 20)
    assert ranges.known is None
    ranges.note(b"b", b"m", 7, 20)
    assert known(ranges) == [(b"b", b"m")]


def test_neighbours_become_one_range_and_the_least_useful_goes() -> None:
    ranges, _ = ranges_of(FastMemTable(0))
    ranges.note(b"m", b"p", 10, 16)
    ranges.note(b"a", b"b1", 10, 16)
    assert known(ranges) == [(b"a", b"p")]
    for number in range(MAX_RANGES + 5):
        ranges.note(b"x%03d" % (2 * number), b"x%03d" % (2 * number + 1), 10, 100 + number)
    assert len(known(ranges)) == MAX_RANGES
    assert (b"a", b"p") not in known(ranges)


def test_what_costs_more_than_it_spares_is_forgotten() -> None:
    """After a burst of writes, looking at all of them would take longer than stepping over the tombstones."""
    memtable = FastMemTable(0)
    ranges, _ = ranges_of(memtable)
    for sequence in range(11, 11 + 2 * MAX_BACK):
        memtable.add(sequence, b"y%06d" % sequence, b"")
    assert ranges.narrow(b"b", None, 10 + 2 * MAX_BACK, False) == (b"b", None)
    assert ranges.known is None
    ranges.note(b"b", b"m", 10, 20)
    assert ranges.known is None, "as of a sequence that is too long ago, nothing is noted"


def test_a_memtable_in_the_order_of_arrival() -> None:
    """What has come after a sequence, and up to another one."""
    memtable, rng = FastMemTable(0), random.Random(1)
    written = [(b"%d" % rng.randrange(300), None if rng.random() < 0.5 else b"v") for _ in range(499)]
    for sequence, (key, value) in enumerate(written, 1):
        memtable.add(sequence, key, value)
    for sequence in (0, 1, 250, 499):
        position = memtable.position_after(sequence, 500)
        assert position == sequence
        assert list(memtable.arrivals(position, 1000)) == written[sequence:]
        assert list(memtable.arrivals(position, 280)) == written[sequence:280]
    assert memtable.position_after(400, 10) is None


# ---- and the answers ------------------------------------------------------------------------------------------------


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything is worth noting."""
    monkeypatch.setattr(tombstones, "WORTH_NOTING", 1)


@pytest.mark.parametrize("write_buffer_bytes", [2_000, 1 << 20])
@pytest.mark.usefixtures("eager")
def test_scans_are_right_whatever_is_known(rng: random.Random, write_buffer_bytes: int) -> None:
    """Random writes, scans of all kinds and lengths, snapshots old and new, loads and flushes, against a dict."""
    model: dict[bytes, bytes] = {}
    snapshots: list[tuple[Any, dict[bytes, bytes]]] = []
    with opened(write_buffer_bytes=write_buffer_bytes, max_file_bytes=2_000, block_bytes=100) as store:

        def compare(reader: Any, content: dict[bytes, bytes]) -> None:
            bounds = [b"%02d" % rng.randrange(100) if rng.random() < 0.7 else b"" for _ in range(2)]
            start, stop = bounds[0], bounds[1] or None
            reverse = rng.random() < 0.5
            expected = sorted((k, v) for k, v in content.items() if k >= start and (stop is None or k < stop))
            wanted = (expected[::-1] if reverse else expected)[: rng.choice((1, 2, 100))]
            found = reader.scan(start, stop, reverse=reverse)
            assert list(islice(found, len(wanted))) == wanted
            if len(wanted) == len(expected):
                assert next(found, None) is None

        for number in range(6000):
            choice = rng.random()
            key = b"%02d" % rng.randrange(100)
            if choice < 0.12:
                model[key] = b"%d" % number
                store.put(key, model[key])
            elif choice < 0.5:
                model.pop(key, None)
                store.delete(key)
            elif choice < 0.53:
                with store.batch() as batch:
                    for at in range(rng.randrange(1, 20)):
                        key = b"%02d" % rng.randrange(100)
                        if at % 4:
                            batch.delete(key)
                            model.pop(key, None)
                        else:
                            batch.put(key, b"b%d" % number)
                            model[key] = b"b%d" % number
            elif choice < 0.54:
                snapshots.append((store.snapshot(), dict(model)))
                if len(snapshots) > 4:
                    snapshots.pop(rng.randrange(4))[0].close()
            elif choice < 0.55:
                rng.choice((store.flush, store.compact, lambda: store.load(sorted(model.items()))))()
            else:
                compare(store, model)
            if snapshots and rng.random() < 0.2:
                compare(*rng.choice(snapshots))


@pytest.mark.usefixtures("eager")
def test_readers_beside_a_writer_see_every_key_that_lives(rng: random.Random) -> None:
    """Keys ending in 0 are always there; the others come and go. Three readers note and use, one writer fills and
    empties, with a switch between threads as often as possible."""
    keys = [b"%03d" % number for number in range(300)]
    lasting = [key for key in keys if key.endswith(b"0")]
    failures: list[str] = []
    done = threading.Event()
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with engines.open("/db", "lsm", env=SimEnv(0), background=False, sync=False) as store:
            for key in lasting:
                store.put(key, b"")

            def read(seed: int) -> None:
                own = random.Random(seed)
                while not done.is_set() and not failures:
                    start, reverse = own.choice(keys), own.random() < 0.5
                    found = [key for key, _ in store.scan(start, reverse=reverse) if key.endswith(b"0")]
                    if found != sorted([key for key in lasting if key >= start], reverse=reverse):
                        failures.append(f"from {start!r}, reverse={reverse}: {found}")

            readers = [threading.Thread(target=read, args=(rng.random(),)) for _ in range(3)]
            for reader in readers:
                reader.start()
            for _ in range(4000):
                key = rng.choice(keys)
                if key.endswith(b"0"):  # for one batch it is deleted, and put again: never seen as absent
                    with store.batch() as batch:
                        batch.delete(key)
                        batch.put(key, b"again")
                elif rng.random() < 0.2:
                    store.put(key, b"")
                else:
                    store.delete(key)
            done.set()
            for reader in readers:
                reader.join()
    finally:
        sys.setswitchinterval(before)
    assert failures == []
