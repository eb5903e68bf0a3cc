"""The contract, first part: keys, values, batches, and what is refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from engines import InvalidKey, InvalidValue, KVStore, MappingView, WriteBatch
from engines.kvstore import MAX_KEY_BYTES
from tests.conformance.engine_table import OpenStore
from tests.conformance.layouts import ITEMS

NOT_BYTES = ["text", None, bytearray(b"key"), memoryview(b"key"), 7]
OUTSIDE = [b"", b"k" * (MAX_KEY_BYTES + 1), b"k" * 70_000]
NO_KEYS = [*NOT_BYTES, *OUTSIDE]
NO_VALUES = ["text", None, bytearray(b"value"), memoryview(b"value"), 7]


def name_of(value: object) -> str:
    return type(value).__name__ + (f"-{len(value)}" if isinstance(value, bytes) else "")


def test_an_empty_store_has_nothing(store: KVStore) -> None:
    """Contract 1: None means absent."""
    assert store.get(b"key") is None
    assert store.multi_get([b"key", b"other"]) == [None, None]
    assert list(store.scan()) == []
    assert b"key" not in store


def test_a_value_is_read_back(full: KVStore) -> None:
    """Reader.get: the value of the key."""
    assert {key: full.get(key) for key in ITEMS} == ITEMS
    assert all(key in full for key in ITEMS)


def test_what_is_absent_is_the_default(full: KVStore) -> None:
    """Reader.get: `default` if it is absent, and only then."""
    for absent in (b"\x01", b"a\x01", b"aa", b"zz", b"\xff\xff\xff"):
        assert full.get(absent) is None
        assert full.get(absent, b"instead") == b"instead"
        assert absent not in full
    assert full.get(b"a", b"instead") == ITEMS[b"a"]


def test_the_last_put_stands(store: KVStore) -> None:
    """KVStore.put: sets the key, whatever it was."""
    for generation in range(5):
        store.put(b"key", b"%d" % generation)
        assert store.get(b"key") == b"%d" % generation
        store.flush()
        assert store.get(b"key") == b"%d" % generation
    assert list(store.scan()) == [(b"key", b"4")]


def test_a_deleted_key_is_absent(full: KVStore) -> None:
    """KVStore.delete: removes the key, in every layer it may lie in, and it stays removed."""
    gone = list(ITEMS)[::2]
    for key in gone:
        full.delete(key)
    left = {key: value for key, value in ITEMS.items() if key not in gone}
    for settle in (lambda: None, full.flush, full.compact):
        settle()
        assert [full.get(key) for key in gone] == [None] * len(gone)
        assert dict(full.scan()) == left


def test_deleting_what_is_absent_changes_nothing(full: KVStore) -> None:
    """KVStore.delete: the key need not be there."""
    full.delete(b"never there")
    full.delete(b"never there")
    assert dict(full.scan()) == ITEMS


def test_an_empty_value_is_a_value(store: KVStore) -> None:
    """Contract 1: a value has 0 bytes or more; b"" is not None."""
    store.put(b"empty", b"")
    for settle in (lambda: None, store.flush, store.compact):
        settle()
        assert store.get(b"empty") == b""
        assert store.get(b"empty", b"instead") == b""
        assert b"empty" in store
        assert list(store.scan()) == [(b"empty", b"")]
        assert store.multi_get([b"empty"]) == [b""]


def test_keys_have_one_byte_to_32_768(store: KVStore) -> None:
    """Contract 1. The long keys differ in their last byte only, and one is a prefix of the others."""
    stem = b"k" * (MAX_KEY_BYTES - 1)
    items = {b"\x00": b"0", b"k": b"1", stem: b"2", stem + b"a": b"3", stem + b"b": b"4", b"\xff": b"5"}
    for key, value in items.items():
        store.put(key, value)
    for settle in (lambda: None, store.flush, store.compact):
        settle()
        assert list(store.scan()) == sorted(items.items())
        assert store.multi_get(items) == list(items.values())
        assert list(store.scan(prefix=stem)) == [(stem, b"2"), (stem + b"a", b"3"), (stem + b"b", b"4")]
        assert store.get(stem + b"c") is None


def test_a_value_of_a_mebibyte_is_kept(store: KVStore, seed: int) -> None:
    """Contract 1: values have up to `max_value_bytes`, which is far more than a block, a page or a buffer."""
    pattern = bytes(range(256)) * 4096
    items = {b"big %d" % i: pattern[i + seed % 97 :] + pattern[: i + seed % 97] for i in range(3)}
    for key, value in items.items():
        store.put(key, value)
        store.put(b"small after " + key, b"s")
    small = {b"small after " + key: b"s" for key in items}
    for settle in (lambda: None, store.flush, store.compact):
        settle()
        assert dict(store.scan()) == items | small
    store.put(b"big 1", b"small now")
    assert store.get(b"big 1") == b"small now"
    assert store.max_value_bytes >= 1 << 20


@pytest.mark.parametrize("key", NOT_BYTES, ids=name_of)
def test_what_is_no_key_is_refused_everywhere(full: KVStore, key: bytes) -> None:
    """Contract 1: refused the same way by every engine and every call, and nothing is written."""
    with full.snapshot() as snapshot:
        calls: list[Callable[[], object]] = [
            lambda: full.get(key),
            lambda: full.multi_get([b"a", key]),
            lambda: key in full,
            lambda: full.put(key, b"value"),
            lambda: full.delete(key),
            lambda: snapshot.get(key),
            lambda: snapshot.multi_get([b"a", key]),
        ]
        for call in calls:
            with pytest.raises(InvalidKey):
                call()
    assert dict(full.scan()) == ITEMS


@pytest.mark.parametrize("key", OUTSIDE, ids=name_of)
def test_a_key_that_only_another_program_writes_is_read_and_deleted_as_any(full: KVStore, key: bytes) -> None:
    """Contract 1: put and load refuse it; get, in, multi_get and delete take it, and here it is absent."""
    with full.snapshot() as snapshot:
        for reader in (full, snapshot):
            assert reader.get(key) is None
            assert reader.get(key, b"instead") == b"instead"
            assert key not in reader
            assert reader.multi_get([b"a", key]) == [ITEMS[b"a"], None]
    for call in (lambda: full.put(key, b"value"), lambda: full.load([(key, b"value")])):
        with pytest.raises(InvalidKey, match="1 to 32,768 bytes"):
            call()
    assert dict(full.scan()) == ITEMS
    full.delete(key)
    with full.batch() as batch:
        batch.delete(key)
        batch.delete(b"b")
    rest = {each: value for each, value in ITEMS.items() if each != b"b"}
    for settle in (lambda: None, full.flush, full.compact):
        settle()
        assert dict(full.scan()) == rest
        assert full.get(key) is None
        assert full.check() == []


@pytest.mark.parametrize("value", NO_VALUES, ids=name_of)
def test_what_is_no_value_is_refused(full: KVStore, value: bytes) -> None:
    """Contract 1: a value is bytes; None would mean absent."""
    for key in (b"a", b"new"):
        with pytest.raises(InvalidValue):
            full.put(key, value)
    assert dict(full.scan()) == ITEMS


@pytest.mark.parametrize("key", NO_KEYS, ids=name_of)
def test_a_batch_with_a_bad_key_writes_nothing(full: KVStore, key: bytes) -> None:
    """KVStore.batch: the operation raises inside the block, so what came before it in the batch is discarded too."""
    spoilers = [lambda batch: batch.put(key, b"value"), lambda batch: batch.delete(key)]
    for spoil in spoilers[: 1 if isinstance(key, bytes) else 2]:
        with pytest.raises(InvalidKey), full.batch() as batch:
            batch.put(b"a", b"half a batch")
            batch.delete(b"b")
            spoil(batch)
        assert dict(full.scan()) == ITEMS


@pytest.mark.parametrize("value", NO_VALUES, ids=name_of)
def test_a_batch_with_a_bad_value_writes_nothing(full: KVStore, value: bytes) -> None:
    """KVStore.batch, as above."""
    with pytest.raises(InvalidValue), full.batch() as batch:
        batch.put(b"a", b"half a batch")
        batch.put(b"c", value)
    assert dict(full.scan()) == ITEMS


def test_a_refused_operation_leaves_the_batch_as_it_was(store: KVStore) -> None:
    """WriteBatch.put: raises, and then adds nothing; the batch can still be written."""
    batch = WriteBatch()
    batch.put(b"good", b"value")
    with pytest.raises(InvalidKey):
        batch.put(b"", b"value")
    with pytest.raises(InvalidValue):
        batch.put(b"bad", None)  # type: ignore[arg-type]
    with pytest.raises(InvalidKey):
        batch.delete("text")  # type: ignore[arg-type]
    assert (len(batch), batch.size_bytes) == (1, 9)
    store.write(batch)
    assert list(store.scan()) == [(b"good", b"value")]


def test_a_batch_that_raises_inside_with_is_discarded(full: KVStore) -> None:
    """KVStore.batch: discards it if the block raises, and lets the exception through."""
    with pytest.raises(ZeroDivisionError), full.batch() as batch:
        batch.put(b"a", b"half a batch")
        batch.delete(b"b")
        raise ZeroDivisionError
    assert dict(full.scan()) == ITEMS


def test_a_batch_is_not_visible_before_its_end(full: KVStore) -> None:
    """KVStore.batch: written at the end of the block."""
    with full.batch() as batch:
        batch.put(b"a", b"new")
        batch.put(b"new", b"new")
        assert dict(full.scan()) == ITEMS
    assert dict(full.scan()) == ITEMS | {b"a": b"new", b"new": b"new"}


def test_the_last_operation_on_a_key_in_a_batch_wins(full: KVStore) -> None:
    """WriteBatch: operations on the same key are applied in order, so that the last one stands."""
    with full.batch() as batch:
        batch.put(b"put twice", b"1")
        batch.put(b"put twice", b"2")
        batch.put(b"put and deleted", b"1")
        batch.delete(b"put and deleted")
        batch.delete(b"a")
        batch.put(b"a", b"again")
        batch.put(b"b", b"gone")
        batch.delete(b"b")
    expected = ITEMS | {b"put twice": b"2", b"a": b"again"}
    del expected[b"b"]
    for settle in (lambda: None, full.flush, full.compact):
        settle()
        assert dict(full.scan()) == expected
        assert full.multi_get([b"put twice", b"put and deleted", b"a", b"b"]) == [b"2", None, b"again", None]


def test_an_empty_batch_does_nothing(full: KVStore) -> None:
    """KVStore.write: an empty batch does nothing."""
    full.write(WriteBatch())
    full.write(WriteBatch(), sync=True)
    with full.batch():
        pass
    assert dict(full.scan()) == ITEMS
    assert full.check() == []


def test_a_batch_can_be_written_again_and_to_another_store(open_store: OpenStore) -> None:
    """WriteBatch: writing doesn't change it."""
    one, two = open_store("one"), open_store("two")
    batch = WriteBatch()
    batch.put(b"a", b"1")
    batch.delete(b"b")
    for store in (one, two):
        store.put(b"b", b"old")
    one.write(batch)
    one.put(b"a", b"changed since")
    one.put(b"b", b"back again")
    one.write(batch)
    two.write(batch)
    assert list(one.scan()) == list(two.scan()) == [(b"a", b"1")]
    assert (len(batch), batch.size_bytes) == (2, 3)
    batch.clear()
    assert (len(batch), batch.size_bytes) == (0, 0)
    batch.put(b"c", b"3")
    two.write(batch)
    assert list(two.scan()) == [(b"a", b"1"), (b"c", b"3")], "a store keeps what it was given, not the caller's list"


