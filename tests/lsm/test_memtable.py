"""engines/lsm/memtable.py: both representations answer as a list of versions does."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from engines.lsm.keys import ABSENT, DELETION, VALUE, internal_key, order
from engines.lsm.memtable import REPRESENTATIONS, MemTable


@pytest.fixture(params=REPRESENTATIONS)
def new_memtable(request: pytest.FixtureRequest) -> Callable[[], MemTable]:
    """Both representations are asked the same questions."""
    return lambda: REPRESENTATIONS[request.param](random.Random(1))


def test_a_memtable_answers_as_a_list_of_versions(new_memtable: Callable[[], MemTable], rng: random.Random) -> None:
    """get, chunks both ways with bounds, and rows, as of every sequence."""
    memtable = new_memtable()
    versions: list[tuple[bytes, int, bytes | None]] = []
    for sequence in range(1, 600):
        key = b"%d" % rng.randrange(120)
        value = None if rng.random() < 0.2 else b"%d" % sequence
        memtable.add(sequence, key, value)
        versions.append((key, sequence, value))
        if sequence % 120 == 0:
            for moment in (0, sequence // 3, sequence):
                check_moment(memtable, versions, moment, rng)
    rows = [(key, internal) for keys, internals, _ in memtable.row_chunks() for key, internal in zip(keys, internals)]
    expected = [internal_key(key, seq, VALUE if value is not None else DELETION) for key, seq, value in versions]
    assert [internal for _, internal in rows] == sorted(expected, key=order)
    assert len(memtable) == 599


def check_moment(
    memtable: MemTable, versions: list[tuple[bytes, int, bytes | None]], moment: int, rng: random.Random
) -> None:
    visible: dict[bytes, bytes | None] = {key: value for key, sequence, value in versions if sequence <= moment}
    for number in range(121):
        assert memtable.get(b"%d" % number, moment) == visible.get(b"%d" % number, ABSENT)
    for _ in range(10):
        start, stop = b"%d" % rng.randrange(130), rng.choice((None, b"%d" % rng.randrange(130)))
        wanted = [pair for pair in sorted(visible.items()) if pair[0] >= start and (stop is None or pair[0] < stop)]
        for reverse in (False, True):
            got = [
                pair
                for keys, values in memtable.chunks(start, stop, moment, reverse)
                for pair in zip(keys, values, strict=True)
            ]
            assert got == (wanted[::-1] if reverse else wanted)


def test_a_memtable_takes_the_empty_key(new_memtable: Callable[[], MemTable]) -> None:
    """The store refuses it, but LevelDB doesn't: a log of LevelDB may have it."""
    memtable = new_memtable()
    memtable.add_all(1, [(b"", b"1"), (b"a", b"2"), (b"", b"3")])
    assert memtable.get(b"", 3) == b"3"
    assert memtable.get(b"", 1) == b"1"
    assert list(memtable.chunks(b"", None, 3, False)) == [([b"", b"a"], [b"3", b"2"])]
    assert [pair for keys, values in memtable.chunks(b"", None, 3, True) for pair in zip(keys, values)] == [
        (b"a", b"2"),
        (b"", b"3"),
    ]
