"""What one part of an engine takes, apart from all others: an insertion into a skiplist, a page's encoding, a probe of a filter.

    make bench                          all parts, in one table, with what was measured
    make bench-compare                  the same, beside the last saved run
    make bench ARGS="-k skiplist"

Whole engines are `metcd bench`'s matter. A part is measured in its plain form, which is what its cost line is about
(tests/bench/test_costs.py holds these to counters); where an acceleration has a name of its own, that stands beside it.

A round does one fixed list of operations on fresh objects, so that each round is the same work. Keys have 16 bytes, values
100. In the fast tier each body runs once, on a few keys, as a test of the benchmark.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.workload import VALUE_BYTES, key_of
from engines.bitcask.hint import decode_hint
from engines.bitcask.keydir import Keydir
from engines.bitcask.record import decode_record, encode_record
from engines.bitcask.scan import hint_of
from engines.bitcask.segment import Segment
from engines.btree import BTreeStore
from engines.btree.freelist import Freelist
from engines.btree.node import Node
from engines.btree.page import LEAF, with_trailer
from engines.env import File, real_env
from engines.log import LogWriter
from engines.lsm.block import Block, BlockBuilder
from engines.lsm.bloom import BlockedBloom, BlockedBloomBuilder
from engines.lsm.fast import FAST
from engines.lsm.keys import ABSENT, Row, internal_key
from engines.lsm.memtable import MemTable
from engines.lsm.merge import merge
from engines.lsm.options import Options
from engines.lsm.parts import PLAIN
from engines.lsm.skiplist import SkipList
from engines.simenv import SimEnv
from tests.lsm.tables import build, opened

ROUNDS = 9
MEMTABLES = pytest.mark.parametrize(
    ("parts", "kind"), [(PLAIN, "skiplist"), (FAST, "skiplist"), (FAST, "sorted")], ids=["plain", "fast", "sorted"]
)
TABLES = pytest.mark.parametrize("parts", [PLAIN, FAST], ids=["plain", "fast"])


class Part:
    """One measurement. `count`: of the operations of a round; few, if this is a test of the benchmark."""

    def __init__(self, benchmark: BenchmarkFixture) -> None:
        self.benchmark = benchmark
        self.count = 10_000 if benchmark.enabled else 60
        self.rng = random.Random(0)  # the same work in every run, or there is nothing to compare
        self.keys = [key_of(number) for number in range(self.count)]
        self.shuffled = self.rng.sample(self.keys, self.count)
        self.values = [self.rng.randbytes(VALUE_BYTES) for _ in range(self.count)]

    def __call__(
        self, what: str, body: Callable[..., Any], *, setup: Callable[[], tuple[Any, ...]] | None = None
    ) -> Any:
        """Measures the body, which does `count` operations on what `setup` makes; returns what its last round returned."""
        self.benchmark.extra_info.update(what=what, operations=self.count)
        made = None if setup is None else lambda: (setup(), {})
        return self.benchmark.pedantic(body, setup=made, rounds=ROUNDS, iterations=1, warmup_rounds=1)


@pytest.fixture
def part(benchmark: BenchmarkFixture) -> Part:
    return Part(benchmark)


# ---- lsm ----------------------------------------------------------------------------------------------------------------


def test_skiplist_insert(part: Part) -> None:
    rows = [Row.of(key, number, b"v") for number, key in enumerate(part.shuffled)]

    def body(skiplist: SkipList) -> SkipList:
        for row in rows:
            skiplist.insert(row)
        return skiplist

    filled = part(f"{part.count:,} rows in random order, into an empty list", body, setup=lambda: (SkipList(part.rng),))
    assert len(filled) == part.count


@MEMTABLES
def test_memtable_add(part: Part, parts: Any, kind: str) -> None:
    """A put's second half; the first is the log's record."""

    def body(table: MemTable) -> MemTable:
        for number, (key, value) in enumerate(zip(part.shuffled, part.values), 1):
            table.add(number, key, value)
        return table

    filled = part(
        f"{part.count:,} pairs in random order, into an empty memtable ({kind})",
        body,
        setup=lambda: (parts.new_memtable(kind, part.rng, 0),),
    )
    assert len(filled) == part.count


@MEMTABLES
def test_memtable_get(part: Part, parts: Any, kind: str) -> None:
    table = parts.new_memtable(kind, part.rng, 0)
    for number, (key, value) in enumerate(zip(part.shuffled, part.values), 1):
        table.add(number, key, value)

    def body() -> int:
        return sum(table.get(key, part.count) is not None for key in part.keys)

    assert part(f"each of {part.count:,} keys in a memtable ({kind}), in order", body) == part.count


def test_block_encode(part: Part) -> None:
    keys = [internal_key(key, 1, 1) for key in part.keys]

    def body() -> int:
        builder, blocks = BlockBuilder(16), 0
        for key, value in zip(keys, part.values):
            builder.add(key, value)
            if builder.size_bytes >= 4_096:
                blocks += len(builder.finish()) > 0
                builder.reset()
        return blocks

    assert part(f"{part.count:,} entries in order, into blocks of 4 KiB", body) >= part.count // 40


def _block(part: Part) -> tuple[Block, list[bytes]]:
    builder = BlockBuilder(16)
    keys = [internal_key(key, 1, 1) for key in part.keys[:40]]
    for key, value in zip(keys, part.values):
        builder.add(key, value)
    return Block(builder.finish()), keys


def test_block_decode(part: Part) -> None:
    block, keys = _block(part)

    def body() -> int:
        return sum(1 for _ in range(part.count // len(keys)) for _ in block.entries())

    assert 0 < part("an entry, of all 40 in a block of 4 KiB, in order", body) <= part.count


def test_block_seek(part: Part) -> None:
    block, keys = _block(part)
    sought = part.rng.choices(keys, k=part.count)

    def body() -> int:
        return sum(next(block.forward(key))[0] == key for key in sought)

    assert part("a key of a block of 4 KiB with 40 entries", body) == part.count


@TABLES
def test_table_build(part: Part, parts: Any) -> None:
    """What a flush and a compaction do with each row, without a disk."""
    rows = [Row.of(key, number, value) for number, (key, value) in enumerate(zip(part.keys, part.values), 1)]

    def body() -> int:
        env = SimEnv(0)
        env.makedirs("/db", "bench")
        options = Options(max_file_bytes=1 << 30)
        (file,) = parts.table_writer(env, "/db", options, part.count, iter([1]), "bench", min_sequence=1).write_all(
            rows
        )
        return int(file.statistics.entries)

    assert part(f"{part.count:,} rows in order, into one table", body) == part.count


@TABLES
@pytest.mark.parametrize("cache_bytes", [0, 1 << 26], ids=["cold", "cached"])
def test_table_get(part: Part, parts: Any, cache_bytes: int) -> None:
    env = SimEnv(0)
    build(env, [(key, number, value) for number, (key, value) in enumerate(zip(part.keys, part.values), 1)])
    table = opened(env, cache_bytes=cache_bytes, table=parts.table)

    def body() -> int:
        return sum(table.get(key, part.count) is not ABSENT for key in part.shuffled)

    where = "each block in the cache" if cache_bytes else "each block read again"
    assert part(f"each of {part.count:,} keys in one table, in random order, {where}", body) == part.count


def test_bloom_build(part: Part) -> None:
    def body() -> bytes:
        builder = BlockedBloomBuilder(10)
        builder.add_all(part.shuffled)
        return builder.finish()

    assert len(part(f"a filter of {part.count:,} keys, 10 bits for each", body)) >= part.count * 10 // 8


@pytest.mark.parametrize("there", [True, False], ids=["hit", "miss"])
def test_bloom_probe(part: Part, there: bool) -> None:
    builder = BlockedBloomBuilder(10)
    builder.add_all(part.keys)
    bloom = BlockedBloom(builder.finish())
    sought = part.shuffled if there else [b"no " + key for key in part.shuffled]

    def body() -> int:
        return sum(bloom.may_contain(key) for key in sought)

    found = part(f"a key that is {'' if there else 'not '}in a filter of {part.count:,}", body)
    assert found == part.count if there else found < part.count / 10


def test_merge(part: Part) -> None:
    rows = [Row.of(key, 1, b"v") for key in part.keys]

    def body() -> int:
        return sum(1 for _ in merge([iter(rows[at::8]) for at in range(8)]))

    assert part("a row of the merge of 8 sources", body) == part.count


# ---- btree --------------------------------------------------------------------------------------------------------------


def _leaf(part: Part, count: int = 30) -> Node:
    return Node.leaf(part.keys[:count], part.values[:count])


def _page(node: Node) -> bytes:
    page, _ = with_trailer(7, LEAF, len(node.keys), node.body(), 1, 4_096)
    return page


def test_page_encode(part: Part) -> None:
    node = _leaf(part)

    def body() -> int:
        return sum(len(_page(node)) == 4_096 for _ in range(part.count))

    assert part("a leaf of 4 KiB with 30 pairs, with its checksum", body) == part.count


def test_page_decode(part: Part) -> None:
    page = _page(_leaf(part))

    def body() -> int:
        return sum(len(Node.decode(page, 4_096).keys) == 30 for _ in range(part.count))

    assert part("a leaf of 4 KiB with 30 pairs, checksum verified", body) == part.count


def test_page_split(part: Part) -> None:
    node = _leaf(part, 31)
    assert not node.fits(4_096)

    def body() -> int:
        return sum(len(node.split(4_096, 0.5)) for _ in range(part.count))

    assert part("a leaf of 31 pairs, too large for a page of 4 KiB, in two", body) == 2 * part.count


def test_branch_child(part: Part) -> None:
    node = Node.branch(part.keys[:100], range(len(part.keys[:100])))

    def body() -> int:
        return sum(node.child_index(key) for key in part.shuffled)

    assert part("a key's child in a branch of 100", body) > 0


def test_freelist_allocate(part: Part) -> None:
    def body(freelist: Freelist) -> int:
        return sum(freelist.allocate(1) > 0 for _ in range(part.count))

    free = range(2, part.count + 2)
    assert part("a page, while some are free", body, setup=lambda: (Freelist(free, part.count + 2),)) == part.count


@pytest.mark.parametrize("plain", [True, False], ids=["plain", "fast"])
def test_btree_commit(part: Part, tmp_path: Path, plain: bool) -> None:
    pairs = [(key, part.values[number]) for number, key in enumerate(part.shuffled)]
    with BTreeStore(tmp_path / "db", sync=False, plain=plain) as store:

        def body() -> int:
            for key, value in pairs:
                store.put(key, value)
            return len(pairs)

        assert part("a put that is a commit of its own, unsynced", body) == part.count


# ---- bitcask, and the log ---------------------------------------------------------------------------------------------------


def test_record_encode(part: Part) -> None:
    def body() -> int:
        return sum(len(encode_record(1, key, value)) for key, value in zip(part.keys, part.values))

    assert part("a record of 130 bytes, with its checksum", body) == 130 * part.count


def test_record_decode(part: Part) -> None:
    record = encode_record(1, part.keys[0], part.values[0])

    def body() -> int:
        return sum(decode_record(record, 0) is not None for _ in range(part.count))

    assert part("a record of 130 bytes, checksum verified", body) == part.count


def test_hint_encode(part: Part) -> None:
    entries = [(1, 130, number * 130, key) for number, key in enumerate(part.shuffled)]

    def body() -> bytes:
        return hint_of(entries)

    hint = part("an entry of a hint, from those of a segment in random order", body)
    assert [key for _, _, _, key in decode_hint(hint)] == part.keys


def test_hint_decode(part: Part) -> None:
    hint = hint_of((1, 130, number * 130, key) for number, key in enumerate(part.shuffled))

    def body() -> int:
        return sum(1 for _ in decode_hint(hint))

    assert part("an entry of a hint, its checksum verified", body) == part.count


def test_keydir_load(part: Part) -> None:
    """An opening's last step: what hints say, brought into memory."""
    entries = [(1, 130, number * 130, key) for number, key in enumerate(part.keys)]

    def body(keydir: Keydir, segment: Segment) -> Keydir:
        keydir.load(segment, entries, {1: segment})
        return keydir

    found = part("a hint's entry, into an empty keydir", body, setup=lambda: (Keydir(), Segment(1)))
    assert len(found.places) == part.count


def test_keydir_apply(part: Part) -> None:
    def body(keydir: Keydir) -> Keydir:
        for number, key in enumerate(part.shuffled):
            keydir.apply({key: number}, ())
        return keydir

    assert len(part("a key's place, without an open snapshot", body, setup=lambda: (Keydir(),)).places) == part.count


def test_record_append(part: Part, tmp_path: Path) -> None:
    """A record of LevelDB's log format, which the LSM tree and the Raft log write."""
    payload = b"p" * 130
    files: list[File] = []

    def setup() -> tuple[LogWriter]:
        files.append(real_env().open(str(tmp_path / str(len(files))), "x"))
        return (LogWriter(files[-1]),)

    def body(log: LogWriter) -> int:
        for _ in range(part.count):
            log.append(payload)
        return log.offset

    assert part("a record of 130 bytes to a file, one call each, not synced", body, setup=setup) >= 137 * part.count
    for file in files:
        file.close()
