"""engines/kvstore.py: what the contract brings along for every engine. (What engines owe it is tests/conformance.)"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines import InvalidKey, InvalidValue, KVStore, MappingView, Stats, StoreClosed, StoreFailed, WriteBatch
from engines.kvstore import MAX_KEY_BYTES, check_key, check_value, prefix_end, scan_bounds
from engines.memory import MemoryStore


@pytest.mark.parametrize(
    ("prefix", "end"),
    [
        (b"a", b"b"),
        (b"ab", b"ac"),
        (b"a\xff", b"b"),
        (b"a\xff\xff", b"b"),
        (b"\x00", b"\x01"),
        (b"\xfe\xff", b"\xff"),
        (b"\xff", None),
        (b"\xff\xff", None),
        (b"", None),
    ],
)
def test_the_end_of_a_prefix(prefix: bytes, end: bytes | None) -> None:
    """The smallest key above every key that begins with it; None if there is none."""
    assert prefix_end(prefix) == end


EDGY = st.lists(st.sampled_from([0, 1, 97, 98, 254, 255]), max_size=4).map(bytes)


@given(EDGY, EDGY)
def test_the_end_of_a_prefix_divides_keys(prefix: bytes, key: bytes) -> None:
    """A key at or above the prefix begins with it exactly if it is below the end."""
    end = prefix_end(prefix)
    if key >= prefix:
        assert key.startswith(prefix) == (end is None or key < end)
    else:
        assert not key.startswith(prefix)


@given(EDGY, st.none() | EDGY, st.none() | EDGY, EDGY)
def test_scan_bounds_say_what_start_stop_and_prefix_say(
    start: bytes, stop: bytes | None, prefix: bytes | None, key: bytes
) -> None:
    """One half-open range in the place of three conditions."""
    low, high = scan_bounds(start, stop, prefix)
    wanted = start <= key and (stop is None or key < stop) and key.startswith(prefix or b"")
    assert (low <= key and (high is None or key < high)) == wanted


@pytest.mark.parametrize("bounds", [("a", None, None), (None, None, None), (b"", 7, None), (b"", None, "p")])
def test_bounds_that_are_not_bytes_are_refused(bounds: Any) -> None:
    """And the sentence says which of them it is."""
    name = next(
        name
        for name, bound in zip(("start", "stop", "prefix"), bounds)
        if not isinstance(bound, bytes) and not (bound is None and name != "start")
    )
    with pytest.raises(InvalidKey, match=name):
        scan_bounds(*bounds)


def test_keys_and_values_at_their_limits() -> None:
    """1 to 32,768 bytes; 0 bytes to what is asked."""
    check_key(b"k")
    check_key(b"k" * MAX_KEY_BYTES)
    check_value(b"")
    check_value(b"v" * 100, 100)
    with pytest.raises(InvalidKey, match="32,769"):
        check_key(b"k" * (MAX_KEY_BYTES + 1))
    with pytest.raises(InvalidKey, match="has 0"):
        check_key(b"")
    with pytest.raises(InvalidValue, match="at most 100 bytes, and this one has 101"):
        check_value(b"v" * 101, 100)


class BytesOfMyOwn(bytes):
    """Equal to bytes, and able to change its mind about it."""


@pytest.mark.parametrize(
    "thing", ["text", None, bytearray(b"a"), memoryview(b"a"), 1, BytesOfMyOwn(b"a")], ids=lambda it: type(it).__name__
)
def test_nothing_but_bytes_is_bytes(thing: Any) -> None:
    """Not even a class derived from it, whose comparison may be anything; the sentence names the type."""
    with pytest.raises(InvalidKey, match=type(thing).__name__):
        check_key(thing)
    with pytest.raises(InvalidValue, match=type(thing).__name__):
        check_value(thing)


def test_a_refusal_is_a_value_error_too() -> None:
    """So that code which knows nothing of us can catch it."""
    assert issubclass(InvalidKey, ValueError)
    assert issubclass(InvalidValue, ValueError)


@given(st.lists(st.tuples(st.binary(min_size=1, max_size=3), st.none() | st.binary(max_size=3)), max_size=10))
def test_a_batch_is_its_operations_in_order(operations: list[tuple[bytes, bytes | None]]) -> None:
    """WriteBatch: order and size are kept; clear forgets both."""
    batch = WriteBatch()
    for key, value in operations:
        if value is None:
            batch.delete(key)
        else:
            batch.put(key, value)
    assert batch.operations == operations
    assert len(batch) == len(operations)
    assert batch.size_bytes == sum(len(key) + len(value or b"") for key, value in operations)
    assert repr(batch) == f"<WriteBatch of {len(operations)} operations, {batch.size_bytes} bytes>"
    batch.clear()
    assert (batch.operations, batch.size_bytes) == ([], 0)


def test_amplifications_divide_by_what_there_is() -> None:
    """Stats: 0.0 while there is nothing to divide by."""
    assert (Stats().write_amplification, Stats().space_amplification) == (0.0, 0.0)
    stats = Stats(user_bytes=100, bytes_written=250, live_bytes=50, disk_bytes=200)
    assert (stats.write_amplification, stats.space_amplification) == (2.5, 4.0)


def test_a_copy_of_stats_stands_still() -> None:
    """Stats.copy: the engine's own counters are copied too."""
    stats = Stats(puts=1, engine={"compactions": 1})
    copy = stats.copy()
    stats.puts = 2
    stats.engine["compactions"] = 2
    assert (copy.puts, copy.engine) == (1, {"compactions": 1})


