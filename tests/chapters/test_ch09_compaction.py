"""Chapter 9: which tables are merged next, what of them is kept, and where the result is cut."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import count, pairwise

import engines
from engines.lsm.compaction import Compaction, closed, expanded, is_move, manual, next_file, pick, scores
from engines.lsm.job import Job, needed
from engines.lsm.keys import VALUE, Row, internal_key
from engines.lsm.options import LEVELS
from engines.lsm.parts import PLAIN
from engines.lsm.store import LsmStore
from engines.lsm.version import FileMeta, Version, VersionEdit
from engines.simenv import SimEnv
from tests.chapters.kit import History, model_run, power_cuts, rounds, store_subject
from tests.lsm.layouts import NOW, OPTIONS, told, version_of
from tests.lsm.test_job import Bench, expected_rows

SMALL = {
    "write_buffer_bytes": 600,
    "max_file_bytes": 400,
    "block_bytes": 128,
    "level_base_bytes": 2_000,
    "filter": None,
}


def opened(env: SimEnv, **options: object) -> LsmStore:
    store = engines.open("/db", "lsm", env=env, background=False, plain=True, **{**SMALL, **options})
    assert isinstance(store, LsmStore)
    return store


def numbers(files: list[FileMeta]) -> list[int]:
    return sorted(file.number for file in files)


def file_of(number: int, first: str, last: str, size: int = 100) -> FileMeta:
    return FileMeta(
        number, size, internal_key(first.encode(), number, VALUE), internal_key(last.encode(), number, VALUE)
    )


# ---- what is next ---------------------------------------------------------------------------------------------------


def test_level_0_counts_files_and_the_others_bytes() -> None:
    """scores: each level may hold ten times what the one above may; the last level has no score."""
    version = version_of("0: 1:a-b*500 2:a-b\n1: 3:a-b*150\n2: 4:a-b*250\n5: 5:a-b*500000\n6: 6:a-b*99999999")
    assert scores(version, OPTIONS) == [0.5, 1.5, 0.25, 0, 0, 0.5]


def test_the_fullest_level_is_next() -> None:
    """pick: from a score of 1 on; of two that are equal the upper one; nothing if no level is full."""
    layouts = {
        "0: 1:a-b 2:a-b 3:a-b": "nothing",
        "1: 1:a-c*99": "nothing",
        "1: 1:a-c*50 2:d-f*50\n2: 9:b-b": "size 1>2: 1 + 9",
        "0: 1:a-b 2:a-b 3:a-b 4:a-b\n1: 5:c-d*250": "size 1>2: 5 moved",
        "0: 1:a-b 2:a-b 3:a-b 4:a-b\n1: 5:c-d*100": "size 0>1: 1 2 3 4",
        "6: 1:a-b*99999999": "nothing",
        "1: 1:a-c!6/10@50\n2: 2:b-b": "tombstones 1>2: 1 + 2",
    }
    for layout, expected in layouts.items():
        assert told(pick(version_of(layout), OPTIONS, {}, NOW)) == expected, layout


def test_a_level_is_gone_through_in_turn() -> None:
    """next_file: the first file that ends after the compact pointer; then from the beginning again."""
    version = version_of("1: 1:a-c 2:d-f 3:g-i")
    for pointer, expected in (("a", 1), ("c", 2), ("d", 2), ("f", 3), ("z", 1)):
        found = next_file(version, 1, {1: internal_key(pointer.encode(), 100, VALUE)})
        assert found.number == expected, f"the level has {version.levels[1]}, and the pointer is at {pointer}"
    assert next_file(version, 1, {2: internal_key(b"d", 100, VALUE)}).number == 1, "the pointer is another level's"
    older = {1: internal_key(b"c", 101, VALUE)}
    assert next_file(version, 1, older).number == 1, (
        "c@101 sorts before c@100, so file 1 ends after it: compare by `order`"
    )


def test_level_0_is_gone_through_by_key() -> None:
    """Not in the order of age, in which the version keeps it."""
    version = version_of("0: 1:m-z 2:c-d 3:a-b 4:c-e")
    assert next_file(version, 0, {}).number == 3
    assert next_file(version, 0, {0: internal_key(b"b", 1, VALUE)}).number == 2, "2 and 4 begin alike: the lower number"
    kept = [file.number for file in version.levels[0]]
    assert kept == [4, 3, 2, 1], f"the version's own list was sorted, and reads go by its order: {kept}"


# ---- what belongs together ------------------------------------------------------------------------------------------


def test_overlap_on_level_0_goes_on_from_file_to_file(rng: random.Random) -> None:
    """LevelDB's GetOverlappingInputs: nothing that is left behind shares a key with anything that is taken."""
    version = version_of("0: 1:a-c 2:b-f 3:e-h 4:x-z")
    assert numbers(version.overlapping_in_level0(b"a", b"a")) == [1, 2, 3]
    assert numbers(version.overlapping_in_level0(b"y", None)) == [4]
    assert numbers(version.overlapping_in_level0(None, None)) == [1, 2, 3, 4]
    assert version.overlapping_in_level0(b"i", b"w") == []
    for _ in range(rounds(300)):
        bounds = [sorted(rng.choices("abcdefghijklmnop", k=2)) for _ in range(rng.randint(1, 9))]
        files = [file_of(number, *pair) for number, pair in enumerate(bounds, 1)]
        first, last = (key.encode() for key in sorted(rng.choices("abcdefghijklmnop", k=2)))
        taken = Version([files, *[[]] * (LEVELS - 1)]).overlapping_in_level0(first, last)
        told_layout = f"level 0 has {bounds}, asked for {first!r} to {last!r}, taken {numbers(taken)}"
        assert all(file in taken for file in files if file.overlaps(first, last)), told_layout
        left = [file for file in files if file not in taken]
        assert not any(one.overlaps(other.first, other.last) for one in left for other in taken), told_layout
        reached = [file for file in files if file.overlaps(first, last)]
        for _ in files:
            reached += [f for f in taken if f not in reached and any(f.overlaps(o.first, o.last) for o in reached)]
        assert len(reached) == len(taken), f"{told_layout}: more than is needed"


