"""engines/lsm/cache.py: which blocks stay in memory."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable

import pytest

from engines.lsm.block import Block, BlockBuilder
from engines.lsm.cache import BlockCache, NoBlockCache, SharedBlockCache
from tests.lsm.waiting import waits_for


def block(memory_bytes: int) -> Block:
    """A block that takes so much memory."""
    made = Block(BlockBuilder(16).finish())
    made.memory_bytes = memory_bytes
    return made


def test_the_block_cache_stays_below_its_capacity(rng: random.Random) -> None:
    """Rule 3, whatever is added and asked; and what it counts is what it holds."""
    cache = BlockCache(10_000)
    sizes: dict[int, int] = {}
    for _ in range(2_000):
        key = rng.randrange(300)
        if cache.find(key) is None or rng.random() < 0.2:
            sizes[key] = rng.randrange(1, 900)
            cache.add(key, block(sizes[key]))
        assert cache.size_bytes <= 10_000
    held = [key for key in range(300) if cache.find(key) is not None]
    assert cache.size_bytes == sum(sizes[key] for key in held)
    assert len(cache) == len(held)
    assert cache.size_bytes > 8_000


class Watched:
    """A block that lets another thread in when it is asked for its size."""

    def __init__(self, let_in: Callable[[], None]) -> None:
        self._let_in = let_in

    @property
    def memory_bytes(self) -> int:
        self._let_in()
        return 300


def test_what_two_threads_add_at_once_is_charged() -> None:
    """One waits for the other. Otherwise the charge of one is lost, or stays for ever, and in time nothing is kept any more."""
    cache = SharedBlockCache(1_000)
    other = threading.Thread(target=cache.add, args=(2, block(500)))

    def let_in() -> None:
        if other.ident is None:
            other.start()
        while other.is_alive() and not waits_for(other, cache.lock):
            other.join(0.001)

    cache.add(1, Watched(let_in))  # type: ignore[arg-type]
    other.join()
    assert (cache.size_bytes, len(cache)) == (800, 2)


def test_what_is_used_is_not_evicted() -> None:
    """Rule 1: the second chance. What was asked for since the generations changed stays, what was not goes, in turn."""
    cache = BlockCache(1_000)
    for key in range(11):
        cache.add(key, block(100))
    assert cache.find(0) is None, "the oldest one goes when the eleventh comes"
    assert cache.find(1) is not None
    for key in range(11, 20):
        cache.add(key, block(100))
        assert cache.size_bytes == 1_000
    assert [key for key in range(20) if cache.find(key) is not None] == [1, *range(11, 20)]


@pytest.mark.parametrize("cache", [BlockCache(0), NoBlockCache(1_000)], ids=["no room", "no cache"])
def test_a_cache_of_nothing_keeps_nothing(cache: BlockCache) -> None:
    cache.add(1, block(5))
    assert cache.find(1) is None
    assert (len(cache), cache.size_bytes) == (0, 0)


def test_the_blocks_of_a_deleted_table_make_room() -> None:
    """They are in neither generation any more, and no longer counted; others stay."""
    cache = BlockCache(1_000)
    for key in range(11):
        cache.add(key, block(100))
    assert (cache.find(3) is not None, len(cache), cache.room_bytes) == (True, 10, 0)
    cache.forget(2, 4)
    assert [key for key in range(11) if cache.find(key) is not None] == [1, 6, 7, 8, 9, 10]
    assert (cache.size_bytes, cache.room_bytes) == (600, 400)
    cache.forget(2, 4)
    assert cache.size_bytes == 600


def test_every_opened_table_has_its_own_place_in_the_cache() -> None:
    """A table that is opened twice, or another one under the same number, must not find the first one's blocks."""
    cache = BlockCache(100)
    assert cache.first_key() < cache.first_key()
    assert cache.first_key() + (1 << 23) < cache.first_key()
