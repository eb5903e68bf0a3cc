"""Readers beside a writer: each sees its own snapshot; writers who wait for each other share a commit."""

from __future__ import annotations

import random
import sys
import threading

from engines.btree import BTreeStore, StoreFull
from tests.btree.poisoning import PoisoningStore
from tests.conformance.hooked_env import HookedEnv

PAGE = 4096
PATIENCE_S = 60.0


def test_readers_each_see_their_own_snapshot(store: BTreeStore, rng: random.Random) -> None:
    """Views of many moments, opened and closed at random, beside a writer; freed pages are filled with rubbish, and no
    node is cached, so that a page that is used too early is read as rubbish."""
    content: dict[bytes, bytes] = {}
    views: list[tuple[object, dict[bytes, bytes]]] = []
    for number in range(1_500):
        key = b"%03d" % rng.randrange(300)
        if rng.random() < 0.4:
            store.delete(key, sync=rng.random() < 0.1)
            content.pop(key, None)
        else:
            content[key] = b"%d" % number * rng.choice((1, 9, 300 if rng.random() < 0.1 else 2))
            store.put(key, content[key], sync=rng.random() < 0.1)
        if rng.random() < 0.1:
            views.append((store.view(), dict(content)))
        if number % 400 == 399:
            store.compact()
        if rng.random() < 0.1:
            store._current.state.pager.nodes.clear()
        if views and rng.random() < 0.09:
            view, expected = views.pop(rng.randrange(len(views)))
            assert dict(view.scan()) == expected  # type: ignore[attr-defined]
            assert view.multi_get(expected) == list(expected.values())  # type: ignore[attr-defined]
            view.close()  # type: ignore[attr-defined]
    for view, expected in views:
        assert dict(view.scan()) == expected  # type: ignore[attr-defined]
        view.close()  # type: ignore[attr-defined]
    assert dict(store.scan()) == content


def test_threads_read_while_a_writer_churns(path: str) -> None:
    """Gets without a pin, scans and views in threads that change every 20 µs; each is checked against the number that the
    whole content had at its moment."""
    keys = [b"%03d" % number for number in range(120)]
    done = threading.Event()
    failures: list[BaseException] = []
    before = sys.getswitchinterval()
    with PoisoningStore(path, sync=False, cache_pages=8, page_size=1024) as store:

        def write() -> None:
            try:
                for number in range(250):
                    with store.batch() as batch:
                        for key in keys:
                            batch.put(key, b"%06d" % number * 5)
                    store.put(b"extra%02d" % (number % 50), b"x" * number)
            finally:
                done.set()

        def read() -> None:
            last = 0
            while not done.is_set():
                first = int((store.get(keys[0]) or b"0" * 6)[:6])
                assert first >= last, "time goes backwards"
                with store.view() as view:
                    numbers = {value for _, value in view.scan(b"0", b"9")}
                    assert len(numbers) <= 1
                    assert {view.get(key) for key in keys} == (numbers or {None})
                scanned = {value for _, value in store.scan(b"0", b"9", reverse=True)}
                assert len(scanned) <= 1
                last = first

        def guarded(body: object) -> None:
            try:
                body()  # type: ignore[operator]
            except BaseException as failure:
                failures.append(failure)
                done.set()

        threads = [threading.Thread(target=guarded, args=(body,)) for body in (write, read, read)]
        sys.setswitchinterval(20e-6)
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(PATIENCE_S)
                assert not thread.is_alive()
        finally:
            sys.setswitchinterval(before)
        if failures:
            raise failures[0]
        assert store.check() == []


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
