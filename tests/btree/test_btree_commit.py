"""The commit protocol: what is on the disk at each fsync, and what a crash between any two steps leaves."""

from __future__ import annotations

import random

from engines.btree import BTreeStore
from engines.btree.meta import Meta
from engines.simdisk import Policy
from engines.simenv import SimEnv
from tests.conformance.hooked_env import HookedEnv

ROOT = "/db"


def metas_of(env: SimEnv) -> list[Meta]:
    content = env.files()[ROOT]
    return [Meta.decode(content[page * 4096 :]) for page in (0, 1)]


def test_the_data_is_synced_before_the_meta_is_written(path: str) -> None:
    """Two fsyncs: at the first one both metas are old, at the second one the older of them has been written over."""
    env = HookedEnv()
    with BTreeStore(path, env=env) as store:
        store.put(b"a", b"1")
        seen: list[tuple[str, list[int]]] = []

        def before_sync(site: str) -> None:
            with open(path, "rb") as file:
                content = file.read(8192)
            seen.append((site, sorted(Meta.decode(content[page * 4096 :]).txid for page in (0, 1))))

        env.before_sync = before_sync
        store.put(b"b", b"2")
        env.before_sync = lambda site: None
        (first, old), (second, new) = seen
        assert (first, second) == ("btree.commit.data", "btree.commit.meta")
        assert new == [old[1], old[1] + 1]


def test_each_commit_writes_over_the_older_meta() -> None:
    """txid by txid, in the page that txid % 2 says."""
    env = SimEnv(0)
    store = BTreeStore(ROOT, env=env)
    for number in range(5):
        before = max(meta.txid for meta in metas_of(env))
        store.put(b"a", b"%d" % number)
        assert sorted(meta.txid for meta in metas_of(env)) == [before, before + 1]
        assert all(meta.page == page for page, meta in enumerate(metas_of(env)))


def test_no_page_of_the_newest_durable_tree_is_written_to(rng: random.Random) -> None:
    """Invariant 1: whatever later commits do, the pages of the last one are as they were."""
    env = SimEnv(0)
    store = BTreeStore(ROOT, env=env, page_size=1024)
    for _ in range(60):
        with store.batch(sync=True) as batch:
            for _ in range(20):
                batch.put(b"%03d" % rng.randrange(300), b"v" * rng.randrange(90))
        committer = store._writer.committer  # type: ignore[union-attr]
        free, high_water = set(committer.freelist.listed([])), committer.freelist.high_water
        before = env.files()[ROOT]
        for _ in range(rng.randrange(4)):
            store.put(b"%03d" % rng.randrange(300), b"unsynced", sync=False)
        after = env.files()[ROOT]
        for page in set(range(2, high_water)) - free:
            place = slice(page * 1024, (page + 1) * 1024)
            assert before[place] == after[place]


def test_what_was_committed_is_there_after_a_power_cut_and_what_was_not_is_not() -> None:
    """Whatever the disk does with what was not synced."""
    env = SimEnv(0)
    store = BTreeStore(ROOT, env=env)
    for number in range(40):
        store.put(b"%02d" % number, b"v")
        for policy in (Policy.NOTHING, Policy.EVERYTHING):
            image = env.crash(policy, random.Random(number))
            assert len(dict(BTreeStore(ROOT, env=image).scan())) == number + 1


def test_a_commit_that_changes_nothing_writes_nothing() -> None:
    """No meta, no fsync."""
    env = SimEnv(0)
    store = BTreeStore(ROOT, env=env)
    store.put(b"a", b"1")
    before = env.files()[ROOT], store.stats().fsyncs
    store.delete(b"b")
    store.flush()
    assert (env.files()[ROOT], store.stats().fsyncs) == before


def test_dropped_pages_are_free_for_the_commit_after_the_next() -> None:
    """The next one may still need them: a power cut falls back to the tree that they are in."""
    store = BTreeStore(ROOT, env=SimEnv(0))
    for number in range(50):
        store.put(b"a", b"%d" % number)
    assert store.stats().engine["pages"] <= 12
