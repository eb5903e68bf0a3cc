"""engines/lsm/fast: the accelerations give the same answers and the same bytes as what they stand in for."""

from __future__ import annotations

import random
from bisect import bisect_left
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import fields, replace
from itertools import islice
from operator import methodcaller
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.coding import DecodeError
from engines.kvstore import Snapshot
from engines.lsm.block import Block, BlockBuilder
from engines.lsm.bloom import BlockedBloom, BlockedBloomBuilder
from engines.lsm.cache import NoBlockCache
from engines.lsm.fast import FAST
from engines.lsm.fast.block import DecodedBlock, SimpleBlock, TouchedBlock, decode_simple, find
from engines.lsm.fast.bloom import FastBloom
from engines.lsm.fast.chunks import LEAST, Chunk, Rows, grown, merge_chunks, merge_rows, whole_keys
from engines.lsm.fast.sstable import EAGER, PATIENCE, FastTable, decode_handles
from engines.lsm.keys import DELETION, VALUE, internal_key, order
from engines.lsm.parts import PLAIN, Parts
from engines.lsm.sstable import Table, decode_handle, encode_handle
from engines.lsm.store import LsmStore
from engines.simenv import SimEnv
from tests.lsm.tables import History, build, opened


class PlainStore(LsmStore):
    """Without accelerations, whatever METCD_PLAIN says."""

    parts = PLAIN


class FastStore(LsmStore):
    """With all of them."""

    parts = FAST


SMALL: dict[str, Any] = {
    "write_buffer_bytes": 3_000,
    "max_file_bytes": 2_000,
    "block_bytes": 200,
    "level_base_bytes": 8_000,
    "sync": False,
    "background": False,
}


@pytest.mark.parametrize("memtable", ["skiplist", "sorted"])
def test_the_same_operations_make_the_same_files_and_answers(memtable: str, rng: random.Random) -> None:
    """Writes, flushes, compactions, snapshots, a load and a reopen, in two stores side by side."""
    envs = SimEnv(0), SimEnv(0)
    stores: list[LsmStore] = []

    def reopen() -> None:
        for store in stores:
            store.close()
        kinds = (PlainStore, FastStore)
        stores[:] = [kind("/db", env=env, memtable=memtable, **SMALL) for kind, env in zip(kinds, envs)]
        # A compaction writes the bounds that its inputs are known to have, and the two forms may open them at other reads.
        for store in stores:
            for _, file in store.core.versions.current.files():
                store.core.tables.get(file)

    def both(ask: Callable[[Any], Any]) -> Any:
        one, two = (ask(store) for store in stores)
        assert one == two
        return one

    reopen()
    snapshots: list[list[Snapshot]] = []
    for step in range(2_500):
        key = b"%03d" % rng.randrange(200)
        choice = rng.random()
        if choice < 0.5:
            both(methodcaller("put", key, b"%d" % step * rng.randrange(12)))
        elif choice < 0.75:
            both(methodcaller("delete", key))
        elif choice < 0.85:
            reader, start, stop = (
                rng.randrange(len(snapshots) + 1),
                b"%03d" % rng.randrange(200),
                b"%03d" % rng.randrange(200),
            )
            reverse = rng.random() < 0.5
            pairs = [list(islice(each.scan(start, stop, reverse=reverse), 30)) for each in [*snapshots, stores][reader]]
            assert pairs[0] == pairs[1]
            values = [each.get(key) for each in [*snapshots, stores][reader]]
            assert values[0] == values[1]
        elif choice < 0.87:
            snapshots.append([store.snapshot() for store in stores])
            if len(snapshots) > 3:
                for snapshot in snapshots.pop(rng.randrange(3)):
                    snapshot.close()
        elif choice < 0.88:
            both(rng.choice((LsmStore.flush, LsmStore.compact)))
        elif choice < 0.882:
            content = both(lambda store: list(store.scan()))
            both(methodcaller("load", content[::2]))
        elif choice < 0.884:
            for pair in snapshots:
                for snapshot in pair:
                    snapshot.close()
            snapshots.clear()
            reopen()
    both(lambda store: (list(store.scan()), list(store.scan(reverse=True)), store.check()))
    both(lambda store: [[file.number for file in files] for files in store.core.versions.current.levels])
    for store in stores:
        store.close()
    assert envs[0].files() == envs[1].files()


