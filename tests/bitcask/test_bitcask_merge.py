"""Merges: what stays of the inputs, and that a deleted key never comes back."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import combinations

import pytest

from engines.bitcask.record import (
    encode_record,
    encode_tombstone,
    is_tombstone,
    read_records,
    tombstone_file,
)
from engines.bitcask.store import BitcaskStore
from engines.env import File
from engines.simenv import Call, Policy, SimEnv
from tests.bitcask.riak_files import content, data_path, open_sim, put_file, sealed_ids


def three_generations(env: SimEnv) -> None:
    """1: a value of k; 2: its tombstone; 3: others. The scene of issue 82."""
    with open_sim(env) as store:
        store.put(b"k", b"dead")
        store.put(b"other", b"1")
    with open_sim(env) as store:
        store.delete(b"k")
        store.put(b"another", b"2")
    with open_sim(env) as store:
        store.put(b"third", b"3")


EXPECTED = {b"other": b"1", b"another": b"2", b"third": b"3"}


@pytest.mark.parametrize("chosen", [[1], [2], [3], [1, 2], [1, 3], [2, 3], [1, 2, 3]], ids=str)
def test_a_deleted_key_never_comes_back(chosen: list[int]) -> None:
    """basho/bitcask#82: after any partial merge, a power cut at every call of it, and without the hints, or with bad ones."""
    env = SimEnv()
    three_generations(env)
    images: list[SimEnv] = []
    store = open_sim(env)

    def cut(call: Call) -> None:
        chance = random.Random(call.number)
        images.extend(env.crash(policy, chance) for policy in Policy)

    env.after_call = cut
    store.merge(chosen)
    store.close()
    env.after_call = None
    assert len(images) > 50
    images.append(env)
    for number, image in enumerate(images):
        if number % 3:
            for path in [path for path in image.files() if path.endswith(".hint")]:
                if number % 3 == 1:
                    image.unlink(path)
                else:
                    image.poke(path, image.files()[path][:-3])
        assert content(image) == EXPECTED
        with open_sim(image) as again:
            again.merge(sealed_ids(again)[1:])
        assert content(image) == EXPECTED


def test_merges_of_every_pair_of_segments_keep_the_content(rng: random.Random) -> None:
    """A dozen generations of few keys; then merges of random subsets, with writes between them, until all are one."""
    env = SimEnv()
    model: dict[bytes, bytes] = {}
    store = open_sim(env)

    def write() -> None:
        key = b"key%d" % rng.randrange(6)
        if rng.random() < 0.4:
            store.delete(key)
            model.pop(key, None)
        else:
            store.put(key, b"%d" % rng.randrange(1000))
            model[key] = store.multi_get([key])[0] or b""

    for _ in range(60):
        write()
    for pair in combinations(range(6), 2):
        ids = sealed_ids(store)
        store.merge([ids[at] for at in pair if at < len(ids)])
        assert store.check() == []
        for _ in range(3):
            write()
        assert dict(store.scan()) == model
        if rng.random() < 0.5:
            store.close()
            store = open_sim(env)
            assert dict(store.scan()) == model
    store.compact()
    stats = store.stats()
    assert dict(store.scan()) == model and stats.dead_bytes == 0
    store.close()


def test_a_tombstone_goes_when_nothing_older_is_left() -> None:
    """And not a merge earlier: basho/bitcask#196 has directories full of useless ones."""
    env = SimEnv()
    three_generations(env)
    with open_sim(env) as store:
        store.merge([2])
        assert sum(segment.tombstone_bytes for segment in store.core.table.live.values()) > 0
        store.merge([1])
        tombstones = [file_id for file_id in sealed_ids(store) if store.core.table.live[file_id].tombstone_bytes]
        assert len(tombstones) == 1, "it is in an output, and file 3 is older than that"
        store.merge([3, *tombstones])
        assert sum(segment.tombstone_bytes for segment in store.core.table.live.values()) == 0
    assert content(env) == EXPECTED


