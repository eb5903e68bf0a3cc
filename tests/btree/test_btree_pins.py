"""Pins: what readers hold, and how the writer learns of it."""

from __future__ import annotations

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
