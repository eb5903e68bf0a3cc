"""The keydir: for every key, where its last value lies. The whole of it is in memory, which is Bitcask's bargain.

    places    {key: place}        place: file id, offset and size, packed into one int (engines.bitcask.place)

A get is one lookup here and one read of a file.

Order. A hash has none, so the keys in order are a second structure (`KeyOrder`), made at the first scan and kept from
then on: the writer only notes which keys came and went, and the next scan sorts those in. Stores that are never scanned
pay nothing.

Snapshots. A snapshot has an *undo map*: before the writer gives a key another place, it notes the old one there, for
every open snapshot that has no note of this key yet. A snapshot's place of a key is its note if there is one, else the
keydir's.

    places  a→1.0 b→1.40       snapshot opened      put b, delete a
    places  b→2.0              its undo map         b→1.40 a→1.0         the snapshot sees  a→1.0 b→1.40

Invariants:

1. A key is in `places` if and only if it is live. (While a batch is applied, None may stand in place of a place.)
2. For an open snapshot S and any key k: k's place in S is S.undo[k] if k is in S.undo, else places[k].
3. A merge moves values without changing them, so it notes nothing: both places hold the same bytes.
4. All changes, and all looks at the order, are under the core's mutex. A single lookup needs no lock.

Follows section 2 of the Bitcask paper; the undo map is ours. Costs: apply O(keys * open snapshots), order O(log n) for
each changed key. Memory: some 140 bytes for a key of 16 bytes, whatever its value. Left out: Riak's expiry, and a keydir
shared by several processes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, Final

from sortedcontainers import SortedList

from engines.bitcask.hint import TOMBSTONE_BIT, Entry
from engines.bitcask.place import SIZE_BITS, Place, pack, unpack
from engines.bitcask.segment import Segment

__all__ = ["NO_NOTE", "Changes", "KeyOrder", "Keydir", "Undo"]

NO_NOTE: Final[Place] = 0  # is no place, since ids begin at 1; and not None, which is the note of an absent key

NO_KEYS: Final[SortedList[bytes]] = SortedList()  # each scan makes an undo map, and an empty list takes 0.2 µs

Changes = Mapping[bytes, Place | None]  # key → its new place, None for a deletion


class KeyOrder:
    """The keys of a mapping in order, made when first asked for, and brought up to date when asked again."""

    __slots__ = ("_keys", "changed", "made")

    def __init__(self) -> None:
        self._keys = NO_KEYS
        self.changed: set[bytes] = set()  # keys that may have come or gone since
        self.made = False

    def note(self, key: bytes) -> None:
        """The key has come or gone. Requires: `made`."""
        self.changed.add(key)
        # Beyond this many it is no dearer to sort all keys anew, so the order is given up until it is asked for. Else a
        # store that was scanned once would remember every key that has come and gone since.
        if 8 * len(self.changed) > len(self._keys):
            self.made = False
            self._keys = NO_KEYS
            self.changed.clear()

    def range(
        self, places: Collection[bytes], start: bytes, stop: bytes | None, inclusive: tuple[bool, bool], reverse: bool
    ) -> Iterator[bytes]:
        """The keys of `places` between the bounds. O(log n) and O(log n) for each noted key; O(n log n) at first."""
        if not self.made:
            self._keys = SortedList(places)
            self.made = True
        else:
            for key in self.changed:
                if key not in places:
                    self._keys.discard(key)
                elif key not in self._keys:
                    self._keys.add(key)
        self.changed.clear()
        return self._keys.irange(start, stop, inclusive, reverse)

    def check(self, places: Collection[bytes]) -> bool:
        """True if the order, once up to date, is that of `places`."""
        return list(self.range(places, b"", None, (True, True), False)) == sorted(places)


class Undo(dict[bytes, "Place | None"]):
    """What a snapshot remembers: key → the place it had when the snapshot was opened, None if it was absent."""

    __slots__ = ("__weakref__", "order")

    def __init__(self) -> None:
        super().__init__()
        self.order = KeyOrder()

    def note(self, key: bytes, place: Place | None) -> None:
        """Where the key was until now. The first note of a key stands."""
        if key not in self:
            self[key] = place
            if self.order.made:
                self.order.note(key)

    def forget(self, key: bytes) -> None:
        """Drops the note of a key that is absent now, if it was absent when the snapshot was opened.

        Else a queue that runs through the store would leave a note of each of its keys.
        """
        if self.get(key, NO_NOTE) is None:
            del self[key]
            if self.order.made:
                self.order.note(key)


class Keydir:
    """Key → place, and the keys' order. Written by one thread at a time, under the core's mutex."""

    __slots__ = ("order", "places")

    def __init__(self) -> None:
        self.places: dict[bytes, Any] = {}  # Any and not Place: mypy can't see that None stays within `apply`
        self.order = KeyOrder()

    def apply(self, changes: Changes, undo_maps: Collection[Undo]) -> None:
        """Gives all keys of `changes` their new places at one instant; a key whose new place is None goes.

        First every undo map notes where each of the keys has been until now, None if it was absent (`Undo.note`), and
        `_note_order` is told. Then the places change. Readers look at `places` without a lock, at any time, and must see
        all of a batch or nothing of it: `dict.update` is one step of the interpreter, because the keys are bytes, and to
        a reader None is as good as absent. So that comes first, and then the keys whose place is None are taken out; with
        each of them, every undo map forgets what needs no note any more (`Undo.forget`).

        Requires: the core's mutex. O(keys * open snapshots).
        """
        places = self.places
        for undo in undo_maps:
            for key in changes:
                undo.note(key, places.get(key))
        self._note_order(changes)
        places.update(changes)
        for key, place in changes.items():
            if place is None:
                del places[key]
                for undo in undo_maps:
                    undo.forget(key)

    def _note_order(self, changes: Changes) -> None:
        """If the keys' order has been made: tells it which keys are about to come or to go."""
        if self.order.made:
            for key, place in changes.items():
                if place is None or key not in self.places:
                    self.order.note(key)

    def lookup(self, undo: Undo, key: bytes) -> Place | None:
        """The key's place in a snapshot. Takes no lock."""
        while True:
            place: Place | None = self.places.get(key)
            noted = undo.get(key, NO_NOTE)
            if noted != NO_NOTE:
                return noted
            # The writer may have noted the key between the two looks: then the note is found. It may also have dropped
            # the note, because the key is absent again: then `place` is a later one, and is not there any more.
            if self.places.get(key) == place:
                return place

    def keys(
        self, undo: Undo, start: bytes, stop: bytes | None, inclusive: tuple[bool, bool], reverse: bool
    ) -> tuple[Iterator[bytes], Iterator[bytes]]:
        """Between the bounds: the live keys, and the keys of which the undo map has notes. Each in order."""
        live = self.order.range(self.places, start, stop, inclusive, reverse)
        return live, undo.order.range(undo, start, stop, inclusive, reverse) if undo else iter(())

    def load(self, segment: Segment, entries: Iterable[Entry], segments: Mapping[int, Segment]) -> None:
        """Brings the keys of a segment in, over those of the older segments, which have been brought in before.

        `entries` are (timestamp, size, offset, key), each the last record of its key in the segment; an offset with
        TOMBSTONE_BIT set is that of a tombstone. A value gives its key the place pack(segment.id, offset, size), a
        tombstone takes the key away, and so the later segment wins. What timestamps say means nothing.

        Live bytes are the sizes of the records that have a place here: the segment's `live_bytes` grow by those of its
        values, and a place that a key loses takes its size from its own segment's, `segments[its file id]`. The
        segment's `tombstone_bytes` grow by the sizes of its tombstones. O(entries).
        """
        places, base = self.places, pack(segment.id, 0, 0)
        setdefault, pop = places.setdefault, places.pop
        live = tombstones = 0
        for _, size, offset, key in entries:
            if offset & TOMBSTONE_BIT:
                old = pop(key, None)
                tombstones += size
            else:
                place = base | offset << SIZE_BITS | size  # `pack`, without a call for each key
                live += size
                old = setdefault(key, place)
                if old is place:  # a new key, as most are: one lookup
                    continue
                places[key] = place
            if old is not None:
                home, _, old_size = unpack(old)
                segments[home].live_bytes -= old_size
        segment.live_bytes += live  # negative before, if a hint lists a key twice
        segment.tombstone_bytes += tombstones
