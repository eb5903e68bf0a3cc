"""engines/lsm/memtable.py and vector.py: a memtable answers as a list of versions does, whatever keeps its rows in order.

The memtables of engines/lsm/fast are asked the same questions, and what only they have.
"""

from __future__ import annotations

import gc
import itertools
import pickle
import random
import weakref
from collections.abc import Callable

import pytest

from engines.lsm.fast import memtable as fast
from engines.lsm.fast.memtable import FastMemTable
from engines.lsm.keys import ABSENT, DELETION, VALUE, Row, internal_key, order
from engines.lsm.memtable import ENTRY_BYTES, MemTable, new_memtable
from engines.lsm.vector import Vector

Version = tuple[bytes, int, bytes | None]

MEMTABLES: dict[str, Callable[[], MemTable]] = {
    "skiplist": lambda: new_memtable("skiplist", random.Random(1), 0),
    "sorted": lambda: new_memtable("sorted", random.Random(1), 0),
    "fast": lambda: fast.new_memtable("skiplist", random.Random(1), 0),
}


@pytest.fixture(params=MEMTABLES)
def memtable(request: pytest.FixtureRequest) -> MemTable:
    return MEMTABLES[request.param]()


def test_a_memtable_answers_as_a_list_of_versions(memtable: MemTable, rng: random.Random) -> None:
    """get and rows, both ways with bounds, as of every sequence."""
    versions: list[Version] = []
    for sequence in range(1, 400):
        key = b"%d" % rng.randrange(120)
        value = None if rng.random() < 0.2 else b"%d" % sequence
        memtable.add(sequence, key, value)
        versions.append((key, sequence, value))
        if sequence % 80 == 0:
            for moment in (0, sequence // 3, sequence):
                check_moment(memtable, versions, moment, rng)
    assert len(memtable) == 399
    assert memtable.key_count() == len({key for key, _, _ in versions})
    assert memtable.size_bytes == sum(ENTRY_BYTES + len(key) + len(value or b"") for key, _, value in versions)


def check_moment(memtable: MemTable, versions: list[Version], moment: int, rng: random.Random) -> None:
    visible: dict[bytes, bytes | None] = {key: value for key, sequence, value in versions if sequence <= moment}
    for number in range(121):
        assert memtable.get(b"%d" % number, moment) == visible.get(b"%d" % number, ABSENT)
    ordered = sorted(Row.of(*version) for version in versions)
    assert [row.internal_key for row in memtable.rows()] == sorted(
        [internal_key(key, seq, DELETION if value is None else VALUE) for key, seq, value in versions], key=order
    )
    for _ in range(10):
        start, stop = b"%d" % rng.randrange(130), rng.choice((None, b"%d" % rng.randrange(130)))
        wanted = [row for row in ordered if row.key >= start and (stop is None or row.key < stop)]
        assert list(memtable.rows(start, stop)) == wanted
        assert list(memtable.rows(start, stop, reverse=True)) == wanted[::-1]
        if isinstance(memtable, FastMemTable):
            check_chunks(memtable, visible, moment, start, stop)


def check_chunks(
    memtable: FastMemTable, visible: dict[bytes, bytes | None], moment: int, start: bytes, stop: bytes | None
) -> None:
    """`chunks` are the newest visible versions of `rows`."""
    wanted = [pair for pair in sorted(visible.items()) if pair[0] >= start and (stop is None or pair[0] < stop)]
    for reverse in (False, True):
        got = [
            pair
            for keys, values in memtable.chunks(start, stop, moment, reverse)
            for pair in zip(keys, values, strict=True)
        ]
        assert got == (wanted[::-1] if reverse else wanted)


def test_a_batch_takes_a_sequence_for_each_operation(memtable: MemTable) -> None:
    """Rule 3, also within a batch: the last operation on a key is the one that counts."""
    memtable.add_all(5, [(b"a", b"1"), (b"b", b"2"), (b"a", None)])
    assert [(row.key, row.sequence, row.is_deletion) for row in memtable.rows()] == [
        (b"a", 7, True),
        (b"a", 5, False),
        (b"b", 6, False),
    ]
    assert memtable.get(b"a", 6) == b"1"
    assert memtable.get(b"a", 7) is None
    assert memtable.size_bytes == 3 * ENTRY_BYTES + 5


def test_an_empty_value_is_no_deletion(memtable: MemTable) -> None:
    memtable.add(1, b"k", b"")
    assert memtable.get(b"k", 1) == b""
    assert memtable.get(b"k", 0) is ABSENT


def test_a_memtable_takes_the_empty_key(memtable: MemTable) -> None:
    """The store refuses it, but LevelDB doesn't: a log of LevelDB may have it."""
    memtable.add_all(1, [(b"", b"1"), (b"a", b"2"), (b"", b"3")])
    assert memtable.get(b"", 3) == b"3"
    assert memtable.get(b"", 1) == b"1"
    assert [(row.key, row.sequence) for row in memtable.rows()] == [(b"", 3), (b"", 1), (b"a", 2)]
    assert [(row.key, row.sequence) for row in memtable.rows(reverse=True)] == [(b"a", 2), (b"", 1), (b"", 3)]


def test_a_vector_sorts_once_for_what_has_come(rng: random.Random) -> None:
    """vectorrep.cc: a write costs nothing, the first read after it a sort, the next one none; a reader keeps its list."""
    vector = Vector()
    rows = [Row.of(b"%03d" % rng.randrange(1_000), sequence, b"") for sequence in range(100)]
    for row in rows:
        vector.insert(row)
    reading = vector.ascend(Row.first_of(b""))
    assert next(reading) == min(rows)
    ordered = vector._ordered
    assert len(list(vector.descend(None))) == 100
    assert vector._ordered is ordered
    vector.insert(Row.of(b"", 100, b""))
    assert next(vector.ascend(Row.first_of(b""))).sequence == 100
    assert list(reading) == sorted(rows)[1:]


def test_a_get_in_a_fast_memtable_searches_nothing() -> None:
    """Its index knows the newest version: no key is compared by its order."""
    memtable = fast.new_memtable("skiplist", random.Random(1), 0)

    class Key(bytes):
        def __lt__(self, other: bytes) -> bool:
            raise AssertionError("a search compares")

    for sequence in range(1, 100):
        memtable.add(sequence, b"%02d" % sequence, b"v")
    assert memtable.get(Key(b"50"), 99) == b"v"
    assert memtable.get(Key(b"absent"), 99) is ABSENT


def test_a_scan_between_puts_sorts_no_more_than_has_come() -> None:
    """fast/memtable.py: a few new keys go into their chunks, with some comparisons each, whatever the number of keys."""
    memtable = fast.new_memtable("skiplist", random.Random(1), 0)
    keys = [b"%06d" % (number * 7919 % 100_003) for number in range(6_000)]
    for sequence, key in enumerate(keys[:5_000], 1):
        memtable.add(sequence, CountingKey(key), b"v")
    assert len(list(memtable.rows())) == 5_000
    CountingKey.compared = 0
    for sequence, key in enumerate(keys[5_000:], 5_001):
        memtable.add(sequence, CountingKey(key), b"v")
        first, _ = next(memtable.chunks(key, None, sequence, False))
        assert first[0] == key
    assert CountingKey.compared < 1_000 * 40
    assert [row.key for row in memtable.rows()] == sorted(keys)


def test_any_number_of_new_keys_between_two_scans_come_into_order(rng: random.Random) -> None:
    """Few or many for a chunk, some of them there already, before the first key and after the last one."""
    memtable = FastMemTable(0)
    added: set[bytes] = set()
    for new in (0, 1, 700, 3, 31, 32, 33, 200, 1, 90, 300, 64, 500):
        first = rng.randrange(3_000)
        some = [b"%04d" % rng.choice((rng.randrange(5_000), first + at // 2)) for at in range(new)]
        for key in some:
            memtable.add(len(memtable) + 1, key, b"v")
        added.update(some)
        chunks = [keys for keys, _ in memtable.chunks(b"", None, len(memtable), False)]
        assert [key for keys in chunks for key in keys] == sorted(added)
    assert max(map(len, memtable._ordered().chunks)) < 512


def test_scans_of_any_bounds_cross_chunks_of_any_size() -> None:
    """Also a last chunk of one key, which a chunk of the scan begins before and ends after."""
    for count in (1, 255, 256, 257, 511, 513, 770):
        memtable = fast.new_memtable("skiplist", random.Random(1), 0)
        keys = [b"%04d" % number for number in range(count)]
        memtable.add_all(1, [(key, b"v") for key in keys])
        for start, stop in itertools.product((0, 1, 200, 255, 256), (None, 1, 200, 256, 257, 9_999)):
            wanted = keys[start:stop]
            for reverse in (False, True):
                end = None if stop is None else b"%04d" % stop
                got = [key for part, _ in memtable.chunks(b"%04d" % start, end, count, reverse) for key in part]
                assert got == (wanted[::-1] if reverse else wanted)


def test_a_scan_goes_on_with_the_keys_that_it_began_with() -> None:
    """Rule 2 of fast/memtable.py: other readers bring the order up to date meanwhile, and chunks are split."""
    memtable = fast.new_memtable("skiplist", random.Random(1), 0)
    for sequence in range(1, 1_001):
        memtable.add(sequence, b"%04d" % (2 * sequence), b"v")
    forward, backward = (memtable.chunks(b"", None, 1_000, reverse) for reverse in (False, True))
    begun = [next(forward), next(backward)]
    for sequence in range(1_001, 2_001):
        memtable.add(sequence, b"%04d" % (2 * (sequence - 1_000) - 1), b"new")
        assert len(next(memtable.chunks(b"", None, sequence, False))[0]) == 16
    wanted = [b"%04d" % (2 * sequence) for sequence in range(1, 1_001)]
    assert [key for keys, _ in [begun[0], *forward] for key in keys] == wanted
    assert [key for keys, _ in [begun[1], *backward] for key in keys] == wanted[::-1]


class Watched(bytes):
    """A key that lets a reader in each time the writer is about to look it up."""

    memtable: FastMemTable | None = None
    seen: set[bytes]

    def __hash__(self) -> int:
        memtable, Watched.memtable = Watched.memtable, None  # not while the reader reads
        if memtable is not None:
            for keys, _ in memtable.chunks(b"", None, 1_000, False):
                Watched.seen.update(map(bytes, keys))
            Watched.memtable = memtable
        return super().__hash__()


def test_a_scan_in_the_middle_of_a_write_finds_what_it_sorts() -> None:
    """Rule 1: a key is in the index before it is in the order, one by one and many at once."""
    memtable = FastMemTable(0)
    Watched.memtable, Watched.seen = memtable, set()
    try:
        for sequence, count in ((1, 1), (2, 1), (3, 5), (8, 100), (108, 100)):
            memtable.add_all(
                sequence, [(Watched(b"%04d" % number), b"v") for number in range(sequence, sequence + count)]
            )
    finally:
        Watched.memtable = None
    assert len(Watched.seen) == 107
    assert len(list(memtable.rows())) == 207


def test_a_memtable_goes_with_its_last_reference() -> None:
    """In a cycle, some megabytes would wait for the garbage collector."""
    memtable = fast.new_memtable("skiplist", random.Random(1), 0)
    gone = weakref.ref(memtable)
    gc.disable()
    try:
        del memtable
        assert gone() is None
    finally:
        gc.enable()


def test_sequences_may_have_gaps(rng: random.Random) -> None:
    """Rule 3 of fast/memtable.py: repair replays what is left of a log. As of each sequence, and as the plain one says."""
    plain, quick = new_memtable("skiplist", random.Random(1), 0), fast.new_memtable("skiplist", random.Random(1), 0)
    sequence = 7
    for number in range(300):
        sequence += 1 if number < 100 else rng.randrange(1, 4)
        operations = [
            (b"%d" % rng.randrange(60), rng.choice((None, b"%d" % number))) for _ in range(rng.randrange(1, 4))
        ]
        for memtable in (plain, quick):
            memtable.add_all(sequence, operations)
        sequence += len(operations) - 1
    assert list(quick.rows()) == list(plain.rows())
    assert list(quick.rows(reverse=True)) == list(plain.rows(reverse=True))
    for moment in range(sequence + 1):
        assert quick.get(b"7", moment) == plain.get(b"7", moment)
    assert [key for keys, *_ in quick.row_chunks() for key in keys] == [row.key for row in plain.rows()]
    assert [key for _, keys, _ in quick.row_chunks() for key in keys] == [row.internal_key for row in plain.rows()]


@pytest.mark.parametrize("step", [1, 3])
def test_a_frozen_memtable_travels(rng: random.Random, step: int) -> None:
    """To a worker process, with all versions; without gaps in the sequences, and with."""
    memtable = fast.new_memtable("skiplist", random.Random(1), 0)
    for number in range(300):
        memtable.add(5 + number * step, b"%d" % rng.randrange(200), rng.choice((None, b"", b"%d" % number)))
    there = pickle.loads(pickle.dumps(memtable, pickle.HIGHEST_PROTOCOL))
    assert list(there.rows()) == list(memtable.rows())
    assert list(there.row_chunks()) == list(memtable.row_chunks())
    assert (len(there), there.key_count()) == (len(memtable), memtable.key_count())


class CountingKey(bytes):
    """Counts the comparisons in which it is on the left."""

    compared = 0

    def __lt__(self, other: bytes) -> bool:
        CountingKey.compared += 1
        return super().__lt__(other)
