"""Chapter 1, the contract: batches, a store in memory, ranges, snapshots. Every later engine is held to the same.

The tests stand in the order in which the chapter has you write the functions.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from typing import Any

import pytest

from engines.bounds import prefix_end, scan_bounds
from engines.errors import InvalidKey, InvalidValue, StoreClosed
from engines.kvstore import MAX_KEY_BYTES, WriteBatch
from engines.memory import MemoryStore
from tests.chapters.kit import History, model_run, rounds


def must_raise(error: type[Exception], what: str, call: Callable[..., object], *arguments: Any) -> None:
    """Says which call should have been refused, and how, if it wasn't."""
    try:
        call(*arguments)
    except error:
        return
    raise AssertionError(f"{what} has to raise {error.__name__}, and raised nothing")


# ---- a batch is a list ------------------------------------------------------------------------------------------------


def test_a_batch_remembers_a_put() -> None:
    """The first function of the course: two lines will do, and the checks come after."""
    batch = WriteBatch()
    batch.put(b"hello", b"world")
    assert batch.operations == [(b"hello", b"world")], "after put(b'hello', b'world'), that is what the batch holds"


def test_a_batch_keeps_operations_in_order_and_counts_bytes() -> None:
    """The order matters: of two operations on one key the last stands. The size matters to logs and buffers."""
    batch = WriteBatch()
    batch.put(b"a", b"123")
    batch.delete(b"bb")
    batch.put(b"a", b"")
    assert batch.operations == [(b"a", b"123"), (b"bb", None), (b"a", b"")]
    assert batch.size_bytes == 1 + 3 + 2 + 1 + 0, "the bytes of all keys and values"


@pytest.mark.parametrize(
    ("key", "value", "error"),
    [
        (b"", b"v", InvalidKey),
        (b"k" * (MAX_KEY_BYTES + 1), b"v", InvalidKey),
        ("text", b"v", InvalidKey),
        (None, b"v", InvalidKey),
        (b"k", "text", InvalidValue),
        (b"k", None, InvalidValue),
    ],
    ids=["empty key", "long key", "text key", "no key", "text value", "no value"],
)
def test_a_batch_refuses_what_no_store_holds(
    key: Any, value: Any, error: type[Exception], request: pytest.FixtureRequest
) -> None:
    """And is as it was before: a program may catch the error, and write the rest."""
    batch = WriteBatch()
    must_raise(error, f"a put: {request.node.callspec.id}", batch.put, key, value)
    assert (batch.operations, batch.size_bytes) == ([], 0), "a refused put leaves nothing in the batch"


def test_a_batch_deletes_any_bytes_and_nothing_else() -> None:
    """kvstore, promise 1: a key that can't be there is absent like any other, so that deleting it is fine."""
    batch = WriteBatch()
    batch.delete(b"")
    batch.delete(b"k" * (MAX_KEY_BYTES + 1))
    assert [key[:1] for key, _ in batch.operations] == [b"", b"k"]
    must_raise(InvalidKey, "batch.delete('text')", batch.delete, "text")
    assert len(batch.operations) == 2, "a refused delete leaves nothing in the batch"


# ---- a store in memory ------------------------------------------------------------------------------------------------


def test_what_was_put_is_found() -> None:
    store = MemoryStore()
    store.put(b"hello", b"world")
    assert store.get(b"hello") == b"world"
    store.put(b"hello", b"again")
    assert store.get(b"hello") == b"again", "a second put of a key replaces its value"


def test_what_was_deleted_is_absent() -> None:
    """`None` means absent; deleting what is not there is fine."""
    store = MemoryStore()
    store.put(b"hello", b"world")
    store.delete(b"hello")
    store.delete(b"never there")
    assert store.get(b"hello") is None
    assert store.get(b"hello", b"a default") == b"a default"
    assert b"hello" not in store


def test_an_empty_value_is_a_value() -> None:
    """b"" is falsy in Python, and is not None: the key is there."""
    store = MemoryStore()
    store.put(b"empty", b"")
    assert store.get(b"empty", b"a default") == b"", "a key whose value is b'' is there"
    assert b"empty" in store and list(store.scan()) == [(b"empty", b"")]


def test_a_get_checks_the_key_and_the_store() -> None:
    store = MemoryStore()
    must_raise(InvalidKey, "store.get('text')", store.get, "text")
    store.get(b"a")
    store.get(b"b")
    assert store.stats().gets == 2, "each get that passes the checks is counted, whether it finds something or not"
    store.close()
    must_raise(StoreClosed, "a get from a closed store", store.get, b"a")