def test_the_inputs_are_closed_under_overlap() -> None:
    """closed: level 0 transitively, all of the next level in the whole range, and files that share a border's user key."""
    layouts = {
        ("0: 1:a-c 2:b-f 3:e-h 4:x-z\n1: 8:i-w 9:d-g", 0, 1): ([1, 2, 3], [9]),
        ("1: 1:a-m*200\n2: 8:b-m#5 9:m#4-q 10:r-s", 1, 1): ([1], [8, 9]),
        ("1: 1:a-m#5 2:m#4-m#3 3:m#2-q 4:r-z\n2: 9:p-s", 1, 1): ([1, 2, 3], [9]),
        ("1: 1:a-c 2:d-f\n2: 9:g-h", 1, 2): ([2], []),
    }
    for (layout, level, number), expected in layouts.items():
        version = version_of(layout)
        upper, lower = closed(version, level, [file for file in version.levels[level] if file.number == number])
        assert (numbers(upper), numbers(lower)) == expected, f"{layout}: file {number} of level {level} goes"


def test_neighbours_join_in_when_that_is_free() -> None:
    """expanded: more of the upper level, if it meets nothing new below, and all together is not too large."""
    layouts = {
        "1: 1:a-c*60 2:d-f*60\n2: 9:b-e": [1, 2],
        "1: 1:a-c*60 2:d-f*60\n2: 8:b-d 9:e-g": [1],
        "1: 1:a-c*60 2:d-f*1500\n2: 9:b-e*940": [1],
        "1: 1:a-c*60 2:d-f*1500\n2: 9:b-e*939": [1, 2],
        "1: 1:a-c*60 2:d-f*60\n2: 9:g-h": [1],
    }
    for layout, expected in layouts.items():
        version = version_of(layout)
        upper, lower = closed(version, 1, version.levels[1][:1])
        assert numbers(expanded(version, OPTIONS, 1, upper, lower)) == expected, layout


