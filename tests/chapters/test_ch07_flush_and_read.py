"""Chapter 7: a full memtable becomes a table of level 0, and a reader sees all places as one."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator
from typing import Any

import pytest

import engines
from engines.env import Env
from engines.kvstore import Usable
from engines.lsm import level0
from engines.lsm.cache import NoBlockCache
from engines.lsm.core import Core
from engines.lsm.keys import ABSENT, Row
from engines.lsm.memtable import MemTable
from engines.lsm.merge import merge, visible
from engines.lsm.options import LEVELS, Options
from engines.lsm.skiplist import SkipList
from engines.lsm.state import Scan, State, lookup, pairs
from engines.lsm.state import rows as rows_of
from engines.lsm.store import LsmStore
from engines.lsm.table_builder import TableBuilder
from engines.lsm.table_cache import TableCache
from engines.lsm.version import FileMeta, Version
from engines.simenv import SimEnv
from tests.chapters.kit import History, model_run, rounds
from tests.chapters.lsm_parts import Counted, rows

Version_ = tuple[bytes, int, bytes | None]  # key, sequence, value
LATEST = 1 << 40


def open_tiny(env: Env, **options: Any) -> LsmStore:
    """A store whose memtable is full after a few writes, and which flushes in the thread that writes."""
    options = {"write_buffer_bytes": 400, "block_bytes": 128, "filter": None, "background": False, **options}
    store = engines.open("/db", "lsm", env=env, plain=True, **options)
    assert isinstance(store, LsmStore)
    return store


class Places:
    """A state made by hand: memtables, tables of level 0, and of deeper levels, on a simulated disk."""

    def __init__(self) -> None:
        self.env = SimEnv()
        self.env.makedirs("/db", "test")
        self.tables = TableCache(self.env, "/db", 100, NoBlockCache(0), lambda: LATEST)
        self.levels: list[list[FileMeta]] = [[] for _ in range(LEVELS)]
        self.memtables: list[MemTable] = []
        self.number = 9

    def memtable(self, versions: list[Version_]) -> None:
        """One more memtable, older than those before."""
        memtable = MemTable(SkipList(random.Random(1)))
        for key, sequence, value in versions:
            memtable.add(sequence, key, value)
        self.memtables.append(memtable)

    def table(self, level: int, versions: list[Version_]) -> FileMeta:
        """One more table; on level 0, a later one is newer."""
        self.number += 1
        file = self.env.open(f"/db/{self.number:06d}.ldb", "w")
        builder = TableBuilder(file, Options(filter=None, block_bytes=100), None)
        for row in rows(versions):
            builder.add(row)
        meta = FileMeta.of(self.number, builder.finish("test"))
        file.close()
        self.levels[level].append(meta)
        return meta

    @property
    def state(self) -> State:
        memtables = self.memtables or [MemTable(SkipList(random.Random(1)))]
        return State(memtables[0], tuple(memtables[1:]), Version(self.levels))

    def scan(
        self, start: bytes = b"", stop: bytes | None = None, at: int = LATEST, reverse: bool = False
    ) -> Iterator[Any]:
        """What a store's scan gives."""
        return pairs(self.state, self.tables, Scan(start, stop, at, reverse), Open(), None, None)

    def reads(self) -> int:
        """How many blocks have been read so far."""
        return self.tables.counters.blocks_read


class Open(Usable):
    """A store that is open."""

    closed = False
    failure = None


# ---- one stream of many -----------------------------------------------------------------------------------------------


def test_a_merge_has_every_row_in_order(rng: random.Random) -> None:
    """Any number of sources, empty ones among them, in both directions."""
    for count in (0, 1, 2, 3, 7):
        everything = rows([(b"%d" % rng.randrange(20), sequence, b"v") for sequence in range(1, 60)]) if count else []
        parts: list[list[Row]] = [[] for _ in range(count + 1)]
        for row in everything:
            rng.choice(parts[: max(1, count)]).append(row)  # the last source is empty
        for reverse in (False, True):
            found = list(merge([iter(part[::-1] if reverse else part) for part in parts], reverse))
            assert found == (everything[::-1] if reverse else everything), f"{count} sources, reverse={reverse}"


