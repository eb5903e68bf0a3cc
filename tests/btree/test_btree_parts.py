"""Half-built stores: what a store is without one of its parts."""

from __future__ import annotations

import random

import pytest

from engines.btree import BTreeStore
from engines.btree.fast import FAST
from engines.btree.parts import PLAIN, Parts
from engines.simdisk import Policy
from engines.simenv import SimEnv
from tests.btree.half_built import HALF_BUILT, WithoutCache, WithoutProvisional, WithoutReuse

ROOT = "/db"


@pytest.mark.parametrize("engine", HALF_BUILT, ids=lambda engine: engine.__name__)
def test_a_store_without_a_part_keeps_what_it_was_given(engine: type[BTreeStore], rng: random.Random) -> None:
    """Puts, deletes, snapshots, compactions, and a kill now and then; and `check` finds nothing."""
    env = SimEnv(0)
    store, model = engine(ROOT, env=env, sync=False, page_size=1024), dict[bytes, bytes]()
    for number in range(400):
        key = b"%03d" % rng.randrange(150)
        if rng.random() < 0.3:
            store.delete(key)
            model.pop(key, None)
        else:
            model[key] = b"v" * rng.randrange(80)
            store.put(key, model[key], sync=rng.random() < 0.1)
        if number % 100 == 50:
            store.compact()
        if number % 100 == 99:
            with store.view() as view:
                store.put(b"beside", b"a reader")
                assert dict(view.scan()) == model
            model[b"beside"] = b"a reader"
            assert store.check() == []
            env = env.crash(Policy.EVERYTHING, random.Random(number))
            store = engine(ROOT, env=env, sync=False)
        assert store.get(key) == model.get(key)
    assert dict(store.scan()) == model


def test_without_provisional_commits_each_commit_is_durable() -> None:
    """A write with sync=False takes the two fsyncs of any other."""
    env = SimEnv(0)
    store = WithoutProvisional(ROOT, env=env, sync=False)
    before = store.stats().fsyncs
    for number in range(5):
        store.put(b"%d" % number, b"v")
    assert store.stats().fsyncs == before + 10
    assert len(dict(BTreeStore(ROOT, env=env.crash(Policy.NOTHING, random.Random(0))).scan())) == 5


def test_without_a_cache_each_node_is_read_again() -> None:
    """The cost, in counters."""
    store = WithoutCache(ROOT, env=SimEnv(0))
    store.load((b"%04d" % number, b"v" * 50) for number in range(1_000))
    before = store.stats().reads
    for _ in range(10):
        assert store.get(b"0500") == b"v" * 50
    assert store.stats().reads - before >= 10


def test_without_reuse_the_file_only_grows() -> None:
    """Where the freelist keeps it flat."""
    sizes = []
    for engine in (WithoutReuse, BTreeStore):
        store = engine(ROOT, env=SimEnv(0))
        for number in range(200):
            store.put(b"key", b"%d" % number)
        sizes.append(store.stats().engine["pages"])
    assert sizes[0] > 600 and sizes[1] < 20


@pytest.mark.parametrize(("plain", "expected"), [(True, PLAIN), (False, FAST)])
def test_the_store_chooses_its_parts(monkeypatch: pytest.MonkeyPatch, plain: bool, expected: Parts) -> None:
    """The option plain, or METCD_PLAIN=1."""
    monkeypatch.setenv("METCD_PLAIN", "0")
    for form in ("option", "environment"):
        if form == "environment" and plain:
            monkeypatch.setenv("METCD_PLAIN", "1")
        store = BTreeStore(ROOT, env=SimEnv(0), plain=plain and form == "option")
        assert store._writer is not None
        assert type(store._writer.provisional) is expected.provisional