def test_a_file_that_meets_nothing_is_moved() -> None:
    """is_move: one upper, no lower, and not more than ten files' size of grandparents."""
    one, other, big = file_of(1, "a", "c"), file_of(2, "d", "e"), file_of(3, "b", "b", 1_001)
    assert is_move(OPTIONS, [one], [], [])
    assert is_move(OPTIONS, [one], [], [file_of(4, "a", "b", 500), file_of(5, "b", "c", 500)])
    assert not is_move(OPTIONS, [one], [], [big]), "1,001 bytes of grandparents, 1,000 is the limit"
    assert not is_move(OPTIONS, [one, other], [], [])
    assert not is_move(OPTIONS, [one], [other], [])


def test_a_compaction_by_hand_goes_in_steps() -> None:
    """manual: all of level 0 that overlaps; deeper, a table's size at a time; nothing is moved without being read."""
    version = version_of("0: 1:a-c 2:b-d 3:x-z\n1: 4:a-b*60 5:c-d*60 6:e-f*60\n2: 7:c-c")
    assert told(manual(version, OPTIONS, 0, b"d", b"e")) == "manual 0>1: 1 2 + 4 5 | 7"
    assert told(manual(version, OPTIONS, 1, None, None)) == "manual 1>2: 4 5 + 7"
    assert told(manual(version, OPTIONS, 1, b"e", b"e")) == "manual 1>2: 6"
    assert told(manual(version, OPTIONS, 1, b"g", None)) == "nothing"


GOLDEN = """
flush 4
    size 0>1: 1 2 3 4
    size 1>2: 5 moved
flush 12
    size 0>1: 9 10 11 12 + 6 7 8 | 5
    size 1>2: 14 moved
    size 1>2: 15 moved
    size 1>2: 16 moved
flush 20
    size 0>1: 17 18 19 20 + 13 | 5 14 15 16
    size 1>2: 21 + 5
    size 1>2: 22 + 14
flush 30
    size 0>1: 27 28 29 30 + 23 24 | 15 16 25 26
    size 1>2: 33 + 15
    size 1>2: 34 + 16
    size 1>2: 31 + 25
flush 41
    size 0>1: 38 39 40 41 + 32 | 26 35 36 37
    size 1>2: 43 + 26
    size 1>2: 44 + 35
flush 51
    size 0>1: 48 49 50 51 + 42 45 | 36 37 46 47
    size 1>2: 55 + 36
    size 1>2: 52 + 37
    size 1>2: 53 + 46
flush 62
    size 0>1: 59 60 61 62 + 54 | 47 56 57 58
    size 1>2: 65 + 47
    size 1>2: 66 + 56
flush 72
    size 0>1: 69 70 71 72 + 63 64 | 57 58 67 68
    size 1>2: 73 + 57
    size 1>2: 74 + 58
    size 1>2: 75 + 67
flush 83
    size 0>1: 80 81 82 83 + 76 | 68 77 78 79
    size 1>2: 87 + 68
    size 1>2: 84 + 77
flush 93
    size 0>1: 90 91 92 93 + 85 86 | 78 79 88 89
    size 1>2: 95 + 78
    size 1>2: 96 + 79
    size 2>3: 89 moved
    size 1>2: 97 + 88
""".strip()


def simulated(flushes: int) -> Iterator[str]:
    """What pick says when tables are only ranges: each flush makes one of 30 bytes, from a to p; a merge makes one for
    each of a-d, e-h, i-l and m-p that its inputs meet, and shares out their bytes."""
    version, pointers, next_number = Version(), dict[int, bytes](), count(1)
    for _ in range(flushes):
        flushed = file_of(next(next_number), "a", "p", 30)
        version = version.edited(VersionEdit(added=[(0, flushed)]))
        line = f"flush {flushed.number}"
        while (compaction := pick(version, OPTIONS, pointers, NOW)) is not None:
            made = compaction.upper
            if not compaction.trivial:
                inputs = [file for _, file in compaction.inputs()]
                ranges = [
                    (x, y)
                    for x, y in ("ad", "eh", "il", "mp")
                    if any(f.overlaps(x.encode(), y.encode()) for f in inputs)
                ]
                size = sum(file.size_bytes for file in inputs) // len(ranges)
                made = [file_of(next(next_number), first, last, size) for first, last in ranges]
            edit = compaction.edit(made)
            pointers.update(edit.compact_pointers)
            version = version.edited(edit)
            assert version.violations() == []
            line += f"\n    {told(compaction)}"
        if "\n" in line:
            yield line