def test_an_engine_without_a_method_cannot_be_made() -> None:
    """An ABC and not a protocol: what is missing is told when the store is opened, by name."""

    class NoScan(MemoryStore):
        scan = KVStore.scan

    with pytest.raises(TypeError, match="scan"):
        NoScan()  # type: ignore[abstract]


class Recording(MemoryStore):
    """Notes how `write` is called."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[tuple[list[tuple[bytes, bytes | None]], bool | None]] = []

    def write(self, batch: WriteBatch, *, sync: bool | None = None) -> None:
        self.written.append((list(batch.operations), sync))
        super().write(batch, sync=sync)


def test_put_delete_and_batch_are_writes() -> None:
    """KVStore: `write` is the one way in, and `sync` gets there as it was said."""
    with Recording() as store:
        store.put(b"a", b"1")
        store.put(b"a", b"1", sync=False)
        store.delete(b"a", sync=True)
        with store.batch(sync=False) as batch:
            batch.put(b"b", b"2")
            batch.delete(b"a")
        with pytest.raises(ZeroDivisionError), store.batch():
            raise ZeroDivisionError
        assert store.written == [
            ([(b"a", b"1")], None),
            ([(b"a", b"1")], False),
            ([(b"a", None)], True),
            ([(b"b", b"2"), (b"a", None)], False),
        ]


class Poisoned(MemoryStore):
    """Fails when it is told to."""

    def fail(self, failure: BaseException) -> None:
        self.poison(failure)


def test_the_first_failure_is_the_one_that_is_told() -> None:
    """KVStore: a poisoned store stays poisoned, by what happened first; a closed one is closed."""
    first, second = OSError(5, "first"), OSError(28, "second")
    store = Poisoned()
    store.put(b"a", b"1")
    store.fail(first)
    store.fail(second)
    for _ in range(2):
        with pytest.raises(StoreFailed, match="first") as refusal:
            store.get(b"a")
        assert refusal.value.__cause__ is first
    store.close()
    with pytest.raises(StoreClosed):
        store.get(b"a")


class Counting(MemoryStore):
    """Counts its scans, to show what a mapping costs."""

    scans = 0

    def scan(self, *bounds: Any, **rest: Any) -> Iterator[tuple[bytes, bytes]]:
        self.scans += 1
        return super().scan(*bounds, **rest)


def test_a_mapping_view_is_a_mapping() -> None:
    """MappingView: everything that a dict has, on top of a store."""
    with Counting() as store:
        view = MappingView(store)
        assert not view
        view.update({b"b": b"2", b"a": b"1"})
        view.setdefault(b"c", b"3")
        assert list(view) == [b"a", b"b", b"c"]
        assert list(view.items()) == [(b"a", b"1"), (b"b", b"2"), (b"c", b"3")]
        assert view == {b"a": b"1", b"b": b"2", b"c": b"3"}
        assert view.pop(b"a") == b"1"
        assert view.get(b"a") is None
        assert b"b" in view
        assert b"a" not in view
        with pytest.raises(KeyError):
            view[b"a"]
        with pytest.raises(KeyError):
            del view[b"a"]
        store.scans = 0
        assert (len(view), bool(view)) == (2, True)
        assert store.scans == 2, "which is why a store itself has neither len nor truth"


def test_a_store_has_no_length() -> None:
    """Why KVStore is no mapping: `len(store)` would be a full scan that looks like nothing."""
    with MemoryStore() as store:
        with pytest.raises(TypeError):
            len(store)  # type: ignore[arg-type]
        assert store, "its truth is that of any object"


def test_multi_get_reads_each_on_its_own() -> None:
    """Reader.multi_get, for engines that have nothing better; any iterable is fine."""
    with MemoryStore() as store:
        store.put(b"a", b"1")
        keys: Iterable[bytes] = (key for key in (b"a", b"b", b"a"))
        assert store.multi_get(keys) == [b"1", None, b"1"]
