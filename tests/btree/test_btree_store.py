"""The B+tree store: sizes, growth, backups, options, what it tells about itself. The contract has its own suite."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

import engines
from engines import InvalidOption, KVStore, NoSuchStore, ReadOnly
from engines.btree import BTreeStore, check_file
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


# ----------------------------------------------------------------------------------------------------------- the rest


def test_options_are_checked(path: str) -> None:
    """InvalidOption, before anything is opened."""
    for options in ({"page_size": 1000}, {"page_size": 512}, {"fill_percent": 0.05}, {"cache_bytes": -1}):
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
