"""The B+tree store: sizes, growth, transactions, cursors, readers beside a writer. The contract has its own suite."""

from __future__ import annotations

import io
import json
import os
import random
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import engines
from engines import InvalidOption, KVStore, NoSuchStore, ReadOnly, StoreClosed
from engines.btree import BTreeStore, StoreFull, check_file
from engines.btree.node import Node
from engines.env import real_env
from engines.kvstore import MAX_KEY_BYTES
from tests.btree.poisoning import PoisoningStore
from tests.conformance.hooked_env import HookedEnv

PAGE = 4096
PATIENCE_S = 60.0


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "store.db")


@pytest.fixture
def store(path: str) -> Iterator[BTreeStore]:
    with PoisoningStore(path, sync=False) as store:
        yield store
        assert store.check() == []


# --------------------------------------------------------------------------------------------------------------- sizes


@pytest.mark.parametrize("page_size", [1024, 4096, 65_536])
def test_values_of_every_size_around_a_page(path: str, page_size: int) -> None:
    """psize-1, psize, psize+1, and the same around a quarter and several pages: written, overwritten by the next, read."""
    borders = [page_size // 4, page_size, 2 * page_size, 5 * page_size]
    sizes = [0, 1] + [border + difference for border in borders for difference in range(-42, 4, 3)]
    items: dict[bytes, bytes] = {}
    with PoisoningStore(path, sync=False, page_size=page_size) as store:
        for number, size in enumerate(sizes):
            items[b"%03d" % number] = bytes([number % 251]) * size
            store.put(b"%03d" % number, items[b"%03d" % number])
        for number, size in enumerate(sizes[1:] + sizes[:1]):
            items[b"%03d" % number] = b"x" * size
            store.put(b"%03d" % number, items[b"%03d" % number])
        assert dict(store.scan()) == items
        assert store.check() == []
    with BTreeStore(path) as store:
        assert dict(store.scan(reverse=True)) == items
        assert store.multi_get(items) == list(items.values())
        assert store.check() == []


def test_keys_of_one_and_of_32768_bytes(store: BTreeStore) -> None:
    """The format's limits; pages with four such keys can't be split."""
    items = {bytes([number]): b"%d" % number for number in range(256)}
    items |= {bytes([number]) * MAX_KEY_BYTES: b"long" * number for number in range(1, 20)}
    for key, value in items.items():
        store.put(key, value)
    assert dict(store.scan()) == items
    assert store.check() == []
    for key in list(items)[::2]:
        store.delete(key)
        del items[key]
    assert dict(store.scan()) == items


@pytest.mark.parametrize("count", [2, 3, 4, 5, 6])
def test_a_leaf_of_few_large_values(store: BTreeStore, count: int) -> None:
    """Four keys or fewer share an overflow run; five are split, two at least on each side."""
    items = {b"%d" % number: b"v" * 3000 for number in range(count)}
    for key, value in items.items():
        store.put(key, value)
    assert dict(store.scan()) == items
    stats = store.stats().engine
    assert (stats["leaf_pages"] > 2) is (count > 4), "one of them is the root bucket's"


def test_a_page_full_of_tiny_elements(path: str) -> None:
    """More elements than one splice takes, in the largest pages that can be chosen."""
    with PoisoningStore(path, sync=False, page_size=65_536) as store:
        keys = [b"%04x" % number for number in range(0, 3_000, 2)]
        for key in keys:
            store.put(key, b"")
        for number in range(1, 600, 2):
            store.put(b"%04x" % number, b"")
        assert len(list(store.scan())) == len(keys) + 300
        assert store.check() == []


def test_a_freelist_longer_than_its_header_can_count(path: str) -> None:
    """More than 65,534 free pages: the count moves into the body, and comes back."""
    with BTreeStore(path, page_size=1024, sync=False) as store:
        store.put(b"small", b"1")
        store.put(b"large", b"v" * (66_000 * 1024))
        store.flush()
        store.delete(b"large")
        store.flush()
        store.put(b"again", b"2")
        store.flush()
        assert store.stats().engine["free_pages"] > 65_534
        assert store.check() == []
    assert check_file(real_env(), path) == []
    with BTreeStore(path) as store:
        assert store.stats().engine["free_pages"] > 65_534
        store.put(b"one more", b"v" * 50_000_000)
        assert dict(store.scan()).keys() == {b"small", b"again", b"one more"}
        assert store.check() == []


def test_the_file_stays_flat_under_overwrites(path: str, rng: random.Random) -> None:
    """10,000 overwrites: what is dropped is used again, synced or not."""
    keys = [b"%04d" % number for number in range(400)]
    with PoisoningStore(path, sync=False) as store:
        store.load((key, b"v" * 100) for key in keys)
        sizes = []
        for number in range(10_000):
            store.put(rng.choice(keys), b"%d" % number * 20, sync=number % 50 == 0)
            if number % 1_000 == 0:
                sizes.append(store.stats().disk_bytes)
        assert max(sizes[2:]) == sizes[2] <= 4 * sizes[0]
        assert store.stats().engine["pages"] * PAGE <= sizes[2]


def test_ascending_keys_fill_their_pages(store: BTreeStore) -> None:
    """The append fast path: full pages stay behind; random order leaves two thirds."""
    for number in range(3_000):
        store.put(b"%06d" % number, b"v" * 60)
    ascending = store.stats().engine["fill_percent"]
    assert ascending >= 90
    store.load([])
    for number in random.Random(1).sample(range(3_000), 3_000):
        store.put(b"%06d" % number, b"v" * 60)
    assert 55 <= store.stats().engine["fill_percent"] <= 80
    store.compact()
    assert store.stats().engine["fill_percent"] >= 90


@pytest.mark.parametrize("fill_percent", [0.3, 0.5, 0.9])
def test_splits_leave_pages_filled_to_fill_percent(path: str, fill_percent: float) -> None:
    """bbolt's FillPercent: of pages that are split in the middle of the keys."""
    with BTreeStore(path, sync=False, fill_percent=fill_percent) as store:
        store.put(b"a", b"first")
        store.put(b"z", b"last")
        with store.batch() as batch:
            for number in range(5_000):
                batch.put(b"%05d" % number, b"v" * 40)
        assert abs(store.stats().engine["fill_percent"] - 100 * fill_percent) <= 4
        assert store.check() == []


def test_deletes_make_the_tree_shrink(store: BTreeStore, rng: random.Random) -> None:
    """Small pages are joined, the root collapses; an emptied tree is one leaf."""
    keys = [b"%05d" % number for number in range(12_000)]
    store.load((key, b"v" * 80) for key in keys)
    assert store.stats().engine["depth"] == 3
    full = store.stats().engine["leaf_pages"]
    rng.shuffle(keys)
    for key in keys[:11_000]:
        store.delete(key)
    stats = store.stats().engine
    assert stats["leaf_pages"] < full / 3
    for key in keys[11_000:]:
        store.delete(key)
    stats = store.stats().engine
    assert (stats["depth"], stats["leaf_pages"], stats["branch_pages"]) == (1, 2, 0)
    assert store.stats().live_bytes == 0


def test_a_full_file_refuses_and_goes_on(path: str) -> None:
    """max_size: StoreFull, nothing of the batch is written, and after deletes there is room again."""
    with PoisoningStore(path, max_size=20 * PAGE) as store:
        written = 0
        with pytest.raises(StoreFull, match="max_size is 81,920"):
            for number in range(1_000):
                store.put(b"%04d" % number, b"v" * 500)
                written += 1
        assert [key for key, _ in store.scan()] == [b"%04d" % number for number in range(written)]
        with pytest.raises(StoreFull), store.batch(sync=False) as batch:
            for number in range(1_000):
                batch.put(b"%04d" % number, b"w" * 500)
        assert {value for _, value in store.scan()} == {b"v" * 500}
        with pytest.raises(StoreFull):
            store.load((b"%04d" % number, b"w" * 500) for number in range(1_000))
        for number in range(written):
            store.delete(b"%04d" % number)
        store.put(b"again", b"v" * 500)
        assert store.stats().disk_bytes <= 20 * PAGE
        assert store.check() == []


# -------------------------------------------------------------------------------------------------------- transactions


def test_an_update_sees_its_own_writes_and_commits_as_one(store: BTreeStore) -> None:
    """update(): get, scan in both directions, delete; nobody else sees any of it before the end."""
    store.load((b"%02d" % number, b"old") for number in range(0, 20, 2))
    with store.update() as tx:
        tx.put(b"03", b"new")
        tx.put(b"04", b"new")
        tx.delete(b"06")
        tx.delete(b"nothing")
        tx.delete(b"03")
        tx.put(b"05", b"new")
        expected = {b"%02d" % number: b"old" for number in range(0, 20, 2)} | {b"04": b"new", b"05": b"new"}
        del expected[b"06"]
        assert dict(tx.scan()) == expected
        assert list(tx.scan(reverse=True)) == sorted(expected.items(), reverse=True)
        assert list(tx.scan(b"03", b"08")) == [(b"04", b"new"), (b"05", b"new")]
        assert next(tx.scan(prefix=b"0", reverse=True)) == (b"08", b"old")
        assert (tx.get(b"03"), tx.get(b"05"), tx.get(b"06"), tx.get(b"06", b"gone")) == (None, b"new", None, b"gone")
        assert store.get(b"05") is None
    assert dict(store.scan()) == expected
    assert store.stats().puts == 3 and store.stats().deletes == 3
    with pytest.raises(StoreClosed):
        tx.get(b"05")
    with pytest.raises(StoreClosed):
        tx.put(b"05", b"late")


def test_an_update_that_raises_leaves_nothing(store: BTreeStore) -> None:
    """update(): an exception discards all of it, and the store goes on."""
    store.put(b"a", b"1")
    with pytest.raises(ZeroDivisionError), store.update() as tx:
        tx.put(b"a", b"2")
        tx.put(b"b", b"2")
        raise ZeroDivisionError
    assert dict(store.scan()) == {b"a": b"1"}
    with store.update() as tx:
        pass
    store.put(b"c", b"3")


def test_writing_past_an_open_update_is_refused(store: BTreeStore) -> None:
    """The same thread would wait for itself (bbolt's deadlock, boltdb issue 378): it is told instead."""
    with store.update() as tx:
        tx.put(b"a", b"1")
        for call in (lambda: store.put(b"b", b"2"), store.flush, store.compact, store.check, store.close):
            with pytest.raises(RuntimeError, match="in use by this thread"):
                call()
        with pytest.raises(RuntimeError), store.batch(sync=True) as batch:
            batch.put(b"b", b"2")
        assert store.get(b"a") is None
    assert dict(store.scan()) == {b"a": b"1"}


def test_a_cursor_deletes_everything_it_passes(store: BTreeStore) -> None:
    """bbolt's issue 146: after Delete, Next skipped a key. Here none is skipped, across all pages."""
    keys = [b"%04d" % number for number in range(2_000)]
    store.load((key, b"v" * 30) for key in keys)
    seen = []
    with store.update() as tx:
        cursor = tx.cursor()
        pair = cursor.first()
        while pair is not None:
            seen.append(pair[0])
            cursor.delete()
            pair = cursor.next()
    assert seen == keys
    assert list(store.scan()) == []


def test_a_cursor_survives_deletes_in_both_directions(store: BTreeStore, rng: random.Random) -> None:
    """Random moves, puts and deletes, against a sorted list: next and prev are always the neighbours of where it stood."""
    store.load((b"%03d" % number, b"") for number in range(0, 1_000, 2))
    with store.update() as tx:
        model = {b"%03d" % number for number in range(0, 1_000, 2)}
        cursor = tx.cursor()
        place: bytes | None = None
        for _ in range(3_000):
            choice = rng.randrange(6)
            if choice == 0:
                key = b"%03d" % rng.randrange(1_000)
                tx.put(key, b"")
                model.add(key)
                continue
            if choice == 1 and place is not None:
                cursor.delete()
                model.discard(place)
                continue
            if choice == 2 or place is None:
                key = b"%03d" % rng.randrange(1_000)
                pair, expected = cursor.seek(key), min((k for k in model if k >= key), default=None)
            elif choice in (3, 4):
                pair, expected = cursor.next(), min((k for k in model if k > place), default=None)
            else:
                pair, expected = cursor.prev(), max((k for k in model if k < place), default=None)
            assert (pair and pair[0]) == expected
            place = expected
        assert [key for key, _ in tx.scan()] == sorted(model)


def test_a_cursor_knows_both_ends(store: BTreeStore) -> None:
    """first, last, and what lies beyond them."""
    with store.update() as tx:
        assert tx.cursor().first() is None and tx.cursor().last() is None and tx.cursor().next() is None
    store.load([(b"a", b"1"), (b"b", b"2")])
    with store.view() as view:
        cursor = view.cursor()
        assert cursor.last() == (b"b", b"2") and cursor.next() is None and cursor.next() is None
        assert cursor.prev() == (b"b", b"2") and cursor.prev() == (b"a", b"1") and cursor.prev() is None
        assert cursor.prev() is None and cursor.next() == (b"a", b"1") and cursor.seek(b"aa") == (b"b", b"2")
        assert cursor.seek(b"z") is None
        with pytest.raises(ReadOnly):
            view.cursor().first() and cursor.seek(b"a") and cursor.delete()


# ------------------------------------------------------------------------------------------------- readers and writers


def test_readers_each_see_their_own_snapshot(store: BTreeStore, rng: random.Random) -> None:
    """Views of many moments, opened and closed at random, beside a writer; freed pages are filled with rubbish, and no
    node is cached, so that a page that is used too early is read as rubbish."""
    content: dict[bytes, bytes] = {}
    views: list[tuple[object, dict[bytes, bytes]]] = []
    for number in range(1_500):
        key = b"%03d" % rng.randrange(300)
        if rng.random() < 0.4:
            store.delete(key, sync=rng.random() < 0.1)
            content.pop(key, None)
        else:
            content[key] = b"%d" % number * rng.choice((1, 9, 300 if rng.random() < 0.1 else 2))
            store.put(key, content[key], sync=rng.random() < 0.1)
        if rng.random() < 0.1:
            views.append((store.view(), dict(content)))
        if number % 400 == 399:
            store.compact()
        if rng.random() < 0.1:
            store._state.pager.nodes.clear()
        if views and rng.random() < 0.09:
            view, expected = views.pop(rng.randrange(len(views)))
            assert dict(view.scan()) == expected  # type: ignore[attr-defined]
            assert view.multi_get(expected) == list(expected.values())  # type: ignore[attr-defined]
            view.close()  # type: ignore[attr-defined]
    for view, expected in views:
        assert dict(view.scan()) == expected  # type: ignore[attr-defined]
        view.close()  # type: ignore[attr-defined]
    assert dict(store.scan()) == content


def test_threads_read_while_a_writer_churns(path: str) -> None:
    """Gets without a pin, scans and views in threads that change every 20 µs; each is checked against the number that the
    whole content had at its moment."""
    keys = [b"%03d" % number for number in range(120)]
    done = threading.Event()
    failures: list[BaseException] = []
    before = sys.getswitchinterval()
    with PoisoningStore(path, sync=False, cache_pages=8, page_size=1024) as store:

        def write() -> None:
            try:
                for number in range(250):
                    with store.batch() as batch:
                        for key in keys:
                            batch.put(key, b"%06d" % number * 5)
                    store.put(b"extra%02d" % (number % 50), b"x" * number)
            finally:
                done.set()

        def read() -> None:
            last = 0
            while not done.is_set():
                first = int((store.get(keys[0]) or b"0" * 6)[:6])
                assert first >= last, "time goes backwards"
                with store.view() as view:
                    numbers = {value for _, value in view.scan(b"0", b"9")}
                    assert len(numbers) <= 1
                    assert {view.get(key) for key in keys} == (numbers or {None})
                scanned = {value for _, value in store.scan(b"0", b"9", reverse=True)}
                assert len(scanned) <= 1
                last = first

        def guarded(body: object) -> None:
            try:
                body()  # type: ignore[operator]
            except BaseException as failure:
                failures.append(failure)
                done.set()

        threads = [threading.Thread(target=guarded, args=(body,)) for body in (write, read, read)]
        sys.setswitchinterval(20e-6)
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(PATIENCE_S)
                assert not thread.is_alive()
        finally:
            sys.setswitchinterval(before)
        if failures:
            raise failures[0]
        assert store.check() == []


class _Interrupting(dict[int, Node]):
    """A cache of nodes in which a lookup is interrupted by something else, once."""

    interrupt: Callable[[int], None] | None = None

    def __getitem__(self, pgid: int) -> Node:
        interrupt, self.interrupt = self.interrupt, None
        if interrupt is not None:
            interrupt(pgid)
        return super().__getitem__(pgid)


def test_a_get_without_a_pin_is_not_led_astray(store: BTreeStore) -> None:
    """Between two steps of a get, the leaf's page is given up, and another leaf is written there: get looks again."""
    store.load((b"%04d" % number, b"v" * 50) for number in range(500))
    store.put(b"0007", b"mine", sync=False)
    nodes = _Interrupting(store._nodes)
    store._nodes = store._state.pager.nodes = nodes

    def write_there(pgid: int) -> None:
        store.put(b"0007", b"moved", sync=False)
        number = 400
        while pgid not in nodes or b"0007" in nodes[pgid].keys:
            store.put(b"%04d" % number, b"elsewhere", sync=False)
            number += 1

    nodes.interrupt = write_there
    assert store.get(b"0007") == b"moved"
    assert nodes.interrupt is None


def test_writes_are_committed_in_the_order_of_their_submission(path: str) -> None:
    """Three writers of one key wait for the same commit: the last one's value stays."""
    env = HookedEnv()
    with BTreeStore(path, env=env) as store:
        stuck, go_on = threading.Event(), threading.Event()

        def before_sync(site: str) -> None:
            if not stuck.is_set():
                stuck.set()
                assert go_on.wait(PATIENCE_S)

        env.before_sync = before_sync
        writers = [threading.Thread(target=store.put, args=(b"key", b"%d" % number)) for number in range(4)]
        for number, writer in enumerate(writers):
            writer.start()
            assert stuck.wait(PATIENCE_S)
            while len(store._group._queue) < number:
                threading.Event().wait(0.001)
        go_on.set()
        for writer in writers:
            writer.join(PATIENCE_S)
        env.before_sync = lambda site: None
        assert store.get(b"key") == b"3"


def test_waiting_writers_share_a_commit(path: str) -> None:
    """Group commit: while one writer's fsync takes its time, twenty others arrive; they need one more pair of fsyncs."""
    env = HookedEnv()
    with BTreeStore(path, env=env) as store:
        stuck, go_on = threading.Event(), threading.Event()
        sites: list[str] = []

        def before_sync(site: str) -> None:
            sites.append(site)
            if len(sites) == 1:
                stuck.set()
                assert go_on.wait(PATIENCE_S)

        env.before_sync = before_sync
        writers = [threading.Thread(target=store.put, args=(b"%02d" % number, b"v")) for number in range(21)]
        writers[0].start()
        assert stuck.wait(PATIENCE_S)
        for writer in writers[1:]:
            writer.start()
        while len(store._group._queue) < 20:
            threading.Event().wait(0.001)
        go_on.set()
        for writer in writers:
            writer.join(PATIENCE_S)
        env.before_sync = lambda site: None
        assert sites == ["btree.commit.data", "btree.commit.meta"] * 2
        assert len(list(store.scan())) == 21
        assert store.stats().puts == 21


def test_one_refused_write_does_not_spoil_its_group(path: str) -> None:
    """StoreFull for the one that is too large; the others, who waited with it, are committed."""
    env = HookedEnv()
    with BTreeStore(path, env=env, max_size=20 * PAGE) as store:
        stuck, go_on = threading.Event(), threading.Event()
        refused: list[BaseException] = []

        def before_sync(site: str) -> None:
            if not stuck.is_set():
                stuck.set()
                assert go_on.wait(PATIENCE_S)

        def put(key: bytes, value: bytes) -> None:
            try:
                store.put(key, value)
            except StoreFull as refusal:
                refused.append(refusal)

        env.before_sync = before_sync
        sizes = [1, 5, 100_000, 7]
        writers = [threading.Thread(target=put, args=(b"%d" % size, b"v" * size)) for size in sizes]
        writers[0].start()
        assert stuck.wait(PATIENCE_S)
        for writer in writers[1:]:
            writer.start()
        while len(store._group._queue) < 3:
            threading.Event().wait(0.001)
        go_on.set()
        for writer in writers:
            writer.join(PATIENCE_S)
        env.before_sync = lambda site: None
        assert len(refused) == 1
        assert {key for key, _ in store.scan()} == {b"1", b"5", b"7"}


# ----------------------------------------------------------------------------------------------------------- the rest


def test_a_backup_is_the_store_as_of_its_view(store: BTreeStore, tmp_path: Path, rng: random.Random) -> None:
    """write_to: while the writer goes on; synced or not."""
    for sync in (False, True):
        content = {b"%04d" % number: rng.randbytes(rng.randrange(200)) for number in range(800)}
        store.load(sorted(content.items()))
        store.put(b"last", b"one", sync=sync)
        content[b"last"] = b"one"
        with store.view() as view:
            for number in range(200):
                store.put(b"%04d" % number, b"changed")
            sink = io.BytesIO()
            assert view.write_to(sink) == len(sink.getvalue())
        copy = tmp_path / "copy.db"
        copy.write_bytes(sink.getvalue())
        assert check_file(real_env(), str(copy)) == []
        with BTreeStore(str(copy)) as backup:
            assert dict(backup.scan()) == content
            backup.put(b"and on", b"it goes")
            assert backup.check() == []


def test_describe_draws_the_file(store: BTreeStore) -> None:
    """describe: one letter for each page, ready for JSON."""
    store.load((b"%04d" % number, b"v" * 50) for number in range(500))
    store.put(b"0100", b"v" * 10_000)
    store.flush()
    described = store.describe()
    assert json.loads(json.dumps(described)) == described
    assert described["map"].startswith("MM") and len(described["map"]) == described["pages"]
    assert set(described["map"]) <= set("MFBLo.") and described["map"].count("o") == 2
    assert described["map"].count("F") == 1 and described["map"].count("B") == 1
    assert described["map"].count(".") == described["free"] + described["pending"]
    assert described["buckets"] == ["metcd"]
    stats = store.stats().engine
    assert stats["leaf_pages"] == described["map"].count("L")
    assert stats["overflow_pages"] == 2


def test_options_are_checked(path: str) -> None:
    """InvalidOption, before anything is opened."""
    for options in ({"page_size": 1000}, {"page_size": 512}, {"fill_percent": 0.05}, {"cache_pages": 0}):
        with pytest.raises(InvalidOption):
            BTreeStore(path, **options)  # type: ignore[arg-type]
    assert not Path(path).exists()


def test_a_store_for_reading_changes_nothing(path: str) -> None:
    """read_only: a shared lock, every read, no write; and nothing is made where nothing is."""
    with pytest.raises(NoSuchStore):
        BTreeStore(path, read_only=True)
    with BTreeStore(path) as store:
        store.put(b"a", b"1")
    before = Path(path).read_bytes()
    with BTreeStore(path, read_only=True) as store:
        assert dict(store.scan()) == {b"a": b"1"} and store.check() == []
        assert store.stats().engine["keys"] == 2 and store.describe()["map"].startswith("MM")
        for call in (
            lambda: store.put(b"b", b"2"),
            lambda: store.put(b"b", b"2", sync=False),
            store.compact,
            store.flush,
        ):
            with pytest.raises(ReadOnly):
                call()
    assert Path(path).read_bytes() == before


def test_another_bucket_can_be_the_store(path: str) -> None:
    """bucket: several stores in one file, one at a time."""
    for name in (b"one", b"two"):
        with BTreeStore(path, bucket=name) as store:
            store.put(b"name", name)
    with BTreeStore(path, bucket=b"one") as store:
        assert dict(store.scan()) == {b"name": b"one"}
        with store.view() as view:
            assert view.root_bucket().buckets() == [b"one", b"two"]
            assert view.bucket(b"two").get(b"name") == b"two"
            with pytest.raises(KeyError):
                view.bucket(b"three")
        store.compact()
    with BTreeStore(path, bucket=b"two") as store:
        assert dict(store.scan()) == {b"name": b"two"}
        assert store.check() == []


def test_a_directory_holds_the_file(tmp_path: Path) -> None:
    """A path that is a directory: the database is in it, and the engine is recognised by it."""
    with engines.open(str(tmp_path), engine="btree") as store:
        store.put(b"a", b"1")
    assert (tmp_path / "metcd.db").is_file()
    assert engines.which(str(tmp_path)) == "btree"
    with engines.open(str(tmp_path / "metcd.db"), engine="btree") as store:
        assert isinstance(store, KVStore) and store.get(b"a") == b"1"


def test_a_closed_view_holds_nothing(store: BTreeStore) -> None:
    """Even if somebody still has the object: its pages may be used again."""
    keys = [b"%04d" % number for number in range(2_000)]
    store.load((key, b"v" * 50) for key in keys)
    view = store.view()
    store.put(keys[0], b"changed")
    for closed in (False, True):
        if closed:
            view.close()
        for _ in range(3):
            with store.batch(sync=True) as batch:
                for key in keys:
                    batch.put(key, b"w" * 50)
        assert (store.stats().engine["pending_pages"] < 10) is closed
        assert store.check() == []


def test_reading_alone_takes_no_memory(store: BTreeStore) -> None:
    """Each scan leaves a note of its coming and going to the writer: where nobody writes, readers clear them away."""
    store.load((b"%03d" % number, b"v") for number in range(100))
    with store.view() as view:
        for _ in range(5_000):
            assert next(store.scan(b"050")) == (b"050", b"v")
        pager = store._state.pager
        assert len(pager.arrived) < 1_500 and len(pager.gone) < 1_500
        for number in range(100):
            store.put(b"%03d" % number, b"changed")
        assert set(dict(view.scan()).values()) == {b"v"}


def test_no_hole_is_mapped_for_writing(path: str) -> None:
    """Writing to a hole through a mapping could find the disk full, which is SIGBUS: holes are filled when it opens, and
    when it grows."""
    with BTreeStore(path) as store:
        store.put(b"a", b"1")
    os.truncate(path, 1 << 20)
    with BTreeStore(path, sync=False) as store:
        for size in (1, 3_000_000):
            store.put(b"b", b"v" * size)
            assert os.stat(path).st_blocks * 512 >= os.stat(path).st_size >= 1 << 20
        assert len(store._state.pager.map) == os.stat(path).st_size


def test_the_cache_is_bounded(path: str) -> None:
    """cache_pages: decoded nodes are given up, and read again."""
    with BTreeStore(path, sync=False, cache_pages=20) as store:
        store.load((b"%05d" % number, b"v" * 100) for number in range(5_000))
        assert sum(1 for _ in store.scan()) == 5_000
        assert len(store._state.pager.nodes) <= 21
        for number in range(0, 5_000, 7):
            assert store.get(b"%05d" % number) == b"v" * 100
            store.put(b"%05d" % number, b"w")
        assert len(store._state.pager.nodes) <= 21 + 4
        assert store.check() == []
