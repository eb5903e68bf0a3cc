"""The write half: several writers share a commit, in their order; each change is one commit, and says what it cost."""

from __future__ import annotations

import random
import threading

from engines.btree import BTreeStore, StoreFull
from engines.simdisk import Policy
from engines.simenv import SimEnv
from tests.conformance.hooked_env import HookedEnv

PAGE = 4096
PATIENCE_S = 60.0


def test_a_durable_change_costs_two_fsyncs_and_an_unsynced_one_none() -> None:
    """put, batch, update, load and flush; a flush of what is durable costs nothing."""
    env = SimEnv(0)
    with BTreeStore("/db", env=env) as store:

        def fsyncs() -> int:
            return store.stats().fsyncs

        before = fsyncs()
        store.put(b"a", b"1", sync=False)
        with store.batch(sync=False) as batch:
            batch.put(b"b", b"2")
            batch.delete(b"a")
        with store.update(sync=False) as tx:
            tx.put(b"c", b"3")
        assert fsyncs() == before
        for change in (
            store.flush,
            lambda: store.put(b"d", b"4"),
            lambda: store.load([(b"e", b"5")]),
            lambda: store.delete(b"e"),
        ):
            before = fsyncs()
            change()
            assert fsyncs() == before + 2
        before = fsyncs()
        store.flush()
        store.delete(b"absent")
        assert fsyncs() == before


def test_of_two_operations_on_a_key_the_later_stands() -> None:
    """In a batch; and both are counted."""
    with BTreeStore("/db", env=SimEnv(0)) as store:
        with store.batch() as batch:
            batch.put(b"a", b"1")
            batch.delete(b"a")
            batch.delete(b"b")
            batch.put(b"b", b"2")
        assert dict(store.scan()) == {b"b": b"2"}
        assert (store.stats().puts, store.stats().deletes, store.stats().user_bytes) == (2, 2, 6)


def test_a_closed_store_has_its_last_state_in_both_metas() -> None:
    """So that damage to one of them is no loss; but one that was only looked at is not written to."""
    env = SimEnv(0)
    with BTreeStore("/db", env=env) as store:
        store.put(b"a", b"1")
        store.put(b"b", b"2", sync=False)
    closed = env.files()["/db"]
    for page in (0, 1):
        env.poke("/db", closed[: page * PAGE] + bytes(100) + closed[page * PAGE + 100 :])
        with BTreeStore("/db", env=env, read_only=True) as store:
            assert dict(store.scan()) == {b"a": b"1", b"b": b"2"}
    env.poke("/db", closed)
    BTreeStore("/db", env=env).close()
    assert env.files()["/db"] == closed


def test_after_a_compaction_commits_go_to_the_new_file() -> None:
    """Another pager and another committer; readers of the old file keep it."""
    env = SimEnv(0)
    store = BTreeStore("/db", env=env)
    store.load((b"%03d" % number, b"v" * 50) for number in range(500))
    with store.view() as view:
        store.compact()
        store.put(b"new", b"1", sync=False)
        store.put(b"newer", b"2")
        assert view.get(b"new") is None and len(list(view.scan())) == 500
    lost = env.crash(Policy.NOTHING, random.Random(0))
    with BTreeStore("/db", env=lost) as again:
        assert len(list(again.scan())) == 502 and again.check() == []


def test_writes_are_committed_in_the_order_of_their_submission(path: str) -> None:
    """Three writers of one key wait for the same commit: the last one's value stays."""
    env = HookedEnv()
    with BTreeStore(path, env=env) as store:
        stuck, go_on = threading.Event(), threading.Event()

        def before_sync(site: str) -> None:
            if not stuck.is_set():
                stuck.set()
                assert go_on.wait(PATIENCE_S)

        env.before_sync = before_sync
        writers = [threading.Thread(target=store.put, args=(b"key", b"%d" % number)) for number in range(4)]
        for number, writer in enumerate(writers):
            writer.start()
            assert stuck.wait(PATIENCE_S)
            while len(store._group.waiting) < number:
                threading.Event().wait(0.001)
        go_on.set()
        for writer in writers:
            writer.join(PATIENCE_S)
        env.before_sync = lambda site: None
        assert store.get(b"key") == b"3"


def test_waiting_writers_share_a_commit(path: str) -> None:
    """Group commit: while one writer's fsync takes its time, twenty others arrive; they need one more pair of fsyncs."""
    env = HookedEnv()
    with BTreeStore(path, env=env) as store:
        stuck, go_on = threading.Event(), threading.Event()
        sites: list[str] = []

        def before_sync(site: str) -> None:
            sites.append(site)
            if len(sites) == 1:
                stuck.set()
                assert go_on.wait(PATIENCE_S)

        env.before_sync = before_sync
        writers = [threading.Thread(target=store.put, args=(b"%02d" % number, b"v")) for number in range(21)]
        writers[0].start()
        assert stuck.wait(PATIENCE_S)
        for writer in writers[1:]:
            writer.start()
        while len(store._group.waiting) < 20:
            threading.Event().wait(0.001)
        go_on.set()
        for writer in writers:
            writer.join(PATIENCE_S)
        env.before_sync = lambda site: None
        assert sites == ["btree.commit.data", "btree.commit.meta"] * 2
        assert len(list(store.scan())) == 21
        assert store.stats().puts == 21


def test_one_refused_write_does_not_spoil_its_group(path: str) -> None:
    """StoreFull for the one that is too large; the others, who waited with it, are committed."""
    env = HookedEnv()
    with BTreeStore(path, env=env, max_size=20 * PAGE) as store:
        stuck, go_on = threading.Event(), threading.Event()
        refused: list[BaseException] = []

        def before_sync(site: str) -> None:
            if not stuck.is_set():
                stuck.set()
                assert go_on.wait(PATIENCE_S)

        def put(key: bytes, value: bytes) -> None:
            try:
                store.put(key, value)
            except StoreFull as refusal:
                refused.append(refusal)

        env.before_sync = before_sync
        sizes = [1, 5, 100_000, 7]
        writers = [threading.Thread(target=put, args=(b"%d" % size, b"v" * size)) for size in sizes]
        writers[0].start()
        assert stuck.wait(PATIENCE_S)
        for writer in writers[1:]:
            writer.start()
        while len(store._group.waiting) < 3:
            threading.Event().wait(0.001)
        go_on.set()
        for writer in writers:
            writer.join(PATIENCE_S)
        env.before_sync = lambda site: None
        assert len(refused) == 1
        assert {key for key, _ in store.scan()} == {b"1", b"5", b"7"}
