"""Chapter 14: workloads as they are usual, and what they cost each engine, counted."""

from __future__ import annotations

import random
from collections import Counter
from itertools import pairwise
from typing import Any

import pytest

import engines
from bench.choosers import Latest, Uniform, Zipfian, zipf_table
from bench.counters import Costs, Run, difference, measure, ranked
from bench.workload import SCAN_PAIRS, Kind, Mix, Operation, apply, key_of, load, operations
from engines import KVStore, Stats
from engines.memory import MemoryStore
from engines.simenv import SimEnv

# so small that a few hundred puts fill memtables and make compactions
LSM: dict[str, Any] = {
    "write_buffer_bytes": 16_000,
    "block_bytes": 1_024,
    "max_file_bytes": 16_000,
    "level_base_bytes": 64_000,
    "background": False,
}
ENGINES: dict[str, dict[str, Any]] = {"lsm": LSM, "btree": {}, "bitcask": {}}
KEYS = 1_000
COUNT = 300
BELOW_ONE = 1 - 2**-53  # the greatest draw


def chi_square(found: Counter[int], shares: list[float], draws: int) -> float:
    """Pearson's sum of squared deviations; about as large as there are classes, if chance alone made them."""
    return sum((found[rank] - draws * share) ** 2 / (draws * share) for rank, share in enumerate(shares))


def opened(engine: str, env: SimEnv) -> KVStore:
    return engines.open("/db", engine, env=env, plain=True, **ENGINES[engine])


def costs_of(engine: str, mix: Mix) -> Costs:
    """What the mix costs on a store that was filled, closed and opened again, so that its caches are empty."""
    env, rng = SimEnv(14), random.Random(14)
    with opened(engine, env) as store:
        load(store, KEYS, rng)
    with opened(engine, env) as store:
        return Costs.of(measure(store, list(operations(mix, Uniform(KEYS), COUNT, rng, keys=KEYS))))


# ---- the choosers -----------------------------------------------------------------------------------------------------


def test_shares_fall_as_the_law_says() -> None:
    """With theta 1 and 4 keys the weights are 1, 1/2, 1/3 and 1/4: 12, 6, 4 and 3 parts of 25."""
    assert zipf_table(4, 1.0) == pytest.approx([12 / 25, 18 / 25, 22 / 25, 1.0])
    assert zipf_table(4, 0.0) == pytest.approx([0.25, 0.5, 0.75, 1.0]), "theta 0 is uniform"
    assert zipf_table(1, 0.99) == [1.0]


@pytest.mark.parametrize("count", [1, 7, 1_000, 12_345])
def test_no_draw_is_beyond_the_last_rank(count: int) -> None:
    """Sums of floats needn't end at 1; the table must."""
    table = zipf_table(count, 0.99)
    assert table[-1] == 1.0
    assert all(one <= other for one, other in pairwise(table)), "the table ascends"
    assert Zipfian(count, random.Random(1)).rank(BELOW_ONE) == count - 1


def test_a_draw_falls_on_the_first_rank_above_it() -> None:
    chooser = Zipfian(4, random.Random(1), 1.0)
    draws = [0.0, 0.479, 0.481, 0.719, 0.721, 0.879, 0.881, BELOW_ONE]
    assert [chooser.rank(draw) for draw in draws] == [0, 0, 1, 1, 2, 2, 3, 3]
    assert chooser.rank(chooser.table[1]) == 2, "a draw that is a number of the table belongs to the next rank"


def test_popular_keys_are_as_popular_as_the_law_says() -> None:
    """Chi-square over 50 keys and 20,000 draws, with a seed that is fixed: chance alone exceeds 85.4 once in 1,000 times."""
    rng = random.Random(2026)
    chooser = Zipfian(50, rng)
    rank_of = {key: rank for rank, key in enumerate(chooser.keys)}
    found = Counter(rank_of[chooser.next(rng)] for _ in range(20_000))
    shares = [(rank + 1) ** -0.99 for rank in range(50)]
    assert chi_square(found, [share / sum(shares) for share in shares], 20_000) < 85.4


def test_the_latest_keys_are_the_popular_ones() -> None:
    """Chi-square over the ages of 50 keys, while ten more are added."""
    rng = random.Random(2027)
    chooser = Latest(50, rng)
    found: Counter[int] = Counter()
    for number in range(20_000):
        if number % 2_000 == 1_999:
            chooser.grow()
        chosen = chooser.next(rng)
        assert 0 <= chosen < chooser.count
        found[chooser.count - 1 - chosen] += 1
    shares = [(rank + 1) ** -0.99 for rank in range(50)]
    assert chi_square(found, [share / sum(shares) for share in shares], 20_000) < 85.4


# ---- the workload -----------------------------------------------------------------------------------------------------


def test_a_mix_has_its_shares() -> None:
    mix = Mix(get=0.5, put=0.25, scan=0.25)
    draws = [0.0, 0.499, 0.5, 0.749, 0.75, BELOW_ONE]
    assert [mix.kind(draw) for draw in draws] == [Kind.GET, Kind.GET, Kind.PUT, Kind.PUT, Kind.SCAN, Kind.SCAN]