@pytest.mark.parametrize("is_seen", [False, True])
def test_a_flush_of_few_keys_leaves_out_the_same_older_versions(is_seen: bool) -> None:
    """What a snapshot sees is kept, and so is each key's newest version, also a deletion."""
    envs = SimEnv(0), SimEnv(0)
    for kind, env in zip((PlainStore, FastStore), envs):
        with kind("/db", env=env, sync=False, background=False) as store:
            for number in range(700):
                store.put(b"%03d" % (number * 37 % 500), b"%d" % number)
            snapshot = store.snapshot()
            for number in range(300):
                store.delete(b"%03d" % number) if number % 3 else store.put(b"%03d" % number, b"new")
            if not is_seen:
                snapshot.close()
            store.flush()
            [(_, file)] = store.core.versions.current.files()
            statistics = store.core.tables.get(file).statistics
            assert statistics is not None and (statistics.entries, statistics.deletions) == (
                800 if is_seen else 500,
                200,
            )
            if is_seen:
                snapshot.close()
    assert envs[0].files() == envs[1].files()


class UnfilteredTable(Table):
    """A table as it is before there are filters."""

    def may_contain(self, key: bytes) -> bool:
        return True


CUTS = {
    f"only {field.name} is fast": replace(PLAIN, **{field.name: getattr(FAST, field.name)}) for field in fields(Parts)
}
CUTS |= {f"all but {field.name}": replace(FAST, **{field.name: getattr(PLAIN, field.name)}) for field in fields(Parts)}
CUTS |= {
    "without a cache": replace(PLAIN, block_cache=NoBlockCache),
    "without filters": replace(PLAIN, table=UnfilteredTable),
    "fast without a cache": replace(FAST, block_cache=NoBlockCache),
}


@pytest.mark.parametrize("name", CUTS)
def test_a_store_works_with_any_choice_of_parts(name: str, rng: random.Random) -> None:
    """Each acceleration without the others, all without each one, and a store that has no cache or filter yet."""

    class Store(LsmStore):
        parts = CUTS[name]

    model: dict[bytes, bytes] = {}
    with Store("/db", env=SimEnv(0), **SMALL) as store:
        for step in range(1_200):
            key = b"%02d" % rng.randrange(80)
            if rng.random() < 0.3:
                store.delete(key)
                model.pop(key, None)
            else:
                model[key] = b"%d" % step
                store.put(key, model[key])
        assert dict(store.scan()) == model
        assert list(store.scan(reverse=True)) == sorted(model.items(), reverse=True)
        assert all(store.get(key) == value for key, value in model.items())
        store.compact()
        assert dict(store.scan()) == model and store.check() == []


SOURCE = st.dictionaries(st.binary(max_size=2), st.none() | st.binary(max_size=1), max_size=25)


def in_chunks(pairs: list[tuple[bytes, bytes | None]], sizes: random.Random) -> Iterator[Chunk]:
    """The pairs, in lists of chance's length."""
    at = 0
    while at < len(pairs):
        part = pairs[at : at + sizes.randint(1, 6)]
        at += len(part)
        yield [key for key, _ in part], [value for _, value in part]


@given(st.lists(SOURCE, max_size=5), st.booleans(), st.integers())
def test_a_merge_is_a_dict_laid_over_dicts(
    sources: list[dict[bytes, bytes | None]], reverse: bool, chance: int
) -> None:
    """Rules 1 to 3, in both directions: newest first, each key once, in order, tombstones included."""
    expected: dict[bytes, bytes | None] = {}
    for source in reversed(sources):
        expected |= source
    sizes = random.Random(chance)
    chunks = [in_chunks(sorted(source.items(), reverse=reverse), sizes) for source in sources]
    merged = [pair for keys, values in merge_chunks(chunks, reverse) for pair in zip(keys, values, strict=True)]
    assert merged == sorted(expected.items(), reverse=reverse)


@given(SOURCE, st.integers())
def test_chunks_that_grow_hold_the_same_pairs(source: dict[bytes, bytes | None], chance: int) -> None:
    """In order, none of them empty."""
    chunks = list(grown(in_chunks(sorted(source.items()) * 9, random.Random(chance))))
    assert [pair for keys, values in chunks for pair in zip(keys, values, strict=True)] == sorted(source.items()) * 9
    assert all(len(keys) >= LEAST for keys, _ in chunks[:-1]) and all(keys for keys, _ in chunks)


def test_a_source_that_nobody_meets_is_passed_on_as_it_is() -> None:
    """The rule for compacted data: the lists of the cache, without a copy."""
    low, high = ([b"a", b"b"], [b"1", b"2"]), ([b"x", b"y"], [b"3", b"4"])
    merged = list(merge_chunks([iter([high]), iter([low])], False))
    assert merged[0][0] is low[0]
    assert merged[1][0] is high[0] or merged[1][0] == high[0]


