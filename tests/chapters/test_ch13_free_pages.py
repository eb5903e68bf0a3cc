"""Chapter 13: pages are used again, but none that somebody may still read."""

from __future__ import annotations

import gzip
import random
from array import array
from collections import deque
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from engines.btree import BTreeStore, check_file
from engines.btree.current import Current, State
from engines.btree.freelist import Freelist, find_run
from engines.btree.meta import Meta
from engines.btree.node import EMPTY
from engines.btree.pager import StoreFull
from engines.btree.pins import Pin, Pins
from engines.env import real_env
from engines.simenv import Policy, SimEnv
from tests.btree.poisoning import PoisoningStore
from tests.chapters.kit import History, model_run, power_cuts, rounds, store_subject

PAGE = 1024
GOLDEN = Path(__file__).parents[1] / "btree" / "golden"


def ids(freelist: Freelist) -> list[int]:
    return freelist.free.tolist()


# ------------------------------------------------------------------------------------------------------------ allocation


def test_a_run_is_pages_in_a_row(rng: random.Random) -> None:
    """find_run: the lowest place of `count` ids without a gap, by trying every place; None if there is none."""
    assert find_run(array("Q", [2, 3, 5, 6, 7, 9]), 3) == 2
    assert find_run(array("Q", [2, 4, 6, 8]), 2) is None
    for _ in range(rounds(400)):
        free = array("Q", sorted(rng.sample(range(2, 40), rng.randrange(30))))
        count = rng.randint(1, 5)
        rows = [
            i
            for i in range(len(free) - count + 1)
            if free[i : i + count].tolist() == [*range(free[i], free[i] + count)]
        ]
        expected = rows[0] if rows else None
        assert find_run(free, count) == expected, f"{count} in a row in {free.tolist()}"


def test_single_pages_come_from_the_list_and_then_from_the_end() -> None:
    """The high-water mark moves only when nothing is free."""
    freelist = Freelist([4, 7, 5], 10)
    found = sorted(freelist.allocate(1) for _ in range(3))
    assert (found, ids(freelist), freelist.high_water) == ([4, 5, 7], [], 10)
    assert (freelist.allocate(1), freelist.allocate(2)) == (10, 11)
    assert freelist.high_water == 13


def test_a_run_comes_from_the_list_and_else_from_the_end() -> None:
    """Consecutive ids; what is free and no run stays free. A search in vain is forgotten when a page becomes free."""
    freelist = Freelist([2, 3, 5, 6, 7, 9], 20)
    assert [freelist.allocate(count) for count in (3, 2, 2)] == [5, 2, 20]
    assert (ids(freelist), freelist.high_water) == ([9], 22)
    assert freelist.drop([(8, 0)], 5, [5]) == [8]
    assert freelist.allocate(2) == 8


def test_no_page_is_given_out_twice(rng: random.Random) -> None:
    """Whatever is asked for: what was given, what is free, and nothing else below the high-water mark."""
    for _ in range(rounds(80)):
        free = rng.sample(range(2, 60), rng.randrange(50))
        freelist, taken = Freelist(free, 60), set[int]()
        for _ in range(rng.randrange(20)):
            count = rng.choice((1, 1, 2, 5))
            start = freelist.allocate(count)
            run = set(range(start, start + count))
            assert run <= set(free) or start >= 60, f"pages {sorted(run)}: the free ones were {sorted(free)}"
            assert not run & taken, f"pages {sorted(run & taken)} were given out before"
            taken |= run
        assert ids(freelist) == sorted(set(free) - taken), "what wasn't given out is free, in order"
        assert freelist.high_water == max([60, *(page + 1 for page in taken)])


