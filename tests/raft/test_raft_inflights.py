"""The window of messages to one follower that aren't answered yet (raft/tracker/inflights.py)."""

from __future__ import annotations

import pytest

from raft import RaftPanic
from raft.tracker import Inflights


def test_the_window_is_full_at_its_size_and_frees_up_to_an_index() -> None:
    window = Inflights(3)
    for index in (5, 7, 9):
        window.add(index, 10)
    assert window.full()
    with pytest.raises(RaftPanic):
        window.add(10, 10)
    window.free_le(7)
    assert (len(window), window.bytes, window.full()) == (1, 10, False)
    window.free_le(4)
    assert len(window) == 1, "an old acknowledgement frees nothing"
    window.free_le(100)
    assert (len(window), window.bytes) == (0, 0)


def test_the_window_is_full_at_its_bytes_but_takes_one_large_message() -> None:
    window = Inflights(10, max_bytes=100)
    window.add(1, 99)
    assert not window.full()
    window.add(2, 5000)
    assert window.full()
    window.reset()
    assert not window.full()


@pytest.mark.parametrize(
    ("index", "left"),
    [(-1, 10), (0, 9), (4, 5), (8, 1), (9, 0), (100, 0)],
)
def test_an_acknowledgement_frees_everything_up_to_it(index: int, left: int) -> None:
    """Messages 0 to 9; the count and the bytes go together."""
    window = Inflights(10)
    for last in range(10):
        window.add(last, 100 + last)
    window.free_le(index)
    assert len(window) == left
    assert window.bytes == sum(100 + last for last in range(10) if last > index)


def test_a_window_is_used_round_and_round() -> None:
    """etcd keeps a ring; whatever keeps it, freed places can be used again, any number of times."""
    window = Inflights(4)
    for last in range(100):
        if window.full():
            window.free_le(last - 3)
        window.add(last, 1)
        assert len(window) <= 4
    assert window.full()


@pytest.mark.parametrize(
    ("size", "max_bytes", "sent", "full"),
    [
        (3, 0, [1000, 1000], False),  # 0 is no limit of bytes
        (3, 0, [1, 1, 1], True),
        (3, 10, [9], False),
        (3, 10, [10], True),
        (3, 10, [1000], True),  # a large one is let through, and fills the window
        (3, 10, [5, 5], True),
        (3, 10, [1, 1, 1], True),  # by count, not by bytes
    ],
)
def test_full_is_by_count_or_by_bytes(size: int, max_bytes: int, sent: list[int], full: bool) -> None:
    window = Inflights(size, max_bytes)
    for last, size_bytes in enumerate(sent):
        window.add(last, size_bytes)
    assert window.full() is full