def test_the_same_flushes_give_the_same_picks() -> None:
    """The same flushes give the same compactions, edit after edit, with the pointers that were remembered."""
    assert "\n".join(simulated(40)) == GOLDEN


# ---- what is kept, and where it is cut ------------------------------------------------------------------------------


def test_a_key_is_looked_for_on_every_deeper_level(rng: random.Random) -> None:
    """Job.is_base: LevelDB's IsBaseLevelForKey. Both ends of a range belong to it."""
    job = Job([], [[(b"a", b"b"), (b"g", b"j")], [(b"c", b"c")], [(b"h", b"z")]], [], NOW, NOW, NOW)
    held = [key for key in (b"a", b"b", b"bb", b"c", b"d", b"g", b"gz", b"h", b"zz") if not job.is_base(key)]
    expected = [b"a", b"b", b"c", b"g", b"gz", b"h"]
    assert held == expected, f"the ranges are {job.deeper}: they hold {expected}, and is_base is False for {held}"
    assert Job([], [], [], NOW, NOW, NOW).is_base(b"a"), "there is no deeper level"


def test_what_a_reader_may_ask_for_is_kept_and_nothing_else(rng: random.Random) -> None:
    """needed, row by row against its rules: every snapshot, every choice of keys that lie deeper."""
    for _ in range(rounds(400)):
        deeper = {key for key in (b"a", b"b", b"c") if rng.random() < 0.4}
        rows = [
            (rng.choice((b"a", b"ab", b"b", b"c")), sequence, rng.choice((None, b"", b"v%d" % sequence)))
            for sequence in range(1, rng.randint(2, 14))
        ]
        snapshot = rng.randrange(len(rows) + 2)
        kept = needed(
            iter(sorted(Row.of(*row) for row in rows)),
            snapshot,
            {b"a", b"ab", b"b", b"c"}.difference(deeper).__contains__,
        )
        found = [(row.key, row.sequence, None if row.is_deletion else row.value) for row in kept]
        expected = expected_rows(rows, snapshot, deeper)
        assert found == expected, f"of {rows}, the oldest snapshot {snapshot}, deeper are {deeper}: {expected}"


def test_a_compaction_needs_no_more_memory_than_a_few_rows() -> None:
    """needed is lazy: it can take from a stream that never ends."""
    endless = (Row.of(b"%09d" % number, 1, b"x") for number in count())
    kept = needed(endless, NOW)
    assert [next(kept).key for _ in range(3)] == [b"000000000", b"000000001", b"000000002"]


def test_many_runs_become_one(rng: random.Random) -> None:
    """compact: each run is a source, the newest version of a key wins wherever it lies, and tombstones go at the bottom."""
    for _ in range(rounds(24)):
        rows = [
            (b"%02d" % rng.randrange(20), sequence, None if rng.random() < 0.3 else b"v%d" % sequence)
            for sequence in range(1, 60)
        ]
        bench = Bench(PLAIN, max_file_bytes=300)
        cuts = [0, *sorted(rng.sample(range(1, 59), 3)), 59]
        tables = [bench.table(rows[low:high]) for low, high in pairwise(cuts)]
        tables.reverse()
        once = bench.run(Job([[table] for table in tables], [], [], NOW, NOW, NOW))
        found, expected = bench.rows(once), expected_rows(rows, NOW, set())
        assert found == expected, f"merged from the runs {[rows[low:high] for low, high in pairwise(cuts)]}"
        assert bench.rows(bench.run(Job([once], [], [], NOW, NOW, NOW))) == bench.rows(once), "a run of several tables"


def test_a_user_key_is_never_in_two_tables() -> None:
    """cut_before: a limit of one byte, and two hundred versions of each key that a snapshot holds."""
    bench = Bench(PLAIN, max_file_bytes=1)
    rows = [(key, 3 * number + at, b"v") for number in range(1, 201) for at, key in enumerate((b"a", b"b", b"c"))]
    files = bench.run(Job([[bench.table(rows)]], [], [], 0, NOW, NOW))
    assert [(file.first, file.last) for file in files] == [(b"a", b"a"), (b"b", b"b"), (b"c", b"c")]


