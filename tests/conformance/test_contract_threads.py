"""The contract, sixth part: threads that share a store. No test waits for time to pass: loops are counted, and what
a reader may see doesn't depend on who is faster."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator

import pytest

from engines import KVStore
from tests.conformance.layouts import arrange

KEYS = [b"%03d" % number for number in range(40)]
GENERATIONS = 150
PATIENCE_S = 60.0


@pytest.fixture(autouse=True)
def _threads_take_short_turns() -> Iterator[None]:
    """Lets the interpreter change threads every 20 µs and not every 5 ms, so that a run has thousands of changes."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(20e-6)
    yield
    sys.setswitchinterval(before)


def run_together(*bodies: Callable[[], None]) -> None:
    """Runs each body in a thread of its own, all starting at once, and raises the first thing that one of them did."""
    barrier = threading.Barrier(len(bodies))
    failures: list[BaseException] = []

    def run(body: Callable[[], None]) -> None:
        try:
            barrier.wait(PATIENCE_S)
            body()
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=run, args=(body,), daemon=True) for body in bodies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
        assert not thread.is_alive(), "a thread hangs"
    if failures:
        raise failures[0]


def write_generation(store: KVStore, generation: int) -> None:
    """Writes one batch that gives every key the same value; of odd generations every second key is deleted."""
    with store.batch() as batch:
        for number, key in enumerate(KEYS):
            if generation % 2 and number % 2:
                batch.delete(key)
            else:
                batch.put(key, b"%06d" % generation)


def generation_of(pairs: list[tuple[bytes, bytes]]) -> int:
    """The one generation that the pairs are of. Raises AssertionError if they are a mixture, or not all there."""
    generation = int(pairs[0][1])
    expected = KEYS[::2] if generation % 2 else KEYS
    assert [key for key, _ in pairs] == expected
    assert {int(value) for _, value in pairs} == {generation}, "half of a batch, or of two"
    return generation


def test_readers_see_whole_batches_only(store: KVStore) -> None:
    """Contract 4 and 6: one writer, who flushes and compacts as well; readers by scan, reverse scan and snapshot. Each
    sees one generation at a time, and never an older one than before."""
    write_generation(store, 0)
    done = threading.Event()

    def write() -> None:
        try:
            for generation in range(1, GENERATIONS + 1):
                write_generation(store, generation)
                if generation % 40 == 0:
                    store.flush()
                if generation % 60 == 0:
                    store.compact()
        finally:
            done.set()

    def reader(look: Callable[[], list[tuple[bytes, bytes]]]) -> Callable[[], None]:
        def read() -> None:
            last = 0
            while True:
                finished = done.is_set()
                generation = generation_of(look())
                assert generation >= last, "time goes backwards"
                last = generation
                if finished:
                    assert last == GENERATIONS, "a write is visible when it returns"
                    return

        return read

    def by_snapshot() -> list[tuple[bytes, bytes]]:
        with store.snapshot() as snapshot:
            scanned = list(snapshot.scan())
            got = dict(zip(KEYS, snapshot.multi_get(KEYS)))
            assert {key: value for key, value in got.items() if value is not None} == dict(scanned)
            return scanned

    run_together(
        write,
        reader(lambda: list(store.scan())),
        reader(lambda: list(store.scan(reverse=True))[::-1]),
        reader(by_snapshot),
    )
    assert store.check() == []


def test_two_writers_take_turns(store: KVStore) -> None:
    """Contract 6: writes of two threads are one after the other: what both write is all of one of them, and nothing
    of either is lost."""
    rounds = 120

    def writer(name: bytes) -> Callable[[], None]:
        def write() -> None:
            for number in range(rounds):
                with store.batch() as batch:
                    batch.put(b"first", name + b"%d" % number)
                    batch.put(name + b"%04d" % number, b"mine")
                    batch.put(b"last", name + b"%d" % number)
                pairs = dict(store.scan(b"first", b"lasu"))
                assert pairs[b"first"] == pairs[b"last"]
                assert store.get(name + b"%04d" % number) == b"mine", "not seen by who wrote it"
                if number % 50 == 49:
                    store.compact()

        return write

    run_together(writer(b"x"), writer(b"y"))
    for name in (b"x", b"y"):
        assert [key for key, _ in store.scan(prefix=name)] == [name + b"%04d" % number for number in range(rounds)]
    assert store.get(b"first") == store.get(b"last")
    assert store.get(b"last") in (b"x%d" % (rounds - 1), b"y%d" % (rounds - 1))
    assert store.check() == []


def test_a_load_is_one_write_to_readers(store: KVStore) -> None:
    """KVStore.load: readers see the old content or the new one."""
    write_generation(store, 0)
    done = threading.Event()

    def load() -> None:
        try:
            for generation in range(2, 22, 2):
                store.load([(key, b"%06d" % generation) for key in KEYS])
        finally:
            done.set()

    def read() -> None:
        last = 0
        while True:
            finished = done.is_set()
            generation = generation_of(list(store.scan()))
            assert generation >= last, "time goes backwards"
            last = generation
            if finished:
                assert last == 20
                return

    run_together(load, read, read)


def test_readers_of_one_snapshot_share_it(store: KVStore) -> None:
    """Contract 6: a snapshot may be read by several threads, while the store is written to."""
    items = dict.fromkeys(KEYS, b"frozen")
    arrange(store, items, "layered")
    with store.snapshot() as snapshot:

        def write() -> None:
            for generation in range(60):
                write_generation(store, generation)

        def read() -> None:
            for _ in range(30):
                assert dict(snapshot.scan()) == items
                assert snapshot.multi_get(KEYS) == [b"frozen"] * len(KEYS)

        run_together(write, read, read)
