"""Which segments are merged, and when."""

from __future__ import annotations

from pathlib import Path

import pytest

from engines import (
    InvalidOption,
)
from engines.bitcask.policy import choose, is_compact
from engines.bitcask.segment import Segment
from engines.bitcask.store import BitcaskStore
from engines.simenv import SimEnv
from tests.bitcask.riak_files import PATH, open_sim


def segments(*sizes: tuple[int, int]) -> list[Segment]:
    """Of (end, live bytes), with the ids 1, 2, ..."""
    made = []
    for file_id, (end, live_bytes) in enumerate(sizes, 1):
        segment = Segment(file_id, end)
        segment.live_bytes = live_bytes
        made.append(segment)
    return made


def test_the_shortest_run_of_oldest_segments_that_is_worth_while_is_chosen() -> None:
    """By the share of garbage first, by its bytes if no run has that share."""
    assert choose(segments((100, 40), (100, 0)), 0.6, 1000) == [1]
    assert choose(segments((100, 41), (100, 0)), 0.6, 1000) == [1, 2]
    assert choose(segments((100, 90), (100, 90), (100, 90)), 0.6, 20) == [1, 2]
    assert choose(segments((100, 90), (100, 0), (100, 0)), 0.6, 5) == [1, 2, 3], "the share comes first"
    assert choose(segments((100, 90)), 0.6, 11) == []
    assert choose([], 0.6, 1) == []


def test_writes_keep_a_store_within_its_bound_by_merging() -> None:
    """Overwriting few keys for long: inline merges keep the garbage below the share that was asked for."""
    env = SimEnv()
    with open_sim(env, merge="inline", garbage_share=0.5, max_file_size=1000) as store:
        sizes = []
        for number in range(1500):
            store.put(b"key%02d" % (number % 20), b"%04d" % number * 5)
            sizes.append(store.stats().disk_bytes)
        stats = store.stats()
        assert stats.engine["merges"] > 5
        assert max(sizes) < 6 * stats.live_bytes + 4000, "a plateau: 1 / (1 - share), the active segment, and hints"
        assert dict(store.scan()) == {b"key%02d" % (n % 20): b"%04d" % n * 5 for n in range(1480, 1500)}


def test_an_unknown_segment_is_refused() -> None:
    env = SimEnv()
    with open_sim(env) as store:
        store.put(b"k", b"v")
        with pytest.raises(InvalidOption, match="no sealed segment has the id 1"):
            store.merge([1])
        assert f"{PATH}/1.bitcask.data" in env.files()


def test_merging_in_a_thread_keeps_everything(tmp_path: Path) -> None:
    """The background thread merges what rotation leaves, while this one writes; close waits for it."""
    model = {}
    with BitcaskStore(str(tmp_path), sync=False, max_file_size=4000, merge="thread") as store:
        for number in range(4000):
            key = b"key%02d" % (number % 50)
            model[key] = b"%d" % number * 3
            store.put(key, model[key])
    with BitcaskStore(str(tmp_path), sync=False) as store:
        assert dict(store.scan()) == model
        assert store.check() == []


def test_when_merging_everything_would_give_nothing_back() -> None:
    """No garbage, and no more segments than their bytes need."""
    assert is_compact(segments(), 100)
    assert is_compact(segments((90, 90)), 100)
    assert is_compact(segments((100, 100), (100, 100)), 100)
    assert not is_compact(segments((60, 60), (60, 60)), 100), "one would do"
    assert not is_compact(segments((90, 80)), 100)