def test_a_table_is_cut_at_its_size_and_by_its_grandparents() -> None:
    """is_full: after the block that passes the limit; and before a table's own compaction would read too much."""
    bench = Bench(PLAIN, max_file_bytes=1_000)
    table = bench.table([(b"%03d" % at, at + 1, b"v" * 80) for at in range(100)])
    sizes = [file.size_bytes for file in bench.run(Job([[table]], [], [], NOW, NOW, NOW))]
    assert len(sizes) > 5 and all(1_000 <= size < 2_500 for size in sizes[:-1]), f"the limit is 1,000 bytes: {sizes}"
    bench = Bench(PLAIN, max_file_bytes=10_000)
    table = bench.table([(b"%03d" % at, at + 1, b"v") for at in range(100)])
    grandparents = [(b"%03d" % at, 30_000) for at in range(0, 100, 5)]
    files = bench.run(Job([[table]], [], grandparents, NOW, NOW, NOW))
    assert [file.first for file in files] == [b"000", b"017", b"037", b"057", b"077", b"097"], (
        "four grandparents are 120,000 bytes, and 100,000 are the limit: cut after the row that passes a fourth one's end"
    )
    writer = bench.writer(max_tables=3, grandparents=[(b"%d" % at, 200_000) for at in range(9)])
    assert len(writer.write_all(Row.of(b"%d" % at, 1, b"") for at in range(9))) == 3, "the last number takes the rest"
    bench = Bench(PLAIN, max_file_bytes=10_000, block_bytes=1_000)
    table = bench.table([(b"%03d" % at, at + 1, b"v" * 80) for at in range(100)])
    files = bench.run(Job([[table]], [], grandparents, NOW, NOW, NOW))
    assert [file.first for file in files] == [b"000", b"022", b"044", b"066", b"088"], (
        "a block has eleven rows, and a table is cut where a block ends, not within one"
    )


# ---- the result is installed ----------------------------------------------------------------------------------------


def test_a_table_that_was_flushed_meanwhile_survives() -> None:
    """Compaction.edit names its own inputs, each on its level, and no other file."""
    before = version_of("0: 1:a-c 2:b-f 3:e-h 4:x-z\n1: 9:d-g 10:i-w")
    compaction = pick(before, OPTIONS, {}, NOW)
    assert compaction is not None and told(compaction) == "size 0>1: 1 2 3 + 9"
    meanwhile = before.edited(VersionEdit(added=[(0, file_of(11, "a", "z"))]))
    edit = compaction.edit([file_of(12, "a", "h")])
    after = meanwhile.edited(edit)
    assert [numbers(files) for files in after.levels[:3]] == [[4, 11], [10, 12], []]
    assert edit.compact_pointers == [(0, compaction.pointer)]
    by_hand = Compaction(6, 6, [file_of(1, "a", "b")], [], [], False, "manual")
    assert by_hand.edit([]).compact_pointers == []
    assert by_hand.edit([]).deleted == [(6, 1)]


def test_every_level_stays_in_order_and_within_its_size(rng: random.Random, history: History) -> None:
    """After each write: levels from 1 on are disjoint and sorted, no level is over its size, and every key reads right."""
    env, model = SimEnv(), dict[bytes, bytes]()
    with opened(env) as store:
        for number in range(rounds(1_600)):
            key = b"%03d" % rng.randrange(150)
            if rng.random() < 0.2:
                history.do(f"store.delete({key!r})")
                store.delete(key)
                model.pop(key, None)
            else:
                value = b"%d" % number + b"x" * rng.randrange(60)
                history.do(f"store.put({key!r}, {value!r})")
                store.put(key, value)
                model[key] = value
            levels = store.describe()["levels"]
            assert store.core.versions.current.violations() == []
            over = [level["level"] for level in levels if (level["score"] or 0) >= 1]
            assert not over, f"levels {over} are full, and nothing compacts them: {store.core.versions.current.levels}"
            history.expect(f"store.get({key!r})", model.get(key), store.get(key))
        found = dict(store.scan())
        wrong = [key for key in sorted({*model, *found}) if model.get(key) != found.get(key)]
        told_wrong = [(key, model.get(key), found.get(key)) for key in wrong[:3]]
        assert not wrong, f"{len(wrong)} keys are read wrong; the first, as (key, expected, found): {told_wrong}"
        assert store.check() == []
        assert sum(bool(level["files"]) for level in levels) >= 2, "nothing has gone down to level 1"


