"""engines/lsm/job.py: what a compaction keeps and where it cuts, in both forms."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import count, pairwise

import pytest

from engines.kvstore import Stats
from engines.lsm.core import Core
from engines.lsm.fast import FAST
from engines.lsm.job import Job, TableWriter
from engines.lsm.keys import Row
from engines.lsm.manifest import VersionSet
from engines.lsm.options import Options
from engines.lsm.parts import PLAIN, Parts
from engines.lsm.version import FileMeta
from engines.simenv import SimEnv

NOW = 1_000  # a sequence: no snapshot is older


@pytest.fixture(params=[PLAIN, FAST], ids=["plain", "fast"])
def parts(request: pytest.FixtureRequest) -> Parts:
    """Both forms are asked the same questions."""
    chosen: Parts = request.param
    return chosen


class Bench:
    """Tables on a simulated disk, and jobs on them."""

    def __init__(self, parts: Parts, **options: object) -> None:
        self.env = SimEnv()
        self.env.makedirs("/db", "test")
        self.options = Options.of({"block_bytes": 1, **options})
        versions = VersionSet(self.env, "/db", Stats())
        versions.last_sequence = NOW
        self.core = Core(self.env, "/db", self.options, Stats(), versions, parts)
        self.numbers = count(1)

    def writer(self, **options: object) -> TableWriter:
        return self.core.parts.table_writer(self.env, "/db", self.options, NOW, self.numbers, "test", **options)  # type: ignore[arg-type]

    def table(self, rows: Sequence[tuple[bytes, int, bytes | None]]) -> FileMeta:
        """One table of (user key, sequence, value or None)."""
        (file,) = self.writer(max_tables=1).write_all(sorted(Row.of(*row) for row in rows))
        return file

    def rows(self, files: Sequence[FileMeta]) -> list[tuple[bytes, int, bytes | None]]:
        """What the tables hold, in their order."""
        rows = [row for file in files for row in self.core.tables.get(file).rows()]
        return [(row.key, row.sequence, None if row.is_deletion else row.value) for row in rows]

    def run(self, job: Job) -> list[FileMeta]:
        return self.core.parts.compact(job, self.writer(grandparents=job.grandparents), self.core.tables)


def expected_rows(
    rows: Sequence[tuple[bytes, int, bytes | None]], snapshot: int, deeper: set[bytes]
) -> list[tuple[bytes, int, bytes | None]]:
    """job.py's rules 1 and 2, said row by row."""
    kept = []
    for key, sequence, value in sorted(rows, key=lambda row: (row[0], -row[1])):
        newer = [other for other in rows if other[0] == key and sequence < other[1] <= snapshot]
        superfluous = value is None and sequence <= snapshot and key not in deeper
        if not newer and not superfluous:
            kept.append((key, sequence, value))
    return kept


@pytest.mark.parametrize("part", range(3))
def test_a_compaction_keeps_what_somebody_may_ask_for(parts: Parts, rng: random.Random, part: int) -> None:
    """Rules 1 and 2 of job.py, and nothing else: few keys, one run or several, a snapshot anywhere or none."""
    for _ in range(50):
        rows: list[tuple[bytes, int, bytes | None]] = []
        for sequence in range(1, rng.randint(2, 25)):
            rows.append((rng.choice((b"a", b"ab", b"b", b"c")), sequence, rng.choice((None, b"", b"v%d" % sequence))))
        snapshot = rng.randrange(len(rows) + 2)
        deeper = {key for key in (b"a", b"b", b"c") if rng.random() < 0.4}
        bench = Bench(parts, block_bytes=rng.choice((1, 60)))
        borders = [0, *sorted(rng.choices(range(len(rows)), k=rng.randrange(4))), len(rows)]
        runs = [[bench.table(rows[low:high])] for low, high in pairwise(borders) if low < high][::-1]
        is_said = rng.random() < 0.5  # that the runs come newest first, as they do
        job = Job(runs, [[(key, key)] for key in sorted(deeper)], [], snapshot, len(rows), NOW, newest_first=is_said)
        assert bench.rows(bench.run(job)) == expected_rows(rows, snapshot, deeper), (rows, borders, snapshot, deeper)


def test_a_user_key_is_never_in_two_tables(parts: Parts) -> None:
    """Rule 4 of job.py: a limit of one byte, and two hundred versions that a snapshot holds."""
    bench = Bench(parts, max_file_bytes=1)
    rows = [(key, 3 * number + at, b"v") for number in range(1, 201) for at, key in enumerate((b"a", b"b", b"c"))]
    files = bench.run(Job([[bench.table(rows)]], [], [], 0, NOW, NOW))
    assert [(file.first, file.last) for file in files] == [(b"a", b"a"), (b"b", b"b"), (b"c", b"c")]
    assert bench.rows(files) == sorted(rows, key=lambda row: (row[0], -row[1]))


def test_a_table_is_cut_at_the_size_limit(parts: Parts) -> None:
    """Rule 3 of job.py: a table goes on until a block passes the limit."""
    bench = Bench(parts, max_file_bytes=1_000)
    files = bench.run(
        Job([[bench.table([(b"%03d" % at, at + 1, b"v" * 80) for at in range(100)])]], [], [], NOW, NOW, NOW)
    )
    sizes = [file.size_bytes for file in files]
    assert len(files) > 5
    assert all(1_000 <= size < 2_500 for size in sizes[:-1]), sizes


def test_a_table_is_cut_before_it_overlaps_too_many_grandparents(parts: Parts) -> None:
    """Rule 3 of job.py, ShouldStopBefore: the next compaction of a table reads at most eleven files' size below."""
    bench = Bench(parts, max_file_bytes=10_000)
    grandparents = [(b"%03d" % at, 30_000) for at in range(0, 100, 5)]
    job = Job([[bench.table([(b"%03d" % at, at + 1, b"v") for at in range(100)])]], [], grandparents, NOW, NOW, NOW)
    files = bench.run(job)
    # four of them are 120,000 bytes, and 100,000 are the limit: cut after the row that passes a fourth one's end
    assert [file.first for file in files] == [b"000", b"017", b"037", b"057", b"077", b"097"]


def test_the_last_table_takes_everything(parts: Parts) -> None:
    """A worker has so many numbers and no more."""
    bench = Bench(parts, max_file_bytes=1)
    assert len(bench.writer(max_tables=3).write_all(Row.of(b"%d" % at, 1, b"") for at in range(9))) == 3


def random_history(rng: random.Random) -> Iterator[tuple[bytes, bytes | None]]:
    for number in range(400):
        yield b"%02d" % rng.randrange(40), None if rng.random() < 0.4 else b"%d" % number


def test_compacting_twice_is_compacting_once(parts: Parts, rng: random.Random) -> None:
    """What a compaction leaves, another one leaves alone."""
    bench = Bench(parts, max_file_bytes=300)
    rows = [(key, sequence, value) for sequence, (key, value) in enumerate(random_history(rng), 1)]
    once = bench.run(Job([[bench.table(rows[300:])], [bench.table(rows[:300])]], [], [], NOW, NOW, NOW))
    twice = bench.run(Job([once], [], [], NOW, NOW, NOW))
    assert bench.rows(once) == bench.rows(twice)
    assert bench.rows(once) == expected_rows(rows, NOW, set())
    assert {value for _, _, value in bench.rows(once)} & {None} == set()
