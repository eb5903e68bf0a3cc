"""Is a history linearizable? The fast way: the log's indexes say in which order the writes were done, so try that one.

A history is linearizable if there is one order of its operations (all that were answered, and as many of the unknown ones
as one likes) in which

1. each read sees what the writes before it have left: replay the order on a map and compare, over all keys at once;
2. nothing stands before an operation that had ended before it was called.

That is the definition itself, so an order that passes `flaw` is a proof, wherever it came from. This module makes a good guess
at one; it never has to be believed. Both points are checked in one pass: 2 holds if no operation ended before the latest
call among those that stand before it. O(n log n) for the whole history, where a search is exponential in the worst case.

The guess. Writes stand at their index: of an acknowledged one it was in the answer (X-Metcd-Index), and one whose client heard
nothing has it in the record of what each node has applied (`patched`; etcd's tests read the members' logs for the same
purpose). An unknown write that no node has recorded was never done. Each read stands as early as it may: after all that had
ended before it was called, and then at the first place where each key has the value that was seen. No later place can be
better, because what was called after the read's end has to come later still. So if any order with the writes by their
index passes, this one does. If none does, the search (search.py) has the word, which is told no index.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from tests.cluster.history import UNKNOWN, Op, observations

__all__ = ["NoWitness", "flaw", "patched", "witness"]


class NoWitness(Exception):
    """No order was found; the sentence says what stood in the way."""


class _Key:
    """The writes on one key, by index."""

    def __init__(self) -> None:
        self.indexes: list[int] = []
        self.writes: list[Op] = []

    def add(self, op: Op) -> None:
        self.indexes.append(op.index)
        self.writes.append(op)

    def first(self, value: bytes | None, at: int) -> int | None:
        """The first place from `at` on where the key has this value; None if it never has."""
        now = bisect_right(self.indexes, at)
        if (self.writes[now - 1].value if now else None) == value:
            return at
        return next((self.indexes[n] for n in range(now, len(self.writes)) if self.writes[n].value == value), None)


def witness(history: Sequence[Op]) -> list[Op]:
    """An order that shows that the history is linearizable. Raises NoWitness if none was found. O(n log n).

    An unknown write without an index is not in it.
    """
    keys: defaultdict[bytes, _Key] = defaultdict(_Key)
    places: dict[int, int] = {}  # id of an operation → the index at which, or after which, it stands
    last = 0
    for op in sorted((op for op in history if op.writes and op.index), key=lambda op: op.index):
        if op.index == last:
            raise NoWitness(f"index {op.index} was given to two writes, one of them this:\n  {op}")
        last = places[id(op)] = op.index
        keys[op.key].add(op)
    by_end = sorted((op for op in history if op.answered != UNKNOWN), key=lambda op: op.answered)
    ended = least = 0
    for read in sorted((op for op in history if not op.writes and op.answered != UNKNOWN), key=lambda op: op.called):
        while by_end[ended].answered < read.called:
            if id(by_end[ended]) not in places:
                raise NoWitness(f"it was acknowledged without an index:\n  {by_end[ended]}")
            least = max(least, places[id(by_end[ended])])
            ended += 1
        places[id(read)] = _settle(read, keys, least)
    order = sorted(
        (op for op in history if id(op) in places), key=lambda op: (places[id(op)], not op.writes, op.called)
    )
    why = flaw(order, history)
    if why:
        raise NoWitness(why)
    return order


def _settle(read: Op, keys: Mapping[bytes, _Key], least: int) -> int:
    """The first place from `least` on where every key has what this read saw."""
    seen = observations(read, keys)
    place, before = least, -1
    while place != before:
        before = place
        for key, value in seen:
            found = keys[key].first(value, place) if key in keys else (place if value is None else None)
            if found is None:
                raise NoWitness(f"{key!r} is never {value!r} after what had ended before this was called:\n  {read}")
            place = found
    return place


def patched(history: Sequence[Op], applied: Mapping[int, tuple[bytes, bytes | None]]) -> list[Op]:
    """The history with the index of each unknown write that was applied. applied: index → key, and value or None.

    Values tell puts apart. Deletes of one key are all alike: the earliest call gets the first index that is left.
    """
    known = {op.index for op in history if op.index}
    puts = {value: index for index, (_, value) in applied.items() if value is not None and index not in known}
    deletes: defaultdict[bytes, list[int]] = defaultdict(list)
    for index in sorted(applied, reverse=True):
        key, value = applied[index]
        if value is None and index not in known:
            deletes[key].append(index)
    found = []
    for op in sorted(history, key=lambda op: op.called):
        index = op.index
        if op.writes and not index and op.kind == "put":
            index = puts.get(op.value or b"", 0)
        elif op.writes and not index and deletes[op.key]:
            index = deletes[op.key].pop()
        found.append(op if index == op.index else replace(op, index=index))
    return found


def flaw(order: Sequence[Op], history: Sequence[Op]) -> str:
    """Why an order is no proof that `history` is linearizable; "" if it is one. Believes nothing. O(n log n)."""
    if {id(op) for op in history if op.answered != UNKNOWN} - {id(op) for op in order}:
        return "an operation that was answered is not in the order"
    if len({id(op) for op in order}) < len(order) or {id(op) for op in order} - {id(op) for op in history}:
        return "the order has an operation twice, or one that is not of the history"
    keys = {op.key for op in history if op.writes}
    store: dict[bytes, bytes | None] = {}
    latest: Op | None = None  # the latest call so far
    for op in order:
        if latest is not None and op.answered < latest.called:
            return f"the second had ended before the first was called:\n  {latest}\n  {op}"
        if latest is None or op.called > latest.called:
            latest = op
        if op.writes:
            store[op.key] = op.value
            continue
        for key, value in observations(op, keys):
            if store.get(key) != value:
                return f"{key!r} is {store.get(key)!r} then, and this was seen:\n  {op}"
    return ""