class Overheard(MemoryStore):
    """Notes what `write` is called with."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[tuple[list[Any], bool | None]] = []

    def write(self, batch: WriteBatch, *, sync: bool | None = None) -> None:
        self.writes.append((list(batch.operations), sync))
        super().write(batch, sync=sync)


def test_put_and_delete_are_batches_of_one() -> None:
    """kvstore, promise 2: `write` is the only write there is. An engine has to get one function right, not three."""
    store = Overheard()
    store.put(b"a", b"1", sync=False)
    store.delete(b"a", sync=True)
    store.put(b"b", b"2")
    assert store.writes == [([(b"a", b"1")], False), ([(b"a", None)], True), ([(b"b", b"2")], None)]


def test_a_batch_is_written_once_at_the_end_of_its_block() -> None:
    store = Overheard()
    with store.batch(sync=False) as batch:
        batch.put(b"a", b"1")
        batch.delete(b"b")
        batch.put(b"a", b"2")
        assert store.writes == [], "nothing is written before the block ends"
        assert store.get(b"a") is None
    assert store.writes == [([(b"a", b"1"), (b"b", None), (b"a", b"2")], False)], "one write, with the sync of the call"
    assert store.get(b"a") == b"2", "of two operations on one key, the last stands"


def test_a_batch_is_discarded_if_its_block_raises() -> None:
    """Half of a transfer between two accounts would be worse than none."""
    store = Overheard()

    def transfer() -> None:
        with store.batch() as batch:
            batch.put(b"a", b"1")
            batch.put(b"b", b"%d" % (1 // 0))

    must_raise(ZeroDivisionError, "a block that divides by zero", transfer)
    assert store.writes == [] and store.get(b"a") is None, "a block that raises writes nothing"


# ---- ranges -----------------------------------------------------------------------------------------------------------

ALPHABET = (b"\x00", b"\x01", b"a", b"\xfe", b"\xff")
SHORT = [b"".join(letters) for size in range(4) for letters in itertools.product(ALPHABET, repeat=size)]


@pytest.mark.parametrize(
    ("prefix", "end"),
    [
        (b"a", b"b"),
        (b"user:", b"user;"),
        (b"a\xff", b"b"),
        (b"a\xff\xff", b"b"),
        (b"\xff\x00", b"\xff\x01"),
        (b"\xfe\xff", b"\xff"),
        (b"\xff", None),
        (b"\xff\xff", None),
        (b"", None),
    ],
)
def test_where_the_keys_with_a_prefix_end(prefix: bytes, end: bytes | None) -> None:
    assert prefix_end(prefix) == end, f"prefix_end({prefix!r})"


def test_a_prefix_is_a_range() -> None:
    """Exactly the keys that begin with it lie from the prefix on and before its end."""
    for prefix, key in itertools.product(SHORT, repeat=2):
        end = prefix_end(prefix)
        in_range = prefix <= key and (end is None or key < end)
        assert in_range == key.startswith(prefix), f"prefix_end({prefix!r}) is {end!r}, and there is the key {key!r}"


def test_the_bounds_of_a_scan_take_in_its_prefix(rng: random.Random) -> None:
    """As the docstring says: in the range exactly if between the bounds and with the prefix."""
    for _ in range(rounds(4_000)):
        start, prefix = rng.choice(SHORT), rng.choice([None, *SHORT])
        stop = rng.choice([None, *SHORT])
        lower, upper = scan_bounds(start, stop, prefix)
        for key in rng.sample(SHORT, 40):
            expected = start <= key and (stop is None or key < stop) and key.startswith(prefix or b"")
            found = lower <= key and (upper is None or key < upper)
            assert found == expected, (
                f"scan_bounds({start!r}, {stop!r}, {prefix!r}) is {(lower, upper)}: the key {key!r} "
                f"is {'in' if found else 'not in'} that range, and should {'' if expected else 'not '}be"
            )


def test_the_bounds_of_a_scan_are_bytes() -> None:
    for start, stop, prefix in (("a", None, None), (b"", "a", None), (b"", None, "a"), (None, None, None)):
        must_raise(InvalidKey, f"scan_bounds({start!r}, {stop!r}, {prefix!r})", scan_bounds, start, stop, prefix)
    assert scan_bounds(b"", None, None) == (b"", None), "these are the bounds of everything"


def store_of(*keys: bytes) -> MemoryStore:
    """A store in which each of these keys has itself as its value."""
    store = MemoryStore()
    for key in keys:
        store.put(key, key)
    return store


def keys_of(pairs: Any) -> list[bytes]:
    return [key for key, _ in pairs]


def test_a_scan_goes_from_start_to_before_stop() -> None:
    """In the order of bytes, whatever the order of the puts."""
    store = store_of(b"d", b"b", b"a", b"ba", b"c", b"B")
    assert keys_of(store.scan()) == [b"B", b"a", b"b", b"ba", b"c", b"d"]
    assert keys_of(store.scan(b"b", b"d")) == [b"b", b"ba", b"c"], "start belongs to a scan, stop does not"
    assert keys_of(store.scan(b"b", b"d", reverse=True)) == [b"c", b"ba", b"b"], "backwards it shows the same keys"
    assert keys_of(store.scan(prefix=b"b")) == [b"b", b"ba"]
    assert keys_of(store.scan(b"d", b"b")) == [], "a range whose stop comes before its start is empty"


# ---- snapshots --------------------------------------------------------------------------------------------------------


def test_a_snapshot_shows_its_moment(history: History) -> None:
    """What was overwritten, deleted and added since, three times over: only the first note counts."""
    plain = MemoryStore()
    history.do("store = MemoryStore()")
    store = history.watch(plain, "store")
    for key in (b"a", b"b", b"c"):
        store.put(key, key)
    history.do("snapshot = store.snapshot()")
    with plain.snapshot() as snapshot:
        for round_ in (b"1", b"2", b"3"):
            store.put(b"b", round_)
            store.delete(b"c")
            store.put(b"d", round_)
            store.put(b"c", round_)
        store.delete(b"a")
        for key, value in ((b"a", b"a"), (b"b", b"b"), (b"c", b"c"), (b"d", None)):
            history.expect(f"snapshot.get({key!r})", value, snapshot.get(key))
        history.expect("list(snapshot.scan())", [(b"a", b"a"), (b"b", b"b"), (b"c", b"c")], list(snapshot.scan()))
        history.expect("list(store.scan())", [(b"b", b"3"), (b"c", b"3"), (b"d", b"3")], list(plain.scan()))


def test_each_snapshot_has_its_own_moment(history: History) -> None:
    plain, moments = MemoryStore(), []
    history.do("store = MemoryStore()")
    store = history.watch(plain, "store")
    for number in range(5):
        history.do(f"snapshot{number} = store.snapshot()")
        moments.append((plain.snapshot(), dict(plain.scan())))
        store.put(b"counter", b"%d" % number)
        store.delete(b"even") if number % 2 else store.put(b"even", b"yes")
    for number, (snapshot, items) in enumerate(moments):
        history.expect(f"dict(snapshot{number}.scan())", items, dict(snapshot.scan()))
        history.expect(f"snapshot{number}.get(b'even')", items.get(b"even"), snapshot.get(b"even"))


def test_a_scan_shows_the_moment_of_its_call() -> None:
    """kvstore, promise 4. A loop that deletes what it finds is the usual case."""
    store = store_of(*(b"%03d" % number for number in range(100)))
    seen = []
    for key, _ in store.scan():
        seen.append(key)
        assert len(seen) <= 100, f"100 keys were there at the call, and the scan goes on to what the loop put: {key!r}"
        store.delete(key)
        store.put(key + b" again", b"")
    assert seen == [b"%03d" % number for number in range(100)], "a scan shows all that was there at its call"


@pytest.mark.parametrize("reverse", [False, True], ids=["forwards", "backwards"])
def test_a_long_scan_joins_both_maps_in_order(reverse: bool, rng: random.Random) -> None:
    """A scan fetches its keys in parts (CHUNKS); each part is made of the store's next keys and of the noted ones."""
    for _ in range(rounds(8)):
        store = store_of(*(b"%04d" % number for number in rng.sample(range(2_000), 900)))
        items = dict(store.scan())
        with store.snapshot() as snapshot:
            for number in rng.sample(range(2_000), 1_000):
                store.delete(b"%04d" % number) if rng.random() < 0.6 else store.put(b"%04d" % number, b"new")
            found = list(snapshot.scan(b"0100", b"1900", reverse=reverse))
        expected = sorted((pair for pair in items.items() if b"0100" <= pair[0] < b"1900"), reverse=reverse)
        missing, extra = sorted(set(expected) - set(found)), sorted(set(found) - set(expected))
        assert not missing and not extra, f"the scan lacks {missing[:5]} and has besides {extra[:5]}"
        assert found == expected, "all pairs are there, and not in order, or some twice"


# ---- all of it --------------------------------------------------------------------------------------------------------


def test_a_store_agrees_with_a_dict(rng: random.Random, history: History) -> None:
    """The same suite judges every later engine: everything that the contract has, in any order."""
    for _ in range(rounds(120)):
        model_run(lambda env: MemoryStore(), rng, history, steps=120, persistent=False)
