"""engines/lsm/state.py: where a get looks, in which order, and what a scan shows; of the plain form and of the fast one."""

from __future__ import annotations

import pytest

from engines.errors import StoreClosed
from engines.lsm.fast import FAST
from engines.lsm.keys import ABSENT
from engines.lsm.parts import PLAIN, Parts
from engines.lsm.state import Scan, View, check_open
from engines.lsm.store import LsmStore
from engines.simenv import SimEnv

OLD, NEW, NEWEST = 3, 6, 8  # sequences: after what is in level 6, in level 0, in the memtable


@pytest.fixture(params=[PLAIN, FAST], ids=["plain", "fast"])
def parts(request: pytest.FixtureRequest) -> Parts:
    """Both forms are asked the same questions."""
    chosen: Parts = request.param
    return chosen


@pytest.fixture
def store(parts: Parts) -> LsmStore:
    """ "a" in the memtable, in level 0 and below; "b" deleted in level 0; "c" below only; "d" deleted in the memtable."""

    class Store(LsmStore):
        pass

    Store.parts = parts
    made = Store("/db", env=SimEnv(0), background=False, sync=False)
    for key in (b"a", b"b", b"c"):
        made.put(key, b"old")
    made.compact()
    made.put(b"a", b"new")
    made.delete(b"b")
    made.put(b"d", b"new")
    made.flush()
    made.put(b"a", b"newest")
    made.delete(b"d")
    return made


@pytest.mark.parametrize(
    ("key", "sequence", "found"),
    [
        (b"a", NEWEST, b"newest"),
        (b"a", NEW, b"new"),
        (b"a", OLD, b"old"),
        (b"a", 0, ABSENT),
        (b"b", NEWEST, None),
        (b"b", OLD, b"old"),
        (b"c", NEWEST, b"old"),
        (b"d", NEWEST, None),
        (b"d", NEW, b"new"),
        (b"d", OLD, ABSENT),
        (b"e", NEWEST, ABSENT),
    ],
)
def test_a_get_finds_the_newest_version_that_is_not_above_its_sequence(
    store: LsmStore, key: bytes, sequence: int, found: object
) -> None:
    """DBImpl::Get: memtable, level 0, deeper levels; a tombstone decides, and older versions don't."""
    core = store.core
    assert [len(files) for files in core.state.version.levels] == [1, 1, 0, 0, 0, 0, 0]
    assert core.lookup(core.state, core.tables, key, sequence) == found


@pytest.mark.parametrize("reverse", [False, True])
def test_a_scan_shows_each_live_key_once(store: LsmStore, reverse: bool) -> None:
    expected = {
        NEWEST: [(b"a", b"newest"), (b"c", b"old")],
        NEW: [(b"a", b"new"), (b"c", b"old"), (b"d", b"new")],
        OLD: [(b"a", b"old"), (b"b", b"old"), (b"c", b"old")],
        0: [],
    }
    for sequence, pairs in expected.items():
        scan = Scan(b"", None, sequence, reverse)
        assert list(store.core.pairs(store.core.state, scan, store)) == (pairs[::-1] if reverse else pairs)
    assert list(store.core.pairs(store.core.state, Scan(b"b", b"d", OLD, reverse), store)) == (
        [(b"c", b"old"), (b"b", b"old")] if reverse else [(b"b", b"old"), (b"c", b"old")]
    )
    assert list(store.core.pairs(store.core.state, Scan(b"d", b"b", OLD, reverse), store)) == []


def test_a_get_stops_at_the_first_place_that_knows_its_key(store: LsmStore) -> None:
    """No table is asked for what the memtable knows, and none below for what level 0 knows."""
    counters = store.core.tables.counters
    before = counters.block_lookups
    assert store.get(b"a") == b"newest" and store.get(b"d") is None
    assert counters.block_lookups == before
    assert store.get(b"b") is None
    assert counters.block_lookups == before + 1


def test_a_scan_counts_the_tombstones_that_it_steps_over(store: LsmStore) -> None:
    before = store.core.tables.counters.tombstones
    assert len(list(store.scan())) == 2
    assert store.core.tables.counters.tombstones - before == 2


def test_a_scan_ends_with_its_snapshot(store: LsmStore) -> None:
    view = View(NEWEST)
    pairs = store.core.pairs(store.core.state, Scan(b"", None, NEWEST, False), store, view)
    assert next(pairs) == (b"a", b"newest")
    view.is_open = False
    with pytest.raises(StoreClosed, match="the snapshot is closed"):
        next(pairs)
    with pytest.raises(StoreClosed):
        check_open(store, view)
    check_open(store, None)
