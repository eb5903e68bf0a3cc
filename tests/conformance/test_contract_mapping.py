"""MappingView on every engine: emptying a store by one call or pair by pair takes work for each pair, not its square."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import engines
from engines import KVStore, MappingView
from tests.conformance.engine_table import Engine
from tests.conformance.layouts import ITEMS


def lines_run(call: Callable[..., object], *arguments: object) -> int:
    """How many lines of Python the call runs: what it does, whatever the machine does meanwhile."""
    count = 0

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call(*arguments)
    finally:
        sys.settrace(before)
    return count


def filled(store: KVStore, count: int) -> KVStore:
    with store.batch() as batch:
        for number in range(count):
            batch.put(b"job%06d" % number, b"x" * 50)
    return store


def pop_all(store: KVStore, count: int) -> None:
    view = MappingView(store)
    for _ in range(count):
        view.popitem()


def clear(store: KVStore, count: int) -> None:
    MappingView(store).clear()


def test_clear_is_one_replacement(full: KVStore) -> None:
    """A `load` of nothing: what was read before goes on with what it saw, and nobody sees half."""
    scan = full.scan()
    first = next(scan)
    writes = full.stats().deletes
    view = MappingView(full)
    view.clear()
    assert not view
    assert list(full.scan()) == []
    assert full.stats().deletes == writes, "not one deletion for each pair"
    assert dict([first, *scan]) == ITEMS
    assert full.check() == []


def test_popitem_takes_every_pair_once_and_then_says_that_nothing_is_there(full: KVStore) -> None:
    """In whatever order; what is put meanwhile is taken too, below and above what was taken last."""
    view = MappingView(full)
    taken = [view.popitem() for _ in range(len(ITEMS) // 2)]
    full.put(b"\x00 below", b"1")
    full.put(b"\xff\xff above", b"2")
    taken += [view.popitem() for _ in range(len(ITEMS) - len(taken) + 2)]
    assert dict(taken) == ITEMS | {b"\x00 below": b"1", b"\xff\xff above": b"2"}
    assert len(taken) == len(ITEMS) + 2
    for _ in range(2):
        with pytest.raises(KeyError, match="empty"):
            view.popitem()
    full.put(b"a", b"again")
    assert view.popitem() == (b"a", b"again")


def test_emptying_takes_work_in_proportion_to_the_pairs(engine: Engine, tmp_path: Path) -> None:
    """Four times the pairs, four times the lines run; popping was fourteen times on lsm, whose marks of deletions stay
    until a memtable is full: so without the tiny options, under which they soon go."""
    for number, empty in enumerate((pop_all, clear)):
        lines = []
        for count in (150, 600):
            with engines.open(tmp_path / f"{number} {count}", engine.where, sync=False) as store:
                lines.append(lines_run(empty, filled(store, count), count))
        assert lines[1] < 6 * lines[0]