def test_a_batch_of_thousands_is_one_write(store: KVStore) -> None:
    """Contract 2, where a batch is larger than a block, a page or a buffer."""
    items = {b"key %05d" % i: b"value %d" % i for i in range(3_000)}
    with store.batch() as batch:
        for key, value in items.items():
            batch.put(key, value)
    with store.batch() as batch:
        for key in list(items)[::3]:
            batch.delete(key)
            del items[key]
    for settle in (lambda: None, store.flush, store.compact):
        settle()
        assert dict(store.scan()) == items
    assert store.check() == []


def test_multi_get_keeps_order_duplicates_and_gaps(full: KVStore) -> None:
    """Reader.multi_get: the values of `keys`, in their order, None for each absent one; keys may be any iterable."""
    keys = [b"b", b"never", b"a", b"b", b"\x00", b"never", b"\xff\xff"]
    expected = [ITEMS.get(key) for key in keys]
    assert full.multi_get(keys) == expected
    assert full.multi_get(iter(keys)) == expected
    assert full.multi_get([]) == []
    with full.snapshot() as snapshot:
        assert snapshot.multi_get(keys) == expected


def test_a_mapping_view_is_a_dict_for_play(full: KVStore) -> None:
    """MappingView: a store dressed as a dict."""
    view = MappingView(full)
    assert dict(view) == ITEMS
    assert (len(view), bool(view), view[b"a"]) == (len(ITEMS), True, ITEMS[b"a"])
    view[b"a"] = b"new"
    del view[b"b"]
    assert (full.get(b"a"), full.get(b"b")) == (b"new", None)
    for act in (lambda: view[b"b"], lambda: view.__delitem__(b"b")):
        with pytest.raises(KeyError):
            act()
    view.clear()
    assert not view
    assert list(full.scan()) == []
