"""The B+tree store: sizes, growth, backups, options, what it tells about itself. The contract has its own suite."""

from __future__ import annotations

import io
import json
import os
import random
from pathlib import Path

import pytest

import engines
from engines import InvalidOption, KVStore, NoSuchStore, ReadOnly
from engines.btree import BTreeStore, StoreFull, check_file
from engines.env import real_env
from engines.kvstore import MAX_KEY_BYTES
from tests.btree.poisoning import PoisoningStore

PAGE = 4096


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
        store.put(b"large", b"v" * (67_000 * 1024))
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
        pins = store._current.state.pager.pins
        assert len(pins.arrived) < 1_500 and len(pins.gone) < 1_500
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
        assert len(store._current.state.pager.map) == os.stat(path).st_size


def test_the_cache_is_bounded(path: str) -> None:
    """cache_pages: decoded nodes are given up, and read again."""
    with BTreeStore(path, sync=False, cache_pages=20) as store:
        store.load((b"%05d" % number, b"v" * 100) for number in range(5_000))
        assert sum(1 for _ in store.scan()) == 5_000
        assert len(store._current.state.pager.nodes) <= 21
        for number in range(0, 5_000, 7):
            assert store.get(b"%05d" % number) == b"v" * 100
            store.put(b"%05d" % number, b"w")
        assert len(store._current.state.pager.nodes) <= 21 + 4
        assert store.check() == []