def test_a_merge_takes_no_row_before_it_needs_it() -> None:
    """Lazy: one row of each source, and one more of the source that gave one. A scan of two rows reads no whole store."""
    taken: list[bytes] = []

    def source(name: bytes) -> Iterator[Row]:
        for number in range(9):
            taken.append(name + b"%d" % number)
            yield Row.of(name + b"%d" % number, 1, b"")

    merged = merge([source(b"a"), source(b"b"), source(b"c")])
    assert taken == [] and next(merged).key == b"a0"
    assert sorted(taken) in ([b"a0", b"b0", b"c0"], [b"a0", b"a1", b"b0", b"c0"]), f"for one row, {taken} were taken"


def test_a_merge_of_many_sources_compares_little(rng: random.Random) -> None:
    """O(log sources) a row: a heap, and no look at every source for each row."""
    keys = [Counted(b"%05d" % number) for number in range(64 * 30)]
    rng.shuffle(keys)
    sources = [iter(sorted(Row.of(key, 1, b"") for key in keys[at::64])) for at in range(64)]
    Counted.comparisons = 0
    assert sum(1 for _ in merge(sources)) == len(keys)
    each, most = Counted.comparisons / len(keys), 4 * math.log2(64)
    assert each <= most, f"a row of 64 sources took {each:.0f} comparisons, and {most:.0f} are enough"


def test_a_reader_sees_each_key_once(rng: random.Random) -> None:
    """`visible`: the newest version that is not above the sequence, in both directions; None for a tombstone."""
    versions: list[Version_] = [
        (b"%d" % rng.randrange(15), sequence, None if rng.random() < 0.3 else b"%d" % sequence)
        for sequence in range(1, 80)
    ]
    for moment in (0, 1, 20, 79, LATEST):
        expected = sorted({key: value for key, sequence, value in versions if sequence <= moment}.items())
        assert list(visible(rows(versions), moment)) == expected, f"as of {moment}"
        assert list(visible(rows(versions)[::-1], moment)) == expected[::-1], f"as of {moment}, in reverse"


# ---- all places -------------------------------------------------------------------------------------------------------


def test_the_newest_version_wins_in_every_order_of_places(rng: random.Random) -> None:
    """Two memtables, two tables of level 0, levels 1 and 2: a key for each choice of places that have it, as a value or as a
    tombstone. get and scan agree, as of every sequence."""
    names = ("memtable", "frozen", "new on level 0", "old on level 0", "level 1", "level 2")
    contents: list[list[Version_]] = [[(b"zz%d" % place, 1, b"alone")] for place in range(6)]
    everything: list[Version_] = []
    for chosen in itertools.product((False, True), repeat=6):
        key = b"k" + bytes(48 + has for has in chosen)
        for place in range(6):
            if chosen[place]:
                sequence = 1_000 * (6 - place) + rng.randrange(900)  # what is nearer to the memtable is newer
                version = (key, sequence, None if rng.random() < 0.4 else names[place].encode())
                contents[place].append(version)
                everything.append(version)
    places = Places()
    for place in (0, 1):
        places.memtable(contents[place])
    places.table(0, contents[3])
    places.table(0, contents[2])
    places.table(1, contents[4])
    places.table(2, contents[5])
    for moment in (LATEST, 5_999, 4_500, 3_200, 2_000, 1_400):
        seen = {key: value for key, at, value in sorted(everything, key=lambda version: version[1]) if at <= moment}
        for chosen in itertools.product((False, True), repeat=6):
            key = b"k" + bytes(48 + has for has in chosen)
            expected, found = seen.get(key, ABSENT), lookup(places.state, places.tables, key, moment)
            where = [name for name, has in zip(names, chosen, strict=True) if has]
            assert found == expected, f"a key in {where}, as of {moment}: {expected!r} was expected, {found!r} found"
        told = sorted((key, value) for key, value in seen.items() if value is not None)
        assert list(places.scan(b"k", b"l", moment)) == told, f"a scan as of {moment}"
        assert list(places.scan(b"k", b"l", moment, reverse=True)) == told[::-1], f"in reverse, as of {moment}"


