"""engines/lsm/memtable.py and vector.py: a memtable answers as a list of versions does, whatever keeps its rows in order.

The memtables of engines/lsm/fast are asked the same questions, and what only they have.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from engines.lsm.fast import memtable as fast
from engines.lsm.fast.memtable import FastMemTable
from engines.lsm.fast.skiplist import ArenaSkipList
from engines.lsm.keys import ABSENT, DELETION, VALUE, Row, internal_key, order
from engines.lsm.memtable import ENTRY_BYTES, MemTable, new_memtable
from engines.lsm.vector import Vector

Version = tuple[bytes, int, bytes | None]

MEMTABLES: dict[str, Callable[[], MemTable]] = {
    "skiplist": lambda: new_memtable("skiplist", random.Random(1), 0),
    "sorted": lambda: new_memtable("sorted", random.Random(1), 0),
    "arena": lambda: MemTable(ArenaSkipList(random.Random(1))),
    "fast skiplist": lambda: fast.new_memtable("skiplist", random.Random(1), 0),
    "fast sorted": lambda: fast.new_memtable("sorted", random.Random(1), 0),
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


@pytest.mark.parametrize("representation", ["skiplist", "sorted"])
def test_a_get_in_a_fast_memtable_searches_nothing(representation: str) -> None:
    """Its index knows the newest version: no key is compared by its order."""
    memtable = fast.new_memtable(representation, random.Random(1), 0)

    class Key(bytes):
        def __lt__(self, other: bytes) -> bool:
            raise AssertionError("a search compares")

    for sequence in range(1, 100):
        memtable.add(sequence, b"%02d" % sequence, b"v")
    assert memtable.get(Key(b"50"), 99) == b"v"
    assert memtable.get(Key(b"absent"), 99) is ABSENT
