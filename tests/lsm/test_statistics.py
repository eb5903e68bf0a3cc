"""engines/lsm/statistics.py: what a table says about itself, and what all tables count."""

from __future__ import annotations

import pytest

from engines.coding import DecodeError
from engines.kvstore import Stats
from engines.lsm.statistics import Counters, TableStatistics
from engines.simenv import SimEnv
from tests.lsm.tables import build, opened


def test_a_tables_statistics() -> None:
    """Golden, and what they say of a table with two versions of a key and one tombstone."""
    assert TableStatistics(300, 2, 1, 1 << 20, 5, 6).encode().hex(" ") == "ac 02 02 01 80 80 40 05 06"
    env = SimEnv()
    build(env, [(b"a", 2, b"xx"), (b"a", 1, b"y"), (b"b", 9, None)])
    statistics = opened(env).statistics
    assert statistics == TableStatistics(3, 1, 1, 9, 3, 3, 1)
    assert TableStatistics.decode(statistics.encode() + b"\x07more of a later version") == statistics
    with pytest.raises(DecodeError):
        TableStatistics.decode(statistics.encode()[:-2])
    assert TableStatistics.decode(statistics.encode()[:-1]) == TableStatistics(3, 1, 1, 9, 3, 3), (
        "of the first versions"
    )


def test_stats_have_the_tables_counters() -> None:
    counters = Counters()
    counters.block_lookups, counters.cache_misses, counters.filter_hits = 10, 3, 4
    counters.blocks_read, counters.bytes_read, counters.tombstones = 5, 600, 2
    stats = Stats()
    counters.add_to(stats)
    assert (stats.reads, stats.bytes_read) == (5, 600)
    assert stats.engine == {
        "block_lookups": 10,
        "block_cache_hits": 7,
        "block_cache_misses": 3,
        "filter_hits": 4,
        "tombstones_stepped_over": 2,
    }