@given(st.lists(st.lists(st.tuples(st.binary(max_size=1), st.integers(1, 9)), max_size=30), max_size=4), st.integers())
def test_rounds_of_a_compaction_hold_whole_keys(runs: list[list[tuple[bytes, int]]], chance: int) -> None:
    """merge_rows over whole_keys: every row once, a user key in one round, rounds in order, pieces newest source first."""
    sizes = random.Random(chance)

    def chunks(run: list[tuple[bytes, int]], source: int) -> Iterator[Rows]:
        rows = sorted(((key, internal_key(key, at, VALUE)) for key, at in set(run)), key=lambda row: order(row[1]))
        while rows:
            size = sizes.randint(1, 5)
            part, rows = rows[:size], rows[size:]
            yield [key for key, _ in part], [stored for _, stored in part], [b"%d" % source] * len(part)

    seen: list[bytes] = []
    keys_before: set[bytes] = set()
    for pieces in merge_rows([whole_keys(chunks(run, number)) for number, run in enumerate(runs)]):
        keys = {key for piece in pieces for key in piece[0]}
        assert not keys_before or min(keys) > max(keys_before)
        assert [piece[2][0] for piece in pieces] == sorted(piece[2][0] for piece in pieces)
        keys_before = keys
        seen += [stored for piece in pieces for stored in piece[1]]
    assert sorted(seen) == sorted(internal_key(key, at, VALUE) for run in runs for key, at in set(run))


def chunks(table: Table, *asked: Any) -> list[Chunk]:
    assert isinstance(table, FastTable)
    return list(table.chunks(*asked))


def test_a_block_is_read_once_and_decoded_when_it_is_asked_again() -> None:
    """Most blocks that a get reads in a store larger than its cache are never asked again."""
    env = SimEnv()
    build(env, [(b"a", 1, b"1"), (b"b", 2, b"2")])
    table = opened(env, table=FastTable)
    counters, before = table.counters, table.counters.blocks_read
    for kept in (TouchedBlock, TouchedBlock, SimpleBlock, SimpleBlock):
        assert table.get(b"b", 9) == b"2"
        assert type(table.cache.find(table.first_key)) is kept
    assert (counters.blocks_read - before, counters.cache_misses, counters.block_lookups) == (1, 1, 4)


VERSION = st.tuples(st.binary(min_size=1, max_size=2), st.integers(1, 9), st.none() | st.binary(max_size=200))
HISTORY = st.lists(VERSION, min_size=1, max_size=60, unique_by=lambda version: version[:2])


@given(HISTORY, st.binary(min_size=1, max_size=2), st.integers(0, 10))
def test_a_block_that_is_not_decoded_gives_the_same_answer(history: History, key: bytes, sequence: int) -> None:
    """`find` in the bytes, and Table.get: tombstones, many versions of a key, long values, keys that aren't there."""
    answers = []
    for kind in (Table, FastTable):
        env = SimEnv()
        build(env, history)
        table = opened(env, table=kind)
        answers.append([table.get(each, sequence) for each in (key, *(version[0] for version in history))])
    assert answers[0] == answers[1]


@given(st.integers(0, 400), st.integers(0, 255))
def test_a_damaged_block_that_is_not_decoded_is_no_crash(at: int, byte: int) -> None:
    """Whatever a byte is changed to, `find` answers or raises DecodeError."""
    builder = BlockBuilder(4)
    for number in range(20):
        builder.add(internal_key(b"%03d" % number, 5, VALUE), b"v" * number)
    raw = bytearray(builder.finish())
    raw[at % len(raw)] = byte
    with suppress(DecodeError):
        block = Block(bytes(raw))
        for number in range(20):
            find(block, b"%03d" % number, 9)