def test_a_rollback_takes_every_page_back(rng: random.Random) -> None:
    """Runs as well as single pages, below and beyond the old high-water mark (bbolt issue 797)."""
    for _ in range(rounds(80)):
        free = sorted(rng.sample(range(2, 40), rng.randrange(30)))
        freelist = Freelist(free, 40)
        counts = [rng.choice((1, 1, 2, 3, 6)) for _ in range(rng.randrange(12))]
        runs = [(freelist.allocate(count), count) for count in counts]
        freelist.rollback(runs, 40)
        assert ids(freelist) == free, f"after {runs} were allocated and taken back"
        assert freelist.high_water == 40


# --------------------------------------------------------------------------------------------------------------- waiting


@pytest.mark.parametrize(
    ("born", "dropped", "pins", "waits"),
    [
        (3, 8, [], False),
        (3, 8, [8], False),  # the tree that dropped it can't reach it
        (3, 8, [7], True),
        (3, 8, [3], True),  # the tree that it was born in can
        (3, 8, [2], False),  # a tree from before its birth can't
        (3, 8, [2, 9], False),  # one too early, one too late
        (3, 8, [2, 5, 9], True),
        (0, 8, [1], True),  # born nobody knows when
    ],
)
def test_a_page_waits_for_who_can_see_it(born: int, dropped: int, pins: list[int], waits: bool) -> None:
    """born <= pin < dropped, and no other reader matters (bbolt pull request 3)."""
    freelist = Freelist([], 10)
    assert freelist.drop([(4, born)], dropped, pins) == ([] if waits else [4])
    assert freelist.waiting() == ([4] if waits else [])
    assert ids(freelist) == ([] if waits else [4])


def test_when_a_pin_goes_its_pages_are_placed_again() -> None:
    """One that an older reader can see goes on waiting, for that one; the others are free."""
    freelist = Freelist([], 20)
    freelist.drop([(4, 1), (5, 6), (6, 1)], 8, [3, 7])
    freelist.drop([(9, 1)], 9, [3, 7, 8])
    assert freelist.release([3, 7, 8]) == [], "nobody has gone"
    assert freelist.release([3, 8]) == [5], "page 5 was born in 6: 3 can't see it"
    assert sorted(freelist.waiting()) == [4, 6, 9]
    assert freelist.release([3]) == [], "9 is held by 3 as well"
    assert sorted(freelist.release([])) == [4, 6, 9]
    assert ids(freelist) == [4, 5, 6, 9]


def test_no_page_is_free_while_a_pinned_tree_reaches_it(rng: random.Random, history: History) -> None:
    """Against a model that keeps every tree as a set of pages; and no page waits that nobody can see."""
    for _ in range(rounds(120)):
        history.clear()
        freelist, pins = Freelist([], 2), set[int]()
        trees: dict[int, set[int]] = {0: set()}
        births: dict[int, int] = {}
        for txid in range(1, 40):
            seen = set[int]().union(*(trees[pin] for pin in pins))
            history.do(f"release({sorted(pins)})")
            freed = freelist.release(sorted(pins))
            assert not seen & set(freed), f"pages {sorted(seen & set(freed))} are free, and a pinned tree has them"
            size = rng.randrange(1, 4)
            start = freelist.allocate(size)
            history.do(f"allocate({size}) -> {start}")
            new = set(range(start, start + size))
            assert not new & (trees[txid - 1] | seen), f"pages {sorted(new)} are in a tree that somebody reads"
            gone = rng.sample(sorted(trees[txid - 1]), min(len(trees[txid - 1]), rng.randrange(5)))
            births.update(dict.fromkeys(new, txid))
            trees[txid] = (trees[txid - 1] - set(gone)) | new
            if rng.random() < 0.3:
                pins.add(txid)
            if pins and rng.random() < 0.3:
                pins.discard(rng.choice(sorted(pins)))
            dropped = [(page, births[page]) for page in gone]
            history.do(f"drop({dropped}, {txid}, {sorted(pins)})")
            freelist.drop(dropped, txid, sorted(pins))
            everybody = set(range(2, freelist.high_water))
            assert sorted([*ids(freelist), *freelist.waiting()]) == sorted(everybody - trees[txid]), (
                "each page is in the newest tree, free or waiting, and in one of them only"
            )
        freelist.release(sorted(pins))
        seen = set[int]().union(*(trees[pin] for pin in pins))
        assert set(freelist.waiting()) <= seen, f"{set(freelist.waiting()) - seen} wait, and nobody can see them"