def test_a_kind_without_a_share_never_comes() -> None:
    """0.1 three times and 0.7 make less than 1 for a float: the greatest draw must not fall off the end."""
    assert Mix(put=1.0).kind(0.0) is Kind.PUT
    assert Mix(get=0.7, put=0.1, insert=0.1, delete=0.1).kind(BELOW_ONE) is Kind.DELETE
    assert Mix(get=1.0).kind(BELOW_ONE) is Kind.GET


def test_operations_are_done_to_the_store() -> None:
    store = MemoryStore(plain=True)
    for number in range(20):
        assert apply(store, Operation(Kind.INSERT, key_of(number), b"old")) == 0
    assert apply(store, Operation(Kind.PUT, key_of(3), b"new")) == 0
    assert store.get(key_of(3)) == b"new"
    assert apply(store, Operation(Kind.DELETE, key_of(4))) == 0
    assert store.get(key_of(4)) is None
    assert apply(store, Operation(Kind.GET, key_of(3))) == 1
    assert apply(store, Operation(Kind.GET, key_of(4))) == 0
    assert apply(store, Operation(Kind.SCAN, key_of(0))) == SCAN_PAIRS
    assert apply(store, Operation(Kind.SCAN, key_of(15))) == 5, "there are no more"


def test_a_scan_reads_no_more_than_it_asks_for() -> None:
    """A Bitcask reads one record for each pair, so a scan that fetched a pair too many would be seen."""
    assert costs_of("bitcask", Mix(scan=1.0)).reads <= SCAN_PAIRS


# ---- the arithmetic ---------------------------------------------------------------------------------------------------


def test_a_run_is_what_was_counted_between_two_looks() -> None:
    before = Stats(user_bytes=5, bytes_written=10, bytes_read=100, reads=7, fsyncs=2)
    after = Stats(user_bytes=45, bytes_written=90, bytes_read=400, reads=10, fsyncs=6)
    assert difference(before, after, 4, 9) == Run(4, 9, 40, 80, 300, 3, 4)
    assert before.reads == 7, "the looks are not changed"


def test_costs_are_averages_of_a_run() -> None:
    costs = Costs.of(Run(4, 9, 40, 80, 300, 3, 4))
    assert costs == Costs(reads=0.75, bytes_read=75.0, bytes_written=20.0, fsyncs=1.0, write_amplification=2.0)
    assert Costs.of(Run(0, 0, 0, 0, 0, 0, 0)) == Costs(0.0, 0.0, 0.0, 0.0, 0.0), "nothing costs nothing"
    assert Costs.of(Run(2, 2, 0, 0, 8, 2, 0)).write_amplification == 0.0, "a run of gets amplifies no write"


def test_the_cheapest_comes_first() -> None:
    costs = {"b": Costs(2, 1, 0, 0, 0), "c": Costs(1, 5, 0, 0, 0), "a": Costs(2, 0, 0, 0, 0)}
    assert ranked(costs, "reads") == ["c", "a", "b"]
    assert ranked(costs, "bytes_read") == ["a", "b", "c"]
    with pytest.raises(ValueError, match="colour"):
        ranked(costs, "colour")


# ---- the engines ------------------------------------------------------------------------------------------------------


def test_a_get_of_the_bitcask_is_one_read() -> None:
    assert costs_of("bitcask", Mix(get=1.0)).reads == 1.0


def test_a_scan_is_cheapest_in_the_btree() -> None:
    """A leaf has the next ten pairs; the Bitcask goes to ten places for them."""
    costs = {engine: costs_of(engine, Mix(scan=1.0)) for engine in ENGINES}
    assert ranked(costs, "reads") == ["btree", "lsm", "bitcask"], costs
    assert costs["bitcask"].reads > SCAN_PAIRS - 1


def test_a_put_writes_least_in_the_bitcask_and_most_in_the_btree() -> None:
    """The B+tree writes every page from the root to the leaf, and a meta page; the LSM's bytes include compactions."""
    costs = {engine: costs_of(engine, Mix(put=1.0)) for engine in ENGINES}
    assert ranked(costs, "bytes_written") == ["bitcask", "lsm", "btree"], costs
    depth = 2  # of 1,000 keys with 100 bytes in pages of 4,096
    assert costs["btree"].bytes_written >= (depth + 1) * 4_096
    assert costs["lsm"].write_amplification > 3, "a memtable's log, its table, and compactions"


def test_each_acknowledged_put_was_synced() -> None:
    """The logs sync once for each; the B+tree twice, first the pages and then the meta page that makes them count."""
    for engine, least, most in (("bitcask", 1.0, 1.05), ("lsm", 1.0, 1.2), ("btree", 2.0, 2.05)):
        assert least <= costs_of(engine, Mix(put=1.0)).fsyncs <= most, engine
