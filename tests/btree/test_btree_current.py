"""The current state: pinned by a reader that came in time, and by one that came too late."""

from __future__ import annotations

import pytest

from engines.btree import BTreeStore
from engines.btree.current import Current, read_one
from engines.btree.parts import PLAIN
from engines.btree.pins import Pin, Pins
from engines.simenv import SimEnv


class Plain(BTreeStore):
    parts = PLAIN


@pytest.fixture
def plain() -> BTreeStore:
    store = Plain("/db", env=SimEnv(0), sync=False)
    store.load((b"%03d" % number, b"v%d" % number) for number in range(300))
    return store


def test_a_pinned_state_is_the_current_one(plain: BTreeStore) -> None:
    """And it stays as it is when another takes its place."""
    current: Current = plain._current
    state, pin = current.pinned()
    assert state is current.state and pin.txid == state.meta.txid
    plain.put(b"000", b"new")
    assert current.state is not state
    assert state.pager.pins.held() == [pin.txid]


def test_a_reader_that_is_overtaken_takes_the_newer_state(plain: BTreeStore) -> None:
    """A commit between the look and the pin: the old pages may be written to already, so the old state won't do."""

    class Overtaking(Pins):
        def pin(self, txid: int) -> Pin:
            if not overtaken:
                overtaken.append(txid)
                plain.put(b"000", b"overtaken")
            return super().pin(txid)

    overtaken: list[int] = []
    plain._current.state.pager.pins = Overtaking()
    state, pin = plain._current.pinned()
    assert state is plain._current.state and pin.txid == state.meta.txid > overtaken[0]


def test_one_key_is_read_from_the_current_tree(plain: BTreeStore) -> None:
    """read_one: a pin for as long as it takes."""
    current: Current = plain._current
    assert read_one(current, b"007") == b"v7" and read_one(current, b"7") is None
    plain.put(b"007", b"new")
    assert read_one(current, b"007") == b"new"
    assert current.state.pager.pins.held() == []