# ------------------------------------------------------------------------------------------------------------------ pins


def test_pins_are_counted_for_each_txid() -> None:
    """Ascending, each once; held until the last reader of it has gone."""
    pins = Pins()
    assert pins.held() == []
    readers = [pins.pin(txid) for txid in (7, 5, 7, 9)]
    assert pins.held() == [5, 7, 9]
    del readers[0]  # one of two at 7
    assert pins.held() == [5, 7, 9]
    del readers[0]  # the one at 5
    assert pins.held() == [7, 9]
    early = pins.pin(3)
    del early, readers[:]  # one that came and went since the last count, and all others
    assert pins.held() == []
    again = pins.pin(7)
    assert pins.held() == [7]
    del again


class Endless(deque[int]):
    """Readers go on arriving while they are counted."""

    def popleft(self) -> int:
        found = super().popleft()
        self.append(99)
        assert len(self) < 1_000
        return found


def test_counting_ends_while_readers_come() -> None:
    """Only what was there at the beginning is moved; the rest is counted the next time, and isn't lost."""
    pins = Pins()
    pins.arrived = Endless([4, 4, 6])
    pins.count()
    assert list(pins.arrived) == [99, 99, 99], "who came meanwhile is counted the next time, and isn't lost"
    pins.arrived = deque(pins.arrived)
    assert pins.held() == [4, 6, 99]
    pins.gone.extend([4, 6, 6, 99, 99, 99])
    pins.arrived.append(6)
    assert pins.held() == [4], "one of two at 4 is left; at 6 one came and two went"


def state_of(txid: int, pins: Any) -> State:
    pager: Any = SimpleNamespace(pins=pins)
    return State(pager, Meta(PAGE, 3, 2, 9, txid), 3, EMPTY, 0)


class Interrupted(Pins):
    """Something happens before a pin is noted, and after that."""

    def __init__(self) -> None:
        super().__init__()
        self.before: list[Callable[[], None]] = []
        self.after: list[Callable[[], None]] = []

    def pin(self, txid: int) -> Pin:
        if self.before:
            self.before.pop()()
        pin = super().pin(txid)
        if self.after:
            self.after.pop()()
        return pin


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_commit_between_two_steps_of_a_reader_is_noticed(when: str) -> None:
    """The writer has looked at the pins by then: the reader would hold a tree whose pages were given away."""
    pins = Interrupted()
    current = Current(state_of(5, pins))

    def commit(txid: int) -> Callable[[], None]:
        def publish() -> None:
            current.state = state_of(txid, pins)

        return publish

    getattr(pins, when).extend([commit(7), commit(6)])  # two commits, one after the other
    state, pin = current.pinned()
    assert state is current.state, f"a commit came in {when} the pin was noted, and the reader has the tree before it"
    assert (state.meta.txid, pin.txid, pins.held()) == (7, 7, [7]), "the tree that is read is the one that is pinned"


# ----------------------------------------------------------------------------------------------------------------- stores


def test_the_file_stays_as_large_as_it_is(rng: random.Random) -> None:
    """Thousands of overwrites, one commit each, durable or not: the same few pages, again and again."""
    store = BTreeStore("/db", env=SimEnv(0), page_size=PAGE)
    with store.batch() as batch:
        for number in range(100):
            batch.put(b"%02d" % number, b"v" * 50)
    store.put(b"00", b"w" * 50)
    pages = store.stats().engine["pages"]
    for turn in range(rounds(8_000)):
        store.put(b"%02d" % rng.randrange(100), b"%050d" % turn, sync=turn % 8 == 0)
    found = store.stats().engine["pages"]
    assert found <= pages + 24, f"the file had {pages} pages, and has {found} after overwrites"
    assert store.check() == []


