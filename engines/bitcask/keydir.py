"""The keydir: for every key, where its last value lies. The whole of it is in memory, which is Bitcask's bargain.

    places    {key: place}      place = file id << 80 | offset << 33 | size of the record, one int

A get is one lookup here and one read of a file. The place is packed because of what a million of them cost: an int of
40 bytes that the garbage collector ignores, in place of a tuple and three ints, 150 bytes. Unpacking takes 0.15 µs.

Order. A hash has none, so the keys in order are a second structure (`KeyOrder`), made at the first scan and kept from
then on: the writer only notes which keys came and went, and the next scan sorts those in. Stores that are never scanned
pay nothing.

Views. A snapshot has an *undo map*: before the writer gives a key another place, it notes the old one there, for every
open view that has no note of this key yet. A view's place of a key is its note if there is one, else the keydir's.

    places  a→1.0 b→1.40       view opened          put b, delete a
    places  b→2.0              view's undo          b→1.40 a→1.0         the view sees  a→1.0 b→1.40

Invariants:

1. A key is in `places` if and only if it is live; None stands there only within `apply`, so that a batch appears at one
   instant even to a reader who holds no lock (`dict.update` with bytes as keys is one step of the interpreter).
2. For an open view V and any key k: k's place in V is V.undo[k] if k is in V.undo, else places[k]. A reader without the
   lock looks into `places` before and after `undo`: if the writer noted k in between, the note is there; if it dropped
   the note, because k is absent again, the place is another one, and the reader looks once more.
3. A merge moves values without changing them, so it notes nothing: both places hold the same bytes.
4. All changes and all looks at the order are under the store's mutex.

Follows section 2 of the Bitcask paper; the undo map is ours. Costs: apply O(keys * open views), order O(log n) for each
changed key. Left out: Riak's expiry, and a keydir shared by several processes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from sortedcontainers import SortedList

from engines.bitcask.hint import TOMBSTONE_BIT, Entry
from engines.bitcask.segment import Segment

__all__ = [
    "NO_NOTE",
    "OFFSET_MASK",
    "SEGMENT_SHIFT",
    "SIZE_BITS",
    "SIZE_MASK",
    "Changes",
    "KeyOrder",
    "Keydir",
    "Undo",
    "load_entries",
]

SIZE_BITS = 33  # a record has up to 14 + 65,535 + 2**32 - 1 bytes
SEGMENT_SHIFT = 80
SIZE_MASK = (1 << SIZE_BITS) - 1
OFFSET_MASK = (1 << (SEGMENT_SHIFT - SIZE_BITS)) - 1

NO_NOTE = 0  # is no place, and not None, which is the note of an absent key

Changes = Mapping[bytes, int | None]  # key → its new place, None for a deletion


class KeyOrder:
    """The keys of a mapping in order, made when first asked for, and brought up to date when asked again."""

    __slots__ = ("_changed", "_keys", "made")

    def __init__(self) -> None:
        self._keys: SortedList[bytes] = SortedList()
        self._changed: set[bytes] = set()
        self.made = False

    def note(self, key: bytes) -> None:
        """The key has come or gone. Requires: `made`, or else it is a waste.

        When the keys would be sorted anew anyway, the order is given up until it is asked for: so a store that was
        scanned once doesn't remember every key that has come and gone since.
        """
        self._changed.add(key)
        if 8 * len(self._changed) > len(self._keys):
            self.made = False
            self._keys = SortedList()
            self._changed.clear()

    def range(
        self, places: Collection[bytes], start: bytes, stop: bytes | None, inclusive: tuple[bool, bool], reverse: bool
    ) -> Iterator[bytes]:
        """The keys of `places` between the bounds. O(log n) and O(log n) for each noted key; O(n log n) at first."""
        if not self.made:
            self._keys = SortedList(places)
            self.made = True
        else:
            for key in self._changed:
                if key not in places:
                    self._keys.discard(key)
                elif key not in self._keys:
                    self._keys.add(key)
        self._changed.clear()
        return self._keys.irange(start, stop, inclusive, reverse)

    def check(self, places: Collection[bytes]) -> bool:
        """True if the order, once up to date, is that of `places`."""
        return list(self.range(places, b"", None, (True, True), False)) == sorted(places)


class Undo(dict[bytes, "int | None"]):
    """What a view remembers: key → the place it had when the view was opened, None if it was absent."""

    __slots__ = ("__weakref__", "order")

    def __init__(self) -> None:
        super().__init__()
        self.order = KeyOrder()

    def note(self, key: bytes, place: int | None) -> None:
        if key not in self:
            self[key] = place
            if self.order.made:
                self.order.note(key)

    def forget(self, key: bytes) -> None:
        """Drops the note of a key that is absent, if it was absent when the view was opened: else a queue that runs
        through the store would leave a note of each of its keys."""
        if self.get(key, NO_NOTE) is None:
            del self[key]
            if self.order.made:
                self.order.note(key)


class Keydir:
    """Key → place, and the keys' order. Written by one thread at a time, under the store's mutex."""

    __slots__ = ("order", "places")

    def __init__(self) -> None:
        self.places: dict[bytes, Any] = {}  # Any and not int: mypy can't see that None stays within `apply`
        self.order = KeyOrder()

    def apply(self, changes: Changes, views: Collection[Undo]) -> None:
        """Gives all keys of `changes` their new places at one instant."""
        places = self.places
        for undo in views:
            for key in changes:
                undo.note(key, places.get(key))
        if self.order.made:
            for key, place in changes.items():
                if place is None or key not in places:
                    self.order.note(key)
        places.update(changes)
        for key, place in changes.items():
            if place is None:
                del places[key]
                for undo in views:
                    undo.forget(key)

    def keys(
        self, undo: Undo, start: bytes, stop: bytes | None, inclusive: tuple[bool, bool], reverse: bool
    ) -> tuple[Iterator[bytes], Iterator[bytes]]:
        """Between the bounds: the live keys, and the keys that the view has notes of. Each in order."""
        live = self.order.range(self.places, start, stop, inclusive, reverse)
        return live, undo.order.range(undo, start, stop, inclusive, reverse) if undo else iter(())


def load_entries(keydir: Keydir, segments: Mapping[int, Segment], segment: Segment, entries: Iterable[Entry]) -> None:
    """Brings the keys of a segment into the keydir, over those of older segments."""
    places, base = keydir.places, segment.id << SEGMENT_SHIFT
    get, pop = places.get, places.pop
    live = tombstones = 0
    for _, size, offset, key in entries:
        if offset & TOMBSTONE_BIT:
            old = pop(key, None)
            tombstones += size
        else:
            old = get(key)
            places[key] = base | offset << SIZE_BITS | size
            live += size
        if old is not None:
            segments[old >> SEGMENT_SHIFT].live_bytes -= old & SIZE_MASK
    segment.live_bytes += live  # negative before, if a hint lists a key twice
    segment.tombstone_bytes += tombstones
