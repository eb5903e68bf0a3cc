"""The cost lines of docstrings, held to counters: comparisons, reads, bytes and calls, as n grows. No clock is looked at."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

import engines
import engines.lsm.block as block_module
import engines.lsm.bloom as bloom_module
from bench.workload import VALUE_BYTES, key_of
from engines import KVStore, WriteBatch
from engines.bitcask.record import encode_record
from engines.btree.node import Node
from engines.log import BLOCK_BYTES, LogWriter
from engines.lsm.block import Block, BlockBuilder
from engines.lsm.bloom import BlockedBloom, BlockedBloomBuilder
from engines.lsm.keys import Row, internal_key
from engines.lsm.merge import merge
from engines.lsm.skiplist import BRANCHING, SkipList
from engines.lsm.vector import Vector
from engines.simenv import SimEnv

PAIR_BYTES = len(key_of(0)) + VALUE_BYTES
FORMS = pytest.mark.parametrize("plain", [True, False], ids=["plain", "fast"])
compared = 0  # how often rows or keys that count were compared


def counting(base: type) -> Any:
    """A subclass whose comparisons are counted, whichever side an object of it stands on."""

    def counted(name: str) -> Callable[[Any, Any], Any]:
        compare = getattr(base, name)

        def method(self: Any, other: Any) -> Any:
            global compared
            compared += 1
            return compare(self, other)

        return method

    return type(
        f"Counted{base.__name__}", (base,), {name: counted(name) for name in ("__lt__", "__le__", "__gt__", "__ge__")}
    )


CountedRow, CountedKey = counting(Row), counting(bytes)


def comparisons(work: Callable[[Any], object], items: Iterable[Any]) -> int:
    """How many comparisons it takes to do the work on each of the items."""
    global compared
    compared = 0
    for item in items:
        work(item)
    return compared


def rows(numbers: Iterable[int]) -> Iterator[Row]:
    return (CountedRow(*Row.of(key_of(number), 1, b"v")) for number in numbers)


# ---- parts of the LSM tree -----------------------------------------------------------------------------------------------


def test_a_skiplist_searches_in_log_n_comparisons(rng: random.Random) -> None:
    """Four steps on each of log4(n) levels on average; so 16 times the rows cost two levels more, whatever n is."""
    averages = {}
    for count in (256, 4_096):
        rows_in_order = SkipList(random.Random(count))
        for number in rng.sample(range(count), count):
            rows_in_order.insert(Row.of(key_of(number), 1, b""))
        sought = list(rows(range(0, count, count // 128)))
        averages[count] = comparisons(rows_in_order.seek, sought) / len(sought)
        assert averages[count] <= BRANCHING * (math.log(count, BRANCHING) + 2), averages
    assert averages[4_096] - averages[256] < 5 * BRANCHING, f"two levels, and as many again for chance: {averages}"


def test_a_vector_compares_nothing_until_it_is_read() -> None:
    """An insertion is O(1); the first read sorts, n log2(n) comparisons at most, and the second finds it done."""
    vector = Vector()
    drawn = list(rows(random.Random(1).sample(range(1_024), 1_024)))
    assert comparisons(vector.insert, drawn) == 0
    first = Row.of(key_of(0), 1, b"")
    assert 1_023 < comparisons(lambda row: next(vector.ascend(row)), [first]) <= 1_024 * 10 + 11
    assert comparisons(lambda row: next(vector.ascend(row)), [first]) <= 11


@pytest.mark.parametrize("sources", [2, 16, 128])
def test_a_merge_takes_log_sources_comparisons_a_row(sources: int) -> None:
    """A heap sifts a row down and up again: 2 log2(sources) comparisons at most, and sources to begin with."""
    each = 50
    streams = [rows(range(at, sources * each, sources)) for at in range(sources)]
    taken = comparisons(lambda merged: list(merged), [merge(streams)])
    assert taken <= sources * each * 2 * max(1, math.log2(sources)) + 2 * sources
    assert taken >= sources * each - sources


def test_a_block_is_searched_in_log_runs_and_one_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """O(log n + restart interval) entries are decoded, and none beyond the one that was asked for."""
    decoded = 0
    decode = block_module.decode_lengths

    def counting(raw: bytes, at: int) -> tuple[int, int, int, int]:
        nonlocal decoded
        decoded += 1
        return decode(raw, at)

    monkeypatch.setattr(block_module, "decode_lengths", counting)
    for count in (64, 1_024):
        builder = BlockBuilder(16)
        keys = [internal_key(key_of(number), 1, 1) for number in range(count)]
        for key in keys:
            builder.add(key, b"v")
        block = Block(builder.finish())
        for key in keys[:: count // 32]:
            decoded = 0
            assert next(block.forward(key))[0] == key
            assert decoded <= math.ceil(math.log2(count / 16)) + 16 + 1


@pytest.mark.parametrize("count", [100, 20_000])
def test_a_bloom_probe_is_one_hash_and_two_patterns(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the number of keys; of an absent key the first pattern is most often enough."""
    builder = BlockedBloomBuilder(10)
    builder.add_all([key_of(number) for number in range(count)])
    bloom = BlockedBloom(builder.finish())
    calls = {"hash": 0, "pattern": 0}

    def counted(name: str, what: Callable[..., Any]) -> Callable[..., Any]:
        def call(*words: Any) -> Any:
            calls[name] += 1
            return what(*words)

        return call

    monkeypatch.setattr(bloom_module, "mmh3_x64_128_uintdigest", counted("hash", bloom_module.mmh3_x64_128_uintdigest))
    monkeypatch.setattr(bloom_module, "subset", counted("pattern", bloom_module.subset))
    assert all(bloom.may_contain(key_of(number)) for number in range(100))
    assert calls == {"hash": 100, "pattern": 200}
    calls |= {"hash": 0, "pattern": 0}
    assert sum(bloom.may_contain(b"no %d" % number) for number in range(100)) <= 5
    assert calls["hash"] == 100 and calls["pattern"] < 150


