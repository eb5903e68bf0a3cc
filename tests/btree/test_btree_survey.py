"""What a file is made of: stats() and describe()."""

from __future__ import annotations

import json

from engines.btree import BTreeStore


def test_describe_draws_the_file(store: BTreeStore) -> None:
    """describe: one letter for each page, ready for JSON."""
    store.load((b"%04d" % number, b"v" * 50) for number in range(500))
    store.put(b"0100", b"v" * 10_000)
    store.flush()
    described = store.describe()
    assert json.loads(json.dumps(described)) == described
    assert described["map"].startswith("MM") and len(described["map"]) == described["pages"]
    assert set(described["map"]) <= set("MFBLo.w") and described["map"].count("o") == 2
    assert described["map"].count("F") == 1 and described["map"].count("B") == 1
    assert described["map"].count(".") == described["free"] and described["map"].count("w") == described["pending"]
    assert described["buckets"] == ["metcd"]
    stats = store.stats().engine
    assert stats["leaf_pages"] == described["map"].count("L")
    assert stats["overflow_pages"] == 2


def test_stats_count_pages_by_kind(store: BTreeStore) -> None:
    """Leaves, branches and overflow pages; keys, with the bucket's own entry among them; live bytes, without it."""
    store.load((b"%04d" % number, b"v" * 50) for number in range(500))
    stats = store.stats()
    engine = stats.engine
    assert engine["keys"] == 501 and engine["depth"] == 2 and engine["branch_pages"] == 1
    assert stats.live_bytes == 500 * 54
    assert stats.dead_bytes == (engine["free_pages"] + engine["pending_pages"]) * 4096
    store.put(b"0100", b"v" * 10_000)
    assert store.stats().engine["overflow_pages"] == 2
