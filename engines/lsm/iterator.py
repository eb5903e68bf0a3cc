"""Merging: many sorted sources, one sorted stream, the newest version of each key.

Sources do not hand out entries but *chunks*: short sorted lists, as the block or the memtable has them. Each round
finds the smallest of the chunks' last keys, the bound. Up to there everything is known, so every source gives what it
has up to the bound, and that is merged at once:

    newest   ... │ 3 7 │ 21 30          bound = 30            {3 7 21 30} over {5 7 16 24}
    oldest   ... │ 5 7 16 24 │ 42 50    (of 30 and 50)   ──►  3 5 7 16 21 24 30;  42 50 wait

1. A source's chunks ascend (descend in reverse), and a user key is in one chunk of a source only.
2. Of the sources that have a key, the newest one decides: sources come newest first.
3. What is merged in one round lies entirely before what is merged in the next.

Merging by a dict: the older sources' pairs first, then the newer ones over them, then one sort, which finds the runs
that are sorted already (timsort). A heap of single entries, the textbook's way, costs three times as much in Python.
When only one source has keys up to the bound, which is the rule for data that is compacted, its list passes through.

Follows LevelDB's table/merger.cc and db/db_iter.cc in what they do, not in how.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Generic, TypeVar

from engines.lsm.memtable import Rows

__all__ = ["merge_chunks", "merge_rows", "whole_keys"]


V = TypeVar("V")  # what belongs to a key: a value or a tombstone, or more than that


class _Source(Generic[V]):
    """A source of chunks with the part of the current chunk that is still to come."""

    __slots__ = ("_chunks", "at", "keys", "values")

    def __init__(self, chunks: Iterator[tuple[list[bytes], list[V]]]) -> None:
        self._chunks = chunks
        self.at = 0
        self.keys: list[bytes] = []
        self.values: list[V] = []

    def refill(self) -> bool:
        """Takes the next chunk; False at the end."""
        chunk = next(self._chunks, None)
        if chunk is None:
            return False
        self.keys, self.values = chunk
        self.at = 0
        return True


def _overlay(pieces: list[tuple[list[bytes], list[V]]], reverse: bool) -> tuple[list[bytes], list[V]]:
    """One chunk of several; the first piece is the newest (rule 2)."""
    merged: dict[bytes, V] = {}
    for keys, values in reversed(pieces):
        merged.update(zip(keys, values))
    keys = sorted(merged, reverse=reverse)
    return keys, [merged[key] for key in keys]


def merge_chunks(
    sources: Sequence[Iterator[tuple[list[bytes], list[V]]]],
    reverse: bool,
    overlay: Callable[[list[tuple[list[bytes], list[V]]], bool], tuple[list[bytes], list[V]]] = _overlay,
) -> Iterator[tuple[list[bytes], list[V]]]:
    """The merged stream in chunks; tombstones (None) are still in it. Sources: newest first. overlay: what makes one
    chunk of several, where another rule than 2 says which of two is newer (level0.py).

    O(log) a key; a chunk that nobody else interferes with is passed on as it is.
    """
    if len(sources) == 1:
        yield from sources[0]
        return
    active = [source for source in map(_Source, sources) if source.refill()]
    while len(active) > 1:
        bound = (max if reverse else min)([source.keys[-1] for source in active])
        pieces: list[tuple[list[bytes], list[V]]] = []
        exhausted = False
        for source in active:
            keys, at = source.keys, source.at
            if keys[-1] == bound:
                end = len(keys)
                exhausted = True
            else:
                end = _place_behind(keys, bound, at, reverse)
            if end > at:
                pieces.append((keys[at:end], source.values[at:end]) if at or end < len(keys) else (keys, source.values))
                source.at = end
        yield pieces[0] if len(pieces) == 1 else overlay(pieces, reverse)
        if exhausted:
            active = [source for source in active if source.at < len(source.keys) or source.refill()]
    for source in active:
        if source.at < len(source.keys):
            yield source.keys[source.at :], source.values[source.at :]
        yield from source._chunks


def _place_behind(keys: list[bytes], bound: bytes, at: int, reverse: bool) -> int:
    """The position behind the last key that is not beyond the bound."""
    if not reverse:
        return bisect_right(keys, bound, at)
    low, high = at, len(keys)  # bisect has no descending order but with a key function, which would be slower
    while low < high:
        middle = (low + high) // 2
        if keys[middle] >= bound:
            low = middle + 1
        else:
            high = middle
    return low


def whole_keys(rows: Iterable[Rows]) -> Iterator[Rows]:
    """The same rows, with chunks put together wherever a user key would be in two of them (rule 1)."""
    held: Rows | None = None
    for chunk in rows:
        if held is not None:
            if held[0][-1] == chunk[0][0]:
                held = (held[0] + chunk[0], held[1] + chunk[1], held[2] + chunk[2])
                continue
            yield held
        held = chunk
    if held is not None:
        yield held


def merge_rows(sources: Sequence[Iterator[Rows]]) -> Iterator[list[Rows]]:
    """The rounds of a compaction: in each, the pieces of all sources up to the round's bound, newest source first.

    A user key is in one round only. What becomes of several versions is the caller's decision.
    """
    current: list[tuple[Rows, Iterator[Rows]]] = []  # what is left of each source's chunk, newest source first
    for source in sources:
        if (first := next(source, None)) is not None:
            current.append((first, source))
    while current:
        bound = min([chunk[0][-1] for chunk, _ in current])
        pieces: list[Rows] = []
        following: list[tuple[Rows, Iterator[Rows]]] = []
        for chunk, source in current:
            keys, internal_keys, values = chunk
            end = bisect_right(keys, bound)
            if end == len(keys):
                pieces.append(chunk)
                if (refill := next(source, None)) is not None:
                    following.append((refill, source))
                continue
            if end:
                pieces.append((keys[:end], internal_keys[:end], values[:end]))
                chunk = (keys[end:], internal_keys[end:], values[end:])
            following.append((chunk, source))
        current = following
        yield pieces