def test_a_get_stops_at_the_first_place_that_knows() -> None:
    """Counted: nothing is read for what a memtable has, a tombstone too; one block for what the newest table has; no table
    is opened whose range doesn't include the key."""
    places = Places()
    places.memtable([(b"m", 90, b"1"), (b"gone", 91, None)])
    everywhere: list[Version_] = [
        (b"a", 1, b"old"),
        (b"gone", 2, b"old"),
        (b"k", 3, b"old"),
        (b"m", 4, b"old"),
        (b"z", 5, b"old"),
    ]
    places.table(1, everywhere)
    places.table(0, [(key, sequence + 10, b"middle") for key, sequence, _ in everywhere])
    places.table(0, [(b"k", 30, b"new"), (b"n", 31, None)])
    opened = places.tables.opened
    for key, expected, tables in ((b"m", b"1", 0), (b"gone", None, 0)):
        assert lookup(places.state, places.tables, key, LATEST) == expected
        assert len(opened) == tables, f"{key!r} is in the memtable, and {len(opened)} tables were opened"
    state = places.state
    assert lookup(state, places.tables, b"k", LATEST) == b"new"
    before = places.reads()
    for key, expected in ((b"k", b"new"), (b"n", None)):
        assert lookup(state, places.tables, key, LATEST) == expected
    assert places.reads() - before == 2, f"two gets that the newest table answers read {places.reads() - before} blocks"
    assert lookup(state, places.tables, b"zz", LATEST) is ABSENT
    assert places.reads() - before == 2, "no range includes zz, and a block was read"


def test_level_0_is_asked_from_the_newest_table_on() -> None:
    """`by_number`: the first one that knows decides; those after it are not opened."""
    places = Places()
    oldest = places.table(0, [(b"a", 1, b"1"), (b"b", 2, b"1"), (b"c", 3, b"1")])
    places.table(0, [(b"a", 11, b"2"), (b"c", 12, None)])
    newest = places.table(0, [(b"a", 21, b"3")])
    files = places.state.version.levels[0]
    assert level0.by_number(files, places.tables, b"a", LATEST) == b"3"
    assert list(places.tables.opened) == [newest.number], "the newest table has the key, and an older one was opened"
    assert level0.by_number(files, places.tables, b"c", LATEST) is None
    assert oldest.number not in places.tables.opened, "a tombstone decides as well"
    assert level0.by_number(files, places.tables, b"a", 15) == b"2"
    assert level0.by_number(files, places.tables, b"b", LATEST) == b"1"
    assert level0.by_number(files, places.tables, b"d", LATEST) is ABSENT


def test_of_a_deeper_level_one_table_is_asked() -> None:
    """Its tables don't overlap: the one whose range includes the key, or none. Keys at both ends of a range belong to it."""
    places = Places()
    for at in range(0, 100, 10):
        places.table(1, [(b"%02d" % number, number + 1, b"one") for number in range(at, at + 8)])
        places.table(2, [(b"%02d" % number, number + 1, b"two") for number in range(at, at + 10)])
    state = places.state
    for number in range(100):
        before = len(places.tables.opened)
        expected = b"one" if number % 10 < 8 else b"two"
        assert lookup(state, places.tables, b"%02d" % number, LATEST) == expected, f"key {number:02d}"
        most = 1 if number % 10 < 8 else 2
        assert len(places.tables.opened) - before <= most, f"key {number:02d} opened more than one table of a level"
    assert lookup(state, places.tables, b"075", LATEST) is ABSENT


def test_a_scan_opens_tables_of_deeper_levels_as_it_reaches_them() -> None:
    """A scan of a few keys doesn't open a whole level, nor a table of level 0 that has nothing of the range."""
    for reverse in (False, True):
        places = Places()
        for at in range(0, 100, 10):
            places.table(1, [(b"%02d" % number, number + 1, b"v") for number in range(at, at + 10)])
        far = places.table(0, [(b"x", 200, b"v"), (b"y", 201, b"v")])
        scan = places.scan(b"25", b"85", reverse=reverse)
        first = [next(scan)[0] for _ in range(3)]
        assert first == ([b"84", b"83", b"82"] if reverse else [b"25", b"26", b"27"])
        assert len(places.tables.opened) == 1, (
            f"three keys of one table, and {len(places.tables.opened)} tables are open"
        )
        assert len(list(scan)) == 57
        assert len(places.tables.opened) == 7, (
            f"keys 25 to 84 lie in 7 tables, and {len(places.tables.opened)} are open"
        )
        assert far.number not in places.tables.opened