@given(st.lists(st.tuples(st.integers(0, 1 << 22), st.integers(0, 1 << 15)), max_size=9), st.binary(max_size=6))
def test_the_handles_of_an_index_are_decoded_alike(handles: list[tuple[int, int]], damage: bytes) -> None:
    """Those of three and two bytes together, any others one by one; and damage is seen."""
    stored = [encode_handle(*handle) for handle in handles]
    assert decode_handles(stored) == handles
    stored.insert(len(stored) // 2, damage)
    answers = []
    for decode in (decode_handles, lambda each: list(map(decode_handle, each))):
        try:
            answers.append(decode(stored))
        except DecodeError as error:
            answers.append(str(error))
    assert answers[0] == answers[1]


@given(st.lists(st.binary(min_size=1, max_size=20), min_size=1, max_size=300, unique=True), st.binary(max_size=20))
def test_one_probe_asks_a_filter_as_the_plain_one_does(keys: list[bytes], other: bytes) -> None:
    """Keys that are there, and others."""
    builder = BlockedBloomBuilder(10)
    builder.add_all(keys)
    raw = builder.finish()
    plain, fast = BlockedBloom(raw), FastBloom(raw)
    for key in (*keys, other, *(key + b"." for key in keys)):
        assert fast.may_contain(key) == plain.may_contain(key)


@given(HISTORY)
def test_a_simple_block_is_a_decoded_one_without_its_trailers(history: History) -> None:
    """If no two user keys in a row are equal; otherwise it is left to the other form."""
    builder = BlockBuilder(4)
    for key, sequence, value in sorted(history, key=lambda version: (version[0], -version[1])):
        builder.add(internal_key(key, sequence, DELETION if value is None else VALUE), value or b"")
    raw = builder.finish()
    decoded, both = DecodedBlock(raw), decode_simple(raw, Block(raw).end)
    assert both is None or both == (decoded.keys, decoded.values)
    assert both is None or len(set(decoded.keys)) == len(decoded.keys)


def test_an_old_snapshot_reads_a_simple_table_with_its_trailers() -> None:
    """The dict of a block doesn't have them, so the block is read again, and both forms answer."""
    env = SimEnv()
    build(env, [(b"%03d" % at, at + 1, b"v") for at in range(300)])
    plain, fast = opened(env, table=Table), opened(env, table=FastTable)
    for sequence in (300, 300, 300, 7, 300, 7, 0):
        for key in (b"000", b"006", b"007", b"299"):
            assert fast.get(key, sequence) == plain.get(key, sequence)
        assert [key for keys, _ in chunks(fast, b"", None, sequence, False) for key in keys] == [
            row.key for row in plain.rows() if row.sequence <= sequence
        ]


def test_a_full_cache_decodes_what_is_asked_often() -> None:
    """A block that was asked a few times only would be gone before the decoding has paid."""
    env = SimEnv()
    build(env, [(b"%05d" % at, at + 1, b"v" * 90) for at in range(400)])
    for capacity, decoded in ((10_000, PATIENCE), (1 << 20, EAGER)):
        table = opened(env, table=FastTable, cache_bytes=capacity)
        for ask in range(1, PATIENCE + 1):
            assert table.get(b"00000", 999) == b"v" * 90
            assert type(table.cache.find(table.first_key)) is (SimpleBlock if ask >= decoded else TouchedBlock)


@pytest.mark.parametrize("levels", ["level 0", "two levels", "all"])
def test_a_short_scan_begins_anywhere(levels: str, rng: random.Random) -> None:
    """The first chunk is made without the tables' generators: with each bound, over tables that overlap, and whose blocks end."""
    options = SMALL | {"level0_files": 1_000, "level0_slowdown_files": 1_000, "level0_stop_files": 1_000}
    model: dict[bytes, bytes] = {}
    with FastStore("/db", env=SimEnv(0), **options) as store:
        for part in range(4):
            for _ in range(200):
                key = b"%04d" % rng.randrange(1_000)
                if levels == "all" and part == 3 and rng.random() < 0.1:  # a table with tombstones is not simple
                    store.delete(key)
                    model.pop(key, None)
                else:
                    model[key] = b"%d" % part
                    store.put(key, model[key])
            if levels != "all" or part < 3:
                store.flush()
            if levels != "level 0" and part < 2:
                store.compact()
        keys = sorted(model)
        for _ in range(300):
            start, size = b"%04d" % rng.randrange(1_001), rng.choice((1, 2, 10, 40))
            near = keys[min(bisect_left(keys, start) + rng.randrange(20), len(keys) - 1)]
            stop = rng.choice((None, b"%04d" % rng.randrange(1_001), start + b"0", near, near + b"0"))
            expected = sorted(pair for pair in model.items() if start <= pair[0] and (stop is None or pair[0] < stop))
            assert list(islice(store.scan(start, stop), size)) == expected[:size], (start, stop)


def test_a_scan_reads_ahead_and_stops_in_time() -> None:
    """Many blocks with one read; none after the bound."""
    env = SimEnv()
    build(env, [(b"%05d" % at, at + 1, b"v" * 90) for at in range(4_000)])
    table = opened(env, table=FastTable)
    blocks, reads, counted = table.blocks, env.reads, table.counters.blocks_read
    assert sum(len(keys) for keys, _ in chunks(table, b"", None, 9_999, False)) == 4_000
    assert env.reads - reads < blocks / 10
    assert table.counters.blocks_read - counted == blocks > 80
    table = opened(env, table=FastTable)
    counted = table.counters.blocks_read
    assert len(chunks(table, b"00001", b"00009", 9_999, False)) == 1
    assert table.counters.blocks_read - counted <= 2