def test_a_delete_hides_what_lies_deeper() -> None:
    """A tombstone goes where nothing older can be below it, and not before; then it takes the old value along."""
    env = SimEnv()
    with opened(env, level0_files=1, tombstone_ratio=None, level_base_bytes=1 << 20) as store:
        for number in range(8):
            store.put(b"%d" % number, b"old")
        store.compact_range()
        for level in (1, 2):  # the old value sinks to level 3
            store.core.versions.apply(moved(store, level))
            store.core.state = store.core.state._replace(version=store.core.versions.current)
        assert [level["level"] for level in store.describe()["levels"] if level["files"]] == [3]
        store.delete(b"3")
        store.flush()
        assert [level["level"] for level in store.describe()["levels"] if level["files"]] == [1, 3]
        assert store.get(b"3") is None, "the tombstone was dropped while level 3 has the value"
        assert [key for key, _ in store.scan()] == [b"0", b"1", b"2", b"4", b"5", b"6", b"7"]
        store.compact()
        rows = sum(file["entries"] for level in store.describe()["levels"] for file in level["files"])
        assert (rows, store.get(b"3")) == (7, None), "in the end, neither the value nor its tombstone is there"


def moved(store: LsmStore, level: int) -> VersionEdit:
    """All files of a level go to the next."""
    files = store.core.versions.current.levels[level]
    return VersionEdit(deleted=[(level, file.number) for file in files], added=[(level + 1, file) for file in files])


def test_a_byte_is_written_a_few_times_and_no_more(rng: random.Random) -> None:
    """Write amplification: bytes of flushes and compactions for each byte of the user's. Counters, not clocks."""
    env = SimEnv()
    with opened(env, write_buffer_bytes=4_000, max_file_bytes=4_000, level_base_bytes=16_000) as store:
        for number in range(6_000):
            store.put(b"%05d" % rng.randrange(3_000), b"%d" % number + b"x" * 20)
        stats = store.stats()
        work = (stats.engine["flushed_bytes"] + stats.engine["compacted_bytes"]) / stats.user_bytes
        files = [len(level["files"]) for level in store.describe()["levels"]]
        assert files[2] > 5, f"level 2 is used: {files}"
        assert 3 < work < 12, f"{work:.1f} bytes were written for each byte of the user's"
        assert stats.engine["level0_files"] < 4


def test_space_is_given_back() -> None:
    """Overwritten and deleted data goes: after compact(), the tables hold what is live and nothing else."""
    env = SimEnv()
    with opened(env) as store:
        for number in range(500):
            store.put(b"%02d" % (number % 20), b"x" * 50)
        for number in range(15):
            store.delete(b"%02d" % number)
        store.compact()
        described = store.describe()["levels"]
        rows = sum(file["entries"] for level in described for file in level["files"])
        assert rows == 5, f"15 of 20 keys were deleted, so after compact() the tables have 5 rows, and not {rows}"
        tables = sum(level["bytes"] for level in described)
        assert tables < 1_000, f"5 values of 50 bytes are live, and the tables have {tables} bytes"


def test_a_snapshot_keeps_its_versions(rng: random.Random, history: History) -> None:
    """Every operation against a dict, compactions by hand among them; snapshots and scans are held open meanwhile."""
    for _ in range(rounds(24)):
        model_run(lambda env: opened(env), rng, history, steps=200)


def test_a_power_cut_in_a_compaction_loses_nothing(seed: int, history: History) -> None:
    """After every call of writes, flushes and compactions; inputs are deleted after the edit is on disk."""
    options = {**SMALL, "level0_files": 2, "write_buffer_bytes": 300}
    for number in range(rounds(2)):
        subject = store_subject("lsm", logs=("*.log",), steps=10, without={"load", "kill"}, plain=True, **options)
        power_cuts(subject, seed + number, history, second_cut_share=0.003, probe_share=0.03)