def test_all_versions_of_a_range_come_from_all_places(rng: random.Random) -> None:
    """`rows`, which a scan and later a check read: nothing is left out and nothing is there twice, from any bound."""
    places, everything = Places(), []
    sequence = 900
    for fill in ("memtable", "memtable", "table"):
        versions: list[Version_] = [(b"%02d" % rng.randrange(60), sequence - number, b"v") for number in range(40)]
        sequence -= 100
        everything += versions
        if fill == "memtable":
            places.memtable(versions)
        else:
            places.table(0, versions)
    for at in range(0, 60, 20):
        deep: list[Version_] = [(b"%02d" % number, 1, b"v") for number in range(at, at + 20)]
        places.table(3, deep)
        everything += deep
    expected = rows(everything)
    for start, stop in (
        (b"", None),
        (b"20", b"40"),
        (b"195", b"20"),
        (b"39", b"391"),
        (b"5", None),
        (b"", b"00"),
        (b"7", b"8"),
    ):
        wanted = [row for row in expected if row.key >= start and (stop is None or row.key < stop)]
        for reverse in (False, True):
            found = list(rows_of(places.state, places.tables, Scan(start, stop, LATEST, reverse)))
            assert found == (wanted[::-1] if reverse else wanted), f"[{start!r}, {stop!r}), reverse={reverse}"


# ---- freezing and flushing --------------------------------------------------------------------------------------------


def test_a_frozen_memtable_is_the_newest_of_the_frozen_ones() -> None:
    """The state has the newest first, the lane's list the oldest; what is frozen is still read."""
    core = open_tiny(SimEnv(), write_buffer_bytes=1 << 20).core
    for number in range(3):
        memtable = core.state.memtable
        memtable.add(number + 1, b"k", b"%d" % number)
        memtable.add(number + 1, b"only%d" % number, b"")
        core.sequence = number + 1
        old_log = core.log_number
        core.rotate()
        assert core.state.memtable is not memtable and len(core.state.memtable) == 0, "writes need an empty memtable"
        assert core.state.frozen[0] is memtable, "in the state, the memtable that was frozen last comes first"
        assert core.frozen[-1].memtable is memtable, "in the lane's list, the memtable that was frozen last comes last"
        assert (core.frozen[-1].log_number, core.frozen[-1].next_log) == (old_log, core.log_number)
        assert core.frozen[-1].last_sequence == number + 1
        assert lookup(core.state, core.tables, b"k", LATEST) == b"%d" % number
        assert lookup(core.state, core.tables, b"only0", LATEST) == b""
    assert [frozen.last_sequence for frozen in core.frozen] == [1, 2, 3]


def test_memtables_are_flushed_from_the_oldest_on() -> None:
    """Rule 1: what is newer stays above it. After each flush, level 0 has one table more, and what it says of logs and
    sequences is what a recovery will need in chapter 8."""
    store = open_tiny(SimEnv(), write_buffer_bytes=1 << 20)
    core = store.core
    flusher = store.background.flusher
    assert flusher.step() is False, "nothing is frozen, and there was something to do"
    logs = []
    for number in range(3):
        core.state.memtable.add(number + 1, b"k", b"%d" % number)
        core.sequence = number + 1
        core.rotate()
        logs.append(core.log_number)
    frozen = list(core.frozen)
    for number in range(3):
        assert flusher.step() is True
        files = core.versions.current.levels[0]
        assert len(files) == number + 1, f"{number + 1} memtables were flushed, and level 0 has {len(files)} tables"
        assert [row.value for row in core.tables.get(files[0]).rows()] == [b"%d" % number], (
            "the oldest memtable comes first"
        )
        assert core.frozen == frozen[number + 1 :]
        assert core.state.frozen == tuple(each.memtable for each in reversed(frozen[number + 1 :]))
        assert core.state.version is core.versions.current
        assert core.versions.log_number == logs[number], "logs before the next memtable's are in tables now"
        assert core.versions.last_sequence == number + 1, "the last sequence in any table"
        assert lookup(core.state, core.tables, b"k", LATEST) == b"2"
    assert flusher.step() is False
    assert not core.pending, f"numbers that are no longer in the making: {core.pending}"


def test_an_empty_memtable_becomes_no_table() -> None:
    """But its log is done with, and the memtable goes."""
    store = open_tiny(SimEnv())
    core = store.core
    core.rotate()
    assert store.background.flusher.step() is True
    assert core.versions.current.levels[0] == [] and core.frozen == [] and core.state.frozen == ()
    assert core.versions.log_number == core.log_number