def test_a_log_record_is_one_append_of_its_bytes_and_seven() -> None:
    """A header of 7 bytes for each fragment: one for a record that stays in its block, one more for each block it goes on in."""
    written: list[bytes] = []

    class Sink:
        append = staticmethod(written.append)

    log = LogWriter(Sink())  # type: ignore[arg-type]
    for size in (0, 100, 10_000):
        log.append(bytes(size))
    assert [len(each) for each in written] == [7, 107, 10_007]
    log = LogWriter(Sink())  # type: ignore[arg-type]
    log.append(bytes(3 * BLOCK_BYTES))
    assert len(written) == 4 and len(written[-1]) == 3 * BLOCK_BYTES + 4 * 7


# ---- parts of the B+tree and the Bitcask -----------------------------------------------------------------------------------


@pytest.mark.parametrize("children", [2, 100, 5_000])
def test_a_branch_finds_its_child_in_log_n_comparisons(children: int) -> None:
    node = Node.branch([key_of(number) for number in range(children)], range(children))
    for number in range(0, children, max(1, children // 50)):
        assert comparisons(node.child_index, [CountedKey(key_of(number))]) <= math.ceil(math.log2(children)) + 1


@pytest.mark.parametrize("count", [100, 4_000])
def test_a_split_cuts_by_size_and_makes_no_more_pieces_than_the_pages_need(count: int) -> None:
    """O(n): each element is in one piece, and each piece but the last is filled to the share that was asked for."""
    node = Node.leaf([key_of(number) for number in range(count)], [b"v" * VALUE_BYTES] * count)
    pieces = node.split(4_096, 0.5)
    assert [key for piece in pieces for key in piece.keys] == node.keys
    assert len(pieces) <= node.size_bytes / (4_096 * 0.5 - 200) + 1


def test_a_bitcask_record_is_fourteen_bytes_and_the_pair() -> None:
    for key, value in ((b"k", b""), (key_of(1), b"v" * VALUE_BYTES), (b"k" * 300, b"v" * 70_000)):
        assert len(encode_record(1, key, value)) == 14 + len(key) + len(value)


# ---- whole engines ---------------------------------------------------------------------------------------------------------


def filled(engine: str, count: int, **options: Any) -> tuple[SimEnv, dict[str, Any]]:
    """A store with so many pairs, put in random order, compacted and closed."""
    env = SimEnv(count)
    with engines.open("/db", engine, env=env, **options) as store:
        numbers = random.Random(count).sample(range(count), count)
        for at in range(0, count, 500):
            batch = WriteBatch()
            for number in numbers[at : at + 500]:
                batch.put(key_of(number), b"%0100d" % number)
            store.write(batch)
        store.compact()
    return env, options


def reads(store: KVStore, keys: Iterable[bytes]) -> int:
    """What it takes to get all of these keys."""
    before = store.stats().reads
    store.multi_get(keys)
    return store.stats().reads - before


@FORMS
def test_a_get_of_a_compacted_lsm_reads_one_block(plain: bool) -> None:
    """Whatever n is: at most one block of each table that may have the key, and of one level there is one such table."""
    for count in (500, 4_000):
        env, options = filled("lsm", count, background=False, plain=plain, cache_bytes=0, max_file_bytes=1 << 16)
        with engines.open("/db", "lsm", env=env, **options) as store:
            store.get(key_of(0))  # opens tables
            wanted = [key_of(number) for number in range(0, count, count // 100)]
            reads(store, wanted)
            assert reads(store, wanted) == len(wanted)
            missing = [key_of(number) + b"." for number in range(0, count, count // 100)]
            assert reads(store, missing) <= 5, "filters deny what isn't there"


@FORMS
def test_a_get_of_a_btree_reads_a_page_for_each_level(plain: bool) -> None:
    """Without a cache; and the levels grow as the logarithm: 16 times the keys make two more with pages of 1 KiB."""
    depths = []
    for count in (250, 4_000):
        env, options = filled("btree", count, plain=plain, page_size=1_024, cache_bytes=0)
        with engines.open("/db", "btree", env=env, **options) as store:
            depths.append(store.stats().engine["depth"])
            wanted = random.Random(1).sample(range(count), 100)
            took = reads(store, map(key_of, wanted))
            assert 100 <= took <= 100 * depths[-1]
    assert depths[0] <= depths[1] <= depths[0] + 2


@FORMS
def test_a_put_into_a_btree_writes_a_page_for_each_level_and_two(plain: bool) -> None:
    """Copy-on-write: the way from the root to the leaf, the freelist and a meta page; twice the leaf if it is split."""
    for count in (250, 4_000):
        env, options = filled("btree", count, plain=plain, page_size=1_024, sync=True)
        with engines.open("/db", "btree", env=env, **options) as store:
            store.put(key_of(0), b"again")
            before = store.stats()
            for number in range(1, count, count // 50):
                store.put(key_of(number), b"%0100d" % 0)  # as large as before: nothing is split
            after = store.stats()
            each = (after.bytes_written - before.bytes_written) / len(range(1, count, count // 50)) / 1_024
            assert each <= after.engine["depth"] + 2 + 1, "the freelist may take a second page"


@FORMS
def test_a_bitcask_reads_one_record_for_a_get_and_appends_one_for_a_put(plain: bool) -> None:
    for count in (100, 3_000):
        env, options = filled("bitcask", count, plain=plain)
        with engines.open("/db", "bitcask", env=env, **options) as store:
            assert reads(store, map(key_of, range(100))) == 100
            assert reads(store, [b"no %d" % number for number in range(100)]) == 0
            store.put(b"first", b"")  # makes the segment
            before = store.stats().bytes_written
            for number in range(20):
                store.put(key_of(count + number), b"%0100d" % number)
            assert store.stats().bytes_written - before == 20 * (14 + PAIR_BYTES)
