"""Writing: what is refused, and the empty key, which a user of Riak may have."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines import (
    InvalidKey,
    InvalidValue,
    ReservedValue,
    WriteBatch,
)
from engines.bitcask.record import (
    TOMBSTONE,
    encode_record,
)
from engines.bitcask.segment import MARK_EVERY_BYTES
from engines.simenv import Policy, SimEnv
from tests.bitcask.riak_files import content, open_sim, put_file


@given(st.binary(max_size=40))
def test_a_value_that_would_be_a_deletion_is_refused(rest: bytes) -> None:
    """Riak stores it, answers not_found, and forgets it at the next opening; there is no escape in the format."""
    env = SimEnv()
    with open_sim(env) as store:
        store.put(b"k", b"kept")
        batch = WriteBatch()
        batch.put(b"other", b"1")
        batch.put(b"k", TOMBSTONE + rest)
        for attempt in (
            lambda: store.put(b"k", TOMBSTONE + rest),
            lambda: store.write(batch),
            lambda: store.load([(b"k", TOMBSTONE + rest)]),
        ):
            with pytest.raises(ReservedValue, match="is a deletion"):
                attempt()
        store.put(b"fine", TOMBSTONE[:-1] + b"?" + rest)
    assert content(env) == {b"k": b"kept", b"fine": TOMBSTONE[:-1] + b"?" + rest}
    assert issubclass(ReservedValue, InvalidValue)


LONG = (b"l" * 32_769, b"m" * 65_535)


def of_riak() -> SimEnv:
    env = SimEnv()
    records = [encode_record(5, key, b"value") for key in (b"", b"a", *LONG)]
    put_file(env, "1.bitcask.data", b"".join(records))
    return env


def test_what_a_scan_shows_can_be_read_and_deleted() -> None:
    """From the store and from a snapshot, both ways."""
    env = of_riak()
    with open_sim(env) as store:
        keys = [key for key, _ in store.scan()]
        assert keys == [b"", b"a", *LONG] == [key for key, _ in store.scan(reverse=True)][::-1]
        assert store.multi_get(keys) == [b"value"] * 4 and b"" in store
        with store.snapshot() as snapshot:
            for key in keys:
                store.delete(key)
                assert store.get(key) is None
            assert [snapshot.get(key) for key in keys] == [b"value"] * 4
            assert [key for key, _ in snapshot.scan()] == keys
        assert list(store.scan()) == []
    assert content(env) == {}


def test_they_are_not_written() -> None:
    """As in every engine; and absent ones are absent."""
    with open_sim(SimEnv()) as store:
        for key in (b"", *LONG, b"n" * 70_000):
            assert store.get(key) is None
            store.delete(key)
            with pytest.raises(InvalidKey):
                store.put(key, b"value")


def test_our_marks_have_the_empty_key_and_hide_no_value_of_it() -> None:
    """Batches, marks of synced records, merges and their tombstones: the empty key's last record stays the user's."""
    env = of_riak()
    expected = {b"": b"value", b"a": b"value", **dict.fromkeys(LONG, b"value")}
    with open_sim(env, max_file_size=40_000) as store:
        for number in range(3 * MARK_EVERY_BYTES // 100):
            store.put(b"b", b"%090d" % number)
            with store.batch() as batch:
                batch.put(b"c", b"%d" % number)
                batch.put(b"d", b"%d" % number)
            if not number % 40:
                store.merge([segment["id"] for segment in store.describe()["segments"] if segment["state"] == "sealed"])
            assert store.get(b"") == b"value"
        expected |= {b"b": b"%090d" % number, b"c": b"%d" % number, b"d": b"%d" % number}
        image = env.crash(Policy.EVERYTHING, random.Random(0))
        assert content(image) == expected, "killed"
        assert content(image) == expected, "and opened by its hints"
    assert content(env) == expected
    for path in [path for path in env.files() if path.endswith(".hint")]:
        env.unlink(path)
    assert content(env) == expected, "from the data alone"
    with open_sim(env) as store:
        store.delete(b"")
        store.compact()
        with store.batch() as batch:
            batch.put(b"c", b"1")
            batch.put(b"d", b"1")
    assert b"" not in content(env), "deleted is deleted, and a mark is nobody's value"