def test_a_reader_finds_everything_between_two_calls_of_a_flush(history: History) -> None:
    """After every call of the disk, a get and a scan see each write that has returned: no row is ever nowhere."""
    env = SimEnv()
    store = open_tiny(env)
    expected: dict[bytes, bytes] = {}

    def look(call: object) -> None:
        history.note(f"a reader looks after {call}")
        history.expect("list(store.scan())", sorted(expected.items()), list(store.scan()))
        for key in expected:
            history.expect(f"store.get({key!r})", expected[key], store.get(key))

    for number in range(60):
        key, value = b"key%d" % (number % 9), b"%d" % number * 20
        history.do(f"store.put({key!r}, {value!r})")
        store.put(key, value)
        expected[key] = value
        if number % 10 == 9:
            history.do("store.flush()")
            env.after_call = look
            store.flush()
            env.after_call = None
    assert store.stats().engine["flushes"] >= 6


@pytest.mark.parametrize("moment", ["freeze", "turn"])
def test_no_row_is_nowhere_when_the_state_changes(moment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever state is assigned while a memtable is frozen or flushed, a reader who takes it finds every row."""
    store = open_tiny(SimEnv(), write_buffer_bytes=1 << 20)
    for number in range(20):
        store.put(b"%02d" % number, b"v")
    if moment == "turn":
        store.core.rotate()
        store.core.state.memtable.add(store.core.sequence + 1, b"later", b"v")
    core, states = store.core, []

    def keep(self: Core, name: str, value: object) -> None:
        if name == "state":
            states.append(value)
        object.__setattr__(self, name, value)

    monkeypatch.setattr(Core, "__setattr__", keep, raising=False)
    if moment == "freeze":
        core.rotate()
    else:
        assert store.background.flusher.step()
    monkeypatch.undo()
    assert states, f"the state was not replaced at the {moment}"
    for state in states:
        assert isinstance(state, State)
        for number in range(20):
            found = lookup(state, core.tables, b"%02d" % number, LATEST)
            assert found == b"v", f"a reader who takes the state at the {moment} doesn't find key {number:02d}"
        if moment == "turn":
            assert lookup(state, core.tables, b"later", LATEST) == b"v", "what was written meanwhile is gone"


# ---- the store --------------------------------------------------------------------------------------------------------


def test_a_tiny_memtable_keeps_the_contract(rng: random.Random, history: History) -> None:
    """Every kind of operation against a dict, with a flush after every few writes. Reopening and compacting come later."""
    for _ in range(rounds(16)):
        size = rng.choice((64, 200, 500))
        model_run(
            lambda env: open_tiny(env, write_buffer_bytes=size),  # noqa: B023
            rng,
            history,
            steps=120,
            without={"compact", "load"},
            persistent=False,
        )


def test_a_scan_that_was_begun_before_a_flush_sees_the_old_world() -> None:
    """It pins the memtables and tables of the moment, and the sequence; so does a snapshot."""
    store = open_tiny(SimEnv())
    old = {b"%03d" % number: b"old" for number in range(40)}
    for key, value in old.items():
        store.put(key, value)
    scan, backwards, snapshot = store.scan(), store.scan(reverse=True), store.snapshot()
    assert next(scan) == (b"000", b"old")
    flushes = store.stats().engine["flushes"]
    for key in old:
        if int(key) % 3:
            store.put(key, b"new")
        else:
            store.delete(key)
    store.put(b"0005", b"between")
    store.flush()
    assert store.stats().engine["flushes"] > flushes + 1, "the test is about flushes, and there were none"
    assert [(b"000", b"old"), *scan] == sorted(old.items())
    assert list(backwards) == sorted(old.items(), reverse=True)
    assert dict(snapshot.scan()) == old and snapshot.get(b"003") == b"old" and snapshot.get(b"0005") is None
    new = {key: b"new" for key in old if int(key) % 3} | {b"0005": b"between"}
    assert dict(store.scan()) == new


def test_a_deleted_key_stays_deleted_through_flushes() -> None:
    """The value lies in a table, the tombstone above it: in the memtable, then in a newer table. Both count."""
    store = open_tiny(SimEnv())
    store.put(b"k", b"v")
    store.put(b"other", b"v")
    store.flush()
    store.delete(b"k")
    for where in ("in the memtable", "in a table"):
        assert store.get(b"k") is None, f"the tombstone is {where}, and the old value was found"
        assert list(store.scan()) == [(b"other", b"v")], f"the tombstone is {where}"
        store.flush()
    assert store.stats().engine["flushes"] == 2
    store.put(b"k", b"again")
    store.flush()
    assert store.get(b"k") == b"again"