def test_a_long_value_finds_room_in_a_row() -> None:
    """Runs of ten pages, overwritten two hundred times, with small commits between."""
    store = BTreeStore("/db", env=SimEnv(0), page_size=PAGE)
    for turn in range(200):
        store.put(b"long", b"%d" % turn * 3_000, sync=False)
        store.put(b"%d" % (turn % 7), b"x", sync=turn % 16 == 0)
    assert store.get(b"long") == b"199" * 3_000
    assert store.stats().engine["pages"] <= 100, "each value has ten pages, and at most a few of them are needed"
    assert store.check() == []


def test_each_page_is_reachable_or_free_or_waiting(rng: random.Random) -> None:
    """Once, at any moment, with readers of several trees; what waits is free when they have gone."""
    store = BTreeStore("/db", env=SimEnv(0), page_size=PAGE)
    readers = []
    for _ in range(rounds(240)):
        with store.batch(sync=rng.random() < 0.5) as batch:
            for _ in range(rng.choice((1, 3, 20))):
                key = b"%03d" % rng.randrange(150)
                batch.put(key, b"v" * rng.randrange(100)) if rng.random() < 0.7 else batch.delete(key)
        if rng.random() < 0.3:
            readers.append(store.snapshot())
        if readers and rng.random() < 0.25:
            readers.pop(rng.randrange(len(readers))).close()
        assert store.check() == []
    for reader in readers:
        reader.close()
    for number in range(2):  # the pages of the trees before these may be needed after a power cut
        store.put(b"last", b"%d" % number)
    told = store.describe()
    assert told["pending"] <= 8, f"{told['pending']} pages still wait, and nobody reads"
    assert told["map"].count(".") == told["free"] and told["map"].count("w") == told["pending"]


def test_a_readers_pages_are_not_used_again(tmp_path: Path, rng: random.Random) -> None:
    """In a store that fills every freed page with rubbish, at once: each open reader sees its own tree, whole.

    The cache holds a few nodes only. With none, nobody would know when a page was born (`Node.born`), and all would wait longer.
    """
    with PoisoningStore(str(tmp_path / "db"), page_size=PAGE, cache_bytes=16_000) as store:
        model: dict[bytes, bytes] = {}
        readers: list[tuple[Any, dict[bytes, bytes]]] = []
        for turn in range(rounds(400)):
            with store.batch(sync=False) as batch:
                for _ in range(rng.choice((1, 5))):
                    key, value = b"%03d" % rng.randrange(120), b"%d " % turn * 20
                    batch.put(key, value)
                    model[key] = value
            if rng.random() < 0.3:
                readers.append((store.snapshot(), dict(model)))
            if len(readers) > 4:
                readers.pop(rng.randrange(len(readers)))[0].close()
            for reader, expected in readers:
                assert dict(reader.scan()) == expected, f"a reader of txid {reader.txid} sees another tree than its own"
        assert dict(store.scan()) == model
        for reader, _ in readers:
            reader.close()


def test_a_long_reader_makes_the_file_grow_and_then_it_stops() -> None:
    """What bbolt's README warns of: pages pile up for as long as somebody reads. After that they are used again."""
    store = BTreeStore("/db", env=SimEnv(0), page_size=PAGE)
    with store.batch() as batch:
        for number in range(300):
            batch.put(b"%03d" % number, b"v" * 50)

    def overwrite_all() -> int:
        for number in range(0, 300, 10):
            store.put(b"%03d" % number, b"w" * 50)
        pages: int = store.stats().engine["pages"]
        return pages

    before = overwrite_all()
    reader = store.snapshot()
    held = overwrite_all()
    assert held >= before + 10, "the tree that is read has to stay: some of its pages were used again"
    reader.close()
    assert [overwrite_all() <= held for _ in range(3)] == [True] * 3, (
        "the pages of a reader that is gone are used again"
    )
    assert store.describe()["pending"] <= 8