@pytest.mark.parametrize(
    "tombstone",
    [b"bitcask_tombstone", b"bitcask_tombstone1\x00\x00\x00\x01", b"bitcask_tombstone2\x00\x00\x00\x01"],
    ids=["v0", "v1", "v2"],
)
def test_tombstones_of_every_generation_survive_a_partial_merge(tombstone: bytes) -> None:
    """Old Riaks wrote v0 and v1. As long as the file with the dead value is there, the tombstone is."""
    env = SimEnv()
    put_file(env, "1.bitcask.data", encode_record(1, b"k", b"dead") + encode_record(1, b"a", b"1"))
    put_file(env, "2.bitcask.data", encode_record(2, b"k", tombstone))
    put_file(env, "3.bitcask.data", encode_record(3, b"b", b"2"))
    with open_sim(env) as store:
        store.merge([2, 3])
    assert content(env) == {b"a": b"1", b"b": b"2"}
    with open_sim(env) as store:
        store.compact()
    assert content(env) == {b"a": b"1", b"b": b"2"}
    assert b"".join(env.files().values()).count(b"bitcask_tombstone") == 0


def test_riak_finds_a_tombstone_for_each_dead_record_of_another_file() -> None:
    """Rule 3: its merges drop a tombstone with the file that it names, so one for file 1 has to stay while file 1 does."""
    env = SimEnv()
    put_file(env, "1.bitcask.data", encode_record(1, b"k", b"old") + encode_record(1, b"a", b"1"))
    overwrite = encode_tombstone(2, b"k", 1) + encode_record(2, b"k", b"new")
    put_file(env, "2.bitcask.data", overwrite)
    with open_sim(env) as store:
        store.merge([2])
        [output] = [file_id for file_id in sealed_ids(store) if file_id > 2]
    data = env.files()[data_path(output)]
    records = [(key, value) for _, _, key, value in read_records(data, 0, len(data))]
    assert [tombstone_file(value) for _, value in records if is_tombstone(value)] == [1]
    assert records[-1] == (b"k", b"new"), "after its tombstone, or it would be dead"
    assert content(env) == {b"k": b"new", b"a": b"1"}


def during(store: BitcaskStore, site: str, action: Callable[[], None]) -> None:
    """Runs the action once, right after the first sync of the site."""
    table, sync = store.core.table, store.core.table.sync
    todo = [action]

    def sync_and_act(file: File, at: str) -> None:
        sync(file, at)
        if at == site and todo:
            todo.pop()()

    table.sync = sync_and_act  # type: ignore[method-assign]


def test_what_is_written_during_a_merge_stands() -> None:
    """Overwritten, deleted and put after they were copied: the copies are dead before they have a name."""
    env = SimEnv()
    with open_sim(env) as store:
        for number in range(8):
            store.put(b"key%d" % number, b"first")
            store.put(b"key%d" % number, b"before")

        def write() -> None:
            store.put(b"key1", b"after")
            store.delete(b"key2")
            store.delete(b"key3")
            store.put(b"key3", b"after all")
            store.put(b"new", b"new")

        during(store, "bitcask.merge.output", write)
        store.compact()
        assert store.check() == []
        found = dict(store.scan())
        expected = {b"key%d" % number: b"before" for number in (0, 4, 5, 6, 7)}
        expected |= {b"key1": b"after", b"key3": b"after all", b"new": b"new"}
        assert found == expected
    assert content(env) == expected


def test_a_failed_merge_leaves_no_output_and_loses_nothing() -> None:
    """A record of an input is damaged: the merge is refused, the rest stays readable."""
    env = SimEnv()
    with open_sim(env) as store:
        for number in range(12):
            store.put(b"key%02d" % number, b"v" * 20)
    with open_sim(env) as store:
        data = bytearray(env.files()[data_path(1)])
        data[30] ^= 1
        env.poke(data_path(1), bytes(data))
        with pytest.raises(Exception, match="checksum"):
            store.compact()
        assert store.get(b"key11") == b"v" * 20
        assert any("checksum" in sentence for sentence in store.check())
        assert [path for path in env.files() if path.endswith(".new")] == []
