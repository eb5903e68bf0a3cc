"""The store: reads, and its options."""

from __future__ import annotations

import pytest

from engines import (
    InvalidOption,
)
from engines.simenv import SimEnv
from tests.bitcask.riak_files import PATH, open_sim


def test_a_get_is_one_read_exactly() -> None:
    """Of the active segment, of closed ones, of a snapshot; a key that is absent costs none."""
    env = SimEnv()
    with open_sim(env, max_open_files=1) as store:
        for number in range(30):
            store.put(b"key%02d" % number, b"value")
        before = store.stats()
        for number in range(30):
            store.get(b"key%02d" % number)
        store.get(b"absent")
        after = store.stats()
        assert after.reads - before.reads == 30
        assert after.gets - before.gets == 31
        assert after.bytes_read - before.bytes_read == 30 * (14 + 5 + 5)
        with store.snapshot() as snapshot:
            snapshot.get(b"key00")
        assert store.stats().reads - after.reads == 1
        list(store.scan(b"key10", b"key20"))
        assert store.stats().reads - after.reads == 11
        assert store.stats().gets - after.gets == 1, "a scan is no get"


@pytest.mark.parametrize(
    "options",
    [
        {"merge": "sometimes"},
        {"max_file_size": 63},
        {"max_open_files": 0},
        {"garbage_share": 0.0},
        {"garbage_share": 1.5},
        {"dead_bytes": 0},
    ],
    ids=str,
)
def test_options_without_sense_are_refused(options: dict[str, object]) -> None:
    env = SimEnv()
    with pytest.raises(InvalidOption):
        open_sim(env, **options)
    assert not env.exists(PATH), "before anything is created"