def test_no_page_that_a_power_cut_falls_back_to_is_written_to(rng: random.Random) -> None:
    """The newest durable tree counts as read, whatever number of commits without sync comes after it."""
    env = SimEnv(0)
    store = BTreeStore("/db", env=env, page_size=PAGE)
    for _ in range(rounds(80)):
        with store.batch(sync=True) as batch:
            for _ in range(20):
                batch.put(b"%03d" % rng.randrange(300), b"v" * rng.randrange(90))
        expected = dict(store.scan())
        for _ in range(rng.randrange(1, 6)):
            store.put(b"%03d" % rng.randrange(300), b"unsynced", sync=False)
        found = BTreeStore("/db", env=env.crash(Policy.GARBAGE, rng), page_size=PAGE)
        unsynced = [key for key, value in found.scan() if value == b"unsynced" and expected.get(key) != b"unsynced"]
        assert {key: value for key, value in found.scan() if key not in unsynced} == {
            key: value for key, value in expected.items() if key not in unsynced
        }
        assert found.check() == []


def test_a_failed_transaction_gives_back_what_it_took() -> None:
    """Free pages are free again, and the file has the same end; what the tree needs is untouched."""
    store = BTreeStore("/db", env=SimEnv(0), page_size=PAGE, max_size=64 * PAGE)
    for number in range(40):
        store.put(b"%02d" % (number % 20), b"v" * 100)
    before, content = store.describe(), dict(store.scan())
    for _ in range(3):
        with pytest.raises(StoreFull), store.batch() as batch:
            for number in range(100):
                batch.put(b"%03d" % number, b"v" * 900)
    after = store.describe()
    for what in ("free", "pending", "pages", "map"):
        assert after[what] == before[what], f"{what}: {before[what]} before the failed transactions, then {after[what]}"
    assert dict(store.scan()) == content
    store.put(b"00", b"on it goes")
    assert store.check() == []


def test_a_file_of_the_real_bbolt_is_written_to(tmp_path: Path) -> None:
    """Its freelist is read, its free pages are used, its other buckets stay; and it is sound for whoever opens it next."""
    path = tmp_path / "bbolt.db"
    path.write_bytes(gzip.decompress((GOLDEN / "bbolt.db.gz").read_bytes()))
    with BTreeStore(str(path)) as store:
        before = store.describe()
        for number in range(0, 300, 6):
            store.put(b"%04d" % number, b"ours", sync=False)
        store.flush()
        assert store.describe()["pages"] == before["pages"], "there were free pages enough"
        with store.view() as view:
            assert dict(view.bucket(b"other").scan()) == {b"large": b"L" * 20_000, b"empty": b""}
    assert check_file(real_env(), str(path)) == []
    with BTreeStore(str(path), read_only=True) as store:
        assert [store.get(b"%04d" % number) for number in (0, 1, 6)] == [b"ours", b"v", b"ours"]


def test_the_store_is_the_contract(rng: random.Random, history: History) -> None:
    """Every operation on a store of small pages and on a dict, with snapshots held open, and reopened now and then."""
    for _ in range(rounds(12)):
        model_run(lambda env: BTreeStore("/db", env=env, page_size=PAGE), rng, history, steps=150)


def test_after_a_power_cut_no_page_was_used_too_early(seed: int, history: History) -> None:
    """A cut after every call, in eight ways: the durable tree is whole, although pages go round all the time."""
    BTreeStore("/db", env=SimEnv(seed), page_size=PAGE).put(b"a", b"1")  # with the power on it works
    for turn in range(rounds(4)):
        power_cuts(store_subject("btree", steps=12, page_size=PAGE, durable_share=0.6), seed + turn, history)
