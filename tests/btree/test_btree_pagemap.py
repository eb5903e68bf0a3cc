"""engines/btree/pagemap.py: the map of the headers is the one that the checker finds by its walk."""

from __future__ import annotations

import random

from engines.btree import BTreeStore
from engines.btree.check import Checker
from engines.btree.pagemap import KINDS, coarse, page_map
from engines.simenv import SimEnv


def test_the_map_is_the_checkers(rng: random.Random) -> None:
    """On files with branches, overflow runs and free pages, after each durable commit."""
    with BTreeStore("/db", env=SimEnv(0), page_size=1024) as store:
        for _ in range(60):
            with store.batch(sync=True) as batch:
                for _ in range(rng.randrange(1, 12)):
                    key = b"%03d" % rng.randrange(200)
                    size = rng.choice([5, 60, 1500, 9000])
                    batch.delete(key) if rng.random() < 0.3 else batch.put(key, rng.randbytes(size))
            state = store._current.state
            checker = Checker(state.pager.map, state.meta)
            assert checker.run() == []
            assert store.describe()["map"].replace("w", ".") == "".join(checker.page_map)


def test_free_pages_are_known_after_unsynced_commits() -> None:
    """No freelist is on the disk then; the writer knows."""
    with BTreeStore("/db", env=SimEnv(0), page_size=1024) as store:
        for number in range(300):
            store.put(b"%03d" % (number % 90), b"v" * 50, sync=False)
        described = store.describe()
        assert "?" not in described["map"]
        assert described["map"].count(".") == described["free"]
        assert described["map"].count("w") == described["pending"] > 0
        [durable] = [pin for pin in described["pins"] if pin["durable"]]
        assert durable["pages"] == described["pending"]
        with store.snapshot():
            [pin] = [pin for pin in store.describe()["pins"] if pin["readers"]]
            assert (pin["txid"], pin["readers"]) == (described["txid"], 1)
        assert {meta["txid"] for meta in described["metas"]} == {described["txid"], described["durable_txid"]}


def test_a_damaged_header_gives_a_letter_and_no_exception(rng: random.Random) -> None:
    env = SimEnv(0)
    with BTreeStore("/db", env=env, page_size=1024) as store:
        store.load((b"%04d" % number, b"v" * 50) for number in range(300))
        meta = store._current.state.meta
    file = bytearray(env.files()["/db"])
    for _ in range(200):
        damaged = bytearray(file)
        for _ in range(rng.randrange(1, 30)):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        assert len(page_map(bytes(damaged), meta, range(meta.high_water + 5))) == meta.high_water
    assert page_map(bytes(file[:3000]), meta, []).startswith("MM")


def test_a_coarse_map_has_the_most_frequent_letter_of_each_part() -> None:
    assert coarse("MMLLL", 5) == (1, "MMLLL")
    assert coarse("MMMLLLL..", 3) == (3, "ML.")
    assert coarse("", 5) == (1, "")
    step, letters = coarse("L" * 10_001, 2048)
    assert len(letters) <= 2048 and step * len(letters) >= 10_001 and set(letters) <= set(KINDS)
