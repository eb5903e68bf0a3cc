"""Pins: what readers hold, and how the writer learns of it."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import ItemsView
from typing import Any

import pytest

from engines.btree import BTreeStore
from engines.btree.pins import Pins


def test_a_pin_is_held_until_it_is_let_go() -> None:
    """Each txid once, ascending; a pin goes with its last reference."""
    pins = Pins()
    assert pins.held() == []
    newer, older, same = pins.pin(9), pins.pin(4), pins.pin(9)
    assert pins.held() == [4, 9]
    del newer
    assert pins.held() == [4, 9], "the other reader of 9"
    del same
    assert pins.held() == [4]
    del older
    assert pins.held() == []


def test_a_reader_that_came_and_went_is_forgotten() -> None:
    """Between two looks of the writer, in whatever order the notes lie."""
    pins = Pins()
    kept = pins.pin(7)
    for txid in (5, 7, 8):
        pins.pin(txid)  # and is gone at once
    assert pins.held() == [7]
    del kept
    assert pins.held() == []


def test_pinning_waits_for_nobody() -> None:
    """Two appends, and nothing is counted: the writer does that."""
    pins = Pins()
    pin = pins.pin(3)
    assert (list(pins.arrived), list(pins.gone)) == ([3], [])
    del pin
    assert (list(pins.arrived), list(pins.gone)) == ([3], [3])


def test_reading_alone_takes_no_memory(store: BTreeStore) -> None:
    """Each scan leaves a note of its coming and going to the writer: where nobody writes, readers clear them away."""
    store.load((b"%03d" % number, b"v") for number in range(100))
    with store.view() as view:
        for _ in range(5_000):
            assert next(store.scan(b"050")) == (b"050", b"v")
        pins = store._current.state.pager.pins
        assert len(pins.arrived) < 1_500 and len(pins.gone) < 1_500
        for number in range(100):
            store.put(b"%03d" % number, b"changed")
        assert set(dict(view.scan()).values()) == {b"v"}


def test_held_waits_for_a_reader_who_is_just_counting(monkeypatch: pytest.MonkeyPatch) -> None:
    """The queues are empty by then, and `_held` is still the old one: the writer would give away the reader's pages."""
    pins = Pins()
    told = threading.Event()  # the writer has its answer, or has begun to wait for one
    answers: list[list[int]] = []

    class Counting:
        """The lock, and a note of who asks for it."""

        def __init__(self) -> None:
            self.lock = threading.Lock()

        def locked(self) -> bool:
            return self.lock.locked()

        def __enter__(self) -> None:
            told.set()
            self.lock.acquire()

        def __exit__(self, *_: object) -> None:
            self.lock.release()

    def write() -> None:
        answers.append(pins.held())
        told.set()

    writer = threading.Thread(target=write)

    class Counts(Counter[int]):
        def items(self) -> ItemsView[int, int]:
            if not writer.ident:
                told.clear()
                writer.start()
                assert told.wait(20)
            return super().items()

    counting: Any = Counting()
    monkeypatch.setattr(pins, "_counting", counting)
    pins.counts = Counts()
    pin = pins.pin(9)
    with counting:
        pins.count()  # as a reader does, who finds many notes
    writer.join(20)
    assert answers == [[9]]
    del pin
