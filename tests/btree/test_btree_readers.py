"""Readers beside a writer: each sees its own snapshot; writers who wait for each other share a commit."""

from __future__ import annotations

import random
import sys
import threading

from engines.btree import BTreeStore
from tests.btree.poisoning import PoisoningStore

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
    with PoisoningStore(path, sync=False, cache_bytes=16_000, page_size=1024) as store:

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
